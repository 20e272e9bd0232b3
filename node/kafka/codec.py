"""Requests and responses as a whole: headers, and which codec reads or writes which API and version."""

import importlib
import struct
from collections.abc import Callable, Mapping
from functools import cache
from struct import Struct
from typing import Final, NamedTuple

from node.kafka.messages import APIS, Api
from node.kafka.wire import Buffer, MalformedRequest, Message, skip_tags

API_VERSIONS: Final = 18
SASL_AUTHENTICATE: Final = 36
_HEAD: Final = Struct(">hhih")

Read = Callable[[Buffer, int], tuple[Message, int]]
Write = Callable[[Message, Callable[[Buffer], None]], None]


class Encoded(Message):
    """A response whose body is bytes already."""

    __slots__ = ("body",)

    def __init__(self, body: list[bytes]) -> None:
        self.body = body


class RequestHead(NamedTuple):
    """What every request begins with. `body` is where the version's own fields start."""

    key: int
    version: int
    correlation_id: int
    client_id: str | None
    body: int


class Codec(NamedTuple):
    api: Api
    read: Mapping[int, Read]
    write: Mapping[int, Write]


@cache
def codec(key: int) -> Codec:
    """The codec of an API, imported when it is first asked for. `key` is one of `APIS`."""
    api = APIS[key]
    module = importlib.import_module(api.module)
    return Codec(api, module.READ, module.WRITE)


def flexible(key: int, version: int) -> bool:
    """Whether this version has tagged fields; of an API that is not known here, whether it probably has."""
    return version >= APIS[key].flexible if key in APIS else True


def read_head(frame: Buffer) -> RequestHead:
    """The head of a frame (without its size). The body of what is not served is not looked at."""
    try:
        key, version, correlation_id, length = _HEAD.unpack_from(frame)
        end = _HEAD.size + max(length, 0)
        if length < -1 or end > len(frame):
            raise MalformedRequest(f"a client id of {length} bytes")
        client_id = None if length == -1 else str(frame[_HEAD.size : end], "utf-8", "replace")
        api = APIS.get(key)
        if api is not None and api.flexible <= version <= api.high:
            end = skip_tags(frame, end) if frame[end] else end + 1
    except (struct.error, IndexError) as error:
        raise MalformedRequest("the request ends in its head") from error
    return RequestHead(key, version, correlation_id, client_id, end)


def read_body(frame: Buffer, head: RequestHead) -> Message:
    """The request itself. Bytes that follow it are let be, as Kafka does."""
    try:
        return codec(head.key).read[head.version](frame, head.body)[0]
    except MalformedRequest as error:
        raise MalformedRequest(f"{APIS[head.key].name} v{head.version}: {error}") from None
    except (struct.error, IndexError):
        raise MalformedRequest(f"{APIS[head.key].name} v{head.version} ends too early") from None
    except UnicodeDecodeError:
        raise MalformedRequest(f"{APIS[head.key].name} v{head.version}: a string is not UTF-8") from None


def response_head(key: int, version: int, correlation_id: int) -> bytes:
    """What stands between the size and the body. ApiVersions has no tags there whatever its version, since who asks
    with a version that is too new must be able to read the answer."""
    tags = b"\0" if key != API_VERSIONS and flexible(key, version) else b""
    return correlation_id.to_bytes(4, "big", signed=True) + tags


def write_parts(key: int, version: int, response: Message) -> list[Buffer]:
    """The body in parts, so that records need not be copied."""
    if isinstance(response, Encoded):
        return [*response.body]
    parts: list[Buffer] = []
    codec(key).write[version](response, parts.append)
    return parts


def write_body(key: int, version: int, response: Message) -> bytes:
    return b"".join(write_parts(key, version, response))

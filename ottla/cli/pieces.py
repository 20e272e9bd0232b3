"""How input becomes records: where one ends, and what of it is key, value and headers."""

import base64
import binascii
import json
import select
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import IO, Any, Final, NamedTuple

from ottla.cli.failure import Failure

Headers = tuple[tuple[str, bytes | None], ...]
_READ_BYTES: Final = 256 * 1024
# No node takes a message of this size; without a bound a file without newlines would fill the memory.
LINE_BYTES_MAX: Final = 32 * 1024 * 1024


class Outgoing(NamedTuple):
    """A record to send."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What the options say of every record."""

    key: bytes | None = None
    key_separator: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    empty_is_null: bool = False
    is_json: bool = False

    def record(self, piece: bytes, number: int) -> Outgoing:
        """The record in a piece of input. Raises Failure with the piece's number, from 1."""
        if self.is_json:
            return self._from_json(piece, number)
        key, value = self.key, piece
        if self.key_separator is not None:
            key, value = split(piece, self.key_separator, number)
        return Outgoing(key, None if self.empty_is_null and not value else value, self.headers, self.partition)

    def _from_json(self, piece: bytes, number: int) -> Outgoing:
        try:
            fields = json.loads(piece)
            if not isinstance(fields, dict):
                raise ValueError("it is no object")
            unknown = fields.keys() - _JSON_FIELDS
            if unknown:
                raise ValueError(f"{sorted(unknown)[0]!r} is none of its fields")
            key = self.key if (own := _json_bytes(fields, "key")) is None else own
            value = _json_bytes(fields, "value")
            headers = self.headers + _json_headers(fields.get("headers") or ())
            partition = _json_whole(fields, "partition") if self.partition is None else self.partition
            timestamp = _json_whole(fields, "timestamp_ms")
        except (ValueError, RecursionError) as error:
            raise Failure(
                "INVALID_RECORD",
                f"line {number}: {error}: {_start(piece)}",
                'write it like {"key": "k", "value": "v", "headers": {"h": "1"}}; the lines before it were sent',
            ) from None
        return Outgoing(key, None if self.empty_is_null and value == b"" else value, headers, partition, timestamp)


# Those that `ottla consume --json` writes; the topic and the offset are the new record's own.
_JSON_FIELDS: Final = frozenset(
    ("topic", "partition", "offset", "timestamp_ms", "key", "key_base64", "value", "value_base64", "headers")
)


def _json_bytes(fields: dict[str, Any], name: str) -> bytes | None:
    """Text as UTF-8; other JSON as compact text."""
    encoded = fields.get(f"{name}_base64")
    if encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, TypeError):
            raise ValueError(f"{name}_base64 is no base64") from None
    value = fields.get(name)
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def _json_headers(headers: Any) -> Headers:
    if isinstance(headers, dict):
        headers = [{"key": name, "value": value} for name, value in headers.items()]
    if not isinstance(headers, list | tuple) or not all(
        isinstance(each, dict) and isinstance(each.get("key"), str) for each in headers
    ):
        raise ValueError("headers are neither an object nor a list of key and value")
    return tuple((each["key"], _json_bytes(each, "value")) for each in headers)


def _json_whole(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise ValueError(f"{name} {value!r} is no whole number")
    return value


def _start(piece: bytes) -> str:
    return repr(piece[:60].decode(errors="replace"))


def split(line: bytes, separator: bytes, number: int) -> tuple[bytes, bytes]:
    """Key and value of a line. Raises Failure with the line's number, from 1, where the separator is missing."""
    key, found, value = line.partition(separator)
    if not found:
        raise Failure(
            "INVALID_RECORD",
            f"line {number} has no {separator.decode(errors='backslashreplace')!r} between key and value: "
            f"{_start(line)}",
            "correct the line, or leave --key-separator out; the lines before it were sent",
        )
    return key, value


async def pieces_of(source: IO[bytes], delimiter: bytes = b"\n") -> AsyncIterator[tuple[list[bytes], int]]:
    """Whole pieces as they come, without their delimiters, and how many bytes were read for them."""
    rest = bytearray()
    while chunk := await _read(source):
        searched = max(0, len(rest) - len(delimiter) + 1)
        rest += chunk
        pieces: list[bytes] = []
        if rest.find(delimiter, searched) >= 0:
            *pieces, last = bytes(rest).split(delimiter)
            rest = bytearray(last)
        _check_size(rest)
        yield pieces, len(chunk)
    if rest:
        yield [bytes(rest)], 0


async def whole_of(source: IO[bytes]) -> AsyncIterator[tuple[list[bytes], int]]:
    """All of it as one piece."""
    piece = bytearray()
    while chunk := await _read(source):
        piece += chunk
        _check_size(piece)
    yield [bytes(piece)], len(piece)


def _check_size(piece: bytearray) -> None:
    if len(piece) > LINE_BYTES_MAX:
        raise Failure(
            "MESSAGE_TOO_LARGE",
            f"a record has more than {LINE_BYTES_MAX} bytes",
            "check that this is text with a record a line; the lines before it were sent",
        )


async def _read(source: IO[bytes]) -> bytes:
    """What is there, at least a byte; empty at the end. In a daemon thread: Ctrl-C must not wait for a next line.
    `source` has no buffer: Python aborts where its end finds a thread that holds the lock of one."""
    import asyncio
    import threading

    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    def settle(data: bytes, error: BaseException | None) -> None:
        if answer.cancelled():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(data)

    def read() -> None:
        data, error = b"", None
        try:
            # None: somebody has made the descriptor a non-blocking one, and nothing is there.
            while (data := source.read(_READ_BYTES)) is None:
                select.select([source], [], [])
        except OSError as failed:
            error = failed
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, data, error)

    threading.Thread(target=read, daemon=True).start()
    return await answer

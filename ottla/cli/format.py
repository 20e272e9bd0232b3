"""How records look on standard output: a template, or a JSON object a line. Bytes pass unchanged, unless it is a
terminal: records must not be able to steer it."""

import base64
import json
import string
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from ottla.cli.failure import Failure
from ottla.cli.output import printable

NULL: Final = b"null"


class Shown(Protocol):
    """What a record must have to be shown; the client's records do."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


def _or_null(data: bytes | None) -> bytes:
    return NULL if data is None else data


def _time(record: Shown) -> bytes:
    """ISO 8601 in UTC with milliseconds; a time that no calendar has stays a number."""
    try:
        moment = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return b"%d" % record.timestamp
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def escaped(data: bytes) -> bytes:
    """As a terminal may show it: lines and tabs stay, other control characters and what is not UTF-8 are escaped."""
    return printable(data.decode(errors="backslashreplace"), besides="\n\t").encode()


def _headers(record: Shown) -> bytes:
    return b",".join(name.encode() + b"=" + _or_null(value) for name, value in record.headers)


_FIELDS: Final[dict[str, Callable[[Shown], bytes]]] = {
    "topic": lambda record: record.topic.encode(),
    "partition": lambda record: b"%d" % record.partition,
    "offset": lambda record: b"%d" % record.offset,
    "time": _time,
    "timestamp_ms": lambda record: b"%d" % record.timestamp,
    "key": lambda record: _or_null(record.key),
    "value": lambda record: _or_null(record.value),
    "headers": _headers,
}


def line_maker(template: str, *, for_terminal: bool = False) -> Callable[[Shown], bytes]:
    """A function from a record to its line, newline included. `template` has {fields}, \\t and \\n. Raises Failure."""
    text = template.replace("\\t", "\t").replace("\\n", "\n")
    parts: list[Callable[[Shown], bytes]] = []
    try:
        for literal, name, spec, conversion in string.Formatter().parse(text):
            if literal:
                parts.append(_constant(literal.encode()))
            if name is not None:
                if name not in _FIELDS or spec or conversion:
                    raise ValueError(f"{{{name}}} is not a field")
                parts.append(_escaping(_FIELDS[name]) if for_terminal else _FIELDS[name])
    except ValueError as error:
        names = " ".join(f"{{{name}}}" for name in _FIELDS)
        raise Failure("INVALID_FORMAT", f"format {template!r}: {error}", f"use {names}, and {{{{ for a brace") from None
    return lambda record: b"".join([part(record) for part in parts]) + b"\n"


def _escaping(part: Callable[[Shown], bytes]) -> Callable[[Shown], bytes]:
    return lambda record: escaped(part(record))


def _constant(text: bytes) -> Callable[[Shown], bytes]:
    return lambda _: text


def json_line(record: Shown, *, for_terminal: bool = False) -> bytes:
    """One JSON object. What is not UTF-8 comes as base64, under the field's name with `_base64`."""
    shown: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        **_json_bytes("key", record.key),
        **_json_bytes("value", record.value),
        "headers": [{"key": name, **_json_bytes("value", value)} for name, value in record.headers],
    }
    return json.dumps(shown, ensure_ascii=for_terminal).encode() + b"\n"


def _json_bytes(name: str, data: bytes | None) -> dict[str, str | None]:
    if data is None:
        return {name: None}
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}

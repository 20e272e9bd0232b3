"""How records look on standard output: a template, or a JSON object a line. Bytes pass unchanged, unless it is a
terminal: records must not be able to steer it."""

import base64
import json
import re
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


def _time(record: Shown) -> bytes:
    """ISO 8601 in UTC with milliseconds."""
    return _moment(record, lambda moment: moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def _moment(record: Shown, show: Callable[[datetime], str]) -> bytes:
    """A record's time; one that no calendar has stays a number."""
    try:
        return show(datetime.fromtimestamp(record.timestamp / 1000, UTC)).encode()
    except (OverflowError, OSError, ValueError):
        return b"%d" % record.timestamp


def escaped(data: bytes) -> bytes:
    """As a terminal may show it: lines and tabs stay, other control characters and what is not UTF-8 are escaped."""
    return printable(data.decode(errors="backslashreplace"), besides="\n\t").encode()


def _headers(record: Shown) -> bytes:
    return b",".join(name.encode() + b"=" + (NULL if value is None else value) for name, value in record.headers)


Field = Callable[[Shown], bytes | None]

_FIELDS: Final[dict[str, Field]] = {
    "topic": lambda record: record.topic.encode(),
    "partition": lambda record: b"%d" % record.partition,
    "offset": lambda record: b"%d" % record.offset,
    "time": _time,
    "timestamp_ms": lambda record: b"%d" % record.timestamp,
    "key": lambda record: record.key,
    "value": lambda record: record.value,
    "headers": _headers,
}
_ENCODINGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "hex": lambda data: data.hex().encode(),
    "base64": base64.b64encode,
    "json": lambda data: json.dumps(data.decode(errors="backslashreplace"), ensure_ascii=False).encode(),
    "size": lambda data: b"%d" % len(data),
}
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([tnr0\\]))")
_ESCAPES: Final = {"t": b"\t", "n": b"\n", "r": b"\r", "0": b"\0", "\\": b"\\"}
_STEP: Final = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]|\.?\[\"([^\"]+)\"\]")


def unescaped(text: str) -> bytes:
    """UTF-8, with \\t, \\n, \\r, \\0, \\xNN and \\\\ as what they stand for."""
    done, pieces = 0, []
    for found in _ESCAPE.finditer(text):
        pieces += [text[done : found.start()].encode(), bytes.fromhex(found[1]) if found[1] else _ESCAPES[found[2]]]
        done = found.end()
    return b"".join([*pieces, text[done:].encode()])


def line_maker(template: str, *, delimiter: str = "\n", for_terminal: bool = False) -> Callable[[Shown], bytes]:
    """A function from a record to its line, with the delimiter behind. `template` has {fields} and escapes. Raises
    Failure."""
    parts: list[Callable[[Shown], bytes]] = []
    try:
        for literal, name, spec, conversion in string.Formatter().parse(template):
            if literal:
                parts.append(_constant(unescaped(literal)))
            if name is not None:
                if conversion:
                    raise ValueError(f"{{{name}!{conversion}}} is not a field")
                field = _field(name, spec or "")
                parts.append(_escaping(field) if for_terminal else _or_null(field))
    except ValueError as error:
        names = " ".join(f"{{{name}}}" for name in _FIELDS)
        raise Failure(
            "INVALID_FORMAT",
            f"format {template!r}: {error}",
            f"use {names} {{header:NAME}}, {{value:hex}} and the like, and {{{{ for a brace",
        ) from None
    end = unescaped(delimiter)
    return lambda record: b"".join([part(record) for part in parts]) + end


def _field(name: str, spec: str) -> Field:
    """What stands between braces. Raises ValueError."""
    if name == "header" and spec:
        return _header(spec)
    field = _FIELDS.get(name)
    if field is None:
        raise ValueError(f"{{{name}}} is not a field")
    if not spec:
        return field
    if name == "time":
        return lambda record: _moment(record, lambda moment: moment.strftime(spec))
    if name in ("key", "value"):
        if (encoding := _ENCODINGS.get(spec)) is not None:
            return lambda record: None if (data := field(record)) is None else encoding(data)
        if spec.startswith("."):
            path = _path(spec)
            return lambda record: _at(field(record), path)
    raise ValueError(f"{{{name}:{spec}}} is not a field")


def _header(spec: str) -> Field:
    """The last header of that name; the spec may end with an encoding."""
    name, colon, how = spec.rpartition(":")
    encoding = _ENCODINGS.get(how) if colon else None
    wanted = name if encoding is not None else spec

    def field(record: Shown) -> bytes | None:
        values = [value for header, value in record.headers if header == wanted]
        if not values or values[-1] is None:
            return None
        return values[-1] if encoding is None else encoding(values[-1])

    return field


def _path(spec: str) -> list[str | int]:
    """`.user.tags[0]["a.b"]` as keys and places. Raises ValueError."""
    steps: list[str | int] = []
    done = 0
    while done < len(spec) and spec != ".":
        found = _STEP.match(spec, done)
        if found is None:
            raise ValueError(f"{spec!r} is no path such as .user.tags[0]")
        steps.append(int(found[2]) if found[2] else found[1] or found[3])
        done = found.end()
    return steps


def _at(data: bytes | None, path: list[str | int]) -> bytes | None:
    """What a JSON value has at that place, texts without quotes; None where there is nothing, or no JSON."""
    try:
        place: Any = json.loads(data or b"")
        for step in path:
            place = None if isinstance(place, str) else place[step]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if place is None or isinstance(place, str):
        return None if place is None else place.encode(errors="surrogatepass")
    return json.dumps(place, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")


def _or_null(field: Field) -> Callable[[Shown], bytes]:
    return lambda record: NULL if (data := field(record)) is None else data


def _escaping(field: Field) -> Callable[[Shown], bytes]:
    return lambda record: NULL if (data := field(record)) is None else escaped(data)


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

"""Reads table.txt, which says what every message is made of."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

TABLE: Final = Path(__file__).with_name("table.txt")
FIXED: Final = {
    "int8": "b", "int16": "h", "uint16": "H", "int32": "i", "int64": "q", "float64": "d", "bool": "?", "uuid": "16s",
}  # fmt: skip
FOREVER: Final = 1 << 15


@dataclass(frozen=True)
class Versions:
    """From `low` to `high`, both inclusive."""

    low: int
    high: int

    def __contains__(self, version: int) -> bool:
        return self.low <= version <= self.high

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.low, self.high + 1))


@dataclass(frozen=True)
class Field:
    name: str
    type: str  # of the elements, where it is an array
    array: bool
    versions: Versions
    null: Versions | None
    tag: int | None
    default: str | None
    struct: "Struct | None" = None

    @property
    def fixed(self) -> str | None:
        """Its struct character, where its length is fixed."""
        return None if self.array else FIXED.get(self.type)

    def nullable(self, version: int) -> bool:
        return self.null is not None and version in self.null


@dataclass(frozen=True)
class Struct:
    name: str
    fields: tuple[Field, ...]

    def untagged(self, version: int) -> list[Field]:
        return [field for field in self.fields if version in field.versions and field.tag is None]

    def tagged(self, version: int) -> list[Field]:
        found = [field for field in self.fields if version in field.versions and field.tag is not None]
        return sorted(found, key=lambda field: field.tag or 0)


@dataclass(frozen=True)
class Api:
    key: int
    name: str
    versions: Versions
    flexible: int
    by_hand: bool
    request: Struct
    response: Struct


def versions_of(text: str) -> Versions:
    low, _, high = text.rstrip("+").partition("-")
    return Versions(int(low), FOREVER if text.endswith("+") else int(high or low))


def parse(text: str) -> list[Api]:
    """All APIs, in the order of their keys."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    starts = [number for number, line in enumerate(lines) if line.startswith("api ")]
    return [_api(lines[start:end]) for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]


def load() -> list[Api]:
    return parse(TABLE.read_text())


def _api(lines: list[str]) -> Api:
    _, key, name, served, *rest = lines[0].split()
    versions = versions_of(served)
    flexible = versions_of(rest[1]).low if rest[:1] == ["flexible"] else FOREVER
    middle = lines.index("response")
    bodies = {"request": lines[2:middle], "response": lines[middle + 1 :]}
    structs = {kind: Struct(f"{name}{kind.title()}", _fields(body, 2, versions, {})) for kind, body in bodies.items()}
    return Api(int(key), name, versions, flexible, rest[-2:] == ["by", "hand"], **structs)


def _fields(lines: list[str], indent: int, within: Versions, known: dict[str, Struct]) -> tuple[Field, ...]:
    found = []
    for number, line in enumerate(lines):
        if len(line) - len(line.lstrip()) != indent:
            continue
        field = _field(line.split(), within)
        inner = []
        for below in lines[number + 1 :]:
            if len(below) - len(below.lstrip()) <= indent:
                break
            inner.append(below)
        if inner:
            known[field.type] = Struct(field.type, _fields(inner, indent + 2, field.versions, known))
        found.append(replace(field, struct=known.get(field.type)))
    return tuple(found)


def _field(words: list[str], within: Versions) -> Field:
    name, type_, *rest = words
    default = None
    if "=" in rest:
        default = rest[rest.index("=") + 1]
        rest = rest[: rest.index("=")]
    tag = None
    if "tag" in rest:
        tag = int(rest[rest.index("tag") + 1])
        rest = rest[: rest.index("tag")]
    null = None
    if "null" in rest:
        at = rest.index("null")
        null = versions_of(rest[at + 1]) if rest[at + 1 :] else within
        rest = rest[:at]
    own = versions_of(rest[0]) if rest else within
    own = Versions(max(own.low, within.low), min(own.high, within.high))
    return Field(name, type_.removeprefix("[]"), type_.startswith("[]"), own, null, tag, default)

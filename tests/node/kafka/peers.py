"""Other implementations of Kafka's messages: values in their types and back, and the specs that one of them ships."""

import dataclasses
import datetime
import importlib.util
import io
import json
import re
import types
import typing
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer

from node.kafka.schema.emit import default, module_name
from node.kafka.schema.table import FOREVER, Api, Field, Struct, Versions, versions_of
from node.kafka.wire import NO_ID, Message

ERROR_CODES = sorted(code.value for code in ErrorCode)
INTEGERS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
Tree = dict[str, Any]


def kio_class(api: Api, version: int, kind: str) -> type:
    module = importlib.import_module(f"kio.schema.{module_name(api.name)}.v{version}.{kind}")
    found: type = getattr(module, f"{api.name}{kind.title()}")
    return found


def kio_field(cls: type, ours: Field) -> "dataclasses.Field[Any]":
    """kio says `throttle_time` where the spec says ThrottleTimeMs, as its type has a unit."""
    by_name = {field.name: field for field in dataclasses.fields(cls)}
    return by_name.get(ours.name) or by_name[ours.name.removesuffix("_ms")]


def plain_type(annotation: Any) -> tuple[Any, bool, bool]:
    """(type of the elements, whether it is an array, whether None is allowed)"""
    optional = isinstance(annotation, types.UnionType) and type(None) in typing.get_args(annotation)
    if optional:
        [annotation] = [each for each in typing.get_args(annotation) if each is not type(None)]
    if typing.get_origin(annotation) is tuple:
        inner, inner_array, _ = plain_type(typing.get_args(annotation)[0])
        assert not inner_array
        return inner, True, optional
    return annotation, False, optional


def to_kio(cls: type, struct: Struct, version: int, tree: Tree) -> Any:
    """A tree of plain values as an object of kio's."""
    values = {}
    for ours in [*struct.untagged(version), *struct.tagged(version)]:
        field = kio_field(cls, ours)
        inner, array, _ = plain_type(field.type)
        kind = field.metadata.get("kafka_type", "")

        def one(value: Any, ours: Field = ours, inner: Any = inner, kind: str = kind) -> Any:
            if value is None:
                return None
            if ours.struct is not None:
                return to_kio(inner, ours.struct, version, value)
            if kind.startswith("timedelta"):
                return datetime.timedelta(milliseconds=value)
            if kind.startswith("datetime"):
                return EPOCH + datetime.timedelta(milliseconds=value)
            if kind == "uuid":
                return uuid.UUID(bytes=value)
            return ErrorCode(value) if kind == "error_code" else value

        value = tree[ours.name]
        values[field.name] = tuple(map(one, value)) if array and value is not None else one(value)
    return cls(**values)


def from_kio(value: Any) -> Any:
    """The plain value of anything of kio's; names stay kio's."""
    if dataclasses.is_dataclass(value):
        return {field.name: from_kio(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [from_kio(each) for each in value]
    if isinstance(value, datetime.timedelta):
        return round(value / datetime.timedelta(milliseconds=1))
    if isinstance(value, datetime.datetime):
        return round((value - EPOCH) / datetime.timedelta(milliseconds=1))
    if isinstance(value, uuid.UUID):
        return value.bytes
    return value.value if isinstance(value, ErrorCode) else value


def kio_bytes(entity: Any) -> bytes:
    buffer = io.BytesIO()
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()


def kio_parse(cls: type, data: bytes) -> Any:
    found, size = entity_reader(cls)(data, 0)
    assert size == len(data)
    return found


def to_message(message: type[Message], struct: Struct, version: int, tree: Tree, module: Any) -> Message:
    """A tree as an object of ours."""
    values = {}
    for field in [*struct.untagged(version), *struct.tagged(version)]:
        value = tree[field.name]
        if field.struct is not None and value is not None:
            cls, of = getattr(module, field.struct.name), field.struct
            each = [to_message(cls, of, version, one, module) for one in (value if field.array else [value])]
            value = each if field.array else each[0]
        values[field.name] = value
    return message(**values)


def from_message(value: Any, struct: Struct, version: int) -> Tree:
    """An object of ours as a tree of what this version has; the fields that it has not must be at their defaults."""
    tree: Tree = {}
    for field in struct.fields:
        found = getattr(value, field.name)
        if version not in field.versions:
            assert default(field) is None or repr(found) == _shown(default(field)), field.name
        elif field.struct is not None and found is not None:
            each = [from_message(one, field.struct, version) for one in (found if field.array else [found])]
            tree[field.name] = each if field.array else each[0]
        else:
            tree[field.name] = list(found) if field.array and found is not None else found
    return tree


def _shown(default: str | None) -> str:
    return repr(NO_ID) if default == "NO_ID" else str(default).replace('"', "'")


def trees(struct: Struct, version: int, cls: type | None) -> st.SearchStrategy[Tree]:
    """Values of every field that this version has, within what kio's types can hold."""
    fields = {}
    for field in [*struct.untagged(version), *struct.tagged(version)]:
        theirs = kio_field(cls, field) if cls else None
        kind = theirs.metadata.get("kafka_type", "") if theirs else ""
        inner = plain_type(theirs.type)[0] if theirs else None
        one = _values(field, version, kind, inner)
        many = st.lists(one, max_size=3) if field.array else one
        fields[field.name] = st.none() | many if field.nullable(version) else many
    return st.fixed_dictionaries(fields)


def _values(field: Field, version: int, kind: str, inner: Any) -> st.SearchStrategy[Any]:
    if field.struct is not None:
        return trees(field.struct, version, inner)
    if kind == "error_code" or (field.name == "error_code" and not kind):
        return st.sampled_from(ERROR_CODES)
    if kind.startswith("datetime"):
        return st.integers(0, 1 << 42)
    if field.type == "int64" and kind.startswith("timedelta"):
        return st.integers(0, 1 << 42)
    simple: Mapping[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "uint16": st.integers(0, 65535),
        "string": st.text(st.characters(codec="utf-8"), max_size=5) | st.just("x" * 200),
        "bytes": st.binary(max_size=5) | st.just(bytes(300)),
        "records": st.binary(max_size=5) | st.just(bytes(300)),
        "uuid": st.binary(min_size=16, max_size=16),
        "float64": st.floats(allow_nan=False),
    }
    if field.type in simple:
        return simple[field.type]
    bits = INTEGERS[field.type]
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)


def specs() -> dict[tuple[int, str], Any]:
    """The message specs that kafka-python ships, by API key and kind."""
    found = {}
    package = importlib.util.find_spec("kafka")
    assert package is not None
    assert package.origin is not None
    for path in (Path(package.origin).parent / "protocol" / "schemas" / "resources").glob("*Re[qs]*.json"):
        text = re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.MULTILINE)
        spec = json.loads(re.sub(r'(?<!:)//[^"\n]*$', "", text, flags=re.MULTILINE))
        if spec["type"] in ("request", "response"):
            found[spec.get("apiKey"), spec["type"]] = spec
    return found


def spec_versions(text: str | None) -> Versions:
    return versions_of(text) if text not in (None, "none") else Versions(FOREVER, -1)


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()

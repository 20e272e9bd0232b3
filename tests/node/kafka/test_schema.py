"""The table of messages says what kafka-python's specs and kio's schemas say."""

import dataclasses
from typing import Any

import pytest
from kio.schema.index import schema_name_map

from node.kafka.schema.emit import module_name
from node.kafka.schema.table import Api, Field, Struct, load, parse
from tests.node.kafka.peers import kio_class, kio_field, plain_type, snake, spec_versions, specs

APIS = load()
SPECS = specs()
NOT_SHIPPED = {64, 68, 69}  # of kafka-python; kio has them
IDS = [api.name for api in APIS]
KIO_TYPES = {"timedelta_i32": "int32", "timedelta_i64": "int64", "datetime_i64": "int64", "error_code": "int16"}


def at(struct: Struct, version: int) -> list[tuple[Any, ...]]:
    """A struct as this version has it: (name, type, array, nullable, tag, default, inner fields)."""
    fields = [*struct.untagged(version), *struct.tagged(version)]
    return [(*row(field, version), field.tag, value(field.default), *inner(field, version)) for field in fields]


def row(field: Field, version: int) -> tuple[Any, ...]:
    return field.name, field.type, field.array, field.nullable(version)


def inner(field: Field, version: int) -> tuple[Any, ...]:
    return (at(field.struct, version),) if field.struct else ()


def value(default: Any) -> Any:
    """A default in one form; what stands for zero or empty is None."""
    if default in (None, "", "0", "false", 0, False):
        return None
    text = str(default).lower()
    return str(int(text, 0)) if text.startswith("0x") else text


def spec_at(spec: Any, fields: Any, version: int, names: dict[str, str]) -> list[tuple[Any, ...]]:
    common = {each["name"]: each["fields"] for each in spec.get("commonStructs", [])}
    plain, tagged = [], []
    for field in fields:
        if version not in spec_versions(field["versions"]):
            continue
        kind = field["type"].removeprefix("[]")
        inner = field.get("fields") or common.get(kind)
        nullable = version in spec_versions(field.get("nullableVersions"))
        tag = field.get("tag") if version in spec_versions(field.get("taggedVersions")) else None
        found = (
            snake(field["name"]), names.get(kind, kind), field["type"].startswith("[]"), nullable, tag,
            value(field.get("default")),
        )  # fmt: skip
        if inner:
            found += (spec_at(spec, inner, version, names),)  # type: ignore[assignment]
        (plain if tag is None else tagged).append(found)
    return plain + sorted(tagged, key=lambda each: each[4])


# Names of our own: these messages call two different structs by one name.
RENAMED = {
    (49, "request"): {"EntryData": "ChangesData"},
    (55, "request"): {"TopicData": "DescribedTopic", "PartitionData": "DescribedPartition"},
}


@pytest.mark.parametrize("api", [api for api in APIS if api.key not in NOT_SHIPPED], ids=lambda api: api.name)
def test_the_table_is_what_kafka_python_ships(api: Api) -> None:
    for kind, struct in (("request", api.request), ("response", api.response)):
        spec = SPECS[api.key, kind]
        assert spec["name"] == struct.name
        valid = spec_versions(spec["validVersions"])
        assert api.versions.high <= valid.high
        for version in api.versions:
            if version in valid:
                names = RENAMED.get((api.key, kind), {})
                assert at(struct, version) == spec_at(spec, spec["fields"], version, names), (kind, version)
                assert (version >= api.flexible) == (version in spec_versions(spec["flexibleVersions"]))


def kio_at(cls: type, struct: Struct, version: int) -> list[tuple[Any, ...]]:
    found = []
    for ours in [*struct.untagged(version), *struct.tagged(version)]:
        field = kio_field(cls, ours)
        inner, array, optional = plain_type(field.type)
        kind = field.metadata.get("kafka_type", "")
        kind = KIO_TYPES.get(kind, kind) or ours.type
        # kio reads ids of zero, and times of -1, as None.
        optional = (
            ours.nullable(version) if kind == "uuid" or field.metadata.get("kafka_type") == "datetime_i64" else optional
        )
        below = (kio_at(inner, ours.struct, version),) if ours.struct else ()
        found.append((ours.name, kind, array, optional, field.metadata.get("tag"), *below))
    assert len(found) == len(dataclasses.fields(cls))
    return found


def without_defaults(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(*row[:5], *([without_defaults(row[6])] if len(row) > 6 else [])) for row in rows]


@pytest.mark.parametrize("api", APIS, ids=IDS)
def test_the_table_is_what_kio_has(api: Api) -> None:
    theirs = sorted(schema_name_map[module_name(api.name)])
    assert api.versions.high <= theirs[-1]
    for version in [version for version in theirs if version in api.versions]:
        for kind, struct in (("request", api.request), ("response", api.response)):
            cls = kio_class(api, version, kind)
            assert without_defaults(at(struct, version)) == kio_at(cls, struct, version), (kind, version)
            assert cls.__flexible__ == (version >= api.flexible)  # type: ignore[attr-defined]


def test_what_a_line_says() -> None:
    request = "request\n  topics []Name null 1+\n    name string null 10+\n"
    [api] = parse(f"api 3 Metadata 0-13 flexible 9+\n{request}response\n  port int32 3-8 = -1\n")
    [topics] = api.request.fields
    assert (topics.array, topics.nullable(0), topics.nullable(1), topics.struct and topics.struct.name) == (
        True, False, True, "Name",
    )  # fmt: skip
    [port] = api.response.fields
    assert (port.versions.low, port.versions.high, port.default) == (3, 8, "-1")

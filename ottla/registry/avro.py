"""Avro, by fastavro."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ottla.client import arguments
from ottla.client.errors import ConfigError
from ottla.registry.client import Reference, Schema, SchemaRegistry
from ottla.registry.serde import (
    SchemaDeserializer,
    SchemaSerializer,
    SubjectNameStrategy,
    as_plain,
    topic_subject_name_strategy,
)


class AvroSerializer(SchemaSerializer):
    """Writes dicts, pydantic models, dataclasses and plain values as Avro.

    `schema` is the schema as JSON text or as what that says. It is registered under the subject that
    `subject_name_strategy` names, unless `auto_register_schemas` is False: then it must be there already. With
    `use_latest_version` the subject's newest schema, as of the first record, is written with instead, and nothing is
    registered. `references` are the named types that the schema takes from other subjects. Raises ConfigError.
    """

    def __init__(
        self,
        registry: SchemaRegistry,
        schema: str | Mapping[str, Any] | Sequence[Any],
        *,
        references: Sequence[Reference] = (),
        subject_name_strategy: SubjectNameStrategy = topic_subject_name_strategy,
        auto_register_schemas: bool = True,
        use_latest_version: bool = False,
    ) -> None:
        _fastavro()
        said, text = as_schema(schema)
        super().__init__(
            registry,
            Schema(text, "AVRO", tuple(references)),
            _full_name(said),
            subject_name_strategy,
            auto_register_schemas,
            use_latest_version,
        )
        if not references:
            _parsed(registry, self._schema)  # what is wrong with it is said now

    def _encoder(self, schema: Schema) -> Callable[[Any], bytes]:
        write, parsed = _fastavro().schemaless_writer, _parsed(self._registry, schema)

        def encode(value: Any) -> bytes:
            out = io.BytesIO()
            write(out, parsed, as_plain(value))
            return out.getvalue()

        return encode


class AvroDeserializer(SchemaDeserializer):
    """Reads Avro with the schema that it was written with: records as dicts, logical types as Python's.

    With `reader_schema` values come as that one says (Avro's schema resolution: its defaults, its fields). `from_dict`
    makes something of what was read, such as `Order.model_validate`. Raises ConfigError.
    """

    def __init__(
        self,
        registry: SchemaRegistry,
        *,
        reader_schema: str | Mapping[str, Any] | Sequence[Any] | None = None,
        from_dict: Callable[[Any], Any] | None = None,
    ) -> None:
        _fastavro()
        super().__init__(registry, "AVRO", from_dict)
        self._reader_schema = None
        if reader_schema is not None:
            self._reader_schema = _parsed(registry, Schema(as_schema(reader_schema)[1], "AVRO"))

    def _decoder(self, schema: Schema) -> Callable[[bytes], Any]:
        read, parsed = _fastavro().schemaless_reader, _parsed(self._registry, schema)

        def decode(data: bytes) -> Any:
            source = io.BytesIO(data)
            value = read(source, parsed, self._reader_schema)
            if source.tell() != len(data):
                raise ValueError(
                    f"{len(data) - source.tell()} bytes are left behind the value: it is not of its schema"
                )
            return value

        return decode


def as_schema(schema: object) -> tuple[Any, str]:
    """What a schema says, and its text. Raises ConfigError."""
    if isinstance(schema, str):
        try:
            return json.loads(schema), schema
        except ValueError as error:
            raise ConfigError(
                f"schema {arguments.shown(schema)} is no JSON: {error}. Next: quote a name, too"
            ) from None
    try:
        return schema, json.dumps(schema)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"schema {arguments.shown(schema)} is neither JSON nor its text: {error}") from None


def _full_name(said: Any) -> str | None:
    if not isinstance(said, Mapping) or not isinstance(name := said.get("name"), str):
        return None
    space = said.get("namespace")
    return name if "." in name or not space else f"{space}.{name}"


def _parsed(registry: SchemaRegistry, schema: Schema) -> Any:
    """For fastavro, with the types of its references. Raises ConfigError, SchemaRegistryError."""
    return _parse(registry, schema, {}, set())


def _parse(registry: SchemaRegistry, schema: Schema, types: dict[str, Any], seen: set[Reference]) -> Any:
    for reference in schema.references:
        if reference not in seen:
            seen.add(reference)
            _parse(registry, registry.version(reference.subject, reference.version).schema, types, seen)
    fastavro = _fastavro()
    try:
        return fastavro.parse_schema(as_schema(schema.text)[0], named_schemas=types)
    except (fastavro.schema.SchemaParseException, fastavro.schema.UnknownType, TypeError, KeyError) as error:
        raise ConfigError(f"schema {arguments.shown(schema.text)} is no Avro schema: {error!r}") from None


def _fastavro() -> Any:
    try:
        import fastavro
    except ImportError:
        raise ConfigError(
            "fastavro, which reads and writes Avro, is not installed. Next: `pip install 'ottla[avro]'`"
        ) from None
    return fastavro

"""JSON that a JSON Schema describes, checked by jsonschema."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ottla.client import arguments
from ottla.client.errors import ConfigError
from ottla.registry.avro import as_schema
from ottla.registry.client import Reference, Schema, SchemaRegistry
from ottla.registry.serde import (
    SchemaDeserializer,
    SchemaSerializer,
    SubjectNameStrategy,
    as_plain,
    topic_subject_name_strategy,
)
from ottla.serializers import to_json


class JsonSchemaSerializer(SchemaSerializer):
    """Checks values against a JSON Schema and writes them as JSON: whatever json.dumps takes, pydantic models,
    dataclasses.

    `schema` is the schema as JSON text or as what that says; a pydantic model's is `Order.model_json_schema()`. Its
    `title` is the record's name. The rest is as with `AvroSerializer`. Raises ConfigError.
    """

    def __init__(
        self,
        registry: SchemaRegistry,
        schema: str | Mapping[str, Any],
        *,
        references: Sequence[Reference] = (),
        subject_name_strategy: SubjectNameStrategy = topic_subject_name_strategy,
        auto_register_schemas: bool = True,
        use_latest_version: bool = False,
    ) -> None:
        said, text = as_schema(schema)
        title = said.get("title") if isinstance(said, Mapping) else None
        super().__init__(
            registry,
            Schema(text, "JSON", tuple(references)),
            title if isinstance(title, str) else None,
            subject_name_strategy,
            auto_register_schemas,
            use_latest_version,
        )
        if not references:
            _validator(registry, self._schema)  # what is wrong with it is said now

    def _encoder(self, schema: Schema) -> Callable[[Any], bytes]:
        validate = _validator(self._registry, schema)

        def encode(value: Any) -> bytes:
            text = to_json(value if hasattr(value, "model_dump_json") else as_plain(value))
            validate(json.loads(text))  # what readers will see
            return text

        return encode


class JsonSchemaDeserializer(SchemaDeserializer):
    """Reads JSON, and checks it against the schema that it was written with. `from_dict` makes something of it, such as
    `Order.model_validate`. Raises ConfigError."""

    def __init__(self, registry: SchemaRegistry, *, from_dict: Callable[[Any], Any] | None = None) -> None:
        _jsonschema()
        super().__init__(registry, "JSON", from_dict)

    def _decoder(self, schema: Schema) -> Callable[[bytes], Any]:
        validate = _validator(self._registry, schema)

        def decode(data: bytes) -> Any:
            value = json.loads(data)
            validate(value)
            return value

        return decode


def _validator(registry: SchemaRegistry, schema: Schema) -> Callable[[Any], None]:
    """Raises ValueError for a value that does not fit. Nothing but the registry is asked for what is referred to."""
    jsonschema = _jsonschema()
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7

    said = as_schema(schema.text)[0]
    kind = jsonschema.validators.validator_for(said, default=jsonschema.Draft7Validator)
    try:
        kind.check_schema(said)
    except jsonschema.SchemaError as error:
        raise ConfigError(f"schema {arguments.shown(schema.text)} is no JSON Schema: {error.message}") from None
    resources: Any = Registry()
    for name, text in _referred(registry, schema, {}).items():
        resources = resources.with_resource(
            name, Resource.from_contents(as_schema(text)[0], default_specification=DRAFT7)
        )
    checker = kind(said, registry=resources)

    def validate(value: Any) -> None:
        error = jsonschema.exceptions.best_match(checker.iter_errors(value))
        if error is not None:
            raise ValueError(f"{error.json_path} does not fit the schema: {error.message}")

    return validate


def _referred(registry: SchemaRegistry, schema: Schema, found: dict[str, str]) -> dict[str, str]:
    for reference in schema.references:
        if reference.name not in found:
            other = registry.version(reference.subject, reference.version).schema
            found[reference.name] = other.text
            _referred(registry, other, found)
    return found


def _jsonschema() -> Any:
    try:
        import jsonschema
    except ImportError:
        raise ConfigError(
            "jsonschema, which checks JSON, is not installed. Next: `pip install 'ottla[jsonschema]'`"
        ) from None
    return jsonschema

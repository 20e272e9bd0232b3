"""What the three kinds of schemas have in common: subjects, the bytes before a value, and when to ask the registry.

Confluent's wire format: a zero byte, the schema's id in four bytes, big-endian, then the value as its kind has it.
"""

import struct
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any, Final, Literal, NamedTuple

from ottla.client import arguments
from ottla.client.deserialize import LoadingDeserializer, TopicSerializer
from ottla.client.errors import ConfigError
from ottla.registry.client import Kind, Schema, SchemaRegistry
from ottla.registry.loads import Loads

Field = Literal["key", "value"]
SubjectNameStrategy = Callable[[str, Field, str | None], str]
"""The subject of a topic's keys or values, given the record's full name if its schema has one."""

_PREFIX: Final = struct.Struct(">BI")
_MAGIC: Final = 0


def topic_subject_name_strategy(topic: str, field: Field, record_name: str | None) -> str:
    """`orders-value`: one schema for a topic's values, and one for its keys. The one that is used by default."""
    return f"{topic}-{field}"


def record_subject_name_strategy(topic: str, field: Field, record_name: str | None) -> str:
    """`com.shop.Order`: one subject for a record, whatever topic it is in. Raises ConfigError for a schema without a
    name."""
    if not record_name:
        raise ConfigError("the schema has no name to make a subject of. Next: give it one, or use another strategy")
    return record_name


def topic_record_subject_name_strategy(topic: str, field: Field, record_name: str | None) -> str:
    """`orders-com.shop.Order`: several kinds of records in a topic. Raises ConfigError for a schema without a name."""
    return f"{topic}-{record_subject_name_strategy(topic, field, record_name)}"


def frame(schema_id: int) -> bytes:
    """What stands before a value."""
    return _PREFIX.pack(_MAGIC, schema_id)


def unframe(data: bytes) -> tuple[int, bytes]:
    """A record's schema id, and the rest. Raises ValueError."""
    if len(data) < _PREFIX.size or data[0] != _MAGIC:
        raise ValueError(
            f"{arguments.shown(data[:16])} does not begin with a zero byte and the id of a schema: it was not written "
            "by a serializer of a schema registry"
        )
    return _PREFIX.unpack_from(data)[1], data[_PREFIX.size :]


def as_plain(value: Any) -> Any:
    """Of a pydantic model or a dataclass its fields; anything else as it is."""
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


class Writing(NamedTuple):
    """How values are written for a subject: under which id, and by which function."""

    prefix: bytes
    encode: Callable[[Any], bytes]


class SchemaSerializer(TopicSerializer):
    """Writes values under the id that a registry has for one schema in the subject of their topic."""

    def __init__(
        self,
        registry: SchemaRegistry,
        schema: Schema,
        record_name: str | None,
        subject_name_strategy: SubjectNameStrategy,
        auto_register_schemas: bool,
        use_latest_version: bool,
    ) -> None:
        self._registry = arguments.instance_of("registry", registry, SchemaRegistry)
        self._schema = schema
        self._record_name = record_name
        arguments.function("subject_name_strategy", subject_name_strategy)
        self._subject = subject_name_strategy
        self._auto_register = arguments.flag("auto_register_schemas", auto_register_schemas)
        self._use_latest = arguments.flag("use_latest_version", use_latest_version)
        self._writings: Loads[tuple[str, Field], Writing] = Loads(self._ask)

    def serialize(self, value: Any, topic: str, field: Field) -> bytes:
        """The value's bytes, id first. Asks the registry, and waits, where that has not been done for the topic. Raises
        SchemaRegistryError, and what the schema's library raises where the value does not fit."""
        prefix, encode = self._writings.wait((topic, field))
        return prefix + encode(value)

    def is_loaded(self, topic: str, field: Field) -> bool:
        return self._writings.has((topic, field))

    async def load(self, topic: str, field: Field) -> None:
        await self._writings.beside((topic, field))

    def _ask(self, key: tuple[str, Field]) -> Writing:
        subject = self._subject(*key, self._record_name)
        if self._use_latest:
            latest = self._registry.latest(subject)
            check_kind(latest.id, latest.schema, self._schema.kind)
            return Writing(frame(latest.id), self._encoder(latest.schema))
        schema = self._complete(key)
        if self._auto_register:
            schema_id = self._registry.register(subject, schema)
        else:
            schema_id = self._registry.lookup(subject, schema).id
        return Writing(frame(schema_id), self._encoder(schema))

    def _complete(self, key: tuple[str, Field]) -> Schema:
        """The schema with the references that it needs."""
        return self._schema

    @abstractmethod
    def _encoder(self, schema: Schema) -> Callable[[Any], bytes]:
        """What makes bytes of a value under this schema."""


class SchemaDeserializer(LoadingDeserializer):
    """Reads values with the schema that their id names."""

    def __init__(self, registry: SchemaRegistry, kind: Kind, from_dict: Callable[[Any], Any] | None) -> None:
        self._registry = arguments.instance_of("registry", registry, SchemaRegistry)
        self._kind = kind
        arguments.function("from_dict", from_dict)
        self._from_dict = from_dict
        self._decoders: Loads[int, Callable[[bytes], Any]] = Loads(self._ask)

    def __call__(self, data: bytes) -> Any:
        """The value. Asks the registry, and waits, for an id that is new. Raises ValueError, SchemaRegistryError, and
        what the schema's library raises."""
        schema_id, rest = unframe(data)
        value = self._decoders.wait(schema_id)(rest)
        return value if self._from_dict is None else self._from_dict(value)

    def is_loaded(self, data: bytes) -> bool:
        try:
            return self._decoders.has(unframe(data)[0])
        except ValueError:
            return True  # to read it says what is wrong

    async def load(self, data: bytes) -> None:
        await self._decoders.beside(unframe(data)[0])

    def _ask(self, schema_id: int) -> Callable[[bytes], Any]:
        schema = self._registry.schema(schema_id)
        check_kind(schema_id, schema, self._kind)
        return self._decoder(schema)

    @abstractmethod
    def _decoder(self, schema: Schema) -> Callable[[bytes], Any]:
        """What reads bytes that were written under this schema."""


def check_kind(schema_id: int, schema: Schema, wanted: Kind) -> None:
    """Raises ValueError for a schema of another kind."""
    if schema.kind != wanted:
        raise ValueError(
            f"schema {schema_id} is of kind {schema.kind}, not {wanted}. Next: use the serializer of its kind"
        )

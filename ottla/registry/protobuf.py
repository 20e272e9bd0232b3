"""Protobuf messages, by their generated classes."""

import base64
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import Message

from ottla.client import arguments
from ottla.client.errors import ConfigError
from ottla.protocol.batch import read_varint, varint
from ottla.registry.client import Reference, Schema, SchemaRegistry
from ottla.registry.serde import (
    Field,
    SchemaSerializer,
    SubjectNameStrategy,
    topic_subject_name_strategy,
    unframe,
)

_KNOWN_EVERYWHERE: Final = ("google/protobuf/", "google/type/", "confluent/")
"""Registries have these files of their own."""
_DEPTH_MAX: Final = 100

M = TypeVar("M", bound=Message)


class ProtobufSerializer(SchemaSerializer):
    """Writes messages of one generated class.

    Its .proto file is registered as its descriptor, and the files that it imports each under its own name as subject,
    but for google's. `subject_name_strategy`, `auto_register_schemas` and `use_latest_version` are as with
    `AvroSerializer`; with the latter the id is the newest schema's, whose message must be at the same place. Raises
    ConfigError.
    """

    def __init__(
        self,
        registry: SchemaRegistry,
        message: type[Message],
        *,
        subject_name_strategy: SubjectNameStrategy = topic_subject_name_strategy,
        auto_register_schemas: bool = True,
        use_latest_version: bool = False,
    ) -> None:
        self._message = _class(message)
        descriptor: Any = message.DESCRIPTOR
        super().__init__(
            registry,
            Schema(_text(descriptor.file), "PROTOBUF"),
            descriptor.full_name,
            subject_name_strategy,
            auto_register_schemas,
            use_latest_version,
        )
        self._place = encode_place(place_of(descriptor))

    def _complete(self, key: tuple[str, Field]) -> Schema:
        return self._with_imports(self._message.DESCRIPTOR.file)

    def _with_imports(self, file: Any) -> Schema:
        references = []
        for imported in file.dependencies:
            if not imported.name.startswith(_KNOWN_EVERYWHERE):
                schema = self._with_imports(imported)
                if self._auto_register:
                    self._registry.register(imported.name, schema)
                version = self._registry.lookup(imported.name, schema).version
                references.append(Reference(imported.name, imported.name, version))
        return Schema(_text(file), "PROTOBUF", tuple(references))

    def _encoder(self, schema: Schema) -> Callable[[Any], bytes]:
        place, kind = self._place, self._message

        def encode(value: Any) -> bytes:
            if not isinstance(value, kind):
                raise TypeError(f"it is no {kind.DESCRIPTOR.full_name}")
            return place + value.SerializeToString()

        return encode


class ProtobufDeserializer(Generic[M]):
    """Reads messages of one generated class. It knows what it needs: no registry is asked, and Protobuf itself makes
    other versions of the message readable. Raises ConfigError."""

    def __init__(self, message: type[M]) -> None:
        self._message = _class(message)

    def __call__(self, data: bytes) -> M:
        """The message. Raises ValueError, or protobuf's DecodeError."""
        _, rest = unframe(data)
        made: M = self._message.FromString(rest[end_of_place(rest) :])
        return made


def place_of(descriptor: Any) -> list[int]:
    """Where a message is in its file: the indexes of the messages that hold it, and its own."""
    outer = descriptor.containing_type
    if outer is None:
        return [list(descriptor.file.message_types_by_name).index(descriptor.name)]
    return [*place_of(outer), [nested.name for nested in outer.nested_types].index(descriptor.name)]


def encode_place(place: list[int]) -> bytes:
    """Its length and its indexes as zigzag varints; a file's first message is a zero byte."""
    if place == [0]:
        return b"\0"
    return b"".join(varint(number << 1) for number in (len(place), *place))


def end_of_place(data: bytes) -> int:
    """Behind the place that the bytes begin with. Raises ValueError."""
    try:
        count, at = read_varint(data, 0)
        count = (count >> 1) ^ -(count & 1)
        if not 0 <= count <= _DEPTH_MAX:
            raise ValueError
        for _ in range(count):
            _, at = read_varint(data, at)
    except ValueError:
        raise ValueError(
            f"{arguments.shown(data[:16])} does not begin with the place of a message in its file"
        ) from None
    return at


def _text(file: Any) -> str:
    return base64.b64encode(file.serialized_pb).decode()


def _class(message: type[M]) -> type[M]:
    if not isinstance(message, type) or not issubclass(message, Message) or message is Message:
        raise ConfigError(f"message {arguments.shown(message)} is no generated class of Protobuf")
    return message

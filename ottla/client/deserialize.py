"""Keys and values of records by functions of the user's."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from ottla.client import arguments
from ottla.client.encode import as_bytes
from ottla.client.errors import ConfigError, DeserializationFailed, SchemaRegistryError
from ottla.client.records import ConsumerRecord

Deserializer = Callable[[bytes], Any]


class TopicSerializer(ABC):
    """A serializer that is told where its bytes go, and may have something to load first, such as a schema's id."""

    @abstractmethod
    def serialize(self, value: Any, topic: str, field: Literal["key", "value"]) -> bytes:
        """The bytes of a key or a value. Waits where something is to be loaded; a producer sees to it before."""

    @abstractmethod
    def is_loaded(self, topic: str, field: Literal["key", "value"]) -> bool:
        """Whether `serialize` would not wait. Asked for each record."""

    @abstractmethod
    async def load(self, topic: str, field: Literal["key", "value"]) -> None:
        """Loads what `serialize` needs, while the event loop goes on."""


class LoadingDeserializer(ABC):
    """A deserializer that may have something to load before it can read some bytes, such as their schema."""

    @abstractmethod
    def __call__(self, data: bytes) -> Any:
        """What the bytes say. Waits where something is to be loaded; a consumer sees to it before."""

    @abstractmethod
    def is_loaded(self, data: bytes) -> bool:
        """Whether a call would not wait. Asked for each record."""

    @abstractmethod
    async def load(self, data: bytes) -> None:
        """Loads what these bytes need, while the event loop goes on."""


class NotLoaded(Exception):
    """For the reader of a partition: the record can be read when `load` has come to its end."""

    def __init__(self, record: ConsumerRecord, call: LoadingDeserializer, data: bytes) -> None:
        super().__init__(f"{record.topic}-{record.partition} at offset {record.offset} waits for what it is read with")
        self._record, self._call, self._data = record, call, data

    async def load(self) -> None:
        """Raises DeserializationFailed."""
        try:
            await self._call.load(self._data)
        except Exception as error:
            record = self._record
            raise DeserializationFailed(record.topic, record.partition, record.offset, repr(error)) from error


Serializer = Callable[[Any], bytes | str] | TopicSerializer


def serialize_with(
    what: Literal["key", "value"], call: Serializer | None
) -> Callable[[object, str], bytes | Awaitable[bytes]]:
    """How a producer makes bytes, for a topic, of what is neither bytes nor None: at once, or when something is loaded
    that it needs. Raises ConfigError, and a SchemaRegistryError as it is."""
    if call is None:
        return lambda value, topic: as_bytes(what, value)
    if isinstance(call, TopicSerializer):
        return _with_topic(what, call)
    arguments.function(f"{what}_serializer", call)
    plain = call

    def serialize(value: object, topic: str) -> bytes:
        try:
            data = plain(value)
        except Exception as error:
            raise _refused(what, value, error) from error
        return as_bytes(f"{what} as its {what}_serializer has it", data)

    return serialize


def _with_topic(
    what: Literal["key", "value"], call: TopicSerializer
) -> Callable[[object, str], bytes | Awaitable[bytes]]:
    def now(value: object, topic: str) -> bytes:
        try:
            data = call.serialize(value, topic, what)
        except SchemaRegistryError:
            raise
        except Exception as error:
            raise _refused(what, value, error) from error
        return as_bytes(f"{what} as its {what}_serializer has it", data)

    async def later(value: object, topic: str) -> bytes:
        try:
            await call.load(topic, what)
        except SchemaRegistryError:
            raise
        except Exception as error:
            raise _refused(what, value, error) from error
        return now(value, topic)

    def serialize(value: object, topic: str) -> bytes | Awaitable[bytes]:
        return now(value, topic) if call.is_loaded(topic, what) else later(value, topic)

    return serialize


def _refused(what: str, value: object, error: Exception) -> ConfigError:
    return ConfigError(
        f"{what} {arguments.shown(value)}: the {what}_serializer raised {error!r}. Next: mend one of the two"
    )


def deserialize_with(
    key: Deserializer | None, value: Deserializer | None
) -> Callable[[ConsumerRecord], ConsumerRecord] | None:
    """How a consumer makes a record of the one that was read; None: it stays as it is. Nulls stay nulls."""
    arguments.function("key_deserializer", key)
    arguments.function("value_deserializer", value)
    if key is None and value is None:
        return None

    loading_key = key if isinstance(key, LoadingDeserializer) else None
    loading_value = value if isinstance(value, LoadingDeserializer) else None

    def deserialize(record: ConsumerRecord) -> ConsumerRecord:
        try:
            if loading_key is not None and record.key is not None and not loading_key.is_loaded(record.key):
                raise NotLoaded(record, loading_key, record.key)
            if loading_value is not None and record.value is not None and not loading_value.is_loaded(record.value):
                raise NotLoaded(record, loading_value, record.value)
            return record._replace(
                key=record.key if key is None or record.key is None else key(record.key),
                value=record.value if value is None or record.value is None else value(record.value),
            )
        except NotLoaded:
            raise
        except Exception as error:
            raise DeserializationFailed(record.topic, record.partition, record.offset, repr(error)) from error

    return deserialize

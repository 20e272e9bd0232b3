"""Keys and values of records by functions of the user's."""

from collections.abc import Callable
from typing import Any

from ottla.client import arguments
from ottla.client.encode import as_bytes
from ottla.client.errors import ConfigError, DeserializationFailed
from ottla.client.records import ConsumerRecord

Deserializer = Callable[[bytes], Any]
Serializer = Callable[[Any], bytes | str]


def serialize_with(what: str, call: Serializer | None) -> Callable[[object], bytes]:
    """How a producer makes bytes of what is neither bytes nor None. Raises ConfigError."""
    if call is None:
        return lambda value: as_bytes(what, value)
    arguments.function(f"{what}_serializer", call)

    def serialize(value: object) -> bytes:
        try:
            data = call(value)
        except Exception as error:
            raise ConfigError(
                f"{what} {arguments.shown(value)}: the {what}_serializer raised {error!r}. Next: mend one of the two"
            ) from error
        return as_bytes(f"{what} as its {what}_serializer has it", data)

    return serialize


def deserialize_with(
    key: Deserializer | None, value: Deserializer | None
) -> Callable[[ConsumerRecord], ConsumerRecord] | None:
    """How a consumer makes a record of the one that was read; None: it stays as it is. Nulls stay nulls."""
    arguments.function("key_deserializer", key)
    arguments.function("value_deserializer", value)
    if key is None and value is None:
        return None

    def deserialize(record: ConsumerRecord) -> ConsumerRecord:
        try:
            return record._replace(
                key=record.key if key is None or record.key is None else key(record.key),
                value=record.value if value is None or record.value is None else value(record.value),
            )
        except Exception as error:
            raise DeserializationFailed(record.topic, record.partition, record.offset, repr(error)) from error

    return deserialize

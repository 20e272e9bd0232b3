"""Ready-made serializers for `value_serializer` and its like; any function will do as well.

Producer(value_serializer=to_json)
Consumer("orders", value_deserializer=from_json)
Consumer("orders", value_deserializer=to_type(Order))     # a pydantic model, a dataclass, dict[str, int] ...

What needs to know the topic, or has something to load first, is a TopicSerializer or a LoadingDeserializer; those with
a schema registry are in ottla.registry.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from ottla.client.deserialize import LoadingDeserializer, TopicSerializer
from ottla.client.errors import ConfigError

__all__ = ["LoadingDeserializer", "TopicSerializer", "from_json", "to_json", "to_type"]

T = TypeVar("T")


def to_json(value: Any) -> bytes:
    """Compact JSON in UTF-8; of a pydantic model what its `model_dump_json` says. Raises TypeError or ValueError for
    what JSON has not, NaN too."""
    dump = getattr(value, "model_dump_json", None)
    if dump is not None:
        return str(dump()).encode()
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def from_json(data: bytes) -> Any:
    """What a JSON text says. Raises ValueError."""
    return json.loads(data)


def to_type(kind: type[T]) -> Callable[[bytes], T]:
    """A function that reads JSON as a value of this type, which pydantic checks. Raises ConfigError where pydantic is
    not installed."""
    try:
        from pydantic import TypeAdapter
    except ImportError:
        raise ConfigError("pydantic, which checks types, is not installed. Next: `pip install pydantic`") from None
    return TypeAdapter(kind).validate_json

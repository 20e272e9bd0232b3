"""Topic configs that Kafka has and that mean nothing here. Programs set them and look for them: they are taken where
Kafka would take their values, are not kept, and are told with Kafka's defaults."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from node.api.topics import Config, ConfigLevel
from ottla.protocol.configs import INT_MAX, LONG_MAX, TOPIC_KEYS, ConfigKey
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

DEFAULT_SOURCE: Final = 5
_NOTHING: Final = "Means nothing here: taken and not kept."
_TIERED: Final = "remote.storage.enable"


def _key(name: str, kind: str, default: str, broker_name: str = "", low: int = 0, high: int = LONG_MAX) -> ConfigKey:
    return ConfigKey(name, kind, default, _NOTHING, broker_name, low, high)  # type: ignore[arg-type]


_SHOWN: Final = (
    _key("compression.gzip.level", "int", "-1", "compression.gzip.level", -1, 9),
    _key("compression.lz4.level", "int", "9", "compression.lz4.level", 1, 17),
    _key("compression.zstd.level", "int", "3", "compression.zstd.level", -131072, 22),
    _key("flush.messages", "long", str(LONG_MAX), "log.flush.interval.messages", 1),
    _key("flush.ms", "long", str(LONG_MAX), "log.flush.interval.ms"),
    _key("follower.replication.throttled.replicas", "list", ""),
    _key("leader.replication.throttled.replicas", "list", ""),
    _key("local.retention.bytes", "long", "-2", "log.local.retention.bytes", -2),
    _key("local.retention.ms", "long", "-2", "log.local.retention.ms", -2),
    _key("preallocate", "boolean", "false", "log.preallocate"),
    _key("remote.log.copy.disable", "boolean", "false"),
    _key("remote.log.delete.on.disable", "boolean", "false"),
    _key(_TIERED, "boolean", "false"),
    _key("segment.index.bytes", "int", "10485760", "log.index.size.max.bytes", 4, INT_MAX),
    _key("segment.jitter.ms", "long", "0", "log.roll.jitter.ms"),
)
_OF_OTHER_VERSIONS: Final = (
    _key("message.downconversion.enable", "boolean", "true"),
    _key("message.format.version", "string", ""),
    _key("message.timestamp.difference.max.ms", "long", str(LONG_MAX)),
    _key("remote.copy.lag.bytes", "long", "0", "", -1),
    _key("remote.copy.lag.ms", "long", "0", "", -1),
)

PASSED_OVER: Final[Mapping[str, ConfigKey]] = MappingProxyType({key.name: key for key in _SHOWN + _OF_OTHER_VERSIONS})


def check(name: str, value: str) -> None:
    """Raises INVALID_CONFIG for a value of one of `PASSED_OVER` that Kafka would not take either."""
    key = PASSED_OVER[name]
    if key.kind not in ("list", "string"):  # of any text
        value_in_force = key.parse(value)
        if name == _TIERED and value_in_force:
            raise ApiError(pb.ERROR_CODE_INVALID_CONFIG, f"{name} = true: there is no tiered storage, false is allowed")


def kind_of(key: ConfigKey) -> int:
    """The number that answers have for the type of a config's values."""
    return {"boolean": 1, "string": 2, "int": 3, "long": 5, "double": 6, "list": 7}[key.kind]


def _shown(key: ConfigKey) -> Config:
    default = key.default or ""
    levels = [ConfigLevel(key.broker_name, default, DEFAULT_SOURCE)] if key.broker_name else []
    return Config(key.name, default, DEFAULT_SOURCE, True, levels, key.doc)


SHOWN: Final[Sequence[Config]] = tuple(_shown(key) for key in _SHOWN)
"""What a description of a topic has beside its own configs."""
assert not PASSED_OVER.keys() & TOPIC_KEYS.keys()

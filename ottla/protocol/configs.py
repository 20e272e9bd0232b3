"""Every topic config: its name, type, default, allowed values, broker-level name and meaning. One table for all sides.

Names, types and precedence are Kafka's (its `TopicConfig`, `LogConfig`): topic > this broker > all brokers > the node's
file > built in. `flush` is our own. Values travel as text; `effective` turns them into typed ones.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

Kind = Literal["long", "int", "double", "boolean", "string", "list"]
Value = int | float | bool | str | tuple[str, ...]

LONG_MAX: Final = 2**63 - 1
INT_MAX: Final = 2**31 - 1
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """A config. `default` None means that it depends on the topic; numbers lie in `low`..`high`, both allowed."""

    name: str
    kind: Kind
    default: str | None
    doc: str
    broker_name: str = ""
    low: float = 0
    high: float = LONG_MAX
    choices: tuple[str, ...] = ()
    cluster_wide: bool = False
    """Whether a single broker must not differ: the controller decides by it for all."""
    of_one: bool = False
    """Whether it is said of a single broker, and never of all."""

    def parse(self, text: str) -> Value:
        """The typed value. Raises INVALID_CONFIG with what is allowed."""
        value: Value
        match self.kind:
            case "boolean":
                if text.lower() not in ("true", "false"):
                    raise self._refuse(text, "true or false is allowed")
                return text.lower() == "true"
            case "string":
                if text not in self.choices:
                    raise self._refuse(text, f"one of {', '.join(self.choices)} is allowed")
                return text
            case "list":
                items = tuple(item.strip() for item in text.split(",") if item.strip())
                if not set(items) <= set(self.choices) or len(set(items)) != len(items):
                    raise self._refuse(text, f"a list of {', '.join(self.choices)}, each at most once, is allowed")
                return items
            case "double":
                try:
                    value = float(text)
                except ValueError:
                    raise self._refuse(text, "a number is allowed") from None
            case _:
                # int() would also take "1_000" and digits of other scripts.
                if not text.removeprefix("-").isdecimal() or not text.isascii() or len(text) > 20:
                    raise self._refuse(text, "a whole number is allowed")
                value = int(text)
        if not self.low <= value <= self.high or math.isnan(value):
            raise self._refuse(text, f"{self._plain(self.low)} to {self._plain(self.high)} is allowed")
        return value

    def _refuse(self, text: str, allowed: str) -> ApiError:
        shown = text if len(text) <= 60 else f"{text[:60]}... ({len(text)} characters)"
        return ApiError(pb.ERROR_CODE_INVALID_CONFIG, f"{self.name} = {shown!r}: {allowed}")

    def _plain(self, number: float) -> str:
        return str(number) if self.kind == "double" else str(int(number))


_KEYS: Final = (
    ConfigKey(
        "cleanup.policy",
        "list",
        "delete",
        "delete drops old segments, compact keeps the last value per key; both may be given, none keeps everything.",
        "log.cleanup.policy",
        choices=("delete", "compact"),
    ),
    ConfigKey(
        "compression.type",
        "string",
        "producer",
        "Codec of the stored batches; producer keeps what was sent.",
        "compression.type",
        choices=("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"),
    ),
    ConfigKey(
        "delete.retention.ms",
        "long",
        str(_DAY_MS),
        "How long a tombstone stays readable after compaction, in ms.",
        "log.cleaner.delete.retention.ms",
    ),
    ConfigKey(
        "file.delete.delay.ms",
        "long",
        "5000",
        "How long a dropped segment's files stay on disk for readers that still use them, in ms.",
        "log.segment.delete.delay.ms",
    ),
    ConfigKey(
        "flush",
        "string",
        "replica",
        "replica: a record counts when it is on every in-sync replica, as in Kafka; ack: when it is synced there.",
        "log.flush",
        choices=("replica", "ack"),
        cluster_wide=True,
    ),
    ConfigKey(
        "index.interval.bytes",
        "int",
        "4096",
        "Bytes of log between two index entries.",
        "log.index.interval.bytes",
        low=1,
        high=INT_MAX,
    ),
    ConfigKey(
        "max.compaction.lag.ms",
        "long",
        str(LONG_MAX),
        "The longest time a record stays uncompacted, in ms.",
        "log.cleaner.max.compaction.lag.ms",
        low=1,
    ),
    ConfigKey(
        "max.message.bytes",
        "int",
        "1048588",
        "The largest record batch in encoded bytes.",
        "message.max.bytes",
        low=1,
        high=32 * 2**20,
    ),
    ConfigKey(
        "message.timestamp.after.max.ms",
        "long",
        str(_HOUR_MS),
        "How far a record's timestamp may lie after the broker's clock, in ms.",
        "log.message.timestamp.after.max.ms",
    ),
    ConfigKey(
        "message.timestamp.before.max.ms",
        "long",
        str(LONG_MAX),
        "How far a record's timestamp may lie before the broker's clock, in ms.",
        "log.message.timestamp.before.max.ms",
    ),
    ConfigKey(
        "message.timestamp.type",
        "string",
        "CreateTime",
        "Whether a record's timestamp is the producer's or the time of the append.",
        "log.message.timestamp.type",
        choices=("CreateTime", "LogAppendTime"),
    ),
    ConfigKey(
        "min.cleanable.dirty.ratio",
        "double",
        "0.5",
        "The part of a compacted log that must be uncompacted before it is compacted again.",
        "log.cleaner.min.cleanable.ratio",
        high=1,
    ),
    ConfigKey(
        "min.compaction.lag.ms",
        "long",
        "0",
        "The shortest time a record stays uncompacted, in ms.",
        "log.cleaner.min.compaction.lag.ms",
    ),
    ConfigKey(
        "min.insync.replicas",
        "int",
        None,
        "Replicas that must be in sync for acks=all. Default: one less than the replication factor, at least 1.",
        "min.insync.replicas",
        low=1,
        high=INT_MAX,
        cluster_wide=True,
    ),
    ConfigKey(
        "retention.bytes",
        "long",
        "-1",
        "Size of a partition above which old segments are dropped; -1 = no limit.",
        "log.retention.bytes",
        low=-1,
    ),
    ConfigKey(
        "retention.ms",
        "long",
        str(7 * _DAY_MS),
        "Age above which old segments are dropped, in ms; -1 = no limit.",
        "log.retention.ms",
        low=-1,
    ),
    ConfigKey(
        "segment.bytes",
        "int",
        str(128 * 2**20),
        "Size of a segment, in bytes.",
        "log.segment.bytes",
        low=2**20,
        high=INT_MAX,
    ),
    ConfigKey(
        "segment.ms",
        "long",
        str(7 * _DAY_MS),
        "Age of a segment's first record above which a new segment starts, in ms.",
        "log.roll.ms",
        low=1,
    ),
    ConfigKey(
        "unclean.leader.election.enable",
        "boolean",
        "false",
        "Whether a replica that may lack acknowledged records is elected where no other is left.",
        "unclean.leader.election.enable",
        cluster_wide=True,
    ),
)

TOPIC_KEYS: Final[Mapping[str, ConfigKey]] = MappingProxyType({key.name: key for key in _KEYS})
"""Topic configs by name."""

_CLUSTER_KEYS: Final = (
    ConfigKey(
        "auto.leader.rebalance.enable",
        "boolean",
        "true",
        "Whether leadership goes back to the preferred replica some seconds after it is in sync again.",
        cluster_wide=True,
    ),
    ConfigKey(
        "broker.draining",
        "boolean",
        "false",
        "Whether the broker gets no new replicas, and hands its leaderships over; of one broker, at run time: "
        "`ottla node drain` and `ottla node resume` set it.",
        of_one=True,
    ),
    ConfigKey(
        "default.replication.factor",
        "int",
        "-1",
        "Replicas of a topic that does not say how many; -1 = the number of live brokers, at most 3.",
        low=-1,
        high=100,
        cluster_wide=True,
    ),
    ConfigKey(
        "follower.replication.throttled.rate",
        "long",
        str(LONG_MAX),
        "Bytes a second that a node fetches of replicas that moves bring to it; those in the ISR are never held up.",
        low=1,
    ),
    ConfigKey(
        "num.partitions",
        "int",
        "1",
        "Partitions of a topic that does not say how many.",
        low=1,
        high=100_000,
        cluster_wide=True,
    ),
    ConfigKey(
        "replica.heal.after.ms",
        "long",
        str(15 * 60_000),
        "How long a node must be gone before its replicas are rebuilt elsewhere, in ms; 0 = never.",
        cluster_wide=True,
    ),
)

BROKER_KEYS: Final[Mapping[str, ConfigKey]] = MappingProxyType(
    {key.broker_name: key for key in _KEYS} | {key.name: key for key in _CLUSTER_KEYS}
)
"""Broker configs that can change at run time, by broker-level name: the topics' defaults and a few of the cluster."""


@dataclass(frozen=True, slots=True)
class TopicConfigs:
    """A topic's configs in force, typed. Sizes in bytes; times in ms; -1 = no limit for the two retentions."""

    cleanup_policy: tuple[str, ...]
    compression_type: str
    delete_retention_ms: int
    file_delete_delay_ms: int
    flush: str
    index_interval_bytes: int
    max_compaction_lag_ms: int
    max_message_bytes: int
    message_timestamp_after_max_ms: int
    message_timestamp_before_max_ms: int
    message_timestamp_type: str
    min_cleanable_dirty_ratio: float
    min_compaction_lag_ms: int
    min_insync_replicas: int
    retention_bytes: int
    retention_ms: int
    segment_bytes: int
    segment_ms: int
    unclean_leader_election_enable: bool


def topic_key(name: str) -> ConfigKey:
    """The topic config of that name. Raises INVALID_CONFIG for an unknown one."""
    key = TOPIC_KEYS.get(name)
    if key is None:
        raise ApiError(
            pb.ERROR_CODE_INVALID_CONFIG, f"there is no topic config {name[:100]!r}{did_you_mean(name, TOPIC_KEYS)}"
        )
    return key


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the one that was meant, where one is close."""
    close = difflib.get_close_matches(name[:100], known, n=1)
    return f": did you mean {close[0]}?" if close else ""


def default_min_insync_replicas(replication_factor: int) -> int:
    """One less than the replication factor, so that one replica may be away without a write refused; never 0."""
    return replication_factor - 1 if replication_factor >= 3 else 1


def enough_in_sync(min_isr: int | None, replication_factor: int) -> int:
    """How many replicas must be in sync: `min.insync.replicas` (None: the default, which follows the replication
    factor), but never more than there are."""
    wanted = default_min_insync_replicas(replication_factor) if min_isr is None else min_isr
    return min(wanted, replication_factor)


def broker_defaults(
    dynamic: Mapping[str, Mapping[str, str]], static: Mapping[str, str], node_id: int | None = None
) -> dict[str, str]:
    """Broker-level configs in force on a node, or (None) the same for all: this broker > all brokers > its file."""
    own = {} if node_id is None else dynamic.get(str(node_id), {})
    return {**static, **dynamic.get("", {}), **own}


def value_text(
    key: ConfigKey, topic_configs: Mapping[str, str], defaults: Mapping[str, str], replication_factor: int
) -> str:
    """The text in force for one topic config. `defaults` are by broker-level name (see `broker_defaults`)."""
    text = topic_configs.get(key.name, defaults.get(key.broker_name, key.default))
    return str(default_min_insync_replicas(replication_factor)) if text is None else text


def min_isr_set(topic_configs: Mapping[str, str], defaults: Mapping[str, str]) -> int | None:
    """`min.insync.replicas` where somebody set it; None: each partition has its own default."""
    key = TOPIC_KEYS["min.insync.replicas"]
    text = topic_configs.get(key.name, defaults.get(key.broker_name, key.default))
    return None if text is None else int(text)


def effective(
    topic_configs: Mapping[str, str], defaults: Mapping[str, str], replication_factor: int = 1
) -> TopicConfigs:
    """All configs of a topic in force. Raises INVALID_CONFIG where a text is none of its type's."""
    values = {
        name.replace(".", "_"): key.parse(value_text(key, topic_configs, defaults, replication_factor))
        for name, key in TOPIC_KEYS.items()
    }
    return TopicConfigs(**values)  # type: ignore[arg-type]  # the table has each field's type

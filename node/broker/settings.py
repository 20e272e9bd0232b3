"""What a partition needs to know of its topic's configs, in the shape in which it asks."""

from collections.abc import Mapping
from dataclasses import dataclass

from node.broker import codecs
from node.broker.door import DoorRules
from ottla.protocol.configs import effective, min_isr_set
from storage.config import LogConfig

_CODEC_OF = {name: codec for codec, name in codecs.NAMES.items()}


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """Configs in force for the partitions of one topic. `flush_ack`: only synced records count (docs/storage.md).
    `min_isr` None: the default, which follows a partition's replication factor."""

    log: LogConfig
    door: DoorRules
    min_isr: int | None
    flush_ack: bool
    importing: bool = False
    """Whether an import fills it, and nobody is served yet."""


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Configs of the node for its data plane. Times in ms, sizes in bytes."""

    replica_lag_time_max_ms: int = 5000
    replica_fetch_max_bytes: int = 1024 * 1024
    replica_fetch_response_max_bytes: int = 8 * 1024 * 1024
    replica_fetch_backoff_ms: int = 100
    high_watermark_checkpoint_interval_ms: int = 5000
    retention_check_interval_ms: int = 30_000
    producer_id_expiration_ms: int = 24 * 3_600_000
    cleaner_backoff_ms: int = 5000
    scrub_interval_ms: int = 10_000
    disk_watermark_bytes: int = 256 * 1024 * 1024
    disk_watermark_percent: int = 5
    # What the process has file descriptors for: replicas, and closed segments that keep one for their readers.
    partitions_max: int = 2**31 - 1
    open_segments_max: int = 512


def topic_settings(
    topic_configs: Mapping[str, str], defaults: Mapping[str, str], *, importing: bool = False
) -> TopicSettings:
    """Settings from the texts in the metadata. Raises ApiError INVALID_CONFIG (the controller checked them before)."""
    configs = effective(topic_configs, defaults)
    compact = "compact" in configs.cleanup_policy
    return TopicSettings(
        log=LogConfig(
            segment_bytes=configs.segment_bytes,
            segment_ms=configs.segment_ms,
            index_interval_bytes=configs.index_interval_bytes,
            retention_ms=configs.retention_ms,
            retention_bytes=configs.retention_bytes,
            max_message_bytes=configs.max_message_bytes,
            file_delete_delay_ms=configs.file_delete_delay_ms,
            # What comes with its old times is not to go before all of it is there.
            cleanup_policy=frozenset() if importing else frozenset(configs.cleanup_policy),
            min_cleanable_dirty_ratio=configs.min_cleanable_dirty_ratio,
            min_compaction_lag_ms=configs.min_compaction_lag_ms,
            max_compaction_lag_ms=configs.max_compaction_lag_ms,
            delete_retention_ms=configs.delete_retention_ms,
        ),
        door=DoorRules(
            max_message_bytes=configs.max_message_bytes,
            log_append_time=configs.message_timestamp_type == "LogAppendTime",
            timestamp_before_max_ms=configs.message_timestamp_before_max_ms,
            timestamp_after_max_ms=configs.message_timestamp_after_max_ms,
            compression_codec=_CODEC_OF.get(configs.compression_type),
            keys_required=compact,
        ),
        min_isr=min_isr_set(topic_configs, defaults),
        flush_ack=configs.flush == "ack",
        importing=importing,
    )

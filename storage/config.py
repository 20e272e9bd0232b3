"""What one log needs to know of a topic's configuration: Kafka's names with `_` for `.`."""

from dataclasses import dataclass

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Sizes in bytes, times in ms; -1 means unlimited where Kafka says so."""

    segment_bytes: int = 128 * 1024 * 1024
    segment_ms: int = 7 * _DAY_MS
    index_interval_bytes: int = 4096
    retention_ms: int = 7 * _DAY_MS
    retention_bytes: int = -1
    max_message_bytes: int = 1_048_588
    file_delete_delay_ms: int = 5000
    cleanup_policy: frozenset[str] = frozenset({"delete"})
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = 2**63 - 1
    delete_retention_ms: int = _DAY_MS
    producer_id_expiration_ms: int = _DAY_MS

    def __post_init__(self) -> None:
        for name in ("segment_bytes", "segment_ms", "index_interval_bytes", "max_message_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("retention_ms", "retention_bytes"):
            if getattr(self, name) < -1:
                raise ValueError(f"{name} must be -1 (unlimited) or more, not {getattr(self, name)}")
        unknown = self.cleanup_policy - {"delete", "compact"}
        if unknown:
            raise ValueError(f"cleanup_policy knows delete and compact, not {', '.join(sorted(unknown))}")

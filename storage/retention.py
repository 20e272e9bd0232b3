"""Which segments may go: trimmed, too old, or too much (L5, L8). Decides only; `Log.apply_retention` does."""

from collections.abc import Sequence

from storage.config import LogConfig
from storage.segment import Segment


def deletable(
    segments: Sequence[Segment],
    config: LogConfig,
    *,
    now_ms: int,
    high_watermark: int,
    log_start_offset: int,
    by_age: bool = True,
) -> int:
    """How many segments go, from the oldest on, stopping at the first that stays.

    None with offsets at or above the high watermark. Trimmed ones go under every policy; the rest only under `delete`.
    The active segment never goes by size; if it is counted, it has batches and must be rolled first. `by_age`: `now_ms`
    may say what is old.
    """
    by_policy = "delete" in config.cleanup_policy
    excess_bytes = -1
    if by_policy and config.retention_bytes >= 0:
        excess_bytes = sum(segment.size_bytes for segment in segments) - config.retention_bytes
    active = segments[-1]
    for count, segment in enumerate(segments):
        expired = by_policy and by_age and 0 <= config.retention_ms < now_ms - segment.max_timestamp
        too_much = excess_bytes >= segment.size_bytes and segment is not active
        trimmed = segment.next_offset <= log_start_offset
        if segment.size_bytes == 0 and segment is active:
            return count
        if segment.next_offset > high_watermark or not (trimmed or expired or too_much):
            return count
        excess_bytes -= segment.size_bytes
    return len(segments)

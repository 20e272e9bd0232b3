"""Settings of producers and consumers, with Kafka's names and checked when made."""

import re
from dataclasses import dataclass, fields
from typing import Final

from ottla.client import arguments
from ottla.client.codecs import codec_named
from ottla.client.errors import ConfigError

MAX_IN_FLIGHT: Final = 5
"""Batches of one partition on their way at once: as many as a broker remembers of a producer (KIP-98)."""

LINGER_MS: Final = 5
"""How long a batch waits for more records by default, and only while others are on their way: what comes alone leaves
at once, and what comes faster than answers do is gathered meanwhile."""

ANSWER_GRACE_MS: Final = 1000
"""How much longer than request_timeout_ms a producer waits for an answer before it gives up on a connection."""


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    """A producer's settings; times in ms, sizes in encoded bytes. Raises ConfigError."""

    acks: int = -1
    linger_ms: int | None = None
    batch_size: int = 128 * 1024
    buffer_memory: int = 32 * 1024 * 1024
    max_block_ms: int = 60_000
    max_request_size: int = 1024 * 1024
    compression_type: str = "none"
    request_timeout_ms: int = 5_000
    delivery_timeout_ms: int = 120_000
    retry_backoff_ms: int = 20
    retry_backoff_max_ms: int = 1_000
    client_id: str = "ottla-python"

    def __post_init__(self) -> None:
        if self.acks not in (-1, 0, 1) or not isinstance(self.acks, int) or isinstance(self.acks, bool):
            raise ConfigError(f"acks {arguments.shown(self.acks)} is none of all (-1), 1 and 0")
        _check_types(self, at_least_0=("linger_ms", "max_block_ms"))
        linger_ms = LINGER_MS if self.linger_ms is None else self.linger_ms
        if self.delivery_timeout_ms < linger_ms + self.request_timeout_ms:
            raise ConfigError(
                f"delivery_timeout_ms {self.delivery_timeout_ms} must be at least linger_ms {linger_ms} + "
                f"request_timeout_ms {self.request_timeout_ms}"
            )
        if self.retry_backoff_max_ms < self.retry_backoff_ms:
            raise ConfigError(f"retry_backoff_max_ms {self.retry_backoff_max_ms} is below retry_backoff_ms")
        if self.max_request_size > 31 * 1024 * 1024:
            raise ConfigError(f"max_request_size {self.max_request_size} is above 31 MiB, which no node takes")
        if self.buffer_memory < self.max_request_size:
            raise ConfigError(f"buffer_memory {self.buffer_memory} is below max_request_size {self.max_request_size}")
        codec_named(self.compression_type)

    @property
    def idempotent(self) -> bool:
        """Whether batches are numbered. With acks=0 there are no answers, so nothing could be repeated."""
        return self.acks != 0


_DURATION: Final = re.compile(
    r"by_duration:P(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})S)?)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """A consumer's settings; times in ms, sizes in bytes. Raises ConfigError."""

    auto_offset_reset: str = "earliest"
    fetch_min_bytes: int = 1
    fetch_max_wait_ms: int = 500
    fetch_max_bytes: int = 8 * 1024 * 1024
    max_partition_fetch_bytes: int = 1024 * 1024
    request_timeout_ms: int = 5_000
    client_id: str = "ottla-python"
    enable_auto_commit: bool = True
    auto_commit_interval_ms: int = 5_000
    session_timeout_ms: int = 10_000

    def __post_init__(self) -> None:
        _check_types(self, at_least_0=("fetch_max_wait_ms",))
        if self.auto_offset_reset not in ("earliest", "latest", "none"):
            reset_duration_ms(self.auto_offset_reset)


def _check_types(settings: ProducerSettings | ConsumerSettings, at_least_0: tuple[str, ...]) -> None:
    """Each setting has the type of its default; numbers are 1 to 2^31-1, or may be 0; where None is the default, it
    stands for a number."""
    for each in fields(settings):
        value = getattr(settings, each.name)
        if each.name == "acks" or (value is None and each.default is None):
            continue
        if isinstance(each.default, bool):
            arguments.flag(each.name, value)
        elif isinstance(each.default, int | None):
            arguments.whole(each.name, value, 0 if each.name in at_least_0 else 1, arguments.INT32_MAX)
        else:
            arguments.label(each.name, value)


def reset_duration_ms(policy: str) -> int:
    """The time of a by_duration reset policy (KIP-1106) in ms: ISO 8601 days, hours, minutes and seconds."""
    match = _DURATION.fullmatch(policy)
    if match is None or not any(match.groups()):
        raise ConfigError(
            f"auto_offset_reset {arguments.shown(policy)} is none of earliest, latest, none and by_duration:<ISO 8601 "
            "duration>, such as by_duration:PT30M"
        )
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60_000 + seconds * 1000

"""What two brokers may say differently by nature becomes the same word: ids, epochs, hosts, times, texts."""

import time
from collections.abc import Iterator
from typing import Any, Final

from tests.peers.batches import read_batches

Step = tuple[str, Any]

NODES: Final = {"node_id", "broker_id", "leader_id", "controller_id", "preferred_read_replica"}
ALIKE: Final = {
    "host", "port", "cluster_id", "log_dir", "client_host", "total_bytes", "usable_bytes", "partition_size",
    "high_watermark_of_quorum", "log_end_offset", "last_fetch_timestamp", "last_caught_up_timestamp",
}  # fmt: skip
NUMBERED: Final = {
    "leader_epoch": "leader epoch", "partition_leader_epoch": "leader epoch", "producer_id": "producer",
    "current_leader_epoch": "leader epoch", "member_epoch": "group epoch",
    "group_epoch": "group epoch", "assignment_epoch": "group epoch", "member_id": "member",
    "leader": "member", "topic_id": "topic id",
}  # fmt: skip
TEXTS: Final = {"error_message", "batch_index_error_message", "documentation"}
KEYS: Final = ("api_key", "name", "topic", "topic_name", "resource_name", "group_id", "group", "key", "partition_index",
               "partition", "index", "member_id", "topic_id")  # fmt: skip
NEAR_MS: Final = 10 * 60_000


class Normalizer:
    """Of one side of one exchange: the same value has the same number throughout it."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[Any, str]] = {}

    def __call__(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: self(each, key) for key, each in value.items() if key != "throttle_time_ms"}
        if name == "records" and isinstance(value, bytes | None):
            return self(read_batches(value or b""))
        if isinstance(value, list | tuple):
            return keyed([self(each, name) for each in sorted(value, key=_sort_key)])
        return self._plain(value, name)

    def _plain(self, value: Any, name: str) -> Any:
        if name in TEXTS:
            return "a text" if value else "no text"
        if value is None or isinstance(value, bool) or value in ("", b"", -1):
            return value
        if name in NODES and isinstance(value, int):
            return "a node"
        if name in ALIKE:
            return "something"
        if kind := NUMBERED.get(name):
            nothing = (kind == "topic id" and not any(value)) or (kind == "group epoch" and value <= 0)
            return value if nothing else self._number(kind, value)
        if isinstance(value, int) and abs(value - time.time() * 1000) < NEAR_MS:
            return "now"
        return value

    def _number(self, kind: str, value: Any) -> str:
        known = self._numbers.setdefault(kind, {})
        return known.setdefault(value, f"{kind} {len(known) + 1}")


def _sort_key(value: Any) -> str:
    """Of structs by what names them for good, so that what is numbered is met in the same order; others stay."""
    return str(next((value[key] for key in KEYS[:-2] if value.get(key)), "")) if isinstance(value, dict) else ""


def keyed(items: list[Any]) -> Any:
    """Structs by what names them: their order says nothing."""
    if not items or not all(isinstance(each, dict) for each in items):
        return items
    key = next((key for key in KEYS if all(each.get(key) not in (None, "") for each in items)), None)
    if key is None or len({str(each[key]) for each in items}) < len(items):
        return items
    return {str(each[key]): each for each in items}


def differences(kafka: Any, ottla: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(where, what Kafka says, what Ottla says)"""
    if isinstance(kafka, dict) and isinstance(ottla, dict):
        for key in [*kafka, *(key for key in ottla if key not in kafka)]:
            yield from differences(kafka.get(key, "(absent)"), ottla.get(key, "(absent)"), f"{path}.{key}")
    elif isinstance(kafka, list) and isinstance(ottla, list) and len(kafka) == len(ottla):
        for number, (ours, theirs) in enumerate(zip(kafka, ottla, strict=True)):
            yield from differences(ours, theirs, f"{path}[{number}]")
    elif kafka != ottla:
        yield path, kafka, ottla

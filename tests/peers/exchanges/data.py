"""Produce, Fetch, ListOffsets, OffsetForLeaderEpoch, DeleteRecords, InitProducerId."""

from typing import Any

from tests.peers.batches import TIME_MS, batch
from tests.peers.exchange import exchange
from tests.peers.exchanges.cluster import NOBODY
from tests.peers.side import Side, produce
from tests.peers.wire import Tree


def put(s: Side, v: int, topic: str, data: bytes | None, label: str, partition: int = 0, **how: Any) -> Tree:
    parts = [{"index": partition, "records": data}]
    return s.ask("Produce", v, label=label, **produce(topic, parts, topic_id=s.ids.get(topic, NOBODY), **how))


def fetch(s: Side, v: int, topic: str, label: str, offset: int = 0, partition: int = 0, **more: Any) -> Tree:
    return s.ask("Fetch", v, label=label, keep=fetched, **fetching(s, v, topic, offset, partition, **more))


def fetching(s: Side, v: int, topic: str, offset: int = 0, partition: int = 0, **more: Any) -> Tree:
    part = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": 1 << 20}
    known = {key: more.pop(key) for key in list(more) if key in ("current_leader_epoch", "last_fetched_epoch",
                                                                 "partition_max_bytes")}  # fmt: skip
    named = {"topic": topic, "topic_id": s.ids.get(topic, NOBODY), "partitions": [part | known]}
    return {"max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 20, "topics": [named]} | more


def fetched(answer: Tree) -> Any:
    """A topic may stand in an answer more than once; an empty list of aborted transactions and none say the same."""
    topics: dict[Any, Tree] = {}
    for topic in answer["responses"]:
        one = topics.setdefault(topic.get("topic") or topic["topic_id"], topic | {"partitions": []})
        for part in topic["partitions"]:
            part["aborted_transactions"] = part["aborted_transactions"] or None
            one["partitions"].append(part)
    return answer | {"responses": list(topics.values())}


@exchange("Produce")
def produces(s: Side, v: int) -> None:
    t = s.topic(partitions=2)
    put(s, v, t, batch([b"a", b"b"]), "two")
    put(s, v, t, batch([b"c"]), "one more")
    put(s, v, t, batch([b"d"], codec=1), "gzip")
    put(s, v, t, batch([None], key=None), "nothing in it")
    put(s, v, t, batch([b"e"]), "acks 1", acks=1)
    fetch(s, 12, t, "all of it")


@exchange("Produce")
def produce_is_refused(s: Side, v: int) -> None:
    t = s.topic()
    put(s, v, t, batch([b"x"]), "no such partition", 7)
    put(s, v, s.name("no"), batch([b"x"]), "no such topic")
    put(s, v, t, batch([b"x"]), "acks 2", acks=2)
    put(s, v, t, batch([b"x"], bad_crc=True), "a wrong checksum")
    put(s, v, t, batch([b"x"]) + batch([b"y"]), "two batches")
    put(s, v, t, batch([b"x"], attributes=32), "a control batch")
    put(s, v, t, batch([b"x", b"y"], count=1), "a wrong count")
    put(s, v, t, batch([b"x", b"y"], last_delta=5), "a wrong last offset")
    fetch(s, 12, t, "nothing came")


@exchange("Produce")
def produce_too_much(s: Side, v: int) -> None:
    t = s.topic(max_message_bytes="1000")
    put(s, v, t, batch([b"x" * 2000]), "too large")
    put(s, v, t, batch([b"x" * 500]), "within")


@exchange("Produce")
def produce_without_keys_to_a_compacted_topic(s: Side, v: int) -> None:
    t = s.topic(cleanup_policy="compact")
    put(s, v, t, batch([b"x", b"y"], key=None), "no keys")
    put(s, v, t, batch([b"x"]), "with a key")


@exchange("Produce")
def produce_without_acks(s: Side, v: int) -> None:
    t = s.topic()
    s.send("Produce", v, answered=False, **produce(t, [{"index": 0, "records": batch([b"x"])}], 0, s.ids[t]))
    s.ask("ApiVersions", 0, label="the next answer is the next request's", keep=lambda a: a["error_code"])
    fetch(s, 12, t, "it came")


@exchange("Produce")
def produce_as_an_idempotent_producer(s: Side, v: int) -> None:
    t = s.topic()
    asked = {"transactional_id": None, "transaction_timeout_ms": 60_000}
    producer = s.until(lambda a: a["error_code"] == 0, "InitProducerId", 1, **asked)["producer_id"]
    for label, epoch, sequence in (
        ("first", 0, 0), ("again", 0, 0), ("a gap", 0, 5), ("second", 0, 2), ("an older epoch", -1, 4),
        ("a newer epoch", 1, 0), ("the former epoch", 0, 4), ("a newer epoch not at 0", 2, 3),
    ):  # fmt: skip
        put(s, v, t, batch([b"x", b"y"], producer=(producer, epoch, sequence)), label)
    fetch(s, 12, t, "what is there")


@exchange("Fetch")
def fetches(s: Side, v: int) -> None:
    t = s.topic(partitions=2)
    s.put(t, [b"a", b"b"])
    s.put(t, [b"c"])
    for offset in (0, 1, 2, 3):
        fetch(s, v, t, f"from {offset}", offset)
    fetch(s, v, t, "an empty partition", 0, 1)


@exchange("Fetch")
def fetch_out_of_range(s: Side, v: int) -> None:
    t = s.topic()
    s.put(t, [b"a", b"b"])
    for offset in (3, 1 << 40, -1):
        fetch(s, v, t, f"from {offset}", offset)


@exchange("Fetch")
def fetch_of_the_unknown(s: Side, v: int) -> None:
    t = s.topic()
    fetch(s, v, s.name("no"), "no such topic")
    fetch(s, v, t, "no such partition", 0, 9)


@exchange("Fetch", 9)
def fetch_with_leader_epochs(s: Side, v: int) -> None:
    t = s.topic()
    s.put(t, [b"a"])
    fetch(s, v, t, "an epoch that is to come", current_leader_epoch=1 << 20)
    fetch(s, v, t, "no epoch", current_leader_epoch=-1)


@exchange("Fetch")
def fetch_with_small_limits(s: Side, v: int) -> None:
    t = s.topic()
    s.put(t, [b"x" * 500])
    s.put(t, [b"y" * 500])
    fetch(s, v, t, "one byte of a partition", partition_max_bytes=1)
    fetch(s, v, t, "one byte of all", max_bytes=1)
    fetch(s, v, t, "read committed", isolation_level=1)


@exchange("Fetch")
def fetch_waits(s: Side, v: int) -> None:
    t = s.topic()
    s.send("Fetch", v, "reader", **fetching(s, v, t, min_bytes=1, max_wait_ms=8000))
    s.put(t, [b"late"])
    s.note("what came", s.receive("reader"), fetched)


@exchange("Fetch")
def fetch_of_nothing(s: Side, v: int) -> None:
    s.ask("Fetch", v, keep=fetched, max_wait_ms=0, min_bytes=0, topics=[])


def listing(topic: str, timestamp: int, partition: int = 0, epoch: int = -1) -> Tree:
    part = {"partition_index": partition, "timestamp": timestamp, "current_leader_epoch": epoch}
    return {"replica_id": -1, "topics": [{"name": topic, "partitions": [part]}]}


@exchange("ListOffsets")
def list_offsets(s: Side, v: int) -> None:
    t = s.topic()
    for when in (-1, -2):
        s.ask("ListOffsets", v, label=f"empty {when}", **listing(t, when))
    s.put(t, [b"a", b"b", b"c"])
    s.put(t, batch([b"d"], time_ms=TIME_MS + 1000))
    for when in (-1, -2, -3, -4, -5, -6, -7):
        s.ask("ListOffsets", v, label=str(when), **listing(t, when))
    for after in (-5, 0, 1, 10, 20, 21, 1000, 1001):
        s.ask("ListOffsets", v, label=f"time {after}", **listing(t, TIME_MS + after))


@exchange("ListOffsets")
def list_offsets_of_the_unknown(s: Side, v: int) -> None:
    t = s.topic()
    s.ask("ListOffsets", v, label="topic", **listing(s.name("no"), -1))
    s.ask("ListOffsets", v, label="partition", **listing(t, -1, 9))
    if v >= 4:
        s.ask("ListOffsets", v, label="epoch", **listing(t, -1, 0, 1 << 20))


@exchange("ListOffsets", 2)
def list_offsets_of_committed(s: Side, v: int) -> None:
    t = s.topic()
    s.put(t, [b"a"])
    for level in (0, 1):
        s.ask("ListOffsets", v, label=str(level), isolation_level=level, **listing(t, -1))


@exchange("OffsetForLeaderEpoch")
def offset_for_leader_epoch(s: Side, v: int) -> None:
    t = s.topic()
    s.put(t, [b"a", b"b"])
    epoch = s.quiet("ListOffsets", 5, **listing(t, -1))["topics"][0]["partitions"][0]["leader_epoch"]
    for label, topic, partition, current, asked in (
        ("now", t, 0, -1, epoch), ("to come", t, 0, -1, epoch + 5), ("none", t, 0, -1, -1),
        ("current", t, 0, epoch, epoch), ("a current one to come", t, 0, epoch + 9, epoch),
        ("no such partition", t, 9, -1, epoch), ("no such topic", s.name("no"), 0, -1, epoch),
    ):  # fmt: skip
        part = {"partition": partition, "current_leader_epoch": current, "leader_epoch": asked}
        named = [{"topic": topic, "partitions": [part]}]
        s.ask("OffsetForLeaderEpoch", v, label=label, replica_id=-1, topics=named)


@exchange("DeleteRecords")
def delete_records(s: Side, v: int) -> None:
    t = s.topic()
    s.put(t, [b"a", b"b", b"c"])
    for label, topic, partition, offset in (
        ("to 1", t, 0, 1), ("to 1 again", t, 0, 1), ("to less", t, 0, 0), ("beyond", t, 0, 9), ("to the end", t, 0, -1),
        ("to -2", t, 0, -2), ("no such partition", t, 9, 1), ("no such topic", s.name("no"), 0, 1),
    ):  # fmt: skip
        part = {"partition_index": partition, "offset": offset}
        s.ask("DeleteRecords", v, label=label, topics=[{"name": topic, "partitions": [part]}], timeout_ms=5000)
    s.ask("ListOffsets", 5, label="the first", **listing(t, -2))
    fetch(s, 12, t, "what is gone")


@exchange("DeleteRecords")
def delete_records_of_a_compacted_topic(s: Side, v: int) -> None:
    t = s.topic(cleanup_policy="compact")
    s.put(t, [b"a"])
    part = {"partition_index": 0, "offset": 1}
    s.ask("DeleteRecords", v, topics=[{"name": t, "partitions": [part]}], timeout_ms=5000)


@exchange("InitProducerId")
def init_producer_id(s: Side, v: int) -> None:
    asked = {"transactional_id": None, "transaction_timeout_ms": 60_000}
    s.until(lambda a: a["error_code"] == 0, "InitProducerId", v, **asked)
    s.ask("InitProducerId", v, label="first", **asked)
    s.ask("InitProducerId", v, label="second", **asked)
    s.ask("InitProducerId", v, label="no name", **asked | {"transactional_id": ""})
    s.ask("InitProducerId", v, label="no time", **asked | {"transaction_timeout_ms": 0})


@exchange("InitProducerId", 3)
def init_producer_id_again(s: Side, v: int) -> None:
    asked = {"transactional_id": None, "transaction_timeout_ms": 60_000}
    made = s.until(lambda a: a["error_code"] == 0, "InitProducerId", v, **asked)
    known = {"producer_id": made["producer_id"], "producer_epoch": made["producer_epoch"]}
    s.ask("InitProducerId", v, label="known", **asked | known)
    s.ask("InitProducerId", v, label="half of it", **asked | {"producer_epoch": 3})

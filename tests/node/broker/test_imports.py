"""Imports at the brokers: what is taken, how it is replicated, and whom it serves when (invariants.md 1, 48 to 52)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from node.api.imports import Brought, ImportsApi
from node.broker import imports
from node.broker.broker import Broker
from node.broker.settings import topic_settings
from ottla.protocol.batch import ATTR_IMPORTED, BatchHeader, crc_seed, encode_batch, read_batch
from ottla.protocol.checksum import crc32c
from ottla.protocol.errors import ApiError
from ottla.protocol.payloads import ATTR_KAFKA, kafka_header
from ottla.v1 import error_pb2 as pb
from ottla.v1.record_pb2 import Record, Records
from storage.fs import OsFileSystem
from storage.log import Log
from tests.node.broker.cluster import TOPIC_ID, Cluster, batch, running, until

SOURCE = b"source topic id."
IMPORT = b"the import's id."
SEED = crc_seed(SOURCE, 0)
IDS_END = 1001


def stored(base: int, *values: bytes, deltas: tuple[int, ...] = (), **fields: Any) -> bytes:
    """A batch of the source's log; `deltas` are those of records that compaction left."""
    records = [
        Record(value=value, offset_delta=delta)
        for value, delta in zip(values, deltas or (None,) * len(values), strict=True)
    ]
    payload = Records(records=records).SerializeToString()
    header = BatchHeader(base, 9, len(values), len(values) - 1, base_timestamp=1000, max_timestamp=1000)
    return sealed(header._replace(payload_crc=crc32c(payload), **fields), payload)


def sealed(header: BatchHeader, payload: bytes, field: int = 16) -> bytes:
    return b"".join(encode_batch(header, SEED, payload, field))


def kafkas(base: int) -> bytes:
    """One record of Kafka's: key k, value v."""
    records = bytes.fromhex("10 00 00 00 02 6b 02 76 00")
    header = BatchHeader(base, 9, 1, 0, 0, ATTR_KAFKA, 2000, 2000, 0, 5, 0, 0)
    rest = kafka_header(header, 61 + len(records), base, 9, 0)[21:] + records
    header = header._replace(payload_crc=crc32c(rest))
    return sealed(header, kafka_header(header, 61 + len(records), base, 9, header.payload_crc)[:21] + rest, 19)


def headers(data: bytes) -> list[BatchHeader]:
    found, at = [], 0
    while (one := read_batch(data, at)) is not None:
        found.append(one.header)
        at = one.end
    return found


async def bring(cluster: Cluster, node_id: int, at: int, data: bytes = b"", log_start: int = 0) -> tuple[int, int]:
    api, topic = ImportsApi(cluster.nodes[node_id].broker), cluster.image.topics[TOPIC_ID]
    return await api.bring(topic, 0, Brought(IMPORT, SOURCE, at, log_start, data), 5000)


def code_of(call: Callable[[], Any]) -> int:
    with pytest.raises(ApiError) as refusal:
        call()
    return refusal.value.code


async def test_an_import_is_replicated_serves_nobody_and_then_is_a_topic_like_any_other(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3], import_id=IMPORT, first_offsets=(5,), retention_ms="1")
        assert [cluster.log(node).log_end_offset for node in (1, 2, 3)] == [5, 5, 5]
        first = stored(5, b"a", b"b", producer_id=77) + kafkas(10)
        assert await bring(cluster, 1, 5, first, 6) == (11, 6)
        assert cluster.bytes_of(1) == cluster.bytes_of(2) == cluster.bytes_of(3)
        assert [cluster.log(node).log_start_offset for node in (1, 2, 3)] == [6, 6, 6]
        for at, data in ((5, first), (10, stored(11, b"c")), (11, stored(10, b"c"))):
            with pytest.raises(ApiError) as refused:
                await bring(cluster, 1, at, data)
            assert refused.value.code == pb.ERROR_CODE_OFFSET_OUT_OF_RANGE
        await cluster.nodes[1].kill()
        cluster.fence(1)
        cluster.change(leader=2, isr=(2, 3))
        assert await bring(cluster, 2, 0) == (11, 6)  # a question: what was committed is there
        assert await bring(cluster, 2, 11, stored(20, b"d", producer_id=77, base_sequence=3), 6) == (21, 6)
        found = headers(cluster.bytes_of(2))
        assert [(h.base_offset, h.leader_epoch, h.producer_id) for h in found] == [(5, 0, 77), (10, 0, 5), (20, 1, 77)]
        assert all(h.attributes & ATTR_IMPORTED for h in found)
        broker = cluster.nodes[2].broker
        assert not broker.partitions[TOPIC_ID, 0].log.config.cleanup_policy, "nothing goes by age"
        serves = (
            lambda: broker.read(TOPIC_ID, 0, 6, 1000, min_one=True),
            lambda: broker.list_offset(TOPIC_ID, 0, -1, None),
            lambda: broker.append(TOPIC_ID, 0, batch(b"x"), acks=-1, current_leader_epoch=None, now_ms=1),
        )
        assert [code_of(call) for call in serves] == [pb.ERROR_CODE_LEADER_NOT_AVAILABLE] * 3
        opened = replace(cluster.image.topics[TOPIC_ID], import_id=b"", first_offsets=())
        cluster.image = replace(cluster.image, topics=MappingProxyType({TOPIC_ID: opened}))
        cluster.publish(changed_config_topics=frozenset({TOPIC_ID}))
        with pytest.raises(ApiError, match="is open"):
            await bring(cluster, 2, 21, stored(21, b"late"))
        # The same id, here somebody's: his first batch is no repetition of the import's, before and after a restart.
        done = await cluster.produce(2, batch(b"e", producer_id=77))
        assert (done.base_offset, done.duplicate) == (21, False)
        await cluster.nodes[1].start()
        cluster.register(1)
        await until(lambda: cluster.isr() == (1, 2, 3) and cluster.bytes_of(1) == cluster.bytes_of(2))
        for node in (1, 2):
            assert [p for p, _ in cluster.nodes[node].broker.partitions[TOPIC_ID, 0].producers.items()] == [77]
            (kept,) = dict(cluster.nodes[node].broker.partitions[TOPIC_ID, 0].producers.items()).values()
            assert [each.base_offset for each in kept.batches] == [21]


async def test_ids_that_an_import_names_are_given_to_nobody(tmp_path: Path) -> None:
    """Not even out of a block that the broker had before."""
    async with running(tmp_path, nodes=1) as cluster:
        broker: Broker = cluster.nodes[1].broker
        assert await broker.allocate_producer_id() == 1
        cluster.image = replace(cluster.image, next_producer_id=3000)
        cluster.controller.next_producer_id = 3000
        cluster.create([1], import_id=IMPORT, first_offsets=(0,))
        assert await broker.allocate_producer_id() == 3000


async def test_nothing_is_deleted_by_age_before_the_metadata_says_of_which(tmp_path: Path) -> None:
    """A node that starts and hears of no topic yet knows defaults alone (invariants.md 1, 60)."""
    async with running(tmp_path, nodes=1) as cluster:
        cluster.create([1], retention_ms="-1")
        await cluster.produce(1, batch(b"old", base_timestamp=1))
        assert await cluster.nodes[1].stop()
        await cluster.nodes[1].start()
        broker = cluster.nodes[1].broker
        assert broker.clock.look(), "it knows the time"
        broker._housekeeping._retain()
        assert cluster.log(1).log_start_offset == 0
        cluster.register(1)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (stored(0, b"a")[:-1], "ends inside"),
        (stored(0, b"a")[:-1] + b"!", "checksum"),
        (stored(5, b"a") + stored(5, b"b"), "offsets 5 to 5 come after 6"),
        (stored(0, b"a", record_count=2, last_offset_delta=1), "it has 1 records"),
        (stored(0, b"a", b"b", last_offset_delta=0), "the last at offset 1; its header says 2, the last at 0"),
        (stored(0, b"a", b"b", deltas=(1, 1), last_offset_delta=1), "has offset delta 1"),
        (stored(0, b"a", max_timestamp=999), "later than its max_timestamp"),
        (stored(0, b"a", base_timestamp=-1), "before 1970"),
        (stored(0, b"a", producer_id=IDS_END), "producer id 1001 is not below"),
        (stored(0, b"a", producer_id=-1), "producer id -1"),
        (stored(0, b"a", attributes=0x10), "of a kind that is not imported"),
        (stored(0, record_count=1, last_offset_delta=0), "it has 0 records"),
    ],
)
def test_what_is_not_what_its_header_says_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ApiError, match=why):
        imports.checked(data, SOURCE, 0, IDS_END)


def test_what_compaction_left_is_taken_and_another_topic_s_is_not() -> None:
    left = stored(0, b"a", b"b", deltas=(1, 7), last_offset_delta=9) + stored(12, last_offset_delta=4)
    assert [each.header.next_offset for each in imports.checked(left, SOURCE, 0, IDS_END)] == [10, 17]
    for source, number in ((TOPIC_ID, 0), (SOURCE, 1)):
        assert code_of(lambda s=source, n=number: imports.checked(left, s, n, IDS_END)) == pb.ERROR_CODE_CORRUPT_MESSAGE  # type: ignore[misc]


def test_a_log_that_begins_above_0_does_so_after_a_crash(tmp_path: Path) -> None:
    def opened(recovery_point: int | None = None) -> Log:
        config = topic_settings({}, {}).log
        at = {"recovery_point": recovery_point, "log_start_offset": 5}
        return Log.open(OsFileSystem(), str(tmp_path / "log"), TOPIC_ID, 0, config, now_ms=1, **at)  # type: ignore[arg-type]

    for recovery_point in (None, 0, 0, 5):
        log = opened(recovery_point)
        assert (log.log_start_offset, log.log_end_offset, log.damaged_at) == (5, 5, None)
        log.close(clean=False)

"""One partition of the offsets topic in memory: what is appended is committed when the test says so."""

import asyncio
from types import MappingProxyType, SimpleNamespace
from typing import Any

from node.broker.clock import ClusterClock
from node.broker.host import Appended, ReadResult
from node.metadata.image import Image, Partition, Topic
from ottla.internal.v1 import view_pb2
from ottla.protocol.batch import BatchHeader, crc_seed, encode_batch
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.groups.support import topic_id

ME, OTHER = 1, 2
OFFSETS_ID = b"__consumer_offse"


def image(leader: int = ME, epoch: int = 0, **counts: int) -> Image:
    """The offsets topic with one partition, and these topics."""
    made = [Topic(OFFSETS_ID, "__consumer_offsets", True, (_partition(OFFSETS_ID, 0, leader, epoch),))]
    for name, count in (counts or {"t": 4}).items():
        made.append(
            Topic(topic_id(name), name, False, tuple(_partition(topic_id(name), n, 1, 0) for n in range(count)))
        )
    return Image(
        topics=MappingProxyType({topic.topic_id: topic for topic in made}),
        names=MappingProxyType({topic.name: topic.topic_id for topic in made}),
    )


def _partition(topic: bytes, number: int, leader: int, epoch: int) -> Partition:
    return Partition(topic, number, (ME, OTHER), (), (ME, OTHER), leader=leader, leader_epoch=epoch)


class FakeBroker:
    """What `GroupShell` asks of a broker. One batch is one offset."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.high_watermark = 0
        self.epoch = 0
        self.auto_commit = True
        self.append_error: ApiError | None = None
        self.reads = 0
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.wall_skew_ms = 0
        self.alone = True
        self.clock = ClusterClock(self.wall_ms, self.clock_ms, lambda: self.alone)

    def wall_ms(self) -> int:
        return 1_000_000 + self.clock_ms() + self.wall_skew_ms

    def clock_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def partition(self, topic: bytes, number: int) -> Any:
        return SimpleNamespace(log=SimpleNamespace(log_start_offset=0, log_end_offset=len(self.batches)))

    def read(self, topic: bytes, number: int, offset: int, max_bytes: int, **terms: Any) -> ReadResult:
        self.reads += 1
        if terms["current_leader_epoch"] != self.epoch:
            raise ApiError(pb.ERROR_CODE_FENCED_LEADER_EPOCH, "another epoch")
        if not self.may_read.is_set():
            raise ApiError(pb.ERROR_CODE_LEADER_NOT_AVAILABLE, "not yet")
        data = self.batches[offset] if offset < self.high_watermark else b""
        return ReadResult(data, self.high_watermark, 0, self.epoch, offset + bool(data))

    def data_waiter(self, positions: Any, min_bytes: int, timeout_ms: int) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.005, lambda: future.done() or future.set_result(None))
        return future

    def append(self, topic: bytes, number: int, batch: view_pb2.RecordBatchView, **terms: Any) -> Appended:
        if self.append_error is not None:
            raise self.append_error
        if terms["current_leader_epoch"] != self.epoch:
            raise ApiError(pb.ERROR_CODE_FENCED_LEADER_EPOCH, "another epoch")
        offset = len(self.batches)
        header = BatchHeader(base_offset=offset, leader_epoch=self.epoch, record_count=1, last_offset_delta=0)
        self.batches.append(b"".join(encode_batch(header, crc_seed(topic, number), batch.records)))
        return Appended(topic, number, self.epoch, offset, offset + 1, -1, 0, len(self.batches[-1]), -1, False)

    def acknowledged(self, appended: Appended, timeout_ms: int) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((appended.end_offset, future))
        if self.auto_commit:
            self.commit()
        return future

    def commit(self, error: ApiError | None = None) -> None:
        """All that was appended is on every replica now - or, with an error, nobody knows."""
        if error is None:
            self.high_watermark = len(self.batches)
        for end, future in self.waiting:
            if not future.done():
                if error is not None:
                    future.set_exception(error)
                elif end <= self.high_watermark:
                    future.set_result(None)
        self.waiting = [(end, future) for end, future in self.waiting if not future.done()]

"""Produce: what may be appended, and when it counts. The order of calls is the order of the log."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from node import limits
from node.api.view import ClusterView
from node.broker.broker import Broker
from node.broker.door import Admit, Admitted, OnLoop
from node.broker.host import Appended
from node.metadata.image import NO_LEADER, Partition, Topic
from node.metrics import Metrics
from ottla.protocol.acls import WRITE
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

TIMEOUT_MS: Final = 30_000
ACKS_NONE: Final = 0
ACKS_LEADER: Final = 1
ACKS_ALL: Final = -1

Acknowledged = Callable[[Exception | None], None]
"""Hears None when the batch is as safe as was asked for; an ApiError means that the outcome is unknown."""


def check_terms(acks: int, timeout_ms: int) -> None:
    """Raises INVALID_REQUIRED_ACKS or INVALID_REQUEST."""
    if acks not in (ACKS_ALL, ACKS_NONE, ACKS_LEADER):
        raise ApiError(pb.ERROR_CODE_INVALID_REQUIRED_ACKS, f"acks {acks} is none of 0, 1 and -1")
    if timeout_ms < 0:
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"timeout_ms {timeout_ms} is negative")


def wait_ms(timeout_ms: int) -> int:
    """How long acknowledgements are waited for; 0 asks for the default."""
    return min(timeout_ms or TIMEOUT_MS, limits.WAIT_MAX_MS)


class ProduceApi:
    """Appends to what this node leads."""

    def __init__(self, broker: Broker, view: ClusterView, metrics: Metrics) -> None:
        self._broker = broker
        self._view = view
        self._metrics = metrics
        self.wall_ms = broker.wall_ms
        """The node's wall clock: records without a time get it."""
        self.settings_of = broker.settings_of
        """The configs of a topic."""
        self.copies = broker.copies
        """Who has an appended batch now."""

    def writable(self, name: str, topic_id: bytes, number: int) -> tuple[Topic, Partition]:
        """The partition, if clients may write to it. Raises as `ClusterView.partition` does, and
        INVALID_TOPIC_EXCEPTION."""
        topic, partition = self._view.partition(name, topic_id, number, WRITE)
        if topic.internal:
            raise ApiError(
                pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION, f"{topic.name} is internal: only the cluster writes to it"
            )
        return topic, partition

    def leader_of(self, topic: Topic, partition: Partition) -> int:
        """Raises LEADER_NOT_AVAILABLE."""
        if partition.leader == NO_LEADER:
            raise self._view.no_leader(topic, partition)
        return partition.leader

    def append(
        self,
        topic_id: bytes,
        number: int,
        batch: Any,
        admit: Admit,
        *,
        acks: int,
        current_leader_epoch: int | None,
        on_loop: OnLoop,
        admitted: Admitted | None = None,
    ) -> Appended:
        """As `Broker.append`."""
        appended = self._broker.append(
            topic_id,
            number,
            batch,
            admit,
            acks=acks,
            current_leader_epoch=current_leader_epoch,
            now_ms=self.wall_ms(),
            on_loop=on_loop,
            admitted=admitted,
        )
        self._metrics.produced_bytes.inc(appended.size_bytes)
        return appended

    async def admit(self, topic_id: bytes, number: int, batch: Any, admit: Admit) -> Admitted:
        """Looks at a batch that was too heavy for the loop. Raises ApiError."""
        return await self._broker.admit(topic_id, number, batch, admit, self.wall_ms())

    def log_start(self, name: str, topic_id: bytes, number: int) -> int:
        """Where the log of a partition of that name, or that id, starts; -1 where it is not here."""
        topic = self._view.image.topic(topic_id) if topic_id else self._view.image.topic_named(name)
        partition = None if topic is None else self._broker.partition(topic.topic_id, number)
        return -1 if partition is None else partition.log.log_start_offset

    def when_acknowledged(self, appended: Appended, timeout_ms: int, done: Acknowledged) -> None:
        """Calls `done` once: at once where that can be told."""
        if appended.acks != ACKS_ALL:
            done(None)
            return
        waiting = self._broker.acknowledged(appended, timeout_ms)
        if waiting.done():
            self._acknowledged(done, waiting)
        else:
            waiting.add_done_callback(partial(self._acknowledged, done))

    def _acknowledged(self, done: Acknowledged, waiting: asyncio.Future[None]) -> None:
        if waiting.cancelled():
            done(ApiError(pb.ERROR_CODE_NETWORK_EXCEPTION, f"node {self._view.node_id} is stopping"))
            return
        error = waiting.exception()
        assert error is None or isinstance(error, Exception)
        done(error)

"""ISR changes on their way to the controller: many partitions per AlterPartition, one at a time (KIP-497)."""

import asyncio
import random
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from node.broker.partition import Partition
from node.broker.replica import IsrChange, Refusal
from ottla.internal.v1 import controller_pb2 as messages
from ottla.protocol.errors import ApiError, name_of
from ottla.v1 import error_pb2 as pb

log = structlog.get_logger(__name__)

BACKOFF_MS: Final = 20
BACKOFF_MAX_MS: Final = 1000
PARTITIONS_MAX: Final = 2000


class Controller(Protocol):
    """What is needed of the controller. Raises ApiError."""

    async def alter_partition(self, request: messages.AlterPartitionRequest) -> messages.AlterPartitionResponse: ...


class IsrSender:
    """Carries changes to the controller until each is answered or overtaken."""

    def __init__(self, node_id: int, broker_epoch: Callable[[], int | None], controller: Controller) -> None:
        self._node_id = node_id
        self._broker_epoch = broker_epoch
        self._controller = controller
        self._waiting: dict[Partition, IsrChange] = {}
        self._wake = asyncio.Event()

    def submit(self, partition: Partition, change: IsrChange) -> None:
        """A newer change of a partition replaces the one before, which was overtaken then."""
        self._waiting[partition] = change
        self._wake.set()

    async def run(self) -> None:
        """Ends only by cancellation."""
        backoff_ms = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            retry = await self._send()
            if retry:
                backoff_ms = min(2 * backoff_ms or BACKOFF_MS, BACKOFF_MAX_MS)
                await asyncio.sleep(backoff_ms * random.uniform(0.5, 1) / 1000)
                for partition, change in retry.items():
                    self._waiting.setdefault(partition, change)
            else:
                backoff_ms = 0
            if self._waiting:
                self._wake.set()

    async def _send(self) -> dict[Partition, IsrChange]:
        """One request for what is waiting; returns what must be sent again."""
        broker_epoch = self._broker_epoch()
        batch: dict[tuple[bytes, int], tuple[Partition, IsrChange]] = {}
        for partition, change in list(self._waiting.items())[:PARTITIONS_MAX]:
            del self._waiting[partition]
            if partition.leader is not None and partition.leader.pending is change:
                batch[partition.topic_id, partition.number] = (partition, change)
        if not batch:
            return {}
        if broker_epoch is None:
            return dict(batch.values())
        request = messages.AlterPartitionRequest(
            node_id=self._node_id,
            broker_epoch=broker_epoch,
            partitions=[_item(topic_id, number, change) for (topic_id, number), (_, change) in batch.items()],
        )
        try:
            response = await self._controller.alter_partition(request)
        except ApiError as error:
            log.warning("alter_partition_failed", partitions=len(batch), error=str(error))
            return dict(batch.values())
        retry: dict[Partition, IsrChange] = {}
        for result in response.partitions:
            partition_and_change = batch.pop((result.topic_id, result.partition), None)
            if partition_and_change is not None and self._retry(*partition_and_change, result):
                retry[partition_and_change[0]] = partition_and_change[1]
        return retry | dict(batch.values())

    def _retry(self, partition: Partition, change: IsrChange, result: messages.AlterPartitionResult) -> bool:
        code = result.error.code
        if code == pb.ERROR_CODE_NONE:
            partition.isr_altered(change, list(result.isr), result.leader_epoch, result.partition_epoch)
            return False
        refusal = partition.isr_refused(change, code)
        log.info(
            "isr_change_refused",
            partition=partition.name,
            code=name_of(code),
            message=result.error.message,
            then=refusal.name,
        )
        return refusal is Refusal.RETRY


def _item(topic_id: bytes, number: int, change: IsrChange) -> messages.AlterPartition:
    return messages.AlterPartition(
        topic_id=topic_id,
        partition=number,
        leader_epoch=change.leader_epoch,
        partition_epoch=change.partition_epoch,
        isr=[messages.IsrMember(node_id=node_id, broker_epoch=epoch) for node_id, epoch in change.members],
        recovered=change.recovered,
        reason=change.reason,
    )

"""Rules judged where they are applied: what is decided there may do no harm that anybody sees, for another rule stands
behind it, or because the harm needs one more fault within milliseconds.

`places` are what a run puts in place of the real functions: each calls the real one and looks at what came of it.
"""

from collections import Counter
from typing import Any, Final

from node.broker.fetcher import Fetcher
from node.broker.partition import Partition
from node.controller.state import heal, partitions
from ottla.client.producer_state import ProducerState
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.sim.cluster_loop import Violation
from tests.sim.cluster_moves import HEAL_AFTER_MS

_SEQUENCES: Final = (pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER, pb.ERROR_CODE_DUPLICATE_SEQUENCE_NUMBER)


def places(counts: Counter[str]) -> list[tuple[Any, str, Any]]:
    return [
        (partitions, "_check", _isr_change(counts)),
        (Fetcher, "_take", _answer()),
        (Partition, "follower_fetched", _position()),
        (Partition, "_leave_epoch", _end_of_leadership()),
        (Partition, "append", _sequence_refused(counts)),
        (ProducerState, "_mark_sent", _order()),
        (heal, "heal", _healing(counts)),
    ]


def producers_known(node: str, label: str, entries: list[Any], partition: Any, gap: int) -> None:
    """21: what a replica remembers of producers is what its log has, after a start and after a cut, too, and nothing
    from before a gap: it would not be the last."""
    known, log = partition.producers._producers, partition.log
    last = {entry.producer_id: entry for entry in entries if entry.producer_id}
    for producer_id, entry in last.items():
        producer = known.get(producer_id)
        if producer is None or (producer.epoch, producer.batches[-1].base_offset) != (entry.producer_epoch, entry.base):
            raise Violation(f"21: {node} has {entry} as the last of its producer in {label}, and remembers {producer}")
    for producer_id, producer in known.items():
        if producer.batches[0].base_offset < gap:
            raise Violation(f"21: {node} {label} began again at {gap}; of {producer_id} it remembers {producer}")
        if producer.batches[-1].last_offset >= log.log_end_offset:
            raise Violation(
                f"21: {node} {label} ends at {log.log_end_offset}; of {producer_id} it remembers {producer}"
            )


def _healing(counts: Counter[str]) -> Any:
    real = heal.heal

    def look(draft: Any) -> None:
        """40: only what is gone for long is rebuilt, and nobody else's plan is touched."""
        before, own, first = draft.view, dict(draft.soft.heals), len(draft.records)
        moves = {(t.topic_id, p.partition): p for t in before.all_topics() for p in t.partitions}
        real(draft)
        for record in draft.records[first:]:
            change = record.partition_change
            if not change.HasField("target_replicas"):
                continue
            was = moves[change.topic_id, change.partition]
            called_off = change.cause.startswith("what was gone is in sync again")
            counts["heals called off" if called_off else "heals begun"] += 1
            if was.target and (change.topic_id, change.partition) not in own:
                raise Violation(f"40: {change} replaces a plan that is none of the healing's: {was}")
            lost = set() if called_off else set(was.original) - set(change.target_replicas.ids)
            back = [n for n in lost if not draft.view.brokers[n].fenced and n in was.isr]
            early = [
                n
                for n in lost
                if not was.target and draft.now_ms - draft.soft.gone_since_ms.get(n, 2**62) < HEAL_AFTER_MS
            ]
            if back or early:
                raise Violation(f"40: {back} are there and {early} not gone for long: {change}")

    return look


def _isr_change(counts: Counter[str]) -> Any:
    real = partitions._check

    def check(draft: Any, sender: int, wish: Any) -> Any:
        """16: an ISR change counts in the epochs in which it was made, and each member as what it was then."""
        try:
            partition = real(draft, sender, wish)
        except ApiError as error:
            counts[
                f"rare: ISR changes refused ({pb.ErrorCode.Name(error.code).removeprefix('ERROR_CODE_').lower()})"
            ] += 1
            raise
        if (wish.leader_epoch, wish.partition_epoch) != (partition.leader_epoch, partition.partition_epoch):
            raise Violation(f"16: an ISR change of other epochs is made: {wish} for {partition}")
        for member in wish.isr:
            known = draft.view.brokers[member.node_id].broker_epoch
            if known != member.broker_epoch:
                raise Violation(f"16: {member.node_id} is taken in as of start {member.broker_epoch}, it is in {known}")
        return partition

    return check


def _answer() -> Any:
    real = Fetcher._take

    def take(self: Fetcher, result: Any, batches: Any) -> None:
        """14: an answer changes a log only in the leader epoch in which it was asked for."""
        followed = self._followed.get((result.topic_id, result.partition))
        partition = None if followed is None else followed.partition
        before = None if partition is None else _held(partition)
        real(self, result, batches)
        if partition is None or partition.follower is None or result.HasField("error") or _held(partition) == before:
            return
        epoch = partition.follower.leader_epoch
        if result.leader_epoch != epoch:
            raise Violation(f"14: {partition.name} took an answer of leader epoch {result.leader_epoch} in {epoch}")

    return take


def _held(partition: Partition) -> tuple[Any, ...]:
    log = partition.log
    return log.log_start_offset, log.log_end_offset, partition.high_watermark, log.refetching


def _position() -> Any:
    real = Partition.follower_fetched

    def follower_fetched(self: Partition, node_id: int, wanted: Any, broker_epoch: int | None) -> Any:
        """14, 16: a position counts in the follower's present start, and where its last epoch is the leader's, too."""
        diverging = real(self, node_id, wanted, broker_epoch)
        if broker_epoch is None or diverging is not None:
            return diverging
        known = self._host.image.brokers.get(node_id)  # type: ignore[attr-defined]
        if known is None or known.broker_epoch != broker_epoch:
            raise Violation(f"16: {self.name} counts {node_id} in start {broker_epoch}: {known}")
        offset, epoch = wanted.fetch_offset, wanted.last_fetched_epoch
        own = self.log.epochs.epoch_at(offset - 1)
        if epoch >= 0 and offset > self.log.log_start_offset and own != epoch:
            raise Violation(f"14: {self.name}: {node_id} counts up to {offset} in epoch {epoch}, which here is {own}")
        return None

    return follower_fetched


def _end_of_leadership() -> Any:
    real = Partition._leave_epoch

    def leave_epoch(self: Partition, state: Any) -> None:
        """17: what was written in one epoch is never acknowledged in another: it may be gone in between."""
        real(self, state)
        if self.acks:
            raise Violation(f"17: {len(self.acks)} producers wait for {self.name} of an epoch before {state}")

    return leave_epoch


def _sequence_refused(counts: Counter[str]) -> Any:
    real = Partition.append

    def append(self: Partition, *args: Any, current_leader_epoch: int | None, **kwargs: Any) -> Any:
        """21: only the leader in the epoch that a producer believes in may refuse a sequence: others know less."""
        try:
            return real(self, *args, current_leader_epoch=current_leader_epoch, **kwargs)
        except ApiError as error:
            if error.code in _SEQUENCES:
                counts["rare: sequences refused"] += 1
                if current_leader_epoch is None:
                    raise Violation(f"21: {self.name} refuses who named no leader epoch: {error}") from error
            raise

    return append


def _order() -> Any:
    real = ProducerState._mark_sent

    def mark_sent(self: ProducerState, queue: Any, batch: Any, lowest: bool, now_ms: int) -> Any:
        """22: a producer's batches leave in the order of their sequences."""
        for other in queue.in_flight:
            if other is batch:
                break
            if not other.is_sent:
                raise Violation(f"22: a batch with sequence {batch.sequence} overtakes {other.sequence}, which waits")
        return real(self, queue, batch, lowest, now_ms)

    return mark_sent

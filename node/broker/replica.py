"""The rules of one replica, leader or follower, without I/O: ISR, high watermark, epochs, truncation.

Log ends, fetch positions, metadata and `now_ms` come in as plain values; decisions go out as plain values. The rules
are those of KIP-101 and KIP-279 (truncate by epoch), KIP-497 (ISR through the controller), KIP-841 and KIP-903 (broker
epochs), KIP-207 (a new leader withholds its high watermark); invariants.md 2.3 lists what happens without each.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from node.metadata.image import Partition as PartitionState
from ottla.protocol.configs import enough_in_sync
from ottla.v1 import error_pb2 as pb

RETRY_MS: Final = 1000
"""When an ISR change that was due and could not be proposed, or was refused, is looked at again."""
_SAMPLES: Final = 8
"""How finely it is known since when a follower is behind: this part of the lag time."""


@dataclass(frozen=True, slots=True)
class IsrChange:
    """One AlterPartition: the ISR wanted, each member with the broker epoch it fetched with (KIP-903)."""

    leader_epoch: int
    partition_epoch: int
    members: tuple[tuple[int, int], ...]
    recovered: bool
    reason: str = field(default="", compare=False)
    """What the leader saw, for people."""

    @property
    def nodes(self) -> frozenset[int]:
        return frozenset(node_id for node_id, _ in self.members)


class Refusal(Enum):
    """What to do after the controller did not make an ISR change."""

    RETRY = "the outcome is unknown: ask the same again"
    REVERTED = "certainly not made: back to the committed ISR, propose anew when it is due"
    AWAIT_METADATA = "overtaken: newer metadata is on its way and decides"


_REFUSALS: Mapping[int, Refusal] = {
    pb.ERROR_CODE_INELIGIBLE_REPLICA: Refusal.REVERTED,
    pb.ERROR_CODE_INVALID_REQUEST: Refusal.REVERTED,
    pb.ERROR_CODE_FENCED_LEADER_EPOCH: Refusal.AWAIT_METADATA,
    pb.ERROR_CODE_INVALID_UPDATE_VERSION: Refusal.AWAIT_METADATA,
    pb.ERROR_CODE_NEW_LEADER_ELECTED: Refusal.AWAIT_METADATA,
    pb.ERROR_CODE_UNKNOWN_TOPIC_ID: Refusal.AWAIT_METADATA,
    pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION: Refusal.AWAIT_METADATA,
}


@dataclass(slots=True)
class Progress:
    """What a leader knows of one follower in its epoch. None = it has not fetched yet (never a number, KAFKA-3978)."""

    caught_up_ms: int
    broker_epoch: int | None = None
    fetch_offset: int | None = None
    synced_end: int | None = None
    ahead: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=2 * _SAMPLES))
    """What it did not have when it fetched: (the leader's log end, when), from the oldest on."""


class LeaderReplica:
    """A leader in one leader epoch.

    `brokers` maps node id -> broker epoch of the brokers that may be in an ISR: registered, unfenced, not stopping.
    Under `flush_ack` only what is synced counts for the high watermark, the leader's own copy included.
    """

    isr: frozenset[int]
    maximal_isr: frozenset[int]
    partition_epoch: int
    pending: IsrChange | None
    recovering: bool
    replicas: tuple[int, ...]
    effective_min_isr: int
    """`min.insync.replicas`, but never more than there are replicas, those that a move adds not counted."""

    __slots__ = (
        "_factor",
        "_followers",
        "_retry_ms",
        "brokers",
        "effective_min_isr",
        "epoch_start",
        "flush_ack",
        "full",
        "high_watermark",
        "isr",
        "lag_time_max_ms",
        "leader_epoch",
        "log_end",
        "maximal_isr",
        "min_isr",
        "node_id",
        "partition_epoch",
        "pending",
        "recovering",
        "replicas",
        "synced_end",
    )

    def __init__(
        self,
        node_id: int,
        state: PartitionState,
        *,
        log_end: int,
        synced_end: int,
        high_watermark: int,
        min_isr: int | None,
        flush_ack: bool,
        lag_time_max_ms: int,
        brokers: Mapping[int, int],
        now_ms: int,
    ) -> None:
        self.node_id = node_id
        self.leader_epoch = state.leader_epoch
        self.epoch_start = log_end
        self.log_end = log_end
        self.synced_end = synced_end
        self.high_watermark = min(high_watermark, log_end)
        self.min_isr = min_isr
        self.flush_ack = flush_ack
        self.lag_time_max_ms = lag_time_max_ms
        self.brokers = brokers
        self._followers: dict[int, Progress] = {}
        self._retry_ms: int | None = None
        self.full: frozenset[int] = frozenset()
        self.isr = frozenset()
        self._take(state, now_ms)
        self._advance(now_ms)

    # --- what is known

    @property
    def enough_in_sync(self) -> bool:
        return len(self.isr) >= self.effective_min_isr

    @property
    def high_watermark_known(self) -> bool:
        """False until everything from before this epoch is known to be committed: till then clients of the old leader
        may have seen a higher mark, so this one must not be shown (KIP-207)."""
        return self.high_watermark >= self.epoch_start

    def copies(self, end_offset: int) -> tuple[int, int]:
        """(in-sync replicas that hold everything before `end_offset`, those that have synced it). Never overstates."""
        held = synced = 0
        for node_id in self.isr:
            if node_id == self.node_id:
                held += self.log_end >= end_offset
                synced += self.synced_end >= end_offset
            elif (progress := self._followers.get(node_id)) is not None:
                held += progress.fetch_offset is not None and progress.fetch_offset >= end_offset
                synced += progress.synced_end is not None and progress.synced_end >= end_offset
        return held, synced

    def progress(self, node_id: int) -> Progress | None:
        return self._followers.get(node_id)

    def deadline_ms(self, now_ms: int) -> int | None:
        """When time alone changes something, at the earliest: a member is late, the mark no longer waits for a follower
        that kept pace, a refused change is due again. Whoever drives this calls `recheck` and proposes anew then; until
        then, and with None for ever, nothing changes without an event."""
        due = [] if self._retry_ms is None else [self._retry_ms]
        for node_id, progress in self._followers.items():
            if node_id in self.isr:
                if self.pending is None and self._end(progress) != self.log_end:
                    late_ms = progress.caught_up_ms + self.lag_time_max_ms + 1
                    due.append(late_ms if late_ms > now_ms else now_ms + RETRY_MS)
            elif self._joins_soon(node_id, progress, now_ms):
                due.append(progress.caught_up_ms + self.lag_time_max_ms + 1)
        return min(due, default=None)

    # --- events; each answers whether the high watermark moved

    def appended(self, log_end: int, now_ms: int) -> bool:
        """The own log grew. A follower that had everything up to now was caught up until this moment."""
        before, self.log_end = self.log_end, log_end
        flush_ack = self.flush_ack
        for progress in self._followers.values():  # in line: see _end
            if (progress.synced_end if flush_ack else progress.fetch_offset) == before:
                progress.caught_up_ms = now_ms
        return self._advance(now_ms)

    def synced(self, synced_end: int, now_ms: int) -> bool:
        """The own log is durable up to `synced_end`."""
        self.synced_end = synced_end
        return self.flush_ack and self._advance(now_ms)

    def fetched(self, node_id: int, broker_epoch: int, fetch_offset: int, synced_end: int, now_ms: int) -> bool:
        """A follower holds everything before `fetch_offset`. The caller has checked leader epoch and divergence: an
        answer that says "diverged" must not count (KAFKA-13141), nor a broker epoch that metadata does not have."""
        progress = self._followers.get(node_id)
        if progress is None or fetch_offset > self.log_end:
            return False
        progress.broker_epoch = broker_epoch
        progress.fetch_offset = fetch_offset
        progress.synced_end = synced_end if synced_end < fetch_offset else fetch_offset
        end = progress.synced_end if self.flush_ack else fetch_offset
        if end >= self.log_end:
            progress.caught_up_ms = now_ms
            progress.ahead.clear()
        else:
            self._note_pace(progress, end, now_ms)
        return self._advance(now_ms)

    def metadata(self, state: PartitionState, now_ms: int) -> bool:
        """The partition's committed state, in the same leader epoch. An older one than known changes nothing.

        Replicas come from here alone: the answer to an ISR change that ended a move is a refusal (see the controller's
        `alter_partition`), so that a known partition epoch is always that of the known replicas.
        """
        if state.leader_epoch != self.leader_epoch or state.partition_epoch <= self.partition_epoch:
            return False
        self._take(state, now_ms)
        return self._advance(now_ms)

    def reconfigured(
        self, *, min_isr: int | None, flush_ack: bool, brokers: Mapping[int, int], lag_time_max_ms: int, now_ms: int
    ) -> bool:
        """Configs or brokers changed. A change of the flush mode never lowers the high watermark."""
        self.min_isr = min_isr
        self.effective_min_isr = enough_in_sync(min_isr, self._factor)
        self.flush_ack = flush_ack
        self.brokers = brokers
        self.lag_time_max_ms = lag_time_max_ms
        return self._advance(now_ms)

    def disks_full(self, nodes: frozenset[int], now_ms: int) -> bool:
        """Whose disks have no room for producers. The controller takes them out of the ISR where enough are left; who
        is out does not come back before it has room, so nothing waits for it."""
        self.full = nodes
        return self._advance(now_ms)

    @property
    def without_room(self) -> frozenset[int]:
        """Members on full disks where no producer may write: this node itself, or so many that min ISR is not left."""
        full = self.full & self.isr
        refuses = self.node_id in full or len(self.isr) - len(full) < self.effective_min_isr
        return full if refuses else frozenset()

    # --- ISR changes; at most one in flight

    def propose_expand(self, node_id: int) -> IsrChange | None:
        """The change that takes a follower in, if it has caught up: to the high watermark and to the start of this
        epoch (KAFKA-7128). Under `flush_ack` its synced end must have: a member may lose power and keep its place."""
        progress = self._followers.get(node_id)
        if node_id in self.maximal_isr or self.pending is not None or progress is None or node_id in self.full:
            return None
        end = progress.synced_end if self.flush_ack else progress.fetch_offset
        if end is None or end < self.high_watermark or end < self.epoch_start:
            return None
        if progress.broker_epoch != self.brokers.get(node_id):
            return None
        return self._propose(self.isr | {node_id})

    def propose_join(self, waiting: Iterable[int], now_ms: int) -> IsrChange | None:
        """The change that takes in the first of `waiting` that has caught up and has not fallen behind since. These are
        the followers whose stream is open: what another one had is no sign that it is there."""
        for node_id in sorted(waiting):
            if not self._is_late(node_id, now_ms) and (change := self.propose_expand(node_id)) is not None:
                return change
        return None

    def propose_shrink(self, now_ms: int) -> IsrChange | None:
        """The change that lets go of members that were behind for the whole `replica.lag.time.max.ms`."""
        if self.pending is not None:
            return None
        late = {node_id for node_id in self.isr if node_id != self.node_id and self._is_late(node_id, now_ms)}
        if not late:
            return None
        return self._propose(self.isr - late, "; ".join(self._lateness(node_id, now_ms) for node_id in sorted(late)))

    def propose_recovered(self) -> IsrChange | None:
        """After an unclean election: tells the controller that this leader's log is the partition's log now."""
        return self._propose(self.isr) if self.recovering and self.pending is None else None

    def altered(
        self, change: IsrChange, isr: Iterable[int], leader_epoch: int, partition_epoch: int, now_ms: int
    ) -> bool:
        """The controller answered `change` with the committed state ("nothing to change" has the same partition
        epoch). Answers whether the high watermark moved. A late answer to another change is ignored."""
        if self.pending is not change or leader_epoch != self.leader_epoch or partition_epoch < self.partition_epoch:
            return False
        self.partition_epoch = partition_epoch
        self.recovering = False
        self._set_isr(frozenset(isr), now_ms)
        return self._advance(now_ms)

    def refused(self, change: IsrChange, code: int, now_ms: int) -> Refusal:
        """The controller refused, or nobody answered (any code that is not known to be final). After REVERTED the high
        watermark no longer waits for who was to join: call `recheck`."""
        if self.pending is not change:
            return Refusal.AWAIT_METADATA
        refusal = _REFUSALS.get(code, Refusal.RETRY)
        if refusal is Refusal.REVERTED:
            self._set_isr(self.isr, now_ms)
            self._retry_ms = now_ms + RETRY_MS
        return refusal

    def recheck(self, now_ms: int) -> bool:
        """Looks again at the high watermark when nothing was fetched or appended. True if it moved."""
        if self._retry_ms is not None and self._retry_ms <= now_ms:
            self._retry_ms = None
        return self._advance(now_ms)

    # --- inside

    def _take(self, state: PartitionState, now_ms: int) -> None:
        self.replicas = state.replicas
        self._factor = state.replication_factor
        self.effective_min_isr = enough_in_sync(self.min_isr, self._factor)
        self.partition_epoch = state.partition_epoch
        self.recovering = state.recovering
        for gone in self._followers.keys() - set(state.replicas):
            del self._followers[gone]
        for node_id in state.replicas:
            if node_id != self.node_id and node_id not in self._followers:
                # Members start with a full lag time; the others have yet to show that they are caught up.
                grace = now_ms if node_id in state.isr else now_ms - self.lag_time_max_ms - 1
                self._followers[node_id] = Progress(caught_up_ms=grace)
        self._set_isr(frozenset(state.isr), now_ms)

    def _set_isr(self, isr: frozenset[int], now_ms: int) -> None:
        for node_id in self.isr - isr:
            if (gone := self._followers.get(node_id)) is not None:
                # Nothing waits for it before it has shown again that it keeps pace: what put it out need not be known.
                gone.caught_up_ms = min(gone.caught_up_ms, now_ms - self.lag_time_max_ms - 1)
                gone.ahead.clear()
        self.isr = isr
        self.maximal_isr = isr
        self.pending = None

    def _lateness(self, node_id: int, now_ms: int) -> str:
        progress = self._followers[node_id]
        end = self._end(progress)
        if end is None:
            return f"node {node_id} has not fetched for {now_ms - progress.caught_up_ms} ms"
        behind = f"{self.log_end - end} records behind"
        return f"node {node_id} was not caught up for {now_ms - progress.caught_up_ms} ms, and is {behind}"

    def _propose(self, nodes: frozenset[int], reason: str = "") -> IsrChange | None:
        members = []
        for node_id in sorted(nodes):
            epoch = self.brokers.get(node_id)
            if epoch is None:
                return None  # fenced or stopping: the controller would refuse, and is about to change the ISR itself
            members.append((node_id, epoch))
        self.pending = IsrChange(self.leader_epoch, self.partition_epoch, tuple(members), self.recovering, reason)
        # Growth may be committed before we hear of it, a shrink only counts when it is: the union covers both.
        self.maximal_isr = self.isr | nodes
        return self.pending

    def _end(self, progress: Progress) -> int | None:
        """Up to where a follower counts: under `flush_ack` what it wrote and has not synced does not. What runs for
        each batch has this in line."""
        return progress.synced_end if self.flush_ack else progress.fetch_offset

    def _note_pace(self, progress: Progress, end: int, now_ms: int) -> None:
        """It was caught up when the leader had no more than it has now. A follower that is always a sync or a fetch
        behind never has all that there is, so what there was is remembered for a while."""
        ahead = progress.ahead
        while ahead and ahead[0][0] <= end:
            progress.caught_up_ms = max(progress.caught_up_ms, ahead.popleft()[1])
        if not ahead or now_ms - ahead[-1][1] >= self.lag_time_max_ms // _SAMPLES:
            ahead.append((self.log_end, now_ms))

    def _is_late(self, node_id: int, now_ms: int) -> bool:
        progress = self._followers.get(node_id)
        if progress is None:
            return False
        return self._end(progress) != self.log_end and now_ms - progress.caught_up_ms > self.lag_time_max_ms

    def _joins_soon(self, node_id: int, progress: Progress, now_ms: int) -> bool:
        """Outside of the ISR but keeping pace: waiting for it lets it reach the high watermark under constant load."""
        return (
            progress.fetch_offset is not None
            and node_id not in self.full
            and progress.broker_epoch == self.brokers.get(node_id)
            and now_ms - progress.caught_up_ms <= self.lag_time_max_ms
        )

    def _advance(self, now_ms: int) -> bool:
        if len(self.isr) < self.effective_min_isr:
            return False
        flush_ack = self.flush_ack
        mark = self.synced_end if flush_ack else self.log_end
        if mark <= self.high_watermark:
            return False
        for node_id, progress in self._followers.items():  # in line: see _end
            end = progress.synced_end if flush_ack else progress.fetch_offset
            if end is not None and end >= mark:
                continue
            if node_id in self.maximal_isr or self._joins_soon(node_id, progress, now_ms):
                if end is None or end <= self.high_watermark:
                    return False
                mark = end
        self.high_watermark = mark
        return True


class FollowerReplica:
    """A follower: the high watermark it may believe. Its log is truncated by diverging epochs, never by this mark."""

    __slots__ = ("high_watermark", "leader", "leader_epoch", "partition_epoch")

    def __init__(self, state: PartitionState, *, log_end: int, high_watermark: int) -> None:
        self.leader = state.leader
        self.leader_epoch = state.leader_epoch
        self.partition_epoch = state.partition_epoch
        self.high_watermark = min(high_watermark, log_end)

    def observed(self, leader_high_watermark: int, log_end: int) -> bool:
        """The leader's mark, as far as the own log reaches. True if it moved; it never goes back by hearsay."""
        mark = min(leader_high_watermark, log_end)
        if mark <= self.high_watermark:
            return False
        self.high_watermark = mark
        return True

    def truncated(self, log_end: int) -> bool:
        """The log was cut first (KAFKA-14704), now the mark. True = committed data went, possible only after an
        unclean election: the caller raises the alarm."""
        if log_end >= self.high_watermark:
            return False
        self.high_watermark = log_end
        return True


def divergence(
    last_fetched_epoch: int,
    fetch_offset: int,
    epoch_end: tuple[int, int] | None,
    log_start: int,
) -> tuple[int, int] | None:
    """Where a reader's log leaves ours, or None if its position fits (KIP-279, KIP-595).

    `epoch_end` is our largest epoch at or below `last_fetched_epoch` and where it ends, None if all of ours are larger:
    then nothing of what the reader has before our log start can be compared, and nothing after it is ours.
    """
    if last_fetched_epoch < 0:
        return None
    if epoch_end is None:
        return (last_fetched_epoch, log_start) if fetch_offset > log_start else None
    epoch, end = epoch_end
    return (epoch, end) if epoch < last_fetched_epoch or end < fetch_offset else None


def truncation_offset(diverging: tuple[int, int], own_epoch_end: tuple[int, int] | None, log_start: int) -> int:
    """Where a follower cuts after a diverging answer (epoch, end): the end of the largest common epoch.

    `own_epoch_end` is the follower's largest epoch at or below the leader's, and where it ends. If that epoch is
    smaller, the follower cuts to its end and asks again with it: the search goes on (KAFKA-6361). A result at or below
    `log_start` means that nothing here is the leader's: start again from there.
    """
    epoch, end = diverging
    if own_epoch_end is None:
        return min(end, log_start)
    own_epoch, own_end = own_epoch_end
    return min(end, own_end) if own_epoch == epoch else own_end

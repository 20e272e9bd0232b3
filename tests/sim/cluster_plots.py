"""Faults that need each other, within one leadership: what chance puts together in one run of thousands."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from node.metadata.image import NO_LEADER
from storage.durable import read_durable
from tests.sim.cluster_node import DIRECTORY, is_there

if TYPE_CHECKING:
    from tests.sim.cluster_faults import Faults

PLOTS: Final = ("cut who joins", "leaders in turn", "metadata overtakes", "restart who joins", "log lost while down")
GIVE_UP_MS: Final = 3000.0
SLOW_MS: Final = 250.0
"""Each way; with two heartbeats in between less than a broker's session."""


class Plots:
    """What `Faults` makes of these kinds. One at a time; each ends by itself."""

    def __init__(self, faults: "Faults") -> None:
        self._faults = faults
        self._sim = faults.sim
        self._busy_until_ms = 0.0

    # --- a member that joins

    def cut_who_joins(self) -> bool:
        """While a follower is on its way into the ISR, the leader no longer hears of it, and the controller is gone for
        longer than the leader waits for who keeps pace. The next controller makes the change."""
        state = self._begin()
        if state is None:
            return False
        follower = self._faults.rng.choice([n for n in state.replicas if n != state.leader])
        self._faults.crash(self._sim.nodes[follower], down_ms=20)
        self._when(lambda: self._joining(follower), lambda leader: self._cut_joining(leader, follower), every_ms=0.5)
        return True

    def _joining(self, follower: int) -> int | None:
        """Who has asked for `follower` to be in the ISR of a partition, and waits for the answer."""
        for node in self._sim.nodes.values():
            for key, partition in node.partitions.items():
                leader = partition.leader
                change = None if leader is None or key not in self._sim.invariants.truths else leader.pending
                if change is not None and follower in change.nodes - leader.isr and leader.log_end:
                    return node.node_id
        return None

    def _cut_joining(self, leader: int, follower: int) -> None:
        a, b = f"n{leader}", f"n{follower}"
        self._faults.cut([(a, b), (b, a)], 1600)
        self._sim.log.depose("a member joins", (900, 1200))

    def restart_who_joins(self) -> bool:
        """A leader has asked for a follower and hears nobody; another controller comes, and the follower starts anew
        and is unfenced before the leader asks again."""
        state = self._begin()
        if state is None:
            return False
        follower = self._faults.rng.choice([n for n in state.replicas if n != state.leader])
        self._end(follower)
        self._when(
            lambda: self._joining(follower), lambda leader: self._restart_joining(leader, follower), every_ms=0.5
        )
        return True

    def _restart_joining(self, leader: int, follower: int) -> None:
        for other in self._sim.nodes:
            if other != leader:
                self._cut_between(leader, other, 650)
        self._sim.log.depose("a member joins", (100, 150))
        self._end(follower)

    def metadata_overtakes(self) -> bool:
        """What a leader hears of its followers and asks of the controller takes longer than the metadata: a follower
        restarts, and when its way into the ISR is under way it does so again, or another one does."""
        state = self._begin()
        if state is None or state.leader == self._sim.log.leader:
            return False
        leader, slow_ms = f"n{state.leader}", self._sim.net.slow_ms
        slow_ms[leader] = SLOW_MS
        self._sim.world.scheduler.after(GIVE_UP_MS, slow_ms.pop, leader, None)
        others = [n for n in state.replicas if n != state.leader]
        first, second = self._faults.rng.choice(others), self._faults.rng.choice(others)
        self._end(first)
        self._when(lambda: self._joining(first), lambda _: self._end(second))
        return True

    # --- three logs that part

    def leaders_in_turn(self) -> bool:
        """An epoch that one replica never hears of, in which two others write; then that one leads, alone; then the
        second of the two. Afterwards the one in the middle has an epoch that nobody has, and lacks one."""
        state = self._begin()
        if state is None:
            return False
        # What is on its way is written before the epoch begins.
        self._sim.workload.paused_until_ms = self._sim.world.now_ms + 1700
        self._after(400, self._end, state.leader)
        self._after(1600, self._second_leader, state.topic_id, state.partition)
        return True

    def _end(self, node_id: int) -> None:
        self._faults.crash(self._sim.nodes[node_id], down_ms=20)

    def _second_leader(self, topic_id: bytes, number: int) -> None:
        state = self._sim.log.image.partition(topic_id, number)
        if state is None or state.leader == NO_LEADER or len(state.isr) < 3 or len(state.replicas) != 3:
            return
        middle, last = (n for n in state.replicas if n != state.leader)
        self._cut_between(state.leader, middle, 900)
        self._after(400, self._end_second, state, middle, last)

    def _end_second(self, state: Any, middle: int, last: int) -> None:
        self._cut_between(middle, last, 900)
        self._faults.crash(self._sim.nodes[state.leader], down_ms=1500)
        self._when(lambda: self._leads(state, middle), lambda _: self._after(120, self._end, middle))

    def _leads(self, state: Any, node_id: int) -> int | None:
        partition = self._sim.nodes[node_id].partitions.get((state.topic_id, state.partition))
        return node_id if partition is not None and partition.leader is not None else None

    # --- a log that goes unseen

    def log_lost_while_down(self) -> bool:
        """All replicas of a partition die at once, so that all are eligible; of one somebody deletes the log before it
        starts, and it starts first or last."""
        victim, state = self._faults.damageable(), self._begin()
        if state is None or victim.node_id not in state.replicas or not all(self._up(n) for n in state.replicas):
            return False
        name = f"{state.topic_id.hex()}-{state.partition}"
        directory = f"{DIRECTORY}/{name}"
        down_ms = self._faults.rng.choice((200, 1500))
        for node_id in state.replicas:
            self._faults.crash(self._sim.nodes[node_id], down_ms=down_ms if node_id == victim.node_id else 700)
        if name in (read_durable(victim.disk, f"{DIRECTORY}/checkpoint") or {}) and is_there(victim, directory):
            self._sim.invariants.log_deleted(victim, (state.topic_id, state.partition))
            self._sim.world.note(f"{directory} of {victim.name} is deleted")
            victim.disk.remove(directory)
        return True

    def _up(self, node_id: int) -> bool:
        node = self._sim.nodes[node_id]
        return node.up and node.plane is not None

    # --- inside

    def _begin(self) -> Any:
        """A partition of `s` with all its replicas in sync, if no plot is under way."""
        now_ms, topic = self._sim.world.now_ms, self._sim.log.image.topic_named("s")
        partitions = () if topic is None else topic.partitions
        whole = [p for p in partitions if p.leader != NO_LEADER and len(p.isr) == len(p.replicas) == 3]
        if now_ms < self._busy_until_ms or not whole:
            return None
        self._busy_until_ms = now_ms + GIVE_UP_MS
        return self._faults.rng.choice(whole)

    def _cut_between(self, a: int, b: int, time_ms: float) -> None:
        self._faults.cut([(f"n{a}", f"n{b}"), (f"n{b}", f"n{a}")], time_ms)

    def _after(self, delay_ms: float, call: Callable[..., None], *args: Any) -> None:
        self._sim.world.scheduler.after(delay_ms, self._unless_healed, call, args)

    def _unless_healed(self, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        if not self._faults.healed:
            call(*args)

    def _when(
        self, seen: Callable[[], int | None], then: Callable[[int], None], *, every_ms: float = 5, until_ms: float = 0
    ) -> None:
        """Calls `then` once `seen` has something, within `GIVE_UP_MS`."""
        until_ms = until_ms or self._sim.world.now_ms + GIVE_UP_MS
        found = seen()
        if found is not None:
            then(found)
        elif self._sim.world.now_ms < until_ms:
            self._after(every_ms, lambda: self._when(seen, then, every_ms=every_ms, until_ms=until_ms))

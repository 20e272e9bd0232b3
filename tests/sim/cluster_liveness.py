"""What must happen in time, whatever else goes wrong: looked at many times a second, on every node that runs.

Judged by what a leader knows itself, so that no fault of the network or of another node excuses it: nothing may wait
for an event that need not come.
"""

from typing import Any, Final

from ottla.protocol.configs import enough_in_sync
from tests.sim.cluster_loop import Violation, World
from tests.sim.cluster_net import LinkFaults, Network
from tests.sim.cluster_node import LAG_MS, SESSION_MS, Node
from tests.sim.cluster_quorum import MetadataLog

LOOK_MS: Final = 50
SLACK_MS: Final = 250
FULL_MS: Final = 2 * SESSION_MS
Key = tuple[bytes, int]


class Liveness:
    """See the module. A node that was frozen or whose loop hung gets its time anew."""

    def __init__(self, world: World, nodes: dict[int, Node], log: MetadataLog, net: Network) -> None:
        self._world = world
        self._nodes = nodes
        self._log = log
        self._net = net
        self._full: dict[tuple[int, Key], tuple[Any, float]] = {}
        self._marks: dict[tuple[int, Key], tuple[Any, float]] = {}
        self._members: dict[tuple[int, Key, int], tuple[Any, int, float]] = {}

    def start(self) -> None:
        self._world.scheduler.after(LOOK_MS, self._look)

    def _look(self) -> None:
        self._world.scheduler.after(LOOK_MS, self._look)
        for node in self._nodes.values():
            loop = node.data_loop
            runs = node.active and not node.frozen and loop is not None and loop.stalled_until_ms <= self._world.now_ms
            for key, partition in node.partitions.items():
                leader = partition.leader if runs and partition.offline is None and not partition.closed else None
                self._mark(node, key, partition, leader)
                self._replicas(node, key, partition)
                for node_id in partition.state.replicas if partition.state is not None else ():
                    self._member(node, key, partition, leader, node_id)
                self._without_room(node, key, partition)

    def _replicas(self, node: Node, key: Key, partition: Any) -> None:
        """35: a leader knows the replicas of the partition epoch that it knows, and what is enough by them."""
        leader, state = partition.leader, self._log.image.partition(*key)
        if leader is None or state is None:
            return
        same = (leader.leader_epoch, leader.partition_epoch) == (state.leader_epoch, state.partition_epoch)
        wanted = enough_in_sync(partition.settings.min_isr, len(state.replicas) - len(state.adding))
        if same and (leader.replicas, leader.effective_min_isr) != (state.replicas, wanted):
            known = f"{leader.replicas} as replicas, {leader.effective_min_isr} as enough"
            raise Violation(f"35: {node.name} leads {partition.name} with {known}: {state}")

    def _runs(self, node: Node) -> bool:
        now_ms = self._world.now_ms
        return node.active and not node.frozen and all(loop.stalled_until_ms <= now_ms for loop in node.loops)

    def _without_room(self, node: Node, key: Key, partition: Any) -> None:
        """A full disk is out of an ISR that is large enough without it, a while after its first heartbeat says so."""
        image, at = self._log.image, (node.node_id, key)
        controller = self._nodes.get(self._log.leader or 0)
        topic, state = image.topic(key[0]), image.partition(*key)
        roomy = [n for n in (state.isr if state is not None else ()) if not self._says_full(self._nodes[n])]
        if (
            topic is None
            or topic.internal
            or state is None
            or node.node_id not in state.isr
            or len(roomy) < enough_in_sync(partition.settings.min_isr, state.replication_factor)
            or not self._says_full(node)
            or controller is None
            or not self._runs(node)
            or not self._runs(controller)
            or self._net.slow_ms
            or self._net.faults != LinkFaults()
            or not (self._net.passes(node.name, controller.name) and self._net.passes(controller.name, node.name))
        ):
            self._full.pop(at, None)
            return
        what = (controller.node_id, controller.incarnation, node.incarnation, state.partition_epoch)
        known, since_ms = self._full.get(at, (None, 0.0))
        if known != what:
            self._full[at] = (what, self._world.now_ms)
        elif self._world.now_ms - since_ms > FULL_MS:
            raise Violation(f"the disk of {node.name} is full, {roomy} of {partition.name} have room: {state}")

    @staticmethod
    def _says_full(node: Node) -> bool:
        return node.broker is None or node.broker.disk_full

    def _mark(self, node: Node, key: Key, partition: Any, leader: Any) -> None:
        """The high watermark reaches what all of the ISR has within the lag time, though nobody writes or fetches."""
        if leader is None or leader.pending is not None or leader.high_watermark >= _held_by_isr(leader):
            self._marks.pop((node.node_id, key), None)
            return
        what = (leader, leader.high_watermark)
        known, since_ms = self._marks.get((node.node_id, key), (None, 0.0))
        if known != what:
            self._marks[node.node_id, key] = (what, self._world.now_ms)
        elif self._world.now_ms - since_ms > LAG_MS + SLACK_MS:
            raise Violation(
                f"{node.name}: the high watermark of {partition.name} stays at {leader.high_watermark}, all of the ISR "
                f"{sorted(leader.isr)} has had {_held_by_isr(leader)} for {self._world.now_ms - since_ms:.0f} ms"
            )

    def _member(self, node: Node, key: Key, partition: Any, leader: Any, node_id: int) -> None:
        """Who lacks what the leader had (under flush=ack: has not synced it) leaves the ISR in twice the lag time."""
        at = (node.node_id, key, node_id)
        if (
            leader is None
            or leader.pending is not None
            or node_id not in leader.isr - {leader.node_id}
            or not leader.isr <= leader.brokers.keys()
        ):
            self._members.pop(at, None)
            return
        what = (leader, leader.flush_ack)
        known, wanted, since_ms = self._members.get(at, (None, 0, 0.0))
        end = _end(leader, node_id)
        if known != what or end >= wanted:
            self._members[at] = (what, leader.log_end, self._world.now_ms)
        elif self._world.now_ms - since_ms > 2 * LAG_MS + SLACK_MS:
            raise Violation(
                f"{node.name}: {node_id} is in the ISR of {partition.name} with {end} of {wanted} "
                f"{'synced' if leader.flush_ack else 'fetched'} after {self._world.now_ms - since_ms:.0f} ms"
            )


def _end(leader: Any, node_id: int) -> int:
    if node_id == leader.node_id:
        return int(leader.synced_end if leader.flush_ack else leader.log_end)
    progress = leader.progress(node_id)
    end = None if progress is None else progress.synced_end if leader.flush_ack else progress.fetch_offset
    return -1 if end is None else int(end)


def _held_by_isr(leader: Any) -> int:
    """-1 where the ISR is too small for the mark to move."""
    return min(_end(leader, n) for n in leader.isr) if leader.enough_in_sync else -1

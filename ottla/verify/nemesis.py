"""Breaks things, one after the other, and waits until the cluster is whole again after each.

Which node is hit alternates between one that leads partitions, and the active controller. What a fault cost is reckoned
from the history afterwards (`ottla.verify.costs`): this only notes what happened, and when.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from ottla.client.admin import Admin
from ottla.client.errors import OttlaError
from ottla.client.view import ClusterView
from ottla.protocol.proxy import PROXY_OPTION
from ottla.v1 import cluster_pb2, cluster_pb2_grpc
from ottla.verify.doors import TOPIC
from ottla.verify.links import Link
from ottla.verify.target import Target

FAULTS: Final[dict[str, str]] = {
    "kill": "kill -9 of a node, started again within a second or two",
    "kill-all": "kill -9 of all nodes at once",
    "double": "two nodes killed together, or one killed while another is frozen, or one killed as it recovers",
    "lone": "the other nodes freeze for a moment, then a leader is killed: what only it had is gone",
    "stop": "a controlled stop (SIGTERM) and a start",
    "pause": "a node frozen (SIGSTOP) for longer than its lease",
    "cut": "a node that no other node can reach, nor be reached by",
    "one-way": "a node that is not heard, or does not hear",
    "link": "two nodes that cannot reach each other; the others reach both",
    "disk-full": "a node whose disk takes no more bytes",
    "disk-slow": "a node whose every sync takes 300 ms",
    "wipe": "kill -9, and the node starts with an empty disk",
}
NEEDS_THREE: Final = frozenset(FAULTS) - {"kill", "kill-all", "stop", "pause", "disk-full", "disk-slow"}
WHOLE_S: Final = 60.0
_LOOK_S: Final = 0.05
_CHANNEL_OPTIONS: Final = [PROXY_OPTION, ("grpc.use_local_subchannel_pool", 1)]
_CALM_S: Final = (0.5, 1.5)
_DOWN_S: Final = (0.2, 2.0)


@dataclass
class Fault:
    """One thing that was done. Times are of the monotonic clock; `leads` is what the victim led at the time."""

    kind: str
    nodes: list[int]
    leads: list[int]
    controller: bool
    start_ns: int
    healed_ns: int = 0
    whole_ns: int = 0
    detail: str = ""
    exit_code: int | None = None


@dataclass
class Nemesis:
    """`run` injects faults of these kinds until the time is over; `done` and `problems` tell what became of it."""

    target: Target
    admin: Admin
    kinds: Sequence[str]
    rng: random.Random
    hold_s: float
    say: Callable[[str], None]
    written_since: Callable[[int], bool] = lambda _: True
    """Whether every partition has taken a write that was acknowledged since then (monotonic, ns)."""
    on_done: Callable[[Fault], None] = lambda _: None
    done: list[Fault] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    current: Fault | None = None
    _turns: dict[str, int] = field(default_factory=dict)

    async def run(self, seconds: float) -> None:
        """Returns at the first moment after `seconds` at which nothing is broken."""
        end = time.monotonic() + seconds
        bag: list[str] = []
        while True:
            await asyncio.sleep(self.rng.uniform(*_CALM_S))
            if time.monotonic() >= end:
                return
            if not self.kinds:
                await asyncio.sleep(end - time.monotonic())
                return
            if not bag:
                bag = list(self.kinds)
                self.rng.shuffle(bag)
            await self._one(bag.pop())

    async def _one(self, kind: str) -> None:
        fault = self.current = await self._choose(kind)
        try:
            await _ACTIONS[kind](self, fault)
        finally:
            await self._heal(fault)
        await self.wait_whole(fault)
        self.done.append(fault)
        self.current = None
        self.on_done(fault)

    async def _choose(self, kind: str) -> Fault:
        """The victim first. Turn by turn: a leader that is not the controller, then the controller."""
        view = await self._view()
        topic = view.topics[TOPIC]
        leaders = {p.partition: p.leader_id for p in topic.partitions}
        turn = self._turns[kind] = self._turns.get(kind, self.rng.randrange(2)) + 1
        nodes = list(self.target.nodes)
        others = [node for node in nodes if node != view.controller_id]
        leading = [node for node in others if node in leaders.values()] or others or nodes
        victim = view.controller_id if turn % 2 and view.controller_id in nodes else self.rng.choice(leading)
        assert victim is not None
        rest = [node for node in nodes if node != victim]
        self.rng.shuffle(rest)
        leads = [partition for partition, leader in leaders.items() if leader == victim]
        return Fault(kind, [victim, *rest], leads, victim == view.controller_id, time.monotonic_ns())

    async def _view(self) -> ClusterView:
        """The cluster with the topic. It is whole, so an answer comes; for a moment it may not."""
        for _ in range(100):
            with contextlib.suppress(OttlaError):
                view = await self.admin.describe_cluster()
                topic = await self.admin.describe_topic(TOPIC)
                if view.controller_id is not None:
                    return ClusterView(controller_id=view.controller_id, brokers=view.brokers, topics={TOPIC: topic})
            await asyncio.sleep(_LOOK_S)
        raise TimeoutError("no node could be asked about the cluster")

    # -- what is done ----------------------------------------------------------------------------------------------

    def _begin(self, fault: Fault, nodes: Sequence[int], detail: str) -> None:
        fault.nodes, fault.detail, fault.start_ns = list(nodes), detail, time.monotonic_ns()
        role = " (the active controller)" if fault.controller else ""
        led = f", leader of {', '.join(map(str, fault.leads))}" if fault.leads else ""
        self.say(f"{fault.kind}: {detail}{role}{led}")

    async def _do(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(work, *arguments)

    async def _down(self) -> None:
        await asyncio.sleep(self.rng.uniform(*_DOWN_S))

    async def kill(self, fault: Fault) -> None:
        node = fault.nodes[0]
        self._begin(fault, [node], f"kill -9 node {node}")
        await self._do(self.target.kill, node)
        await self._down()

    async def kill_all(self, fault: Fault) -> None:
        self._begin(fault, sorted(fault.nodes), "kill -9 every node at once")
        await asyncio.gather(*(self._do(self.target.kill, node) for node in fault.nodes))
        await asyncio.sleep(self.rng.uniform(0.0, 0.5))

    async def double(self, fault: Fault) -> None:
        node, other = fault.nodes[:2]
        match self.rng.randrange(3):
            case 0:
                self._begin(fault, [node, other], f"kill -9 nodes {node} and {other} together")
                await asyncio.gather(*(self._do(self.target.kill, n) for n in (node, other)))
                await self._down()
            case 1:
                self._begin(fault, [node, other], f"kill -9 node {node} while node {other} is frozen")
                await self._do(self.target.pause, other)
                await self._do(self.target.kill, node)
                await self._down()
            case _:
                self._begin(fault, [node], f"kill -9 node {node}, and again while it starts")
                for wait_s in (self.rng.uniform(0.2, 0.6), self.rng.uniform(0.4, 1.0)):
                    await self._do(self.target.kill, node)
                    await asyncio.sleep(0.1)
                    await self._do(self.target.start_node, node)
                    await asyncio.sleep(wait_s)

    async def lone(self, fault: Fault) -> None:
        node, *others = fault.nodes
        self._begin(fault, [node, *others], f"kill -9 node {node} a moment after the others froze")
        await asyncio.gather(*(self._do(self.target.pause, other) for other in others))
        await asyncio.sleep(self.rng.uniform(0.2, 0.8))
        await self._do(self.target.kill, node)
        await asyncio.gather(*(self._do(self.target.resume, other) for other in others))
        await self._down()

    async def stop(self, fault: Fault) -> None:
        node = fault.nodes[0]
        self._begin(fault, [node], f"controlled stop of node {node}")
        fault.exit_code = await self._do(self.target.terminate, node)
        if fault.exit_code != 0:
            self.problems.append(f"node {node} ended with exit code {fault.exit_code} after a controlled stop")
        await asyncio.sleep(0.2)

    async def pause(self, fault: Fault) -> None:
        node = fault.nodes[0]
        self._begin(fault, [node], f"node {node} frozen for {self.hold_s:.1f} s")
        await self._do(self.target.pause, node)
        await asyncio.sleep(self.hold_s)

    async def cut(self, fault: Fault) -> None:
        node, *others = fault.nodes
        self._begin(fault, [node], f"node {node} cut off from the others for {self.hold_s:.1f} s")
        await self._cut([link for other in others for link in ((node, other), (other, node))])

    async def one_way(self, fault: Fault) -> None:
        node, *others = fault.nodes
        heard = self.rng.random() < 0.5
        what = "does not hear the others" if heard else "is not heard by the others"
        self._begin(fault, [node], f"node {node} {what} for {self.hold_s:.1f} s")
        await self._cut([(other, node) if heard else (node, other) for other in others])

    async def link(self, fault: Fault) -> None:
        node, other = fault.nodes[:2]
        self._begin(fault, [node, other], f"no link between nodes {node} and {other} for {self.hold_s:.1f} s")
        await self._cut([(node, other), (other, node)])

    async def _cut(self, links: list[Link]) -> None:
        await self._do(self.target.cut, links)
        await asyncio.sleep(self.hold_s)

    async def disk_full(self, fault: Fault) -> None:
        node = fault.nodes[0]
        self._begin(fault, [node], f"the disk of node {node} is full for {self.hold_s:.1f} s")
        await self._do(self.target.disk, node, "full")
        await asyncio.sleep(self.hold_s)

    async def disk_slow(self, fault: Fault) -> None:
        node = fault.nodes[0]
        self._begin(fault, [node], f"the disk of node {node} is slow for {self.hold_s:.1f} s")
        await self._do(self.target.disk, node, "slow")
        await asyncio.sleep(self.hold_s)

    async def wipe(self, fault: Fault) -> None:
        node = fault.nodes[0]
        lost = {m.directory_id for m in (await self.admin.describe_quorum()).voters if m.node_id == node}
        self._begin(fault, [node], f"kill -9 node {node}, and its disk is empty")
        await self._do(self.target.kill, node)
        await self._do(self.target.wipe, node)
        await self._down()
        await self._do(self.target.start_node, node)
        await self._vote_again(node, lost)

    async def _vote_again(self, node: int, lost: set[bytes]) -> None:
        """What an operator does: the lost disk leaves the quorum, the new one joins. Until then it only listens."""
        deadline = time.monotonic() + WHOLE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OttlaError):
                quorum = await self.admin.describe_quorum()
                voters = {m.directory_id for m in quorum.voters if m.node_id == node}
                found = {m.directory_id for m in quorum.observers if m.node_id == node} - lost
                if voters - lost:
                    return
                for directory_id in voters if found else ():
                    await self.admin.remove_voter(node, directory_id)
                for directory_id in found:
                    await self.admin.add_voter(node, directory_id)
            await asyncio.sleep(0.2)
        self.problems.append(f"node {node} could not be made a voter again within {WHOLE_S:.0f} s of losing its disk")

    # -- and mended ------------------------------------------------------------------------------------------------

    async def _heal(self, fault: Fault) -> None:
        """Ends whatever it was. Nodes that gave up meanwhile, as one with a full disk may, are started again."""
        await self._do(self.target.cut, [])
        for node in self.target.nodes:
            if node in fault.nodes and self.target.running(node):
                await self._do(self.target.resume, node)
                if fault.kind.startswith("disk"):
                    with contextlib.suppress(OSError):
                        await self._do(self.target.disk, node, "")
        for node in self.target.nodes:
            if not self.target.running(node):
                await self._do(self.target.start_node, node)
        fault.healed_ns = time.monotonic_ns()

    async def _unwell(self) -> str:
        """Every node must say that all is well: one that was cut off does not know yet what happened meanwhile."""
        request = cluster_pb2.GetMetadataRequest(topics=[TOPIC])
        for address in self.target.bootstrap.split(","):
            async with grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
                try:
                    answer = await cluster_pb2_grpc.ClusterServiceStub(channel).GetMetadata(request, timeout=2)
                except grpc.aio.AioRpcError as error:
                    return f"{address} does not answer: {error.code().name}"
            if seen := unwell(answer, self.target.nodes):
                return f"by {address}, {seen}"
        return ""

    async def wait_whole(self, fault: Fault | None) -> None:
        """Until every node is up and every replica in sync; a problem where that takes too long."""
        deadline = time.monotonic() + WHOLE_S
        seen = "no node answered"
        while time.monotonic() < deadline:
            for node in self.target.nodes:
                if not self.target.running(node):
                    await self._do(self.target.start_node, node)
            seen = await self._unwell()
            if not seen and fault is not None and not self.written_since(fault.healed_ns):
                seen = "some partition takes no writes"
            if not seen:
                break
            await asyncio.sleep(_LOOK_S)
        else:
            after = f"{fault.kind} ({fault.detail})" if fault else "the end"
            self.problems.append(f"the cluster was not whole again {WHOLE_S:.0f} s after {after}: {seen}")
        if fault is not None:
            fault.whole_ns = time.monotonic_ns()


def unwell(metadata: cluster_pb2.Metadata, nodes: Sequence[int]) -> str:
    """What is not as it should be in one node's eyes; "" where the cluster is whole."""
    up = {broker.node_id for broker in metadata.brokers if not broker.fenced}
    if down := sorted(set(nodes) - up):
        return f"nodes {down} are not up"
    if not metadata.HasField("controller_id"):
        return "there is no active controller"
    if not metadata.topics or metadata.topics[0].HasField("error"):
        return f"topic {TOPIC} is not there"
    partitions = metadata.topics[0].partitions
    if leaderless := [p.partition for p in partitions if not p.HasField("leader_id")]:
        return f"partitions {leaderless} have no leader"
    if short := [p.partition for p in partitions if set(p.isr) != set(p.replicas)]:
        return f"partitions {short} lack replicas in sync"
    return ""


_ACTIONS: Final[dict[str, Callable[[Nemesis, Fault], Awaitable[None]]]] = {
    name: getattr(Nemesis, name.replace("-", "_")) for name in FAULTS
}

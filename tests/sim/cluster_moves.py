"""An operator who moves partitions all the time, calls some of the moves off, drains nodes and balances: `--moves`."""

import asyncio
from random import Random
from typing import TYPE_CHECKING, Final

from node.metadata.image import METADATA_VERSION, REASSIGNMENT_METADATA_VERSION, Delta, Image, Partition, is_draining
from ottla.client.admin import Admin
from ottla.client.connection import Client
from ottla.client.errors import OttlaError
from ottla.protocol.errors import name_of

if TYPE_CHECKING:
    from tests.sim.cluster_node import Node
    from tests.sim.cluster_sim import ClusterSim

BOOTSTRAP: Final = "n2:9193,n1:9192,n3:9194"
PAUSE_MS: Final = 250.0
HEAL_AFTER_MS: Final = 400
REPLACED_AFTER_MS: Final = 500
DAMAGE: Final = frozenset({"wipe", "rot", "disk error", "log lost", "log lost while down"})
"""Of two replicas one may be all there is of what is acknowledged: no good copy would be left of its log."""


def replace_unregistered(sim: "ClusterSim", image: Image, delta: Delta) -> None:
    """A node that was taken off the register may try to come back with what it has; then it is given an empty disk."""
    for node_id in sorted(delta.changed_brokers - image.brokers.keys()):
        sim.counts["nodes unregistered"] += 1
        sim.world.note(f"n{node_id} is unregistered")
        sim.world.scheduler.after(REPLACED_AFTER_MS, _replace, sim, sim.nodes[node_id])


def _replace(sim: "ClusterSim", node: "Node") -> None:
    if node.up:
        node.crash(power=False)
    node.wipe()
    sim.world.note(f"{node.name} joins as a new node")
    sim.world.scheduler.after(50, sim.restart, node)


class Mover:
    """Until the cluster heals: what is under way then must end by itself."""

    def __init__(self, sim: "ClusterSim", rng: Random) -> None:
        self._sim = sim
        self._rng = rng
        self._heals = rng.random() < 0.5

    async def run(self, name: str) -> None:
        async with (
            Client(BOOTSTRAP, connect_timeout_ms=60_000) as client,
            Admin(client, request_timeout_ms=500) as admin,
        ):
            while self._sim.log.image.features.get(METADATA_VERSION, 1) < REASSIGNMENT_METADATA_VERSION:
                try:
                    await admin.finalize_feature(level=REASSIGNMENT_METADATA_VERSION)
                except OttlaError as error:
                    self._sim.counts[f"mover: {name_of(error.code)}"] += 1
                    await asyncio.sleep(0.1)
            if self._heals:
                await self._set_heal(admin)
            while not self._sim.faults.healed:
                await asyncio.sleep(self._rng.expovariate(1 / PAUSE_MS) / 1000)
                try:
                    await self._act(admin)
                except OttlaError as error:
                    self._sim.counts[f"mover: {name_of(error.code)}"] += 1
        await asyncio.get_running_loop().create_future()

    async def _set_heal(self, admin: Admin) -> None:
        while True:
            try:
                return await admin.alter_broker_configs(None, {"replica.heal.after.ms": str(HEAL_AFTER_MS)})
            except OttlaError as error:
                self._sim.counts[f"mover: {name_of(error.code)}"] += 1
                await asyncio.sleep(0.1)

    async def _act(self, admin: Admin) -> None:
        """Mostly moves. One node is drained at a time: the others can take what there is."""
        image = self._sim.log.image
        drained = [n for n in image.brokers if is_draining(image, n)]
        dice = self._rng.random()
        if dice < 0.1 and not drained and not self._sim.faults.healed:
            self._sim.counts["drains"] += 1
            await admin.drain_node(self._rng.choice(sorted(self._sim.nodes)))
        elif drained and not any(drained[0] in p.replicas for t in image.all_topics() for p in t.partitions):
            await admin.unregister_node(drained[0])
        elif dice < 0.15 and drained:
            await admin.resume_node(drained[0])
        elif dice < 0.25 and not self._sim.faults.healed:
            self._sim.counts["balances"] += 1
            await admin.balance()
        else:
            await self._move(admin)

    async def _move(self, admin: Admin) -> None:
        topics = sorted(self._sim.log.image.all_topics(), key=lambda topic: topic.name)
        if not topics or self._sim.faults.healed:
            return
        moving = [(topic, p) for topic in topics for p in topic.partitions if p.target]
        if moving and self._rng.random() < 0.4:
            topic, partition = self._rng.choice(moving)
        else:
            topic = self._rng.choice(topics)
            partition = self._rng.choice(topic.partitions)
        await admin.move_partition(topic.name, partition.partition, self._target(partition))

    def _target(self, partition: Partition) -> list[int] | None:
        """Other replicas, or None: the move is called off."""
        worse = not set(partition.original) <= set(partition.isr)
        if partition.target and self._rng.random() < (0.8 if worse else 0.4):
            return None
        damaged = not DAMAGE.isdisjoint(self._sim.swarm.kinds)
        return self._rng.sample(sorted(self._sim.nodes), self._rng.choice((3, 3, 4) if damaged else (2, 3, 3, 3, 4)))

"""Which partition is fetched from which leader: one fetcher, with one stream, for each leader node."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from node.broker.fetcher import Fetcher, Followers
from node.broker.pace import MovePace
from node.broker.partition import Partition

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


class Following:
    """The fetchers of a broker. `spawn` starts a task that the broker owns."""

    def __init__(self, broker: Followers, spawn: Spawn) -> None:
        self._broker = broker
        self._spawn = spawn
        self._pace = MovePace(broker)
        self._fetchers: dict[int, tuple[Fetcher, asyncio.Task[None]]] = {}

    def follow(self, partition: Partition, leader_id: int) -> None:
        """Fetches a partition from its leader in a new epoch, and from nobody else."""
        self.stop(partition.topic_id, partition.number, keep=leader_id)
        running = self._fetchers.get(leader_id)
        if running is None:
            fetcher = Fetcher(self._broker, leader_id, self._pace)
            running = (fetcher, self._spawn(fetcher.run(), f"fetcher-{leader_id}"))
            self._fetchers[leader_id] = running
        running[0].add(partition)

    def stop(self, topic_id: bytes, number: int, *, keep: int | None = None) -> None:
        """Fetches a partition no longer, but from leader `keep`. A fetcher without partitions ends."""
        for leader_id, (fetcher, task) in list(self._fetchers.items()):
            if leader_id == keep:
                continue
            fetcher.remove(topic_id, number)
            if fetcher.idle:
                del self._fetchers[leader_id]
                task.cancel()

    def moved(self, partition: Partition) -> None:
        """More of a partition is synced here: its leader should know."""
        running = None if partition.follower is None else self._fetchers.get(partition.follower.leader)
        if running is not None:
            running[0].moved(partition)

    def tell_state(self) -> None:
        """The state of the disk has changed: every leader should know."""
        for fetcher, _ in self._fetchers.values():
            fetcher.tell_state()

    def reconnect(self) -> None:
        """The broker has another epoch: streams are opened with one, so they are opened anew."""
        for fetcher, _ in self._fetchers.values():
            fetcher.reconnect()

    async def detach(self, leader_id: int) -> None:
        """Ends the stream to one leader with all that is fetched from it."""
        running = self._fetchers.pop(leader_id, None)
        if running is not None:
            running[1].cancel()
            await asyncio.gather(running[1], return_exceptions=True)

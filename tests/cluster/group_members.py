"""Members of groups as processes of their own, and what they say: for tests that kill, freeze and block them."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.cluster.harness import ROOT

MEMBER = r"""
import asyncio, json, os, sys, threading, time
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
from ottla import Consumer, OttlaError, RebalanceListener

def say(**what): print(json.dumps(what), flush=True)

class Says(RebalanceListener):
    def __init__(self): self.owned = set()
    async def on_assigned(self, partitions):
        self.owned |= {p.partition for p in partitions}; say(owns=sorted(self.owned), why="assigned")
    async def on_revoked(self, partitions):
        self.owned -= {p.partition for p in partitions}; say(owns=sorted(self.owned), why="revoked")
    async def on_lost(self, partitions):
        self.owned -= {p.partition for p in partitions}; say(owns=sorted(self.owned), why="lost")

async def main(bootstrap, topic, group, settings):
    go = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    say(ready=True)
    await go  # standing by: the time to start a process is not the group's
    orders = asyncio.Queue()
    loop = asyncio.get_running_loop()
    def listen():
        for line in sys.stdin: loop.call_soon_threadsafe(orders.put_nowait, line.split())
    threading.Thread(target=listen, daemon=True).start()
    consumer = Consumer(topic, group=group, bootstrap=bootstrap, rebalance_listener=Says(), **json.loads(settings))
    async with consumer:
        while True:
            records = await consumer.poll(timeout_ms=50)
            if records:
                say(read=[[r.partition, r.offset] for r in records])
            while not orders.empty():
                order = orders.get_nowait()
                if order[0] == "block":
                    time.sleep(float(order[1])); say(blocked=float(order[1]))
                elif order[0] == "commit":
                    try:
                        await consumer.commit({(topic, int(order[1])): int(order[2])}); say(committed=True)
                    except OttlaError as error:
                        say(committed=False, error=error.name)
                elif order[0] == "leave":
                    return

asyncio.run(main(*sys.argv[1:]))
os._exit(0)
"""


class MemberProcess:
    """One member. `owned` is what it last said it owns, `moves` all that it said about that."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.owned: frozenset[int] = frozenset()
        self.moves: list[tuple[float, str, frozenset[int]]] = []
        self.read: list[tuple[int, int]] = []
        self.said: list[dict[str, Any]] = []
        self.ready = False
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            try:
                what = json.loads(line)
            except ValueError:
                continue  # killed in the middle of a line
            if "owns" in what:
                self.owned = frozenset(what["owns"])
                self.moves.append((time.monotonic(), what["why"], self.owned))
            elif "read" in what:
                self.read += [(partition, offset) for partition, offset in what["read"]]
            elif "ready" in what:
                self.ready = True
            else:
                self.said.append(what)

    def tell(self, order: str = "") -> None:
        """The first line lets it join; then `block S`, `commit PARTITION OFFSET`, `leave`."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n".encode())

    def kill(self) -> None:
        self.process.kill()
        self.owned = frozenset()

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._listening


class Members:
    """The processes of one group."""

    def __init__(self, bootstrap: str, topic: str, group: str, **settings: Any) -> None:
        self._arguments = (bootstrap, topic, group, json.dumps(settings))
        self.all: list[MemberProcess] = []

    async def spawn(self) -> MemberProcess:
        """A process that stands by."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            MEMBER,
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            limit=2**24,
        )
        member = MemberProcess(process)
        self.all.append(member)
        return member

    async def join(self) -> MemberProcess:
        member = await self.spawn()
        await until(lambda: member.ready)
        member.tell()
        return member

    def owners(self) -> dict[int, list[MemberProcess]]:
        """Who says that it owns what."""
        found: dict[int, list[MemberProcess]] = {}
        for member in self.all:
            for partition in member.owned:
                found.setdefault(partition, []).append(member)
        return found

    def share(self, partitions: int) -> bool:
        """Whether each partition has exactly one owner."""
        owners = self.owners()
        return len(owners) == partitions and all(len(who) == 1 for who in owners.values())

    def even(self, partitions: int, members: int) -> bool:
        sizes = sorted(len(member.owned) for member in self.all if member.process.returncode is None and member.owned)
        return self.share(partitions) and len(sizes) == members and sizes[-1] - sizes[0] <= 1


@asynccontextmanager
async def members(bootstrap: str, topic: str, group: str, **settings: Any) -> AsyncIterator[Members]:
    made = Members(bootstrap, topic, group, **settings)
    try:
        yield made
    finally:
        await asyncio.gather(*(member.close() for member in made.all))


async def until(holds: Callable[[], bool], timeout_s: float = 60.0) -> float:
    """Waits for a condition; answers how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return time.monotonic() - began

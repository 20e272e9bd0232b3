"""The port for clients of Kafka: open from the start, and what serves them comes with the first."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from node.kafka.port import KafkaPort


class Service:
    """Answers with what it is sent, over real sockets; `node.kafka.service` as the port sees it."""

    made = 0

    def __init__(self) -> None:
        Service.made += 1
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: list[tuple[str, socket.socket]], _tls: Any, *, takes_plain: bool) -> None:
        self._servers = [await asyncio.start_server(self._echo, sock=each) for _, each in sockets]

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def run(self) -> None:
        await asyncio.sleep(60)

    async def stop(self) -> None:
        for each in self._servers:
            each.close()


class Cluster:
    """What a node knows of being a part of it."""

    def __init__(self, is_part: bool = True) -> None:
        self.is_part = is_part
        self.changes = asyncio.Event()

    async def changed(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.changes.wait(), timeout_s)


def port_of(cluster: Cluster) -> KafkaPort:
    return KafkaPort(Service, lambda: cluster.is_part, cluster.changed)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def opened(host: str = "127.0.0.1", cluster: Cluster | None = None) -> AsyncIterator[tuple[KafkaPort, int]]:
    Service.made = 0
    port: Any = port_of(cluster or Cluster())
    await port.open("kafka", host, 0)
    running = asyncio.create_task(port.run())
    try:
        yield port, port._sockets[0][1].getsockname()[1]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await port.stop()


async def echoed(host: str, port: int, line: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(line)
    answer = await reader.read()
    writer.close()
    return answer


async def test_nothing_is_made_before_somebody_comes_and_all_who_come_meanwhile_are_served() -> None:
    async with asyncio.timeout(10), opened() as (_, port):
        await asyncio.sleep(0.05)
        assert Service.made == 0
        lines = [b"%d\n" % number for number in range(20)]
        assert await asyncio.gather(*(echoed("127.0.0.1", port, line) for line in lines)) == lines
        assert await echoed("127.0.0.1", port, b"later\n") == b"later\n"
        assert Service.made == 1


async def test_who_comes_before_the_node_is_a_part_of_its_cluster_waits() -> None:
    cluster = Cluster(is_part=False)
    async with asyncio.timeout(10), opened(cluster=cluster) as (_, port):
        waits = asyncio.create_task(echoed("127.0.0.1", port, b"early\n"))
        await asyncio.sleep(0.05)
        assert not waits.done()
        assert Service.made == 0
        cluster.is_part = True
        cluster.changes.set()
        assert await waits == b"early\n"


async def test_who_has_waited_for_long_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.kafka.port.HOLD_S", 0.05)
    cluster = Cluster(is_part=False)
    async with asyncio.timeout(10), opened(cluster=cluster) as (_, port):
        for _ in range(2):
            with contextlib.suppress(ConnectionResetError):
                assert await echoed("127.0.0.1", port, b"early\n") == b""
        cluster.is_part = True
        cluster.changes.set()
        assert await echoed("127.0.0.1", port, b"later\n") == b"later\n"


async def test_a_wildcard_of_ipv6_is_one_of_ipv4_too() -> None:
    try:
        socket.create_server(("::", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    async with asyncio.timeout(10), opened("[::]") as (_, port):
        assert [await echoed(host, port, b"a\n") for host in ("127.0.0.1", "::1")] == [b"a\n", b"a\n"]


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"the kafka.A listener cannot have 127.0.0.1:{port}: .*in use"):
            await port_of(Cluster()).open("kafka.A", "127.0.0.1", port)


async def test_it_ends_with_the_node_whether_somebody_came_or_not() -> None:
    for somebody in (False, True):
        async with asyncio.timeout(10), opened() as (_, port):
            if somebody:
                await echoed("127.0.0.1", port, b"a\n")
        with pytest.raises(ConnectionRefusedError):
            await echoed("127.0.0.1", port, b"a\n")


def test_a_node_without_such_clients_has_loaded_nothing_of_them() -> None:
    program = "import sys, node.main; print(*sorted(m for m in sys.modules if m.startswith('node.kafka')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["node.kafka", "node.kafka.port"]

"""A cluster that runs under load changes how secure it is, and loses and refuses nothing meanwhile."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import pytest

import ottla
from ottla.secure.issue import Authority, asked_client, asked_node
from ottla.secure.rotation import take_step
from tests.cluster.harness import LocalCluster, eventually

pytestmark = pytest.mark.cluster
TOPIC = "orders"


class Load:
    """Sends numbers until it is told to stop; each is acknowledged or fails the test."""

    def __init__(self, name: str, bootstrap: str, tls: Path | None) -> None:
        self.name = name
        self.sent = 0
        self.failed: list[BaseException] = []
        self._bootstrap = bootstrap
        self._tls = tls
        self._over = asyncio.Event()

    async def run(self) -> None:
        async with ottla.Producer(self._bootstrap, tls=self._tls, acks="all") as producer:
            while not self._over.is_set():
                try:
                    await asyncio.gather(*(self._one(producer) for _ in range(10)))
                except ottla.OttlaError as error:
                    self.failed.append(error)
                await asyncio.sleep(0.01)

    async def _one(self, producer: ottla.Producer) -> None:
        value = f"{self.name} {self.sent}".encode()
        self.sent += 1
        await producer.send_and_wait(TOPIC, value=value)

    def stop(self) -> None:
        self._over.set()


@contextlib.asynccontextmanager
async def under_load(load: Load) -> AsyncIterator[Load]:
    task = asyncio.create_task(load.run())
    try:
        yield load
        load.stop()
        await asyncio.wait_for(task, 30)
    finally:
        task.cancel()
    assert load.failed == []
    assert load.sent > 50


async def all_there(bootstrap: str, tls: Path | None, loads: Iterable[Load]) -> None:
    wanted = {f"{load.name} {i}".encode() for load in loads for i in range(load.sent)}
    async with ottla.Consumer(TOPIC, bootstrap=bootstrap, tls=tls) as consumer, asyncio.timeout(30):
        found: list[bytes] = []
        while len(found) < len(wanted):
            found.append((await anext(consumer)).value or b"")
    assert set(found) == wanted
    assert len(found) == len(wanted)


async def restart_each(cluster: LocalCluster, changes: Mapping[str, object]) -> None:
    for node in cluster.nodes.values():
        node.settings = {**node.settings, **changes}
        await asyncio.to_thread(node.stop)
        node.start()
        await asyncio.to_thread(cluster.wait_ready)


@pytest.mark.long
async def test_from_plain_to_tls_alone_and_back(tmp_path: Path) -> None:
    """Clients change while a cluster takes both. Each restart is one node's, the others go on."""
    with LocalCluster(tmp_path) as cluster:
        cluster.start().wait_ready()
        cluster.create_topic(TOPIC, 3, 3)
        authority = Authority.make(tmp_path / "secure", cluster.metadata(1).cluster_id, replace=False)
        for asked in (asked_node(1, []), asked_node(2, []), asked_node(3, []), asked_client("admin")):
            authority.issue(asked, 30, replace=False)
        for i, node in cluster.nodes.items():
            node.settings = {**node.settings, "tls.dir": authority.directory / f"node-{i}"}
        tls = authority.directory / "admin"
        bootstrap = cluster.bootstrap
        before, within, after = (
            Load("before", bootstrap, None),
            Load("within", bootstrap, tls),
            Load("after", bootstrap, None),
        )
        async with under_load(before):
            await restart_each(cluster, {"security": "optional"})
        async with under_load(within):
            await restart_each(cluster, {"security": "required"})
            with pytest.raises(ottla.ConnectionFailed, match="wants TLS"):
                async with ottla.Client(bootstrap, connect_timeout_ms=500):
                    pass
            await restart_each(cluster, {"security": "optional"})
        async with under_load(after):
            await restart_each(cluster, {"security": "off"})
        await all_there(bootstrap, None, (before, within, after))


async def test_the_ca_is_rotated_and_no_node_starts_again(tmp_path: Path) -> None:
    secure = tmp_path / "secure"
    authority = Authority.make(secure, None, replace=False)
    for asked in (asked_node(1, []), asked_node(2, []), asked_node(3, []), asked_client("admin")):
        authority.issue(asked, 30, replace=False)
    with LocalCluster(tmp_path, settings={"security": "on"}) as cluster:
        for i, node in cluster.nodes.items():
            node.settings = {**node.settings, "tls.dir": secure / f"node-{i}"}
        cluster.start().wait_ready()
        async with ottla.Admin(cluster.bootstrap, tls=secure / "admin") as admin:
            await admin.create_topic(TOPIC, partitions=3, replication_factor=3)
        async with under_load(Load("one", cluster.bootstrap, secure / "admin")) as load:
            for step in (1, 2, 3):
                await asyncio.to_thread(take_step, secure, step, 30)
                for node in cluster.nodes.values():
                    await asyncio.to_thread(eventually, lambda node=node: taken(node.log()), step + 1)
                # Who connects now meets the new files on both sides.
                async with ottla.Client(cluster.bootstrap, tls=secure / "admin"):
                    pass
        await all_there(cluster.bootstrap, secure / "admin", [load])
        assert [node.starts for node in cluster.nodes.values()] == [1, 1, 1]


def taken(log: str) -> int:
    """How many different CAs' files were taken, and certificates."""
    return len(dict.fromkeys(re.findall(r"certificate_taken .*", log)))

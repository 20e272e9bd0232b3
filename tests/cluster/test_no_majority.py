"""Two of three nodes are gone: what changes no metadata goes on, and what does fails fast, in words."""

import asyncio
import time

import pytest

import ottla.testing
from ottla import Admin, Consumer, OttlaError, Producer

pytestmark = pytest.mark.cluster


async def test_without_a_majority_data_flows_and_changes_fail_fast() -> None:
    async with ottla.testing.cluster(3) as c:
        async with Admin(c.bootstrap) as admin:
            await admin.create_topic("t", partitions=1, replication_factor=1)
        left = await c.leader("t")
        async with Producer(c[left].address) as producer:
            await producer.send_and_wait("t", b"before")
            c.kill(*(node_id for node_id in c.nodes if node_id != left))
            # A leader that does not know yet that it is alone takes a change on, and can't say what becomes of it.
            for timeout_ms, said in (
                (1000, "majority|controller changed|did not finish"),
                (30_000, "majority|controller changed"),
            ):
                began = time.monotonic()
                async with Admin(c[left].address, request_timeout_ms=timeout_ms) as admin:
                    with pytest.raises(OttlaError, match=said):
                        await admin.create_topic("u", partitions=1, replication_factor=1)
                assert time.monotonic() - began < 6
            async with asyncio.timeout(5):
                await producer.send_and_wait("t", b"after")
                async with Producer(c[left].address) as another:  # the node has ids in hand
                    await another.send_and_wait("t", b"another")
                async with Consumer("t", bootstrap=c[left].address) as consumer:
                    values = [(await anext(consumer)).value for _ in range(3)]
            assert values == [b"before", b"after", b"another"]

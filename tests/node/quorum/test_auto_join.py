"""A node that is meant to vote gets its seat without an operator, and never a second one."""

import asyncio
import contextlib
import shutil

import pytest

from node.quorum import auto_join
from node.quorum.auto_join import AutoJoin
from tests.node.quorum.harness import Nodes, propose, until


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(auto_join, "LOOK_S", 0.02)
    monkeypatch.setattr(auto_join, "RETRY_S", 0.02)


@contextlib.asynccontextmanager
async def joining(nodes, node_id, changes):
    """Let `node_id` look for its seat, asking whoever leads."""

    def ask(verb):
        async def change(voter):
            changes.append((verb, voter))
            leader = await nodes.leader()
            await getattr(leader.quorum, f"{verb}_voter")(*voter)

        return change

    task = asyncio.create_task(AutoJoin(nodes[node_id].quorum, ask("add"), ask("remove")).run())
    try:
        yield
    finally:
        task.cancel()


async def test_a_new_node_takes_its_seat_once(tmp_path):
    async with Nodes(tmp_path, 3, observers=1) as nodes:
        await nodes.start(1, 2, 3)
        propose(await nodes.leader(), b"x")
        await nodes.start(4)
        changes = []
        async with joining(nodes, 4, changes):
            await until(lambda: nodes[4].quorum.me in nodes[4].quorum.voters)
            assert nodes[4].recorder.data == [b"x"]
            # An operator who takes the seat away has the last word.
            leader = await nodes.leader()
            if leader is nodes[4]:
                await leader.quorum.transfer(None)
                leader = await nodes.leader()
            await leader.quorum.remove_voter(4, b"")
            await until(lambda: nodes[4].quorum.me not in nodes[4].quorum.voters)
            await asyncio.sleep(0.3)
            assert [node_id for node_id, _ in leader.quorum.voters] == [1, 2, 3]
        assert {verb for verb, _ in changes} == {"add"}


async def test_a_replaced_disk_gives_its_old_seat_up_and_then_takes_a_new_one(tmp_path):
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        propose(leader, b"x")
        away = next(i for i in (1, 2, 3) if i != leader.node_id)
        old = nodes[away].quorum.me
        await nodes.crash(away)
        shutil.rmtree(nodes[away].path)
        await nodes[away].start(directory_byte=77)
        nodes.running.add(away)
        changes = []
        async with joining(nodes, away, changes):
            await until(lambda: nodes[away].quorum.me in leader.quorum.voters)
        assert changes[0] == ("remove", old)
        assert changes[-1] == ("add", nodes[away].quorum.me)
        assert old not in leader.quorum.voters
        assert len(leader.quorum.voters) == 3


async def test_with_two_voters_a_seat_is_never_given_up(tmp_path):
    """The other one alone is no majority: nobody leads, and nothing is asked for."""
    async with Nodes(tmp_path, 2) as nodes:
        await nodes.start()
        await nodes.leader()
        voters = nodes[1].quorum.voters
        await nodes.crash(2)
        shutil.rmtree(nodes[2].path)
        await nodes[2].start(directory_byte=77)
        nodes.running.add(2)
        changes = []
        async with joining(nodes, 2, changes):
            await until(lambda: nodes[2].quorum.cluster_id is not None)
            await asyncio.sleep(0.5)
        assert changes == []
        assert nodes[1].quorum.voters == voters

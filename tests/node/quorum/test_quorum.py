"""The quorum over real gRPC and real files: forming, failing over, snapshots, membership, refusals."""

import asyncio
import shutil
import time

import pytest

from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2
from raft.messages import AppendRequest, Heartbeat
from raft.model import Entry, EntryKind, PeerId
from storage.errors import CorruptFile
from tests.node.quorum.harness import Nodes, propose, until


async def test_a_single_node_forms_and_serves_at_once(tmp_path):
    async with Nodes(tmp_path, 1, extra=("controller.quorum.election.timeout.ms=9000",)) as nodes:
        began = time.monotonic()
        await nodes.start()
        leader = await nodes.leader()
        assert time.monotonic() - began < 5, "it waits for nobody"
        index = propose(leader, b"x")
        await until(lambda: leader.recorder.data == [b"x"])
        assert leader.recorder.committed[-1] == (index, leader.quorum.leadership.term, b"x")
        assert await leader.quorum.read_barrier() == index


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
async def test_three_nodes_form_one_cluster_in_any_order(tmp_path, order):
    async with Nodes(tmp_path, 3) as nodes:
        for node_id in order:
            await nodes.start(node_id)
            await asyncio.sleep(0.05)
        leader = await nodes.leader()
        assert len({nodes[i].quorum.cluster_id for i in (1, 2, 3)}) == 1
        propose(leader, b"x")
        await until(lambda: all(nodes[i].recorder.data == [b"x"] for i in (1, 2, 3)))


async def test_two_of_three_never_form_a_cluster(tmp_path):
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start(1, 2)
        await asyncio.sleep(1.0)
        assert nodes[1].quorum.cluster_id is None
        status = nodes[1].quorum.describe()
        assert [voter.node_id for voter in status.voters] == [1, 2, 3]
        assert status.leaderless_ms >= 900


async def test_a_dead_leader_is_replaced_within_a_second_and_nothing_is_lost(tmp_path):
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        for i in range(20):
            propose(leader, b"%d" % i)
        await until(lambda: len(leader.recorder.data) == 20)
        began = time.monotonic()
        await nodes.crash(leader.node_id)
        successor = await nodes.leader()
        assert time.monotonic() - began < 5
        assert successor.recorder.data == [b"%d" % i for i in range(20)]
        assert successor.recorder.dead == [leader.node_id]
        propose(successor, b"after")
        await nodes.start(leader.node_id)
        await until(lambda: leader.recorder.data[-1:] == [b"after"])
        assert successor.recorder.alive == [leader.node_id]


async def test_a_clean_stop_hands_over_first(tmp_path):
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        term = leader.quorum.leadership.term
        await nodes.stop(leader.node_id)
        successor = await nodes.leader()
        assert successor.quorum.leadership.term == term + 1


async def test_all_nodes_killed_at_once_come_back_with_everything(tmp_path):
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        for i in range(50):
            propose(leader, b"%d" % i)
        await until(lambda: len(leader.recorder.data) == 50)
        term = leader.quorum.leadership.term
        for node_id in (1, 2, 3):
            await nodes.crash(node_id)
        await nodes.start()
        leader = await nodes.leader()
        assert leader.quorum.leadership.term > term
        await until(lambda: all(len(nodes[i].recorder.data) == 50 for i in (1, 2, 3)))


async def test_a_majority_is_needed_and_a_lost_one_is_told(tmp_path):
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        others = [i for i in (1, 2, 3) if i != leader.node_id]
        for node_id in others:
            await nodes.crash(node_id)
        await until(lambda: not leader.quorum.leadership.is_self, timeout_s=4)
        with pytest.raises(ApiError) as refused:
            leader.quorum.propose(b"x", leader.quorum.leadership.term)
        assert refused.value.code == error_pb2.ERROR_CODE_NOT_CONTROLLER
        with pytest.raises(ApiError):
            await leader.quorum.read_barrier()


@pytest.mark.parametrize("cut_off", ["voter", "observer"])
async def test_who_hears_no_leader_says_so_and_since_when(tmp_path, cut_off):
    async with Nodes(tmp_path, 3, observers=1) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        term = leader.quorum.leadership.term
        node = nodes[4] if cut_off == "observer" else nodes[leader.node_id % 3 + 1]
        node.quorum._members.on_frame = lambda peer, frame, dialled: None
        await until(lambda: node.quorum.leadership.leader_id is None)
        await asyncio.sleep(0.2)
        told = node.quorum.describe()
        assert not told.HasField("leader_id")
        assert told.leaderless_ms >= 200
        del node.quorum._members.on_frame
        await until(lambda: node.quorum.leadership.leader_id == leader.node_id)
        assert node.quorum.leadership.term == term
        assert node.quorum.describe().leaderless_ms == 0


async def test_a_follower_far_behind_gets_a_snapshot(tmp_path):
    small = ("metadata.log.max.record.bytes.between.snapshots=2000",)
    async with Nodes(tmp_path, 3, extra=small) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        away = next(i for i in (1, 2, 3) if i != leader.node_id)
        await nodes.crash(away)
        for i in range(3000):
            propose(leader, b"%05d" % i)
            if i % 100 == 0:
                await asyncio.sleep(0.01)
        await until(lambda: leader.quorum.commit_index == leader.quorum.last_index)
        await until(lambda: leader.quorum._raft.log.base_index > 500)
        await nodes.start(away)
        expected = b"".join(b"%05d\n" % i for i in range(3000))
        await until(lambda: nodes[away].recorder.state() == expected)
        assert nodes[away].recorder.snapshots
        await nodes.crash(away)
        await nodes.start(away)
        await until(lambda: nodes[away].recorder.state() == expected)


async def test_a_new_node_joins_as_observer_and_becomes_a_voter_on_request(tmp_path):
    async with Nodes(tmp_path, 3, observers=1) as nodes:
        await nodes.start(1, 2, 3)
        leader = await nodes.leader()
        propose(leader, b"before")
        await nodes.start(4)
        await until(lambda: nodes[4].recorder.data == [b"before"])
        assert nodes[4].quorum.cluster_id == leader.quorum.cluster_id
        await until(lambda: any(o.node_id == 4 for o in leader.quorum.describe().observers))
        await leader.quorum.add_voter(4, b"")
        assert [v.node_id for v in leader.quorum.describe().voters] == [1, 2, 3, 4]
        await leader.quorum.remove_voter(4, nodes[4].quorum.directory_id)
        assert [v.node_id for v in leader.quorum.describe().voters] == [1, 2, 3]


async def test_a_leader_asked_to_remove_itself_hands_over_first(tmp_path):
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        with pytest.raises(ApiError) as refused:
            await leader.quorum.remove_voter(leader.node_id, b"")
        assert refused.value.code == error_pb2.ERROR_CODE_NOT_CONTROLLER
        await until(lambda: not leader.quorum.leadership.is_self)
        successor = await nodes.leader()
        await successor.quorum.remove_voter(leader.node_id, b"")
        assert leader.node_id not in [v.node_id for v in successor.quorum.describe().voters]


async def test_a_wiped_voter_follows_without_a_vote(tmp_path):
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        propose(leader, b"x")
        away = next(i for i in (1, 2, 3) if i != leader.node_id)
        await nodes.crash(away)
        shutil.rmtree(nodes[away].path)
        await nodes[away].start(directory_byte=77)
        nodes.running.add(away)
        await until(lambda: nodes[away].recorder.data == [b"x"])
        seats = {v.node_id: v.directory_id for v in leader.quorum.describe().voters}
        assert seats[away] == bytes([away]) * 16
        with pytest.raises(ApiError, match="remove that voter first"):
            await leader.quorum.add_voter(away, bytes([77]) * 16)
        await leader.quorum.remove_voter(away, b"")
        await leader.quorum.add_voter(away, b"")
        seats = {v.node_id: v.directory_id for v in leader.quorum.describe().voters}
        assert seats[away] == bytes([77]) * 16


async def test_a_wiped_majority_forms_nothing_beside_the_node_that_remembers(tmp_path, capsys):
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        cluster_id = leader.quorum.cluster_id
        propose(leader, b"x")
        await until(lambda: all(nodes[i].recorder.data == [b"x"] for i in (1, 2, 3)))
        for node_id in (1, 2, 3):
            await nodes.crash(node_id)
        for node_id in (1, 2):
            shutil.rmtree(nodes[node_id].path)
            await nodes[node_id].start(directory_byte=80 + node_id)
            nodes.running.add(node_id)
        await nodes.start(3)
        await asyncio.sleep(2.5)
        assert {nodes[i].quorum.cluster_id for i in (1, 2, 3)} == {cluster_id}
        assert all(nodes[i].quorum.leadership.leader_id is None for i in (1, 2, 3))
        assert len(nodes[3].quorum._replaced) == 2
    told = capsys.readouterr().out
    assert "quorum_majority_of_disks_replaced" in told
    assert "restore their data directories" in told


async def test_nodes_of_two_clusters_refuse_each_other_with_both_ids(tmp_path):
    async with Nodes(tmp_path / "a", 1) as one, Nodes(tmp_path / "b", 1) as other:
        await one.start()
        await other.start()
        await one.leader()
        await other.leader()
        refusal = one[1].quorum._members.admit(_hello_of(other[1], node_id=2))
        assert refusal is not None
        assert refusal.inconsistent_cluster_id
        assert one[1].quorum.cluster_id.hex() in refusal.refusal
        assert other[1].quorum.cluster_id.hex() in refusal.refusal


def _hello_of(node, node_id):
    hello = node.quorum._members.hello(1)
    hello.sender.node_id = node_id
    return hello


async def test_a_directory_that_lost_its_quorum_state_is_refused(tmp_path):
    async with Nodes(tmp_path, 1) as nodes:
        await nodes.start()
        await nodes.leader()
        await nodes.stop(1)
        shutil.rmtree(nodes[1].path / "quorum")
        with pytest.raises(CorruptFile, match="quorum directory"):
            await nodes[1].start()
        await nodes[1].server.stop(None)
        nodes[1].directory.close(clean=False)


async def test_a_failed_sync_stops_the_node(tmp_path, monkeypatch):
    async with Nodes(tmp_path, 1) as nodes:
        await nodes.start()
        leader = await nodes.leader()

        def broken(self):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("storage.sync.SyncTicket.run", broken)
        propose(leader, b"never acknowledged")
        with pytest.raises(OSError, match="Input/output"):
            await asyncio.wait_for(leader.quorum.failed, 5)
        assert leader.recorder.data == []
        with pytest.raises(ApiError):
            propose(leader, b"y")
        monkeypatch.undo()


async def test_a_cluster_whose_metadata_remembers_other_addresses_finds_itself(tmp_path):
    """All nodes moved: what they remember was dialled for ever, and what is configured never again."""
    async with Nodes(tmp_path, 3) as before:
        await before.start()
        await before.leader()
        old = {i: f"127.0.0.1:{node.port}" for i, node in before.by_id.items()}
    async with Nodes(tmp_path, 3) as moved:
        for i, node in moved.by_id.items():
            await moved.start(i)
            for other, address in old.items():
                node.quorum.set_address(other, address)
        leader = await moved.leader()
        for i, node in moved.by_id.items():
            if i != leader.node_id:
                await until(lambda node=node: node.quorum.address(leader.node_id) == f"127.0.0.1:{leader.port}")


async def test_a_node_that_alone_has_moved_finds_the_others_where_they_were(tmp_path):
    """Its configuration names where they will be, its metadata where they still are."""
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        old = {i: f"127.0.0.1:{node.port}" for i, node in nodes.by_id.items()}
        follower = next(node for i, node in nodes.by_id.items() if i != leader.node_id)
        await nodes.stop(follower.node_id)
        ahead = Nodes(tmp_path, 3)[follower.node_id]
        await ahead.start()
        try:
            for other, address in old.items():
                ahead.quorum.set_address(other, address)
            propose(leader, b"together")
            await until(lambda: b"together" in ahead.recorder.data)
            assert ahead.quorum.address(leader.node_id) == old[leader.node_id]
        finally:
            await ahead.stop(transfer=False)


async def test_an_entry_that_cannot_be_read_is_never_kept(tmp_path):
    """It was synced before anybody looked at it, and ended the node at each start."""
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        follower = next(node for i, node in nodes.by_id.items() if i != leader.node_id)
        follower.quorum.set_checks(lambda data: data != b"poison", lambda state: "")
        end, term = follower.quorum.last_index, leader.quorum.leadership.term
        poison = Entry(end + 1, term, EntryKind.DATA, b"poison")
        head = (follower.quorum.cluster_id, leader.quorum.me, follower.quorum.me, term)
        follower.quorum.on_message(AppendRequest(*head, end, term, end + 1, (poison,)))
        assert follower.quorum.last_index == end
        propose(leader, b"good")
        await until(lambda: follower.recorder.data == [b"good"])


async def test_a_stranger_under_a_node_s_id_that_goes_does_not_make_the_node_dead(tmp_path):
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        other = next(node for i, node in nodes.by_id.items() if i != leader.node_id)
        leader.quorum.on_dead(PeerId(other.node_id, b"x" * 16))
        assert leader.recorder.dead == []


async def test_whom_a_node_cannot_reach_it_follows_only_after_a_while_without_a_leader(tmp_path, monkeypatch):
    """A voter that is new, and that this node has not heard of: it is nowhere to be dialled, and may be the leader."""
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        node = next(node for i, node in nodes.by_id.items() if i != leader.node_id)
        term = leader.quorum.leadership.term
        for other in nodes.by_id.values():
            if other is not node:
                await nodes.stop(other.node_id)
        await until(lambda: node.quorum.leadership.leader_id is None)
        word = Heartbeat(node.quorum.cluster_id, PeerId(9, b"9" * 16), node.quorum.me, term + 1000, 0, 0)
        node.quorum.on_message(word, dialled=False)
        assert node.quorum.leadership.term < term + 1000
        monkeypatch.setattr("node.quorum.driver.STRANGERS_AFTER_MS", 0)
        node.quorum.on_message(word, dialled=False)
        assert (node.quorum.leadership.term, node.quorum.leadership.leader_id) == (term + 1000, 9)

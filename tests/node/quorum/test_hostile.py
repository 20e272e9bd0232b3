"""What anybody may send to the control listener: no frame stops a node, fills its log or poisons the quorum."""

import asyncio
import contextlib
import random

import grpc
import pytest

from node.quorum.wire import peer_to_proto
from ottla.internal.v1 import raft_pb2 as pb
from raft.core import MAX_TERM
from raft.model import PeerId
from tests.cluster.absurd import Absurd
from tests.node.quorum.harness import Nodes, propose, until

STRANGER = PeerId(9, b"\x09" * 16)
MAX_INT64 = 2**63 - 1


async def say(node, frames, sender=STRANGER):
    """Open a stream to `node` as a member of its cluster, send `frames`, and leave when it has read them all."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{node.port}") as channel:
        call = channel.stream_stream("/ottla.internal.v1.RaftService/Connect")()
        hello = pb.RaftHello(sender=peer_to_proto(sender), to_node_id=node.node_id, cluster_id=node.quorum.cluster_id)
        await call.write(pb.RaftFrame(hello=hello).SerializeToString())
        await call.read()
        # The node may have enough of us at any time.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            for frame in frames:
                await call.write(frame)
            await call.done_writing()
            async with asyncio.timeout(10):
                while await call.read() is not grpc.aio.EOF:
                    pass


def reaches(node, other):
    """Whether `node` has a stream that it dialled with `other`."""
    links = node.quorum._members.links._links.get(other.quorum.me, ())
    return node is other or any(link.dialled for link in links)


def message(node, **what):
    term = what.pop("term", node.quorum.leadership.term)
    envelope = {"cluster_id": node.quorum.cluster_id, "sender": peer_to_proto(STRANGER), "term": term}
    to = PeerId(node.node_id, node.quorum.directory_id)
    return pb.RaftFrame(message=pb.RaftMessage(to=peer_to_proto(to), **(envelope | what))).SerializeToString()


def poison(node):
    """One of each kind that the promise names."""
    term = node.quorum.leadership.term
    entry = pb.RaftEntry
    yield message(node, term=MAX_INT64, heartbeat=pb.RaftHeartbeat(commit_index=MAX_INT64, round=MAX_INT64))
    yield message(node, term=MAX_INT64, vote_request=pb.RaftVoteRequest(last_log_index=MAX_INT64, last_log_term=1))
    yield message(node, term=-MAX_INT64, vote_request=pb.RaftVoteRequest(last_log_index=-1, last_log_term=-1))
    yield message(node, cluster_id=b"another cluster!", heartbeat=pb.RaftHeartbeat(commit_index=1, round=1))
    yield message(node, cluster_id=b"", heartbeat=pb.RaftHeartbeat(commit_index=1, round=1))
    for indexes in ((5, 4), (3, 3), (MAX_INT64,), (-1, 0), (2, 4)):
        entries = [entry(index=index, term=term) for index in indexes]
        yield message(node, append_request=pb.RaftAppendRequest(prev_log_index=1, prev_log_term=1, entries=entries))
    for offset, size in ((-1, 10), (5, 1), (MAX_INT64, MAX_INT64), (0, 0), (0, -5)):
        snapshot = pb.RaftSnapshotId(last_index=MAX_INT64, last_term=term)
        chunk = pb.RaftSnapshotChunk(snapshot=snapshot, size_bytes=size, offset=offset, data=b"no snapshot")
        yield message(node, snapshot_chunk=chunk)
    yield message(node, snapshot_chunk=pb.RaftSnapshotChunk(offset=0, size_bytes=4, data=b"good"))
    yield message(node, append_accepted=pb.RaftAppendAccepted(match_index=MAX_INT64))
    yield message(node)
    yield b""
    yield b"\xff\xff\xff\xff not protobuf"


@pytest.fixture
def logged(caplog):
    """Nothing of what a stranger says may reach the log as a stack trace."""
    yield caplog
    assert [record.exc_info for record in caplog.get_records("call") if record.exc_info] == []


async def test_poison_of_each_kind_changes_nothing(tmp_path, logged):
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        before = leader.quorum.leadership
        propose(leader, b"before")
        for node in nodes.by_id.values():
            await until(lambda node=node: node.recorder.data == [b"before"])
            for frame in poison(node):
                await say(node, [frame])
        propose(leader, b"after")
        for node in nodes.by_id.values():
            await until(lambda node=node: node.recorder.data == [b"before", b"after"])
            assert not node.quorum.failed.done()
        assert (leader.quorum.leadership.term, leader.quorum.leadership.is_self) == (before.term, True)


def leads(node, sender, term):
    """What would make `node` keep, and apply, an entry that nobody committed."""
    end = node.quorum.last_index
    entry = pb.RaftEntry(index=end + 1, term=term, data=b"forged")
    request = pb.RaftAppendRequest(prev_log_index=end, prev_log_term=term, commit_index=end + 1, entries=[entry])
    return message(node, sender=peer_to_proto(sender), term=term, append_request=request)


async def test_who_says_to_be_a_member_that_is_reached_is_not_heard(tmp_path, logged):
    """Ids are no secret: anybody can open a stream as the leader, or as one of its followers."""
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        term = leader.quorum.leadership.term
        # Until a member is reached, whoever comes under its name is heard: there is nothing else to go by.
        await until(lambda: all(reaches(one, other) for one in nodes.by_id.values() for other in nodes.by_id.values()))
        followers = [node for node in nodes.by_id.values() if node is not leader]
        for node in followers:
            for sender in (node.quorum.me for node in nodes.by_id.values()):
                if sender != node.quorum.me:
                    await say(node, [leads(node, sender, term), leads(node, sender, term + 1)], sender)
            assert (node.recorder.data, node.quorum.leadership.term) == ([], term)
        # A leader that believed this would commit what it alone holds.
        for node in followers:
            node.quorum._members.on_frame = lambda peer, frame, dialled: None
        index = propose(leader, b"alone")
        for node in followers:
            accepted = pb.RaftAppendAccepted(match_index=index)
            forged = message(leader, sender=peer_to_proto(node.quorum.me), append_accepted=accepted)
            await say(leader, [forged], node.quorum.me)
        assert leader.recorder.data == []
        for node in followers:
            del node.quorum._members.on_frame
        leader = await nodes.leader()
        propose(leader, b"after")
        for node in nodes.by_id.values():
            await until(lambda node=node: b"after" in node.recorder.data)
            assert b"forged" not in node.recorder.data


async def test_nobody_at_an_unknown_address_ends_a_term_or_leads_it(tmp_path, logged):
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        before = leader.quorum.leadership
        for node in nodes.by_id.values():
            frames = [leads(node, STRANGER, before.term + more) for more in (0, 1, 1000)]
            frames.append(message(node, term=before.term + 1, append_accepted=pb.RaftAppendAccepted(match_index=1)))
            await say(node, frames)
            assert node.quorum.ignored_messages == 4
        assert (leader.quorum.leadership, [n.recorder.data for n in nodes.by_id.values()]) == (before, [[]] * 3)


async def test_many_streams_in_the_name_of_a_member_neither_pile_up_nor_keep_it_out(tmp_path, logged):
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        member = next(node.quorum.me for node in nodes.by_id.values() if node is not leader)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{leader.port}") as channel:
            hello = pb.RaftHello(
                sender=peer_to_proto(member), to_node_id=leader.node_id, cluster_id=leader.quorum.cluster_id
            )
            calls = [channel.stream_stream("/ottla.internal.v1.RaftService/Connect")() for _ in range(20)]
            for call in calls:
                await call.write(pb.RaftFrame(hello=hello).SerializeToString())
                await call.read()
            await until(lambda: len(leader.quorum._members.links._links[member]) <= 5)
            propose(leader, b"to all")
            for node in nodes.by_id.values():
                await until(lambda node=node: node.recorder.data == [b"to all"])
            for call in calls:
                call.cancel()


@pytest.mark.parametrize("seed", range(3))
async def test_random_frames_stop_nobody(tmp_path, logged, seed):
    """They may cost an election - a stranger with the cluster's id may know of a newer term - but never the quorum."""
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        ids = [leader.quorum.cluster_id, STRANGER.directory_id, *(n.quorum.directory_id for n in nodes.by_id.values())]
        absurd, rng = Absurd(seed, ["x"], ids), random.Random(seed)
        for node in nodes.by_id.values():
            frames = []
            for _ in range(150):
                frame = absurd.message(pb.RaftFrame.DESCRIPTOR)
                if frame.HasField("message") and rng.random() < 0.8:
                    # Past the envelope: the rules themselves get to see it.
                    frame.message.cluster_id = node.quorum.cluster_id
                    frame.message.sender.CopyFrom(peer_to_proto(STRANGER))
                    frame.message.to.CopyFrom(peer_to_proto(PeerId(node.node_id, node.quorum.directory_id)))
                    if rng.random() < 0.5:
                        frame.message.term = node.quorum.leadership.term
                # A second hello ends the stream, so it comes last.
                frames.append(frame)
            frames.sort(key=lambda frame: frame.HasField("hello"))
            await say(node, [frame.SerializeToString() for frame in frames])
        leader = await nodes.leader()
        assert leader.quorum.leadership.term < MAX_TERM // 2
        propose(leader, b"still here")
        for node in nodes.by_id.values():
            await until(lambda node=node: b"still here" in node.recorder.data)
            assert not node.quorum.failed.done()


async def test_a_dialled_address_that_answers_garbage_is_dialled_again(tmp_path, logged):
    answered = asyncio.Event()

    async def garbage(_requests, context):
        await context.write(b"\xff\xff\xff\xff not protobuf")
        answered.set()

    async with Nodes(tmp_path, 2) as nodes:
        wrong = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handler = grpc.method_handlers_generic_handler(
            "ottla.internal.v1.RaftService", {"Connect": grpc.stream_stream_rpc_method_handler(garbage)}
        )
        wrong.add_generic_rpc_handlers((handler,))
        wrong.add_insecure_port(f"127.0.0.1:{nodes[2].port}")
        await wrong.start()
        await nodes.start(1)
        async with asyncio.timeout(10):
            await answered.wait()
        dialer = nodes[1].quorum._members.links._dialers[2]
        await wrong.stop(None)
        await asyncio.sleep(0.1)
        assert not dialer.done()
        await nodes.start(2)
        await nodes.leader()

"""Who is dead, and whose words count: the judgements of `node.quorum.members` without a network."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from node.quorum.links import LOST_AFTER_S, Links, _Link
from node.quorum.members import Members
from node.quorum.store import Formation
from node.quorum.wire import peer_to_proto
from ottla.internal.v1 import raft_pb2 as pb
from raft.model import PeerId

ME, TWO, THREE, FOUR = (PeerId(i, bytes([i]) * 16) for i in (1, 2, 3, 4))


class Listener:
    def __init__(self, voters: int) -> None:
        self.voter_count = voters
        self.heard: list[tuple[str, Any]] = []

    def on_message(self, message: Any, *, dialled: bool) -> None:
        self.heard.append(("message", message.term))

    def on_connected(self, peer: PeerId) -> None:
        self.heard.append(("connected", peer.node_id))

    def on_dead(self, peer: PeerId) -> None:
        self.heard.append(("dead", peer.node_id))

    def on_alive(self, peer: PeerId) -> None:
        self.heard.append(("alive", peer.node_id))


class Wire:
    """Links that go nowhere."""

    def __init__(self) -> None:
        self.connected: tuple[PeerId, ...] = (TWO, THREE)
        self.sent: list[tuple[int, bool]] = []
        self.formed: list[tuple[int, bytes]] = []

    def knows(self, peer: PeerId) -> bool:
        return peer in self.connected

    def send(self, peer: PeerId, frame: pb.RaftFrame) -> None:
        if frame.formation.step == pb.RAFT_FORMATION_STEP_FORMED:
            self.formed.append((peer.node_id, frame.formation.cluster_id))
        if frame.HasField("peer_gone"):
            self.sent.append((peer.node_id, frame.peer_gone.gone))


def members(voters: int) -> tuple[Members, Listener, Wire]:
    listener, wire = Listener(voters), Wire()
    made = Members(ME, {}, directory=None, store=None, listener=listener)
    made.links = wire
    return made, listener, wire


def gone(about: PeerId, *, gone: bool = True) -> pb.RaftFrame:
    return pb.RaftFrame(peer_gone=pb.RaftPeerGone(peer=peer_to_proto(about), gone=gone))


def test_dead_is_who_was_lost_by_two():
    judge, listener, wire = members(3)
    judge.on_lost(THREE)
    assert listener.heard == []
    assert wire.sent == [(2, True)], "the others are asked"
    judge.on_frame(TWO, gone(THREE), dialled=True)
    assert listener.heard == [("dead", 3)]
    judge.on_connected(THREE)
    assert listener.heard[1:] == [("connected", 3), ("alive", 3)]


def test_the_order_of_the_two_does_not_matter():
    judge, listener, _ = members(3)
    judge.on_frame(TWO, gone(THREE), dialled=True)
    assert listener.heard == []
    judge.on_lost(THREE)
    assert listener.heard == [("dead", 3)]


async def test_a_report_counts_while_the_own_loss_is_not_certain_yet():
    """Who is the first to be certain says so to those who wait for their own 150 ms: nobody says it to them again."""
    judge, listener, _ = members(3)
    judge.links = links = Links(judge)
    link = _Link(THREE, dialled=True)
    links._attach(link)
    links._detach(link)
    judge.on_frame(TWO, gone(THREE), dialled=True)
    judge.on_frame(TWO, gone(FOUR), dialled=True)
    assert set(judge._lost_by) == {THREE}, "a member that never was here fills nothing"
    assert listener.heard == [("connected", 3)]
    await asyncio.sleep(2 * LOST_AFTER_S)
    assert listener.heard == [("connected", 3), ("dead", 3)]


def test_a_report_that_was_taken_back_or_whose_reporter_is_lost_counts_no_more():
    judge, listener, _ = members(3)
    judge.on_frame(TWO, gone(THREE), dialled=True)
    judge.on_frame(TWO, gone(THREE, gone=False), dialled=True)
    judge.on_lost(THREE)
    assert listener.heard == []
    judge.on_connected(THREE)
    judge.on_frame(TWO, gone(THREE), dialled=True)
    judge.on_lost(TWO)
    listener.heard.clear()
    judge.on_lost(THREE)
    assert ("dead", 3) not in listener.heard


def test_of_two_voters_one_word_is_enough():
    judge, listener, _ = members(2)
    judge.on_lost(TWO)
    assert listener.heard == [("dead", 2)]


@pytest.mark.parametrize(("named", "counts"), [(TWO, True), (THREE, False)])
def test_a_message_counts_from_whom_it_names_only(named, counts):
    judge, listener, _ = members(3)
    message = pb.RaftMessage(
        cluster_id=b"c" * 16,
        sender=peer_to_proto(named),
        to=peer_to_proto(ME),
        term=4,
        heartbeat=pb.RaftHeartbeat(),
    )
    judge.on_frame(TWO, pb.RaftFrame(message=message), dialled=True)
    assert listener.heard == ([("message", 4)] if counts else [])


def test_who_said_hello_before_there_was_a_cluster_is_told_of_it():
    """Its hello and the forming cross: nothing else would ever tell an observer, its stream stays open."""
    judge, _, wire = members(3)
    judge._directory, judge._store = SimpleNamespace(cluster_id=None), SimpleNamespace(formation=None)
    assert judge.admit(pb.RaftHello(sender=peer_to_proto(FOUR), to_node_id=1)) is None
    judge._store.formation = Formation(b"c" * 16, (ME, TWO, THREE))
    judge.on_connected(FOUR)
    assert wire.formed == [(4, b"c" * 16)]
    judge.on_connected(TWO)
    assert wire.formed == [(4, b"c" * 16)], "who said that it belongs to it knows"


def test_whoever_enters_a_cluster_tells_those_who_wait():
    judge, listener, wire = members(3)
    listener.on_cluster = lambda: None
    judge._directory = SimpleNamespace(cluster_id=None, set_cluster_id=lambda _: None)
    judge._store = SimpleNamespace(formation=None)
    judge.admit(pb.RaftHello(sender=peer_to_proto(FOUR), to_node_id=1))
    wire.connected = (TWO, THREE, FOUR)
    judge._store.formation = Formation(b"c" * 16, (ME, TWO, THREE))
    assert judge._enter(judge._store.formation)
    assert wire.formed == [(4, b"c" * 16)]


def test_reports_about_nobody_and_passers_by_fill_nothing():
    """256 names that somebody made up, and no report counted any more: each failover waited for silence."""
    judge, listener, _ = members(3)
    for number in range(1000):
        judge.on_frame(TWO, gone(PeerId(9, number.to_bytes(16))), dialled=False)
    assert judge._lost_by == {}
    for number in range(1000):
        judge.on_connected(PeerId(9, number.to_bytes(16)))
        judge.on_lost(PeerId(9, number.to_bytes(16)))
    assert len(judge._lost) <= 256
    listener.heard.clear()
    judge.on_lost(THREE)
    judge.on_frame(TWO, gone(THREE), dialled=True)
    assert listener.heard == [("dead", 3)]

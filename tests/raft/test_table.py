"""Every message in every role, in an older, the same and a newer term: what comes of it, and that it never raises."""

# ruff: noqa: E501 - one row per message reads better than any wrapping of it

import pytest

from raft import messages
from raft.core import MAX_TERM, RULES
from raft.effects import Role
from raft.messages import (
    AppendAccepted,
    AppendRefused,
    AppendRequest,
    FollowRequest,
    Heartbeat,
    HeartbeatResponse,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    SnapshotChunk,
    SnapshotChunkResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from raft.model import Entry, EntryKind, SnapshotMeta
from tests.raft.cluster import CLUSTER, Cluster, peer

F, P, C, L = Role.FOLLOWER, Role.PROSPECTIVE, Role.CANDIDATE, Role.LEADER
ROLES = (F, P, C, L)
TERM = 1


def in_role(role: Role) -> Cluster:
    """Three voters; node 1 is in `role` in term 1 and holds entry (1, 1)."""
    cluster = Cluster(3)
    cluster.elect(2 if role in (F, P) else 1)
    if role is P:
        cluster.now_ms += 5000
        cluster.tick(1)
    elif role is C:
        # A candidate of term 1 must not have been led in it: start over with a vote nobody answers.
        cluster = Cluster(3)
        cluster.now_ms = 5000
        cluster.tick(1)
        cluster.deliver(lambda m: m.to.node_id == 2)
        cluster.sync(2)
        cluster.deliver(lambda m: m.to.node_id == 1)
        cluster.sync(1)
    cluster.wire.clear()
    assert cluster.rafts[1].role is role
    assert cluster.rafts[1].term == TERM
    return cluster


LEADERS_WORDS = (AppendRequest, Heartbeat, SnapshotChunk, TimeoutNow)
"""What only the leader says."""


def message(cls: type[Message], term: int, sender: int = 3) -> Message:
    head = (CLUSTER, peer(sender if cls is not TimeoutNow else 2), peer(1), term)
    match cls.__name__:
        case "PreVoteRequest":
            return PreVoteRequest(*head, 9, 1)
        case "VoteRequest":
            return VoteRequest(*head, 9, 1, True)
        case "PreVoteResponse" | "VoteResponse":
            return cls(*head, True)  # type: ignore[call-arg]
        case "AppendRequest":
            return AppendRequest(*head, 0, 0, 0, (Entry(1, 1, EntryKind.NOOP),))
        case "AppendAccepted":
            return AppendAccepted(*head, 1)
        case "AppendRefused":
            return AppendRefused(*head, 1, 0, 0)
        case "Heartbeat":
            return Heartbeat(*head, 0, 0)
        case "HeartbeatResponse":
            return HeartbeatResponse(*head, 0)
        case "SnapshotChunk":
            return SnapshotChunk(*head, SnapshotMeta(50, 1, (peer(1), peer(3))), 10, 0, b"12345")
        case "SnapshotChunkResponse":
            return SnapshotChunkResponse(*head, 50, 5)
        case "TimeoutNow":
            return TimeoutNow(*head)
        case _:
            return FollowRequest(*head, 0)


# fmt: off
SAME_TERM = {
    # message: role afterwards and the answer's type, for follower (of 2), prospective, candidate, leader
    PreVoteRequest:        ((F, PreVoteResponse),       (P, PreVoteResponse),       (C, PreVoteResponse),       (L, PreVoteResponse)),
    PreVoteResponse:       ((F, None),                  (C, VoteRequest),           (C, None),                  (L, None)),
    VoteRequest:           ((F, VoteResponse),          (P, VoteResponse),          (C, VoteResponse),          (L, VoteResponse)),
    VoteResponse:          ((F, None),                  (P, None),                  (L, AppendRequest),         (L, None)),
    AppendRequest:         ((F, AppendAccepted),        (F, AppendAccepted),        (F, AppendAccepted),        (L, None)),
    AppendAccepted:        ((F, None),                  (P, None),                  (C, None),                  (L, None)),
    AppendRefused:         ((F, None),                  (P, None),                  (C, None),                  (L, AppendRequest)),
    Heartbeat:             ((F, HeartbeatResponse),     (F, HeartbeatResponse),     (F, HeartbeatResponse),     (L, None)),
    HeartbeatResponse:     ((F, None),                  (P, None),                  (C, None),                  (L, None)),
    SnapshotChunk:         ((F, SnapshotChunkResponse), (F, SnapshotChunkResponse), (F, SnapshotChunkResponse), (L, None)),
    SnapshotChunkResponse: ((F, None),                  (P, None),                  (C, None),                  (L, None)),
    TimeoutNow:            ((C, VoteRequest),           (P, None),                  (C, None),                  (L, None)),
    FollowRequest:         ((F, None),                  (P, None),                  (C, None),                  (L, None)),
}
OLD_TERM = {
    # message of term 0: the answer that carries the newer term, in every role
    PreVoteRequest: PreVoteResponse, VoteRequest: VoteResponse, AppendRequest: HeartbeatResponse,
    Heartbeat: HeartbeatResponse, SnapshotChunk: HeartbeatResponse,
}
# fmt: on


def test_the_table_has_a_row_for_every_message_and_a_column_for_every_role():
    defined = {cls for cls in vars(messages).values() if isinstance(cls, type) and issubclass(cls, Message)}
    assert set(RULES) == defined - {Message} == set(SAME_TERM)
    assert all(set(row) == set(Role) for row in RULES.values())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("cls", SAME_TERM)
def test_same_term(cls, role):
    cluster = in_role(role)
    cluster.inject(message(cls, TERM, 2 if role is F and cls in LEADERS_WORDS else 3))
    cluster.sync(1)
    role_after, answer = SAME_TERM[cls][ROLES.index(role)]
    assert cluster.rafts[1].role is role_after
    answers = {type(m) for m in cluster.wire if m.sender == peer(1)}
    assert answers == ({answer} if answer else set())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("cls", SAME_TERM)
def test_an_older_term_changes_nothing_and_askers_learn_the_newer_one(cls, role):
    cluster = in_role(role)
    old = message(cls, 0)
    if cls is VoteRequest or cls is PreVoteRequest:
        old = (
            VoteRequest(CLUSTER, peer(3), peer(1), 0, 0, 0, True)
            if cls is VoteRequest
            else PreVoteRequest(CLUSTER, peer(3), peer(1), 0, 0, 0)
        )
    cluster.inject(old)
    cluster.sync(1)
    assert (cluster.rafts[1].role, cluster.rafts[1].term) == (role, TERM)
    answers = [m for m in cluster.wire if m.sender == peer(1)]
    assert {type(m) for m in answers} == ({OLD_TERM[cls]} if cls in OLD_TERM else set())
    assert all(m.term == TERM for m in answers)
    assert all(not m.granted for m in answers if isinstance(m, (PreVoteResponse, VoteResponse)))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("cls", SAME_TERM)
def test_a_newer_term_is_adopted_except_from_those_who_only_ask(cls, role):
    cluster = in_role(role)
    cluster.inject(message(cls, 7))
    raft = cluster.rafts[1]
    asks_only = cls is FollowRequest or (cls is PreVoteRequest and role in (F, L))  # both know a live leader
    assert raft.term == (TERM if asks_only else 7)
    if not asks_only:
        assert raft.role is F
        assert cluster.disks[1].hard_state.term <= TERM, "not synced yet"
        assert not [m for m in cluster.wire if m.term == 7], "nothing leaves in a term that is not on disk"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("cls", SAME_TERM)
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"cluster_id": b"X" * 16}, "foreign"),
        ({"to": peer(1, disk=1)}, "foreign"),
        ({"to": peer(2)}, "foreign"),
        ({"sender": peer(1)}, "foreign"),
        ({"term": -1}, "absurd_term"),
        ({"term": 2**63 - 1}, "absurd_term"),
        ({"term": MAX_TERM + 1}, "absurd_term"),
        ({"term": 2**40}, "absurd_term"),
    ],
)
def test_a_wrong_envelope_is_dropped_before_anything_is_learned_from_it(cls, role, wrong, reason):
    from dataclasses import replace

    cluster = in_role(role)
    cluster.inject(replace(message(cls, 7), **wrong))
    assert (cluster.rafts[1].role, cluster.rafts[1].term) == (role, TERM)
    assert cluster.rafts[1].dropped == {reason: 1}
    assert not cluster.wire


HUGE = 2**63 - 1


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "absurd",
    [
        lambda head: AppendRequest(*head, -5, 0, 0, ()),
        lambda head: AppendRequest(*head, HUGE, 1, HUGE, ()),
        lambda head: AppendRequest(*head, 0, 0, -1, ()),
        lambda head: AppendRequest(*head, 0, 0, 9, (Entry(5, 1, EntryKind.DATA),)),
        lambda head: AppendRequest(*head, 0, 0, 9, (Entry(1, HUGE, EntryKind.DATA),)),
        lambda head: AppendRequest(*head, 1, 1, 9, (Entry(2, 1, EntryKind.DATA), Entry(3, 0, EntryKind.DATA))),
        lambda head: AppendAccepted(*head, HUGE),
        lambda head: AppendAccepted(*head, -1),
        lambda head: AppendRefused(*head, HUGE, 0, 0),
        lambda head: AppendRefused(*head, 1, -1, 0),
        lambda head: AppendRefused(*head, 1, 1, HUGE),
        lambda head: Heartbeat(*head, HUGE, 1),
        lambda head: Heartbeat(*head, -1, -1),
        lambda head: HeartbeatResponse(*head, HUGE),
        lambda head: PreVoteRequest(*head, HUGE, HUGE),
        lambda head: VoteRequest(*head, -1, 0, False),
        lambda head: SnapshotChunk(*head, SnapshotMeta(-1, 0, ()), 10, 0, b""),
        lambda head: SnapshotChunk(*head, SnapshotMeta(9, 1, (peer(1),)), 10, 9, b"too long"),
        lambda head: SnapshotChunk(*head, SnapshotMeta(9, 1, (peer(1),)), -1, -1, b""),
        lambda head: SnapshotChunk(*head, SnapshotMeta(9, HUGE, (peer(1),)), 10, 0, b"x"),
        lambda head: SnapshotChunk(*head, SnapshotMeta(9, 1, ()), 10, 0, b"x"),
        lambda head: SnapshotChunkResponse(*head, 9, HUGE),
        lambda head: FollowRequest(*head, HUGE),
        lambda head: FollowRequest(*head, -HUGE),
    ],
)
def test_absurd_numbers_neither_raise_nor_commit_anything(absurd, role):
    cluster = in_role(role)
    committed = cluster.rafts[1].commit_index
    for sender in (3, 9):
        cluster.inject(absurd((CLUSTER, peer(sender), peer(1), TERM)))
        cluster.sync(1)
    assert cluster.rafts[1].commit_index <= max(committed, 1)
    assert cluster.rafts[1].term == TERM
    assert len(cluster.terms(1)) <= 1

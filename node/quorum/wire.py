"""Consensus messages as protobuf, and back. Translates; decides nothing."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from ottla.internal.v1 import raft_pb2 as pb
from raft import messages as m
from raft.model import Entry, EntryKind, PeerId, SnapshotMeta

_Body = Any
"""One of the bodies of `RaftMessage`; which one is the table's business."""


def peer_to_proto(peer: PeerId) -> pb.RaftPeer:
    return pb.RaftPeer(node_id=peer.node_id, directory_id=peer.directory_id)


def peer_from_proto(peer: pb.RaftPeer) -> PeerId:
    return PeerId(peer.node_id, peer.directory_id)


def peers_to_proto(peers: Iterable[PeerId]) -> list[pb.RaftPeer]:
    return [peer_to_proto(peer) for peer in peers]


def peers_from_proto(peers: Iterable[pb.RaftPeer]) -> tuple[PeerId, ...]:
    return tuple(peer_from_proto(peer) for peer in peers)


def snapshot_to_proto(snapshot: SnapshotMeta) -> pb.RaftSnapshotId:
    return pb.RaftSnapshotId(
        last_index=snapshot.last_index, last_term=snapshot.last_term, voters=peers_to_proto(snapshot.voters)
    )


def snapshot_from_proto(snapshot: pb.RaftSnapshotId) -> SnapshotMeta:
    return SnapshotMeta(snapshot.last_index, snapshot.last_term, peers_from_proto(snapshot.voters))


def _entry_to_proto(entry: Entry) -> pb.RaftEntry:
    kind = pb.RaftEntryKind.ValueType(entry.kind.value)
    return pb.RaftEntry(
        index=entry.index, term=entry.term, kind=kind, data=entry.data, voters=peers_to_proto(entry.voters)
    )


def _entry_from_proto(entry: pb.RaftEntry) -> Entry:
    return Entry(entry.index, entry.term, EntryKind(entry.kind), entry.data, peers_from_proto(entry.voters))


def _vote_to_proto(vote: m.PreVoteResponse | m.VoteResponse) -> pb.RaftVoteResponse:
    return pb.RaftVoteResponse(granted=vote.granted, if_all=vote.if_all, voters=peers_to_proto(vote.voters))


_TO_PROTO: Final[dict[type[m.Message], tuple[str, Callable[[Any], _Body]]]] = {
    m.PreVoteRequest: (
        "pre_vote_request",
        lambda x: pb.RaftPreVoteRequest(last_log_index=x.last_log_index, last_log_term=x.last_log_term),
    ),
    m.PreVoteResponse: ("pre_vote_response", _vote_to_proto),
    m.VoteRequest: (
        "vote_request",
        lambda x: pb.RaftVoteRequest(
            last_log_index=x.last_log_index, last_log_term=x.last_log_term, transfer=x.transfer
        ),
    ),
    m.VoteResponse: ("vote_response", _vote_to_proto),
    m.AppendRequest: (
        "append_request",
        lambda x: pb.RaftAppendRequest(
            prev_log_index=x.prev_log_index,
            prev_log_term=x.prev_log_term,
            commit_index=x.commit_index,
            entries=[_entry_to_proto(entry) for entry in x.entries],
        ),
    ),
    m.AppendAccepted: ("append_accepted", lambda x: pb.RaftAppendAccepted(match_index=x.match_index)),
    m.AppendRefused: (
        "append_refused",
        lambda x: pb.RaftAppendRefused(prev_log_index=x.prev_log_index, hint_index=x.hint_index, hint_term=x.hint_term),
    ),
    m.Heartbeat: (
        "heartbeat",
        lambda x: pb.RaftHeartbeat(commit_index=x.commit_index, round=x.round, loss=x.loss, whole_index=x.whole_index),
    ),
    m.HeartbeatResponse: (
        "heartbeat_response",
        lambda x: pb.RaftHeartbeatResponse(round=x.round, loss=x.loss),
    ),
    m.SnapshotChunk: (
        "snapshot_chunk",
        lambda x: pb.RaftSnapshotChunk(
            snapshot=snapshot_to_proto(x.snapshot), size_bytes=x.size_bytes, offset=x.offset, data=x.data
        ),
    ),
    m.SnapshotChunkResponse: (
        "snapshot_chunk_response",
        lambda x: pb.RaftSnapshotChunkResponse(last_index=x.last_index, next_offset=x.next_offset),
    ),
    m.TimeoutNow: ("timeout_now", lambda x: pb.RaftTimeoutNow()),
    m.FollowRequest: ("follow_request", lambda x: pb.RaftFollowRequest(last_log_index=x.last_log_index)),
}

_FROM_PROTO: Final[dict[str, tuple[type[m.Message], Callable[[_Body], tuple[Any, ...]]]]] = {
    "pre_vote_request": (m.PreVoteRequest, lambda b: (b.last_log_index, b.last_log_term)),
    "pre_vote_response": (m.PreVoteResponse, lambda b: (b.granted, b.if_all, peers_from_proto(b.voters))),
    "vote_request": (m.VoteRequest, lambda b: (b.last_log_index, b.last_log_term, b.transfer)),
    "vote_response": (m.VoteResponse, lambda b: (b.granted, b.if_all, peers_from_proto(b.voters))),
    "append_request": (
        m.AppendRequest,
        lambda b: (
            b.prev_log_index,
            b.prev_log_term,
            b.commit_index,
            tuple(_entry_from_proto(entry) for entry in b.entries),
        ),
    ),
    "append_accepted": (m.AppendAccepted, lambda b: (b.match_index,)),
    "append_refused": (m.AppendRefused, lambda b: (b.prev_log_index, b.hint_index, b.hint_term)),
    "heartbeat": (m.Heartbeat, lambda b: (b.commit_index, b.round, b.loss, b.whole_index)),
    "heartbeat_response": (m.HeartbeatResponse, lambda b: (b.round, b.loss)),
    "snapshot_chunk": (
        m.SnapshotChunk,
        lambda b: (snapshot_from_proto(b.snapshot), b.size_bytes, b.offset, b.data),
    ),
    "snapshot_chunk_response": (m.SnapshotChunkResponse, lambda b: (b.last_index, b.next_offset)),
    "timeout_now": (m.TimeoutNow, lambda b: ()),
    "follow_request": (m.FollowRequest, lambda b: (b.last_log_index,)),
}


def to_proto(message: m.Message) -> pb.RaftMessage:
    """Encode a message."""
    name, body = _TO_PROTO[type(message)]
    return pb.RaftMessage(
        cluster_id=message.cluster_id,
        sender=peer_to_proto(message.sender),
        to=peer_to_proto(message.to),
        term=message.term,
        **{name: body(message)},
    )


def from_proto(message: pb.RaftMessage) -> m.Message | None:
    """Decode a message; None if it says nothing this version knows."""
    name = message.WhichOneof("body")
    if name is None:
        return None
    cls, fields = _FROM_PROTO[name]
    try:
        body = fields(getattr(message, name))
    except ValueError:
        return None  # an entry of a kind this version does not know
    head = (message.cluster_id, peer_from_proto(message.sender), peer_from_proto(message.to), message.term)
    return cls(*head, *body)

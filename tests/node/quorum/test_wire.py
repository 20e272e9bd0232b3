"""Every message survives the wire, and nothing on the wire raises."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.quorum.wire import from_proto, to_proto
from ottla.internal.v1 import raft_pb2 as pb
from raft import messages as m
from raft.core import RULES
from raft.model import Entry, EntryKind, PeerId, SnapshotMeta

numbers = st.integers(0, 2**62)
peers = st.builds(PeerId, st.integers(1, 2**31 - 1), st.binary(min_size=16, max_size=16))
voters = st.lists(peers, max_size=4).map(tuple)
entries = st.one_of(
    st.builds(Entry, numbers, numbers, st.just(EntryKind.DATA), st.binary(max_size=50)),
    st.builds(Entry, numbers, numbers, st.just(EntryKind.NOOP)),
    st.builds(Entry, numbers, numbers, st.just(EntryKind.VOTERS), st.just(b""), voters),
)
FIELDS = {
    "last_log_index": numbers, "last_log_term": numbers, "granted": st.booleans(), "if_all": st.booleans(),
    "voters": voters, "transfer": st.booleans(), "prev_log_index": numbers, "prev_log_term": numbers,
    "commit_index": numbers,
    "entries": st.lists(entries, max_size=4).map(tuple), "match_index": numbers, "hint_index": numbers,
    "hint_term": numbers, "round": numbers, "snapshot": st.builds(SnapshotMeta, numbers, numbers, voters),
    "size_bytes": numbers, "offset": numbers, "data": st.binary(max_size=50), "last_index": numbers,
    "next_offset": numbers, "loss": numbers, "whole_index": numbers,
}  # fmt: skip


def own_fields(cls: type[m.Message]) -> list[str]:
    return [name for name in cls.__dataclass_fields__ if name not in m.Message.__dataclass_fields__]


@pytest.mark.parametrize("cls", sorted(RULES, key=lambda cls: cls.__name__))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_message_comes_back_as_it_went(cls, data):
    head = (b"c" * 16, data.draw(peers), data.draw(peers), data.draw(numbers))
    message = cls(*head, **{name: data.draw(FIELDS[name]) for name in own_fields(cls)})
    raw = to_proto(message).SerializeToString()
    assert from_proto(pb.RaftMessage.FromString(raw)) == message


def test_what_this_version_does_not_know_is_nothing():
    assert from_proto(pb.RaftMessage(term=1)) is None
    entry = pb.RaftEntry(index=1, term=1)
    entry.kind = 77
    assert from_proto(pb.RaftMessage(append_request=pb.RaftAppendRequest(entries=[entry]))) is None


def test_missing_sub_messages_decode_to_what_the_core_refuses():
    message = from_proto(pb.RaftMessage(term=1, snapshot_chunk=pb.RaftSnapshotChunk()))
    assert isinstance(message, m.SnapshotChunk)
    assert message.snapshot == SnapshotMeta(0, 0, ())
    assert message.sender == PeerId(0, b"")

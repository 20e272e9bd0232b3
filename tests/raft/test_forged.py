"""Messages that no correct member sends: they change nothing, and use nothing up."""

import pytest

from raft.core import MAX_TERM, MAX_TERM_JUMP
from raft.messages import AppendRequest, Heartbeat
from raft.model import Entry, EntryKind
from tests.raft.cluster import CLUSTER, Cluster, peer


def test_many_small_jumps_do_not_use_the_terms_up():
    """One forged frame after the other, each a legal jump: after 2 048 of them there was no term left, for good."""
    cluster = Cluster(3)
    cluster.elect(1)
    for i in range(42_000):
        term = min(cluster.rafts[2].term + (MAX_TERM_JUMP >> i % 21), MAX_TERM)
        cluster.inject(Heartbeat(CLUSTER, peer(1), peer(2), term, 0, 0), at=2)
    assert cluster.rafts[2].term == MAX_TERM_JUMP
    for _ in range(3):
        cluster.heartbeat(1)
    cluster.elect(3)
    cluster.propose(3, b"x")
    cluster.settle()
    cluster.heartbeat(3)
    assert cluster.data(2) == [b"x"]
    before = cluster.rafts[2].term
    cluster.now_ms += 60_000
    cluster.inject(Heartbeat(CLUSTER, peer(1), peer(2), before + 1000, 0, 0), at=2)
    assert cluster.rafts[2].term == before + 1000, "so many elections can have been in a minute"
    cluster.inject(Heartbeat(CLUSTER, peer(1), peer(2), before + 3000, 0, 0), at=2)
    assert cluster.rafts[2].term == before + 1000


@pytest.mark.parametrize(
    "entry",
    [
        Entry(2, 1, EntryKind.VOTERS),
        Entry(2, 1, EntryKind.VOTERS, b"x", (peer(1),)),
        Entry(2, 1, EntryKind.VOTERS, b"", (peer(1), peer(1))),
        Entry(2, 1, EntryKind.DATA, b"x", (peer(1),)),
        Entry(2, 1, EntryKind.NOOP, b"x"),
    ],
    ids=["no voters", "voters and data", "a voter twice", "data and voters", "an empty entry with data"],
)
def test_an_entry_that_is_not_what_its_kind_says_changes_nothing(entry):
    cluster = Cluster(3)
    cluster.elect(1)
    for term in (1, 2):
        cluster.inject(AppendRequest(CLUSTER, peer(1), peer(2), term, 1, 1, 2, (entry,)), at=2)
    assert (cluster.rafts[2].log.last_index, cluster.rafts[2].term) == (1, 1)
    assert cluster.rafts[2].dropped == {"malformed_append": 2}


def test_a_term_has_one_leader_whoever_says_to_be_another():
    """Nothing is taken from a second leader while the first is heard; of a silent one nobody is kept out by it."""
    cluster = Cluster(3)
    cluster.elect(1)
    forged = AppendRequest(CLUSTER, peer(3), peer(2), 1, 1, 1, 2, (Entry(2, 1, EntryKind.DATA, b"forged"),))
    cluster.inject(forged, at=2)
    assert (cluster.rafts[2].log.last_index, cluster.rafts[2].leader) == (1, peer(1))
    assert cluster.rafts[2].dropped == {"second_leader": 1}
    cluster.now_ms += 60_000
    cluster.inject(Heartbeat(CLUSTER, peer(3), peer(2), 1, 0, 0), at=2)
    assert cluster.rafts[2].leader == peer(3)

"""The search itself: that it closes small scopes, leaves nothing out and finds what is planted."""

import pytest

from raft import core, election, replication
from raft.effects import Role
from raft.messages import AppendAccepted, VoteRequest
from tests.sim import raft_exhaustive
from tests.sim.raft_exhaustive import Bounds, Search


class Recording(Search):
    """Remembers all that was seen apart from the wire, under every name."""

    def __init__(self, bounds: Bounds, *, symmetric: bool = True) -> None:
        super().__init__(bounds, symmetric=symmetric)
        self.reached: set[bytes] = set()

    def _note(self, state):
        size, count = raft_exhaustive.HASH_BYTES, len(raft_exhaustive.RENAMINGS)
        hashed = state.hashes.to_bytes(size * count, "big")
        self.reached.update(hashed[size * r : size * (r + 1)] for r in range(count))

    def _is_new(self, state):
        self._note(state)
        return super()._is_new(state)


class Plain(Recording):
    """Leaves out equal states only: every message stays for ever, and is answered when it arrives."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(bounds, symmetric=False)
        self._equal: set[object] = set()

    def _after(self, state, i, event, used):
        after = super()._after(state, i, event, used)
        outcome = self.known.after(state.nodes[i], event)
        if after is None and outcome is not None:
            return state._replace(wire=self._wire(state.wire, state.nodes, i, outcome))
        return after

    def _wire(self, wire, nodes, changed, outcome):
        return tuple(sorted({*wire, *outcome.sent}))

    def _is_new(self, state):
        if state[:4] in self._equal:
            return False
        self._equal.add(state[:4])
        self._note(state)
        key, wire = self._key(state)
        self._richest.setdefault(key, set()).add(wire)
        return True


SMALL = [Bounds(1), Bounds(1, 1), Bounds(1, 0, 1), Bounds(1, crashes=1)]


@pytest.mark.parametrize("bounds", [*SMALL, Bounds(2), Bounds(1, 1, 1)])
def test_small_scopes_are_closed_without_a_failure(bounds):
    search = Search(bounds)
    assert search.run(max_states=100_000)
    assert search.deepest == bounds.elections + bounds.entries


@pytest.mark.parametrize("bounds", SMALL)
def test_the_names_of_the_nodes_make_no_difference(bounds):
    renamed, named = Recording(bounds), Recording(bounds, symmetric=False)
    assert renamed.run(max_states=1_000_000)
    assert named.run(max_states=1_000_000)
    assert renamed.reached == named.reached
    assert renamed.states < named.states


@pytest.mark.parametrize("bounds", SMALL)
def test_nothing_is_left_out_that_matters(bounds):
    short, plain = Recording(bounds), Plain(bounds)
    assert short.run(max_states=1_000_000)
    assert plain.run(max_states=1_000_000)
    assert short.reached == plain.reached
    assert short.states < len(plain._equal)


def test_a_second_vote_in_a_term_is_found_and_the_way_there_told(monkeypatch):
    def votes_for_all(s, m):
        s.voted_for = None
        election.on_vote_request(s, m)

    monkeypatch.setitem(core.RULES[VoteRequest], Role.FOLLOWER, votes_for_all)
    with pytest.raises(AssertionError, match=r"two leaders in term 1[\s\S]*\('stand',\)[\s\S]*VoteResponse"):
        Search(Bounds(2)).run(max_states=100_000)


def test_a_leader_without_committed_entries_is_found(monkeypatch):
    monkeypatch.setattr(election, "log_is_up_to_date", lambda s, last_index, last_term: True)
    with pytest.raises(
        AssertionError, match=r"leads term 2 without committed entries|is committed with 1 synced copies"
    ):
        Search(Bounds(2)).run(max_states=100_000)


def test_an_acknowledgement_before_its_sync_is_found(monkeypatch):
    def accept(s, leader, match_index):
        s.send(AppendAccepted(s.cluster_id, s.me, leader, s.term, match_index))

    monkeypatch.setattr(replication, "accept", accept)
    with pytest.raises(AssertionError, match="leaves before the entries are on disk"):
        Search(Bounds(1)).run(max_states=100_000)

"""One test per rule of the Raft paper and dissertation, named by its section."""

import pytest

from raft.config import RaftConfig
from raft.effects import HardState, Persisted, ReadResult, Role
from raft.errors import InvariantError, NotLeaderError, RefusedError
from raft.log import RaftLog
from raft.messages import (
    AppendAccepted,
    AppendRefused,
    AppendRequest,
    Heartbeat,
    HeartbeatResponse,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from raft.model import Entry, EntryKind, SnapshotMeta
from tests.raft.cluster import CLUSTER, Cluster, kind, peer, to


def test_5_2_a_follower_that_hears_nothing_stands_and_a_majority_elects_it():
    cluster = Cluster(3)
    cluster.elect(1)
    assert cluster.leaders() == [1]
    assert {raft.term for raft in cluster.rafts.values()} == {1}
    assert {raft.leader for raft in cluster.rafts.values()} == {peer(1)}


def test_5_2_one_vote_per_term_first_come_first_served():
    cluster = Cluster(3)
    cluster.now_ms = 5000
    cluster.inject(VoteRequest(CLUSTER, peer(1), peer(3), 1, 0, 0, False), at=3)
    cluster.inject(VoteRequest(CLUSTER, peer(2), peer(3), 1, 0, 0, False), at=3)
    cluster.inject(VoteRequest(CLUSTER, peer(1), peer(3), 1, 0, 0, False), at=3)
    cluster.sync(3)
    assert [(m.to, m.granted) for m in cluster.wire] == [(peer(1), True), (peer(2), False), (peer(1), True)]


def test_5_2_a_campaign_waits_for_no_silence_but_still_asks_first():
    cluster = Cluster(3)
    cluster.rafts[2].campaign(cluster.now_ms)
    cluster.drain(2)
    assert {type(m) for m in cluster.wire} == {PreVoteRequest}
    cluster.settle()
    assert cluster.leaders() == [2]
    cluster.rafts[3].campaign(cluster.now_ms)
    cluster.drain(3)
    cluster.settle()
    assert cluster.leaders() == [2], "a live leader is protected from it"


def test_5_2_heartbeats_keep_followers_from_standing():
    cluster = Cluster(3)
    cluster.elect(1)
    for _ in range(20):
        cluster.heartbeat(1)
        for follower in (2, 3):
            cluster.rafts[follower].tick(cluster.now_ms)
    assert cluster.leaders() == [1]
    assert cluster.rafts[1].term == 1


def test_5_2_a_lost_election_waits_a_random_time_that_doubles_up_to_its_bound():
    cluster = Cluster(3)
    cluster.now_ms = 5000
    waits = []
    for _ in range(9):
        cluster.tick(1)
        began = cluster.now_ms
        cluster.inject(VoteResponse(CLUSTER, peer(2), peer(1), cluster.rafts[1].term, False))
        for other in (2, 3):
            cluster.inject(PreVoteResponse(CLUSTER, peer(other), peer(1), cluster.rafts[1].term, False))
        waits.append(cluster.deadlines[1] - began)
    assert waits == [50, 100, 200, 400, 500, 500, 500, 500, 500], "half of 100, 200 ... bounded by half of 1000"


def test_5_3_entries_follow_on_and_differing_tails_are_replaced():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"lost-1", b"lost-2")
    cluster.drop()
    cluster.sync(1)
    cluster.elect(2, without=(1,))
    cluster.propose(2, b"kept")
    cluster.settle(without=(1,))
    for _ in range(3):
        cluster.heartbeat(2)
    assert cluster.data(1) == cluster.data(2) == cluster.data(3) == [b"kept"]
    assert [e.data for e in cluster.disks[1].entries] == [b"", b"", b"kept"]


def test_5_3_entries_follow_on_from_an_entry_of_the_same_term_only():
    """The log matching property: an index alone says nothing of what stands there."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.inject(AppendRequest(CLUSTER, peer(1), peer(2), 1, 1, 1, 1, (Entry(2, 1, EntryKind.DATA, b"lost"),)), at=2)
    new = Entry(3, 2, EntryKind.DATA, b"new")
    cluster.inject(AppendRequest(CLUSTER, peer(3), peer(2), 2, 2, 2, 3, (new,)), at=2)
    assert (cluster.rafts[2].log.last_index, cluster.rafts[2].commit_index) == (2, 1)


def test_5_3_an_append_that_repeats_known_entries_cuts_nothing():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"a", b"b")
    (early,) = cluster.drop(lambda m: to(2)(m) and kind(AppendRequest)(m))
    cluster.propose(1, b"c")
    (late,) = cluster.drop(lambda m: to(2)(m) and kind(AppendRequest)(m))
    for message in (early, late, early):
        cluster.inject(message, at=2)
    assert [e.data for e in cluster.rafts[2].log.slice(2, 4)] == [b"a", b"b", b"c"]


def test_5_3_back_off_takes_one_step_per_term_not_per_entry():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 500)
    cluster.drop()
    cluster.elect(2, without=(1,))
    cluster.propose(2, *[b"y"] * 300)
    cluster.settle(without=(1,))
    cluster.story.clear()
    cluster.heartbeat(2)
    cluster.heartbeat(2)
    refusals = [line for line in cluster.story if "AppendRefused" in line]
    assert len(refusals) <= 2, refusals
    assert cluster.terms(1) == cluster.terms(2)


def test_5_4_1_a_log_with_an_older_last_term_gets_no_vote_however_long_it_is():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 10)
    cluster.drop()
    cluster.sync(1)
    cluster.elect(2, without=(1,))
    cluster.now_ms += 5000
    request = VoteRequest(CLUSTER, peer(1), peer(3), 9, cluster.rafts[1].log.last_index, 1, False)
    cluster.inject(request, at=3)
    cluster.sync(3)
    (answer,) = [m for m in cluster.wire if isinstance(m, VoteResponse)]
    assert not answer.granted
    assert cluster.rafts[1].log.last_index > cluster.rafts[3].log.last_index


def test_5_4_2_entries_of_earlier_terms_are_committed_by_one_of_the_own_term_only():
    """Figure 8: an entry of term 1 on a majority is not committed by counting in term 3."""
    cluster = Cluster(3)
    cluster.elect(1)
    committed = cluster.rafts[1].commit_index
    cluster.propose(1, b"old")
    cluster.sync(1)
    cluster.drop()
    cluster.now_ms += 5000
    cluster.restart(1)
    cluster.now_ms += 5000
    cluster.tick(1)
    cluster.deliver(kind(PreVoteRequest))
    cluster.sync()
    while cluster.rafts[1].role is not Role.LEADER:
        cluster.sync()
        cluster.deliver(lambda m: not isinstance(m, AppendRequest))
    appends = cluster.drop(kind(AppendRequest))
    assert appends
    # Follower 2 takes the old entry, but not the leader's no-op of the new term.
    old = Entry(2, 1, EntryKind.DATA, b"old")
    term = cluster.rafts[1].term
    cluster.inject(AppendRequest(CLUSTER, peer(1), peer(2), term, 1, 1, 0, (old,)), at=2)
    cluster.sync()
    cluster.deliver(kind(AppendAccepted))
    assert cluster.disks[1].entries[1] == cluster.disks[2].entries[1] == old
    assert cluster.rafts[1].commit_index < 2
    assert committed == 1
    cluster.heartbeat(1)
    cluster.now_ms += 500
    cluster.heartbeat(1)
    assert cluster.rafts[1].commit_index == 3


def test_5_4_2_a_new_leader_appends_a_no_op_at_once():
    cluster = Cluster(3)
    cluster.elect(1)
    (entry,) = cluster.rafts[1].log.slice(1, 1)
    assert (entry.kind, entry.term) == (EntryKind.NOOP, 1)
    assert cluster.rafts[1].ready_to_serve


def test_figure_2_a_follower_commits_only_what_is_known_to_equal_the_leaders_log():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"uncommitted in term 1")
    cluster.deliver(to(3))
    cluster.sync(3)
    cluster.drop()
    cluster.inject(Heartbeat(CLUSTER, peer(2), peer(3), 2, 2, 0), at=3)
    assert cluster.rafts[3].commit_index <= 1, "entry 2 of node 3 is not the leader's entry 2"


def test_figure_2_votes_and_terms_are_on_disk_before_anything_leaves_in_them():
    cluster = Cluster(3)
    cluster.now_ms = 5000
    cluster.inject(VoteRequest(CLUSTER, peer(1), peer(3), 4, 0, 0, False), at=3)
    cluster.inject(PreVoteRequest(CLUSTER, peer(2), peer(3), 4, 0, 0), at=3)
    assert not cluster.wire
    cluster.sync(3)
    assert cluster.disks[3].hard_state == HardState(4, peer(1), cluster.initial)
    assert len(cluster.wire) == 2


def test_10_2_1_the_leader_counts_its_own_copy_when_it_is_synced():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.deliver(to(2))
    cluster.sync(2)
    cluster.deliver(to(1))
    assert cluster.rafts[1].commit_index == 1, "one synced copy of three"
    cluster.sync(1)
    assert cluster.rafts[1].commit_index == 2


def test_a_single_voter_elects_itself_without_waiting_and_commits_only_what_is_synced():
    cluster = Cluster(1)
    assert cluster.deadlines[1] == 0
    cluster.tick(1)
    assert cluster.leaders() == [], "its own vote is not on disk yet"
    cluster.sync(1)
    assert cluster.leaders() == [1]
    cluster.sync(1)
    cluster.propose(1, b"x")
    assert cluster.data(1) == []
    cluster.sync(1)
    assert cluster.data(1) == [b"x"]


def test_6_2_a_leader_without_a_majority_resigns_within_its_window():
    cluster = Cluster(3)
    cluster.elect(1)
    began = cluster.now_ms
    while cluster.leaders():
        cluster.tick(1)
        cluster.drop()
    assert cluster.now_ms - began <= 2000
    with pytest.raises(NotLeaderError):
        cluster.propose(1, b"x")


def test_6_2_a_single_voter_never_resigns():
    cluster = Cluster(1, observers=1)
    cluster.tick(1)
    cluster.sync(1)
    for _ in range(100):
        cluster.tick(1)
        cluster.drop()
    assert cluster.leaders() == [1]


def test_4_2_3_a_live_leader_is_not_deposed_by_a_node_that_cannot_hear_it():
    cluster = Cluster(3)
    cluster.elect(1)
    for _ in range(30):
        cluster.tick(1)
        cluster.drop(to(3))
        cluster.settle()
        cluster.tick(3, to_ms=cluster.now_ms)
        cluster.settle()
    assert cluster.leaders() == [1]
    assert {raft.term for raft in cluster.rafts.values()} == {1}


def test_9_6_a_node_that_comes_back_from_a_partition_has_not_raised_its_term():
    cluster = Cluster(3)
    cluster.elect(1)
    for _ in range(60):
        cluster.tick(3)
        cluster.heartbeat(1, without=(3,))
    cluster.heartbeat(1)
    assert cluster.leaders() == [1]
    assert [raft.term for raft in cluster.rafts.values()] == [1, 1, 1]
    assert cluster.rafts[3].leader == peer(1)


def test_6_4_a_read_is_answered_after_a_round_of_its_own():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.rafts[1].read_index(7, cluster.now_ms)
    effects = cluster.drain(1)
    assert effects.reads == []
    assert cluster.deliver(to(2)) == 1
    cluster.deliver(lambda m: to(1)(m) and kind(HeartbeatResponse)(m))
    assert cluster.last[1].reads == [ReadResult(7, 1)]


def test_6_4_reads_of_a_deposed_leader_are_answered_with_nothing():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.rafts[1].read_index(7, cluster.now_ms)
    cluster.drain(1)
    cluster.inject(Heartbeat(CLUSTER, peer(2), peer(1), 5, 0, 0))
    assert cluster.last[1].reads == [ReadResult(7, None)]


def test_3_10_leadership_moves_to_a_caught_up_voter_without_waiting_for_silence():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.rafts[1].transfer_leadership(peer(3), cluster.now_ms)
    cluster.drain(1)
    with pytest.raises(RefusedError) as refused:
        cluster.propose(1, b"y")
    assert refused.value.retriable
    before = cluster.now_ms
    cluster.settle()
    assert cluster.leaders() == [3]
    assert cluster.now_ms == before
    assert cluster.data(3) == [b"x"]


def test_3_10_a_transfer_to_a_dead_target_ends_after_an_election_timeout():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle(without=(3,))
    cluster.rafts[1].transfer_leadership(peer(3), cluster.now_ms)
    cluster.drain(1)
    began = cluster.now_ms
    while True:
        cluster.heartbeat(1, without=(3,))
        try:
            cluster.propose(1, b"y")
            break
        except RefusedError:
            assert cluster.now_ms - began < 1500
    cluster.settle(without=(3,))
    assert cluster.data(1) == [b"x", b"y"]


def test_4_1_a_voter_set_counts_as_soon_as_it_is_appended():
    cluster = Cluster(3, observers=1)
    cluster.elect(1)
    cluster.tick(4)
    cluster.settle()
    cluster.rafts[1].add_voter(peer(4), cluster.now_ms)
    cluster.drain(1)
    cluster.sync(1)
    cluster.deliver(to(2))
    cluster.sync(2)
    cluster.deliver(to(1))
    assert cluster.rafts[1].commit_index == 1, "two of four are no majority"
    cluster.settle()
    assert cluster.rafts[4].log.voters == (peer(1), peer(2), peer(3), peer(4))


def test_4_1_changes_are_refused_one_beside_the_other_and_for_the_wrong_peers():
    cluster = Cluster(3, observers=2)
    cluster.elect(1)
    raft, now_ms = cluster.rafts[1], cluster.now_ms
    with pytest.raises(RefusedError, match="catch up as an observer"):
        raft.add_voter(peer(4), now_ms)
    cluster.tick(4)
    cluster.settle()
    with pytest.raises(RefusedError, match="votes as"):
        raft.add_voter(peer(2, disk=1), now_ms)
    with pytest.raises(RefusedError, match="is a voter already"):
        raft.add_voter(peer(2), now_ms)
    with pytest.raises(RefusedError, match="is not a voter"):
        raft.remove_voter(peer(5), now_ms)
    raft.add_voter(peer(4), cluster.now_ms)
    with pytest.raises(RefusedError, match="not committed yet"):
        raft.remove_voter(peer(3), cluster.now_ms)


def test_4_1_the_last_voter_stays():
    cluster = Cluster(1)
    cluster.tick(1)
    cluster.sync(1)
    cluster.sync(1)
    with pytest.raises(RefusedError, match="last voter"):
        cluster.rafts[1].remove_voter(peer(1), cluster.now_ms)


def test_a_truncated_voter_change_is_taken_back():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.rafts[1].remove_voter(peer(3), cluster.now_ms)
    cluster.drain(1)
    cluster.sync(1)
    assert len(cluster.rafts[1].log.voters) == 2
    cluster.drop()
    cluster.elect(2, without=(1,))
    cluster.heartbeat(2)
    cluster.heartbeat(2)
    assert len(cluster.rafts[1].log.voters) == 3


def test_observers_get_the_log_and_count_for_nothing():
    cluster = Cluster(3, observers=1)
    cluster.elect(1)
    cluster.tick(4)
    cluster.settle()
    cluster.propose(1, b"x")
    cluster.settle(without=(2, 3))
    assert cluster.rafts[1].commit_index == 1, "leader and observer are one of three"
    assert cluster.disks[4].entries[-1].data == b"x"
    cluster.now_ms += 500
    cluster.heartbeat(1)
    assert cluster.data(4) == [b"x"]
    cluster.now_ms += 100_000
    cluster.tick(4)
    assert cluster.rafts[4].role is Role.FOLLOWER


def test_a_silent_observer_is_dropped_and_comes_back_by_asking():
    cluster = Cluster(1, observers=1)
    cluster.tick(1)
    cluster.settle()
    cluster.tick(2)
    cluster.settle()
    for _ in range(60):
        cluster.heartbeat(1, without=(2,))
    assert cluster.rafts[1].status().peers == ()
    cluster.propose(1, b"x")
    cluster.tick(2)
    cluster.settle()
    assert cluster.data(2) == [b"x"]


def test_a_dead_leader_is_replaced_after_the_jitter_by_voters_that_saw_it():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.crash(1)
    for i in (2, 3):
        cluster.rafts[i].peer_dead(peer(1), cluster.now_ms)
        cluster.drain(i)
    assert cluster.deadlines[2] - cluster.now_ms <= 50
    cluster.tick(2)
    cluster.settle()
    assert cluster.leaders() == [2]


def test_a_dead_verdict_of_one_voter_alone_deposes_nobody():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.rafts[2].peer_dead(peer(1), cluster.now_ms)
    cluster.drain(2)
    cluster.tick(2)
    cluster.settle()
    assert cluster.leaders() == [1]
    cluster.rafts[2].peer_alive(peer(1), cluster.now_ms)
    cluster.drain(2)
    cluster.heartbeat(1)
    assert cluster.rafts[2].leader == peer(1)


def test_the_pipeline_is_bounded_and_moves_on_with_each_answer():
    cluster = Cluster(3, config=RaftConfig(max_in_flight=2, max_append_bytes=1))
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 10)
    assert len([m for m in cluster.wire if to(2)(m) and isinstance(m, AppendRequest)]) == 2
    cluster.settle()
    assert cluster.data(2) == [b"x"] * 10


def test_proposals_are_refused_when_too_much_waits_for_a_majority():
    cluster = Cluster(3, config=RaftConfig(max_uncommitted_bytes=1000))
    cluster.elect(1)
    cluster.propose(1, b"x" * 700)
    with pytest.raises(RefusedError) as refused:
        cluster.propose(1, b"x" * 700)
    assert refused.value.retriable
    cluster.settle()
    cluster.propose(1, b"x" * 700)


def test_uncommitted_bytes_are_given_back_by_commits_in_every_term():
    cluster = Cluster(3, config=RaftConfig(max_uncommitted_bytes=1000))
    for leader in (1, 2, 3, 1):
        cluster.elect(leader)
        for _ in range(5):
            cluster.propose(leader, b"x" * 700)
            cluster.settle()


def test_a_refused_probe_that_is_stale_moves_nothing():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle()
    before = cluster.rafts[1].status().peers
    cluster.inject(AppendRefused(CLUSTER, peer(2), peer(1), 1, 1, 0, 0))
    assert cluster.rafts[1].status().peers == before


def test_a_completion_of_an_older_term_vouches_for_nothing():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.deliver(to(2))
    cluster.sync(2)
    cluster.deliver(to(1))
    cluster.rafts[1].persisted(Persisted(0, 2), cluster.now_ms)
    cluster.drain(1)
    assert cluster.rafts[1].commit_index == 1


def test_timeout_now_counts_from_the_own_leader_only():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.inject(TimeoutNow(CLUSTER, peer(3), peer(2), 1), at=2)
    assert cluster.rafts[2].role is Role.FOLLOWER


def test_the_log_refuses_gaps_and_cuts_into_the_snapshot():
    log = RaftLog(SnapshotMeta(5, 2, (peer(1),)))
    with pytest.raises(InvariantError):
        log.append(Entry(7, 2, EntryKind.DATA))
    with pytest.raises(InvariantError):
        log.append(Entry(6, 1, EntryKind.DATA))
    log.append(Entry(6, 2, EntryKind.DATA))
    with pytest.raises(InvariantError):
        log.truncate_from(5)
    with pytest.raises(InvariantError, match="starts at 8"):
        RaftLog(SnapshotMeta(5, 2, (peer(1),)), [Entry(8, 3, EntryKind.DATA)])

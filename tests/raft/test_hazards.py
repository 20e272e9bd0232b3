"""Bugs other systems really had, one scenario each; rows are those of the consensus part of the bug catalogue.

Rows 10-14 are in test_snapshots.py, 21 is the pair of check-quorum tests in test_paper.py (6.2). 26 and 28 need the
shell, tests/node/quorum/test_hazards.py; 27 needs a disk whose sectors persist in any order, test_store.py there.
Rows 6 and 7 are about joint consensus: voters change one at a time here, there is no joint state.
"""

import pytest

from raft.config import RaftConfig
from raft.effects import HardState, Role
from raft.errors import RefusedError
from raft.messages import (
    AppendAccepted,
    AppendRequest,
    Heartbeat,
    HeartbeatResponse,
    PreVoteRequest,
    VoteRequest,
    VoteResponse,
)
from raft.model import Entry, EntryKind
from tests.raft.cluster import CLUSTER, Cluster, kind, peer, sent_by, to

SMALL = RaftConfig(keep_entries=0, snapshot_chunk_bytes=40)


def test_row_1_a_vote_answered_before_a_crash_is_remembered_after_it():
    """nodedb: two leaders in a term after a restart."""
    cluster = Cluster(3)
    cluster.now_ms = 5000
    cluster.inject(VoteRequest(CLUSTER, peer(1), peer(3), 1, 0, 0, False), at=3)
    cluster.sync(3)
    assert cluster.drop(kind(VoteResponse))[0].granted
    cluster.restart(3)
    cluster.now_ms += 5000
    cluster.inject(VoteRequest(CLUSTER, peer(2), peer(3), 1, 0, 0, False), at=3)
    cluster.sync(3)
    assert not cluster.drop(kind(VoteResponse))[0].granted


def test_row_1_a_vote_that_was_not_synced_was_not_answered_either():
    cluster = Cluster(3)
    cluster.now_ms = 5000
    cluster.inject(VoteRequest(CLUSTER, peer(1), peer(3), 1, 0, 0, False), at=3)
    assert cluster.drop() == []
    cluster.restart(3)
    assert cluster.disks[3].hard_state == HardState(0, None)


def test_row_2_an_older_request_never_takes_a_vote_or_a_term_back():
    """camunda, nebula: a proposed term was overwritten by an older message."""
    cluster = Cluster(3)
    cluster.now_ms = 5000
    cluster.inject(VoteRequest(CLUSTER, peer(1), peer(3), 5, 0, 0, False), at=3)
    cluster.inject(VoteRequest(CLUSTER, peer(2), peer(3), 4, 9, 3, False), at=3)
    cluster.sync(3)
    assert cluster.disks[3].hard_state == HardState(5, peer(1), cluster.initial)
    assert [(m.to.node_id, m.term, m.granted) for m in cluster.wire] == [(1, 5, True), (2, 5, False)]


@pytest.mark.parametrize("steps_down_by", ["heartbeat", "lost election", "pre-vote"])
def test_row_3_stepping_down_inside_a_term_keeps_the_vote(steps_down_by):
    """CCF: a pre-vote path cleared voted_for, and the node voted again in the same term."""
    cluster = Cluster(3)
    cluster.now_ms = 5000
    cluster.inject(VoteRequest(CLUSTER, peer(2), peer(1), 1, 0, 0, False))
    cluster.now_ms += 5000
    cluster.tick(1)
    assert cluster.rafts[1].role is Role.PROSPECTIVE
    match steps_down_by:
        case "heartbeat":
            cluster.inject(Heartbeat(CLUSTER, peer(2), peer(1), 1, 0, 0))
        case "lost election":
            cluster.rafts[1].peer_dead(peer(2), cluster.now_ms)
            cluster.rafts[1].peer_dead(peer(3), cluster.now_ms)
            cluster.drain(1)
        case "pre-vote":
            cluster.inject(PreVoteRequest(CLUSTER, peer(3), peer(1), 1, 0, 0))
    cluster.now_ms += 5000
    cluster.inject(VoteRequest(CLUSTER, peer(3), peer(1), 1, 0, 0, True))
    cluster.sync(1)
    (answer,) = [m for m in cluster.wire if isinstance(m, VoteResponse) and m.to == peer(3)]
    assert not answer.granted


def test_row_4_an_old_entry_on_a_majority_is_not_committed_figure_8():
    """The whole figure: (2, term 1) reaches a majority in term 3, is not committed by that, and overwritten later."""

    def win(i: int) -> None:
        """Elect node `i` without anything of its log leaving it."""
        cluster.now_ms += 5000
        cluster.tick(i)
        for _ in range(20):
            cluster.sync()
            if cluster.rafts[i].role is Role.LEADER:
                break
            if not cluster.deliver(lambda m: not isinstance(m, AppendRequest)):
                cluster.tick(i)  # the first round only told it the newer term
        assert cluster.leaders() == [i]
        cluster.sync(i)
        cluster.drop()

    cluster = Cluster(5)
    cluster.elect(1)
    cluster.propose(1, b"old")
    cluster.deliver(to(2))
    cluster.sync(1, 2)
    cluster.drop()
    cluster.crash(1)
    win(5)
    cluster.crash(5)
    cluster.start(1)
    win(1)
    old = Entry(2, 1, EntryKind.DATA, b"old")
    for i in (2, 3):
        cluster.inject(AppendRequest(CLUSTER, peer(1), peer(i), cluster.rafts[1].term, 1, 1, 1, (old,)), at=i)
    cluster.sync(2, 3)
    assert cluster.deliver(kind(AppendAccepted)) == 2
    assert all(cluster.disks[i].entries[1] == old for i in (1, 2, 3))
    assert cluster.rafts[1].commit_index < 2
    cluster.crash(1)
    cluster.start(5)
    win(5)
    for _ in range(4):
        cluster.heartbeat(5)
    assert cluster.terms(3)[:2] == [1, 2], "overwritten by the entry of term 2"
    assert all(cluster.data(i) == [] for i in cluster.rafts)


def test_row_5_no_voter_change_before_the_leader_committed_in_its_own_term():
    """Ongaro 2015: two changes of one old set, committed by two leaders, leave majorities that do not meet."""
    cluster = Cluster(4)
    cluster.elect(1)
    cluster.rafts[1].remove_voter(peer(4), cluster.now_ms)
    cluster.drain(1)
    cluster.sync(1)
    cluster.drop()
    cluster.crash(1)
    cluster.now_ms += 5000
    cluster.tick(2)
    while cluster.rafts[2].role is not Role.LEADER:
        cluster.sync()
        cluster.deliver()
    with pytest.raises(RefusedError, match="own term") as refused:
        cluster.rafts[2].remove_voter(peer(3), cluster.now_ms)
    assert refused.value.retriable
    cluster.settle()
    cluster.rafts[2].remove_voter(peer(3), cluster.now_ms)


def test_row_8_a_leader_that_removed_itself_hands_over_and_its_followers_go_on():
    """etcd: the removed leader kept heartbeating and dropped every proposal."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"in flight")
    cluster.rafts[1].remove_voter(peer(1), cluster.now_ms)
    cluster.drain(1)
    cluster.sync(1)
    cluster.deliver(to(2))
    cluster.sync(2)
    cluster.deliver(to(1))
    assert cluster.rafts[1].commit_index == 1, "its own copy counts no more: one of two"
    before = cluster.now_ms
    cluster.settle()
    assert cluster.rafts[1].role is Role.FOLLOWER
    (leader,) = cluster.leaders()
    assert leader in (2, 3)
    assert cluster.now_ms == before
    cluster.propose(leader, b"after")
    cluster.settle()
    assert cluster.data(leader) == [b"in flight", b"after"]
    assert cluster.rafts[leader].log.voters == (peer(2), peer(3))


def test_row_8_a_leader_whose_own_removal_is_open_can_still_win_to_commit_it():
    """Found by simulation: it alone holds the entry that removes it, so nobody else can win (dissertation 4.2.2)."""
    cluster = Cluster(2)
    cluster.elect(1)
    cluster.rafts[1].remove_voter(peer(1), cluster.now_ms)
    cluster.drain(1)
    cluster.sync(1)
    cluster.drop()
    cluster.restart(1)
    alone = cluster.rafts[1]
    cluster.tick(1, to_ms=cluster.now_ms + 5000)
    assert alone.role is Role.PROSPECTIVE, "it stands unasked"
    cluster.restart(1)
    for _ in range(10):
        cluster.tick(2)
        cluster.settle()
        assert cluster.leaders() == [], "node 2 lacks an entry of node 1"
    cluster.now_ms += 5000
    cluster.tick(1)
    cluster.settle()
    for _ in range(3):
        cluster.tick(2)
        cluster.settle()
    assert cluster.leaders() == [2]
    assert cluster.rafts[2].log.voters == (peer(2),)


def test_row_9_a_promoted_voter_votes_although_its_own_log_does_not_know_it_yet():
    """etcd 10998: no leader although a quorum of voters was up."""
    cluster = Cluster(1, observers=1)
    cluster.tick(1)
    cluster.settle()
    cluster.tick(2)
    cluster.settle()
    cluster.rafts[1].add_voter(peer(2), cluster.now_ms)
    cluster.drain(1)
    cluster.sync(1)
    cluster.drop()
    cluster.restart(1)
    cluster.elect(1)
    assert cluster.rafts[1].log.voters == (peer(1), peer(2))


def test_row_15_a_full_window_whose_messages_were_all_lost_flows_again():
    """etcd 10308, 14633: a caught-up or throttled follower never streamed again."""
    cluster = Cluster(3, config=RaftConfig(max_in_flight=2, max_append_bytes=1))
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 10)
    cluster.drop(to(2))
    cluster.settle()
    for _ in range(4):
        cluster.drop(to(2))
        cluster.tick(1)
        cluster.settle()
    for _ in range(4):
        cluster.heartbeat(1)
    assert cluster.data(2) == [b"x"] * 10


def test_row_16_a_cut_off_leader_serves_no_reads():
    """etcd 741: reads answered from local state."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.rafts[1].read_index(1, cluster.now_ms)
    for _ in range(20):
        cluster.drain(1)
        cluster.drop(sent_by(1))
        cluster.tick(1)
        assert all(result.index is None for result in cluster.last[1].reads)
    assert cluster.rafts[1].role is not Role.LEADER


def test_row_17_an_echo_of_an_earlier_round_confirms_no_later_read():
    """etcd 20418, 21399: a reused request id was confirmed by answers of an earlier round."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.rafts[1].read_index(1, cluster.now_ms)
    cluster.drain(1)
    cluster.deliver(to(2))
    (early,) = cluster.drop(kind(HeartbeatResponse))
    cluster.drop()
    cluster.rafts[1].read_index(2, cluster.now_ms)
    cluster.drain(1)
    cluster.inject(early)
    assert [result.request_id for result in cluster.last[1].reads] == [1]
    cluster.inject(early)
    assert cluster.last[1].reads == []


def test_row_18_a_single_node_acknowledges_nothing_before_its_own_sync():
    """etcd 14370: committed with a majority of one before the write was done."""
    cluster = Cluster(1)
    cluster.tick(1)
    cluster.settle()
    cluster.propose(1, b"x")
    assert cluster.data(1) == []
    cluster.restart(1)
    cluster.tick(1)
    cluster.settle()
    assert cluster.data(1) == []


def test_row_19_a_late_completion_does_not_vouch_for_an_overwritten_index():
    """etcd's ABA test: (2, term 1) written, overwritten in term 2, then led again; its completion comes last."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"first")
    (late,) = [effects.synced for effects in cluster.queues[1] if effects.append]
    assert late is not None
    term = 2
    overwrite = AppendRequest(CLUSTER, peer(2), peer(1), term, 1, 1, 1, (Entry(2, 2, EntryKind.NOOP),))
    cluster.inject(overwrite)
    cluster.now_ms += 5000
    cluster.drop()
    cluster.tick(1)
    for effects in tuple(cluster.queues[1]):
        cluster.wire.extend(effects.send_after_sync)
    cluster.drop()
    raft = cluster.rafts[1]
    raft.persisted(late, cluster.now_ms)
    cluster.drain(1)
    assert raft.status().dropped == {}
    assert raft._s.durable_term == 1, "term 2 is not on disk because something of term 1 is"
    assert raft._s.own_match_index == 0


def test_row_20_a_restarted_leader_does_not_lead_its_old_term():
    """KAFKA-10527: the same (epoch, offset) with different data."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"unsynced")
    cluster.drop()
    cluster.restart(1)
    assert cluster.rafts[1].role is Role.FOLLOWER
    cluster.elect(1)
    assert cluster.rafts[1].term == 2
    assert cluster.data(1) == []


def test_row_22_a_follower_that_lost_acknowledged_entries_is_refilled():
    """KAFKA-12181: "the fetch offset never decreases" was asserted on what a peer sent."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 9)
    cluster.settle()
    cluster.crash(2)
    lost_from = 4
    cluster.disks[2].entries = cluster.disks[2].entries[: lost_from - 1]
    cluster.start(2, refetch=(10, 1))
    for _ in range(6):
        cluster.heartbeat(1)
    cluster.propose(1, b"y")
    for _ in range(4):
        cluster.heartbeat(1)
    assert cluster.data(2) == [b"x"] * 9 + [b"y"]


def damaged(*nodes: int) -> Cluster:
    """Ten entries are committed on three nodes; then all stop, and the disks of `nodes` lose the last seven."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 9)
    cluster.settle()
    cluster.crash(1, 2, 3)
    cluster.now_ms += 5000
    for i in (1, 2, 3):
        if i in nodes:
            cluster.disks[i].entries = cluster.disks[i].entries[:3]
        cluster.start(i, refetch=(10, 1) if i in nodes else (0, 0))
    return cluster


def test_row_22_the_vote_of_a_damaged_voter_does_not_make_a_majority():
    """FAST'18: a damaged log elected a leader without committed entries."""
    cluster = damaged(2)
    cluster.disks[3].entries = cluster.disks[3].entries[:3]
    cluster.crash(1)
    cluster.restart(3)
    cluster.now_ms += 5000
    for _ in range(5):
        cluster.tick(3)
        cluster.settle()
    assert cluster.leaders() == [], "node 1 may hold more than 2 and 3, and it does"
    cluster.start(1)
    for _ in range(5):
        cluster.tick(1)
        cluster.settle()
    assert cluster.leaders() == [1]


def test_row_22_a_damaged_voter_is_a_full_one_again_once_it_is_whole():
    cluster = damaged(2)
    cluster.elect(1)
    for _ in range(6):
        cluster.heartbeat(1)
    assert len(cluster.disks[2].entries) >= 10
    cluster.crash(1)
    cluster.elect(2)
    assert cluster.data(2) == [b"x"] * 9


def test_row_22_a_damaged_voter_is_a_full_one_again_once_it_holds_what_its_leader_held():
    """How far a damaged log reached can only be guessed from above: its voter stayed half a one for ever, and with the
    next leader lost there was none again.
    """
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 9)
    cluster.settle()
    cluster.crash(2)
    cluster.disks[2].entries = cluster.disks[2].entries[:3]
    cluster.start(2, refetch=(1000, 1))
    assert not cluster.rafts[2].is_whole
    for _ in range(8):
        cluster.heartbeat(1)
    assert cluster.rafts[2].is_whole
    assert cluster.disks[2].hard_state.refetch == (0, 0), "nor is it forgotten by a restart"
    cluster.crash(1)
    cluster.restart(2)
    cluster.elect(2)
    assert cluster.data(2) == [b"x"] * 9


def test_row_22_the_leader_says_where_its_log_ended_when_it_first_heard_of_a_loss():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 9)
    cluster.settle()
    for _ in range(2):
        cluster.inject(HeartbeatResponse(CLUSTER, peer(2), peer(1), 1, 0, 7), at=1)
        cluster.propose(1, b"y")
    cluster.drop()
    cluster.tick(1)
    said = [(m.loss, m.whole_index) for m in cluster.drop(kind(Heartbeat)) if m.to == peer(2)]
    assert said == [(7, 10)]


@pytest.mark.parametrize(
    ("life", "whole_index"), [(1, 2), (0, 10)], ids=["of an earlier loss", "of what is missing yet"]
)
def test_row_22_a_damaged_voter_is_not_whole_by_a_word(life, whole_index):
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 9)
    cluster.settle()
    cluster.crash(2)
    cluster.disks[2].entries = cluster.disks[2].entries[:3]
    cluster.start(2, refetch=(1000, 1))
    prefix = AppendRequest(CLUSTER, peer(1), peer(2), 1, 3, 1, 0, ())
    cluster.inject(prefix, at=2)
    loss = cluster.rafts[2]._s.loss
    cluster.inject(Heartbeat(CLUSTER, peer(1), peer(2), 1, 0, 0, loss + life, whole_index), at=2)
    assert not cluster.rafts[2].is_whole
    cluster.inject(Heartbeat(CLUSTER, peer(1), peer(2), 1, 0, 0, loss, 3), at=2)
    assert cluster.rafts[2].is_whole


def test_row_22_when_every_log_lost_its_tail_all_voters_together_elect_the_most_complete():
    """A power cut may tear the last entry of each: nobody is whole, and nothing synced is gone."""
    cluster = damaged(1, 2, 3)
    cluster.disks[3].entries += [Entry(4, 1, EntryKind.DATA, b"x")]
    cluster.crash(3)
    cluster.now_ms += 5000
    for _ in range(5):
        cluster.tick(1)
        cluster.settle()
    assert cluster.leaders() == [], "the third one may hold more"
    cluster.start(3, refetch=(10, 1))
    cluster.now_ms += 5000
    for _ in range(6):
        cluster.tick(3)
        cluster.settle()
    assert cluster.leaders() == [3]
    assert [e.data for e in cluster.disks[1].entries[1:4]] == [b"x"] * 3


def test_row_22_a_damaged_single_voter_leads_with_what_it_has():
    cluster = Cluster(1)
    cluster.crash(1)
    cluster.start(1, refetch=(10, 1))
    cluster.tick(1)
    cluster.settle()
    assert cluster.leaders() == [1]


def test_row_23_the_log_never_starts_behind_a_gap():
    """KAFKA-14238: the log started after the newest snapshot."""
    cluster = Cluster(3, config=RaftConfig(keep_entries=2))
    cluster.elect(1)
    for _ in range(5):
        cluster.propose(1, *[b"x"] * 4)
        cluster.settle()
        cluster.snapshot(1)
        log = cluster.rafts[1].log
        assert log.base_index == log.snapshot.last_index - 2
        assert cluster.last[1].drop_log_to == log.base_index


def test_row_24_a_lagging_voter_is_refused_and_then_refilled_instead_of_looping():
    """redpanda 30815: pre-votes refused for ever, the leader not recovering the replica."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 50)
    cluster.settle(without=(3,))
    for _ in range(20):
        cluster.heartbeat(1, without=(3,))
        cluster.rafts[3].tick(cluster.now_ms)
        cluster.drain(3)
    for _ in range(5):
        cluster.heartbeat(1)
    assert cluster.leaders() == [1]
    assert cluster.data(3) == [b"x"] * 50
    assert cluster.rafts[3].term == 1


def test_row_25_one_broken_link_changes_no_leader():
    """Cloudflare 2020: a node that could not hear the leader kept raising the term, for hours."""
    cluster = Cluster(3)
    cluster.elect(1)
    for _ in range(100):
        between = lambda m: {m.sender.node_id, m.to.node_id} == {1, 3}  # noqa: E731
        cluster.drop(between)
        cluster.tick(1)
        cluster.tick(3, to_ms=cluster.now_ms)
        for _ in range(4):
            cluster.sync()
            cluster.drop(between)
            cluster.deliver()
    assert cluster.leaders() == [1]
    assert cluster.rafts[2].term == 1


def test_a_removed_voter_that_was_away_learns_of_it_from_the_leader_its_pre_vote_reaches():
    """Found by simulation: it asked for votes for ever, and nobody sent it the log."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.rafts[1].remove_voter(peer(3), cluster.now_ms)
    cluster.drain(1)
    cluster.settle(without=(3,))
    for _ in range(60):
        cluster.heartbeat(1, without=(3,))
    assert peer(3) not in {p.peer for p in cluster.rafts[1].status().peers}
    cluster.tick(3)
    cluster.settle()
    cluster.heartbeat(1)
    assert cluster.rafts[3].log.voters == (peer(1), peer(2))


def test_transcript_of_a_follower_that_lacks_the_whole_log():
    """One refusal tells the new leader where to start; everything follows in one request."""
    cluster = Cluster(3)
    cluster.elect(1, without=(3,))
    cluster.propose(1, b"a", b"b")
    cluster.settle(without=(3,))
    cluster.story.clear()
    cluster.elect(2)
    appends = [line for line in cluster.story if "Append" in line and "3" in line[:4]]
    assert appends == [
        "2->3 AppendRequest term=2 prev_log_index=3 prev_log_term=1 commit_index=3 entries=['4/2']",
        "3->2 AppendRefused term=2 prev_log_index=3 hint_index=0 hint_term=0",
        "2->3 AppendRequest term=2 prev_log_index=0 prev_log_term=0 commit_index=3 "
        "entries=['1/1', '2/1', '3/1', '4/2']",
        "3->2 AppendAccepted term=2 match_index=4",
    ]


def test_row_22_a_damaged_log_that_lost_a_voter_change_still_asks_the_voters_it_made():
    """Found by simulation: a log cut back to a time when it was the only voter elected itself."""
    cluster = Cluster(1, observers=1)
    cluster.tick(1)
    cluster.settle()
    cluster.tick(2)
    cluster.settle()
    cluster.rafts[1].add_voter(peer(2), cluster.now_ms)
    cluster.drain(1)
    cluster.settle()
    cluster.propose(1, b"committed by both")
    cluster.settle()
    cluster.crash(1)
    cluster.disks[1].entries = cluster.disks[1].entries[:1]
    cluster.start(1, refetch=(9, 1))
    assert cluster.rafts[1].log.voters == (peer(1),)
    cluster.crash(2)
    for _ in range(5):
        cluster.tick(1)
        cluster.settle()
    assert cluster.leaders() == []
    cluster.start(2)
    cluster.now_ms += 5000
    for _ in range(5):
        cluster.tick(2)
        cluster.settle()
    assert cluster.leaders() == [2]
    assert cluster.rafts[1].log.voters == (peer(1), peer(2))


def test_row_22_a_damaged_log_that_is_fetched_again_passes_through_old_voter_sets_and_leads_in_none():
    """Found by simulation: on its way through its own past it was the only voter, and led beside the leader."""
    cluster = Cluster(3)
    cluster.crash(1, 2, 3)
    disk = cluster.disks[1]
    disk.entries = [Entry(1, 1, EntryKind.NOOP)]
    disk.hard_state = HardState(2, None, (peer(2),))  # before the damage it knew that 2 is the only voter now
    cluster.start(1, refetch=(9, 2))
    past = (
        Entry(2, 1, EntryKind.VOTERS, voters=(peer(1), peer(3))),
        Entry(3, 1, EntryKind.VOTERS, voters=(peer(1),)),
    )
    cluster.inject(AppendRequest(CLUSTER, peer(2), peer(1), 3, 1, 1, 3, past), at=1)
    cluster.settle()
    assert cluster.rafts[1].log.voters == (peer(1),)
    for _ in range(5):
        cluster.now_ms += 5000
        cluster.tick(1)
        cluster.settle()
    assert cluster.leaders() == []


def test_row_22_voters_are_remembered_beside_the_log_until_the_set_without_them_is_committed():
    """Found by simulation: a voter that was added and taken out again alone held a committed entry, and after damage it
    was not asked."""
    cluster = Cluster(2, observers=1)
    cluster.elect(1)
    cluster.settle()
    cluster.tick(3)
    cluster.settle()
    cluster.rafts[1].add_voter(peer(3), cluster.now_ms)
    cluster.drain(1)
    cluster.settle()
    cluster.heartbeat(1)
    assert set(cluster.disks[1].hard_state.voters) == {peer(1), peer(2), peer(3)}
    cluster.rafts[1].remove_voter(peer(3), cluster.now_ms)
    cluster.drain(1)
    cluster.sync(1)
    assert cluster.rafts[1].log.voters == (peer(1), peer(2))
    assert peer(3) in cluster.disks[1].hard_state.voters
    cluster.settle()
    cluster.heartbeat(1)
    assert set(cluster.disks[1].hard_state.voters) == {peer(1), peer(2)}


def with_a_voter_that_only_a_damaged_log_knew() -> Cluster:
    """Leader 1 of voters 1 and 2 lets node 3 vote and commits "a" with it; 2 and 3 know neither of the change. Then
    the log of 1 loses both.
    """
    cluster = Cluster(2, observers=1)
    cluster.elect(1)
    cluster.tick(3)
    cluster.settle()
    cluster.propose(1, b"a")
    cluster.settle(without=(2,))
    cluster.rafts[1].add_voter(peer(3), cluster.now_ms)
    cluster.drain(1)
    cluster.drop()
    cluster.sync(1)
    cluster.drop()
    assert cluster.data(1) == [b"a"]
    assert (cluster.data(2), cluster.data(3)) == ([], [])
    cluster.crash(1)
    cluster.disks[1].entries = cluster.disks[1].entries[:1]
    cluster.start(1, refetch=(3, 1))
    cluster.now_ms += 5000
    return cluster


def test_row_22_a_damaged_voter_says_who_else_must_agree():
    """Found by simulation: the candidate asked all voters that it knew, and was elected without a committed entry."""
    cluster = with_a_voter_that_only_a_damaged_log_knew()
    for _ in range(5):
        cluster.tick(2)
        cluster.settle(without=(3,))
    assert cluster.leaders() == [], "node 3 may hold more than 1 and 2, and it does"


def test_row_22_who_votes_without_knowing_it_stands_where_its_log_is_needed():
    """Only the damaged log knew that node 3 votes, and only node 3 has what they committed."""
    cluster = with_a_voter_that_only_a_damaged_log_knew()
    for _ in range(5):
        cluster.tick(2)
        cluster.settle()
    assert cluster.leaders() == []
    for _ in range(3):
        cluster.tick(3)
        cluster.settle()
    # It led to hand on what it had: by its own log it has no vote.
    assert "3 is leader in term" in " ".join(cluster.story)
    for _ in range(3):
        for leader in cluster.leaders():
            cluster.heartbeat(leader)
    assert cluster.leaders() in ([1], [2])
    assert [cluster.data(i) for i in (1, 2, 3)] == [[b"a"]] * 3


def test_row_22_a_voter_change_counts_once_its_leader_cannot_forget_it():
    """What is committed by a set that is on no disk is lost with the first damaged one."""
    cluster = Cluster(2, observers=1)
    cluster.elect(1)
    cluster.tick(3)
    cluster.settle()
    cluster.propose(1, b"a")
    cluster.sync(1)
    cluster.deliver(to(3))
    cluster.sync(3)
    cluster.rafts[1].add_voter(peer(3), cluster.now_ms)
    cluster.drain(1)
    cluster.deliver(sent_by(3))
    assert cluster.data(1) == []
    cluster.sync(1)
    assert cluster.data(1) == [b"a"]

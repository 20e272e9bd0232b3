"""The replica rules by example; each scenario is named for the hazard it stands for (invariants.md 2.3)."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.broker.replica import FollowerReplica, LeaderReplica, Refusal, divergence, truncation_offset
from node.metadata.image import Partition
from ottla.v1 import error_pb2 as pb
from storage.epochs import EpochTable

LAG_MS = 1000
BROKERS = {1: 11, 2: 12, 3: 13}


def state(isr: Iterable[int] = (1, 2, 3), **fields: Any) -> Partition:
    return Partition(bytes(16), 0, fields.pop("replicas", (1, 2, 3)), (), tuple(isr), leader=1, **fields)


def leader(partition: Partition | None = None, **fields: Any) -> LeaderReplica:
    """Node 1, leading an empty log of epoch 0 with three replicas in sync, min ISR 2."""
    arguments = {
        "log_end": 0,
        "synced_end": 0,
        "high_watermark": 0,
        "min_isr": 2,
        "flush_ack": False,
        "lag_time_max_ms": LAG_MS,
        "brokers": BROKERS,
        "now_ms": 0,
    } | fields
    return LeaderReplica(1, partition or state(), **arguments)  # type: ignore[arg-type]


def fetched(replica: LeaderReplica, node: int, offset: int, now_ms: int = 0, synced: int | None = None) -> bool:
    return replica.fetched(node, BROKERS[node], offset, offset if synced is None else synced, now_ms)


class TestHighWatermark:
    def test_is_the_smallest_log_end_of_the_isr(self) -> None:
        replica = leader()
        replica.appended(10, 0)
        assert not fetched(replica, 2, 7)
        assert fetched(replica, 3, 5)
        assert replica.high_watermark == 5
        assert fetched(replica, 3, 9)
        assert replica.high_watermark == 7

    def test_does_not_move_before_every_member_has_fetched_once(self) -> None:
        # KAFKA-3978: a follower that is not known yet must not take part with a made-up number.
        replica = leader()
        replica.appended(10, 0)
        fetched(replica, 2, 10)
        assert replica.high_watermark == 0

    def test_a_single_replica_commits_by_itself(self) -> None:
        replica = leader(state((1,), replicas=(1,)))
        assert replica.appended(3, 0)
        assert replica.high_watermark == 3

    def test_does_not_move_below_min_isr_not_even_for_the_leader_alone(self) -> None:
        # Jepsen Kafka 0.8, KIP-966: the ISR shrank to the leader and it went on acknowledging.
        replica = leader(state((1,)))
        replica.appended(10, 0)
        fetched(replica, 2, 10)
        fetched(replica, 3, 10)
        assert replica.high_watermark == 0
        assert not replica.enough_in_sync

    def test_min_isr_above_the_replication_factor_asks_for_all_replicas(self) -> None:
        replica = leader(state((1, 2), replicas=(1, 2)), min_isr=3)
        assert replica.enough_in_sync
        replica.appended(1, 0)
        assert fetched(replica, 2, 1)

    def test_moves_when_a_shrink_is_committed_not_when_it_is_proposed(self) -> None:
        replica = leader()
        replica.appended(10, 0)
        fetched(replica, 2, 10)
        change = replica.propose_shrink(LAG_MS + 1)
        assert change is not None
        assert change.nodes == {1, 2}
        assert replica.high_watermark == 0, "the controller may still elect node 3"
        assert replica.altered(change, (1, 2), 0, 1, LAG_MS + 1)
        assert replica.high_watermark == 10

    def test_waits_for_a_member_from_the_moment_its_growth_is_proposed(self) -> None:
        replica = leader(state((1, 2)))
        fetched(replica, 2, 0)
        fetched(replica, 3, 0)
        assert replica.propose_expand(3) is not None
        replica.appended(10, 5000)
        fetched(replica, 2, 10, 5000)
        assert replica.high_watermark == 0, "the controller may have taken node 3 in already"

    def test_waits_for_a_follower_that_keeps_pace_so_that_it_can_join_under_load(self) -> None:
        replica = leader(state((1, 2)))
        replica.appended(10, 0)
        fetched(replica, 3, 10, 0)
        replica.appended(12, 1)
        fetched(replica, 2, 12, 1)
        assert replica.high_watermark == 10
        fetched(replica, 3, 11, 2)
        assert replica.high_watermark == 11
        assert replica.propose_expand(3) is not None

    def test_waits_no_longer_for_a_member_that_has_left(self) -> None:
        # KAFKA-13091: acks=all hung until somebody wrote again.
        replica = leader()
        for node in (2, 3):
            fetched(replica, node, 0, 0)
        replica.appended(10, 1)
        fetched(replica, 2, 10, 2)
        assert replica.high_watermark == 0
        assert replica.metadata(state((1, 2), partition_epoch=1), 3), "the controller let go of 3: its log failed"
        assert replica.high_watermark == 10
        fetched(replica, 3, 10, 4)
        replica.appended(12, 5)
        fetched(replica, 2, 12, 6)
        assert replica.high_watermark == 10, "it keeps pace again"

    def test_time_alone_ends_the_waiting_and_the_deadline_says_when(self) -> None:
        replica = leader(state((1, 2)))
        replica.appended(10, 0)
        fetched(replica, 2, 10, 0)
        fetched(replica, 3, 10, 5)
        replica.appended(12, 7)
        fetched(replica, 2, 12, 8)
        deadline_ms = replica.deadline_ms(8)
        assert deadline_ms == 7 + LAG_MS + 1
        assert not replica.recheck(deadline_ms - 1)
        assert replica.recheck(deadline_ms)
        assert replica.high_watermark == 12
        assert replica.deadline_ms(deadline_ms) is None

    def test_does_not_wait_for_a_stopping_follower_outside_of_the_isr(self) -> None:
        # KAFKA-15021: the mark waited for a replica that had stopped fetching.
        replica = leader(state((1, 2)), brokers={1: 11, 2: 12})
        replica.appended(10, 0)
        fetched(replica, 3, 10, 0)
        replica.appended(12, 1)
        fetched(replica, 2, 12, 1)
        assert replica.high_watermark == 12

    def test_flush_ack_counts_only_what_is_synced_the_own_copy_too(self) -> None:
        replica = leader(flush_ack=True)
        replica.appended(10, 0)
        fetched(replica, 2, 10, synced=8)
        fetched(replica, 3, 10, synced=9)
        assert replica.high_watermark == 0
        assert replica.synced(6, 0)
        assert replica.high_watermark == 6
        assert replica.synced(10, 0)
        assert replica.high_watermark == 8

    def test_a_follower_cannot_have_synced_what_it_does_not_have(self) -> None:
        replica = leader(flush_ack=True)
        replica.appended(10, 0)
        replica.synced(10, 0)
        fetched(replica, 2, 4, synced=10)
        fetched(replica, 3, 10, synced=10)
        assert replica.high_watermark == 4

    def test_a_change_of_the_flush_mode_never_lowers_it(self) -> None:
        replica = leader()
        replica.appended(10, 0)
        fetched(replica, 2, 10, synced=0)
        fetched(replica, 3, 10, synced=0)
        assert replica.high_watermark == 10
        replica.reconfigured(min_isr=2, flush_ack=True, brokers=BROKERS, lag_time_max_ms=LAG_MS, now_ms=0)
        assert replica.high_watermark == 10

    def test_ignores_a_position_beyond_the_own_log(self) -> None:
        replica = leader()
        replica.appended(5, 0)
        fetched(replica, 2, 5)
        assert not fetched(replica, 3, 99)
        assert replica.high_watermark == 0
        assert replica.progress(3).fetch_offset is None  # type: ignore[union-attr]

    def test_a_new_leader_withholds_it_until_its_epoch_start_is_reached(self) -> None:
        # KIP-207: clients of the old leader may have seen a higher mark.
        replica = leader(log_end=10, high_watermark=4)
        assert not replica.high_watermark_known
        fetched(replica, 2, 10)
        fetched(replica, 3, 9)
        assert (replica.high_watermark, replica.high_watermark_known) == (9, False)
        fetched(replica, 3, 10)
        assert (replica.high_watermark, replica.high_watermark_known) == (10, True)

    def test_another_incarnation_starts_from_nothing(self) -> None:
        # KIP-903: a broker that lost its disk came back under the same id.
        replica = leader()
        replica.appended(10, 0)
        fetched(replica, 2, 10)
        fetched(replica, 3, 10)
        replica.appended(20, 0)
        fetched(replica, 2, 20)
        replica.fetched(3, 99, 0, 0, 0)
        assert replica.high_watermark == 10
        assert replica.progress(3).fetch_offset == 0  # type: ignore[union-attr]

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_equals_brute_force_over_random_events(self, data: st.DataObject) -> None:
        min_isr = data.draw(st.integers(1, 3))
        flush_ack = data.draw(st.booleans())
        replica = leader(min_isr=min_isr, flush_ack=flush_ack)
        now_ms = log_end = synced = 0
        fetch: dict[int, tuple[int, int]] = {}
        for _ in range(data.draw(st.integers(1, 25))):
            now_ms += data.draw(st.sampled_from([0, 1, 400, 2000]))
            before = replica.high_watermark
            match data.draw(st.sampled_from(["append", "sync", "fetch", "fetch", "grow", "shrink", "answer"])):
                case "append":
                    log_end += data.draw(st.integers(1, 3))
                    replica.appended(log_end, now_ms)
                case "sync":
                    synced = log_end
                    replica.synced(synced, now_ms)
                case "fetch":
                    node = data.draw(st.sampled_from([2, 3]))
                    offset = data.draw(st.integers(0, log_end))
                    durable = data.draw(st.integers(0, offset))
                    fetch[node] = (offset, durable)
                    fetched(replica, node, offset, now_ms, durable)
                case "grow":
                    replica.propose_expand(data.draw(st.sampled_from([2, 3])))
                case "shrink":
                    replica.propose_shrink(now_ms)
                case "answer" if replica.pending is not None:
                    change = replica.pending
                    replica.altered(change, sorted(change.nodes), 0, change.partition_epoch + 1, now_ms)
            must_have = replica.isr | (replica.pending.nodes if replica.pending else frozenset())
            ends = [synced if flush_ack else log_end]
            ends += [fetch[n][flush_ack] if n in fetch else -1 for n in must_have - {1}]
            assert replica.high_watermark >= before
            if len(replica.isr) < min_isr:
                assert replica.high_watermark == before
            elif replica.high_watermark > before:
                assert replica.high_watermark <= min(ends)
            if len(replica.isr) >= min_isr and must_have == {1, 2, 3} and min(ends) > before:
                assert replica.high_watermark == min(ends), "everybody has it, nobody else is waited for"


class TestIsr:
    def test_a_follower_joins_at_the_high_watermark(self) -> None:
        replica = leader(state((1, 2)))
        replica.appended(10, 0)
        fetched(replica, 2, 10)
        assert replica.high_watermark == 10
        fetched(replica, 3, 9)
        assert replica.propose_expand(3) is None
        fetched(replica, 3, 10)
        change = replica.propose_expand(3)
        assert change is not None
        assert change.members == ((1, 11), (2, 12), (3, 13))

    def test_a_follower_joins_only_at_the_start_of_the_epoch(self) -> None:
        # The mark of a new leader lags; what lies between was acknowledged perhaps (KAFKA-7128).
        replica = leader(state((1, 2)), log_end=10, high_watermark=4)
        fetched(replica, 3, 6)
        assert replica.propose_expand(3) is None
        fetched(replica, 3, 10)
        assert replica.propose_expand(3) is not None

    def test_under_flush_ack_a_follower_joins_with_what_it_has_synced(self) -> None:
        replica = leader(state((1, 2)), flush_ack=True)
        replica.appended(10, 0)
        replica.synced(10, 0)
        fetched(replica, 2, 10, synced=10)
        fetched(replica, 3, 10, synced=5)
        assert replica.propose_expand(3) is None
        fetched(replica, 3, 10, synced=10)
        assert replica.propose_expand(3) is not None

    @pytest.mark.parametrize(
        ("brokers", "why"),
        [({1: 11, 2: 12}, "fenced or stopping (KIP-841)"), ({1: 11, 2: 12, 3: 99}, "another incarnation (KIP-903)")],
    )
    def test_nobody_joins_who_is_not_registered_as_it_fetches(self, brokers: dict[int, int], why: str) -> None:
        replica = leader(state((1, 2)), brokers=brokers)
        fetched(replica, 3, 0)
        assert replica.propose_expand(3) is None, why

    def test_one_change_at_a_time(self) -> None:
        replica = leader(state((1,)), min_isr=1)
        fetched(replica, 2, 0)
        fetched(replica, 3, 0)
        assert replica.propose_expand(2) is not None
        assert replica.propose_expand(3) is None
        assert replica.propose_shrink(99_999) is None

    def test_lag_counts_from_the_moment_a_follower_was_last_caught_up(self) -> None:
        replica = leader()
        replica.appended(10, 0)
        fetched(replica, 2, 10, 100)
        fetched(replica, 3, 5, 100)
        assert replica.propose_shrink(LAG_MS) is None
        change = replica.propose_shrink(LAG_MS + 1)
        assert change is not None
        assert change.nodes == {1, 2}

    def test_an_idle_partition_loses_nobody_and_the_first_append_starts_the_clock(self) -> None:
        replica = leader()
        fetched(replica, 2, 0)
        fetched(replica, 3, 0)
        assert replica.propose_shrink(60_000) is None
        replica.appended(1, 60_000)
        assert replica.propose_shrink(60_000 + LAG_MS) is None
        change = replica.propose_shrink(60_001 + LAG_MS)
        assert change is not None
        assert change.nodes == {1}

    def test_a_follower_that_keeps_pace_under_constant_load_is_not_late(self) -> None:
        replica = leader()
        end = 0
        for now_ms in range(0, 5 * LAG_MS, 100):
            end += 10
            replica.appended(end, now_ms)
            fetched(replica, 2, end - 10, now_ms)
            fetched(replica, 3, end, now_ms)
        assert replica.propose_shrink(5 * LAG_MS) is None

    def test_a_fenced_member_blocks_proposals_until_the_metadata_lets_it_go(self) -> None:
        replica = leader(state((1, 2)), brokers={1: 11, 3: 13})
        fetched(replica, 3, 0)
        assert replica.propose_expand(3) is None, "the controller would refuse: INELIGIBLE_REPLICA"

    @pytest.mark.parametrize(
        ("code", "expected", "maximal"),
        [
            (pb.ERROR_CODE_NETWORK_EXCEPTION, Refusal.RETRY, {1, 2, 3}),
            (pb.ERROR_CODE_REQUEST_TIMED_OUT, Refusal.RETRY, {1, 2, 3}),
            (pb.ERROR_CODE_NOT_CONTROLLER, Refusal.RETRY, {1, 2, 3}),
            (pb.ERROR_CODE_STALE_BROKER_EPOCH, Refusal.RETRY, {1, 2, 3}),
            (pb.ERROR_CODE_UNKNOWN_SERVER_ERROR, Refusal.RETRY, {1, 2, 3}),
            (pb.ERROR_CODE_INELIGIBLE_REPLICA, Refusal.REVERTED, {1, 2}),
            (pb.ERROR_CODE_INVALID_REQUEST, Refusal.REVERTED, {1, 2}),
            (pb.ERROR_CODE_FENCED_LEADER_EPOCH, Refusal.AWAIT_METADATA, {1, 2, 3}),
            (pb.ERROR_CODE_INVALID_UPDATE_VERSION, Refusal.AWAIT_METADATA, {1, 2, 3}),
            (pb.ERROR_CODE_NEW_LEADER_ELECTED, Refusal.AWAIT_METADATA, {1, 2, 3}),
            (pb.ERROR_CODE_UNKNOWN_TOPIC_ID, Refusal.AWAIT_METADATA, {1, 2, 3}),
        ],
    )
    def test_each_refusal_keeps_the_maximal_isr_unless_it_is_final(
        self, code: int, expected: Refusal, maximal: set[int]
    ) -> None:
        replica = leader(state((1, 2)))
        fetched(replica, 3, 0)
        change = replica.propose_expand(3)
        assert change is not None
        assert replica.refused(change, code, 0) is expected
        assert replica.maximal_isr == maximal
        assert (replica.pending is None) == (expected is Refusal.REVERTED)

    def test_nothing_to_change_counts_as_done(self) -> None:
        # KAFKA-12751: the answer had the partition epoch that the leader had already, and the change stayed in flight.
        replica = leader(state((1, 2)))
        fetched(replica, 3, 0)
        change = replica.propose_expand(3)
        assert change is not None
        replica.altered(change, (1, 2, 3), 0, 0, 0)
        assert replica.pending is None
        assert replica.isr == {1, 2, 3}

    def test_a_late_answer_to_an_overtaken_change_is_ignored(self) -> None:
        # KAFKA-12686: local state was mixed up by an answer to an older request.
        replica = leader(state((1, 2)))
        fetched(replica, 3, 0)
        change = replica.propose_expand(3)
        assert change is not None
        replica.metadata(state((1, 3), partition_epoch=5), 0)
        assert not replica.altered(change, (1, 2, 3), 0, 6, 0)
        assert replica.isr == {1, 3}
        assert replica.refused(change, pb.ERROR_CODE_INELIGIBLE_REPLICA, 0) is Refusal.AWAIT_METADATA

    def test_older_metadata_changes_nothing(self) -> None:
        replica = leader(state((1, 2, 3), partition_epoch=4))
        assert not replica.metadata(state((1,), partition_epoch=3), 0)
        assert not replica.metadata(state((1,), partition_epoch=4), 0)
        assert replica.isr == {1, 2, 3}

    def test_an_answer_that_overtook_the_metadata_is_not_undone_by_it(self) -> None:
        replica = leader()
        replica.appended(1, 0)
        change = replica.propose_shrink(LAG_MS + 1)
        assert change is not None
        replica.altered(change, (1,), 0, 1, 0)
        assert not replica.metadata(state((1,), partition_epoch=1), 0)
        assert replica.isr == {1}

    def test_an_unclean_leader_reports_that_it_has_recovered(self) -> None:
        replica = leader(state((1,), recovering=True))
        change = replica.propose_recovered()
        assert change is not None
        assert change.recovered
        assert change.nodes == {1}
        replica.altered(change, (1,), 0, 1, 0)
        assert replica.propose_recovered() is None


class TestFollower:
    def test_takes_the_leaders_mark_as_far_as_its_own_log_goes(self) -> None:
        replica = FollowerReplica(state(), log_end=5, high_watermark=2)
        assert replica.observed(9, 5)
        assert replica.high_watermark == 5
        assert not replica.observed(3, 5), "an older mark never lowers it"
        assert replica.high_watermark == 5

    def test_a_truncation_cuts_the_mark_and_says_that_committed_data_went(self) -> None:
        # KAFKA-14704: first the log, then the mark.
        replica = FollowerReplica(state(), log_end=10, high_watermark=6)
        assert not replica.truncated(8)
        assert replica.high_watermark == 6
        assert replica.truncated(4)
        assert replica.high_watermark == 4

    def test_a_checkpoint_beyond_the_log_is_not_believed(self) -> None:
        assert FollowerReplica(state(), log_end=3, high_watermark=9).high_watermark == 3


def table(*entries: tuple[int, int]) -> EpochTable:
    return EpochTable(entries)


class TestTruncation:
    @pytest.mark.parametrize(
        ("leader_epochs", "leader_end", "last_epoch", "offset", "expected"),
        [
            (table((0, 0)), 10, 0, 10, None),
            (table((0, 0)), 10, 0, 4, None),
            (table((0, 0)), 10, 0, 12, (0, 10)),
            (table((0, 0), (2, 6)), 10, 0, 8, (0, 6)),
            (table((0, 0), (2, 6)), 10, 1, 8, (0, 6)),
            (table((0, 0), (2, 6)), 10, 1, 6, (0, 6)),
            (table((0, 0), (2, 6)), 10, 2, 8, None),
            (table(), 0, -1, 0, None),
            (table((5, 100)), 120, 3, 110, (3, 50)),
            (table((5, 50)), 120, 3, 50, None),
        ],
    )
    def test_the_leader_names_its_largest_common_epoch(
        self, leader_epochs: EpochTable, leader_end: int, last_epoch: int, offset: int, expected: tuple[int, int] | None
    ) -> None:
        found = divergence(last_epoch, offset, leader_epochs.end_offset_for(last_epoch, leader_end), 50)
        assert found == expected

    def test_a_follower_without_the_leaders_epoch_asks_again_with_an_older_one(self) -> None:
        # KIP-279: the leader's answer to an epoch it does not know must lead to another question, not to a guess.
        own = table((0, 0), (1, 3), (3, 5))
        answered = divergence(3, 9, table((0, 0), (2, 4)).end_offset_for(3, 12), 0)
        assert answered == (2, 12)
        assert truncation_offset(answered, own.end_offset_for(2, 9), 0) == 5

    @settings(max_examples=500, deadline=None)
    @given(st.data())
    def test_ends_at_the_common_prefix_for_any_two_histories(self, data: st.DataObject) -> None:
        """Every epoch has one leader, which continues one of the logs: the follower ends with a prefix of the leader's
        log, and never cuts what both have."""
        logs: list[list[int]] = [[], [], []]
        for epoch in range(data.draw(st.integers(1, 7))):
            who = data.draw(st.integers(0, 2))
            base = data.draw(st.integers(0, 2))
            cut = _common(logs[who], logs[base])
            if data.draw(st.booleans()):
                logs[who] = logs[base][:]  # it had replicated everything before it was elected
            else:
                assert logs[who][:cut] == logs[base][:cut]
            logs[who] += [epoch] * data.draw(st.integers(0, 3))
            if data.draw(st.booleans()):
                follower = data.draw(st.integers(0, 2))
                logs[follower] = logs[who][: data.draw(st.integers(0, len(logs[who])))] or logs[follower]
        ahead, behind = logs[0], logs[1]
        common = _common(ahead, behind)
        epochs, own, log = _table(ahead), _table(behind), behind[:]
        for _ in range(20):
            last = log[-1] if log else -1
            diverging = divergence(last, len(log), epochs.end_offset_for(last, len(ahead)), 0)
            if diverging is None:
                break
            cut = max(0, truncation_offset(diverging, own.end_offset_for(diverging[0], len(log)), 0))
            assert cut < len(log), "every answer makes the log shorter (KAFKA-10706)"
            del log[cut:]
            own.truncate_to(cut)
        assert log == ahead[: len(log)]
        assert len(log) == common, "nothing that both have is cut"


def _common(first: list[int], second: list[int]) -> int:
    """Where two logs part. An (epoch, offset) is written once, so equal epochs at an offset mean an equal prefix."""
    size = 0
    while size < min(len(first), len(second)) and first[size] == second[size]:
        size += 1
    return size


def _table(log: list[int]) -> EpochTable:
    epochs = EpochTable()
    for offset, epoch in enumerate(log):
        epochs.assign(epoch, offset)
    return epochs


class TestPaceUnderFlushAck:
    """Late means that the synced end was behind for the lag time: a member may lose power and keep its place."""

    def test_a_member_whose_syncs_do_not_come_back_leaves(self) -> None:
        replica = leader(flush_ack=True)
        for now_ms in range(0, 3 * LAG_MS, 100):
            replica.appended(now_ms // 100 + 1, now_ms)
            fetched(replica, 2, replica.log_end, now_ms)
            fetched(replica, 3, replica.log_end, now_ms, synced=0)
            if (change := replica.propose_shrink(now_ms)) is not None:
                break
        assert change is not None
        assert change.nodes == {1, 2}
        assert LAG_MS < now_ms <= LAG_MS + 200
        assert replica.propose_join([3], now_ms) is None

    def test_a_member_that_is_always_a_sync_behind_stays(self) -> None:
        # Under constant load its synced end is never the log's: what counts is for how long.
        replica = leader(flush_ack=True)
        for now_ms in range(0, 20 * LAG_MS, 10):
            replica.appended(now_ms + 1, now_ms)
            fetched(replica, 2, replica.log_end, now_ms, synced=max(0, now_ms - LAG_MS // 2))
            fetched(replica, 3, replica.log_end, now_ms, synced=max(0, now_ms // 200 * 200 - 200))
            assert replica.propose_shrink(now_ms) is None, now_ms

"""Sharing out partitions: examples, and what must hold for any members, topics and pasts."""

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from node.groups import assign
from node.groups.assign import Assignment, Shares, Steps, TopicPartition

T, U = b"t" * 16, b"u" * 16
Wanted = Mapping[str, frozenset[bytes]]
Counts = Mapping[bytes, int]
Current = Mapping[str, frozenset[TopicPartition]]


def whole(steps: Steps) -> Assignment:
    """All of them."""
    shares = Shares(steps)
    while (shared := shares.go_on(1)) is None:
        pass
    return shared


def uniform(wanted: Wanted, counts: Counts, current: Current) -> Assignment:
    return whole(assign.uniform(wanted, counts, current))


def range_(wanted: Wanted, counts: Counts, current: Current) -> Assignment:
    return whole(assign.range_(wanted, counts, current))


def members(count: int, *topics: bytes) -> dict[str, frozenset[bytes]]:
    return {f"m{i:02}": frozenset(topics or (T,)) for i in range(count)}


def sizes(assignment: dict[str, frozenset[TopicPartition]]) -> list[int]:
    return sorted(len(partitions) for partitions in assignment.values())


def moves(before: dict[str, frozenset[TopicPartition]], after: dict[str, frozenset[TopicPartition]]) -> int:
    """Partitions that go from one member to another."""
    owner = {tp: member for member, partitions in before.items() for tp in partitions}
    return sum(owner.get(tp, member) != member for member, partitions in after.items() for tp in partitions)


def test_the_eleventh_member_moves_an_eleventh() -> None:
    before = uniform(members(10), {T: 110}, {})
    after = uniform(members(11), {T: 110}, before)
    assert sizes(before) == [11] * 10
    assert sizes(after) == [10] * 11
    assert moves(before, after) == 10


def test_what_a_leaver_had_goes_round_and_nothing_else_moves() -> None:
    before = uniform(members(4), {T: 12}, {})
    rest = {name: topics for name, topics in members(4).items() if name != "m02"}
    after = uniform(rest, {T: 12}, before)
    assert sizes(after) == [4, 4, 4]
    assert all(before[name] <= after[name] for name in rest)


def test_more_members_than_partitions_leave_the_rest_idle() -> None:
    assert sizes(uniform(members(5), {T: 2}, {})) == [0, 0, 0, 1, 1]
    assert sizes(range_(members(5), {T: 2}, {})) == [0, 0, 0, 1, 1]


def test_range_gives_equal_numbers_of_two_topics_to_one_member() -> None:
    shared = range_(members(3, T, U), {T: 7, U: 7}, {})
    for partitions in shared.values():
        assert {number for topic, number in partitions if topic == T} == {n for topic, n in partitions if topic == U}
    assert sorted(number for topic, number in shared["m00"] if topic == T) == [0, 1, 2]


def test_nobody_is_given_what_it_did_not_ask_for() -> None:
    wanted = {"a": frozenset({T}), "b": frozenset({U}), "c": frozenset({T, U})}
    shared = uniform(wanted, {T: 3, U: 9}, {})
    assert all(topic in wanted[member] for member, partitions in shared.items() for topic, _ in partitions)
    assert shared["b"] | shared["c"] >= {(U, n) for n in range(9)}


def test_a_claim_of_two_members_to_one_partition_is_settled() -> None:
    both = frozenset({(T, 0), (T, 1)})
    shared = uniform(members(2), {T: 2}, {"m00": both, "m01": both})
    assert sizes(shared) == [1, 1]


GROUPS = st.dictionaries(st.sampled_from("abcdefgh"), st.sets(st.sampled_from([T, U]), min_size=1), max_size=8)
COUNTS = st.fixed_dictionaries({T: st.integers(0, 12), U: st.integers(0, 12)})


def pasts(draw_from: st.DataObject, names: list[str]) -> dict[str, frozenset[TopicPartition]]:
    return {
        name: frozenset(draw_from.draw(st.sets(st.tuples(st.sampled_from([T, U]), st.integers(0, 14)), max_size=10)))
        for name in names
    }


@settings(deadline=None)
@given(GROUPS, COUNTS, st.data())
def test_each_wanted_partition_has_one_owner_that_wants_it(
    wanted: dict[str, set[bytes]], counts: dict[bytes, int], data: st.DataObject
) -> None:
    subscriptions = {name: frozenset(topics) for name, topics in wanted.items()}
    past = pasts(data, [*wanted, "gone"])
    for assignor in (uniform, range_):
        shared = assignor(subscriptions, counts, past)
        assert shared.keys() == wanted.keys()
        given_out = [tp for partitions in shared.values() for tp in partitions]
        assert len(given_out) == len(set(given_out))
        topics = set().union(*wanted.values())
        assert set(given_out) == {(topic, number) for topic in topics for number in range(counts[topic])}
        assert all(topic in wanted[name] for name, partitions in shared.items() for topic, _ in partitions)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 30), st.data())
def test_uniform_is_even_and_moves_no_more_than_it_must(count: int, partitions: int, data: st.DataObject) -> None:
    wanted = members(count)
    past = pasts(data, list(wanted))
    shared = uniform(wanted, {T: partitions}, past)
    assert max(sizes(shared)) - min(sizes(shared)) <= 1
    # Whoever had more than its share gives up no more than the surplus.
    kept: set[TopicPartition] = set()
    for name in sorted(wanted):
        had = {tp for tp in past[name] if tp[0] == T and tp[1] < partitions and tp not in kept}
        kept |= had
        lost = len(had - shared[name])
        assert lost == max(0, len(had) - len(shared[name])), f"{name} lost {lost} of {len(had)}"
    assert uniform(wanted, {T: partitions}, shared) == shared


def test_steps_are_short_and_going_on_after_the_last_one_answers_the_same() -> None:
    """Of a thousand partitions, no step decides on more than a hundred."""
    shares = Shares(assign.uniform(members(50), {T: 1_000}, {"m00": frozenset((T, number) for number in range(1_000))}))
    steps = 1
    while shares.go_on(1) is None:
        steps += 1
    assert steps >= 10
    shared = shares.go_on(1)
    assert shared is not None
    assert sizes(shared) == [20] * 50

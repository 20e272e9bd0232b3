"""What `ottla cluster health` calls wrong."""

from collections.abc import Sequence

import pytest

from ottla.cli.health import problems_of
from ottla.client.quorum_admin import Quorum, QuorumMember
from ottla.client.view import BrokerInfo, ClusterView, PartitionInfo, TopicInfo


def view(*isrs: Sequence[int] | None, fenced: bool = False, controller: int | None = 1) -> ClusterView:
    partitions = tuple(
        PartitionInfo(number, None if isr is None else 1, 0, (1, 2, 3), tuple(isr or ()), ())
        for number, isr in enumerate(isrs)
    )
    brokers = {i: BrokerInfo(i, f"host:{i}", "", fenced and i == 3, False, 1) for i in (1, 2, 3)}
    return ClusterView("c", controller, 1, brokers, {"t": TopicInfo("t", b"", False, partitions)})


def quorum(leader: int | None = 1, lag_ms: int = 0) -> Quorum:
    voters = tuple(QuorumMember(i, b"", "", 1, 0, lag_ms) for i in (1, 2))
    return Quorum(leader, 1, 1, 0 if leader else 4_200, voters, ())


def test_who_is_added_is_not_waited_for() -> None:
    """Replicas that a move adds count once it is complete."""

    def moving(*isr: int) -> ClusterView:
        partition = PartitionInfo(0, 1, 0, (1, 2, 3, 4), isr, (), adding=(4,))
        return ClusterView("c", 1, 1, {}, {"t": TopicInfo("t", b"", False, (partition,))})

    assert problems_of(moving(1, 2, 3), quorum(), {"t": 2}) == []
    (lacking,) = problems_of(moving(1, 2, 4), quorum(), {"t": 2})
    assert "not in sync: t-0" in lacking.what


@pytest.mark.parametrize(
    ("seen", "of_quorum", "expected"),
    [
        (view((1, 2, 3)), quorum(), []),
        (view((1, 2, 3)), quorum(None), [(True, "has had no leader for 4.2 s")]),
        (view(controller=None), quorum(), [(True, "no active controller")]),
        (view(), quorum(lag_ms=6_000), [(False, "voter 1 is 6 s behind"), (False, "voter 2 is 6 s behind")]),
        (view(fenced=True), quorum(), [(False, "node 3 at host:3 is down or stopping")]),
        (
            view((1, 2, 3), (1, 2), (1,), None, None),
            quorum(),
            [
                (True, "2 partitions without a leader: t-3, t-4"),
                (True, "1 partition with fewer replicas in sync than min.insync.replicas: writes are refused: t-2"),
                (False, "1 partition with a replica that is not in sync: t-1"),
            ],
        ),
    ],
)
def test_problems(seen: ClusterView, of_quorum: Quorum, expected: list[tuple[bool, str]]) -> None:
    found = problems_of(seen, of_quorum, {"t": 2})
    assert len(found) == len(expected)
    for problem, (critical, words) in zip(found, expected, strict=True):
        assert problem.critical is critical
        assert words in problem.what

"""GroupService over real planes: any node answers for any group, wherever its coordinator and its partitions are."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from node.groups.model import CommittedOffset, Group, Member
from node.services import groups
from node.services.group_lag import listed
from node.services.groups import GroupServices
from ottla.v1 import data_pb2, data_pb2_grpc, group_pb2, group_pb2_grpc, record_pb2
from ottla.v1 import error_pb2 as pb
from tests.node.loop_watch import LoopWatch
from tests.node.services.planes import Planes

HERE, COORDINATOR, LEADER = 1, 2, 3


@pytest.fixture
async def planes(tmp_path: Path) -> AsyncIterator[Planes]:
    """Three nodes that are one thing each to group `g`: the one asked, its coordinator, the leader of topic `t`."""
    async with Planes(tmp_path) as made:
        made.create_topic("__consumer_offsets", [COORDINATOR], internal=True, cleanup_policy="compact")
        made.create_topic("t", [LEADER])
        yield made


async def produce(planes: Planes, count: int, ages_ms: tuple[int, ...] = ()) -> None:
    """One batch; `ages_ms` are its records' ages, the oldest first, else it is of now."""
    first = now_ms() - max(ages_ms, default=0)
    deltas = [max(ages_ms) - age for age in ages_ms] or [0] * count
    records = record_pb2.Records(
        records=[record_pb2.Record(value=b"%d" % i, timestamp_delta=delta) for i, delta in enumerate(deltas)]
    )
    batch = record_pb2.RecordBatch(records=records, base_timestamp=first, max_timestamp=first + max(deltas))
    part = data_pb2.ProducePartition(topic="t", batch=batch)
    async with planes.channel(LEADER) as channel:
        request = data_pb2.ProduceRequest(partitions=[part], timeout_ms=3000)
        (result,) = (await data_pb2_grpc.DataServiceStub(channel).Produce(request, timeout=5)).partitions
    assert not result.HasField("error"), result.error


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def commit(planes: Planes, offset: int) -> None:
    where = data_pb2.TopicPartition(topic="t")
    request = group_pb2.CommitOffsetsRequest(
        group_id="g", offsets=[group_pb2.OffsetCommit(partition=where, offset=offset)]
    )
    async with planes.channel(HERE) as channel:
        answer = await group_pb2_grpc.GroupServiceStub(channel).CommitOffsets(request, timeout=10)
    assert not answer.HasField("error"), answer.error


@pytest.mark.parametrize("via", [HERE, COORDINATOR, LEADER])
async def test_positions_are_reset_through_any_node(planes: Planes, via: int) -> None:
    await produce(planes, 5)
    await commit(planes, 2)
    async with planes.channel(via) as channel:
        stub = group_pb2_grpc.GroupServiceStub(channel)
        request = group_pb2.ResetOffsetsRequest(group_id="g", timestamp_ms=-1, validate_only=True)
        answer = await stub.ResetOffsets(request, timeout=10)
        (moved,) = answer.partitions
        assert (moved.old_offset, moved.new_offset) == (2, 5), answer


async def test_groups_without_a_coordinator_are_waited_for_together_and_cost_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "WAIT_S", 1.0)
    async with Planes(tmp_path, 2) as planes:
        planes.create_topic("__consumer_offsets", [COORDINATOR, -1, -1], internal=True, cleanup_policy="compact")
        names = [f"g{number}" for number in range(12)]
        async with planes.channel(HERE) as channel:
            stub = group_pb2_grpc.GroupServiceStub(channel)
            for call, request in (
                (stub.DescribeGroups, group_pb2.DescribeGroupsRequest(group_ids=names)),
                (stub.DeleteGroups, group_pb2.DeleteGroupsRequest(group_ids=names)),
            ):
                began = time.monotonic()
                told = (await call(request, timeout=20)).groups
                assert 0.5 < time.monotonic() - began < 4, "one after the other, these take more than that"
                assert [each.group_id for each in told] == names
                of_nobody = {each.group_id for each in told if each.error.code == pb.ERROR_CODE_LEADER_NOT_AVAILABLE}
                others = {each.group_id for each in told if each.error.code == pb.ERROR_CODE_GROUP_ID_NOT_FOUND}
                assert of_nobody | others == set(names)
                assert of_nobody
                assert others


@pytest.mark.parametrize("via", [HERE, COORDINATOR, LEADER])
async def test_lag_is_told_through_any_node(planes: Planes, via: int) -> None:
    await produce(planes, 5)
    await commit(planes, 2)
    async with planes.channel(via) as channel:
        stub = group_pb2_grpc.GroupServiceStub(channel)
        answer = await stub.DescribeGroups(group_pb2.DescribeGroupsRequest(group_ids=["g"]), timeout=10)
    (lag,) = answer.groups[0].partitions
    assert (lag.committed_offset, lag.high_watermark, lag.lag_records) == (2, 5, 3)
    assert lag.HasField("lag_ms")
    assert answer.groups[0].coordinator_id == COORDINATOR


@pytest.mark.parametrize(("position", "age_ms"), [(0, 600_000), (1, 60_000), (2, 5_000), (3, 0)])
async def test_lag_in_time_is_the_age_of_the_first_unread_record(planes: Planes, position: int, age_ms: int) -> None:
    """Without live members, and to the record: those of a batch may be far apart."""
    began = now_ms()
    await produce(planes, 3, ages_ms=(600_000, 60_000, 5_000))
    await commit(planes, position)
    (sample,) = await planes[COORDINATOR].group_lags(5.0)
    passed = now_ms() - began
    assert (sample.group, sample.topic, sample.partition) == ("g", "t", 0)
    assert (sample.lag.high_watermark, sample.lag.records) == (3, 3 - position)
    assert age_ms <= sample.lag.ms <= age_ms + passed + 500 if age_ms else sample.lag.ms == 0
    assert await planes[HERE].group_lags(5.0) == ()


async def test_a_partition_whose_leader_is_gone_is_left_out_and_the_others_are_there(planes: Planes) -> None:
    planes.create_topic("u", [HERE])
    await produce(planes, 2)
    for topic in ("t", "u"):
        where = data_pb2.TopicPartition(topic=topic)
        item = group_pb2.OffsetCommit(partition=where, offset=0)
        async with planes.channel(HERE) as channel:
            request = group_pb2.CommitOffsetsRequest(group_id="g", offsets=[item])
            await group_pb2_grpc.GroupServiceStub(channel).CommitOffsets(request, timeout=10)
    planes.lead(planes.image.names["t"], 0, -1)
    async with planes.channel(HERE) as channel:
        stub = group_pb2_grpc.GroupServiceStub(channel)
        answer = await stub.DescribeGroups(group_pb2.DescribeGroupsRequest(group_ids=["g"]), timeout=10)
    lags = {lag.partition.topic: lag for lag in answer.groups[0].partitions}
    assert not lags["t"].HasField("lag_records")
    assert lags["t"].committed_offset == 0
    assert (lags["u"].lag_records, lags["u"].lag_ms) == (0, 0)
    assert [sample.topic for sample in await planes[COORDINATOR].group_lags(5.0)] == ["u"]


async def test_a_list_of_groups_says_when_a_coordinator_is_missing(planes: Planes) -> None:
    await commit(planes, 0)

    async def listed(via: int) -> group_pb2.ListGroupsResponse:
        async with planes.channel(via) as channel:
            stub = group_pb2_grpc.GroupServiceStub(channel)
            answer: group_pb2.ListGroupsResponse = await stub.ListGroups(group_pb2.ListGroupsRequest(), timeout=20)
        return answer

    for via in planes.planes:
        answer = await listed(via)
        assert [group.group_id for group in answer.groups] == ["g"]
        assert not answer.HasField("error")
    planes.lead(planes.image.names["__consumer_offsets"], 0, -1)
    answer = await listed(HERE)
    assert answer.error.code == pb.ERROR_CODE_LEADER_NOT_AVAILABLE
    assert answer.error.retriable


BAD = [
    (group_pb2.SessionRequest(), pb.ERROR_CODE_INVALID_REQUEST),
    (group_pb2.SessionRequest(heartbeat=group_pb2.Heartbeat()), pb.ERROR_CODE_INVALID_REQUEST),
    (group_pb2.SessionRequest(owned=group_pb2.Owned(assignment_id=1)), pb.ERROR_CODE_INVALID_REQUEST),
]


@pytest.mark.parametrize(("first", "code"), BAD, ids=str)
@pytest.mark.parametrize("via", [HERE, COORDINATOR])
async def test_a_session_that_does_not_begin_with_join_is_refused(
    planes: Planes, via: int, first: group_pb2.SessionRequest, code: int
) -> None:
    async with planes.channel(via) as channel:
        call = group_pb2_grpc.GroupServiceStub(channel).Session()
        await call.write(first)
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert pb.ErrorCode.Name(code).removeprefix("ERROR_CODE_") in (await call.details() or "")


@pytest.mark.parametrize("via", [HERE, COORDINATOR])
async def test_a_bad_group_id_is_refused_by_every_call(planes: Planes, via: int) -> None:
    for group_id in ("", "x" * 256, "x" * 10_000, "a\nb"):
        async with planes.channel(via) as channel:
            stub = group_pb2_grpc.GroupServiceStub(channel)
            codes = [
                (await stub.CommitOffsets(group_pb2.CommitOffsetsRequest(group_id=group_id), timeout=5)).error.code,
                (await stub.FetchOffsets(group_pb2.FetchOffsetsRequest(group_id=group_id), timeout=5)).error.code,
                (
                    await stub.ResetOffsets(group_pb2.ResetOffsetsRequest(group_id=group_id, offset=0), timeout=5)
                ).error.code,
                (await stub.DescribeGroups(group_pb2.DescribeGroupsRequest(group_ids=[group_id]), timeout=5))
                .groups[0]
                .error.code,
                (await stub.DeleteGroups(group_pb2.DeleteGroupsRequest(group_ids=[group_id]), timeout=5))
                .groups[0]
                .error.code,
            ]
            call = stub.Session()
            await call.write(group_pb2.SessionRequest(join=group_pb2.Join(group_id=group_id, topics=["t"])))
            codes.append((await call.read()).error.code)
            call.cancel()
        assert set(codes) == {pb.ERROR_CODE_INVALID_GROUP_ID}
    answer = await listed_groups(planes)
    assert not answer


@pytest.mark.parametrize("via", [HERE, COORDINATOR])
async def test_a_deletion_that_is_only_validated_deletes_nothing(planes: Planes, via: int) -> None:
    await produce(planes, 1)
    await commit(planes, 1)
    async with planes.channel(via) as channel:
        stub = group_pb2_grpc.GroupServiceStub(channel)
        request = group_pb2.DeleteGroupsRequest(group_ids=["g", "nobody"], validate_only=True)
        answer = await stub.DeleteGroups(request, timeout=10)
        assert [result.error.code for result in answer.groups] == [0, pb.ERROR_CODE_GROUP_ID_NOT_FOUND]
        assert "g" in await listed_groups(planes)
        request.validate_only = False
        await stub.DeleteGroups(request, timeout=10)
    assert "g" not in await listed_groups(planes)


async def listed_groups(planes: Planes) -> list[str]:
    async with planes.channel(HERE) as channel:
        stub = group_pb2_grpc.GroupServiceStub(channel)
        answer = await stub.ListGroups(group_pb2.ListGroupsRequest(), timeout=20)
    return [group.group_id for group in answer.groups]


def group(group_id: str, partitions: int, *, has_members: bool = False) -> Group:
    made = Group(group_id)
    made.offsets = {(b"t" * 16, number): CommittedOffset(0, None, "", 0) for number in range(partitions)}
    if has_members:
        made.members["m"] = Member("m", "", "", "", (), "", "uniform", 0, 1, 0)
    return made


def test_the_metrics_list_groups_up_to_a_bound_and_count_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.limits.GROUP_LAGS_MAX", 10)
    groups = [group("c", 4), group("a", 4), group("b", 4), group("d", 20), group("z", 2, has_members=True)]
    chosen, unlisted = listed(groups)
    assert [g.group_id for g in chosen] == ["z", "a", "b"]
    assert unlisted == 2


async def test_a_position_beyond_the_end_is_flagged(planes: Planes) -> None:
    await produce(planes, 5)
    for offset, beyond in ((6, True), (5, False), (0, False), (2**62, True)):
        await commit(planes, offset)
        async with planes.channel(HERE) as channel:
            stub = group_pb2_grpc.GroupServiceStub(channel)
            answer = await stub.DescribeGroups(group_pb2.DescribeGroupsRequest(group_ids=["g"]), timeout=10)
        (lag,) = answer.groups[0].partitions
        assert (lag.beyond_end, lag.high_watermark) == (beyond, 5), offset


async def test_ten_thousand_positions_with_metadata_are_stored_and_read_in_turns(planes: Planes) -> None:
    """One client's many positions hold nobody up: the loop turns in between."""
    planes.create_topic("wide", [LEADER] * 2)
    offsets = [
        group_pb2.OffsetCommit(
            partition=data_pb2.TopicPartition(topic="wide", partition=number % 2), offset=number, metadata="m" * 1_000
        )
        for number in range(10_000)
    ]
    await commit(planes, 1)

    def store_and_read() -> Sequence[group_pb2.CommittedOffset]:
        """From another thread, whose own work is not the loop's."""
        options = [("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(planes.address(COORDINATOR), options=options) as channel:
            stub = group_pb2_grpc.GroupServiceStub(channel)
            answer = stub.CommitOffsets(group_pb2.CommitOffsetsRequest(group_id="g", offsets=offsets), timeout=60)
            assert len(answer.offsets) == 10_000
            assert not any(result.HasField("error") for result in answer.offsets)
            where = [offset.partition for offset in offsets]
            request = group_pb2.FetchOffsetsRequest(group_id="g", partitions=where)
            return stub.FetchOffsets(request, timeout=60).offsets

    async with LoopWatch() as watch:
        found = await asyncio.to_thread(store_and_read)
    assert [entry.offset for entry in found[:2]] == [9_998, 9_999]
    assert len(found) == 10_000
    assert watch.longest_s < 0.2


async def test_a_node_that_stops_says_so_to_its_members(planes: Planes) -> None:
    await commit(planes, 1)
    async with planes.channel(COORDINATOR) as channel:
        call = group_pb2_grpc.GroupServiceStub(channel).Session()
        await call.write(group_pb2.SessionRequest(join=group_pb2.Join(group_id="g", topics=["t"])))
        assert (await call.read()).HasField("assignment")
        stopping = asyncio.create_task(planes.planes.pop(COORDINATOR).stop())
        last = await call.read()
        assert last.error.code == pb.ERROR_CODE_NOT_COORDINATOR
        await stopping


async def test_positions_are_moved_part_by_part(planes: Planes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.services.groups.POSITIONS_AT_ONCE", 1)
    planes.create_topic("u", [HERE, LEADER])
    where = [data_pb2.TopicPartition(topic="u", partition=number) for number in range(2)]
    async with planes.channel(HERE) as channel:
        stub = group_pb2_grpc.GroupServiceStub(channel)
        commits = [group_pb2.OffsetCommit(partition=at, offset=7) for at in where]
        await stub.CommitOffsets(group_pb2.CommitOffsetsRequest(group_id="g", offsets=commits), timeout=10)
        answer = await stub.ResetOffsets(group_pb2.ResetOffsetsRequest(group_id="g", offset=0), timeout=10)
        assert [(moved.old_offset, moved.new_offset) for moved in answer.partitions] == [(7, 0), (7, 0)], answer
        stored = await stub.FetchOffsets(group_pb2.FetchOffsetsRequest(group_id="g"), timeout=10)
    assert [entry.offset for entry in stored.offsets] == [0, 0]


async def test_few_sessions_are_on_their_way_to_a_coordinator_that_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else is passed on to that node would wait behind all of them."""
    monkeypatch.setattr(groups, "TAKEN_S", 0.1)
    services = GroupServices(*[None] * 8, forwarded=False)  # type: ignore[arg-type]

    class Upstream:
        cancelled = False

        def __init__(self, **_: Any) -> None:
            calls.append(self)
            self.taken = asyncio.get_running_loop().create_future()

        async def initial_metadata(self) -> None:
            await self.taken

        def cancel(self) -> None:
            self.cancelled = True

    calls: list[Upstream] = []
    waiting = [asyncio.create_task(services._taken(Upstream)) for _ in range(3 * groups.HOPS_AT_ONCE)]
    await asyncio.sleep(0.02)
    assert len(calls) == groups.HOPS_AT_ONCE
    calls[0].taken.set_result(None)
    calls[1].taken.set_exception(RuntimeError("gone"))
    waiting[2].cancel()
    await asyncio.sleep(0.02)
    assert len(calls) == groups.HOPS_AT_ONCE + 3, "each that is taken, lost or given up makes room"
    assert [call.cancelled for call in calls[:3]] == [False, False, True]
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert len([answer for answer in answers if isinstance(answer, Upstream)]) == 3 * groups.HOPS_AT_ONCE - 1

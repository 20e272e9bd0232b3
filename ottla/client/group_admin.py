"""Looking at groups and moving their positions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from grpc import aio

from ottla.client import arguments
from ottla.client.connection import Client
from ottla.client.errors import ConfigError, OttlaError
from ottla.client.records import TopicPartition
from ottla.v1 import data_pb2, group_pb2
from ottla.v1.group_pb2_grpc import GroupServiceStub

_PATIENCE_MS: Final = 5_000
"""For coordinators that are moving when somebody wants to look; a failover takes well below a second."""


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """A group in a list; `state` is empty, assigning, reconciling or stable; `type` is consumer, classic (clients of
    Kafka that assign among themselves), or empty where it has never had members."""

    group_id: str
    state: str
    member_count: int
    coordinator_id: int
    type: str = ""


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A member, what it owns and what it is to own in the end."""

    member_id: str
    instance_id: str
    client_id: str
    client_host: str
    member_epoch: int
    owned: tuple[TopicPartition, ...]
    target: tuple[TopicPartition, ...]
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroupLag:
    """How far a group is in a partition. None where nothing was committed, or the leader did not answer; `lag_ms` is
    the age of the first unread record; `member_id` is empty where nobody owns the partition; `beyond_end`: the position
    is past the last record, so nothing is read before a reset, or before as much has been written."""

    committed_offset: int | None
    high_watermark: int | None
    lag_records: int | None
    lag_ms: int | None
    member_id: str
    beyond_end: bool = False


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """A group with its members and its positions, with or without members."""

    group_id: str
    state: str
    group_epoch: int
    assignor: str
    coordinator_id: int
    members: tuple[GroupMember, ...]
    partitions: dict[TopicPartition, GroupLag]
    type: str = ""


@dataclass(frozen=True, slots=True)
class MovedPosition:
    """What a reset did, or would do; None = no position."""

    old_offset: int | None
    new_offset: int | None


class GroupAdmin:
    """The part of `Admin` that is about groups."""

    _client: Client
    _timeout_ms: int

    async def list_groups(self, state: str = "") -> list[GroupSummary]:
        """All groups, or those in a state. Raises OttlaError where a coordinator did not answer: a list with gaps would
        look complete."""
        request = group_pb2.ListGroupsRequest(state=arguments.text("state", state))
        answer = await self._client.until_done(
            partial(_list, request, self._timeout_ms),
            min(self._timeout_ms, _PATIENCE_MS),
            lambda answer: [answer.error],
        )
        return [GroupSummary(g.group_id, g.state, g.member_count, g.coordinator_id, g.type) for g in answer.groups]

    async def describe_group(self, group_id: str) -> GroupDescription:
        """Members, positions and lag. Raises UnknownGroup."""
        request = group_pb2.DescribeGroupsRequest(group_ids=[arguments.name("group_id", group_id)])
        answer = await self._client.until_done(
            partial(_describe, request, self._timeout_ms),
            min(self._timeout_ms, _PATIENCE_MS),
            lambda answer: [group.error for group in answer.groups],
        )
        if not answer.groups:
            raise OttlaError("the server's answer has no group. Next: check that client and server have one version")
        group = answer.groups[0]
        return GroupDescription(
            group.group_id,
            group.state,
            group.group_epoch,
            group.assignor,
            group.coordinator_id,
            tuple(map(_member, group.members)),
            {_where(lag.partition): _lag(lag) for lag in group.partitions},
            group.type,
        )

    async def delete_group(self, group_id: str, *, validate_only: bool = False) -> None:
        """Deletes an empty group and its positions. Raises GroupNotEmpty or UnknownGroup."""
        request = group_pb2.DeleteGroupsRequest(
            group_ids=[arguments.name("group_id", group_id)],
            validate_only=arguments.flag("validate_only", validate_only),
        )
        await self._client.until_done(
            partial(_delete, request, self._timeout_ms),
            self._timeout_ms,
            lambda answer: [group.error for group in answer.groups],
            repeatable=False,
        )

    async def commit_offsets(self, group_id: str, positions: Mapping[tuple[str, int], int]) -> None:
        """Stores positions of a group without members, which may be a new one. Raises what the first position
        that was refused raises; MemberFenced while the group has members."""
        request = group_pb2.CommitOffsetsRequest(
            group_id=arguments.name("group_id", group_id),
            offsets=[
                group_pb2.OffsetCommit(
                    partition=data_pb2.TopicPartition(**arguments.place(where)._asdict()),
                    offset=arguments.whole("offset", offset, 0, arguments.INT64_MAX),
                )
                for where, offset in arguments.mapping("positions", positions)
            ],
        )
        await self._client.until_done(
            partial(_commit, request, self._timeout_ms),
            self._timeout_ms,
            lambda answer: [answer.error, *(result.error for result in answer.offsets)],
        )

    async def reset_offsets(
        self,
        group_id: str,
        partitions: Iterable[tuple[str, int]] = (),
        *,
        timestamp_ms: int | None = None,
        offset: int | None = None,
        shift_by: int | None = None,
        validate_only: bool = False,
    ) -> dict[TopicPartition, MovedPosition]:
        """Moves the positions of an empty group, everywhere or in `partitions`, to exactly one of: a time (-1 latest,
        -2 earliest), an offset, so many records forward or back; clamped to what exists. Answers old and new positions.
        Raises GroupNotEmpty while it has members, UnknownGroup."""
        if sum(target is not None for target in (timestamp_ms, offset, shift_by)) != 1:
            raise ConfigError("reset_offsets needs exactly one of timestamp_ms, offset and shift_by")
        request = group_pb2.ResetOffsetsRequest(
            group_id=arguments.name("group_id", group_id),
            partitions=[
                data_pb2.TopicPartition(**each._asdict()) for each in arguments.places("partitions", partitions)
            ],
            validate_only=arguments.flag("validate_only", validate_only),
        )
        if timestamp_ms is not None:
            request.timestamp_ms = arguments.whole("timestamp_ms", timestamp_ms, -2, arguments.INT64_MAX)
        elif offset is not None:
            request.offset = arguments.whole("offset", offset, 0, arguments.INT64_MAX)
        elif shift_by is not None:
            request.shift_by = arguments.whole("shift_by", shift_by, -arguments.INT64_MAX, arguments.INT64_MAX)
        answer = await self._client.until_done(
            partial(_reset, request, self._timeout_ms),
            self._timeout_ms,
            lambda answer: [answer.error] if answer.error.code else [result.error for result in answer.partitions],
            # A shift that was made in part must not be made again; where a position is absolute, it may.
            repeatable=validate_only or shift_by is None,
        )
        moved = {}
        for result in answer.partitions:
            moved[_where(result.partition)] = MovedPosition(
                result.old_offset if result.HasField("old_offset") else None,
                result.new_offset if result.HasField("new_offset") else None,
            )
        return moved


def _where(partition: data_pb2.TopicPartition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.partition)


def _member(member: group_pb2.MemberDescription) -> GroupMember:
    return GroupMember(
        member.member_id,
        member.instance_id,
        member.client_id,
        member.client_host,
        member.member_epoch,
        tuple(map(_where, member.owned)),
        tuple(map(_where, member.target)),
        tuple(member.topics),
    )


def _lag(lag: group_pb2.PartitionLag) -> GroupLag:
    return GroupLag(
        lag.committed_offset if lag.HasField("committed_offset") else None,
        lag.high_watermark if lag.HasField("high_watermark") else None,
        lag.lag_records if lag.HasField("lag_records") else None,
        lag.lag_ms if lag.HasField("lag_ms") else None,
        lag.member_id,
        lag.beyond_end,
    )


async def _list(
    request: group_pb2.ListGroupsRequest, timeout_ms: int, channel: aio.Channel
) -> group_pb2.ListGroupsResponse:
    return await GroupServiceStub(channel).ListGroups(request, timeout=timeout_ms / 1000)


async def _describe(
    request: group_pb2.DescribeGroupsRequest, timeout_ms: int, channel: aio.Channel
) -> group_pb2.DescribeGroupsResponse:
    return await GroupServiceStub(channel).DescribeGroups(request, timeout=timeout_ms / 1000)


async def _delete(
    request: group_pb2.DeleteGroupsRequest, timeout_ms: int, channel: aio.Channel
) -> group_pb2.DeleteGroupsResponse:
    return await GroupServiceStub(channel).DeleteGroups(request, timeout=timeout_ms / 1000)


async def _commit(
    request: group_pb2.CommitOffsetsRequest, timeout_ms: int, channel: aio.Channel
) -> group_pb2.CommitOffsetsResponse:
    return await GroupServiceStub(channel).CommitOffsets(request, timeout=timeout_ms / 1000)


async def _reset(
    request: group_pb2.ResetOffsetsRequest, timeout_ms: int, channel: aio.Channel
) -> group_pb2.ResetOffsetsResponse:
    return await GroupServiceStub(channel).ResetOffsets(request, timeout=timeout_ms / 1000)

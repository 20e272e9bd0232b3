"""Looking at the metadata quorum and changing who votes in it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from grpc import aio

from ottla.client import arguments
from ottla.client.connection import Client
from ottla.client.errors import from_server
from ottla.v1 import admin_pb2, cluster_pb2
from ottla.v1 import error_pb2 as pb
from ottla.v1.admin_pb2_grpc import AdminServiceStub
from ottla.v1.cluster_pb2_grpc import ClusterServiceStub

_CALL_MARGIN_S = 2.0


@dataclass(frozen=True, slots=True)
class QuorumMember:
    """A node of the metadata quorum; progress is known where the leader answered."""

    node_id: int
    directory_id: bytes
    address: str
    match_index: int | None
    lag_records: int | None
    lag_ms: int | None


@dataclass(frozen=True, slots=True)
class Quorum:
    """The metadata quorum as one node sees it; `leader_id` is None while there is none."""

    leader_id: int | None
    leader_epoch: int
    commit_index: int
    leaderless_ms: int
    voters: tuple[QuorumMember, ...]
    observers: tuple[QuorumMember, ...]
    last_index: int = 0
    """The end of the answering node's own log."""
    node_id: int = 0
    """Who answered: the leader, where it could be reached."""


class _Answer(Protocol):
    @property
    def error(self) -> pb.Error: ...


A = TypeVar("A", bound=_Answer)


class QuorumAdmin:
    """The part of `Admin` that is about the metadata quorum."""

    _client: Client
    _timeout_ms: int

    async def describe_quorum(self) -> Quorum:
        """The metadata quorum. Works while it has no leader, too."""
        answer = await self._client.on_any_node(partial(_describe, self._timeout_ms), self._timeout_ms)
        if answer.error.code:
            raise from_server(answer.error)
        return Quorum(
            answer.leader_id if answer.HasField("leader_id") else None,
            answer.leader_epoch,
            answer.commit_index,
            answer.leaderless_ms,
            tuple(map(_member, answer.voters)),
            tuple(map(_member, answer.observers)),
            answer.last_index,
            answer.node_id,
        )

    async def add_voter(self, node_id: int, directory_id: bytes = b"", *, validate_only: bool = False) -> None:
        """Lets a node that follows the quorum vote, once it has caught up; returns when that is committed. Without
        `directory_id`: the node as it runs now. Raises OttlaError: DUPLICATE_VOTER, INVALID_VOTER_KEY where it votes
        with another disk, REQUEST_TIMED_OUT where it does not catch up."""
        request = admin_pb2.AddVoterRequest(
            node_id=arguments.node_id(node_id),
            directory_id=arguments.binary("directory_id", directory_id),
            validate_only=arguments.flag("validate_only", validate_only),
        )
        await self._vote(lambda channel, timeout: AdminServiceStub(channel).AddVoter(request, timeout=timeout))

    async def remove_voter(self, node_id: int, directory_id: bytes = b"", *, validate_only: bool = False) -> None:
        """Takes a node's vote away; it goes on following. The leader hands over first. Raises OttlaError:
        VOTER_NOT_FOUND, INVALID_REQUEST for the last voter."""
        request = admin_pb2.RemoveVoterRequest(
            node_id=arguments.node_id(node_id),
            directory_id=arguments.binary("directory_id", directory_id),
            validate_only=arguments.flag("validate_only", validate_only),
        )
        await self._vote(lambda channel, timeout: AdminServiceStub(channel).RemoveVoter(request, timeout=timeout))

    async def transfer_leadership(self, node_id: int | None = None, *, validate_only: bool = False) -> None:
        """Begins to hand the quorum's leadership to a voter, by default the one with the most complete log. Raises
        OttlaError: VOTER_NOT_FOUND."""
        request = admin_pb2.TransferLeadershipRequest(
            node_id=None if node_id is None else arguments.node_id(node_id),
            validate_only=arguments.flag("validate_only", validate_only),
        )
        await self._vote(
            lambda channel, timeout: AdminServiceStub(channel).TransferLeadership(request, timeout=timeout)
        )

    async def _vote(self, call: Callable[[aio.Channel, float], Awaitable[A]]) -> None:
        """A change that must not be repeated when its answer is lost."""
        timeout_s = self._timeout_ms / 1000 + _CALL_MARGIN_S
        await self._client.until_done(
            lambda channel: call(channel, timeout_s), self._timeout_ms, lambda answer: [answer.error], repeatable=False
        )


def _member(replica: cluster_pb2.QuorumReplica) -> QuorumMember:
    return QuorumMember(
        replica.node_id,
        replica.directory_id,
        replica.address,
        replica.match_index if replica.HasField("match_index") else None,
        replica.lag_records if replica.HasField("lag_records") else None,
        replica.lag_ms if replica.HasField("lag_ms") else None,
    )


async def _describe(timeout_ms: int, channel: aio.Channel) -> cluster_pb2.DescribeQuorumResponse:
    request = cluster_pb2.DescribeQuorumRequest()
    return await ClusterServiceStub(channel).DescribeQuorum(request, timeout=timeout_ms / 1000)

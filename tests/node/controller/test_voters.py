"""What `validate_only` says of changes of the quorum itself, and that it makes none."""

from typing import Any, NoReturn, cast

import pytest

from node.api.access import OFF
from node.api.throttle import Throttle
from node.controller.service import admin_handlers
from node.controller.shell import ControllerShell
from node.metadata.image import Image
from ottla.protocol.errors import name_of
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import cluster_pb2 as cluster

ONE, TWO, THREE, NEW = (bytes([number]) * 16 for number in (1, 2, 3, 9))


class Quorum:
    """Nodes 1 to 3 vote, 1 leads, 4 follows. Whatever would change that fails the test."""

    def __init__(self, *voters: int) -> None:
        self.voters = voters or (1, 2, 3)

    def describe(self) -> cluster.DescribeQuorumResponse:
        voters = [cluster.QuorumReplica(node_id=number, directory_id=bytes([number]) * 16) for number in self.voters]
        observer = cluster.QuorumReplica(node_id=4, directory_id=NEW)
        return cluster.DescribeQuorumResponse(leader_id=1, voters=voters, observers=[observer])

    async def add_voter(self, *_: Any) -> NoReturn:
        raise AssertionError

    remove_voter = transfer = add_voter


class Shell:
    """One that is active."""

    def check_active(self) -> None:
        pass


async def tried(method: str, request: Any, quorum: Quorum | None = None) -> str:
    handlers = admin_handlers(cast(ControllerShell, Shell()), quorum or Quorum(), OFF, Throttle(), lambda: Image.EMPTY)
    answer: Any = await handlers[method](request, cast(Any, None))
    return name_of(answer.error.code)


@pytest.mark.parametrize(
    ("node_id", "directory_id", "expected"),
    [
        (4, NEW, "NONE"),
        (4, b"", "NONE"),
        (4, ONE, "REQUEST_TIMED_OUT"),
        (5, b"", "REQUEST_TIMED_OUT"),
        (1, ONE, "DUPLICATE_VOTER"),
        (1, b"", "DUPLICATE_VOTER"),
    ],
)
async def test_a_voter_to_be_added(node_id: int, directory_id: bytes, expected: str) -> None:
    request = admin.AddVoterRequest(node_id=node_id, directory_id=directory_id, validate_only=True)
    assert await tried("AddVoter", request) == expected


@pytest.mark.parametrize(
    ("node_id", "directory_id", "expected"),
    [(2, TWO, "NONE"), (2, b"", "NONE"), (2, ONE, "VOTER_NOT_FOUND"), (4, NEW, "VOTER_NOT_FOUND")],
)
async def test_a_voter_to_be_removed(node_id: int, directory_id: bytes, expected: str) -> None:
    request = admin.RemoveVoterRequest(node_id=node_id, directory_id=directory_id, validate_only=True)
    assert await tried("RemoveVoter", request) == expected


async def test_the_last_voter_stays() -> None:
    request = admin.RemoveVoterRequest(node_id=1, directory_id=ONE, validate_only=True)
    assert await tried("RemoveVoter", request, Quorum(1)) == "INVALID_REQUEST"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (admin.TransferLeadershipRequest(validate_only=True), "NONE"),
        (admin.TransferLeadershipRequest(node_id=3, validate_only=True), "NONE"),
        (admin.TransferLeadershipRequest(node_id=1, validate_only=True), "VOTER_NOT_FOUND"),
        (admin.TransferLeadershipRequest(node_id=4, validate_only=True), "VOTER_NOT_FOUND"),
    ],
)
async def test_the_leadership_to_be_transferred(request_: admin.TransferLeadershipRequest, expected: str) -> None:
    assert await tried("TransferLeadership", request_) == expected


async def test_there_is_nobody_to_transfer_the_leadership_to() -> None:
    request = admin.TransferLeadershipRequest(validate_only=True)
    assert await tried("TransferLeadership", request, Quorum(1)) == "VOTER_NOT_FOUND"

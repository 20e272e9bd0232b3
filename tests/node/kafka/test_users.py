"""Kafka's own calls about users: grouped by user, told user by user."""

from collections.abc import Sequence
from typing import cast

from node.api.users import DescribedUser, NewCredential, UserChanges
from node.kafka.connection import Call
from node.kafka.handlers.users import UserHandlers
from node.kafka.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse,
    ScramCredentialDeletion,
    ScramCredentialUpsertion,
)
from node.kafka.messages.describe_user_scram_credentials import (
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
    UserName,
)
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

CALL = cast(Call, None)
DUPLICATE, NOT_FOUND, INVALID, DOWN = 92, 91, 42, 41


class Users:
    """A controller that knows alice."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.down = False

    async def describe(self, names: Sequence[str]) -> Sequence[DescribedUser]:
        self.asked.append(list(names))
        self._check()
        missing = ApiError(pb.ERROR_CODE_RESOURCE_NOT_FOUND, "there is no such user")
        return [
            DescribedUser(name, None if name == "alice" else missing, {1: 4096, 2: 8192} if name == "alice" else {})
            for name in names or ["alice"]
        ]

    async def alter(self, users: Sequence[UserChanges], timeout_ms: int) -> Sequence[ApiError | None]:
        self.asked.append(list(users))
        self._check()
        return [None if each.credentials else ApiError(pb.ERROR_CODE_RESOURCE_NOT_FOUND, "no user") for each in users]

    def _check(self) -> None:
        if self.down:
            raise ApiError(pb.ERROR_CODE_NOT_CONTROLLER, "there is none")


async def described(api: Users, *names: str) -> DescribeUserScramCredentialsResponse:
    request = DescribeUserScramCredentialsRequest([UserName(name) for name in names] or None)
    answer = await UserHandlers(api).describe(request, CALL)
    assert isinstance(answer, DescribeUserScramCredentialsResponse)
    return answer


async def altered(
    api: Users, deletions: Sequence[tuple[str, int]], upsertions: Sequence[tuple[str, int]]
) -> list[tuple[str, int]]:
    request = AlterUserScramCredentialsRequest(
        [ScramCredentialDeletion(*each) for each in deletions],
        [ScramCredentialUpsertion(*each, 4096, b"saltsalt", b"salted") for each in upsertions],
    )
    answer = await UserHandlers(api).alter(request, CALL)
    assert isinstance(answer, AlterUserScramCredentialsResponse)
    return [(each.user, each.error_code) for each in answer.results]


async def test_users_are_described_one_by_one_or_all() -> None:
    api = Users()
    for names in ((), ("alice",)):
        (alice,) = (await described(api, *names)).results
        assert [(each.mechanism, each.iterations) for each in alice.credential_infos] == [(1, 4096), (2, 8192)]
        assert (alice.user, alice.error_code, alice.error_message) == ("alice", 0, None)
    found = await described(api, "bob", "alice", "alice")
    assert [(each.user, each.error_code, len(each.credential_infos)) for each in found.results] == [
        ("bob", NOT_FOUND, 0),
        ("alice", DUPLICATE, 0),
    ]
    assert api.asked == [[], ["alice"], ["bob", "alice"]]


async def test_changes_are_grouped_by_user() -> None:
    api = Users()
    assert await altered(api, [("bob", 1), ("alice", 1)], [("alice", 2), ("carol", 1), ("carol", 2)]) == [
        ("bob", NOT_FOUND),
        ("alice", 0),
        ("carol", 0),
    ]
    one, two = (NewCredential(number, 4096, b"saltsalt", b"salted") for number in (1, 2))
    assert api.asked == [
        [UserChanges("bob", [1], []), UserChanges("alice", [1], [two]), UserChanges("carol", [], [one, two])]
    ]
    assert "salt" not in repr(api.asked)


async def test_what_is_named_twice_is_not_asked_for() -> None:
    api = Users()
    assert await altered(api, [("a", 1), ("b", 1), ("b", 1)], [("a", 1), ("c", 1), ("c", 1), ("d", 1)]) == [
        ("a", DUPLICATE),
        ("b", DUPLICATE),
        ("c", DUPLICATE),
        ("d", 0),
    ]
    assert await altered(Users(), [("a", 1)], [("a", 1)]) == [("a", DUPLICATE)]
    assert await altered(Users(), [], []) == []


async def test_without_a_controller_all_hear_of_it() -> None:
    api = Users()
    api.down = True
    assert (await described(api)).error_code == DOWN
    assert await altered(api, [("a", 1)], [("b", 1)]) == [("a", DOWN), ("b", DOWN)]


async def test_too_many_users_are_refused() -> None:
    names = [f"u{number}" for number in range(10_001)]
    assert (await described(Users(), *names)).error_code == INVALID
    assert set(await altered(Users(), [(name, 1) for name in names], [])) == {(name, INVALID) for name in names}

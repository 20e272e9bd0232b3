"""The controller's part of `node.api.users`: values in, the contract's messages to the controller, values out."""

from collections.abc import Sequence
from typing import Final

from node.api.users import DescribedUser, UserChanges
from node.services.topics import ControllerTopics, error_of
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2

TIMEOUT_MS: Final = 30_000


class ControllerUsers:
    """Beside topics, with which it shares the number of calls that may be under way."""

    def __init__(self, topics: ControllerTopics) -> None:
        self._topics = topics

    async def describe(self, names: Sequence[str]) -> Sequence[DescribedUser]:
        request = admin_pb2.DescribeUserScramCredentialsRequest(users=names)
        data = await self._topics.ask("DescribeUserScramCredentials", request, TIMEOUT_MS)
        answer = admin_pb2.DescribeUserScramCredentialsResponse.FromString(data)
        return [
            DescribedUser(each.name, error_of(each), {one.mechanism: one.iterations for one in each.credentials})
            for each in answer.users
        ]

    async def alter(self, users: Sequence[UserChanges], timeout_ms: int) -> Sequence[ApiError | None]:
        request = admin_pb2.AlterUserScramCredentialsRequest(timeout_ms=timeout_ms)
        for user in users:
            changes = request.users.add(name=user.name, removals=map(_mechanism, user.removals))
            for new in user.credentials:
                changes.credentials.add(
                    mechanism=_mechanism(new.mechanism),
                    iterations=new.iterations,
                    salt=new.salt,
                    salted_password=new.salted_password,
                )
        data = await self._topics.ask("AlterUserScramCredentials", request, timeout_ms)
        return [error_of(each) for each in admin_pb2.AlterUserScramCredentialsResponse.FromString(data).users]


def _mechanism(number: int) -> admin_pb2.ScramMechanism.ValueType:
    return admin_pb2.ScramMechanism.ValueType(number)

"""DescribeUserScramCredentials and AlterUserScramCredentials, which any node passes on to the controller."""

from collections import Counter
from typing import Final

from node import limits
from node.api.users import DescribedUser, NewCredential, UserChanges, UsersApi
from node.kafka.connection import Call
from node.kafka.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse,
    AlterUserScramCredentialsResult,
)
from node.kafka.messages.describe_user_scram_credentials import (
    CredentialInfo,
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
)
from node.kafka.wire import Message
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

DESCRIBE_LOW, DESCRIBE_HIGH = 0, 0
ALTER_LOW, ALTER_HIGH = 0, 0
TIMEOUT_MS: Final = 30_000
_TWICE: Final = ApiError(pb.ERROR_CODE_DUPLICATE_RESOURCE, "the request names it more than once")


class UserHandlers:
    def __init__(self, api: UsersApi) -> None:
        self._api = api

    async def describe(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DescribeUserScramCredentialsRequest)
        named = Counter(each.name for each in request.users or ())
        try:
            users = await self._api.describe(_few(named))
        except ApiError as error:
            return DescribeUserScramCredentialsResponse(error_code=error.code, error_message=error.message)
        return DescribeUserScramCredentialsResponse(
            error_message=None, results=[_described(user, twice=named[user.name] > 1) for user in users]
        )

    async def alter(self, request: Message, call: Call) -> Message:
        assert isinstance(request, AlterUserScramCredentialsRequest)
        named = [*(each.name for each in request.deletions), *(each.name for each in request.upsertions)]
        names = list(dict.fromkeys(named))
        removals: dict[str, list[int]] = {name: [] for name in names}
        credentials: dict[str, list[NewCredential]] = {name: [] for name in names}
        for each in request.deletions:
            removals[each.name].append(each.mechanism)
        for one in request.upsertions:
            new = NewCredential(one.mechanism, one.iterations, one.salt, one.salted_password)
            credentials[one.name].append(new)
        changes = {name: UserChanges(name, removals[name], credentials[name]) for name in names}
        results: dict[str, ApiError | None] = {name: _TWICE for name, user in changes.items() if _is_twice(user)}
        left = [user for name, user in changes.items() if name not in results]
        if left:
            try:
                _few([user.name for user in left])
                altered = await self._api.alter(left, TIMEOUT_MS)
                results |= {user.name: error for user, error in zip(left, altered, strict=True)}
            except ApiError as error:
                results |= {user.name: error for user in left}
        return AlterUserScramCredentialsResponse(
            results=[AlterUserScramCredentialsResult(name, *_said(results[name])) for name in changes]
        )


def _described(user: DescribedUser, *, twice: bool) -> DescribeUserScramCredentialsResult:
    error = _TWICE if twice else user.error
    infos = [CredentialInfo(*each) for each in user.credentials.items()] if error is None else []
    return DescribeUserScramCredentialsResult(user.name, *_said(error), infos)


def _is_twice(user: UserChanges) -> bool:
    """Whether a mechanism is named twice, be it once for each of the two things that can be done."""
    mechanisms = [*user.removals, *(new.mechanism for new in user.credentials)]
    return len(mechanisms) > len(set(mechanisms))


def _few(names: "Counter[str] | list[str]") -> list[str]:
    """Raises INVALID_REQUEST."""
    if len(names) > limits.ITEMS_MAX:
        raise limits.too_many("users of a request", len(names), limits.ITEMS_MAX)
    return list(names)


def _said(error: ApiError | None) -> tuple[int, str | None]:
    return (0, None) if error is None else (error.code, error.message)

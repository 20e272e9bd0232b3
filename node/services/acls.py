"""The controller's part of `node.api.acls`: values in, the contract's messages to the controller, values out."""

from collections.abc import Sequence
from typing import Final

from node.api.acls import Removed
from node.services.topics import ControllerTopics, error_of
from ottla.protocol import acl_messages
from ottla.protocol.acls import Acl, Filter
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2

TIMEOUT_MS: Final = 30_000


class ControllerAcls:
    """Beside topics, with which it shares the number of calls that may be under way."""

    def __init__(self, topics: ControllerTopics) -> None:
        self._topics = topics

    async def describe(self, wanted: Filter) -> Sequence[Acl]:
        request = admin_pb2.DescribeAclsRequest(filter=acl_messages.filter_message(wanted))
        answer = admin_pb2.DescribeAclsResponse.FromString(await self._topics.ask("DescribeAcls", request, TIMEOUT_MS))
        return [acl_messages.acl_of(each) for each in answer.acls]

    async def create(self, acls: Sequence[Acl], timeout_ms: int) -> Sequence[ApiError | None]:
        request = admin_pb2.CreateAclsRequest(acls=map(acl_messages.message_of, acls), timeout_ms=timeout_ms)
        data = await self._topics.ask("CreateAcls", request, timeout_ms)
        return [error_of(each) for each in admin_pb2.CreateAclsResponse.FromString(data).results]

    async def delete(self, filters: Sequence[Filter], timeout_ms: int) -> Sequence[Removed]:
        request = admin_pb2.DeleteAclsRequest(filters=map(acl_messages.filter_message, filters), timeout_ms=timeout_ms)
        data = await self._topics.ask("DeleteAcls", request, timeout_ms)
        return [
            Removed(error_of(each), [acl_messages.acl_of(acl) for acl in each.acls])
            for each in admin_pb2.DeleteAclsResponse.FromString(data).results
        ]

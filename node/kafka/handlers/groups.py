"""ListGroups, DescribeGroups and DeleteGroups. Each answers for the groups that this node coordinates."""

from typing import Final

from node import limits, turns
from node.api.access import Access
from node.api.groups import GroupsApi
from node.groups.classics import CLASSIC, CONSUMER, Shown
from node.kafka.connection import Call
from node.kafka.handlers.cluster_facts import NOT_ASKED
from node.kafka.handlers.positions import code_of
from node.kafka.messages.delete_groups import DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse
from node.kafka.messages.describe_groups import (
    DescribedGroup,
    DescribedGroupMember,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)
from node.kafka.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse
from node.kafka.wire import Message
from ottla.protocol.acls import GROUP
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

LIST_LOW, LIST_HIGH = 0, 5
DESCRIBE_LOW, DESCRIBE_HIGH = 0, 6
DELETE_LOW, DELETE_HIGH = 0, 2
GROUPS_AT_ONCE: Final = 20
SAYS_NOT_FOUND: Final = 6
"""From here on a description of what is not there has an error."""
GROUP_OPERATIONS: Final = 0x0D48
"""Everything that Kafka 4.3 names."""
DEAD: Final = "Dead"
STABLE: Final = "Stable"


class GroupHandlers:
    def __init__(self, api: GroupsApi, access: Access) -> None:
        self._api = api
        self._access = access

    async def list(self, request: Message, call: Call) -> Message:
        assert isinstance(request, ListGroupsRequest)
        states = {each.lower() for each in request.states_filter}
        types = {each.lower() for each in request.types_filter}
        try:
            found = await self._api.listed()
        except ApiError as error:
            return ListGroupsResponse(error_code=code_of(error))
        return ListGroupsResponse(
            groups=[
                ListedGroup(each.group_id, each.protocol_type, each.state, each.type or CLASSIC)
                for each in found
                if (not states or each.state.lower() in states) and (not types or (each.type or CLASSIC) in types)
            ]
        )

    async def describe(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DescribeGroupsRequest)
        described, size = [], 0
        for count, group_id in enumerate(request.groups, 1):
            if count % GROUPS_AT_ONCE == 0:
                await turns.give_way()
            one = await self._described(group_id, call.version, size)
            one.authorized_operations = NOT_ASKED
            if request.include_authorized_operations and not one.error_code:
                one.authorized_operations = self._access.operations(GROUP, group_id, GROUP_OPERATIONS)
            size += 100 + sum(len(each.member_metadata) + len(each.member_assignment) + 200 for each in one.members)
            described.append(one)
        return DescribeGroupsResponse(groups=described)

    async def _described(self, group_id: str, version: int, size: int) -> DescribedGroup:
        if size > limits.GROUP_ANSWER_MAX_BYTES:
            return DescribedGroup(pb.ERROR_CODE_INVALID_REQUEST, "describe fewer groups at once", group_id, DEAD)
        try:
            found = await self._api.described(group_id)
        except ApiError as error:
            return DescribedGroup(code_of(error), error.message, group_id)
        if found is not None and found.type != CONSUMER:
            return _described(found)
        if version < SAYS_NOT_FOUND:
            return DescribedGroup(group_id=group_id, group_state=DEAD)
        why = "there is no such group" if found is None else "the server assigns its partitions: it is no classic group"
        return DescribedGroup(pb.ERROR_CODE_GROUP_ID_NOT_FOUND, why, group_id, DEAD)

    async def delete(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DeleteGroupsRequest)
        results = []
        for count, group_id in enumerate(dict.fromkeys(request.groups_names), 1):
            if count % GROUPS_AT_ONCE == 0:
                await turns.give_way()
            code = 0
            try:
                await self._api.delete(group_id)
            except ApiError as error:
                code = code_of(error)
            results.append(DeletableGroupResult(group_id=group_id, error_code=code))
        return DeleteGroupsResponse(results=results)


def _described(found: Shown) -> DescribedGroup:
    is_stable = found.state == STABLE
    return DescribedGroup(
        group_id=found.group_id,
        group_state=found.state,
        protocol_type=found.protocol_type,
        protocol_data=found.protocol if is_stable else "",
        members=[
            DescribedGroupMember(
                each.member_id,
                each.instance_id,
                each.client_id,
                f"/{each.client_host}",
                each.metadata if is_stable else b"",
                each.assignment if is_stable else b"",
            )
            for each in found.members
        ],
    )

"""JoinGroup, SyncGroup, Heartbeat and LeaveGroup: members of groups of the classic protocol."""

from typing import Final

from node.api.groups import GroupsApi
from node.groups.classic import Join, JoinAnswer, SyncAnswer
from node.groups.offsets import ClassicCommitter
from node.kafka.connection import Call
from node.kafka.handlers.positions import code_of
from node.kafka.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from node.kafka.messages.join_group import JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember
from node.kafka.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberResponse
from node.kafka.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from node.kafka.wire import Message
from node.metrics import Metrics
from ottla.protocol.errors import ApiError
from ottla.protocol.names import ID_MAX
from ottla.v1 import error_pb2 as pb

JOIN_LOW, JOIN_HIGH = 0, 9
HEARTBEAT_LOW, HEARTBEAT_HIGH = 0, 4
LEAVE_LOW, LEAVE_HIGH = 0, 5
SYNC_LOW, SYNC_HIGH = 0, 5
REBALANCE_TIMEOUT: Final = 1
MEMBER_ID_REQUIRED: Final = 4
PROTOCOL_MAY_BE_NULL: Final = 7
SKIP_ASSIGNMENT: Final = 9
"""Since these versions of JoinGroup."""
LEAVE_BATCHED: Final = 3
SYNC_NAMES_PROTOCOL: Final = 5


class MemberHandlers:
    """Each answers at once or, where members wait for each other, later."""

    def __init__(self, api: GroupsApi, metrics: Metrics) -> None:
        self._api = api
        self._metrics = metrics

    def _refused(self, name: str, code: int) -> int:
        if code:
            self._metrics.refused(f"Kafka{name}", code)
        return code

    def join(self, request: Message, call: Call) -> Message | None:
        assert isinstance(request, JoinGroupRequest)

        def answer(told: JoinAnswer) -> None:
            self._refused("JoinGroup", told.error_code)
            call.answer(_joined(told, call.version))

        try:
            self._api.join(request.group_id, self._join(request, call), answer)
        except ApiError as error:
            answer(JoinAnswer(code_of(error), request.member_id))
        return None

    def _join(self, request: JoinGroupRequest, call: Call) -> Join:
        client_id = client_name(call)
        waits = call.version >= REBALANCE_TIMEOUT and request.rebalance_timeout_ms >= 0
        return Join(
            request.member_id,
            request.group_instance_id,
            client_id,
            client_host(call),
            request.session_timeout_ms,
            request.rebalance_timeout_ms if waits else request.session_timeout_ms,
            request.protocol_type,
            tuple((each.name, each.metadata) for each in request.protocols),
            self._api.new_member_id(client_id),
            may_need_id=call.version >= MEMBER_ID_REQUIRED,
            may_skip_assignment=call.version >= SKIP_ASSIGNMENT,
        )

    def sync(self, request: Message, call: Call) -> Message | None:
        assert isinstance(request, SyncGroupRequest)

        def answer(told: SyncAnswer) -> None:
            self._refused("SyncGroup", told.error_code)
            call.answer(
                SyncGroupResponse(
                    error_code=told.error_code,
                    protocol_type=told.protocol_type,
                    protocol_name=told.protocol,
                    assignment=told.assignment,
                )
            )

        if call.version >= SYNC_NAMES_PROTOCOL and None in (request.protocol_type, request.protocol_name):
            answer(SyncAnswer(pb.ERROR_CODE_INCONSISTENT_GROUP_PROTOCOL))
            return None
        who = ClassicCommitter(request.member_id, request.group_instance_id, request.generation_id)
        assignments = {each.member_id: each.assignment for each in request.assignments}
        try:
            self._api.sync(request.group_id, who, assignments, (request.protocol_type, request.protocol_name), answer)
        except ApiError as error:
            answer(SyncAnswer(code_of(error)))
        return None

    def heartbeat(self, request: Message, call: Call) -> Message:
        assert isinstance(request, HeartbeatRequest)
        who = ClassicCommitter(request.member_id, request.group_instance_id, request.generation_id)
        try:
            code = self._api.heartbeat(request.group_id, who)
        except ApiError as error:
            code = code_of(error)
        return HeartbeatResponse(error_code=self._refused("Heartbeat", code))

    def leave(self, request: Message, call: Call) -> Message:
        assert isinstance(request, LeaveGroupRequest)
        leaving = [(each.member_id, each.group_instance_id) for each in request.members]
        if call.version < LEAVE_BATCHED:
            leaving = [(request.member_id, None)]
        try:
            codes = self._api.leave(request.group_id, leaving)
        except ApiError as error:
            return LeaveGroupResponse(error_code=self._refused("LeaveGroup", code_of(error)))
        if codes is None:
            codes = [pb.ERROR_CODE_UNKNOWN_MEMBER_ID] * len(leaving)
        if call.version < LEAVE_BATCHED:
            return LeaveGroupResponse(error_code=self._refused("LeaveGroup", codes[0]))
        return LeaveGroupResponse(
            members=[
                MemberResponse(member_id=member_id, group_instance_id=instance_id, error_code=code)
                for (member_id, instance_id), code in zip(leaving, codes, strict=True)
            ]
        )


def client_name(call: Call) -> str:
    """What the client calls itself, as it may be shown."""
    name = (call.client_id or "")[:ID_MAX]
    return name if name.isprintable() else ascii(name)[:ID_MAX]


def client_host(call: Call) -> str:
    return call.connection.peer[0] if call.connection.peer is not None else ""


def _joined(told: JoinAnswer, version: int) -> JoinGroupResponse:
    return JoinGroupResponse(
        error_code=told.error_code,
        generation_id=told.generation,
        protocol_type=told.protocol_type,
        protocol_name=told.protocol if version >= PROTOCOL_MAY_BE_NULL else told.protocol or "",
        leader=told.leader,
        skip_assignment=told.skip_assignment,
        member_id=told.member_id,
        members=[
            JoinGroupResponseMember(member_id=member_id, group_instance_id=instance_id, metadata=metadata)
            for member_id, instance_id, metadata in told.members
        ],
    )

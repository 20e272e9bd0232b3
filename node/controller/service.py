"""ControllerService and AdminService on the control listener: translate, don't decide.

Handlers by method name, for `node.services.listener.add_service`; an `ApiError` that leaves a handler fails the call.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from node.controller.shell import ControllerShell
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb

Handler = Callable[[Any, Any], Awaitable[Any]]

_CONTROLLER: Final[dict[str, type[Any]]] = {
    "RegisterBroker": rpc.RegisterBrokerResponse,
    "Heartbeat": rpc.HeartbeatResponse,
    "AlterPartition": rpc.AlterPartitionResponse,
    "AllocateProducerIds": rpc.AllocateProducerIdsResponse,
    "EnsureInternalTopic": rpc.EnsureInternalTopicResponse,
}
_ADMIN: Final = (
    "CreateTopics",
    "DeleteTopics",
    "CreatePartitions",
    "AlterConfigs",
    "DescribeConfigs",
    "ElectLeaders",
    "DescribeFeatures",
)


class Voters(Protocol):
    """Changing the quorum itself. Raises ApiError."""

    async def add_voter(self, node_id: int, directory_id: bytes) -> None: ...
    async def remove_voter(self, node_id: int, directory_id: bytes) -> None: ...
    async def transfer(self, node_id: int | None) -> None: ...


def controller_handlers(shell: ControllerShell) -> dict[str, Handler]:
    """Nodes get every refusal, NOT_CONTROLLER too, in the response's `error`."""

    def handler(response: type[Any]) -> Handler:
        async def call(request: Any, _context: Any) -> Any:
            try:
                return await shell.handle(request)
            except ApiError as error:
                return response(error=error.to_proto())

        return call

    return {name: handler(response) for name, response in _CONTROLLER.items()}


def admin_handlers(shell: ControllerShell, voters: Voters) -> dict[str, Handler]:
    """Refusals of one item are in its result; a refused call (NOT_CONTROLLER) is a status with details."""

    async def call(request: Any, _context: Any) -> Any:
        return await shell.handle(request)

    async def add_voter(request: admin.AddVoterRequest, _context: Any) -> admin.AddVoterResponse:
        try:
            await voters.add_voter(request.node_id, request.directory_id)
        except ApiError as error:
            return admin.AddVoterResponse(error=_own(error))
        return admin.AddVoterResponse()

    async def remove_voter(request: admin.RemoveVoterRequest, _context: Any) -> admin.RemoveVoterResponse:
        try:
            await voters.remove_voter(request.node_id, request.directory_id)
        except ApiError as error:
            return admin.RemoveVoterResponse(error=_own(error))
        return admin.RemoveVoterResponse()

    async def transfer(request: admin.TransferLeadershipRequest, _context: Any) -> admin.TransferLeadershipResponse:
        try:
            await voters.transfer(request.node_id if request.HasField("node_id") else None)
        except ApiError as error:
            return admin.TransferLeadershipResponse(error=_own(error))
        return admin.TransferLeadershipResponse()

    async def finalize(request: admin.FinalizeFeatureRequest, _context: Any) -> admin.FinalizeFeatureResponse:
        try:
            answer: admin.FinalizeFeatureResponse = await shell.handle(request)
        except ApiError as error:
            return admin.FinalizeFeatureResponse(error=_own(error))
        return answer

    async def delete_records(_request: admin.DeleteRecordsRequest, _context: Any) -> admin.DeleteRecordsResponse:
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST, "DeleteRecords is carried out by partition leaders, not by the controller"
        )

    return dict.fromkeys(_ADMIN, call) | {
        "AddVoter": add_voter,
        "RemoveVoter": remove_voter,
        "TransferLeadership": transfer,
        "FinalizeFeature": finalize,
        "DeleteRecords": delete_records,
    }


def _own(error: ApiError) -> pb.Error:
    """The wire form of a refusal; NOT_CONTROLLER is one of the whole call, so that the sender tries elsewhere."""
    if error.code == pb.ERROR_CODE_NOT_CONTROLLER:
        raise error
    return error.to_proto()

"""ControllerService and AdminService on the control listener: translate, don't decide.

Handlers by method name, for `node.services.listener.add_service`; an `ApiError` that leaves a handler fails the call.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import structlog

from node.api.access import Access
from node.api.throttle import Throttle
from node.controller.access import authorized
from node.controller.changes import audited
from node.controller.quotas import rated
from node.controller.shell import ControllerShell
from node.metadata.image import Image
from node.relay import peer
from node.transport import PLAIN, Transport, check_claim
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import cluster_pb2 as cluster
from ottla.v1 import error_pb2 as pb

log = structlog.get_logger(__name__)

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
    "ReassignPartitions",
    "ListReassignments",
    "DescribeFeatures",
    "DescribeUserScramCredentials",
    "AlterUserScramCredentials",
    "DescribeAcls",
    "CreateAcls",
    "DeleteAcls",
    "TestAcl",
    "DescribeClientQuotas",
    "AlterClientQuotas",
)


class Voters(Protocol):
    """Changing the quorum itself. Raises ApiError."""

    async def add_voter(self, node_id: int, directory_id: bytes) -> None: ...
    async def remove_voter(self, node_id: int, directory_id: bytes) -> None: ...
    async def transfer(self, node_id: int | None) -> None: ...
    def describe(self) -> cluster.DescribeQuorumResponse: ...


def controller_handlers(shell: ControllerShell, transport: Transport = PLAIN) -> dict[str, Handler]:
    """Nodes get every refusal, NOT_CONTROLLER too, in the response's `error`. Who asks in a node's name must be it."""

    def handler(response: type[Any]) -> Handler:
        async def call(request: Any, context: Any) -> Any:
            try:
                if "node_id" in request.DESCRIPTOR.fields_by_name:
                    check_claim(transport, context, request.node_id)
                return await shell.handle(request)
            except ApiError as error:
                if error.code == pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED:
                    log.warning("controller_refuses", peer=peer(context), reason=error.message)
                return response(error=error.to_proto())

        return call

    return {name: handler(response) for name, response in _CONTROLLER.items()}


def admin_handlers(
    shell: ControllerShell, voters: Voters, access: Access, throttle: Throttle, image: Callable[[], Image]
) -> dict[str, Handler]:
    """Refusals of one item are in its result; a refused call (NOT_CONTROLLER) is a status with details."""

    async def call(request: Any, _context: Any) -> Any:
        return await shell.handle(request)

    async def add_voter(request: admin.AddVoterRequest, _context: Any) -> admin.AddVoterResponse:
        try:
            if request.validate_only:
                shell.check_active()
                _check_add(voters.describe(), request)
                return admin.AddVoterResponse()
            await voters.add_voter(request.node_id, request.directory_id)
        except ApiError as error:
            return admin.AddVoterResponse(error=_own(error))
        return admin.AddVoterResponse()

    async def remove_voter(request: admin.RemoveVoterRequest, _context: Any) -> admin.RemoveVoterResponse:
        try:
            if request.validate_only:
                shell.check_active()
                _check_remove(voters.describe(), request)
                return admin.RemoveVoterResponse()
            await voters.remove_voter(request.node_id, request.directory_id)
        except ApiError as error:
            return admin.RemoveVoterResponse(error=_own(error))
        return admin.RemoveVoterResponse()

    async def transfer(request: admin.TransferLeadershipRequest, _context: Any) -> admin.TransferLeadershipResponse:
        try:
            if request.validate_only:
                shell.check_active()
                _check_transfer(voters.describe(), request)
                return admin.TransferLeadershipResponse()
            await voters.transfer(request.node_id if request.HasField("node_id") else None)
        except ApiError as error:
            return admin.TransferLeadershipResponse(error=_own(error))
        return admin.TransferLeadershipResponse()

    async def unregister(request: admin.UnregisterBrokerRequest, _context: Any) -> admin.UnregisterBrokerResponse:
        try:
            shell.check_active()
            _check_no_voter(voters.describe(), request.node_id)
            answer: admin.UnregisterBrokerResponse = await shell.handle(request)
        except ApiError as error:
            return admin.UnregisterBrokerResponse(error=_own(error))
        return answer

    async def finalize(request: admin.FinalizeFeatureRequest, _context: Any) -> admin.FinalizeFeatureResponse:
        try:
            answer: admin.FinalizeFeatureResponse = await shell.handle(request)
        except ApiError as error:
            return admin.FinalizeFeatureResponse(error=_own(error))
        return answer

    async def complete_import(request: admin.CompleteImportRequest, _context: Any) -> admin.CompleteImportResponse:
        try:
            answer: admin.CompleteImportResponse = await shell.handle(request)
        except ApiError as error:
            return admin.CompleteImportResponse(error=_own(error))
        return answer

    async def at_leaders(request: Any, _context: Any) -> Any:
        name = request.DESCRIPTOR.name.removesuffix("Request")
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST, f"{name} is carried out by partition leaders, not by the controller"
        )

    handlers: dict[str, Handler] = {
        **dict.fromkeys(_ADMIN, call),
        "AddVoter": add_voter,
        "RemoveVoter": remove_voter,
        "TransferLeadership": transfer,
        "UnregisterBroker": unregister,
        "FinalizeFeature": finalize,
        "CompleteImport": complete_import,
        **dict.fromkeys(("DeleteRecords", "ExportBatches", "ImportBatches"), at_leaders),
    }
    return audited(authorized(rated(handlers, throttle, image), access, image))


def _check_add(quorum: cluster.DescribeQuorumResponse, request: admin.AddVoterRequest) -> None:
    """Raises as the change would, as far as that can be known before."""
    seats = [voter for voter in quorum.voters if voter.node_id == request.node_id]
    found = [o for o in quorum.observers if o.node_id == request.node_id]
    if any(seat.directory_id == request.directory_id for seat in seats) or (seats and not found):
        raise ApiError(pb.ERROR_CODE_DUPLICATE_VOTER, f"node {request.node_id} votes already")
    if seats:
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST,
            f"node {request.node_id} votes with directory {seats[0].directory_id.hex()}: remove that voter first",
        )
    if not any(request.directory_id in (b"", observer.directory_id) for observer in found):
        raise ApiError(
            pb.ERROR_CODE_REQUEST_TIMED_OUT, f"node {request.node_id} does not follow: it must catch up as an observer"
        )


def _check_remove(quorum: cluster.DescribeQuorumResponse, request: admin.RemoveVoterRequest) -> None:
    seats = [voter for voter in quorum.voters if voter.node_id == request.node_id]
    if not any(request.directory_id in (b"", seat.directory_id) for seat in seats):
        raise ApiError(
            pb.ERROR_CODE_VOTER_NOT_FOUND,
            f"node {request.node_id} votes with directory {seats[0].directory_id.hex()}"
            if seats
            else f"node {request.node_id} is not a voter",
        )
    if len(quorum.voters) == 1:
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"node {request.node_id} is the last voter")


def _check_no_voter(quorum: cluster.DescribeQuorumResponse, node_id: int) -> None:
    if any(voter.node_id == node_id for voter in quorum.voters):
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST,
            f"node {node_id} votes in the metadata quorum",
            next_step=f"run `ottla node decommission {node_id} --watch`, or `ottla cluster voter remove {node_id}`",
        )


def _check_transfer(quorum: cluster.DescribeQuorumResponse, request: admin.TransferLeadershipRequest) -> None:
    others = [voter.node_id for voter in quorum.voters if voter.node_id != quorum.leader_id]
    if not others:
        raise ApiError(pb.ERROR_CODE_VOTER_NOT_FOUND, "there is no other voter")
    if request.HasField("node_id") and request.node_id not in others:
        raise ApiError(pb.ERROR_CODE_VOTER_NOT_FOUND, f"node {request.node_id} is not another voter: {others} are")


def _own(error: ApiError) -> pb.Error:
    """The wire form of a refusal; NOT_CONTROLLER is one of the whole call, so that the sender tries elsewhere."""
    if error.code == pb.ERROR_CODE_NOT_CONTROLLER:
        raise error
    return error.to_proto()

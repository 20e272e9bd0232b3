"""ACLs: added, listed and removed, all by their content; and who may do what by them."""

from node import limits
from node.controller.state.draft import Draft
from node.controller.state.features import check_level
from node.metadata.acls import Why
from node.metadata.apply import acl_record
from node.metadata.image import SECURITY_METADATA_VERSION
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol import acls
from ottla.protocol.acl_messages import acl_of, filter_of, message_of
from ottla.protocol.acls import Acl, Filter
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb


def describe_acls(draft: Draft, request: admin.DescribeAclsRequest) -> admin.DescribeAclsResponse:
    """Raises INVALID_REQUEST, MESSAGE_TOO_LARGE."""
    wanted = _filter_of(request.filter)
    found = sorted(filter(wanted.fits, draft.view.acl_entries))
    response = admin.DescribeAclsResponse(acls=map(message_of, found))
    if response.ByteSize() > limits.ACLS_ANSWER_MAX_BYTES:
        raise _too_large(f"{len(found)} ACLs have {response.ByteSize()} bytes")
    return response


def create_acls(draft: Draft, request: admin.CreateAclsRequest) -> admin.CreateAclsResponse:
    """Adds those that can be; none where they are too many. Raises UNSUPPORTED_VERSION."""
    check_level(draft, SECURITY_METADATA_VERSION, "ACLs are kept")
    response = admin.CreateAclsResponse()
    new: dict[Acl, None] = {}
    for message in request.acls:
        result = response.results.add()
        acl = acl_of(message)
        try:
            acls.check(acl)
        except ApiError as error:
            result.error.CopyFrom(error.to_proto())
            continue
        result.existed = acl in draft.view.acl_entries or acl in new
        if not result.existed:
            new[acl] = None
    there = len(draft.view.acl_entries)
    if there + len(new) > limits.ACLS_MAX:
        full = ApiError(
            pb.ERROR_CODE_POLICY_VIOLATION,
            f"there are {there} ACLs, {limits.ACLS_MAX} are allowed: {len(new)} more have no room",
            next_step="remove some, or use prefixed ones",
        )
        return admin.CreateAclsResponse(
            results=[
                result if result.existed or result.error.code else admin.CreateAclResult(error=full.to_proto())
                for result in response.results
            ]
        )
    if not request.validate_only:
        for acl in new:
            draft.add(records.MetadataRecord(acl=acl_record(acl)))
    return response


def delete_acls(draft: Draft, request: admin.DeleteAclsRequest) -> admin.DeleteAclsResponse:
    """Removes what fits; nothing where a filter can fit nothing, and an error for that filter."""
    response = admin.DeleteAclsResponse()
    gone: dict[Acl, None] = {}
    size_bytes = 0
    for message in request.filters:
        result = response.results.add()
        try:
            wanted = _filter_of(message)
            fits = sorted(acl for acl in filter(wanted.fits, draft.view.acl_entries) if acl not in gone)
            found = admin.DeleteAclsResult(acls=map(message_of, fits))
            if size_bytes + found.ByteSize() > limits.ACLS_ANSWER_MAX_BYTES:
                raise _too_large(f"{len(fits)} ACLs that fit have {found.ByteSize()} bytes")
        except ApiError as error:
            result.error.CopyFrom(error.to_proto())
            continue
        size_bytes += found.ByteSize()
        result.CopyFrom(found)
        gone.update(dict.fromkeys(fits))
    if not request.validate_only:
        for acl in gone:
            draft.add(records.MetadataRecord(remove_acl=records.RemoveAclRecord(acl=acl_record(acl))))
    return response


def test_acl(draft: Draft, request: admin.TestAclRequest) -> admin.TestAclResponse:
    """Raises INVALID_REQUEST for what nobody could ask to do."""
    asked = Acl(
        request.resource_type,
        acls.LITERAL,
        request.resource_name,
        request.principal,
        request.host or acls.EVERY,
        request.operation,
        acls.ALLOW,
    )
    acls.check(asked)
    if asked.operation == acls.ALL:
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, "one operation can be tested, not all of them")
    decision = draft.base.acls.decide(
        draft.settings.access, asked.principal, request.host, asked.operation, asked.resource, asked.name
    )
    response = admin.TestAclResponse(allowed=decision.allowed, reason=decision.why.value)
    if decision.acl is not None:
        response.acl.CopyFrom(message_of(decision.acl))
    if decision.why is Why.ACL:
        response.reason = str(decision.acl)
    return response


def _filter_of(message: admin.AclFilter) -> Filter:
    """Raises INVALID_REQUEST."""
    wanted = filter_of(message)
    acls.check_filter(wanted)
    return wanted


def _too_large(what: str) -> ApiError:
    return ApiError(
        pb.ERROR_CODE_MESSAGE_TOO_LARGE,
        f"{what}, {limits.ACLS_ANSWER_MAX_BYTES} have room in an answer",
        next_step="name a principal or a resource",
    )

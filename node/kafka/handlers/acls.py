"""DescribeAcls, CreateAcls and DeleteAcls, which any node passes on to the controller."""

from itertools import groupby
from typing import Final

from node import limits
from node.api.acls import AclsApi, Removed
from node.kafka.connection import Call
from node.kafka.messages.create_acls import AclCreationResult, CreateAclsRequest, CreateAclsResponse
from node.kafka.messages.delete_acls import (
    DeleteAclsFilterResult,
    DeleteAclsMatchingAcl,
    DeleteAclsRequest,
    DeleteAclsResponse,
)
from node.kafka.messages.describe_acls import (
    AclDescription,
    DescribeAclsRequest,
    DescribeAclsResource,
    DescribeAclsResponse,
)
from node.kafka.wire import Message
from ottla.protocol.acls import Acl, Filter
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

LOW, HIGH = 1, 3
TIMEOUT_MS: Final = 30_000
_UNKNOWN: Final = ApiError(pb.ERROR_CODE_INVALID_REQUEST, "0 stands for nothing: 1 is any")


class AclHandlers:
    def __init__(self, api: AclsApi) -> None:
        self._api = api

    async def describe(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DescribeAclsRequest)
        wanted = Filter(
            request.resource_type_filter,
            request.pattern_type_filter,
            request.resource_name_filter,
            request.principal_filter,
            request.host_filter,
            request.operation,
            request.permission_type,
        )
        try:
            _check(wanted)
            found = await self._api.describe(wanted)
        except ApiError as error:
            return DescribeAclsResponse(error_code=error.code, error_message=error.message)
        return DescribeAclsResponse(
            error_message=None,
            resources=[
                DescribeAclsResource(
                    kind, name, pattern, [AclDescription(a.principal, a.host, a.operation, a.permission) for a in acls]
                )
                for (kind, pattern, name), acls in groupby(sorted(found), key=lambda acl: acl[:3])
            ],
        )

    async def create(self, request: Message, call: Call) -> Message:
        assert isinstance(request, CreateAclsRequest)
        new = [
            Acl(
                each.resource_type,
                each.resource_pattern_type,
                each.resource_name,
                each.principal,
                each.host,
                each.operation,
                each.permission_type,
            )
            for each in request.creations
        ]
        errors: list[ApiError | None]
        try:
            _few("ACLs", len(new))
            errors = [*await self._api.create(new, TIMEOUT_MS)]
        except ApiError as error:
            errors = [error] * len(new)
        return CreateAclsResponse(results=[AclCreationResult(*_said(error)) for error in errors])

    async def delete(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DeleteAclsRequest)
        filters = [
            Filter(
                each.resource_type_filter,
                each.pattern_type_filter,
                each.resource_name_filter,
                each.principal_filter,
                each.host_filter,
                each.operation,
                each.permission_type,
            )
            for each in request.filters
        ]
        results: list[Removed]
        try:
            _few("filters", len(filters))
            for each in filters:
                _check(each)
            results = [*await self._api.delete(filters, TIMEOUT_MS)]
        except ApiError as error:
            results = [Removed(error, [])] * len(filters)
        return DeleteAclsResponse(
            filter_results=[
                DeleteAclsFilterResult(*_said(each.error), [_matching(acl) for acl in each.acls]) for each in results
            ]
        )


def _matching(acl: Acl) -> DeleteAclsMatchingAcl:
    return DeleteAclsMatchingAcl(
        error_message=None,
        resource_type=acl.resource,
        resource_name=acl.name,
        pattern_type=acl.pattern,
        principal=acl.principal,
        host=acl.host,
        operation=acl.operation,
        permission_type=acl.permission,
    )


def _check(wanted: Filter) -> None:
    """In the contract 0 is any, here it is what nobody knows. Raises INVALID_REQUEST."""
    if 0 in (wanted.resource, wanted.pattern, wanted.operation, wanted.permission):
        raise _UNKNOWN


def _few(what: str, count: int) -> None:
    if count > limits.ITEMS_MAX:
        raise limits.too_many(f"{what} of a request", count, limits.ITEMS_MAX)


def _said(error: ApiError | None) -> tuple[int, str | None]:
    return (0, None) if error is None else (error.code, error.message)

"""Access control lists: who may do what."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ottla.client import arguments
from ottla.client.connection import Client
from ottla.client.errors import ConfigError, OttlaError, from_server
from ottla.protocol import acl_messages, acls
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2
from ottla.v1.admin_pb2_grpc import AdminServiceStub

_CALL_MARGIN_S = 2.0
_NUMBERS: Final = {
    "resource_type": {name: number for number, name in acls.RESOURCES.items()},
    "pattern_type": {name: number for number, name in acls.PATTERNS.items()},
    "operation": {name: number for number, name in acls.OPERATIONS.items()},
    "permission": {name: number for number, name in acls.PERMISSIONS.items()},
}


@dataclass(frozen=True, slots=True)
class Acl:
    """A right, given or denied. `pattern_type` is `literal` (`*` is every name) or `prefixed`; `permission` is `allow`
    or `deny`, which wins. Resource types are `topic`, `group`, `cluster` (named `kafka-cluster`) and
    `transactional-id`; operations `all`, `read`, `write`, `create`, `delete`, `alter`, `describe`, `alter-configs`,
    `describe-configs`, `cluster-action` and `idempotent-write`."""

    principal: str
    operation: str
    resource_type: str
    resource_name: str
    pattern_type: str = "literal"
    permission: str = "allow"
    host: str = "*"


@dataclass(frozen=True, slots=True)
class AclTest:
    """Whether something is allowed, why in words, and the ACL that decided, if one did."""

    allowed: bool
    reason: str
    acl: Acl | None


class AclAdmin:
    """The part of `Admin` that is about ACLs."""

    _client: Client
    _timeout_ms: int

    async def list_acls(
        self,
        *,
        principal: str | None = None,
        operation: str | None = None,
        resource_type: str | None = None,
        resource_name: str | None = None,
        pattern_type: str | None = None,
        permission: str | None = None,
        host: str | None = None,
    ) -> list[Acl]:
        """The ACLs for which all that is given holds. With `pattern_type="match"` those that count for a resource of
        the name."""
        wanted = _filter(principal, operation, resource_type, resource_name, pattern_type, permission, host)
        request = admin_pb2.DescribeAclsRequest(filter=acl_messages.filter_message(wanted))
        timeout_s = self._timeout_ms / 1000
        answer = await self._client.on_any_node(
            lambda channel: AdminServiceStub(channel).DescribeAcls(request, timeout=timeout_s), self._timeout_ms
        )
        return [_shown(each) for each in answer.acls]

    async def create_acls(self, acls: Iterable[Acl], *, validate_only: bool = False) -> None:
        """Adds ACLs; those that are there already stay. Returns when every live broker goes by them. Raises
        OttlaError."""
        request = admin_pb2.CreateAclsRequest(
            acls=[acl_messages.message_of(_checked(each)) for each in _several(acls)],
            validate_only=arguments.flag("validate_only", validate_only),
            timeout_ms=self._timeout_ms,
        )
        timeout_s = self._timeout_ms / 1000 + _CALL_MARGIN_S
        answer = await self._client.on_any_node(
            lambda channel: AdminServiceStub(channel).CreateAcls(request, timeout=timeout_s),
            self._timeout_ms,
            repeatable=False,
        )
        _raise_first(answer.results)

    async def delete_acls(
        self,
        *,
        principal: str | None = None,
        operation: str | None = None,
        resource_type: str | None = None,
        resource_name: str | None = None,
        pattern_type: str | None = None,
        permission: str | None = None,
        host: str | None = None,
        validate_only: bool = False,
    ) -> list[Acl]:
        """Removes the ACLs for which all that is given holds, and says which: without anything, all. Returns when no
        live broker goes by them any more."""
        wanted = _filter(principal, operation, resource_type, resource_name, pattern_type, permission, host)
        request = admin_pb2.DeleteAclsRequest(
            filters=[acl_messages.filter_message(wanted)],
            validate_only=arguments.flag("validate_only", validate_only),
            timeout_ms=self._timeout_ms,
        )
        timeout_s = self._timeout_ms / 1000 + _CALL_MARGIN_S
        answer = await self._client.on_any_node(
            lambda channel: AdminServiceStub(channel).DeleteAcls(request, timeout=timeout_s),
            self._timeout_ms,
            repeatable=False,
        )
        _raise_first(answer.results)
        return [_shown(each) for result in answer.results for each in result.acls]

    async def test_acl(
        self, principal: str, operation: str, resource_type: str, resource_name: str, *, host: str = ""
    ) -> AclTest:
        """Whether `principal`, coming from that address, may do that, and which ACL says so."""
        asked = _checked(Acl(principal, operation, resource_type, resource_name, host=host or acls.EVERY))
        request = admin_pb2.TestAclRequest(
            principal=asked.principal,
            host=arguments.text("host", host),
            operation=admin_pb2.AclOperation.ValueType(asked.operation),
            resource_type=admin_pb2.AclResourceType.ValueType(asked.resource),
            resource_name=asked.name,
        )
        timeout_s = self._timeout_ms / 1000
        answer = await self._client.on_any_node(
            lambda channel: AdminServiceStub(channel).TestAcl(request, timeout=timeout_s), self._timeout_ms
        )
        return AclTest(answer.allowed, answer.reason, _shown(answer.acl) if answer.HasField("acl") else None)


def _several(given: object) -> list[Acl]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise ConfigError(f"acls {arguments.shown(given)} is no list of Acl but {type(given).__name__}")
    found = list(given)
    for each in found:
        if not isinstance(each, Acl):
            raise ConfigError(f"acls has {arguments.shown(each)}, which is no Acl but {type(each).__name__}")
    if not found:
        raise ConfigError("acls is empty. Next: give at least one")
    return found


def _checked(acl: Acl) -> acls.Acl:
    """Raises ConfigError."""
    made = acls.Acl(
        _number("resource_type", acl.resource_type),
        _number("pattern_type", acl.pattern_type),
        arguments.text("resource_name", acl.resource_name),
        arguments.text("principal", acl.principal),
        arguments.text("host", acl.host),
        _number("operation", acl.operation),
        _number("permission", acl.permission),
    )
    try:
        acls.check(made)
    except ApiError as error:
        raise ConfigError(f"{error.message}. Next: {error.next_step or 'correct it'}") from None
    return made


def _number(what: str, name: object, also: "dict[str, int] | None" = None) -> int:
    known = {**_NUMBERS[what], **(also or {})}
    number = known.get(arguments.text(what, name))
    if number is None:
        raise ConfigError(f"{what} {arguments.shown(name)} is none of {', '.join(known)}")
    return number


def _filter(
    principal: str | None,
    operation: str | None,
    resource_type: str | None,
    resource_name: str | None,
    pattern_type: str | None,
    permission: str | None,
    host: str | None,
) -> acls.Filter:
    def text(what: str, given: str | None) -> str | None:
        return None if given is None else arguments.text(what, given)

    def number(what: str, given: str | None) -> int:
        return acls.ANY if given is None else _number(what, given, {"match": acls.MATCH} if "pattern" in what else {})

    wanted = acls.Filter(
        number("resource_type", resource_type),
        number("pattern_type", pattern_type),
        text("resource_name", resource_name),
        text("principal", principal),
        text("host", host),
        number("operation", operation),
        number("permission", permission),
    )
    try:
        acls.check_filter(wanted)
    except ApiError as error:
        raise ConfigError(error.message) from None
    return wanted


def _shown(message: admin_pb2.Acl) -> Acl:
    def name(table: dict[int, str], number: int) -> str:
        return table.get(number, str(number))

    return Acl(
        message.principal,
        name(acls.OPERATIONS, message.operation),
        name(acls.RESOURCES, message.resource_type),
        message.resource_name,
        name(acls.PATTERNS, message.pattern_type),
        name(acls.PERMISSIONS, message.permission),
        message.host,
    )


def _raise_first(results: "Iterable[admin_pb2.CreateAclResult | admin_pb2.DeleteAclsResult]") -> None:
    found = list(results)
    if not found:
        raise OttlaError("the server's answer has no results. Next: check that client and server have one version")
    for result in found:
        if result.error.code:
            raise from_server(result.error)

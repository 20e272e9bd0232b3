"""Access control lists in Kafka's words: what one is, with Kafka's numbers, and what one may look like."""

import ipaddress
from functools import lru_cache
from typing import Final, NamedTuple

from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

TOPIC, GROUP, CLUSTER, TRANSACTIONAL_ID, DELEGATION_TOKEN, USER = 2, 3, 4, 5, 6, 7
LITERAL, PREFIXED = 3, 4
ANY, MATCH = 1, 2
"""Of filters alone: any value, and (of patterns) each that a resource of that name falls under."""
ALL: Final = 2
"""The operation that stands for all of them."""
READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE = 3, 4, 5, 6, 7, 8
CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE = 9, 10, 11, 12
DENY, ALLOW = 2, 3
RESOURCES: Final = {
    TOPIC: "topic",
    GROUP: "group",
    CLUSTER: "cluster",
    TRANSACTIONAL_ID: "transactional-id",
    DELEGATION_TOKEN: "delegation-token",
    USER: "user",
}
PATTERNS: Final = {LITERAL: "literal", PREFIXED: "prefixed"}
OPERATIONS: Final = {
    ALL: "all",
    READ: "read",
    WRITE: "write",
    CREATE: "create",
    DELETE: "delete",
    ALTER: "alter",
    DESCRIBE: "describe",
    CLUSTER_ACTION: "cluster-action",
    DESCRIBE_CONFIGS: "describe-configs",
    ALTER_CONFIGS: "alter-configs",
    IDEMPOTENT_WRITE: "idempotent-write",
    13: "create-tokens",
    14: "describe-tokens",
    15: "two-phase-commit",
}
PERMISSIONS: Final = {DENY: "deny", ALLOW: "allow"}
CLUSTER_NAME: Final = "kafka-cluster"
"""The one name of the one cluster."""
EVERY: Final = "*"
EVERYBODY: Final = "User:*"
NAME_MAX_BYTES: Final = 255
ADDRESSES_KNOWN: Final = 1000
PRINCIPAL_MAX_BYTES: Final = 300
FILTER_MAX_BYTES: Final = 1024
IMPLIED: Final = {
    DESCRIBE: frozenset({READ, WRITE, DELETE, ALTER, DESCRIBE, ALL}),
    DESCRIBE_CONFIGS: frozenset({ALTER_CONFIGS, DESCRIBE_CONFIGS, ALL}),
}
"""Which allowed operations allow these two as well; of others it is the operation itself, and all."""


class Acl(NamedTuple):
    """One right, given or denied: who, from where, may do or may not do what to which resource."""

    resource: int
    pattern: int
    name: str
    principal: str
    host: str
    operation: int
    permission: int

    def __str__(self) -> str:
        name = f"{RESOURCES.get(self.resource, self.resource)} {self.name!r}"
        return (
            f"{PERMISSIONS.get(self.permission, self.permission)} {self.principal} from {self.host} "
            f"{OPERATIONS.get(self.operation, self.operation)} on {name}"
            + (" and all that begins with it" if self.pattern == PREFIXED else "")
        )


class Filter(NamedTuple):
    """Which ACLs are meant; None and `ANY`: whatever is there."""

    resource: int = ANY
    pattern: int = ANY
    name: str | None = None
    principal: str | None = None
    host: str | None = None
    operation: int = ANY
    permission: int = ANY

    def fits(self, acl: Acl) -> bool:
        return (
            self.resource in (ANY, acl.resource)
            and self.operation in (ANY, acl.operation)
            and self.permission in (ANY, acl.permission)
            and self.principal in (None, acl.principal)
            and self.host in (None, acl.host)
            and self._fits_pattern(acl)
        )

    def _fits_pattern(self, acl: Acl) -> bool:
        if self.pattern not in (ANY, MATCH, acl.pattern):
            return False
        if self.name is None or self.name == acl.name:
            return True
        if self.pattern != MATCH:
            return False
        return self.name.startswith(acl.name) if acl.pattern == PREFIXED else acl.name == EVERY


def check(acl: Acl) -> None:
    """Raises INVALID_REQUEST for what can be no ACL."""
    _known("resource type", acl.resource, RESOURCES)
    _known("pattern type", acl.pattern, PATTERNS)
    _known("operation", acl.operation, OPERATIONS)
    _known("permission", acl.permission, PERMISSIONS)
    _check_text("resource name", acl.name, NAME_MAX_BYTES)
    _check_text("principal", acl.principal, PRINCIPAL_MAX_BYTES)
    kind, colon, who = acl.principal.partition(":")
    if not kind or not colon or not who:
        raise _refused(
            f"principal {acl.principal!r} is not TYPE:NAME", "write it as User:NAME, or User:* for everybody"
        )
    if acl.resource == CLUSTER and acl.name != CLUSTER_NAME:
        raise _refused(f"cluster {acl.name!r}: the one name of a cluster is {CLUSTER_NAME}")
    if acl.host != EVERY and (not acl.host or address_in(acl.host) != acl.host):
        raise _refused(
            f"host {acl.host[:60]!r} is neither {EVERY} nor an address"
            + (f" as it is written here: {address_in(acl.host)}" if address_in(acl.host) else "")
        )


def check_filter(wanted: Filter) -> None:
    """Raises INVALID_REQUEST for what can fit nothing."""
    _known("resource type", wanted.resource, {ANY: "", **RESOURCES})
    _known("pattern type", wanted.pattern, {ANY: "", MATCH: "", **PATTERNS})
    _known("operation", wanted.operation, {ANY: "", **OPERATIONS})
    _known("permission", wanted.permission, {ANY: "", **PERMISSIONS})
    for what, text in (("name", wanted.name), ("principal", wanted.principal), ("host", wanted.host)):
        if text is not None and len(text.encode("utf-8", "replace")) > FILTER_MAX_BYTES:
            raise _refused(f"a {what} to look for has more than {FILTER_MAX_BYTES} bytes")


@lru_cache(ADDRESSES_KNOWN)
def address_of(host: str) -> str:
    """A peer's address as ACLs have it: of IPv4 through an IPv6 socket, the IPv4 one."""
    return address_in(host) or host


def address_in(text: str) -> str:
    """An address in its shortest form; nothing for what is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _known(what: str, number: int, table: dict[int, str]) -> None:
    if number not in table:
        raise _refused(f"{what} {number} is none: {', '.join(f'{n} {name}'.rstrip() for n, name in table.items())}")


def _check_text(what: str, text: str, max_bytes: int) -> None:
    size = len(text.encode("utf-8", "replace"))
    if not 0 < size <= max_bytes or not text.isprintable():
        raise _refused(
            f"a {what} of {size} bytes, {text[:40]!a}: 1 to {max_bytes} bytes of printable characters are allowed"
        )


def _refused(why: str, next_step: str = "") -> ApiError:
    return ApiError(pb.ERROR_CODE_INVALID_REQUEST, why, next_step=next_step)

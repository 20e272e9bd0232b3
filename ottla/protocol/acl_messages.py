"""ACLs and filters as messages of the contract, and back."""

from ottla.protocol.acls import ANY, Acl, Filter
from ottla.v1 import admin_pb2 as admin


def message_of(acl: Acl) -> admin.Acl:
    return admin.Acl(
        resource_type=admin.AclResourceType.ValueType(acl.resource),
        pattern_type=admin.AclPatternType.ValueType(acl.pattern),
        resource_name=acl.name,
        principal=acl.principal,
        host=acl.host,
        operation=admin.AclOperation.ValueType(acl.operation),
        permission=admin.AclPermission.ValueType(acl.permission),
    )


def acl_of(message: admin.Acl) -> Acl:
    return Acl(
        message.resource_type,
        message.pattern_type,
        message.resource_name,
        message.principal,
        message.host,
        message.operation,
        message.permission,
    )


def filter_message(wanted: Filter) -> admin.AclFilter:
    return admin.AclFilter(
        resource_type=admin.AclResourceType.ValueType(wanted.resource),
        pattern_type=admin.AclPatternType.ValueType(wanted.pattern),
        resource_name=wanted.name,
        principal=wanted.principal,
        host=wanted.host,
        operation=admin.AclOperation.ValueType(wanted.operation),
        permission=admin.AclPermission.ValueType(wanted.permission),
    )


def filter_of(message: admin.AclFilter) -> Filter:
    return Filter(
        message.resource_type or ANY,
        message.pattern_type or ANY,
        message.resource_name if message.HasField("resource_name") else None,
        message.principal if message.HasField("principal") else None,
        message.host if message.HasField("host") else None,
        message.operation or ANY,
        message.permission or ANY,
    )

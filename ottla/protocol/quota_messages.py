"""Entities and filters of quotas as messages of the contract, and back."""

from collections.abc import Iterable

from ottla.protocol.quotas import Component, Entity, Part
from ottla.v1 import admin_pb2 as admin


def parts_of(messages: Iterable[admin.QuotaEntityPart]) -> list[Part]:
    return [(each.type, each.name if each.HasField("name") else None) for each in messages]


def entity_messages(entity: Entity) -> list[admin.QuotaEntityPart]:
    return [admin.QuotaEntityPart(type=kind, name=name) for kind, name in entity]


def component_of(message: admin.QuotaFilter) -> Component:
    match = message.WhichOneof("match")
    if match == "is_default" and not message.is_default:
        match = None
    return Component(message.type, match is None, message.name if match == "name" else None)


def component_message(component: Component) -> admin.QuotaFilter:
    if component.any:
        return admin.QuotaFilter(type=component.type)
    if component.name is None:
        return admin.QuotaFilter(type=component.type, is_default=True)
    return admin.QuotaFilter(type=component.type, name=component.name)

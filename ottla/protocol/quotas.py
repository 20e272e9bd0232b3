"""Quotas in Kafka's words: whom one is for, what it limits, and what one may look like (KIP-13, 124, 546, 599, 612)."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ottla.protocol import acls
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

USER, CLIENT_ID, IP = "user", "client-id", "ip"
PRODUCE: Final = "producer_byte_rate"
FETCH: Final = "consumer_byte_rate"
REQUEST: Final = "request_percentage"
MUTATION: Final = "controller_mutation_rate"
CONNECTION: Final = "connection_creation_rate"
NAME_MAX: Final = 255
VALUE_MAX: Final = 1e15
Part = tuple[str, str | None]
"""A type and a name; without a name it is the default: all that have no quota of their own."""
Entity = tuple[Part, ...]
"""Sorted by type."""


class Key(NamedTuple):
    """What a quota limits. `whole`: fractions make no sense."""

    unit: str
    whole: bool
    of_address: bool = False


KEYS: Final = {
    PRODUCE: Key("bytes/s", whole=True),
    FETCH: Key("bytes/s", whole=True),
    REQUEST: Key("%", whole=False),
    MUTATION: Key("partitions/s", whole=False),
    CONNECTION: Key("connections/s", whole=True, of_address=True),
}
TYPES: Final = (USER, CLIENT_ID, IP)


class Component(NamedTuple):
    """Entities with a part of this type: whatever part, or the one of that name (None: the default)."""

    type: str
    any: bool
    name: str | None = None


def entity_of(parts: Iterable[Part]) -> Entity:
    """Raises INVALID_REQUEST for what nothing can be for."""
    found = list(parts)
    types = [kind for kind, _ in found]
    for kind, name in found:
        _check_type(kind)
        if name is not None:
            _check_name(kind, name)
    if len(set(types)) < len(types):
        raise _refused(f"an entity has one part of each type, not {', '.join(types[:10])}")
    if not found:
        raise _refused("the entity is empty", "name a user, a client id or an address")
    if IP in types and len(types) > 1:
        raise _refused("an address is an entity by itself", "leave user and client id out")
    return tuple(sorted(found, key=lambda part: part[0]))


def check_value(entity: Entity, key: str, value: float) -> None:
    """Raises INVALID_REQUEST for what can be no quota of this entity."""
    check_key(entity, key)
    known = KEYS[key]
    if not 0 < value <= VALUE_MAX or (known.whole and not value.is_integer()):
        what = "a whole number" if known.whole else "a number"
        raise _refused(f"{key} {value:.12g} is not {what} above 0, {VALUE_MAX:.0e} {known.unit} at most")


def check_key(entity: Entity, key: str) -> None:
    """Raises INVALID_REQUEST."""
    of_address = entity[0][0] == IP
    allowed = [name for name, known in KEYS.items() if known.of_address == of_address]
    if key not in allowed:
        raise _refused(
            f"{key[:60]!r} is no quota of {'an address' if of_address else 'a client'}: {', '.join(allowed)}"
        )


def check_components(components: Sequence[Component]) -> None:
    """Raises INVALID_REQUEST."""
    for each in components:
        _check_type(each.type)
    if len({each.type for each in components}) < len(components):
        raise _refused("a filter names a type twice", "name each type once")


def fits(entity: Entity, components: Sequence[Component], *, strict: bool) -> bool:
    """Whether an entity is meant. `strict`: it has parts of these types alone."""
    if strict and len(entity) != len(components):
        return False
    parts = dict(entity)
    return all(each.type in parts and (each.any or parts[each.type] == each.name) for each in components)


def shown(entity: Entity) -> str:
    return ", ".join(f"{kind} {'(default)' if name is None else name}" for kind, name in reversed(entity))


def order(entity: Entity) -> list[tuple[str, bool, str]]:
    """A key to sort by: a default comes before names."""
    return [(kind, name is not None, name or "") for kind, name in entity]


def _check_name(kind: str, name: str) -> None:
    if not 0 < len(name) <= NAME_MAX or not name.isprintable():
        raise _refused(
            f"a {kind} of {len(name)} characters, {name[:40]!a}: 1 to {NAME_MAX} printable characters are allowed"
        )
    if kind == IP and (address := acls.address_in(name)) != name:
        written = f", as it is written here: {address}" if address else ""
        raise _refused(f"ip {name[:60]!r} is no address{written}")


def _check_type(kind: str) -> None:
    if kind not in TYPES:
        raise _refused(f"entity type {kind[:40]!r} is none of {', '.join(TYPES)}")


def _refused(why: str, next_step: str = "") -> ApiError:
    return ApiError(pb.ERROR_CODE_INVALID_REQUEST, why, next_step=next_step)

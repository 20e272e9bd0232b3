"""Which quota counts for a client: the quotas of an image, in Kafka's order of precedence.

The first entity in the order that has the quota is the one that counts, key by key. It also says who shares it: all
clients of a user, all users of a client id, or one client id of one user; who falls under a default has one of its own.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ottla.protocol.quotas import CLIENT_ID, IP, USER, Entity


class Limit(NamedTuple):
    """So much a second, for whoever is this."""

    rate: float
    user: str | None = None
    client_id: str | None = None
    address: str | None = None


class Quotas:
    """All quotas at one index of the metadata log."""

    __slots__ = ("entries", "keys")

    EMPTY: "Quotas"

    def __init__(self, entries: Mapping[Entity, Mapping[str, float]]) -> None:
        self.entries = entries
        self.keys = frozenset(key for values in entries.values() for key in values)
        """What is limited for anybody."""

    def __len__(self) -> int:
        return len(self.entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quotas) and self.entries == other.entries

    __hash__ = None  # type: ignore[assignment]  # equal by value

    def limit(self, key: str, user: str, client_id: str) -> Limit | None:
        """What counts for a client id of a user; None: it may have all that there is."""
        if key not in self.keys:
            return None
        for entity, of_user, of_client in _entities(user, client_id):
            rate = self.entries.get(entity, {}).get(key)
            if rate is not None:
                return Limit(rate, user if of_user else None, client_id if of_client else None)
        return None

    def limit_of_address(self, key: str, address: str) -> Limit | None:
        if key not in self.keys:
            return None
        for name in (address, None):
            rate = self.entries.get(((IP, name),), {}).get(key)
            if rate is not None:
                return Limit(rate, address=address)
        return None


def _entities(user: str, client_id: str) -> Iterator[tuple[Entity, bool, bool]]:
    """Entities in their order, and whether a user's quota, and a client id's, is each's own."""
    for name in (user, None):
        yield ((CLIENT_ID, client_id), (USER, name)), True, True
        yield ((CLIENT_ID, None), (USER, name)), True, True
        yield ((USER, name),), True, False
    yield ((CLIENT_ID, client_id),), False, True
    yield ((CLIENT_ID, None),), False, True


Quotas.EMPTY = Quotas(MappingProxyType({}))

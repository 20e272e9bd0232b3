"""Who may do what: the ACLs of an image, and what follows from them.

Kafka's rules. What denies wins over what allows, and what is not allowed is denied. To read, write, delete or alter
something allows to describe it, to alter its configs allows to describe those; nothing denies more than it says.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from ottla.protocol.acls import (
    ALL,
    DENY,
    EVERY,
    EVERYBODY,
    IMPLIED,
    LITERAL,
    PREFIXED,
    Acl,
)

Pattern = tuple[int, int, str]
"""Resource type, pattern type, name."""


class Rules(NamedTuple):
    """A node's settings. Off: everybody may do everything. `open_without_acl`: what no ACL is about is everybody's.
    `audits`: nobody is refused, it is only said who would be."""

    on: bool = False
    super_users: frozenset[str] = frozenset()
    open_without_acl: bool = False
    audits: bool = False


class Why(Enum):
    """What a decision rests on."""

    OFF = "there is no access control"
    SUPER_USER = "a super user"
    ACL = "this ACL"
    NO_ACL = "no ACL is about it"
    NOT_ALLOWED = "no ACL allows it"


class Decision(NamedTuple):
    """`acl`: the one that decided, if one did."""

    allowed: bool
    why: Why
    acl: Acl | None = None


class Acls:
    """All ACLs at one index of the metadata log. `changed` makes the next ones, and shares what stays."""

    __slots__ = ("_all", "_by_principal", "_hosts", "_lengths", "_resources", "have_hosts")

    EMPTY: "Acls"

    def __init__(
        self,
        entries: Mapping[Acl, None],
        by_principal: Mapping[str, Mapping[Pattern, tuple[Acl, ...]]],
        resources: Mapping[Pattern, int],
        lengths: tuple[int, ...],
        hosts: int,
    ) -> None:
        self.have_hosts = hosts > 0
        """Whether it matters where somebody is."""
        self._hosts = hosts
        self._all = entries
        self._by_principal = by_principal
        self._resources = resources
        self._lengths = lengths

    @property
    def entries(self) -> Mapping[Acl, None]:
        return self._all

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Acl]:
        return iter(self._all)

    def __contains__(self, acl: object) -> bool:
        return acl in self._all

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Acls) and self._all.keys() == other._all.keys()

    __hash__ = None  # type: ignore[assignment]  # equal by value

    def changed(self, entries: Mapping[Acl, None], touched: Iterable[Acl]) -> "Acls":
        """These `entries`, which differ from what is here in `touched` alone."""
        by_principal = dict(self._by_principal)
        resources = dict(self._resources)
        own: dict[str, dict[Pattern, tuple[Acl, ...]]] = {}
        patterns, hosts = False, self._hosts
        for acl in touched:
            added = acl in entries
            if added == (acl in self._all):
                continue
            key = acl[:3]
            if acl.principal not in own:
                own[acl.principal] = dict(by_principal.get(acl.principal, {}))
            of_principal = own[acl.principal]
            there = tuple(each for each in of_principal.get(key, ()) if each != acl) + ((acl,) if added else ())
            if there:
                of_principal[key] = there
            else:
                of_principal.pop(key, None)
            resources[key] = resources.get(key, 0) + (1 if added else -1)
            if not resources[key]:
                del resources[key]
            patterns = patterns or acl.pattern == PREFIXED
            if acl.host != EVERY:
                hosts += 1 if added else -1
        for principal, of_principal in own.items():
            if of_principal:
                by_principal[principal] = of_principal
            else:
                by_principal.pop(principal, None)
        lengths = self._lengths
        if patterns:
            lengths = tuple(sorted({len(name) for _, pattern, name in resources if pattern == PREFIXED}))
        return Acls(MappingProxyType(dict(entries)), by_principal, resources, lengths, hosts)

    def decide(self, rules: Rules, principal: str, host: str, operation: int, resource: int, name: str) -> Decision:
        """Whether `principal`, at the address `host`, may do that."""
        if not rules.on:
            return Decision(True, Why.OFF)
        if principal in rules.super_users:
            return Decision(True, Why.SUPER_USER)
        wide = IMPLIED.get(operation) or (operation, ALL)
        found: Acl | None = None
        any_acl = False
        for key in self._patterns_of(resource, name):
            if key not in self._resources:
                continue
            any_acl = True
            for acl in self._of(principal, key):
                if acl.host not in (EVERY, host):
                    continue
                if acl.permission == DENY:
                    if acl.operation in (operation, ALL):
                        return Decision(False, Why.ACL, acl)
                elif found is None and acl.operation in wide:
                    found = acl
        if found is not None:
            return Decision(True, Why.ACL, found)
        if not any_acl:
            return Decision(rules.open_without_acl, Why.NO_ACL)
        return Decision(False, Why.NOT_ALLOWED)

    def decide_any(self, rules: Rules, principal: str, host: str, operation: int, resource: int) -> bool:
        """Whether `principal` may do that to some resource of the type (Kafka's authorizeByResourceType)."""
        if not rules.on or principal in rules.super_users:
            return True
        allowed: list[Pattern] = []
        denied: set[Pattern] = set()
        for who in (principal, EVERYBODY):
            for key, acls in self._by_principal.get(who, {}).items():
                if key[0] != resource:
                    continue
                for acl in acls:
                    if acl.host in (EVERY, host) and acl.operation in (operation, ALL):
                        if acl.permission == DENY:
                            denied.add(key)
                        else:
                            allowed.append(key)
        if (resource, LITERAL, EVERY) in denied:
            return False
        if rules.open_without_acl:
            return True
        return any(not self._is_covered(key, denied) for key in allowed)

    def _is_covered(self, key: Pattern, denied: set[Pattern]) -> bool:
        """Whether all of a pattern is denied."""
        if not denied:
            return False
        resource, pattern, name = key
        if key in denied:
            return True
        if pattern == LITERAL and name == EVERY:
            return False
        return any((resource, PREFIXED, name[:length]) in denied for length in self._lengths if length <= len(name))

    def _of(self, principal: str, key: Pattern) -> Iterator[Acl]:
        for who in (principal, EVERYBODY):
            of_principal = self._by_principal.get(who)
            if of_principal is not None:
                yield from of_principal.get(key, ())

    def _patterns_of(self, resource: int, name: str) -> Iterator[Pattern]:
        """All that a name falls under."""
        yield resource, LITERAL, name
        if name != EVERY:
            yield resource, LITERAL, EVERY
        for length in self._lengths:
            if length > len(name):
                return
            yield resource, PREFIXED, name[:length]


Acls.EMPTY = Acls(MappingProxyType({}), {}, {}, (), 0)

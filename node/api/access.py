"""Whether who asks may do what it asks for: the ACLs of the node's image, for the principal of the request.

Both doors and the controller ask the same way. What was decided is remembered as long as the ACLs stay what they are,
so a change of them counts for the next question, of open streams too.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Final

from node import audit, principal
from node.metadata.acls import Acls, Rules
from ottla.protocol import acls
from ottla.protocol.acls import TOPIC
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

MEMO_MAX: Final = 50_000
CODES: Final = {
    acls.TOPIC: pb.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED,
    acls.GROUP: pb.ERROR_CODE_GROUP_AUTHORIZATION_FAILED,
    acls.CLUSTER: pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED,
}
_Known = dict[tuple[int, int, str], bool]
"""What was decided, by operation, resource type and name."""


class Access:
    """Used on one loop. `current` gives the ACLs of the image. Nodes of the cluster may do everything. Where the rules
    only audit everybody may do everything, and what would be refused is written down, once for the same ACLs."""

    def __init__(self, current: Callable[[], Acls], rules: Rules, refusals: audit.Refusals | None = None) -> None:
        self.on = rules.on and not rules.audits
        """Whether anybody may be refused anything."""
        self.asks = rules.on
        """Whether it matters who asks for what."""
        self._rules = rules
        self._current = current
        self._seen = Acls.EMPTY
        self._memo: dict[tuple[principal.Principal, str], _Known] = {}
        self._memo_size = 0
        self._who = principal.ANONYMOUS
        self._host = ""
        self._known: _Known = {}
        """Of the one who asked last, as long as the ACLs are those that were seen."""
        self._refusals = refusals or audit.Refusals()
        self._told: set[tuple[str, int, int, str]] = set()
        """What would be refused, as far as that is written down."""
        self._watching: dict[Callable[[], None], None] = {}

    def may(self, operation: int, resource: int, name: str) -> bool:
        return not self.on or self.would(operation, resource, name)

    def lets(self, operation: int, resource: int, name: str) -> bool:
        """As `may`, for what is refused otherwise, and not only left out: that is written down where it would be."""
        if not self.asks or self.would(operation, resource, name):
            return True
        if not self.on:
            self._would_refuse(operation, resource, name)
        return not self.on

    def would(self, operation: int, resource: int, name: str) -> bool:
        """Whether ACLs allow it, where anybody asks them."""
        if not self.asks:
            return True
        who, now = principal.current(), self._current()
        if who is not self._who or now is not self._seen or now.have_hosts:
            self._turn_to(who, now)
        known = self._known.get((operation, resource, name))
        return self._decide(operation, resource, name) if known is None else known

    def _turn_to(self, who: principal.Principal, now: Acls) -> None:
        if now is not self._seen or self._memo_size > MEMO_MAX:
            self._seen, self._memo, self._memo_size = now, {}, 0
            self._told.clear()
        self._who, self._host = who, principal.host() if now.have_hosts else ""
        self._known = self._memo.setdefault((who, self._host), {})

    def _decide(self, operation: int, resource: int, name: str) -> bool:
        allowed = self._who.kind == principal.NODE
        if not allowed:
            who = str(self._who)
            allowed = self._seen.decide(self._rules, who, self._host, operation, resource, name).allowed
        if self._memo_size > MEMO_MAX:
            self._memo, self._known, self._memo_size = {}, {}, 0
        self._known[operation, resource, name] = allowed
        self._memo_size += 1
        return allowed

    def check(self, operation: int, resource: int, name: str) -> None:
        """Raises TOPIC_, GROUP_ or CLUSTER_AUTHORIZATION_FAILED, and writes it down."""
        if self.asks and not self.lets(operation, resource, name):
            raise self.denied(operation, resource, name)

    def check_topic_of(self, topic_id: bytes, operation: int, name: str) -> None:
        """As `check`, for who named the topic by its id alone, and hears its name only if it may describe it."""
        if self.asks and not self.lets(operation, TOPIC, name):
            raise self.denied(operation, TOPIC, name, f"with the id {topic_id[:16].hex()}")

    def check_cluster(self, operation: int) -> None:
        self.check(operation, acls.CLUSTER, acls.CLUSTER_NAME)

    def check_any(self, operation: int, resource: int, or_cluster: int) -> None:
        """Raises unless it may do that to some resource of the type, or the other thing to the cluster."""
        if not self.asks or self.would(or_cluster, acls.CLUSTER, acls.CLUSTER_NAME):
            return
        host = principal.host()
        if not self._current().decide_any(self._rules, str(principal.current()), host, operation, resource):
            self.check_cluster(or_cluster)

    def _would_refuse(self, operation: int, resource: int, name: str) -> None:
        this = (str(principal.current()), operation, resource, name)
        if this not in self._told and self._tell("access_would_be_denied", operation, resource, name):
            if len(self._told) >= MEMO_MAX:
                self._told.clear()
            self._told.add(this)

    def _tell(self, event: str, operation: int, resource: int, name: str) -> bool:
        return self._refusals.tell(
            event,
            str(principal.current()),
            host=principal.host(),
            client_id=principal.client_id(),
            operation=acls.OPERATIONS[operation],
            resource=acls.RESOURCES[resource],
            name=name[:300],
        )

    def denied(self, operation: int, resource: int, name: str, asked: str = "") -> ApiError:
        """The refusal, which is written down. `asked`: what was asked for, if not by name."""
        who, what, kind = str(principal.current()), acls.OPERATIONS[operation], acls.RESOURCES[resource]
        self._tell("access_denied", operation, resource, name)
        shown = asked if asked and not self.may(acls.DESCRIBE, resource, name) else repr(name[:300])
        return ApiError(
            CODES[resource],
            f"{who} may not {what} {kind} {shown}",
            next_step="ask who administrates the cluster; `ottla acl test` says which ACL decides",
        )

    def operations(self, resource: int, name: str, all_bits: int) -> int:
        """Of the operations whose bits these are (Kafka's numbers), those that it may do."""
        if not self.on:
            return all_bits
        return sum(1 << n for n in range(all_bits.bit_length()) if all_bits >> n & 1 and self.may(n, resource, name))

    def changed(self) -> None:
        """There are other ACLs: who watches looks again."""
        for look in list(self._watching):
            look()

    def watch(
        self, rights: Sequence[tuple[int, int, str]], revoked: Callable[[ApiError], None]
    ) -> Callable[[], object]:
        """Calls `revoked` when a right that whoever asks now has is gone. Returns how to stop that."""
        if not self.on:
            return lambda: None
        asking = copy_context()

        def look() -> None:
            for right in rights:
                if not asking.run(self.may, *right):
                    revoked(asking.run(self.denied, *right))
                    return

        self._watching[look] = None
        look()  # it may have gone before this
        return lambda: self._watching.pop(look, None)

    @property
    def acls(self) -> Acls:
        """Those of the moment."""
        return self._current()

    async def or_changed(self, waiting: "asyncio.Future[None]", since: Acls) -> None:
        """Waits for what wakes a waiter, or for other ACLs than those it was let in by."""
        if not self.on:
            await waiting
            return

        def wake() -> None:
            if not waiting.done():
                waiting.set_result(None)

        self._watching[wake] = None
        try:
            if self._current() is not since:
                wake()
            await waiting
        finally:
            del self._watching[wake]


OFF: Final = Access(lambda: Acls.EMPTY, Rules())
"""Where everybody may do everything."""

"""Whether who asks may do what it asks for: the ACLs of the node's image, for the principal of the request.

Both doors and the controller ask the same way. What was decided is remembered as long as the ACLs stay what they are,
so a change of them counts for the next question, of open streams too.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Final

import structlog

from node import principal
from node.metadata.acls import Acls, Rules
from ottla.protocol import acls
from ottla.protocol.acls import TOPIC
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

MEMO_MAX: Final = 50_000
LINES_A_SECOND: Final = 10
PRINCIPALS_MAX: Final = 1_000
CODES: Final = {
    acls.TOPIC: pb.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED,
    acls.GROUP: pb.ERROR_CODE_GROUP_AUTHORIZATION_FAILED,
    acls.CLUSTER: pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED,
}
_Known = dict[tuple[int, int, str], bool]
"""What was decided, by operation, resource type and name."""

log = structlog.get_logger("audit")


class Denials:
    """Log lines about denials, a few of each principal in each second; then how many there were besides."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._of: dict[str, tuple[int, int]] = {}

    def tell(self, who: str, host: str, operation: str, resource: str, name: str) -> None:
        second = int(self._clock_s())
        since, count = self._of.get(who, (second, 0))
        if since != second:
            since, left_out, count = second, max(0, count - LINES_A_SECOND), 0
        else:
            left_out = 0
        if len(self._of) >= PRINCIPALS_MAX and who not in self._of:
            self._of.clear()
        self._of[who] = (since, count + 1)
        if count < LINES_A_SECOND:
            more = {"denials_left_out_before": left_out} if left_out else {}
            log.warning(
                "access_denied", principal=who, host=host, operation=operation, resource=resource, name=name, **more
            )


class Access:
    """Used on one loop. `current` gives the ACLs of the image. Nodes of the cluster may do everything."""

    def __init__(self, current: Callable[[], Acls], rules: Rules, denials: Denials | None = None) -> None:
        self.on = rules.on
        self._rules = rules
        self._current = current
        self._seen = Acls.EMPTY
        self._memo: dict[tuple[principal.Principal, str], _Known] = {}
        self._memo_size = 0
        self._who = principal.ANONYMOUS
        self._host = ""
        self._known: _Known = {}
        """Of the one who asked last, as long as the ACLs are those that were seen."""
        self._denials = denials or Denials()
        self._watching: dict[Callable[[], None], None] = {}

    def may(self, operation: int, resource: int, name: str) -> bool:
        if not self.on:
            return True
        who, now = principal.current(), self._current()
        if who is not self._who or now is not self._seen or now.have_hosts:
            self._turn_to(who, now)
        known = self._known.get((operation, resource, name))
        return self._decide(operation, resource, name) if known is None else known

    def _turn_to(self, who: principal.Principal, now: Acls) -> None:
        if now is not self._seen or self._memo_size > MEMO_MAX:
            self._seen, self._memo, self._memo_size = now, {}, 0
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
        if self.on and not self.may(operation, resource, name):
            raise self.denied(operation, resource, name)

    def check_topic_of(self, topic_id: bytes, operation: int, name: str) -> None:
        """As `check`, for who named the topic by its id alone, and hears its name only if it may describe it."""
        if self.on and not self.may(operation, TOPIC, name):
            raise self.denied(operation, TOPIC, name, f"with the id {topic_id[:16].hex()}")

    def check_cluster(self, operation: int) -> None:
        self.check(operation, acls.CLUSTER, acls.CLUSTER_NAME)

    def check_any(self, operation: int, resource: int, or_cluster: int) -> None:
        """Raises unless it may do that to some resource of the type, or the other thing to the cluster."""
        if not self.on or self.may(or_cluster, acls.CLUSTER, acls.CLUSTER_NAME):
            return
        host = principal.host()
        if not self._current().decide_any(self._rules, str(principal.current()), host, operation, resource):
            raise self.denied(or_cluster, acls.CLUSTER, acls.CLUSTER_NAME)

    def denied(self, operation: int, resource: int, name: str, asked: str = "") -> ApiError:
        """The refusal, which is written down. `asked`: what was asked for, if not by name."""
        who, what, kind = str(principal.current()), acls.OPERATIONS[operation], acls.RESOURCES[resource]
        self._denials.tell(who, principal.host(), what, kind, name[:300])
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

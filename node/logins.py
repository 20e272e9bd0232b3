"""Logins at all doors of a node, by the users of its image: checks of passwords, which are known for the next time, and
what a failed login costs. A wrong user and a wrong password are one answer, which comes late, and later the more of
them one address has under way."""

import asyncio
import hmac
import ipaddress
import secrets
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple

from node.metadata.image import Image
from ottla.protocol import scram
from ottla.protocol.scram import Credential, Mechanism

FAILED_S: Final = 0.3
"""What a failed login waits for its answer, for each of the same address that waits, too."""
FAILED_MAX_S: Final = 10.0
CHECKS_MAX: Final = 200
"""Different passwords that wait for their check; each takes some ten milliseconds."""
KNOWN_MAX: Final = 1000
"""Passwords that were right, which need no second check."""
WRONG: Final = "authentication failed: wrong user or password"


class Busy(Exception):
    """Too many passwords wait for their check."""


class _Check(NamedTuple):
    """One that waits, and whoever waits for it."""

    work: Callable[[], bool]
    done: "asyncio.Future[bool]"


class Passwords:
    """Checks of PLAIN passwords, one at a time, off the loop; who asks for the same one shares its check. Addresses
    take turns, and where there are too many checks one of whoever has most goes: a crowd delays itself. What was
    right is known for the next time - not as it is, but by a keyed hash whose key is this process's."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "passwords")
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[str, tuple[Credential, bytes]] = OrderedDict()
        self._checks: dict[tuple[str, Credential, bytes], asyncio.Future[bool]] = {}
        self._waiting: dict[str, deque[_Check]] = {}
        """By address, in the order of their turns."""
        self._at_work = False

    async def is_right(self, user: str, mechanism: Mechanism, kept: Credential, password: str, address: str) -> bool:
        """Raises Busy."""
        digest = hmac.digest(self._key, password.encode(), "sha256")
        if self._is_known(user, kept, digest):
            return True
        check = self._checks.get((user, kept, digest))
        if check is None:
            work = partial(scram.is_password, mechanism, kept, password)
            check = self._check((user, kept, digest), work, address)
        # Whoever began it may go away: the others go on waiting.
        right = await asyncio.shield(check)
        if right:
            self._known[user] = (kept, digest)
            self._known.move_to_end(user)
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        return right

    def was_right(self, user: str, kept: Credential, password: str) -> bool:
        """Whether it is known already, without looking."""
        return self._is_known(user, kept, hmac.digest(self._key, password.encode(), "sha256"))

    def _is_known(self, user: str, kept: Credential, digest: bytes) -> bool:
        known = self._known.get(user)
        if known is None or known[0] is not kept or not hmac.compare_digest(known[1], digest):
            return False
        self._known.move_to_end(user)
        return True

    def _check(
        self, key: tuple[str, Credential, bytes], work: Callable[[], bool], address: str
    ) -> "asyncio.Future[bool]":
        if len(self._checks) >= CHECKS_MAX:
            self._make_room_for(address)
        check = self._checks[key] = asyncio.get_running_loop().create_future()
        check.add_done_callback(lambda _: self._checks.pop(key))
        self._waiting.setdefault(address, deque()).append(_Check(work, check))
        self._go_on()
        return check

    def _make_room_for(self, address: str) -> None:
        """Raises Busy where nobody has more checks waiting than this address."""
        crowd = max(self._waiting.values(), key=len, default=())
        if len(crowd) <= len(self._waiting.get(address, ())) + 1 or not isinstance(crowd, deque):
            raise Busy
        last = crowd.pop()
        last.done.set_exception(Busy())
        last.done.exception()  # nobody may be there to take it

    def _go_on(self) -> None:
        if self._at_work or not self._waiting:
            return
        self._at_work = True
        address = next(iter(self._waiting))
        queue = self._waiting.pop(address)
        check = queue.popleft()
        if queue:
            self._waiting[address] = queue
        asyncio.get_running_loop().run_in_executor(self._thread, check.work).add_done_callback(
            partial(self._finished, check.done)
        )

    def _finished(self, check: "asyncio.Future[bool]", work: "asyncio.Future[bool]") -> None:
        self._at_work = False
        if not check.done():
            if work.cancelled():
                check.cancel()
            elif (error := work.exception()) is not None:
                check.set_exception(error)
            else:
                check.set_result(work.result())
        if not work.cancelled():
            self._go_on()

    def stop(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class Gate:
    """What all logins of a node share. `image` is that of the node."""

    def __init__(self, image: Callable[[], Image]) -> None:
        self._image = image
        self._own_secret = secrets.token_bytes(32)
        self._failing: Counter[str] = Counter()
        self.passwords = Passwords()

    def credential(self, user: str, mechanism: Mechanism) -> Credential:
        """The one that is kept, or one that no password fits."""
        found = self.kept(user, mechanism)
        return scram.nobodys(mechanism, user, self._image().secret or self._own_secret) if found is None else found

    def kept(self, user: str, mechanism: Mechanism) -> Credential | None:
        return self._image().users.get(user, {}).get(mechanism.number)

    def mechanism_for_plain(self, user: str) -> Mechanism:
        there = self._image().users.get(user, {})
        return scram.SHA_256 if there and scram.SHA_512.number not in there else scram.SHA_512

    def is_there(self, user: str) -> bool:
        return user in self._image().users

    async def wait_for_failure(self, address: str) -> None:
        """The more logins of an address fail at once, the longer each takes: guesses take turns."""
        self._failing[address] += 1
        try:
            await asyncio.sleep(min(FAILED_MAX_S, FAILED_S * self._failing[address]))
        finally:
            self._failing[address] -= 1
            if not self._failing[address]:
                del self._failing[address]

    def stop(self) -> None:
        self.passwords.stop()


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback

"""Who is at the other end of a connection: SASL with SCRAM-SHA-256, SCRAM-SHA-512 and PLAIN, from the cluster's users.

Until a connection has logged in it may ask for ApiVersions, SaslHandshake and SaslAuthenticate. A wrong user and a
wrong password are one answer, which comes late, and later the more of them one address has under way. PLAIN, which
shows the password, is for TLS and loopback; its check takes milliseconds and is done in a thread of its own. A login
goes by one credential: when that is changed or removed, the connection ends.
"""

import asyncio
import hmac
import ipaddress
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from node.api import principal
from node.api.principal import Principal
from node.kafka.codec import API_VERSIONS, SASL_AUTHENTICATE
from node.kafka.connection import Call, Connection
from node.kafka.handlers.cluster_facts import run
from node.kafka.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse
from node.kafka.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse
from node.kafka.wire import Message
from node.metadata.image import Image
from ottla.protocol import scram
from ottla.protocol.scram import Credential, Mechanism, ScramError, ServerExchange
from ottla.v1 import error_pb2 as pb

SASL_HANDSHAKE: Final = 17
HANDSHAKE_HIGH, AUTHENTICATE_HIGH = 1, 2
BEFORE_LOGIN: Final = frozenset({API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE})
PLAIN: Final = "PLAIN"
PLAIN_MAX_BYTES: Final = 4096
FAILED_S: Final = 0.3
"""What a failed login waits for its answer, for each of the same address that waits, too."""
FAILED_MAX_S: Final = 10.0
GOODBYE_S: Final = 0.5
CHECKS_MAX: Final = 200
"""Different passwords that wait for their check; each takes some ten milliseconds."""
KNOWN_MAX: Final = 1000
"""Passwords that were right, which need no second check."""
WRONG: Final = "authentication failed: wrong user or password"


class Busy(Exception):
    """Too many passwords wait for their check."""


class Passwords:
    """Checks of PLAIN passwords, one at a time, off the loop; who asks for the same one shares its check. What was
    right is known for the next time - not as it is, but by a keyed hash whose key is this process's."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "kafka-passwords")
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[str, tuple[Credential, bytes]] = OrderedDict()
        self._checks: dict[tuple[str, Credential, bytes], asyncio.Future[bool]] = {}

    async def is_right(self, user: str, mechanism: Mechanism, kept: Credential, password: str) -> bool:
        """Raises Busy."""
        digest = hmac.digest(self._key, password.encode(), "sha256")
        known = self._known.get(user)
        if known is not None and known[0] is kept and hmac.compare_digest(known[1], digest):
            self._known.move_to_end(user)
            return True
        check = self._checks.get((user, kept, digest))
        if check is None:
            check = self._check(user, mechanism, kept, password, digest)
        # Whoever began it may go away: the others go on waiting.
        right = await asyncio.shield(check)
        if right:
            self._known[user] = (kept, digest)
            self._known.move_to_end(user)
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        return right

    def _check(
        self, user: str, mechanism: Mechanism, kept: Credential, password: str, digest: bytes
    ) -> "asyncio.Future[bool]":
        if len(self._checks) >= CHECKS_MAX:
            raise Busy
        work = partial(scram.is_password, mechanism, kept, password)
        check = self._checks[user, kept, digest] = asyncio.get_running_loop().run_in_executor(self._thread, work)
        check.add_done_callback(lambda _: self._checks.pop((user, kept, digest)))
        return check

    def stop(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class Gate:
    """What the logins of one port share. `image` is that of the node."""

    def __init__(self, image: Callable[[], Image]) -> None:
        self._image = image
        self._own_secret = secrets.token_bytes(32)
        self._failing: Counter[str] = Counter()
        self.passwords = Passwords()

    def login(self) -> "Login":
        return Login(self)

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

    def end_withdrawn(self, connections: set[Connection]) -> None:
        """Ends the connections whose user or password is another one now."""
        for each in list(connections):
            if each.login is not None and each.login.is_withdrawn:
                each.refuse(f"the user {each.login.user!a} was removed, or has another password")

    def stop(self) -> None:
        self.passwords.stop()


class Login:
    """One connection's. `principal` is None until it is done."""

    def __init__(self, gate: Gate) -> None:
        self.principal: Principal | None = None
        self.user = ""
        self.takes_raw = False
        """After the first version of SaslHandshake: what comes is not in requests."""
        self._gate = gate
        self._mechanism: str | None = None
        self._exchange: ServerExchange | None = None
        self._by: tuple[Mechanism, Credential] | None = None

    def may_ask(self, key: int) -> bool:
        return self.principal is not None or key in BEFORE_LOGIN

    @property
    def is_withdrawn(self) -> bool:
        if self.principal is None or self._by is None:
            return False
        mechanism, kept = self._by
        return self._gate.kept(self.user, mechanism) != kept

    def handshake(self, request: Message, call: Call) -> Message | None:
        assert isinstance(request, SaslHandshakeRequest)
        offered = _offered(call.connection)
        if self.principal is not None or self._mechanism is not None:
            code = pb.ERROR_CODE_ILLEGAL_SASL_STATE
        elif request.mechanism not in offered:
            code = pb.ERROR_CODE_UNSUPPORTED_SASL_MECHANISM
        else:
            self._mechanism = request.mechanism
            self.takes_raw = call.version == 0
            if self.takes_raw:
                call.connection.take_raw()
            return SaslHandshakeResponse(0, offered)
        self._end(call, f"SASL mechanism {request.mechanism[:40]!a}", SaslHandshakeResponse(code, offered))
        return None

    def authenticate(self, request: Message, call: Call) -> Message | None:
        assert isinstance(request, SaslAuthenticateRequest)
        if self.principal is not None or self._mechanism is None:
            self._end(
                call,
                "a login that is none: SaslHandshake comes first, and once",
                SaslAuthenticateResponse(pb.ERROR_CODE_ILLEGAL_SASL_STATE, "SaslHandshake comes first, and once"),
            )
            return None
        self.token(request.auth_bytes, call)
        return None

    def token(self, token: bytes, call: Call) -> None:
        """One message of the mechanism's."""
        if self._mechanism == PLAIN:
            call.hold()
            run("SaslAuthenticate", call, self._plain(token, call))
            return
        try:
            answer = self._scram(token)
        except ScramError as error:
            self._fail(call, str(error))
            return
        self._answer(call, answer)

    def _scram(self, token: bytes) -> bytes:
        assert self._mechanism is not None
        mechanism = scram.BY_NAME[self._mechanism]
        if self._exchange is None:
            self._exchange = ServerExchange(
                mechanism, lambda user: self._gate.credential(user, mechanism), secrets.token_urlsafe(24)
            )
            return self._exchange.first(token)
        answer = self._exchange.final(token)
        assert self._exchange.kept is not None
        self._done(self._exchange.user, mechanism, self._exchange.kept)
        return answer

    async def _plain(self, token: bytes, call: Call) -> None:
        try:
            user, password = _plain_parts(token)
            self.user = user
            mechanism = self._gate.mechanism_for_plain(user)
            kept = self._gate.credential(user, mechanism)
            if not await self._gate.passwords.is_right(user, mechanism, kept, password):
                raise ScramError(WRONG)
            self._done(user, mechanism, kept)
        except ScramError as error:
            self._fail(call, str(error))
        except Busy:
            # Without an answer: clients take a broken connection for what passes, and a failed login for what does not.
            call.connection.refuse(f"{CHECKS_MAX} logins with PLAIN wait for their check already", call.client_id)
        else:
            self._answer(call, b"")
            call.release()

    def _done(self, user: str, mechanism: Mechanism, kept: Credential) -> None:
        """Raises ScramError where the credential went away in the meantime."""
        if self._gate.kept(user, mechanism) != kept:
            raise ScramError(WRONG)
        self.user, self.principal, self._by = user, principal.user(user), (mechanism, kept)

    def _answer(self, call: Call, token: bytes) -> None:
        raw = self.takes_raw
        if self.principal is not None:
            self.takes_raw = False
            call.connection.logged_in()
        if raw:
            call.answer_raw(token)
        else:
            call.answer(SaslAuthenticateResponse(0, None, token))

    def _fail(self, call: Call, why: str) -> None:
        user = self._exchange.user if self._exchange is not None else self.user
        # What is no user may be a password in the wrong place.
        shown = user if self._gate.is_there(user) else "(unknown)"
        self._end(
            call,
            f"the login failed: {why}",
            SaslAuthenticateResponse(pb.ERROR_CODE_SASL_AUTHENTICATION_FAILED, why),
            user=ascii(shown),
        )

    def _end(self, call: Call, why: str, answer: Message, *, user: str = "") -> None:
        """Answers after a while, and ends the connection: nothing more is read from it."""
        connection = call.connection
        call.hold()
        self._mechanism, self.principal = None, None
        address = connection.peer[0] if connection.peer else ""

        async def end() -> None:
            await self._gate.wait_for_failure(address)
            if self.takes_raw:
                connection.refuse(why, user=user)
                return
            call.answer(answer)
            # A client that finds the end together with the answer may not look at the answer.
            connection.refuse(why, call.client_id, user=user, after_s=GOODBYE_S)

        run("SaslAuthenticate", call, end())


def _plain_parts(token: bytes) -> tuple[str, str]:
    """User and password (RFC 4616). Raises ScramError."""
    parts = token.split(b"\0")
    if len(token) > PLAIN_MAX_BYTES or len(parts) != 3:
        raise ScramError("the message is not one of PLAIN")
    try:
        authorization, user, password = (part.decode() for part in parts)
    except UnicodeDecodeError:
        raise ScramError("the message is not UTF-8") from None
    if authorization not in ("", user):
        raise ScramError("to act as another user than the one who logs in is not supported")
    if not user or not password:
        raise ScramError(WRONG)
    return user, password


def _offered(connection: Connection) -> list[str]:
    """PLAIN only where nobody else can read it."""
    plain = connection.encrypted or (connection.peer is not None and _is_loopback(connection.peer[0]))
    return [*scram.BY_NAME, *([PLAIN] if plain else [])]


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback

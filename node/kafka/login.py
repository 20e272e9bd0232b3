"""Who is at the other end of a connection: SASL with SCRAM-SHA-256, SCRAM-SHA-512 and PLAIN, from the cluster's users.

Until a connection has logged in it may ask for ApiVersions, SaslHandshake and SaslAuthenticate. A wrong user and a
wrong password are one answer, which comes late, and later the more of them one address has under way. PLAIN, which
shows the password, is for TLS and loopback; its check takes milliseconds and is done in a thread of its own. A login
goes by one credential: when that is changed or removed, the connection ends.
"""

import secrets
from typing import Final

from node import audit, principal
from node.kafka.codec import API_VERSIONS, SASL_AUTHENTICATE
from node.kafka.connection import Call, Connection
from node.kafka.handlers.cluster_facts import run
from node.kafka.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse
from node.kafka.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse
from node.kafka.wire import Message
from node.logins import CHECKS_MAX, WRONG, Busy, Gate, is_loopback
from node.principal import Principal
from ottla.protocol import scram
from ottla.protocol.scram import Credential, Mechanism, ScramError, ServerExchange
from ottla.v1 import error_pb2 as pb

SASL_HANDSHAKE: Final = 17
HANDSHAKE_HIGH, AUTHENTICATE_HIGH = 1, 2
BEFORE_LOGIN: Final = frozenset({API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE})
PLAIN: Final = "PLAIN"
PLAIN_MAX_BYTES: Final = 4096
GOODBYE_S: Final = 0.5


def end_withdrawn(connections: set[Connection]) -> None:
    """Ends the connections whose user or password is another one now."""
    for each in list(connections):
        if each.login is not None and each.login.is_withdrawn:
            each.refuse(f"the user {each.login.user!a} was removed, or has another password")


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
            address = call.connection.host
            if not await self._gate.passwords.is_right(user, mechanism, kept, password, address):
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
        audit.login_failed(ascii(shown), call.connection.host, why)
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
    plain = connection.encrypted or (connection.peer is not None and is_loopback(connection.peer[0]))
    return [*scram.BY_NAME, *([PLAIN] if plain else [])]

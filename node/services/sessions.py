"""Users of the gRPC listener: who a call is from, by a token or a password, and how long that holds.

A token is signed with a key that all nodes know from the metadata and with the credential that its user logged in by,
so every node verifies it without asking, and it is worth nothing once that credential is another one. Calls that last
end then, too.
"""

import asyncio
import binascii
import contextlib
import hmac
import secrets
import struct
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import unquote

import structlog
from google.protobuf.descriptor import MethodDescriptor

from node import audit, limits, principal
from node.logins import CHECKS_MAX, WRONG, Busy, Gate, is_loopback
from node.metadata.image import METADATA_VERSION, SECURITY_METADATA_VERSION, Delta, Image, SessionKey
from node.principal import Principal
from node.relay import peer
from node.services.faults import Context
from ottla.protocol import scram
from ottla.protocol.errors import ApiError
from ottla.protocol.scram import Credential, Mechanism, ScramError, ServerExchange
from ottla.v1 import error_pb2 as pb
from ottla.v1 import login_pb2 as login

log = structlog.get_logger(__name__)
Handler = Callable[..., Awaitable[Any]]

SERVICE: Final = login.DESCRIPTOR.services_by_name["LoginService"]
OPEN: Final = frozenset({SERVICE.full_name, "grpc.health.v1.Health"})
"""Services that answer whoever asks."""
LASTING: Final = frozenset({"Fetch"})
"""Unary calls that may wait for what comes."""
LIFE_MS: Final = 15 * 60 * 1000
LOGIN_MS: Final = 60 * 1000
"""How long the second call of a login may take."""
KNOWN_MAX: Final = 10_000
VALUE_MAX_BYTES: Final = 4096
_MAC_BYTES: Final = 32
_TOKEN: Final = struct.Struct(">IBQ")
"""Key, mechanism, when it ends in ms; the user's name is behind it."""
_STATE: Final = struct.Struct(">IBQ32s")
"""Key, mechanism, when it ends in ms, the node's nonce; the client's message is behind it."""
_NEXT: Final = (
    "give the client a user and a password: `authorization: Bearer` with a token of LoginService, or Basic over TLS "
    "(docs/security.md)"
)


class Session(NamedTuple):
    """What somebody proved. `ends_ms`: when it has to be proven again; 0: never."""

    who: Principal
    mechanism: Mechanism
    kept: Credential
    ends_ms: int


class Sessions:
    """Used on the data loop. `now_ms`: the cluster's time; `encrypted`: whether others can't read a call."""

    def __init__(
        self, gate: Gate, image: Callable[[], Image], now_ms: Callable[[], int], *, encrypted: Callable[[Context], bool]
    ) -> None:
        self._gate = gate
        self._image = image
        self._now_ms = now_ms
        self._encrypted = encrypted
        self._own_key = secrets.token_bytes(32)
        self._known: dict[str | bytes, Session] = {}
        self._lasting: dict[asyncio.Task[Any], Session] = {}
        self._ended: set[asyncio.Task[Any]] = set()

    # --- calls

    def guarded(self, handler: Handler, method: MethodDescriptor) -> Handler:
        """A handler whose calls, each in a task of its own, are those of users; others are refused before anything of
        them is read."""
        if method.containing_service.full_name in OPEN:
            return handler
        lasting = method.client_streaming or method.server_streaming or method.name in LASTING

        def begin(session: Session, arguments: tuple[Any, ...]) -> Awaitable[Any]:
            principal.begin(session.who)
            return self._while_it_holds(handler, session, arguments) if lasting else handler(*arguments)

        def call(*arguments: Any) -> Awaitable[Any]:
            scheme, value = _authorization(arguments[-1])
            if scheme == "bearer":
                return begin(self._by_token(value), arguments)
            if scheme != "basic":
                raise _refusal("this listener is for users, and the call names none", _NEXT)
            known = self._known.get(self._hidden(value))
            return self._after_password(begin, value, arguments) if known is None else begin(known, arguments)

        return call

    async def _while_it_holds(self, handler: Handler, session: Session, arguments: tuple[Any, ...]) -> Any:
        task = asyncio.current_task()
        assert task is not None, "a handler is run by a task"
        self._lasting[task] = session
        try:
            return await handler(*arguments)
        except asyncio.CancelledError:
            if task in self._ended and task.uncancel() == 0:
                raise _withdrawn() from None
            raise
        finally:
            del self._lasting[task]
            self._ended.discard(task)

    def changed(self, delta: Delta | None) -> None:
        """Ends what holds no longer: at once, whatever waits."""
        if delta is None or not (delta.users_changed or delta.session_keys_changed):
            return
        self._known.clear()
        for task, session in self._lasting.items():
            if task not in self._ended and self._gate.kept(session.who.name, session.mechanism) != session.kept:
                self._ended.add(task)
                task.cancel()

    def _remember(self, key: str | bytes, session: Session) -> None:
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = session

    # --- tokens

    def _by_token(self, token: str) -> Session:
        session = self._known.get(token)
        if session is None:
            session = self._verified(token)
            self._remember(token, session)
        if session.ends_ms <= self._now_ms():
            raise _refusal("the token has expired", "log in again", retriable=True)
        return session

    def _verified(self, token: str) -> Session:
        """Raises ApiError for what no node of this cluster signed, or signed for a credential that is gone."""
        body, mac = _parts(token, _TOKEN.size)
        key_id, number, ends_ms = _TOKEN.unpack_from(body)
        name = body[_TOKEN.size :].decode("utf-8", "replace")
        key, mechanism = self._key(key_id), scram.MECHANISMS.get(number)
        if key is None or mechanism is None:
            raise _refusal("the token is none of this cluster's, or too old", "log in again", retriable=True)
        kept = self._gate.kept(name, mechanism)
        if kept is None or not hmac.compare_digest(mac, _token_mac(key, body, kept)):
            raise _withdrawn()
        return Session(principal.user(name), mechanism, kept, ends_ms)

    def _token(self, user: str, mechanism: Mechanism, kept: Credential) -> str:
        key = self._signing_key()
        body = _TOKEN.pack(key.id, mechanism.number, self._now_ms() + LIFE_MS) + user.encode()
        return _text(body + _token_mac(key, body, kept))

    def _key(self, key_id: int) -> SessionKey | None:
        return next((key for key in self._image().session_keys if key.id == key_id), None)

    def _signing_key(self) -> SessionKey:
        """Raises ApiError while there is none."""
        image = self._image()
        if image.session_keys:
            return image.session_keys[-1]
        level = image.features.get(METADATA_VERSION, 0)
        if level < SECURITY_METADATA_VERSION:
            raise ApiError(
                pb.ERROR_CODE_UNSUPPORTED_VERSION,
                f"there are logins over gRPC from {METADATA_VERSION} {SECURITY_METADATA_VERSION} on, the cluster is at "
                f"{level or 1}",
                next_step="run `ottla cluster finalize` once every node has this build (docs/security.md)",
            )
        raise ApiError(
            pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
            "the controller has not drawn a key for sessions yet",
            retry_after_ms=500,
        )

    # --- passwords

    async def _after_password(
        self, begin: Callable[[Session, tuple[Any, ...]], Awaitable[Any]], value: str, arguments: tuple[Any, ...]
    ) -> Any:
        context: Context = arguments[-1]
        at = peer(context)
        if not self._encrypted(context) and not is_loopback(_address(at)):
            raise _refusal(
                "Basic shows the password, and this call has no TLS", "log in with SCRAM, or turn security on"
            )
        return await begin(await self._by_password(value, at), arguments)

    async def who(self, authorization: str, at: str) -> Principal:
        """Of a header that came over TLS. `at`: where it is from, as gRPC says it. Raises ApiError."""
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return self._by_token(value.strip()).who
        if scheme.lower() != "basic":
            raise _refusal("who asks has to be a user", _NEXT)
        known = self._known.get(self._hidden(value.strip()))
        return (known or await self._by_password(value.strip(), at)).who

    async def _by_password(self, value: str, at: str) -> Session:
        user, password = _user_and_password(value)
        mechanism = self._gate.mechanism_for_plain(user)
        kept = self._gate.credential(user, mechanism)
        try:
            right = await self._gate.passwords.is_right(user, mechanism, kept, password, _address(at))
        except Busy:
            raise limits.throttled(
                f"{CHECKS_MAX} passwords wait for their check", f"{CHECKS_MAX} may", limits.IN_FLIGHT_RETRY_MS
            ) from None
        if not right or self._gate.kept(user, mechanism) != kept:
            await self._fail(at, user, WRONG)
        session = Session(principal.user(user), mechanism, kept, 0)
        self._remember(self._hidden(value), session)
        return session

    def _hidden(self, value: str) -> bytes:
        """What a password is known by."""
        return hmac.digest(self._own_key, value.encode(), "sha256")

    async def _fail(self, at: str, user: str, why: str) -> NoReturn:
        # What is no user may be a password in the wrong place.
        shown = user if self._gate.is_there(user) else "(unknown)"
        log.warning("login_failed", reason=why, peer=at, user=ascii(shown))
        audit.login_failed(ascii(shown), _address(at), why)
        await self._gate.wait_for_failure(_address(at))
        raise ApiError(pb.ERROR_CODE_SASL_AUTHENTICATION_FAILED, why)

    # --- LoginService

    async def begin_scram(self, request: login.BeginScramRequest, _context: Context) -> login.BeginScramResponse:
        """What has to be known of a login until its second call is in its state, which that brings along."""
        mechanism = scram.MECHANISMS.get(request.mechanism)
        if mechanism is None:
            raise ApiError(
                pb.ERROR_CODE_UNSUPPORTED_SASL_MECHANISM,
                f"SCRAM mechanism {request.mechanism} is not known: {', '.join(scram.BY_NAME)} are",
            )
        key, nonce = self._signing_key(), secrets.token_bytes(32)
        try:
            message = self._exchange(mechanism, nonce).first(request.message)
        except ScramError as error:
            raise ApiError(pb.ERROR_CODE_SASL_AUTHENTICATION_FAILED, str(error)) from None
        body = _STATE.pack(key.id, mechanism.number, self._now_ms() + LOGIN_MS, nonce) + request.message
        return login.BeginScramResponse(message=message, state=body + _state_mac(key, body))

    async def finish_scram(self, request: login.FinishScramRequest, context: Context) -> login.FinishScramResponse:
        """A state may come twice: whoever can repeat the proof has read the token, too."""
        mechanism, nonce, first = self._opened(request.state)
        exchange = self._exchange(mechanism, nonce)
        try:
            exchange.first(first)
            message = exchange.final(request.message)
        except ScramError as error:
            await self._fail(peer(context), exchange.user, str(error))
        kept = exchange.kept
        assert kept is not None, "the proof was right"
        return login.FinishScramResponse(
            message=message, token=self._token(exchange.user, mechanism, kept), lifetime_ms=LIFE_MS
        )

    def _exchange(self, mechanism: Mechanism, nonce: bytes) -> ServerExchange:
        return ServerExchange(mechanism, lambda user: self._gate.credential(user, mechanism), _text(nonce))

    def _opened(self, state: bytes) -> tuple[Mechanism, bytes, bytes]:
        """Mechanism, nonce and the client's first message. Raises ILLEGAL_SASL_STATE."""
        if len(state) >= _STATE.size + _MAC_BYTES:
            body, mac = state[:-_MAC_BYTES], state[-_MAC_BYTES:]
            key_id, number, ends_ms, nonce = _STATE.unpack_from(body)
            key = self._key(key_id)
            if key is not None and hmac.compare_digest(mac, _state_mac(key, body)) and self._now_ms() < ends_ms:
                return scram.MECHANISMS[number], nonce, body[_STATE.size :]
        raise ApiError(
            pb.ERROR_CODE_ILLEGAL_SASL_STATE,
            "the state is none that BeginScram gave within the last minute",
            next_step="begin the login anew, and send back the state as it is",
        )


def _authorization(context: Context) -> tuple[str, str]:
    """Scheme and value; empty where there is none."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            scheme, _, rest = str(value).partition(" ")
            return scheme.lower(), rest.strip()
    return "", ""


def _address(at: str) -> str:
    """The address of a peer such as ipv4:127.0.0.1:5000 or ipv6:%5B::1%5D:5000."""
    host = unquote(at).partition(":")[2].rpartition(":")[0]
    return host.strip("[]")


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _parts(token: str, size: int) -> tuple[bytes, bytes]:
    """What is signed, and the signature; a token is written in one way alone. Raises ApiError."""
    with contextlib.suppress(binascii.Error, ValueError):
        data = urlsafe_b64decode(token + "=" * (-len(token) % 4)) if len(token) <= VALUE_MAX_BYTES else b""
        if len(data) >= size + _MAC_BYTES and _text(data) == token:
            return data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    raise _refusal("what the call brings is no token", _NEXT)


def _user_and_password(value: str) -> tuple[str, str]:
    """As RFC 7617 writes them. Raises ApiError."""
    if len(value) <= VALUE_MAX_BYTES:
        with contextlib.suppress(binascii.Error, ValueError):
            user, colon, password = b64decode(value, validate=True).decode().partition(":")
            if colon:
                return user, password
    raise _refusal("Basic is followed by the base64 of user:password in UTF-8", _NEXT)


def _token_mac(key: SessionKey, body: bytes, kept: Credential) -> bytes:
    return hmac.digest(key.key, b"token\0" + body + kept.stored_key, "sha256")


def _state_mac(key: SessionKey, body: bytes) -> bytes:
    return hmac.digest(key.key, b"login\0" + body, "sha256")


def _withdrawn() -> ApiError:
    return _refusal(
        "the session has ended: its user was removed, or has another password", "log in again", retriable=True
    )


def _refusal(why: str, next_step: str, *, retriable: bool = False) -> ApiError:
    """Where a new login may help, clients may try again."""
    return ApiError(
        pb.ERROR_CODE_SASL_AUTHENTICATION_FAILED, why, next_step=next_step, retriable_override=retriable or None
    )

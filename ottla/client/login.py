"""Logging in as a user: a token that goes with every call, from a password that does not."""

import asyncio
import ipaddress
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import grpc
from grpc import aio

from ottla.client import arguments
from ottla.client.errors import AuthenticationFailed, ConfigError, from_call, refusal_in
from ottla.protocol import scram
from ottla.protocol.errors import ApiError
from ottla.protocol.names import check_user_name
from ottla.protocol.scram import ClientExchange, Mechanism, ScramError
from ottla.v1 import error_pb2 as pb
from ottla.v1.admin_pb2 import ScramMechanism
from ottla.v1.login_pb2 import BeginScramRequest, FinishScramRequest, FinishScramResponse
from ottla.v1.login_pb2_grpc import LoginServiceStub

USER_VARIABLE, PASSWORD_FILE_VARIABLE = "OTTLA_USER", "OTTLA_PASSWORD_FILE"
PASSWORD_MAX_BYTES: Final = 1024
CALL_S: Final = 15.0
"""A failed login is answered late, and later the more of them there are."""


class Token(NamedTuple):
    """`renew_s`: when, by the monotonic clock, to get another one."""

    text: str
    renew_s: float


def login_of(user: object, password: object, password_file: object) -> "Login | None":
    """What the arguments or else the environment ask for; None: no login. Raises ConfigError."""
    if user is None:
        for what, given in (("password", password), ("password_file", password_file)):
            if given is not None:
                raise ConfigError(f"{what} is given without a user. Next: say whose it is")
        name = os.environ.get(USER_VARIABLE)
        if not name:
            return None
        file = os.environ.get(PASSWORD_FILE_VARIABLE)
        if not file:
            raise ConfigError(
                f"{USER_VARIABLE} is set and {PASSWORD_FILE_VARIABLE} is not. Next: name the file with the password"
            )
        return Login(_user(USER_VARIABLE, name), lambda: password_in(Path(file)))
    name = _user("user", arguments.text("user", user))
    if (password is None) == (password_file is None):
        raise ConfigError("user needs either a password or a password_file. Next: give one of them")
    if password_file is not None:
        if not isinstance(password_file, str | os.PathLike):
            raise ConfigError(f"password_file {arguments.shown(password_file)} is no path")
        path = Path(password_file)
        return Login(name, lambda: password_in(path))
    given = checked_password(password)
    return Login(name, lambda: given)


def password_in(path: Path) -> str:
    """The one line of a file. Raises ConfigError."""
    try:
        data = path.read_bytes()[: 2 * PASSWORD_MAX_BYTES]
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no path"
        raise ConfigError(
            f"password_file: {arguments.shown(str(path))} cannot be read: {(why or str(error)).lower()}. "
            "Next: check the path and its rights"
        ) from None
    line, end, more = data.partition(b"\n")
    if more:
        raise ConfigError(f"password_file {path} has more than one line. Next: write the password there, alone")
    try:
        return checked_password((line.removesuffix(b"\r") if end else line).decode())
    except ConfigError as error:
        raise ConfigError(f"password_file {path}: {error.message}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the password in {path} is not UTF-8. Next: write it as UTF-8") from None


def _user(what: str, name: str) -> str:
    try:
        check_user_name(name)
    except ApiError as error:
        raise ConfigError(f"{what}: {error.message}") from None
    return name


def checked_password(password: object) -> str:
    """A password that can be used everywhere. Raises ConfigError, which does not show it."""
    if not isinstance(password, str):
        raise ConfigError(f"password is no str but {type(password).__name__}")
    try:
        size = len(password.encode())
    except UnicodeEncodeError:
        raise ConfigError("password can't be sent as UTF-8. Next: take other characters") from None
    if not 0 < size <= PASSWORD_MAX_BYTES or "\0" in password:
        raise ConfigError(f"password has {size} bytes; 1 to {PASSWORD_MAX_BYTES} are allowed, none of them zero")
    return password


class Login:
    """A user. `password` is asked for at each login: a file may have another one by then."""

    def __init__(self, user: str, password: Callable[[], str]) -> None:
        """Raises ConfigError where there is no password."""
        self.user = user
        self._password = password
        password()

    async def __call__(self, channel: aio.Channel, address: str, *, encrypted: bool) -> Token | None:
        """A token, from the node at `address`; None: it lets in whoever comes. Raises OttlaError where it refuses the
        login, AioRpcError where it does not answer."""
        if not encrypted and not _is_loopback(address):
            raise ConfigError(
                f"{address} is not on this machine, and without TLS others would read the session of {self.user!r}. "
                "Next: give the client tls, the directory or file with whom to trust"
            )
        password = self._password()
        # Which of them a user has is not told before it has logged in.
        refused: AuthenticationFailed | None = None
        for mechanism in (scram.SHA_256, scram.SHA_512):
            try:
                return await self._log_in(channel, address, mechanism, password)
            except AuthenticationFailed as error:
                refused = refused or error
        assert refused is not None, "each of them ends the loop, or is refused"
        raise refused

    async def _log_in(self, channel: aio.Channel, address: str, mechanism: Mechanism, password: str) -> Token | None:
        stub = LoginServiceStub(channel)
        exchange = ClientExchange(mechanism, self.user, password, secrets.token_urlsafe(24))
        number = ScramMechanism.ValueType(mechanism.number)
        try:
            begun = await stub.BeginScram(BeginScramRequest(mechanism=number, message=exchange.first), timeout=CALL_S)
            # Some milliseconds of work, for which the loop need not wait.
            final = await asyncio.to_thread(exchange.final, begun.message)
            done: FinishScramResponse = await stub.FinishScram(
                FinishScramRequest(message=final, state=begun.state), timeout=CALL_S
            )
            exchange.check(done.message)
        except ScramError as error:
            raise AuthenticationFailed(f"{address}: {error}. Next: check the address, and whom tls trusts") from None
        except aio.AioRpcError as error:
            refusal = refusal_in(error)
            if refusal is None and error.code() is grpc.StatusCode.UNIMPLEMENTED:
                # A build that has no users yet: clients may have theirs before all nodes do.
                return None
            if refusal is None or refusal.retriable:
                raise
            if refusal.code != pb.ERROR_CODE_SASL_AUTHENTICATION_FAILED:
                raise from_call(error, address) from None
            raise AuthenticationFailed(
                f"{address} refused the login of {self.user!r}: wrong user or password. Next: check both; "
                "`ottla user list` shows which users there are"
            ) from None
        return Token(done.token, time.monotonic() + done.lifetime_ms / 1000 * 2 / 3)


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""SCRAM (RFC 5802, RFC 7677): how a password is salted, what a server keeps of it, and the server's side of a login.

Nothing here draws random bytes or knows who exists: nonces, salts and credentials are arguments. Passwords and names
are taken as they are, in UTF-8, as Kafka and its clients do (RFC 5802 would have them normalized first).
"""

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

ITERATIONS: Final = 10_000
"""Of a password that is set without saying how many."""
ITERATIONS_MIN, ITERATIONS_MAX = 4096, 16_384
"""Kafka's bounds: a server that takes PLAIN does as many for each login, and so does each client."""
SALT_BYTES: Final = 16
SALT_MIN_BYTES, SALT_MAX_BYTES = 8, 128
NONCE_MAX: Final = 256
MESSAGE_MAX_BYTES: Final = 4096


class Mechanism(NamedTuple):
    """`number` is Kafka's, `hash` hashlib's name."""

    number: int
    name: str
    hash: str
    size: int


SHA_256: Final = Mechanism(1, "SCRAM-SHA-256", "sha256", 32)
SHA_512: Final = Mechanism(2, "SCRAM-SHA-512", "sha512", 64)
MECHANISMS: Final = {each.number: each for each in (SHA_256, SHA_512)}
BY_NAME: Final = {each.name: each for each in MECHANISMS.values()}


@dataclass(frozen=True, slots=True)
class Credential:
    """What is kept of a password. It is not shown."""

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


class ScramError(Exception):
    """A login that goes wrong. The text is for the client, and has nothing of what it sent."""


class WrongProof(ScramError):
    """The user or the password is wrong: which of them is not said."""


def salted_password(mechanism: Mechanism, password: str, salt: bytes, iterations: int) -> bytes:
    """PBKDF2: some milliseconds of work, for which other threads may run."""
    return hashlib.pbkdf2_hmac(mechanism.hash, password.encode(), salt, iterations)


def credential(mechanism: Mechanism, salted: bytes, salt: bytes, iterations: int) -> Credential:
    """What is kept of a salted password."""
    client_key = hmac.digest(salted, b"Client Key", mechanism.hash)
    stored_key = hashlib.new(mechanism.hash, client_key).digest()
    return Credential(iterations, salt, stored_key, hmac.digest(salted, b"Server Key", mechanism.hash))


def is_password(mechanism: Mechanism, kept: Credential, password: str) -> bool:
    """Whether it is the password, from the password itself (SASL PLAIN). As slow as `salted_password`."""
    if "\0" in password:
        return False  # to an HMAC, and so to PBKDF2, a key and the same one with zero bytes behind it are one
    salted = salted_password(mechanism, password, kept.salt, kept.iterations)
    made = credential(mechanism, salted, kept.salt, kept.iterations)
    return hmac.compare_digest(made.stored_key, kept.stored_key)


def nobodys(mechanism: Mechanism, user: str, secret: bytes) -> Credential:
    """What a login of a user that there is not goes against, so that it looks and takes like any other: the same salt
    each time and, with the same secret, at each node. No password fits."""

    def drawn(what: bytes) -> bytes:
        name = user.encode("utf-8", "surrogatepass")
        return hmac.digest(secret, b"\0".join((what, mechanism.name.encode(), name)), "sha512")

    size = mechanism.size
    return Credential(ITERATIONS, drawn(b"salt")[:SALT_BYTES], drawn(b"stored")[:size], drawn(b"server")[:size])


class ServerExchange:
    """One login: `first`, then `final`. `look_up` gives the credential of a user, or one that fits no password."""

    def __init__(self, mechanism: Mechanism, look_up: Callable[[str], Credential], nonce: str) -> None:
        self.user = ""
        self.kept: Credential | None = None
        self._mechanism = mechanism
        self._look_up = look_up
        self._nonce = nonce
        self._header = b""
        self._messages = b""

    def first(self, message: bytes) -> bytes:
        """The answer to client-first. Raises ScramError."""
        header, bare = _gs2(_text(message))
        name, nonce = _fields(bare, "n", "r")
        if not nonce or len(nonce) > NONCE_MAX or not all("!" <= each <= "~" for each in nonce):
            raise ScramError(f"the nonce must have 1 to {NONCE_MAX} printable ASCII characters")
        self.user = _user(name)
        if header.authorization not in ("", name):
            raise ScramError("to act as another user than the one who logs in is not supported")
        self.kept = self._look_up(self.user)
        self._header = header.text.encode()
        self._nonce = nonce + self._nonce
        salt = b64encode(self.kept.salt).decode()
        answer = f"r={self._nonce},s={salt},i={self.kept.iterations}".encode()
        self._messages = bare.encode() + b"," + answer
        return answer

    def final(self, message: bytes) -> bytes:
        """The answer to client-final: the server's own proof. Raises ScramError, WrongProof."""
        if self.kept is None:
            raise ScramError("the login's second message came before the first")
        kept, self.kept = self.kept, None
        text = _text(message)
        signed, found, last = text.rpartition(",p=")
        binding, nonce = _fields(signed, "c", "r")
        if not found:
            raise ScramError("the login's second message has no proof")
        if _decoded(binding) != self._header:
            raise ScramError("the channel binding is not the one that the login began with")
        if nonce != self._nonce:
            raise ScramError("the nonce is not the one of this login")
        proof = _decoded(last)
        hashed = self._mechanism.hash
        auth_message = self._messages + b"," + signed.encode()
        signature = hmac.digest(kept.stored_key, auth_message, hashed)
        if len(proof) != len(signature):
            raise WrongProof("authentication failed: wrong user or password")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.new(hashed, client_key).digest(), kept.stored_key):
            raise WrongProof("authentication failed: wrong user or password")
        self.kept = kept
        return b"v=" + b64encode(hmac.digest(kept.server_key, auth_message, hashed))


class ClientExchange:
    """The client's side of one login: send `first`, then `final`, then `check` the answer."""

    def __init__(self, mechanism: Mechanism, user: str, password: str, nonce: str) -> None:
        self._mechanism = mechanism
        self._password = password
        self._nonce = nonce
        self._bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={nonce}"
        self._signature = b""

    @property
    def first(self) -> bytes:
        return f"n,,{self._bare}".encode()

    def final(self, message: bytes) -> bytes:
        """The proof, from the server's first message. Takes some milliseconds. Raises ScramError."""
        nonce, salt, count = _fields(_text(message), "r", "s", "i")
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise ScramError("the nonce is not the one of this login")
        if not count.isdecimal() or not ITERATIONS_MIN <= int(count[:9]) <= ITERATIONS_MAX:
            raise ScramError(
                f"the node asks for {count[:20]} iterations, {ITERATIONS_MIN} to {ITERATIONS_MAX} are usual"
            )
        hashed = self._mechanism.hash
        salted = salted_password(self._mechanism, self._password, _decoded(salt), int(count))
        client_key = hmac.digest(salted, b"Client Key", hashed)
        signed = f"c=biws,r={nonce}"
        auth_message = f"{self._bare},".encode() + message + f",{signed}".encode()
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", hashed), auth_message, hashed)
        proof = hmac.digest(hashlib.new(hashed, client_key).digest(), auth_message, hashed)
        return f"{signed},p=".encode() + b64encode(bytes(a ^ b for a, b in zip(client_key, proof, strict=True)))

    def check(self, message: bytes) -> None:
        """Raises ScramError where whoever answered does not know the user."""
        if not hmac.compare_digest(message, b"v=" + b64encode(self._signature)):
            raise ScramError("the node does not prove that it knows the user: it is none of the cluster's")


class _Header(NamedTuple):
    text: str
    authorization: str


def _text(message: bytes) -> str:
    if len(message) > MESSAGE_MAX_BYTES:
        raise ScramError(f"a message of {len(message)} bytes, {MESSAGE_MAX_BYTES} are allowed")
    try:
        text = message.decode()
    except UnicodeDecodeError:
        raise ScramError("the message is not UTF-8") from None
    if "\0" in text:
        raise ScramError("the message has a zero byte")
    return text


def _gs2(text: str) -> tuple[_Header, str]:
    """The header, and what is behind it."""
    parts = text.split(",", 2)
    if len(parts) != 3 or not parts[0]:
        raise ScramError("the login's first message does not begin with a header such as 'n,,'")
    flag, authorization, bare = parts
    if flag not in ("n", "y"):
        raise ScramError("channel binding is not supported")
    if authorization and not authorization.startswith("a="):
        raise ScramError("the header of the login's first message is not one")
    return _Header(f"{flag},{authorization},", authorization[2:]), bare


def _fields(text: str, *names: str) -> list[str]:
    """The values of the attributes that a message begins with; the extensions behind them are let be."""
    parts = text.split(",")
    if len(parts) < len(names) or any(part[:2] != f"{name}=" for name, part in zip(names, parts, strict=False)):
        raise ScramError(f"the message must begin with the attributes {', '.join(names)}")
    return [part[2:] for part in parts[: len(names)]]


def _user(name: str) -> str:
    """'=2C' and '=3D' stand for ',' and '='."""
    if not name or name.replace("=2C", "").replace("=3D", "").count("="):
        raise ScramError("the user name is empty, or has a '=' that stands for nothing")
    return name.replace("=2C", ",").replace("=3D", "=")


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        raise ScramError("a value is not base64") from None

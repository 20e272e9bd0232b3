"""Who asks: the principal of the request that is under way, at either door and at the nodes that it is passed on to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from node import turns
from ottla.protocol.acls import address_of

USER: Final = "User"
NODE: Final = "Node"


class Principal(NamedTuple):
    """`kind` is `User`, or `Node` for a node of this cluster, whose name is its id. The text is as Kafka has it."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


CLIENT_ID: Final = "ottla-client-id"
"""Said by clients, of their calls, and passed on."""
ANONYMOUS: Final = Principal(USER, "ANONYMOUS")
"""Whoever has proven nothing, as Kafka has it."""
_HOST: Final[ContextVar[str]] = ContextVar("host", default="")
_CLIENT_ID: Final[ContextVar[str]] = ContextVar("client_id", default="")
_CURRENT: Final[ContextVar[Principal]] = ContextVar("principal", default=ANONYMOUS)


def user(name: str) -> Principal:
    return Principal(USER, name) if name else ANONYMOUS


def node(node_id: int) -> Principal:
    return Principal(NODE, str(node_id))


def named(text: str) -> Principal:
    """The principal that is written so."""
    kind, _, name = text.partition(":")
    return Principal(kind, name)


def current() -> Principal:
    """Of the request that is under way; a node's own work has none: ANONYMOUS."""
    return _CURRENT.get()


def begin(principal: Principal) -> None:
    """What the task under way does from here on is this principal's."""
    _CURRENT.set(principal)


def host() -> str:
    """The address that the request under way came from, at whichever node; empty where that is not known."""
    at = _HOST.get()
    return address_of(at or _host_in(turns.client() or ""))


def _host_in(peer: str) -> str:
    """Of what gRPC calls a peer, as in `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    return peer.partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")


def came_from(address: str) -> None:
    """Says so of the call under way, which is a task of its own."""
    _HOST.set(address)


def client_id() -> str:
    """What the client that makes the call under way calls itself."""
    return _CLIENT_ID.get()


def calls_itself(name: str) -> None:
    """Says so of the call under way, which is a task of its own."""
    _CLIENT_ID.set(name)


@contextmanager
def acting_as(principal: Principal, address: str = "", client_id: str = "") -> Iterator[None]:
    """What is begun within is this principal's, tasks too. `address`: where it is."""
    token, at, client = _CURRENT.set(principal), _HOST.set(address), _CLIENT_ID.set(client_id)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        _HOST.reset(at)
        _CLIENT_ID.reset(client)


def identified(handler: Callable[..., Any], identify: Callable[[Any], Principal]) -> Callable[..., Any]:
    """A handler whose calls, each in a task of its own, are those of whom `identify` says, from their last argument;
    what it raises refuses the call before anything of it is read."""

    def call(*arguments: Any) -> Any:
        _CURRENT.set(identify(arguments[-1]))
        return handler(*arguments)

    return call

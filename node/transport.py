"""How nodes dial each other and are dialled: plainly, or with certificates (`node.tls`).

With certificates both sides know who the other is, whatever it says and wherever it is: a node that is dialled must be
the one that was meant, and what a node says of itself counts only if it is what its certificate says.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import grpc

from node import principal
from node.principal import ANONYMOUS, CLIENT_ID, Principal
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]
Options = Sequence[tuple[str, Any]]
PRINCIPAL: Final = "ottla-principal-bin"
"""Names are not ASCII only."""
ADDRESS: Final = "ottla-address"


class Transport(Protocol):
    """Used on both loops."""

    @property
    def cluster_id(self) -> bytes | None:
        """The only cluster that this node can be of; None: any."""

    @property
    def caller(self) -> Callable[[Context], int | None] | None:
        """Which node a call is from, by its certificate; raises CLUSTER_AUTHORIZATION_FAILED where it is no node's.
        None, of a call or of all: nobody proves who he is."""

    @property
    def identify(self) -> Callable[[Context], Principal] | None:
        """Whose a call is, by its certificate; None: nobody's."""

    def is_encrypted(self, context: Context) -> bool:
        """Whether others can't read a call."""

    def dial(self, address: str, node_id: int, options: Options) -> grpc.aio.Channel:
        """A channel to that node and no other."""

    def is_stale(self, channel: grpc.aio.Channel) -> bool:
        """Whether a channel has no connection, and would make one with certificates that have been replaced."""

    def add_port(self, server: grpc.aio.Server, address: str, *, certified: bool = True) -> int:
        """`certified`: clients show a certificate, too. Raises RuntimeError where the address cannot be had."""

    def not_reached(self, address: str, node_id: int) -> None:
        """A node that was dialled did not answer: says why in the log, if certificates are the reason."""


class Plain:
    """Without certificates: everybody is who he says he is."""

    cluster_id: bytes | None = None
    caller: Callable[[Context], int | None] | None = None
    identify: Callable[[Context], Principal] | None = None

    def is_encrypted(self, context: Context) -> bool:
        return False

    def dial(self, address: str, node_id: int, options: Options) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(address, options=options)

    def is_stale(self, channel: grpc.aio.Channel) -> bool:
        return False

    def add_port(self, server: grpc.aio.Server, address: str, *, certified: bool = True) -> int:
        return server.add_insecure_port(address)

    def not_reached(self, address: str, node_id: int) -> None:
        """The log of whoever dials says what there is to say."""


PLAIN = Plain()


def for_principal() -> tuple[tuple[str, str | bytes], ...]:
    """Metadata of a call that is passed on: whose it is, and where that is."""
    return (
        (PRINCIPAL, str(principal.current()).encode("utf-8", "replace")),
        (ADDRESS, principal.host().encode("ascii", "replace").decode()),
        (CLIENT_ID, principal.client_id().encode("ascii", "replace").decode()),
    )


def for_whom(transport: Transport) -> Callable[[Context], Principal]:
    """Whose a call to a node's listener is: that of whoever the node that passes it on says, else that node's own.
    Without certificates nodes are believed as clients are. Raises CLUSTER_AUTHORIZATION_FAILED for who is no node."""
    caller = transport.caller

    def identify(context: Context) -> Principal:
        node_id = None if caller is None else caller(context)
        own = ANONYMOUS if node_id is None else principal.node(node_id)
        for key, value in context.invocation_metadata() or ():
            if key == PRINCIPAL:
                own = principal.named(bytes(value).decode("utf-8", "replace"))  # type: ignore[arg-type]
            elif key == ADDRESS:
                principal.came_from(str(value))
            elif key == CLIENT_ID:
                principal.calls_itself(str(value))
        return own

    return identify


def check_claim(transport: Transport, context: Context, claimed: int) -> None:
    """What a call says of itself must be what its certificate says. Raises CLUSTER_AUTHORIZATION_FAILED."""
    proven = None if transport.caller is None else transport.caller(context)
    if proven is not None and proven != claimed:
        raise ApiError(
            pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED,
            f"the certificate is that of node {proven}, the call says that it is from node {claimed}",
        )

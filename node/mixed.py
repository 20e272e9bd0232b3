"""A node between a cluster without TLS and one with it: it takes both, and dials each other node as that one takes it.

A cluster that runs goes from the one to the other by two rolling restarts, first with `security=optional`, then with
what it is to be. Who comes without TLS proves nothing, and is believed as in a cluster without.
"""

import threading
import time
from typing import Any, Final
from weakref import WeakKeyDictionary

import grpc
import structlog

from node.capacity import of_process
from node.config import Settings, split_address
from node.principal import ANONYMOUS, Principal
from node.relay import Relay
from node.sniff import bound
from node.tls import Tls
from node.transport import PLAIN, Context, Options, Transport
from ottla.secure.diagnosis import speaks_tls
from ottla.secure.names import Files

log = structlog.get_logger(__name__)

LOOK_S: Final = 0.5
"""How often it is looked at what a node takes, while it is not reached."""
SHARE: Final = 4
"""What part of the connections that there may be each of the ports takes: here each is three."""


def transport_of(settings: Settings, cluster_id: bytes | None) -> Transport:
    """What the settings ask for. `cluster_id`: the one of the data directory. Raises ConfigError."""
    if settings.security == "off":
        return PLAIN
    made = Tls if settings.security == "on" else Mixed
    return made(settings.tls_files, settings.node_id, cluster_id)


class Mixed(Tls):
    """See the module. Used on both loops."""

    def __init__(self, files: Files, node_id: int, cluster_id: bytes | None) -> None:
        super().__init__(files, node_id, cluster_id)
        self._relay = Relay()
        self._plain_at: set[str] = set()
        """Addresses that do not speak TLS."""
        self._dialled: WeakKeyDictionary[grpc.aio.Channel, tuple[str, bool]] = WeakKeyDictionary()
        self._looked_s: dict[str, float] = {}

    # --- dialling

    def dial(self, address: str, node_id: int, options: Options) -> grpc.aio.Channel:
        self._look_at(address)
        plain = address in self._plain_at
        channel = (PLAIN.dial if plain else super().dial)(address, node_id, options)
        self._dialled[channel] = (address, plain)
        return channel

    def is_stale(self, channel: grpc.aio.Channel) -> bool:
        if channel.get_state() is grpc.ChannelConnectivity.READY:
            return False
        address, plain = self._dialled[channel]
        self._look_at(address)
        return plain is not (address in self._plain_at) or (not plain and super().is_stale(channel))

    def not_reached(self, address: str, node_id: int) -> None:
        if address not in self._plain_at:
            super().not_reached(address, node_id)

    def _look_at(self, address: str) -> None:
        """In a thread of its own that nobody waits for."""
        now = time.monotonic()
        if now - self._looked_s.get(address, now - LOOK_S) >= LOOK_S:
            self._looked_s[address] = now
            threading.Thread(target=self._find_out, args=(address,), name="tls-look", daemon=True).start()

    def _find_out(self, address: str) -> None:
        encrypted = speaks_tls(address)
        if encrypted is None or encrypted is (address not in self._plain_at):
            return
        (self._plain_at.discard if encrypted else self._plain_at.add)(address)
        log.info("peer_takes", address=address, tls=encrypted)

    # --- being dialled

    def add_port(self, server: grpc.aio.Server, address: str, *, certified: bool = True) -> int:
        host, port = split_address(address)
        try:
            listening = bound(host, port)
        except OSError as error:
            raise RuntimeError(str(error)) from None
        plain_port = PLAIN.add_port(server, "127.0.0.1:0")
        tls_port = super().add_port(server, "127.0.0.1:0", certified=certified)
        self._relay.add(listening, plain_port, tls_port, max(16, of_process().connections // SHARE))
        made: int = listening.getsockname()[1]
        return made

    @property
    def takes_plain(self) -> bool:
        return True

    def is_encrypted(self, context: Context) -> bool:
        names: Any = context.auth_context()
        return b"ssl" in names.get("transport_security_type", ())

    def _identify(self, context: Context) -> Principal:
        return super()._identify(context) if self.is_encrypted(context) else ANONYMOUS

    def _caller(self, context: Context) -> int | None:
        return super()._caller(context) if self.is_encrypted(context) else None

"""Which address of a node a client of Kafka is told: it goes by how that client came in.

Each broker registers the address of each of its listeners for them, as `advertised.kafka` says or as `advertised.host`
has it. Where nobody has said what to advertise, two ways in are known to need another host. Who came over loopback is
on this machine: nodes whose registered host is this one's are on it, too. And who came through the gateway of this
container's network is on the machine that publishes its ports: nodes in containers of the same network are at
localhost, at the port that they have.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from node.metadata.image import Broker, Endpoint
from ottla.protocol.acls import address_in, address_of

LOCALHOST: Final = "localhost"
LOOK_S: Final = 2.0
"""How often names are looked up that nobody knew; and how long it may take."""
_CONTAINERS: Final = (".dockerenv", "run/.containerenv")


class Reach(NamedTuple):
    """How a client came in. `host`: under which it has nodes that are beside this one."""

    listener: str
    host: str = ""
    through_gateway: bool = False


class Network(NamedTuple):
    """A container's: its gateway, and what it reaches without it."""

    gateway: str
    nets: tuple[ipaddress.IPv4Network, ...]

    def has(self, address: str) -> bool:
        try:
            return any(ipaddress.IPv4Address(address) in net for net in self.nets)
        except ValueError:
            return False


def of_container(root: Path = Path("/")) -> Network | None:
    """The network of the container that this process runs in; None outside of one, and in one that uses the network of
    its machine, where a gateway is somebody else's."""
    if not any((root / name).exists() for name in _CONTAINERS):
        return None
    try:
        rows = [line.split() for line in (root / "proc/net/route").read_text().splitlines()[1:]]
    except OSError:
        return None
    gateway, nets = "", []
    for interface, destination, via, _, _, _, _, mask, *_ in rows:
        if via != "00000000" and mask == "00000000":
            if (root / "sys/class/net" / interface / "device").exists():
                return None
            gateway = _dotted(via)
        elif via == "00000000":
            nets.append(ipaddress.IPv4Network(f"{_dotted(destination)}/{_dotted(mask)}"))
    return Network(gateway, tuple(nets)) if gateway else None


def _dotted(hexadecimal: str) -> str:
    return socket.inet_ntoa(int(hexadecimal, 16).to_bytes(4, "little"))


class Addresses:
    """`own`: what this node registers. `said`: the listeners whose addresses somebody has chosen."""

    def __init__(self, own: Iterable[Endpoint] = (), said: Collection[str] = (), network: Network | None = None):
        self.network = network
        self._own = {at.name: at.host for at in own}
        self._said = said
        self._places: dict[str, bool] = {}
        """By host name: whether it is in this container's network."""

    def reach(self, listener: str, local: str, peer: str) -> Reach:
        """Of a client at `peer` that came in at the address `local`."""
        if listener in self._said or not address_in(local):
            return Reach(listener)
        if ipaddress.ip_address(address_of(local)).is_loopback:
            return Reach(listener, address_of(local))
        if self.network is not None and address_of(peer) == self.network.gateway:
            return Reach(listener, LOCALHOST, through_gateway=True)
        return Reach(listener)

    def seen(self, broker: Broker, reach: Reach) -> tuple[str, int] | None:
        """Where a client finds a broker; None where that has no such listener."""
        at = broker.endpoint(reach.listener)
        if at is None:
            return None
        return (reach.host if reach.host and self._is_beside(at, reach) else at.host, at.port)

    def _is_beside(self, at: Endpoint, reach: Reach) -> bool:
        """A name that nobody in this network knows, as of a container that has just gone, is no other machine's."""
        return self._places.get(at.host, True) if reach.through_gateway else at.host == self._own.get(at.name)

    async def look_up(self, hosts: Iterable[str]) -> None:
        """Where nodes are that registered these hosts. Takes a while where names are not known."""
        if self.network is not None:
            wanted = {host for host in hosts if host not in self._places}
            await asyncio.gather(*(self._look_up(host, self.network) for host in wanted))

    async def _look_up(self, host: str, network: Network) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                found = await asyncio.get_running_loop().getaddrinfo(host, None, family=socket.AF_INET)
        except (OSError, TimeoutError):
            return
        self._places[host] = all(network.has(str(at[0])) for *_, at in found)

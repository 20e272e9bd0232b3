"""The port for clients of Kafka, open from the start; what serves them is loaded when the first of them comes.

Fifty modules of codecs would be a tenth of the memory and of the start of a node that never has such a client. Until
they are there, which takes a fraction of a second and no turn of the loop, clients wait in the system's backlog.

So they do while the node starts: before it has its own registration, what it knows of the cluster is from an earlier
time, or nothing, and a client that is told of no topic fails its sends for good. Whoever has waited for seconds is
turned away, to ask another node.
"""

import asyncio
import contextlib
import importlib
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from node import process

if TYPE_CHECKING:
    import ssl

    from node.kafka.service import KafkaService

BACKLOG: Final = 512
HOLD_S: Final = 5.0
"""Less than clients wait for the first answer: librdkafka ten seconds."""


class KafkaPort:
    """Used on the data loop. `make` is called when clients come and `node.kafka.service` is imported; they are served
    once the node `is_part` of its cluster, which is asked again after each `changed` (given seconds). `tls`: what the
    next client uses; `takes_plain`: or it uses none."""

    def __init__(
        self,
        make: "Callable[[], KafkaService]",
        is_part: Callable[[], bool],
        changed: Callable[[float], Awaitable[None]],
        tls: "Callable[[], ssl.SSLContext] | None" = None,
        *,
        takes_plain: bool = False,
    ) -> None:
        self._make = make
        self._is_part = is_part
        self._changed = changed
        self._tls = tls
        self._takes_plain = takes_plain
        self._sockets: list[tuple[str, socket.socket]] = []
        self._service: KafkaService | None = None

    async def open(self, name: str, host: str, port: int) -> None:
        """One more listener. Raises OSError that names it where the address cannot be had."""
        try:
            self._sockets += [(name, each) for each in await _bound(host.strip("[]"), port)]
        except OSError as error:
            raise OSError(f"the {name} listener cannot have {host}:{port}: {error.strerror or error}") from None

    async def run(self) -> None:
        """Serves whoever comes, until cancelled."""
        await self._somebody()
        await asyncio.to_thread(importlib.import_module, "node.kafka.service")
        await self._until_part()
        self._service = self._make()
        process.settle()
        sockets, self._sockets = self._sockets, []
        await self._service.start(sockets, self._tls, takes_plain=self._takes_plain)
        await self._service.run()

    async def _somebody(self) -> None:
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        for _, each in self._sockets:
            loop.add_reader(each, came.set)
        try:
            await came.wait()
        finally:
            for _, each in self._sockets:
                loop.remove_reader(each)

    async def _until_part(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HOLD_S
        while not self._is_part():
            await self._changed(max(0.0, deadline - loop.time()))
            if loop.time() >= deadline:
                self._turn_away()
                deadline = loop.time() + HOLD_S

    def _turn_away(self) -> None:
        for _, each in self._sockets:
            with contextlib.suppress(OSError):
                for _ in range(BACKLOG):
                    each.accept()[0].close()

    async def stop(self) -> None:
        for _, each in self._sockets:
            each.close()
        if self._service is not None:
            await self._service.stop()


async def _bound(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen at all addresses of the host. :: is IPv4, too, as it is to gRPC."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(
        None if host == "*" else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    made: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(infos):
            made.append(_listening(family, kind, protocol, address, alone=len(infos) > 1))
    except BaseException:
        for each in made:
            each.close()
        raise
    return made


def _listening(family: int, kind: int, protocol: int, address: Any, *, alone: bool) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(alone))
        made.setblocking(False)
        made.bind(address)
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made

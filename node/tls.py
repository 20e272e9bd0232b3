"""Certificates of a node: both sides of every connection have one, and new files are taken without a restart.

A certificate is looked at when a connection is made. So one that stands outlives its certificate, and a channel whose
connection broke must be made anew to use what is on disk now: that is what `is_stale` is for.
"""

import asyncio
import datetime
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final
from weakref import WeakSet

import grpc
import structlog

from node import principal
from node.config import ConfigError
from node.principal import Principal
from node.relay import peer
from node.transport import Context, Options
from ottla.protocol.errors import ApiError
from ottla.secure import judge
from ottla.secure.diagnosis import Shown, diagnose
from ottla.secure.names import CertificateError, Files, NodeName, node_name
from ottla.v1 import error_pb2 as pb

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
"""How often the files are looked at."""
REMIND_S: Final = 86_400.0
EXPLAIN_S: Final = 10.0
"""How often one log line says why a node is not reached."""
UNEXPLAINED_S: Final = 2.0
"""How often that is looked for where nothing was found."""

_Stamps = tuple[tuple[int, int, int], ...]


class _Listened:
    """What a listener that is not gRPC's uses: made anew with new files, so that who is trusted no more is not."""

    def __init__(self, certified: bool | None) -> None:
        import ssl

        self._verify = {True: ssl.CERT_REQUIRED, False: ssl.CERT_NONE, None: ssl.CERT_OPTIONAL}[certified]
        self.context: Any = None

    def load(self, files: Files) -> None:
        """Raises OSError for files that do not fit."""
        import ssl

        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.verify_mode = self._verify
        made.load_cert_chain(files.cert, files.key)
        made.load_verify_locations(files.ca)
        self.context = made


class Tls:
    """See the module. Made before the loops run; `watch` is a task of the control loop."""

    def __init__(self, files: Files, node_id: int, cluster_id: bytes | None) -> None:
        """Raises ConfigError for files that cannot work. Dates are no reason: a clock may be wrong, and files may be
        replaced at any time."""
        self._files = files
        self._node_id = node_id
        self._fresh: WeakSet[grpc.aio.Channel] = WeakSet()
        self._explained: dict[str, float] = {}
        self._listened: list[_Listened] = []
        self._stamps = _stamps(files)
        try:
            holder = judge.examine(files, judge.utc_now())
        except CertificateError as error:
            raise ConfigError(f"security is on: {error.message}; {error.next_step}") from None
        wrong = self._unfit(holder)
        node = None if holder.certificate is None else holder.certificate.node
        if not wrong and node is not None and cluster_id is not None and node.cluster_id != cluster_id.hex():
            wrong = [
                f"{files.cert} is for cluster {node.cluster_id}, the data directory belongs to {cluster_id.hex()}: "
                "make certificates with `ottla secure init --cluster-id`, or check data.dir"
            ]
        if wrong or node is None:
            raise ConfigError("\n".join(wrong))
        self._cluster_id = node.cluster_id
        self._take(holder)

    @property
    def cluster_id(self) -> bytes | None:
        return bytes.fromhex(self._cluster_id)

    @property
    def expires(self) -> datetime.datetime:
        """When this node's certificate does."""
        return self._certificate.not_after

    # --- files

    def _unfit(self, holder: judge.Holder) -> list[str]:
        """Why these files are not this node's."""
        node = None if holder.certificate is None else holder.certificate.node
        if holder.problems or holder.certificate is None:
            return list(holder.problems)
        if node is None or node.node_id != self._node_id:
            whose = "no node's" if node is None else f"node {node.node_id}'s"
            return [
                f"{holder.files.cert} is {whose} certificate, and this is node {self._node_id}: it needs the name "
                f"node-{self._node_id}.<cluster id>.ottla.internal"
            ]
        return []

    def _take(self, holder: judge.Holder) -> None:
        assert holder.certificate is not None
        ca, cert, key = (path.read_bytes() for path in self._files)
        self._configuration = grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=ca)
        self._credentials = grpc.ssl_channel_credentials(ca, key, cert)
        self._certificate = holder.certificate
        self._fresh = WeakSet()
        for listened in self._listened:
            listened.load(self._files)
        log.info(
            "certificate_taken",
            cert=str(self._files.cert),
            expires=f"{self.expires:%Y-%m-%dT%H:%M:%SZ}",
            fingerprint=holder.certificate.fingerprint,
            trusts=[judge.describe(each).fingerprint[:16] for each in judge.load(self._files.ca)],
        )
        self._remind(holder)

    def _remind(self, holder: judge.Holder) -> None:
        self._reminded_s = time.monotonic()
        for text in holder.dated:
            log.error("certificate_not_valid", problem=text, next_step="ottla secure renew")
        for text in holder.warnings:
            log.warning("certificate_warning", warning=text)

    async def watch(self) -> None:
        """Takes new files, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Takes the files if they have changed and fit; says once why not, and goes on with what it has."""
        stamps = _stamps(self._files)
        if stamps == self._stamps:
            if time.monotonic() - self._reminded_s > REMIND_S:
                self._remind(judge.examine(self._files, judge.utc_now()))
            return
        self._stamps = stamps
        holder = judge.examine(self._files, judge.utc_now())
        wrong = self._unfit(holder)
        node = None if holder.certificate is None else holder.certificate.node
        if not wrong and node is not None and node.cluster_id != self._cluster_id:
            wrong = [f"{self._files.cert} is for cluster {node.cluster_id}, this node is of {self._cluster_id}"]
        if wrong:
            log.error("certificate_not_taken", problems=wrong, goes_on_until=f"{self.expires:%Y-%m-%dT%H:%M:%SZ}")
            return
        try:
            self._take(holder)
        except OSError as error:  # replaced between two looks at them; what does not fit together is of this kind, too
            self._stamps = ()
            log.error(
                "certificate_not_taken", problems=[str(error)], goes_on_until=f"{self.expires:%Y-%m-%dT%H:%M:%SZ}"
            )

    # --- dialling

    def dial(self, address: str, node_id: int, options: Options) -> grpc.aio.Channel:
        name = str(NodeName(node_id, self._cluster_id))
        channel = grpc.aio.secure_channel(
            address, self._credentials, options=[*options, ("grpc.ssl_target_name_override", name)]
        )
        self._fresh.add(channel)
        return channel

    def is_stale(self, channel: grpc.aio.Channel) -> bool:
        return channel not in self._fresh and channel.get_state() is not grpc.ChannelConnectivity.READY

    def not_reached(self, address: str, node_id: int) -> None:
        now = time.monotonic()
        if now - self._explained.get(address, now - EXPLAIN_S) < EXPLAIN_S:
            return
        self._explained[address] = now
        # A thread of its own that nobody waits for: an address that swallows packets must not hold up the end.
        threading.Thread(target=self._explain, args=(address, node_id), name="tls-explain", daemon=True).start()

    def _explain(self, address: str, node_id: int) -> None:
        cause = diagnose(address, Shown(*self._files), str(NodeName(node_id, self._cluster_id)))
        if cause is not None:
            log.warning("peer_not_trusted", node_id=node_id, address=address, reason=str(cause))
        else:
            # It may have been too busy to say.
            self._explained[address] = time.monotonic() - EXPLAIN_S + UNEXPLAINED_S

    # --- being dialled

    def add_port(self, server: grpc.aio.Server, address: str, *, certified: bool = True) -> int:
        given = self._configuration

        def newer() -> Any:
            """Called by gRPC for each handshake, in a thread of its own."""
            nonlocal given
            if self._configuration is given:
                return None
            given = self._configuration
            return given

        credentials = grpc.dynamic_ssl_server_credentials(given, newer, require_client_authentication=certified)
        return server.add_secure_port(address, credentials)

    def context(self, *, certified: bool | None) -> Callable[[], Any]:
        """What a listener that is not gRPC's uses for the next connection. `certified`: clients show a certificate;
        None: if they have one."""
        made = _Listened(certified)
        made.load(self._files)
        self._listened.append(made)
        return lambda: made.context

    @property
    def takes_plain(self) -> bool:
        """Whether who comes without TLS is let in, too."""
        return False

    def is_encrypted(self, context: Context) -> bool:
        return True

    @property
    def caller(self) -> Callable[[Context], int | None] | None:
        return self._caller

    @property
    def identify(self) -> Callable[[Context], Principal] | None:
        return self._identify

    def _identify(self, context: Context) -> Principal:
        names: Any = context.auth_context()
        return self._node_of(names) or principal.user(_common_name(names))

    def holder(self, certificate: Any) -> Principal:
        """Whom a certificate is for, as `ssl` tells of it."""
        dns = [name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"]
        common = "".join(value for part in certificate.get("subject", ()) for key, value in part if key == "commonName")
        return self._node_named(dns) or principal.user(common)

    def _node_of(self, names: Any) -> Principal | None:
        return self._node_named(name.decode("ascii", "replace") for name in names.get("peer_dns", ()))

    def _node_named(self, dns_names: Iterable[str]) -> Principal | None:
        for name in dns_names:
            node = node_name(name)
            if node is not None and node.cluster_id == self._cluster_id:
                return principal.node(node.node_id)
        return None

    def _caller(self, context: Context) -> int | None:
        names: Any = context.auth_context()
        node = self._node_of(names)
        if node is not None:
            return int(node.name)
        common = _common_name(names)
        log.warning("peer_is_no_node", peer=peer(context), name=common)
        raise ApiError(
            pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED,
            f"this listener of node {self._node_id} is for nodes of cluster {self._cluster_id}; the certificate of "
            f"{common[:100]!r} is not that of one",
        )


def _common_name(names: Any) -> str:
    return b"".join(names.get("x509_common_name", ())).decode("utf-8", "replace")


def _stamps(files: Files) -> _Stamps:
    found = []
    for path in files:
        try:
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        except OSError:
            found.append((0, 0, 0))
    return tuple(found)

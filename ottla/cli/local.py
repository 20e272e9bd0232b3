"""A cluster of node processes on this machine, on loopback only: for `ottla dev` and for the demo."""

import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ottla import server
from ottla.cli.failure import Failure

HOST: Final = "127.0.0.1"
KAFKA: Final = "clients of Kafka"
# Offsets of a node's listeners from its port for gRPC.
LISTENERS: Final = {"clients": 0, "control": 100, "replication": 200, "http": 300, KAFKA: -100}
BASE_PORT: Final = 9192
NODES_MAX: Final = 9
BASE_PORT_MIN: Final = 1 - LISTENERS[KAFKA]
BASE_PORT_MAX: Final = 65535 - LISTENERS["http"] - NODES_MAX
KAFKA_PORT_MAX: Final = 65535 - NODES_MAX
_OFF: Final = "off"
# A controlled stop may take a node 15 s, but one whose peers stop too has nobody to hand over to.
STOP_S: Final = 5.0
KILL_S: Final = 3.0
_LOG_LINES_SHOWN: Final = 15


@dataclass
class LocalNode:
    """One node of the cluster: where it lives, and its process while this program runs it."""

    node_id: int
    directory: Path
    port: int
    kafka_port: int | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"{HOST}:{self.port}"

    @property
    def kafka_address(self) -> str | None:
        """Where clients of Kafka reach it, if they do."""
        return None if self.kafka_port is None else f"{HOST}:{self.kafka_port}"

    @property
    def ports(self) -> dict[str, int]:
        """Of each of its listeners, by what it is for."""
        ports = {use: self.port + distance for use, distance in LISTENERS.items() if use != KAFKA}
        return ports if self.kafka_port is None else ports | {KAFKA: self.kafka_port}

    @property
    def config(self) -> Path:
        return self.directory / f"node-{self.node_id}.toml"

    @property
    def log(self) -> Path:
        return self.directory / f"node-{self.node_id}.log"

    @property
    def command(self) -> str:
        """What starts it by hand."""
        return f"ottla node --config {shlex.quote(str(self.config))}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def state(self) -> str:
        """`runs`, or how it ended."""
        code = None if self.process is None else self.process.poll()
        if code is None:
            return "runs" if self.running else "was not started"
        return f"ended with signal {-code}" if code < 0 else f"ended with exit code {code}"

    def ready(self) -> bool:
        """Whether /readyz says yes: registered, unfenced, caught up."""
        return self.ask("GET", "/readyz", 1) == 200

    def ask(self, method: str, path: str, timeout_s: float) -> int | None:
        """The status that the HTTP listener answers with; None without an answer. Never through a proxy, whatever the
        environment says: this is loopback."""
        connection = http.client.HTTPConnection(HOST, self.port + LISTENERS["http"], timeout=timeout_s)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def last_log_lines(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(f"  {line}" for line in lines[-_LOG_LINES_SHOWN:])


class LocalCluster:
    """Nodes 1..n below one directory; node i serves gRPC at `base_port` + i - 1, and clients of Kafka 100 below.

    Use it as a context manager: leaving it stops every process that it started. If this program is killed itself, Linux
    stops them.
    """

    def __init__(
        self,
        nodes: int,
        directory: Path,
        base_port: int | None,
        settings: Mapping[str, str | int | bool] | None = None,
        *,
        flags: Sequence[str] = (),
        environment: Callable[[int], Mapping[str, str]] = lambda _: {},
        orphaned: signal.Signals = signal.SIGTERM,
        certificates: Path | None = None,
        kafka_port: int | None = None,
    ) -> None:
        """`base_port`: None for the one that the directory's cluster had when it last ran, else 9192. `certificates`:
        with TLS, from a directory of `ottla secure`. `kafka_port`: the first node's for clients of Kafka, 0 for none;
        None for what the directory's cluster had, else 100 below the base port. `flags` and `environment` (by node id)
        are a node's besides its config file; `orphaned` is the signal it gets when this program is killed."""
        if not 1 <= nodes <= NODES_MAX:
            raise Failure("INVALID_CONFIG", f"{nodes} nodes were asked for", f"ask for 1 to {NODES_MAX}")
        self.directory = directory
        if base_port is None:
            base_port = self.port_before() or BASE_PORT
        if not BASE_PORT_MIN <= base_port <= BASE_PORT_MAX:
            raise Failure(
                "INVALID_CONFIG",
                f"base port {base_port} does not work",
                f"choose {BASE_PORT_MIN} to {BASE_PORT_MAX} with --base-port",
            )
        first = kafka_port
        if first is None:
            before = _kafka_port_before(directory)
            first = base_port + LISTENERS[KAFKA] if before is None else before
        _check_kafka_port(first, nodes, base_port)
        self.nodes = [
            LocalNode(i, directory, base_port + i - 1, first + i - 1 if first else None) for i in range(1, nodes + 1)
        ]
        self._settings = dict(settings or {})
        self._flags = flags
        self._environment = environment
        self._orphaned = orphaned
        self._certificates = certificates

    def __enter__(self) -> "LocalCluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_secure(self) -> bool:
        return self._certificates is not None

    @property
    def bootstrap(self) -> str:
        """The client addresses of all nodes, for `--bootstrap`."""
        return ",".join(node.address for node in self.nodes)

    @property
    def kafka_bootstrap(self) -> str | None:
        """The addresses of all nodes for clients of Kafka, if they are served."""
        return ",".join(node.kafka_address for node in self.nodes if node.kafka_address) or None

    def start(self) -> None:
        """Checks ports and directory, writes the configs, starts every node. Raises Failure before any process runs."""
        server.require()
        for node in self.nodes:
            check_ports(node)
        self.write_configs()
        for node in self.nodes:
            self.start_node(node)

    def port_before(self) -> int | None:
        """The base port of the cluster in the directory when it last ran; None if there is none, or none that says."""
        port = _written_before(self.directory, "base", "port")
        return port if isinstance(port, int) else None

    def write_configs(self) -> None:
        """Writes every node's file. Raises Failure where the directory holds a cluster of another size."""
        found = len(list(self.directory.glob("node-*.toml")))
        if found not in (0, len(self.nodes)):
            raise Failure(
                "INVALID_CONFIG",
                f"{self.directory} holds a cluster of {found} nodes, {len(self.nodes)} were asked for",
                f"start it with --nodes {found}, or choose another --data-dir",
            )
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for node in self.nodes:
            node.config.write_text(self._config_of(node))

    def start_node(self, node: LocalNode) -> None:
        """Starts one process; its output goes to the end of its log file."""
        with node.log.open("ab") as log:
            child = [sys.executable, "-P", "-m", "ottla.cli.child", str(os.getpid()), str(int(self._orphaned))]
            node.process = subprocess.Popen(
                [*child, *server.command("node")[1:], "--config", str(node.config), *self._flags],
                env={**os.environ, **self._environment(node.node_id)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A session of its own: Ctrl-C in the terminal reaches this program alone, which then stops the nodes.
                start_new_session=True,
            )

    def wait_ready(self, timeout_s: float, on_ready: Callable[[LocalNode], None] = lambda _: None) -> None:
        """Returns when every node is ready; Failure with the end of a node's log when one ends or time runs out."""
        deadline = time.monotonic() + timeout_s
        waiting = list(self.nodes)
        while waiting:
            for node in list(waiting):
                if not node.running:
                    self._fail("NODE_FAILED", node, f"node {node.node_id} {node.state}")
                if node.ready():
                    waiting.remove(node)
                    on_ready(node)
            if waiting and time.monotonic() > deadline:
                node = waiting[0]
                self._fail("NODE_FAILED", node, f"node {node.node_id} was not ready after {timeout_s:.0f} s")
            time.sleep(0.05)

    def kill(self, node: LocalNode) -> None:
        """kill -9, and waits until the process is gone."""
        if node.process is not None:
            node.process.kill()
            node.process.wait()

    def stop(self) -> None:
        """Ends every process: SIGTERM, a second one after 5 s (a node then leaves at once), SIGKILL 3 s later.

        Ctrl-C while it waits goes straight to SIGKILL.
        """
        running = [node.process for node in self.nodes if node.process is not None and node.running]
        try:
            for patience_s in (STOP_S, KILL_S):
                for process in running:
                    process.terminate()
                if _all_end(running, patience_s):
                    return
        finally:
            for process in running:
                process.kill()
                process.wait()

    def _config_of(self, node: LocalNode) -> str:
        voters = [f"{other.node_id}@{HOST}:{other.port + LISTENERS['control']}" for other in self.nodes]
        settings: dict[str, object] = {
            "node.id": node.node_id,
            "data.dir": str((self.directory / f"node-{node.node_id}").resolve()),
            "base.port": self.nodes[0].port,
            "controller.quorum.voters": voters,
            "controller.quorum.auto.join.enable": True,
            **self._settings,
        }
        if node.kafka_port != node.port + LISTENERS[KAFKA]:
            settings["listeners.kafka"] = node.kafka_address or _OFF
        if self._certificates is not None:
            settings |= {
                "security": "on",
                "tls.dir": str((self._certificates / f"node-{node.node_id}").resolve()),
            }
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        return "\n".join(["# Written by `ottla dev`, which writes it again at its next start.", *lines, ""])

    def _fail(self, code: str, node: LocalNode, message: str) -> None:
        raise Failure(code, f"{message}; the end of {node.log}:\n{node.last_log_lines()}", "correct it and start again")


def end_as_with_ctrl_c() -> None:
    """Lets SIGTERM and SIGHUP end this program as Ctrl-C does: in order, with every node stopped. Also where a shell
    has started it in the background and so without SIGINT. What `nohup` has it ignore it ignores."""
    signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _end)


def _end(number: int, _: object) -> None:
    if number == signal.SIGHUP:
        # A closed terminal sends more than one, and a second Ctrl-C would mean: at once.
        signal.signal(number, signal.SIG_IGN)
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    if callable(on_ctrl_c):
        on_ctrl_c(number, None)  # asyncio's, or the one that raises
        return
    raise KeyboardInterrupt


def check_ports(node: LocalNode) -> None:
    """Raises PORT_TAKEN with the port and its use where one of a node's ports cannot be bound."""
    for use, port in node.ports.items():
        if not _is_free(port):
            options = "--kafka-port (0: none)" if use == KAFKA else "--base-port"
            raise Failure(
                "PORT_TAKEN",
                f"port {port} on {HOST} is in use; node {node.node_id} needs it for {use}",
                f"stop what uses it, or choose other ports with {options}",
            )


def _check_kafka_port(first: int, nodes: int, base_port: int) -> None:
    """Raises Failure where it cannot be a port, or one of the cluster's own is among them."""
    if not 0 <= first <= KAFKA_PORT_MAX:
        raise Failure(
            "INVALID_CONFIG",
            f"port {first} for clients of Kafka does not work",
            f"choose 1 to {KAFKA_PORT_MAX}, or 0 for none",
        )
    for use, distance in LISTENERS.items():
        if use != KAFKA and first and abs(first - base_port - distance) < nodes:
            raise Failure(
                "INVALID_CONFIG",
                f"clients of Kafka cannot have {_span(first, nodes)}: "
                f"the nodes need {_span(base_port + distance, nodes)} for {use}",
                f"choose others with --kafka-port, as {base_port + LISTENERS[KAFKA]}, or with --base-port",
            )


def _span(first: int, nodes: int) -> str:
    return f"port {first}" if nodes == 1 else f"ports {first} to {first + nodes - 1}"


def _kafka_port_before(directory: Path) -> int | None:
    """0 where clients of Kafka were to have none; None where nothing is said of it."""
    address = _written_before(directory, "listeners", "kafka")
    if address == _OFF:
        return 0
    port = address.rpartition(":")[2] if isinstance(address, str) else ""
    return int(port) if port.isdecimal() else None


def _written_before(directory: Path, section: str, key: str) -> object:
    """What the first node's config says, as it last ran; None where it says nothing, or is none."""
    try:
        return tomllib.loads((directory / "node-1.toml").read_text())[section][key]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def free_base_port(nodes: int, candidates: Sequence[int]) -> int:
    """The first candidate at which every port of that many nodes is free now."""
    for base in candidates:
        if all(_is_free(base + i + distance) for i in range(nodes) for distance in LISTENERS.values()):
            return base
    count = len(LISTENERS) * nodes
    raise Failure("PORT_TAKEN", f"no {count} free ports were found on {HOST}", "stop what uses them")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _all_end(processes: Sequence[subprocess.Popen[bytes]], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
    return True

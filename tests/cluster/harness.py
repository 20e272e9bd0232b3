"""Real node processes on loopback, for tests: start, kill -9, freeze, stop, restart, and read what they logged."""

import fcntl
import http.client
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO, Final, Self, TypeVar

import grpc

from ottla.v1 import admin_pb2, admin_pb2_grpc, cluster_pb2, cluster_pb2_grpc, data_pb2_grpc
from tests.cluster.nursery import Forked, nursery

Found = TypeVar("Found")
READY_S: Final = 20.0
STOP_S: Final = 25.0
ROOT: Final = Path(__file__).resolve().parents[2]
_OFFSETS: Final = {"public": 0, "control": 100, "replication": 200, "http": 300, "kafka": -100}


@dataclass
class Node:
    """One node: where it keeps its data, how it is started, and its process while it runs."""

    node_id: int
    base_port: int
    directory: Path
    settings: Mapping[str, object]
    process: subprocess.Popen[bytes] | Forked | None = None
    paused: bool = False
    starts: int = field(default=0)
    environment: Mapping[str, str] = field(default_factory=dict)
    flags: Sequence[str] = ()
    sources: Path = ROOT
    """The build: where its packages are."""
    by_command: bool = False
    """Whether it is started as its command line would, and not from the nursery."""

    def address(self, listener: str = "public") -> str:
        return f"127.0.0.1:{self.base_port + _OFFSETS[listener] + self.node_id - 1}"

    @property
    def log_path(self) -> Path:
        return self.directory / "node.log"

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def arguments(self) -> list[str]:
        settings = [argument for key, value in self.settings.items() for argument in ("--set", f"{key}={value}")]
        return [*self.flags, *settings]

    @property
    def command(self) -> list[str]:
        """What starts it."""
        return [sys.executable, "-m", "node", *self.arguments]

    def start(self) -> None:
        assert not self.running, f"node {self.node_id} runs already"
        self.directory.mkdir(parents=True, exist_ok=True)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("OTTLA_")}
        if environ.pop("PYTHONDONTWRITEBYTECODE", None):
            # Compiling a hundred modules at each start would be most of its time.
            environ["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "ottla-pycache")
        environ |= self.environment
        self.starts += 1
        # gRPC reads its environment when it is imported.
        if not (self.by_command or self.environment or self.sources != ROOT):
            self.process = nursery().start(self.arguments, self.log_path, environ)
            return
        with self.log_path.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, cwd=self.sources, env=environ, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until the process is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self.paused = False

    def stop(self, timeout_s: float = STOP_S) -> int:
        """SIGTERM: a controlled stop. Returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout_s)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        self.signal(signal.SIGCONT)
        self.paused = False

    def _open(self, request: urllib.request.Request | str, timeout_s: float) -> http.client.HTTPResponse:
        """With security on health is told without TLS, too; the node's own certificate opens all else."""
        directory = self.settings.get("tls.dir")
        url = request if isinstance(request, str) else request.full_url
        if not url.startswith("https:"):
            return urllib.request.urlopen(request, timeout=timeout_s)  # type: ignore[no-any-return]
        context = ssl.create_default_context(cafile=str(Path(str(directory)) / "ca.crt"))
        with suppress(OSError):  # while somebody replaces them
            context.load_cert_chain(Path(str(directory)) / "tls.crt", Path(str(directory)) / "tls.key")
        return urllib.request.urlopen(request, timeout=timeout_s, context=context)  # type: ignore[no-any-return]

    def _url(self, path: str) -> str:
        plain = self.settings.get("security", "off") == "off" or path in ("/healthz", "/readyz")
        return f"{'http' if plain else 'https'}://{self.address('http')}{path}"

    def http(self, path: str, timeout_s: float = 1.0) -> tuple[int, str]:
        """(status, body); status 0 where nobody answers."""
        try:
            with self._open(self._url(path), timeout_s) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def hook(self, query: str) -> None:
        """Sets a fault (node/hooks.py) in a node that was started with `--test-hooks`; gone with the process."""
        request = urllib.request.Request(self._url("/hooks") + f"?{query}", method="POST")
        with self._open(request, 5) as reply:
            reply.read()

    @property
    def ready(self) -> bool:
        return self.running and not self.paused and self.http("/readyz")[0] == 200


class LocalCluster:
    """Nodes 1..n on free loopback ports. A context manager: leaves no process behind."""

    def __init__(
        self, directory: Path, nodes: int = 3, settings: Mapping[str, object] | None = None, *, kafka: bool = False
    ) -> None:
        base_port = free_base_port(nodes)
        ids = range(1, nodes + 1)
        voters = ",".join(f"{i}@127.0.0.1:{base_port + 100 + i - 1}" for i in ids)
        self.nodes = {
            i: Node(
                i,
                base_port,
                directory / f"node-{i}",
                {
                    "node.id": i,
                    "data.dir": directory / f"node-{i}" / "data",
                    "base.port": base_port,
                    "controller.quorum.voters": voters,
                    **({} if kafka else {"listeners.kafka": "off"}),
                    **(settings or {}),
                },
            )
            for i in ids
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, node_id: int) -> Node:
        return self.nodes[node_id]

    def start(self, ids: Iterable[int] | None = None) -> Self:
        """Starts these nodes (all by default) in the given order, without waiting."""
        for node_id in ids or self.nodes:
            self.nodes[node_id].start()
        return self

    def wait_ready(self, ids: Iterable[int] | None = None, timeout_s: float = READY_S) -> float:
        """Waits until these nodes are registered, unfenced and caught up. Returns the seconds it took."""
        started = time.monotonic()
        waiting = set(ids or (i for i, node in self.nodes.items() if node.running))
        while waiting:
            for node_id in sorted(waiting):
                node = self.nodes[node_id]
                if not node.running:
                    raise AssertionError(f"node {node_id} ended: {self.tail(node_id)}")
                if node.ready:
                    waiting.discard(node_id)
            if not waiting:
                break
            if time.monotonic() - started > timeout_s:
                why = {i: self.nodes[i].http("/readyz") for i in sorted(waiting)}
                for node_id in why:
                    self.nodes[node_id].signal(signal.SIGUSR1)
                time.sleep(0.2)
                tails = "\n".join(f"--- node {i}: /readyz {why[i]}\n{self.tail(i, 80)}" for i in why)
                raise AssertionError(f"nodes {sorted(waiting)} are not ready after {timeout_s} s\n{tails}")
            time.sleep(0.02)
        return time.monotonic() - started

    def wait_all_known(self) -> None:
        """Waits until each running node tells clients of all of them: some clients take what they hear first for
        all that there is."""
        ids = [i for i, node in self.nodes.items() if node.running]
        eventually(lambda: [self._live_at(i) for i in ids], [ids] * len(ids))

    def _live_at(self, node_id: int) -> list[int]:
        return sorted(each.node_id for each in self.metadata(node_id).brokers if not each.fenced)

    def add_broker(self, node_id: int) -> Node:
        """One more node, which is not among the voters; not started yet."""
        pattern = self.nodes[1]
        directory = pattern.directory.parent / f"node-{node_id}"
        settings = {**pattern.settings, "node.id": node_id, "data.dir": directory / "data"}
        self.nodes[node_id] = Node(node_id, pattern.base_port, directory, settings)
        return self.nodes[node_id]

    def tail(self, node_id: int, lines: int = 30) -> str:
        return "\n".join(self.nodes[node_id].log().splitlines()[-lines:])

    @property
    def kafka_bootstrap(self) -> list[str]:
        return [node.address("kafka") for node in self.nodes.values()]

    @property
    def bootstrap(self) -> str:
        return ",".join(node.address() for node in self.nodes.values())

    def close(self) -> None:
        for node in self.nodes.values():
            if node.running:
                if node.paused:
                    node.resume()
                node.kill()

    # --- asking and changing the cluster, synchronously

    @contextmanager
    def channel(self, node_id: int, listener: str = "public") -> Iterator[grpc.Channel]:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 * 2**20)]
        with grpc.insecure_channel(self.nodes[node_id].address(listener), options=options) as channel:
            yield channel

    def metadata(self, node_id: int, *topics: str) -> cluster_pb2.Metadata:
        with self.channel(node_id) as channel:
            stub = cluster_pb2_grpc.ClusterServiceStub(channel)
            return stub.GetMetadata(cluster_pb2.GetMetadataRequest(topics=topics), timeout=5)

    def why(self, via: int, **subject: object) -> tuple[str, str]:
        """(state, cause) that a node gives for a topic's most urgent partition, a node or a group."""
        with self.channel(via) as channel:
            request = cluster_pb2.ExplainRequest(**subject)  # type: ignore[arg-type]
            answer = cluster_pb2_grpc.ClusterServiceStub(channel).Explain(request, timeout=5)
        assert not answer.HasField("error"), answer.error
        return answer.explanations[0].state, answer.explanations[0].cause

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replication_factor: int = 3,
        *,
        via: int = 1,
        replicas: Sequence[int] = (),
        **configs: str,
    ) -> bytes:
        """Creates a topic through a node and returns its id. `replicas`: one partition, with these, the leader first.
        Configs: underscores for dots.
        """
        request = admin_pb2.CreateTopicsRequest(
            topics=[
                admin_pb2.NewTopic(
                    name=name,
                    num_partitions=None if replicas else partitions,
                    replication_factor=None if replicas else replication_factor,
                    assignments=[admin_pb2.ReplicaAssignment(partition=0, replicas=replicas)] if replicas else (),
                    configs={key.replace("_", "."): value for key, value in configs.items()},
                )
            ]
        )
        with self.channel(via) as channel:
            result = admin_pb2_grpc.AdminServiceStub(channel).CreateTopics(request, timeout=20).topics[0]
        assert not result.HasField("error"), result.error
        return result.topic_id

    def leader(self, topic: str, partition: int = 0, *, via: int | None = None, timeout_s: float = 15.0) -> int:
        """The partition's leader, as soon as there is one."""
        deadline = time.monotonic() + timeout_s
        while True:
            for node_id in [via] if via else [i for i, n in self.nodes.items() if n.running and not n.paused]:
                try:
                    found = self.metadata(node_id, topic).topics[0].partitions[partition]
                except (grpc.RpcError, IndexError):
                    continue
                if found.HasField("leader_id"):
                    return found.leader_id
            assert time.monotonic() < deadline, f"{topic}-{partition} has no leader after {timeout_s} s"
            time.sleep(0.02)

    def controller(self, timeout_s: float = 10.0) -> int:
        """The active controller's id, as soon as a node knows it."""
        deadline = time.monotonic() + timeout_s
        while True:
            for node in self.nodes.values():
                if node.running and not node.paused:
                    try:
                        metadata = self.metadata(node.node_id)
                    except grpc.RpcError:
                        continue
                    if metadata.HasField("controller_id") and self.nodes[metadata.controller_id].running:
                        return metadata.controller_id
            assert time.monotonic() < deadline, f"no active controller after {timeout_s} s"
            time.sleep(0.02)


def eventually(look: Callable[[], Found], expected: Found, timeout_s: float = 10.0) -> None:
    """Waits until `look` finds what is expected."""
    deadline = time.monotonic() + timeout_s
    while (found := look()) != expected:
        assert time.monotonic() < deadline, f"after {timeout_s} s there is {found!r}, not {expected!r}"
        time.sleep(0.02)


def data_stub(channel: grpc.Channel) -> data_pb2_grpc.DataServiceStub:
    return data_pb2_grpc.DataServiceStub(channel)


def free_base_port(nodes: int) -> int:
    """A base port whose five ports per node are all free, in a block that no other test process takes from meanwhile;
    below the range of outgoing connections. What was given last is given again last."""
    for _ in range(200):
        base = _own_block() - _OFFSETS["kafka"] + next(_tens) % 10 * 10
        if all(_free(base + offset + i) for offset in _OFFSETS.values() for i in range(nodes)):
            return base
    raise AssertionError("no free ports found")


@cache
def _own_block() -> int:
    """The first of 500 ports that are this process's own as long as it lives."""
    for start in random.sample(range(12_000, 31_000, 500), 38):
        lock = (Path(tempfile.gettempdir()) / f"ottla-tests-ports-{start}").open("w")
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _locks.append(lock)
            return start
        lock.close()
    raise AssertionError("every block of ports is another test process's")


_locks: list[IO[str]] = []
_tens: Final = count()


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

"""The compose cluster as users start it, under a name and ports of its own, with the faults a container can have."""

import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self

import docker

from ottla.verify.compose import freeze
from tests.cluster.harness import LocalCluster, Node, free_base_port

PROJECT: Final = f"ottla-test-{os.getpid()}"
HEALTHY_S: Final = 60.0


class Container(Node):
    """A node in a container. Only its listeners for clients can be reached from here."""

    def __init__(self, node_id: int, base_port: int, engine: Any) -> None:
        super().__init__(node_id, base_port, Path(), {})
        self._engine = engine

    @property
    def container(self) -> Any:
        """The Docker SDK's container, as it is now."""
        return self._engine.containers.get(f"{PROJECT}-ottla-{self.node_id}-1")

    @property
    def service(self) -> str:
        return f"ottla-{self.node_id}"

    def log(self) -> str:
        return str(self.container.logs(tail=200).decode(errors="replace"))

    @property
    def running(self) -> bool:
        return bool(self.container.status == "running")

    @property
    def ready(self) -> bool:
        """What the node says now: the engine's own health is up to five checks old."""
        container = self.container
        if container.status != "running":
            return False
        return bool(container.exec_run(["python", "-IS", "/opt/ottla/healthcheck.py"]).exit_code == 0)

    def start(self) -> None:
        self.container.start()

    def kill(self) -> None:
        self.container.kill("SIGKILL")

    def stop(self, timeout_s: float = 20.0) -> int:
        """As `docker stop` does it; the exit code, 137 where the node had to be killed."""
        self.container.stop(timeout=int(timeout_s))
        return int(self.container.wait()["StatusCode"])

    def pause(self) -> None:
        freeze(self.container)
        self.paused = True

    def resume(self) -> None:
        self.container.unpause()
        self.paused = False

    def cut_off(self) -> None:
        """Takes the container off the network; clients on this machine cannot reach it either."""
        self._engine.networks.get(f"{PROJECT}_default").disconnect(self.container)
        self.paused = True

    def connect(self) -> None:
        """Puts it back, under its service's name: a plain connect would lose that."""
        self._engine.networks.get(f"{PROJECT}_default").connect(self.container, aliases=[self.service])
        self.paused = False


class ComposeCluster(LocalCluster):
    """`docker compose up` in the repository. A context manager: leaves no container, network or volume behind."""

    def __init__(self, repository: Path) -> None:
        self.engine: Any = docker.from_env()
        self._repository = repository
        base_port = free_base_port(3)
        self.containers = {i: Container(i, base_port, self.engine) for i in (1, 2, 3)}
        self.nodes = dict(self.containers)
        self._environment = {**os.environ}
        for i, node in self.nodes.items():
            for name, listener in (("OTTLA_PORT", "public"), ("OTTLA_KAFKA_PORT", "kafka")):
                self._environment[f"{name}_{i}"] = node.address(listener).rpartition(":")[2]

    def __enter__(self) -> Self:
        self.compose("build")
        return self

    def __getitem__(self, node_id: int) -> Container:
        return self.containers[node_id]

    def compose(self, *arguments: str) -> str:
        """Runs `docker compose`; its standard output."""
        command = ["docker", "compose", "-p", PROJECT, *arguments]
        done = subprocess.run(command, cwd=self._repository, env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}\n{self._logs()}"
        return done.stdout

    def _logs(self) -> str:
        command = ["docker", "compose", "-p", PROJECT, "logs", "--tail", "30"]
        return subprocess.run(
            command, cwd=self._repository, env=self._environment, capture_output=True, text=True
        ).stdout

    def up(self) -> float:
        """Starts the three nodes and waits until compose calls them healthy. Returns the seconds it took."""
        started = time.monotonic()
        self.compose("up", "-d", "--wait", "--no-build")
        return time.monotonic() - started

    def wait_ready(self, ids: Iterable[int] | None = None, timeout_s: float = HEALTHY_S) -> float:
        return super().wait_ready(ids or self.nodes, timeout_s)

    def close(self) -> None:
        self.compose("down", "-v", "--timeout", "1")
        self.engine.close()

"""A cluster of containers as the target: what `docker compose up` starts, under a name and ports of its own.

Needs a Docker Engine, `docker compose`, and Docker's Python package: `pip install docker`. Single links and
directions are cut in the containers' network namespaces, which takes root and iptables on this machine; without them
those faults are left out, and a node is cut off by taking it off the network.
"""

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from ottla.cli.failure import Failure
from ottla.cli.local import HOST, KAFKA, LISTENERS, free_base_port
from ottla.verify.digest import digests_in
from ottla.verify.links import Link
from ottla.verify.local import HOOKS
from ottla.verify.target import Disk
from ottla.verify.traces import flaws_in

_NODES: Final = (1, 2, 3)
_UP_S: Final = 300.0
_STOP_S: Final = 25
_FREEZES: Final = 10
_FREEZE_AGAIN_S: Final = 0.2
_POST: Final = "import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1], method='POST'), timeout=5).read()"
_WIPE: Final = (
    "import os, shutil\n"
    "for name in os.listdir('/data'):\n"
    "    path = os.path.join('/data', name)\n"
    "    shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)"
)


def freeze(container: Any) -> None:
    """Pauses the Docker SDK's `container`. An engine on cgroup v1 gives up where a process sits in a system call of its
    disk ("unable to freeze") and thaws it again: that passes, so it is asked again before its error stands."""
    for left in reversed(range(_FREEZES)):
        try:
            container.pause()
            return
        except Exception as error:
            if left == 0 or "unable to freeze" not in str(error):
                raise
        time.sleep(_FREEZE_AGAIN_S)


class ComposeTarget:
    """The three services ottla-1 to ottla-3 of a compose file. `directory` takes the override that is used with it."""

    name = "compose"

    def __init__(self, compose_file: Path, directory: Path) -> None:
        if not compose_file.is_file():
            raise Failure(
                "INVALID_CONFIG",
                f"there is no compose file {compose_file}",
                "stand in Ottla's repository, or name the file with --compose-file",
            )
        try:
            import docker
        except ImportError:
            raise Failure(
                "NOT_INSTALLED", "--target compose needs Docker's Python package", "pip install docker"
            ) from None
        try:
            self._engine: Any = docker.from_env(timeout=60)
            self._engine.ping()
        except Exception as error:
            raise Failure(
                "NO_DOCKER", f"no Docker Engine answers: {error}", "start one, or take --target local"
            ) from None
        self._directory = directory
        self._project = f"ottla-verify-{os.getpid()}"
        base_port = free_base_port(3, random.sample(range(10_000, 32_000, 10), 200))
        self._ports = {node: base_port + node - 1 for node in _NODES}
        override = directory / "compose.override.json"
        override.write_text(json.dumps(self._override()))
        self._command = ["docker", "compose", "-p", self._project, "-f", str(compose_file), "-f", str(override)]
        self._cut: set[Link] = set()
        self._off: set[int] = set()
        self._frozen: set[int] = set()

    def _override(self) -> dict[str, Any]:
        """Hooks for the disks; clients on this machine go to leaders directly; whoever is killed stays dead."""
        return {
            "services": {
                f"ottla-{node}": {
                    "command": ["--test-hooks"],
                    "restart": "no",
                    "environment": {
                        "OTTLA_ADVERTISED_PUBLIC": f"{HOST}:{port}",
                        "OTTLA_ADVERTISED_KAFKA": f"{HOST}:{port + LISTENERS[KAFKA]}",
                    },
                }
                for node, port in self._ports.items()
            }
        }

    @property
    def nodes(self) -> Sequence[int]:
        return _NODES

    @property
    def bootstrap(self) -> str:
        return ",".join(f"{HOST}:{port}" for port in self._ports.values())

    @property
    def kafka_bootstrap(self) -> str:
        return ",".join(f"{HOST}:{port + LISTENERS[KAFKA]}" for port in self._ports.values())

    @property
    def logs(self) -> str:
        return f"docker compose -p {self._project} logs"

    def start(self) -> None:
        self._compose("up", "-d", "--build", "--wait", *(f"ottla-{node}" for node in _NODES))

    def close(self) -> None:
        for node in list(self._frozen):
            self.resume(node)
        self._compose("down", "-v", "--timeout", "1")
        self._engine.close()

    def _compose(self, *arguments: str) -> str:
        environment = {**os.environ}
        for node, port in self._ports.items():
            environment |= {f"OTTLA_PORT_{node}": str(port), f"OTTLA_KAFKA_PORT_{node}": str(port + LISTENERS[KAFKA])}
        try:
            done = subprocess.run(
                [*self._command, *arguments],
                env=environment,
                capture_output=True,
                text=True,
                timeout=_UP_S,
                check=False,
            )
        except FileNotFoundError:
            raise Failure("NO_DOCKER", "there is no docker command", "install it, or take --target local") from None
        except subprocess.TimeoutExpired:
            raise Failure("NO_DOCKER", f"docker compose {arguments[0]} took over {_UP_S:.0f} s", "try again") from None
        if done.returncode != 0:
            last = "\n".join(f"  {line}" for line in done.stderr.strip().splitlines()[-12:])
            raise Failure("NO_DOCKER", f"docker compose {arguments[0]} failed:\n{last}", "look at what it says")
        return done.stdout

    def _container(self, node: int) -> Any:
        """The Docker SDK's container, as it is now."""
        return self._engine.containers.get(f"{self._project}-ottla-{node}-1")

    def kill(self, node: int) -> None:
        container = self._container(node)
        if container.status in ("running", "paused"):
            container.kill("SIGKILL")
            container.wait(timeout=30)
        self._frozen.discard(node)

    def terminate(self, node: int) -> int:
        container = self._container(node)
        container.stop(timeout=_STOP_S)
        return int(container.wait(timeout=30)["StatusCode"])

    def start_node(self, node: int) -> None:
        container = self._container(node)
        if container.status not in ("running", "paused"):
            container.start()

    def pause(self, node: int) -> None:
        freeze(self._container(node))
        self._frozen.add(node)

    def resume(self, node: int) -> None:
        if node in self._frozen:
            self._frozen.discard(node)
            self._container(node).unpause()

    def cut(self, links: Collection[Link]) -> None:
        wanted = set(links)
        if not self._can_drop_packets:
            self._cut_off({a for a, b in wanted if (b, a) in wanted and _isolates(a, wanted)})
            return
        changed = {target for _, target in wanted ^ self._cut}
        for node in changed:
            container = self._container(node)
            if container.status != "running":
                continue
            self._iptables(container, "-F", "INPUT")
            for source, target in wanted:
                if target == node:
                    self._iptables(container, "-A", "INPUT", "-s", self._address(source), "-j", "DROP")
        self._cut = wanted

    def _cut_off(self, nodes: set[int]) -> None:
        network = self._engine.networks.get(f"{self._project}_default")
        for node in nodes - self._off:
            network.disconnect(self._container(node))
        for node in self._off - nodes:
            # Under its service's name: a plain connect would lose that.
            network.connect(self._container(node), aliases=[f"ottla-{node}"])
        self._off = nodes

    def _address(self, node: int) -> str:
        networks = self._container(node).attrs["NetworkSettings"]["Networks"]
        return str(networks[f"{self._project}_default"]["IPAddress"])

    def _iptables(self, container: Any, *rule: str) -> None:
        pid = str(container.attrs["State"]["Pid"])
        subprocess.run(["nsenter", "-t", pid, "-n", "iptables", *rule], check=True, capture_output=True, timeout=10)

    @cached_property
    def _can_drop_packets(self) -> bool:
        return os.geteuid() == 0 and all(shutil.which(name) for name in ("nsenter", "iptables"))

    def disk(self, node: int, state: Disk) -> None:
        if self.running(node):
            url = f"http://127.0.0.1:{9491 + node}/hooks?{HOOKS[state]}"
            done = self._container(node).exec_run(["python", "-c", _POST, url])
            if done.exit_code != 0 and self.running(node):
                raise OSError(f"the hooks of ottla-{node} do not answer: {done.output.decode(errors='replace')[-300:]}")

    def wipe(self, node: int) -> None:
        container = self._container(node)
        self._engine.containers.run(
            container.image.id,
            ["-c", _WIPE],
            entrypoint="python",
            user="root",
            volumes_from=[container.id],
            remove=True,
        )

    def running(self, node: int) -> bool:
        return str(self._container(node).status) in ("running", "paused")

    def digests(self, topic_id: bytes) -> dict[int, dict[int, str]]:
        command = ["python", "-m", digests_in.__module__, "/data", topic_id.hex()]
        found = {}
        for node in _NODES:
            done = self._container(node).exec_run(command, demux=True)
            if done.exit_code == 0:
                found[node] = {int(key): value for key, value in json.loads(done.output[0]).items()}
        return found

    def missing(self, fault: str) -> str:
        if fault in ("one-way", "link") and not self._can_drop_packets:
            return "cutting single directions takes root and iptables"
        return ""

    def flaws(self) -> list[str]:
        logs = {}
        for node in _NODES:
            text = self._container(node).logs().decode(errors="replace")
            # The containers go; what they wrote stays with the history of a failed run.
            (self._directory / f"node-{node}.log").write_text(text)
            logs[node] = text.splitlines()
        return flaws_in(logs)


def _isolates(node: int, links: set[Link]) -> bool:
    return all((node, other) in links and (other, node) in links for other in _NODES if other != node)

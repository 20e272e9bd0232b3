"""Where test nodes come from: one helper process (node/nursery.py), from which they are forked in milliseconds."""

import atexit
import json
import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ottla import server


class Nursery:
    """The helper as its user sees it: one for the whole program, started when first needed, and one for nodes that dial
    through a proxy, which gRPC has to know before it is imported."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _shared: ClassVar[dict[bool, "Nursery"]] = {}

    def __init__(self, *, proxied: bool) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTTLA_")}
        here = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (here, environment.get("PYTHONPATH"))))
        environment |= {"grpc_proxy": "http://nobody.invalid"} if proxied else {}
        self._process = subprocess.Popen(
            server.command("node.nursery"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the program; the nodes end with it
        )
        atexit.register(self._process.kill)

    @classmethod
    def shared(cls, *, proxied: bool = False) -> "Nursery":
        """The program's helper; a new one if it has ended."""
        with cls._lock:
            if proxied not in cls._shared or cls._shared[proxied]._process.poll() is not None:
                cls._shared[proxied] = cls(proxied=proxied)
            return cls._shared[proxied]

    def start(self, arguments: list[str], log: Path, environment: Mapping[str, str]) -> int:
        """Starts a node, with that environment besides the helper's; what it prints goes to the end of `log`. Returns
        its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            order = {"arguments": arguments, "log": str(log), "environment": dict(environment)}
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the helper that starts test nodes has ended; what it printed says why")
        return int(answer)

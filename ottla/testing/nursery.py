"""Where test nodes come from: one helper process (node/nursery.py), from which they are forked in milliseconds."""

import atexit
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar


class Nursery:
    """The helper as its user sees it: one for the whole program, started when first needed."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _shared: ClassVar["Nursery | None"] = None

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTTLA_")}
        here = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (here, environment.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            # -P: a folder called `node` where the user stands must not be taken for ours.
            [sys.executable, "-P", "-m", "node.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the program; the nodes end with it
        )
        atexit.register(self._process.kill)

    @classmethod
    def shared(cls) -> "Nursery":
        """The program's helper; a new one if it has ended."""
        with cls._lock:
            if cls._shared is None or cls._shared._process.poll() is not None:
                cls._shared = cls()
            return cls._shared

    def start(self, arguments: list[str], log: Path) -> int:
        """Starts a node; what it prints goes to the end of `log`. Returns its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"arguments": arguments, "log": str(log)}) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the helper that starts test nodes has ended; what it printed says why")
        return int(answer)

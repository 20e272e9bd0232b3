"""`python -m ottla.server MODULE ARGUMENT...`: runs a module of the server, such as `node`, as if it were called.

The server's packages - node, raft, storage - have names that other programs use, too. So they are at the top of
nobody's installation: a wheel has them inside of this package, a checkout beside it, and only processes that are
started by this module see them, before anything else of that name.
"""

import os
import runpy
import sys
from importlib.util import find_spec
from typing import Final

NEXT_STEP: Final = "pip install 'ottla[server]'"
# What the extra `server` installs, as it is imported.
_NEEDED: Final = (
    "grpc_health",
    "grpc_reflection",
    "grpc_status",
    "prometheus_client",
    "pydantic",
    "re2",
    "structlog",
    *(() if sys.platform == "win32" else ("uvloop",)),
)


def command(module: str) -> list[str]:
    """What starts the module in a process of its own."""
    # -P: a folder or file called `ottla` where the user stands must not be taken for this package.
    return [sys.executable, "-P", "-m", "ottla.server", module]


def lack() -> str:
    """What is wrong with this installation for whoever wants to run a node, in a sentence; empty where nothing is."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    return f"a node needs more than clients do, and this is not installed: {', '.join(missing)}" if missing else ""


def require() -> None:
    """Raises Failure where only the client is installed."""
    from ottla.cli.failure import Failure

    if wrong := lack():
        raise Failure("NOT_INSTALLED", wrong, NEXT_STEP)


def _folder() -> str:
    package = os.path.dirname(os.path.abspath(__file__))
    inside = os.path.join(package, "_server")
    return inside if os.path.isdir(inside) else os.path.dirname(package)


def main() -> None:
    """Becomes the module."""
    if len(sys.argv) == 1:
        sys.exit("usage: python -m ottla.server MODULE ARGUMENT...")
    if wrong := lack():
        sys.exit(f"ottla: {wrong}. Next: {NEXT_STEP}")
    sys.path.insert(0, _folder())
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

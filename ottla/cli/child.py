"""`python -m ottla.cli.child PARENT SIGNAL ARGUMENT...`: becomes `python ARGUMENT...`, which gets SIGNAL when process
PARENT ends.

A program of its own, not code between fork and exec of the parent: gRPC's threads may be running there, and what a
forked child of a process with threads may do is next to nothing.
"""

import ctypes
import os
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Sets the signal - on Linux; elsewhere a parent that is killed leaves its children - and becomes the other."""
    parent, number, arguments = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            sys.exit("the process that started this one is gone")
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main()

"""`python -m node.nursery`: has imported the server, and forks nodes from itself: for tests that start many clusters.

It is told what to start on its standard input, a line of JSON each (`arguments` as of `python -m node`, `log`, the
`environment` besides its own), and answers with a process id. When its input ends, because whoever uses it has ended,
it takes its nodes with it. Forking is safe here: nothing of gRPC has started, and there is one thread.
"""

import contextlib
import json
import os
import signal
import sys
import traceback
from typing import Final, NoReturn

from node import process

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Forks until its input ends."""
    process.prepare()
    import node.main  # noqa: F401 - this is what takes the time

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    children = []
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            os.environ.update(order["environment"])
            become_node(order["arguments"], order["log"])
        children.append(pid)
        print(pid, flush=True)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def become_node(arguments: list[str], log: str) -> NoReturn:
    """Goes on as that node in the process that was just forked."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if sys.platform == "linux":
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for number, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
            os.dup2(target, number)
        sys.argv = ["node", *arguments]
        from node.__main__ import main as run_node

        code = run_node()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()

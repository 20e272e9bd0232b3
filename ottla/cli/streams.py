"""Standard input, output and error as a command may find them: closed (cron, daemons), or unable to show every text."""

import io
import os
import sys
from typing import Final

_NAMES: Final = ("stdin", "stdout", "stderr")
closed: set[str] = set()
"""Which of them were closed when the command began."""


def settle() -> None:
    """Call first. A closed one becomes /dev/null: its descriptor would become that of a connection otherwise. What a
    terminal or a locale cannot show is escaped, and no end of a command."""
    for descriptor, name in enumerate(_NAMES):
        try:
            os.fstat(descriptor)
        except OSError:
            closed.add(name)
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
        if getattr(sys, name) is None:
            stream = open(descriptor, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    for shown in (sys.stdout, sys.stderr):
        if isinstance(shown, io.TextIOWrapper):
            shown.reconfigure(errors="backslashreplace")

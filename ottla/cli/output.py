"""Printing answers: a plain table for people, one JSON document for programs."""

import contextlib
import json
import sys
from collections.abc import Sequence


def print_json(answer: object) -> None:
    """One JSON document on standard output."""
    print(json.dumps(answer, indent=2))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they must be. No colours and no lines, so that `awk` and `grep` work on it."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())


def tell(text: str) -> None:
    """A word to the person at the terminal, beside the data on standard output; what nobody can read ends nothing."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)

"""Printing answers: a plain table for people, one JSON document for programs."""

import contextlib
import sys
from collections.abc import Sequence


def print_json(answer: object) -> None:
    """One JSON document on standard output."""
    import json

    print(json.dumps(answer, indent=2))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they must be. No colours and no lines, so that `awk` and `grep` work on it."""
    cells = [[printable(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())


def printable(text: str, besides: str = "") -> str:
    """The text with what moves a cursor, changes colours or hides characters escaped, as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in besides else c.encode("unicode_escape").decode() for c in text)


def tell(text: str) -> None:
    """A word to the person at the terminal, beside the data on standard output; what nobody can read ends nothing."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)

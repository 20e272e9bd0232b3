"""Printing answers: a table for people, with colours on a terminal, and one JSON document for programs."""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Literal, NamedTuple

Style = Literal["good", "bad", "warn", "dim", "bold"]
_COLOURS = {"good": "green", "bad": "red", "warn": "yellow", "dim": "bright_black"}


class Cell(NamedTuple):
    """Text of a table with a style."""

    text: object
    style: Style

    def __str__(self) -> str:
        return str(self.text)


def print_json(answer: object, *, in_a_line: bool = False) -> None:
    """One JSON document on standard output."""
    import json

    print(json.dumps(answer, indent=None if in_a_line else 2))


def has_colours() -> bool:
    """Whether standard output is a terminal that shows colours, and nobody has said no (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def styled(text: str, style: Style) -> str:
    """The text in its colour, where colours are shown."""
    if not has_colours():
        return text
    import click

    return click.style(text, bold=True) if style == "bold" else click.style(text, fg=_COLOURS[style])


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they must be. No lines, so that `awk` and `grep` work on it."""
    texts = [[printable(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for number, line in enumerate(texts):
        cells = []
        for column, (text, width) in enumerate(zip(line, widths, strict=True)):
            cell = rows[number - 1][column] if number else Cell(text, "bold")
            shown = styled(text, cell.style) if isinstance(cell, Cell) and text else text
            cells.append(shown + " " * (width - len(text)))
        print("  ".join(cells).rstrip())


def printable(text: str, besides: str = "") -> str:
    """The text with what moves a cursor, changes colours or hides characters escaped, as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in besides else c.encode("unicode_escape").decode() for c in text)


def tell(text: str) -> None:
    """A word to the person at the terminal, beside the data on standard output; what nobody can read ends nothing."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def counted(count: int, noun: str) -> str:
    """`1 partition`, `3 partitions`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

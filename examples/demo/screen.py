"""What the demo shows while it runs: three bars on a terminal, a line every few seconds elsewhere."""

import sys
import time
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from examples.demo.ledger import Ledger

_LINE_EVERY_S: Final = 3.0
_BARS: Final = ("sent", "acknowledged", "read")


class Screen:
    """Used as a context manager. `say` prints what happens, `show` how far the events are."""

    def __init__(self, total: int) -> None:
        self._console = Console(highlight=False)
        self._started = time.monotonic()
        self._last_line = self._started
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=self._console, disable=not sys.stdout.isatty())
        self._tasks = {name: self._bars.add_task(name, total=total, visible=False) for name in _BARS}

    def __enter__(self) -> "Screen":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """A line with the seconds since the start."""
        self._console.print(f"{time.monotonic() - self._started:6.1f} s  {text}", markup=False, soft_wrap=True)

    def show(self, ledger: Ledger) -> None:
        """How far the stream is; cheap enough to be called often."""
        counts = {"sent": ledger.sent, "acknowledged": ledger.acknowledged, "read": ledger.read}
        if not self._bars.disable:
            for name, task in self._tasks.items():
                self._bars.update(task, completed=counts[name], visible=True)
        elif time.monotonic() - self._last_line >= _LINE_EVERY_S:
            self._last_line = time.monotonic()
            self.say(", ".join(f"{count:,} {name}" for name, count in counts.items()))

    def print(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

"""What a run shows while it goes on: a bar on a terminal, a line every few seconds elsewhere. All of it to stderr."""

import sys
import time
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ottla.verify.workload import Counts

_LINE_EVERY_S: Final = 5.0


class Screen:
    """Used as a context manager. `say` prints what happens, `show` how far the run is."""

    def __init__(self, seconds: float) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._seconds = seconds
        self._started = self._last_line = time.monotonic()
        columns = (TextColumn("{task.fields[left]:>12}"), BarColumn(20), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=self._console, disable=not sys.stderr.isatty(), transient=True)
        self._task = self._bar.add_task("", total=seconds, visible=False, left="")

    def __enter__(self) -> "Screen":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line with the seconds since the start."""
        self._console.print(f"{time.monotonic() - self._started:6.1f} s  {text}", markup=False, soft_wrap=True)

    def show(self, counts: Counts, elapsed_s: float, fault: str) -> None:
        """How far it is; cheap enough to be called often."""
        text = f"{counts.acknowledged:,} acknowledged, {counts.read:,} read"
        if counts.unknown:
            text += f", {counts.unknown} unknown"
        if not self._bar.disable:
            now = f"{text}   {fault}"
            left = f"{max(0.0, self._seconds - elapsed_s):.0f} s left"
            self._bar.update(self._task, completed=elapsed_s, description=now, left=left, visible=True)
        elif time.monotonic() - self._last_line >= _LINE_EVERY_S:
            self._last_line = time.monotonic()
            self.say(text)

"""A progress bar on the terminal's standard error; nothing where that is not a terminal."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress


class Progress:
    """Counts bytes. `total_bytes` None: the end is not known, so the bar only moves."""

    def __init__(self, what: str, total_bytes: int | None, *, hidden: bool = False) -> None:
        self._bar: rich.progress.Progress | None = None
        if sys.stderr.isatty() and not hidden:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(what, total=total_bytes)

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count_bytes: int) -> None:
        if self._bar is not None:
            self._bar.advance(self._task, count_bytes)

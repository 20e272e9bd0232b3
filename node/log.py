"""The node's own log: one line per event on stderr, event names in snake_case, facts as key=value or JSON.

A fault that repeats must not flood it: of one event at most `BURST` lines per `WINDOW_S` are written, then the number
of lines left out. And whoever reads the log, or the disk it is on, must not hold up the node or end it: one thread
writes, and a line that cannot be written, or for which there is no room while the reader is stuck, is lost and counted.
"""

import logging
import os
import queue
import select
import threading
import time
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

BURST: Final = 50
WINDOW_S: Final = 10.0
_EVENTS_MAX: Final = 1000
STDERR: Final = 2
WAITING_MAX: Final = 10_000
"""Lines that wait for a reader that is slow."""
_STUCK_MS: Final = 1000
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

EventDict = MutableMapping[str, Any]


class Bounded:
    """A structlog processor that drops an event's lines beyond `BURST` in a window, and says how many."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[float, int]] = {}

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        name = str(event.get("event"))
        now = time.monotonic()
        start, lines = self._windows.get(name, (now, 0))
        if now - start >= WINDOW_S:
            if lines > BURST:
                event["lines_left_out"] = lines - BURST
            start, lines = now, 0
        if name in self._windows or len(self._windows) < _EVENTS_MAX:
            self._windows[name] = (start, lines + 1)
        if lines >= BURST:
            raise structlog.DropEvent
        return event


class Lines:
    """What structlog writes to: lines for one file descriptor, written by a thread of their own. `lost` counts lines
    that never got there: nobody reads any more, the disk is full, or too many were waiting."""

    def __init__(self, descriptor: int) -> None:
        self.lost = 0
        self._descriptor = descriptor
        self._waiting: queue.Queue[str] = queue.Queue(WAITING_MAX)
        self._torn = False
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()

    def __call__(self, *_: Any) -> "Lines":
        """Itself, as a factory of loggers."""
        return self

    def msg(self, line: str) -> None:
        """Never blocks and never raises."""
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self.lost += 1

    debug = info = warning = error = critical = msg

    def flush(self, timeout_s: float) -> None:
        """Waits until everything is written or lost: the last lines of a process say why it ends."""
        deadline = time.monotonic() + timeout_s
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)

    def _run(self) -> None:
        while True:
            line = self._waiting.get()
            try:
                self._write(line.encode(errors="backslashreplace") + b"\n")
            except OSError:
                self.lost += 1
            finally:
                self._waiting.task_done()

    def _write(self, data: bytes) -> None:
        """Raises OSError where not all of it could be written; the next line then begins on a line of its own."""
        whole = b"\n" + data if self._torn else data
        rest = memoryview(whole)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:
                    self._wait_for_reader()
        finally:
            if len(rest) < len(whole):
                self._torn = bool(rest)

    def _wait_for_reader(self) -> None:
        """For a descriptor that somebody has made a non-blocking one. Raises BlockingIOError."""
        reader = select.poll()
        reader.register(self._descriptor, select.POLLOUT)
        if not reader.poll(_STUCK_MS):
            raise BlockingIOError("nobody reads the log")


_lines: Lines | None = None
beside: Final[list[Lines]] = []
"""Other logs of this process."""


def lines_lost() -> int:
    """How many lines of this process could not be written."""
    return sum(each.lost for each in (*beside, *([] if _lines is None else [_lines])))


def flush(timeout_s: float = 1.0) -> None:
    """Before the process ends; waits no longer than that for whoever reads."""
    if _lines is not None:
        _lines.flush(timeout_s)


def configure(level: str, output: str, node_id: int) -> None:
    """Sets up structlog for this process. `output` is `text` or `json`."""
    global _lines
    _lines = Lines(STDERR)
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if output == "json"
        else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            Bounded(),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _Named(node_id),
            _bytes_as_hex,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=_lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_FromLibraries()], level=logging.WARNING, force=True)


class _FromLibraries(logging.Handler):
    """What libraries log through the standard module, as lines of ours. grpc's stack traces come from what clients send
    and say nothing that its message does not."""

    def emit(self, record: logging.LogRecord) -> None:
        library = record.name.split(".")[0].lstrip("_")
        logger = structlog.get_logger(record.name)
        trace = record.exc_info if record.exc_info and library not in ("grpc", "cython") else None
        logger.warning("library_message", library=library, message=record.getMessage()[:500], exc_info=trace)


class _Named:
    """Adds the id of the node that writes, under a name that no event uses for a node it speaks of."""

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        event["on"] = self._node_id
        return event


def _bytes_as_hex(logger: Any, method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, bytes):
            event[key] = value.hex()
    return event

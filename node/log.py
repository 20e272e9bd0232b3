"""The node's own log: one line per event on stderr, event names in snake_case, facts as key=value or JSON.

A fault that repeats must not flood it: of one event at most `BURST` lines per `WINDOW_S` are written, then the number
of lines left out.
"""

import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

BURST: Final = 50
WINDOW_S: Final = 10.0
_EVENTS_MAX: Final = 1000
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


def configure(level: str, output: str, node_id: int) -> None:
    """Sets up structlog for this process. `output` is `text` or `json`."""
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
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

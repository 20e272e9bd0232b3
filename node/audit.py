"""Who did what to the cluster, or was not let: one line each, in the node's log or in a file of its own.

What is written says who asked, from where, by which client, for what, and what became of it; never a secret, for what
is copied from a request are names and numbers alone. A flood of refusals writes a few lines a second, and the file is
replaced once before it grows without bound. Nobody waits for the disk: a thread writes.
"""

import datetime
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import structlog
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from node import principal
from node.log import Lines, beside
from ottla.protocol.errors import ApiError

REFUSED_A_SECOND: Final = 10
"""Lines about refusals of one principal."""
ALL_REFUSED_A_SECOND: Final = 100
PRINCIPALS_MAX: Final = 1_000
SHOWN_ITEMS: Final = 10
SHOWN_CHARACTERS: Final = 200
OK: Final = "ok"
_LEFT_OUT: Final = frozenset({"value", "timeout_ms", "validate_only"})
"""Fields that may hold what nobody else is to know, or say nothing."""
_IDS: Final = frozenset({"topic_id", "directory_id"})
"""Bytes that are shown; others may be keys."""

_named: Final = structlog.get_logger("audit")


class _File(Lines):
    """A file that is moved aside, over the one before, when it is full."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        descriptor = self._opened()
        self._size = os.fstat(descriptor).st_size
        super().__init__(descriptor)

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _write(self, data: bytes) -> None:
        if self._size and self._size + len(data) > self._max_bytes:
            self._path.replace(f"{self._path}.1")
            os.close(self._descriptor)
            self._descriptor, self._size = self._opened(), 0
        super()._write(data)
        self._size += len(data)


_file: _File | None = None
_node_id = 0


def configure(path: str, max_bytes: int, node_id: int) -> None:
    """From here on lines go to this file; empty: to the node's log. Raises OSError."""
    global _file, _node_id
    _node_id = node_id
    _file = _File(Path(path), max_bytes) if path else None
    beside[:] = [] if _file is None else [_file]


def flush(timeout_s: float = 1.0) -> None:
    """Before the process ends."""
    if _file is not None:
        _file.flush(timeout_s)


def tell(event: str, **facts: object) -> None:
    """Writes a line."""
    if _file is None:
        _named.warning(event, **facts)
        return
    now = datetime.datetime.now(datetime.UTC)
    line = {"timestamp": now.isoformat(timespec="milliseconds"), "event": event, "on": _node_id, **facts}
    _file.msg(json.dumps(line, default=str))


class Refusals:
    """Which refusals are written down: a few of each principal in each second, and of all together."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._of: dict[str, tuple[int, int]] = {}
        self._all = (0, 0)

    def tell(self, event: str, who: str, **facts: object) -> bool:
        """Whether it was written. The next line of who had some left out says how many."""
        second = int(self._clock_s())
        since, count = self._of.get(who, (second, 0))
        left_out = 0
        if since != second:
            since, left_out, count = second, max(0, count - REFUSED_A_SECOND), 0
        if len(self._of) >= PRINCIPALS_MAX and who not in self._of:
            self._of.clear()
        self._of[who] = (since, count + 1)
        of_all = self._all[1] if self._all[0] == second else 0
        if count >= REFUSED_A_SECOND or of_all >= ALL_REFUSED_A_SECOND:
            return False
        self._all = (second, of_all + 1)
        more = {"denials_left_out_before": left_out} if left_out else {}
        tell(event, principal=who, **facts, **more)
        return True


_refused = Refusals()


def change(call: str, what: object, outcome: str) -> None:
    """Somebody has the cluster changed, as the principal of the request that is under way. `outcome`: `ok`, or the
    names of errors."""
    who = str(principal.current())
    where = {"host": principal.host(), "client_id": principal.client_id()}
    if outcome == OK:
        tell("change", principal=who, **where, call=call, what=what, outcome=outcome)
    else:
        _refused.tell("change", who, **where, call=call, what=what, outcome=outcome)


@contextmanager
def changing(call: str, **what: object) -> Iterator[None]:
    """Writes down what became of what is done within; not where it is to be tried again, here or elsewhere."""
    try:
        yield
    except ApiError as error:
        if not error.retriable:
            change(call, what, error.name)
        raise
    change(call, what, OK)


def login_failed(user: str, host: str, why: str) -> None:
    """`user`: as the node's log shows it. That has its own line of it, and its own bound."""
    if _file is not None:
        _logins.tell("login_failed", host, user=user, host=host, reason=why)


_logins = Refusals()


def shown(request: Message) -> dict[str, object]:
    """What a request is about: names and numbers, the first few of many."""
    found: dict[str, object] = {}
    for field, value in request.ListFields():
        if field.name in _LEFT_OUT:
            continue
        if field.is_repeated:
            items = [_plain(field, item) for item in list(value)[:SHOWN_ITEMS]]
            found[field.name] = [item for item in items if item is not None]
            if len(value) > SHOWN_ITEMS:
                found[f"{field.name}_in_all"] = len(value)
        elif (item := _plain(field, value)) is not None:
            found[field.name] = item
    return found


def _plain(field: FieldDescriptor, value: Any) -> object:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return shown(value) if isinstance(value, Message) else None
    if field.type == FieldDescriptor.TYPE_BYTES:
        return value.hex() if field.name in _IDS else None
    if field.type == FieldDescriptor.TYPE_STRING:
        return value[:SHOWN_CHARACTERS]
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    return value

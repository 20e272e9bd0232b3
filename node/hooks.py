"""Faults on demand, for tests of whole clusters: `python -m node --test-hooks`. Without the flag nothing here exists.

Over the HTTP listener, which must not be reachable for strangers then. Each call replaces what it names, and answers
with everything that is set:

    POST /hooks?write=ENOSPC           writes, new files and new directories fail; `write=` ends it
    POST /hooks?sync=EIO               syncs fail; what they should have made durable counts as lost
    POST /hooks?sync_ms=500            syncs take longer
    POST /hooks?path=.*/quorum/.*      the three above are for files and directories whose whole path matches
    POST /hooks?clock_ms=3600000       the wall clock is off by so much
    POST /hooks?drop=Fetch|Raft.*&fail=Produce&share=0.3
                                       of the calls whose method matches, a share is never answered, or refused at once
    GET  /hooks                        what is set now

Killing, stopping and freezing a node needs no hook, and neither does cutting its links (`ottla.verify.links`).
"""

import asyncio
import errno
import json
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import grpc

from node.http import Reply
from storage.fs import Buffer, OsFile, OsFileSystem, spares

_SYNC_MAX_MS: Final = 60_000


class Hooks:
    """What is set. Written on the control loop, read in every thread: single values, so no lock."""

    path = "/hooks"

    def __init__(self) -> None:
        self.write_errno = 0
        self.sync_errno = 0
        self.sync_ms = 0
        self.path_pattern: re.Pattern[str] | None = None
        self.clock_ms = 0
        self.drop: re.Pattern[str] | None = None
        self.fail: re.Pattern[str] | None = None
        self.share = 1.0
        self.fs = HookedFileSystem(self)
        self.interceptor = Interceptor(self)

    def set(self, query: str) -> Reply:
        """Takes a query string. All of it or, with 400 and the reason, nothing."""
        values: dict[str, Any] = {}
        try:
            for name, text in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
                if name not in _PARSERS:
                    raise ValueError(f"there is no {name}; try {', '.join(_PARSERS)}")
                field, parse = _PARSERS[name]
                values[field] = parse(text)
        except (ValueError, re.error) as error:
            return Reply(400, f"{error}\n".encode())
        for field, value in values.items():
            setattr(self, field, value)
        return self.show()

    def show(self) -> Reply:
        """Everything, as JSON."""
        found = {
            "write": errno.errorcode.get(self.write_errno, ""),
            "sync": errno.errorcode.get(self.sync_errno, ""),
            "sync_ms": self.sync_ms,
            "path": self.path_pattern.pattern if self.path_pattern else "",
            "clock_ms": self.clock_ms,
            "drop": self.drop.pattern if self.drop else "",
            "fail": self.fail.pattern if self.fail else "",
            "share": self.share,
        }
        return Reply(200, json.dumps(found).encode() + b"\n", "application/json")

    def before_write(self, path: str) -> None:
        """Raises what a write shall fail with."""
        if self._hits(path) and (number := self.write_errno):
            raise OSError(number, f"{errno.errorcode[number]} by a test hook")

    def before_sync(self, path: str) -> None:
        """Takes its time, and raises what a sync shall fail with."""
        if not self._hits(path):
            return
        if self.sync_ms:
            time.sleep(self.sync_ms / 1000)
        if number := self.sync_errno:
            raise OSError(number, f"{errno.errorcode[number]} by a test hook")

    def _hits(self, path: str) -> bool:
        pattern = self.path_pattern
        return pattern is None or pattern.fullmatch(path) is not None


class HookedFile(OsFile):
    """A file whose writes and syncs may fail."""

    __slots__ = ("_hooks", "_path")

    def __init__(self, fd: int, hooks: Hooks, path: str) -> None:
        super().__init__(fd)
        self._hooks = hooks
        self._path = path

    def write_at(self, position: int, buffers: Sequence[Buffer]) -> None:
        self._hooks.before_write(self._path)
        super().write_at(position, buffers)

    def allocate(self, size: int) -> None:
        self._hooks.before_write(self._path)
        super().allocate(size)

    def sync(self) -> None:
        self._hooks.before_sync(self._path)
        super().sync()

    def dup(self) -> Self:
        return type(self)(spares.opening(lambda: os.dup(self._fd)), self._hooks, self._path)


class HookedFileSystem(OsFileSystem):
    """The operating system's files, with the faults that are set."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    def open(self, path: str, *, create: bool = False) -> HookedFile:
        if create:
            self._hooks.before_write(path)
        return HookedFile(self._descriptor(path, create=create), self._hooks, path)

    def makedirs(self, path: str, *, durable: bool = True) -> None:
        self._hooks.before_write(path)
        super().makedirs(path, durable=durable)


class Interceptor(grpc.aio.ServerInterceptor):
    """Calls that nobody answers, or that are refused, by their method's name."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._rng = random.Random()

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        hooks = self._hooks
        method = str(details.method).rpartition("/")[2]
        if (hooks.drop or hooks.fail) and self._rng.random() < hooks.share:
            if hooks.drop and hooks.drop.fullmatch(method):
                # Whoever calls gives up by a deadline of its own, which ends this call too.
                await asyncio.get_running_loop().create_future()
            if hooks.fail and hooks.fail.fullmatch(method):
                return grpc.unary_unary_rpc_method_handler(_refuse)
        return await continuation(details)


async def _refuse(_request: bytes, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "refused by a test hook")
    return b""


def _error(text: str) -> int:
    if not text:
        return 0
    number = getattr(errno, text, None)
    if not isinstance(number, int):
        raise ValueError(f"{text!r} is no error of the operating system; try ENOSPC or EIO")
    return number


def _milliseconds(text: str) -> int:
    value = int(text or "0")
    if not 0 <= value <= _SYNC_MAX_MS:
        raise ValueError(f"{value} ms is not within 0 to {_SYNC_MAX_MS}")
    return value


def _share(text: str) -> float:
    value = float(text or "1")
    if not 0 <= value <= 1:
        raise ValueError(f"{value} is not within 0 to 1")
    return value


def _pattern(text: str) -> re.Pattern[str] | None:
    return re.compile(text) if text else None


_PARSERS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "write": ("write_errno", _error),
    "sync": ("sync_errno", _error),
    "sync_ms": ("sync_ms", _milliseconds),
    "path": ("path_pattern", _pattern),
    "clock_ms": ("clock_ms", lambda text: int(text or "0")),
    "drop": ("drop", _pattern),
    "fail": ("fail", _pattern),
    "share": ("share", _share),
}

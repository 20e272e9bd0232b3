"""Cuts what a connection receives into requests, with one buffer for all connections of a loop.

Receiving and handling follow each other at once, so an idle connection needs no buffer. What is left of a request that
is not yet whole moves out of the shared buffer: some bytes to a buffer of the connection's own, and a big request to
one that the rest is received into without another copy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

SCRATCH_BYTES: Final = 256 << 10
BIG_BYTES: Final = 64 << 10  # a request of so many gets a buffer of its own
# A size is only a claim: a bigger buffer grows with what has come.
AT_ONCE_BYTES: Final = 2 << 20
_SIZE: Final = Struct(">i")
_SIZE_AND_KEY: Final = Struct(">ih")
LEAST_BYTES: Final = 10  # key, version, correlation id, client id

_HTTP: Final = (b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC")


class NotKafka(Exception):
    """The first bytes are those of another protocol; `protocol` is `TLS`, `HTTP` or `gRPC`."""

    def __init__(self, protocol: str) -> None:
        super().__init__(f"{protocol} instead of Kafka's protocol")
        self.protocol = protocol


class BadFrame(Exception):
    """A size that no request can have."""


@dataclass(frozen=True)
class FrameLimits:
    """The most bytes of a request: `most`, but for the APIs that are named."""

    most: int = 1 << 20
    by_key: Mapping[int, int] = field(default_factory=dict)

    def of(self, key: int) -> int:
        return self.by_key.get(key, self.most)


def protocol_of(first: bytes) -> str | None:
    """Which other protocol a connection's first four bytes belong to."""
    if first[0] == 0x16 and first[1] == 0x03:
        return "TLS"
    if first == b"PRI ":
        return "gRPC"
    return "HTTP" if first in _HTTP else None


class Frames:
    """One connection's side. In turn: `space`, `received`, `next` until it is None, `keep`."""

    def __init__(self, scratch: memoryview, limits: FrameLimits) -> None:
        self._scratch = scratch
        self.limits = limits
        self.least_bytes = LEAST_BYTES
        self._seen_first = False
        self._kept = b""
        self._view = memoryview(b"")
        self._at = 0
        self._end = 0
        self._big: bytearray | None = None
        self._big_size = 0
        self._filled = 0

    @property
    def held_bytes(self) -> int:
        """What this connection holds between two turns."""
        return len(self._kept) + (self._filled if self._big is not None else 0)

    @property
    def coming_bytes(self) -> int:
        """The size of the big request that is on its way; 0: none is."""
        return self._big_size if self._big is not None else 0

    def space(self) -> memoryview:
        """Where to receive next. Nothing else may use the shared buffer until `keep`."""
        if self._big is not None:
            if self._filled == len(self._big):
                grown = bytearray(min(self._big_size, 2 * len(self._big)))
                grown[: self._filled] = self._big
                self._big = grown
            return memoryview(self._big)[self._filled :]
        self._scratch[: len(self._kept)] = self._kept
        return self._scratch[len(self._kept) :]

    def received(self, count: int) -> None:
        if self._big is not None:
            self._filled += count
            return
        self._view, self._at, self._end = self._scratch, 0, len(self._kept) + count
        self._kept = b""

    def next(self) -> memoryview | None:
        """The next whole request, without its size; good until `keep`. Raises `NotKafka` or `BadFrame`."""
        if self._big is not None:
            if self._filled < self._big_size:
                return None
            found = memoryview(self._big)
            self._big = None
            return found
        size = self._size()
        if size is None or self._end - self._at < 4 + size:
            return None
        start = self._at + 4
        self._at = start + size
        return self._view[start : self._at]

    def keep(self) -> None:
        """Takes what is left out of the shared buffer."""
        if self._big is not None:
            return
        left = self._end - self._at
        size = self._size() if left else None
        if size is not None and size >= BIG_BYTES and left < 4 + size:
            self._big, self._big_size, self._filled = bytearray(min(size, AT_ONCE_BYTES)), size, left - 4
            self._big[: left - 4] = self._view[self._at + 4 : self._end]
            left = 0
        self._kept = bytes(self._view[self._at : self._end]) if left else b""
        self._view, self._at, self._end = memoryview(self._kept), 0, left

    def _size(self) -> int | None:
        """The size of the request that begins here; None as long as that or its limit cannot be told."""
        left = self._end - self._at
        if left < 4:
            return None
        if not self._seen_first:
            other = protocol_of(bytes(self._view[self._at : self._at + 4]))
            if other is not None:
                raise NotKafka(other)
            self._seen_first = True
        (size,) = _SIZE.unpack_from(self._view, self._at)
        if size < self.least_bytes:
            raise BadFrame(f"a request of {size} bytes; one has {self.least_bytes} at least")
        if size >= BIG_BYTES or size > self.limits.most:
            if left < _SIZE_AND_KEY.size:
                return None
            _, key = _SIZE_AND_KEY.unpack_from(self._view, self._at)
            if size > self.limits.of(key):
                raise BadFrame(f"a request of {size} bytes with API key {key}; at most {self.limits.of(key)} are taken")
        return int(size)

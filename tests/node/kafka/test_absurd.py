"""Every request of the table with fields at and beyond their limits, at random but repeatable: nothing of it is a bug
for the node, and others are served on."""

import asyncio
import math
import random
import struct
from pathlib import Path
from typing import Any, Final

import pytest

from node.kafka.connection import Connection
from node.kafka.schema.table import FIXED, Api, Field, Struct, load
from node.kafka.wire import write_uvarint
from tests.node.services.planes import Planes

ROUNDS: Final = 3
BITS: Final = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
STRINGS: Final = (
    *("t", "t", "t", "", ".", "..", "nul\0", "\u0430\u0301\U0001f702", "a" * 249, "a" * 250, "x" * 30_000, "g", "-1"),
    *("range", "consumer", "retention.ms", "__consumer_offsets", "1", "99999999999999999999", "NaN", "(a+)+$"),
)
BYTES: Final = (b"", b"\0", b"\xff" * 40, b"z" * 70_000, b"\0" * 61, struct.pack(">qiibI", 0, 2**31 - 1, -1, 2, 7))


class Absurd:
    """Makes requests, as bytes."""

    def __init__(self, seed: int, topic_id: bytes) -> None:
        self._rng = random.Random(seed)
        self._topic_id = topic_id

    def frame(self, api: Api, version: int) -> bytes:
        flexible = version >= api.flexible
        body = self._struct(api.request, version, flexible)
        if self._rng.random() < 0.1 and body:
            at = self._rng.randrange(len(body))
            body = body[:at] + self._rng.randbytes(self._rng.randrange(3)) + body[at + 1 :]
        head = struct.pack(">hhih", api.key, version, 7, 1) + b"c" + (b"\0" if flexible else b"")
        return struct.pack(">i", len(head + body)) + head + body

    def _struct(self, of: Struct, version: int, flexible: bool) -> bytes:
        fields = [self._field(field, version, flexible) for field in of.untagged(version)]
        return b"".join(fields) + (b"\0" if flexible else b"")

    def _field(self, field: Field, version: int, flexible: bool) -> bytes:
        if field.array:
            if field.nullable(version) and self._rng.random() < 0.1:
                return b"\0" if flexible else b"\xff" * 4
            count = self._rng.choice((0, 1, 1, 1, 2, 3))
            each = b"".join(self._one(field, version, flexible) for _ in range(count))
            return (write_uvarint(count + 1) if flexible else struct.pack(">i", count)) + each
        if field.struct is not None and field.nullable(version):
            return b"\xff" if self._rng.random() < 0.3 else b"\1" + self._one(field, version, flexible)
        if field.fixed is None and field.nullable(version) and self._rng.random() < 0.2:
            return b"\0" if flexible else b"\xff" * (2 if field.type == "string" else 4)
        return self._one(field, version, flexible)

    def _one(self, field: Field, version: int, flexible: bool) -> bytes:
        if field.struct is not None:
            return self._struct(field.struct, version, flexible)
        if field.type in ("string", "bytes", "records"):
            is_text = field.type == "string"
            data = self._rng.choice(STRINGS).encode() if is_text else self._rng.choice(BYTES)
            size = write_uvarint(len(data) + 1) if flexible else struct.pack(">h" if is_text else ">i", len(data))
            return size + data
        if field.type == "uuid":
            return self._rng.choice((self._topic_id, bytes(16), b"\xff" * 16))
        return struct.pack(f">{FIXED[field.type]}", self._number(field.type))

    def _number(self, kind: str) -> Any:
        if kind == "bool":
            return self._rng.random() < 0.5
        if kind == "uint16":
            return self._rng.choice((0, 1, 2**16 - 1))
        if kind == "float64":
            return self._rng.choice((0.0, 1.0, -1.0, 0.5, 1e308, math.nan, math.inf))
        most = 1 << BITS[kind] - 1
        return self._rng.choice((0, 0, 1, 2, -1, -2, 7, 100, most - 1, -most))


async def answered(port: int, frame: bytes) -> bool:
    """Whether there is an answer; else the connection ends, or waits on as it was told to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(0.2):
            writer.write(frame)
            size = int.from_bytes(await reader.readexactly(4), "big")
            await reader.readexactly(size)
            return True
    except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
        return False
    finally:
        writer.close()


async def test_absurd_requests_are_no_bugs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bugs: list[str] = []
    monkeypatch.setattr(
        Connection, "bug", lambda self, call, error: (bugs.append(f"{call.key} {error!r}"), self.close())
    )
    async with Planes(tmp_path, nodes=1, kafka=True) as planes:
        topic_id = planes.create_topic("t", [1, 1])
        port = int(planes.kafka_address(1).rpartition(":")[2])
        absurd = Absurd(5, topic_id)
        for _ in range(ROUNDS):
            calls = [absurd.frame(api, version) for api in load() for version in api.versions]
            for start in range(0, len(calls), 50):
                await asyncio.gather(*(answered(port, call) for call in calls[start : start + 50]))
        assert not planes[1].failed.done()
        assert await answered(port, struct.pack(">ihhih", 10, 18, 0, 1, 0))
    assert bugs == []

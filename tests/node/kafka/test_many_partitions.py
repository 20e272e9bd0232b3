"""A request may name very many partitions: others have their turns meanwhile, and the order stays."""

import asyncio
import struct
from pathlib import Path

import pytest

from ottla.v1.record_pb2 import Record, Records
from tests.node.kafka.test_handlers import kafka_batch
from tests.node.services.planes import Planes

COUNT = 3000


def _name(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _produce(topic: str) -> bytes:
    batch = kafka_batch(Records(records=[Record(value=b"x")]))
    each = struct.pack(">ii", 0, len(batch)) + batch
    return struct.pack(">hhii", -1, -1, 5000, 1) + _name(topic) + struct.pack(">i", COUNT) + each * COUNT


def _fetch(topic: str) -> bytes:
    head = struct.pack(">iiiibi", -1, 0, 1, 1 << 20, 0, 1) + _name(topic)
    return head + struct.pack(">i", COUNT) + struct.pack(">iqi", 0, 0, 1000) * COUNT


@pytest.mark.parametrize("topic", ["t", "nope"])
@pytest.mark.parametrize("what", ["produce", "fetch"])
async def test_others_have_their_turns_meanwhile(tmp_path: Path, what: str, topic: str) -> None:
    key, version, body = (0, 7, _produce(topic)) if what == "produce" else (1, 4, _fetch(topic))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with Planes(tmp_path, nodes=1, kafka=True) as planes:
        planes.create_topic("t", [1])
        host, _, port = planes.kafka_address(1).rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = struct.pack(">hhih", key, version, 7, -1)
        ticking = asyncio.create_task(other())
        writer.write(struct.pack(">i", len(head + body)) + head + body)
        size = int.from_bytes(await reader.readexactly(4), "big")
        answer = await reader.readexactly(size)
        ticking.cancel()
        writer.close()
    assert turns > COUNT // 200
    if what == "produce" and topic == "t":
        results = struct.iter_unpack(">ihqqq", answer[4 + 4 + len(_name(topic)) + 4 : -4])
        assert [(code, offset) for _, code, offset, _, _ in results] == [(0, number) for number in range(COUNT)]

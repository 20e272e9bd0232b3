"""Record batches of magic 2, made (right, or wrong on purpose) and read, by nothing of the product."""

import gzip
import struct
from collections.abc import Sequence
from typing import Any, Final

from crc32c import crc32c

HEAD: Final = 61
TIME_MS: Final = 1_700_000_000_000


def varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def _sized(data: bytes | None) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def _record(delta: int, time_delta: int, key: bytes | None, value: bytes | None) -> bytes:
    body = b"\0" + varint(time_delta) + varint(delta) + _sized(key) + _sized(value)
    body += varint(1) + _sized(b"h") + _sized(b"x")
    return varint(len(body)) + body


def batch(
    values: Sequence[bytes | None], *, key: bytes | None = b"k", time_ms: int = TIME_MS, step_ms: int = 10,
    producer: tuple[int, int, int] = (-1, -1, -1), attributes: int = 0, magic: int = 2, count: int | None = None,
    last_delta: int | None = None, bad_crc: bool = False, codec: int = 0,
) -> bytes:  # fmt: skip
    """Record n has the time `time_ms + n * step_ms`; `producer` is id, epoch, first sequence."""
    body = b"".join(_record(number, number * step_ms, key, value) for number, value in enumerate(values))
    last = len(values) - 1
    if codec == 1:
        body = gzip.compress(body, mtime=0)
    tail = struct.pack(
        ">hiqqqhii", attributes | codec, last if last_delta is None else last_delta, time_ms, time_ms + last * step_ms,
        *producer, len(values) if count is None else count,
    ) + body  # fmt: skip
    after = struct.pack(">ibI", -1, magic, crc32c(tail) ^ bad_crc) + tail
    return struct.pack(">qi", 0, len(after)) + after


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return (value >> 1) ^ -(value & 1), at


def _read_bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = read_varint(data, at)
    return (None, at) if size < 0 else (data[at : at + size], at + size)


def read_batches(data: bytes) -> list[dict[str, Any]]:
    """Every record of every whole batch with its batch's facts; how records are cut into batches is a broker's own."""
    found, at = [], 0
    while len(data) - at >= HEAD and len(data) - at >= 12 + int.from_bytes(data[at + 8 : at + 12], "big"):
        base, size, epoch, magic, crc = struct.unpack_from(">qiibI", data, at)
        end = at + 12 + size
        facts = struct.unpack_from(">hiqqqhii", data, at + 21)
        attributes, _, base_time, _, producer, producer_epoch, sequence, count = facts
        body = data[at + HEAD : end]
        if attributes & 7 == 1:
            body = gzip.decompress(body)
        about = {
            "partition_leader_epoch": epoch, "magic": magic, "attributes": attributes, "producer_id": producer,
            "producer_epoch": producer_epoch, "crc_is_right": crc == crc32c(data[at + 21 : end]),
        }  # fmt: skip
        place = 0
        for _ in range(count):
            _, place = read_varint(body, place)
            place += 1
            time_delta, place = read_varint(body, place)
            delta, place = read_varint(body, place)
            key, place = _read_bytes(body, place)
            value, place = _read_bytes(body, place)
            headers, place = read_varint(body, place)
            pairs = []
            for _ in range(headers):
                name, place = _read_bytes(body, place)
                text, place = _read_bytes(body, place)
                pairs.append(f"{name!r}={text!r}")
            record = {"offset": base + delta, "time": base_time + time_delta, "key": key, "value": value}
            numbered = sequence + delta if sequence >= 0 else -1
            found.append(about | record | {"headers": pairs, "sequence": numbered})
        at = end
    return found

"""CRC-32C: known values, and another implementation on every length and alignment that the code paths differ by."""

import random

import pytest
from crc32c import crc32c as other

from ottla.protocol.checksum import crc32c


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        # RFC 3720, B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_known_values(data: bytes, value: int) -> None:
    assert crc32c(data) == value


def test_every_short_length_at_every_alignment_goes_on_from_a_seed_as_another_implementation_does() -> None:
    view = memoryview(random.Random(1).randbytes(1200))
    for length in (*range(300), 511, 512, 513, 1023, 1024, 1025):
        for start in (0, 1, 7, 8, 31, 33, 64):
            piece = view[start : start + length]
            assert crc32c(piece) == other(piece)
            assert crc32c(piece, 0xDEADBEEF) == other(piece, 0xDEADBEEF)
            assert crc32c(piece[length // 3 :], crc32c(piece[: length // 3])) == crc32c(piece)


@pytest.mark.parametrize("size", [4096, 65535, 131073, 1 << 20, (3 << 20) + 5])
def test_large_buffers_of_every_kind(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert crc32c(data) == crc32c(bytearray(data)) == crc32c(memoryview(data)) == other(data)
    assert crc32c(memoryview(data)[3:], 5) == other(memoryview(data)[3:], 5)

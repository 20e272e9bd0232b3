"""What compression made of Kafka's records, plain again: snappy in the blocks that its Java client writes or bare, the
others as they are everywhere."""

import struct
from collections.abc import Callable
from typing import Final

from ottla.protocol.errors import ApiError
from ottla.protocol.records import STORED_MAX_BYTES
from ottla.protocol.walk import Plain
from ottla.v1 import error_pb2 as pb

SNAPPY: Final = 2
Unfold = Callable[[int, Plain], Plain]
"""Decompresses a payload of a codec, within bounds."""

XERIAL: Final = b"\x82SNAPPY\x00"
XERIAL_HEAD: Final = XERIAL + struct.pack(">ii", 1, 1)
_SIZE: Final = struct.Struct(">i")
_BLOCKS_FREE: Final = 1000
_BLOCK_BYTES_LEAST: Final = 64
"""Of a block, on the average, where there are more than some: each takes some microseconds, whatever is in it."""


def unfold(codec: int, payload: Plain, with_bounds: Unfold) -> Plain:
    """The plain records. `with_bounds` says how much may come of it, and raises what there is to raise."""
    if codec == 0:
        return payload
    if codec == SNAPPY and bytes(payload[: len(XERIAL)]) == XERIAL:
        return _unfold_blocks(memoryview(payload)[len(XERIAL_HEAD) :], with_bounds)
    return with_bounds(codec, payload)


def _unfold_blocks(payload: memoryview, with_bounds: Unfold) -> bytes:
    at = size = 0
    parts: list[Plain] = []
    blocks_max = _BLOCKS_FREE + len(payload) // _BLOCK_BYTES_LEAST
    while at < len(payload):
        if len(parts) == blocks_max:
            raise ApiError(
                pb.ERROR_CODE_INVALID_RECORD,
                f"the {len(payload)} bytes of the payload are more than {blocks_max} blocks of snappy; "
                "make larger ones",
            )
        length = _SIZE.unpack_from(payload, at)[0] if len(payload) - at >= 4 else -1
        at += 4
        if length < 0 or at + length > len(payload):
            raise ApiError(
                pb.ERROR_CODE_INVALID_RECORD, "the payload does not decompress with snappy: a block is cut off"
            )
        parts.append(with_bounds(SNAPPY, payload[at : at + length]))
        at += length
        size += len(parts[-1])
        if size > STORED_MAX_BYTES:
            raise ApiError(
                pb.ERROR_CODE_MESSAGE_TOO_LARGE,
                f"the payload decompresses to more than {STORED_MAX_BYTES} bytes; send fewer records at once",
            )
    return b"".join(parts)

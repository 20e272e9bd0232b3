"""Payloads of Kafka's batches, as its clients frame them: snappy in the blocks that its Java client writes or bare, lz4
in frames of independent blocks, which is all that the Java client reads."""

import struct
from collections.abc import Callable
from typing import Final

import cramjam

from node.broker import codecs
from ottla.protocol.errors import ApiError
from ottla.protocol.walk import Plain
from ottla.v1 import error_pb2 as pb

SNAPPY: Final = 2
LZ4: Final = 3
Unfold = Callable[[int, Plain], memoryview]
"""Decompresses a payload of a codec, within bounds."""

_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEAD: Final = _XERIAL + struct.pack(">ii", 1, 1)
_SIZE: Final = struct.Struct(">i")
_SNAPPY_BLOCK: Final = 32 * 1024
_BLOCKS_FREE: Final = 1000
_BLOCK_BYTES_LEAST: Final = 64
"""Of a block, on the average, where there are more than some: each takes some microseconds, whatever is in it."""
# Magic, version 1 with independent blocks and no checksums, blocks of 64 KB; the last byte is the header's checksum.
_LZ4_HEAD: Final = bytes.fromhex("04224d18604082")
_LZ4_BLOCK: Final = 64 * 1024
_LZ4_SIZE: Final = struct.Struct("<I")
_LZ4_PLAIN: Final = 1 << 31


def unfold(codec: int, payload: Plain, with_bounds: Unfold) -> Plain:
    """The plain records. `with_bounds` says how much may come of it, and raises what there is to raise."""
    if codec == 0:
        return payload
    if codec == SNAPPY and bytes(payload[: len(_XERIAL)]) == _XERIAL:
        return _unfold_blocks(memoryview(payload)[len(_XERIAL_HEAD) :], with_bounds)
    return with_bounds(codec, payload)


def _unfold_blocks(payload: memoryview, with_bounds: Unfold) -> bytes:
    at = size = 0
    parts: list[memoryview] = []
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
        if size > codecs.STORED_MAX_BYTES:
            raise ApiError(
                pb.ERROR_CODE_MESSAGE_TOO_LARGE,
                f"the payload decompresses to more than {codecs.STORED_MAX_BYTES} bytes; send fewer records at once",
            )
    return b"".join(parts)


def fold(codec: int, plain: bytes) -> bytes:
    """The records as every client of Kafka can read them."""
    if codec == 0:
        return plain
    if codec == SNAPPY:
        return _fold_snappy(plain)
    return _fold_lz4(plain) if codec == LZ4 else codecs.compress(codec, plain)


def _fold_snappy(plain: bytes) -> bytes:
    parts = [_XERIAL_HEAD]
    for at in range(0, len(plain), _SNAPPY_BLOCK):
        block = bytes(cramjam.snappy.compress_raw(plain[at : at + _SNAPPY_BLOCK]))
        parts += (_SIZE.pack(len(block)), block)
    return b"".join(parts)


def _fold_lz4(plain: bytes) -> bytes:
    parts = [_LZ4_HEAD]
    for at in range(0, len(plain), _LZ4_BLOCK):
        raw = plain[at : at + _LZ4_BLOCK]
        block = bytes(cramjam.lz4.compress_block(raw, store_size=False))
        parts += (
            (_LZ4_SIZE.pack(len(block)), block)
            if len(block) < len(raw)
            else (_LZ4_SIZE.pack(len(raw) | _LZ4_PLAIN), raw)
        )
    return b"".join([*parts, bytes(4)])

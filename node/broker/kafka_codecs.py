"""Compression of Kafka's records on the node: as every client of Kafka can read it, and the other way within bounds.

Snappy is in the blocks that Kafka's Java client writes, lz4 in frames of independent blocks: all that it reads.
"""

import struct
from typing import Final

import cramjam

from node.broker import codecs
from node.broker.door import Heavy, OnLoop
from ottla.protocol.batch import ATTR_CODEC_MASK
from ottla.protocol.kafka_codecs import SNAPPY, XERIAL_HEAD, Unfold, unfold
from ottla.protocol.payloads import ATTR_KAFKA
from ottla.protocol.records import PLAIN_MAX_BYTES
from ottla.protocol.walk import Plain

LZ4: Final = 3
BLOCKS_AT_ONCE: Final = 1000
"""Blocks of one payload that are unfolded on the loop: snappy's may be of a byte each."""

_SIZE: Final = struct.Struct(">i")
_SNAPPY_BLOCK: Final = 32 * 1024
# Magic, version 1 with independent blocks and no checksums, blocks of 64 KB; the last byte is the header's checksum.
_LZ4_HEAD: Final = bytes.fromhex("04224d18604082")
_LZ4_BLOCK: Final = 64 * 1024
_LZ4_SIZE: Final = struct.Struct("<I")
_LZ4_PLAIN: Final = 1 << 31


def unpack(form: int, packed: Plain) -> Plain:
    """The plain records of a stored payload. `form`: the codec, with ATTR_KAFKA where the records are Kafka's."""
    codec = form & ATTR_CODEC_MASK
    return unfold(codec, packed, codecs.decompress) if form & ATTR_KAFKA else codecs.decompress(codec, packed)


def pack(form: int, plain: Plain) -> bytes:
    """The other way. `form` has a codec."""
    codec = form & ATTR_CODEC_MASK
    return fold(codec, bytes(plain)) if form & ATTR_KAFKA else codecs.compress(codec, plain)


def within(room: OnLoop | None) -> Unfold:
    """Decompresses the parts of one payload, on the loop as far as there is `room`: it raises Heavy then."""
    blocks = 0

    def bounded(codec: int, payload: Plain) -> memoryview:
        nonlocal blocks
        if room is None:
            return codecs.decompress(codec, payload, PLAIN_MAX_BYTES)
        blocks += 1
        if blocks > BLOCKS_AT_ONCE:
            raise Heavy
        return room.unfold(codec, memoryview(payload))

    return bounded


def fold(codec: int, plain: bytes) -> bytes:
    """The records as every client of Kafka can read them."""
    if codec == 0:
        return plain
    if codec == SNAPPY:
        return _fold_snappy(plain)
    return _fold_lz4(plain) if codec == LZ4 else codecs.compress(codec, plain)


def _fold_snappy(plain: bytes) -> bytes:
    parts = [XERIAL_HEAD]
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

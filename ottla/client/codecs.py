"""Compression on the client's side. gzip is always there; the others need the package `cramjam`."""

import zlib
from typing import Any, Final

from ottla.client.errors import ConfigError, CorruptRecords, UnsupportedCodec
from ottla.v1.record_pb2 import Codec

BY_NAME: Final[dict[str, int]] = {
    "none": Codec.CODEC_NONE,
    "gzip": Codec.CODEC_GZIP,
    "snappy": Codec.CODEC_SNAPPY,
    "lz4": Codec.CODEC_LZ4,
    "zstd": Codec.CODEC_ZSTD,
}
_NAMES: Final = {number: name for name, number in BY_NAME.items()}

DECOMPRESSED_MAX_BYTES: Final = 64 * 1024 * 1024
"""What a batch may decompress to. Twice the server's own limit: a bomb is refused, everything it stores is read."""

_AGAIN: Final = "Next: it is read again; if it stays, look at its producer"


def _cramjam(codec: int) -> Any:
    try:
        import cramjam
    except ImportError:
        raise UnsupportedCodec(
            f"{_NAMES.get(codec, codec)} needs the package cramjam. Next: pip install cramjam, or use gzip"
        ) from None
    return cramjam


def accepted() -> list[Codec.ValueType]:
    """Every codec that this process can decompress. What is not named, the server converts."""
    try:
        import cramjam  # noqa: F401
    except ImportError:
        return [Codec.CODEC_GZIP]
    return [Codec.CODEC_GZIP, Codec.CODEC_SNAPPY, Codec.CODEC_LZ4, Codec.CODEC_ZSTD]


def codec_named(name: str) -> int:
    """The codec's number. Raises ConfigError for an unknown name, UnsupportedCodec where its package is missing."""
    if name not in BY_NAME:
        raise ConfigError(f"compression_type {name!r} is none of {', '.join(BY_NAME)}")
    codec = BY_NAME[name]
    if codec > Codec.CODEC_GZIP:
        _cramjam(codec)
    return codec


def compress(codec: int, payload: bytes) -> bytes:
    """The payload compressed; `codec` is not CODEC_NONE."""
    if codec == Codec.CODEC_GZIP:
        deflate = zlib.compressobj(wbits=31)
        return deflate.compress(payload) + deflate.flush()
    if codec == Codec.CODEC_SNAPPY:
        return bytes(_cramjam(codec).snappy.compress_raw(payload))
    return bytes(getattr(_cramjam(codec), _NAMES[codec]).compress(payload))


def decompress(codec: int, payload: bytes | bytearray | memoryview) -> bytes:
    """The plain payload. Raises CorruptRecords if it is damaged or larger than DECOMPRESSED_MAX_BYTES."""
    if codec == Codec.CODEC_GZIP:
        return _gunzip(payload)
    if codec not in _NAMES:
        raise UnsupportedCodec(f"there is no codec {codec}. Next: update the client")
    cramjam = _cramjam(codec)
    try:
        if codec == Codec.CODEC_SNAPPY:
            if cramjam.snappy.decompress_raw_len(payload) > DECOMPRESSED_MAX_BYTES:
                raise _too_large()
            return bytes(cramjam.snappy.decompress_raw(payload))
        return _into_bounded(getattr(cramjam, _NAMES[codec]), payload)
    except cramjam.DecompressionError as error:
        raise CorruptRecords(f"a batch does not decompress with {_NAMES[codec]}: {error}. {_AGAIN}") from None


def _gunzip(payload: bytes | bytearray | memoryview) -> bytes:
    inflate = zlib.decompressobj(wbits=31)
    try:
        plain = inflate.decompress(payload, DECOMPRESSED_MAX_BYTES)
    except zlib.error as error:
        raise CorruptRecords(f"a batch does not decompress with gzip: {error}. {_AGAIN}") from None
    if inflate.unconsumed_tail:
        raise _too_large()
    if not inflate.eof:
        raise CorruptRecords(f"a batch does not decompress with gzip: it ends too early. {_AGAIN}")
    return plain


def _into_bounded(stream: Any, payload: bytes | bytearray | memoryview) -> bytes:
    room = max(64 * 1024, 4 * len(payload))
    while True:
        plain = bytearray(min(room, DECOMPRESSED_MAX_BYTES))
        try:
            return bytes(memoryview(plain)[: stream.decompress_into(payload, plain)])
        except Exception as error:
            if "whole buffer" not in str(error):
                raise
        if room >= DECOMPRESSED_MAX_BYTES:
            raise _too_large()
        room *= 4


def _too_large() -> CorruptRecords:
    return CorruptRecords(f"a batch decompresses to more than {DECOMPRESSED_MAX_BYTES} bytes and was refused. {_AGAIN}")

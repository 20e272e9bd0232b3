"""Compression of batch payloads, bounded: what comes from outside never decides how much memory is used."""

from typing import Any, Final

import cramjam

from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from ottla.v1.record_pb2 import Codec

DECOMPRESSED_MAX_BYTES: Final = 32 * 1024 * 1024
"""The largest payload after decompression: as much as the largest message, so it can be sent on uncompressed."""

_FIRST_GUESS: Final = 64 * 1024
_STREAMS: Final[dict[int, Any]] = {
    Codec.CODEC_GZIP: cramjam.gzip,
    Codec.CODEC_LZ4: cramjam.lz4,
    Codec.CODEC_ZSTD: cramjam.zstd,
}
NAMES: Final = {
    Codec.CODEC_NONE: "uncompressed",
    Codec.CODEC_GZIP: "gzip",
    Codec.CODEC_SNAPPY: "snappy",
    Codec.CODEC_LZ4: "lz4",
    Codec.CODEC_ZSTD: "zstd",
}
"""Codec number -> the value of the topic config `compression.type`."""


def compress(codec: int, payload: bytes) -> bytes:
    """The payload compressed with one of the known codecs (not CODEC_NONE)."""
    if codec == Codec.CODEC_SNAPPY:
        return bytes(cramjam.snappy.compress_raw(payload))
    return bytes(_STREAMS[codec].compress(payload))


def decompress(codec: int, payload: bytes) -> bytes:
    """The plain payload. Raises ApiError: UNSUPPORTED_COMPRESSION_TYPE, INVALID_RECORD (damaged), MESSAGE_TOO_LARGE."""
    if codec == Codec.CODEC_SNAPPY:
        return _snappy(payload)
    stream = _STREAMS.get(codec)
    if stream is None:
        known = ", ".join(NAMES[known] for known in sorted(NAMES))
        raise ApiError(pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE, f"there is no codec {codec}; known are {known}")
    room = min(max(_FIRST_GUESS, 4 * len(payload)), DECOMPRESSED_MAX_BYTES)
    while True:
        plain = bytearray(room)
        try:
            length = stream.decompress_into(payload, plain)
            return bytes(memoryview(plain)[:length])
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise _damaged(codec, error) from None
        if room == DECOMPRESSED_MAX_BYTES:
            raise _too_large()
        room = min(4 * room, DECOMPRESSED_MAX_BYTES)


def _snappy(payload: bytes) -> bytes:
    try:
        if cramjam.snappy.decompress_raw_len(payload) > DECOMPRESSED_MAX_BYTES:
            raise _too_large()
        return bytes(cramjam.snappy.decompress_raw(payload))
    except cramjam.DecompressionError as error:
        raise _damaged(Codec.CODEC_SNAPPY, error) from None


def _damaged(codec: int, error: Exception) -> ApiError:
    return ApiError(pb.ERROR_CODE_INVALID_RECORD, f"the payload does not decompress with {NAMES[codec]}: {error}")  # type: ignore[index]


def _too_large() -> ApiError:
    return ApiError(
        pb.ERROR_CODE_MESSAGE_TOO_LARGE, f"the payload decompresses to more than {DECOMPRESSED_MAX_BYTES} bytes"
    )

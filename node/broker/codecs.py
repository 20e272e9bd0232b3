"""Compression of batch payloads, bounded: what comes from outside never decides how much memory is used."""

from typing import Any, Final

import cramjam

from ottla.protocol.errors import ApiError
from ottla.protocol.records import STORED_MAX_BYTES
from ottla.protocol.walk import Plain
from ottla.v1 import error_pb2 as pb
from ottla.v1.record_pb2 import Codec

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


def compress(codec: int, payload: Plain) -> bytes:
    """The payload compressed with one of the known codecs (not CODEC_NONE)."""
    if codec == Codec.CODEC_SNAPPY:
        return bytes(cramjam.snappy.compress_raw(payload))
    return bytes(_STREAMS[codec].compress(payload))


def decompress(codec: int, payload: Plain, plain_max: int = STORED_MAX_BYTES) -> memoryview:
    """The plain payload. Raises ApiError: UNSUPPORTED_COMPRESSION_TYPE, INVALID_RECORD (damaged), MESSAGE_TOO_LARGE."""
    plain = decompress_within(codec, payload, plain_max)
    if plain is None:
        raise ApiError(
            pb.ERROR_CODE_MESSAGE_TOO_LARGE,
            f"the {len(payload)} bytes of the payload decompress to more than {plain_max} bytes; send fewer records "
            "in one batch",
        )
    return plain


def decompress_within(codec: int, payload: Plain, plain_max: int) -> memoryview | None:
    """The plain payload, or None if it has more than `plain_max` bytes; no more memory than that is ever filled. Raises
    ApiError: UNSUPPORTED_COMPRESSION_TYPE, INVALID_RECORD (damaged)."""
    if codec == Codec.CODEC_SNAPPY:
        return _snappy(payload, plain_max)
    stream = _STREAMS.get(codec)
    if stream is None:
        known = ", ".join(NAMES[known] for known in sorted(NAMES))
        raise ApiError(pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE, f"there is no codec {codec}; known are {known}")
    room = min(max(_FIRST_GUESS, 4 * len(payload)), plain_max)
    while True:
        plain = bytearray(room)
        try:
            return memoryview(plain)[: stream.decompress_into(payload, plain)]
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise _damaged(codec, error) from None
        del plain  # before there is a larger one
        if room == plain_max:
            return None
        room = min(4 * room, plain_max)


def _snappy(payload: Plain, plain_max: int) -> memoryview | None:
    try:
        length = cramjam.snappy.decompress_raw_len(payload)
        if length > plain_max:
            return None
        plain = bytearray(length)
        return memoryview(plain)[: cramjam.snappy.decompress_raw_into(payload, plain)]
    except cramjam.DecompressionError as error:
        raise _damaged(Codec.CODEC_SNAPPY, error) from None


def _damaged(codec: int, error: Exception) -> ApiError:
    return ApiError(pb.ERROR_CODE_INVALID_RECORD, f"the payload does not decompress with {NAMES[codec]}: {error}")  # type: ignore[index]

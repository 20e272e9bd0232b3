"""A leader's response to a follower as bytes, so that its batches are copied neither into a message nor out of one.

It is a serialized `ReplicaFetchResponse`. In a result with batches these come first (protobuf allows any order): who
reads it finds them without decoding what lies beside them. A response of a node that orders its fields otherwise is
read as a message.
"""

from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from ottla.internal.v1.replication_pb2 import ReplicaFetchResponse, ReplicaFetchResult
from ottla.protocol.batch import CorruptBatch, read_varint, varint
from ottla.v1 import error_pb2 as pb

_RESULT_TAG: Final = 0x0A  # ReplicaFetchResponse.partitions
_BATCHES_TAG: Final = 0x22  # ReplicaFetchResult.batches


class Response(NamedTuple):
    """Each partition's result with its batches, which the result itself lacks. `error`: the stream is refused."""

    results: list[tuple[ReplicaFetchResult, bytes | memoryview]]
    error: pb.Error | None = None


def result_parts(result: ReplicaFetchResult, batches: bytes) -> tuple[bytes, ...]:
    """What one result, which lacks its batches, is in a response: to be joined with others."""
    head = result.SerializeToString()
    if not batches:
        return b"\x0a", varint(len(head)), head
    prefix = b"\x22" + varint(len(batches))
    return b"\x0a", varint(len(prefix) + len(batches) + len(head)), prefix, batches, head


def read_response(message: bytes) -> Response:
    """Raises DecodeError for bytes that are no response."""
    view = memoryview(message)
    results: list[tuple[ReplicaFetchResult, bytes | memoryview]] = []
    at = 0
    try:
        while at < len(message):
            if message[at] != _RESULT_TAG:
                return _read_typed(message)
            length, at = read_varint(message, at + 1)
            end = at + length
            batches: bytes | memoryview = b""
            if length and message[at] == _BATCHES_TAG:
                size, start = read_varint(message, at + 1)
                at = start + size
                batches = view[start:at]
            if not at <= end <= len(message):
                raise DecodeError("the response ends inside a result")
            result = ReplicaFetchResult.FromString(message[at:end])
            results.append((result, batches or result.batches))
            at = end
    except (CorruptBatch, IndexError):
        raise DecodeError("the response ends inside a length") from None
    return Response(results)


def _read_typed(message: bytes) -> Response:
    response = ReplicaFetchResponse.FromString(message)
    results: list[tuple[ReplicaFetchResult, bytes | memoryview]] = [
        (result, result.batches) for result in response.partitions
    ]
    return Response(results, response.error if response.HasField("error") else None)

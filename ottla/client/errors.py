"""What can go wrong for a user of the client.

OttlaError (an ApiError: code, message, retriable)
├── ConfigError             a setting or an argument makes no sense (a ValueError, too)
├── ConnectionFailed        no node answers
├── RequestTimedOut         no answer in time: whether the request took effect is unknown
├── UnknownTopic            the cluster has no such topic or partition
├── RecordTooLarge          a record is over max_request_size
├── BufferFull              send waited max_block_ms for room
├── Closed                  the producer, consumer or client was closed
├── DeliveryFailed          a record was refused, or not acknowledged in time
├── OffsetOutOfRange        a position lies outside of the log and auto_offset_reset is none
├── LogTruncation           what was read is no longer in the log (KIP-320)
├── CorruptRecords          bytes from the server do not match their checksums
└── UnsupportedCodec        the codec's package is not installed
"""

import grpc
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status

from ottla.protocol.errors import ApiError, name_of
from ottla.v1 import error_pb2 as pb


class OttlaError(ApiError):
    """Any failure of the client. `message` has the cause, the facts and the next step."""

    default_code: int = pb.ERROR_CODE_UNKNOWN_SERVER_ERROR

    def __init__(self, message: str, code: int | None = None, *, retriable: bool | None = None) -> None:
        super().__init__(self.default_code if code is None else code, message, retriable_override=retriable)

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), dict(self.__dict__))


def _restore(kind: type[OttlaError], fields: dict[str, object]) -> OttlaError:
    error = kind.__new__(kind)
    error.__dict__.update(fields)
    return error


class ConfigError(OttlaError, ValueError):
    """A setting or an argument makes no sense."""

    default_code = pb.ERROR_CODE_INVALID_CONFIG


class ConnectionFailed(OttlaError):
    """No node of the cluster answers."""

    default_code = pb.ERROR_CODE_NETWORK_EXCEPTION


class RequestTimedOut(OttlaError):
    """No answer in time. Whether a change took effect is unknown: look before you repeat it."""

    default_code = pb.ERROR_CODE_REQUEST_TIMED_OUT


class UnknownTopic(OttlaError):
    """The cluster has no such topic or partition."""

    default_code = pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION


class RecordTooLarge(OttlaError):
    """A record does not fit into max_request_size. Nothing was sent."""

    default_code = pb.ERROR_CODE_MESSAGE_TOO_LARGE


class BufferFull(OttlaError):
    """send() waited max_block_ms for room in the buffer. The record was not taken."""

    default_code = pb.ERROR_CODE_REQUEST_TIMED_OUT


class Closed(OttlaError):
    """The object was closed before, or while, it was used."""

    default_code = pb.ERROR_CODE_INVALID_REQUEST


class DeliveryFailed(OttlaError):
    """A record was not acknowledged. `maybe_written` tells apart "certainly not in the log" (False) and "unknown"
    (True): then it may be there, or still appear. `record_errors` has (index in the batch, reason) where the server
    named records (KIP-467)."""

    def __init__(self, message: str, code: int, *, maybe_written: bool, retriable: bool | None = None) -> None:
        super().__init__(message, code, retriable=retriable)
        self.maybe_written = maybe_written
        self.record_errors: tuple[tuple[int, str], ...] = ()


class OffsetOutOfRange(OttlaError):
    """A position is outside of the log and auto_offset_reset is none. Seek to go on."""

    default_code = pb.ERROR_CODE_OFFSET_OUT_OF_RANGE

    def __init__(self, message: str, topic: str, partition: int, offset: int) -> None:
        super().__init__(message)
        self.topic, self.partition, self.offset = topic, partition, offset


class LogTruncation(OttlaError):
    """Records that were read are no longer in the log: an unclean election took them back (KIP-320). Everything before
    `safe_offset` is what was read; seek there to read what took the place of the rest."""

    default_code = pb.ERROR_CODE_OFFSET_OUT_OF_RANGE

    def __init__(self, topic: str, partition: int, offset: int, safe_offset: int) -> None:
        super().__init__(
            f"{topic}-{partition} was read up to offset {offset}, but the log now differs from offset "
            f"{safe_offset} on: an election took records back. Next: seek to {safe_offset}, "
            "and undo what came of later records"
        )
        self.topic, self.partition, self.offset, self.safe_offset = topic, partition, offset, safe_offset


class CorruptRecords(OttlaError):
    """A batch does not match its checksums, or is of another partition."""

    default_code = pb.ERROR_CODE_CORRUPT_MESSAGE


class UnsupportedCodec(OttlaError):
    """The codec's package is not installed."""

    default_code = pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE


_BY_CODE: dict[int, type[OttlaError]] = {
    pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION: UnknownTopic,
    pb.ERROR_CODE_UNKNOWN_TOPIC_ID: UnknownTopic,
    pb.ERROR_CODE_REQUEST_TIMED_OUT: RequestTimedOut,
    pb.ERROR_CODE_INVALID_CONFIG: ConfigError,
}


def from_server(error: pb.Error) -> OttlaError:
    """What a server said about one item of a request, as the class a user would catch. The code stays the server's."""
    return _BY_CODE.get(error.code, OttlaError)(error.message, error.code, retriable=error.retriable)


def refusal_in(error: aio.AioRpcError) -> pb.Error | None:
    """What a node said when it refused a whole call; None where the failure is gRPC's own."""
    status = rpc_status.from_call(error)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details if status is not None else ():
        detail.Unpack(info)
        detail.Unpack(retry)
    if info.domain != "ottla":
        return None
    return pb.Error(
        code=int(info.metadata["code"]),  # type: ignore[arg-type] # of a later server, too
        message=error.details() or "",
        retriable=info.metadata["retriable"] == "true",
        retry_after_ms=retry.retry_delay.ToMilliseconds(),
    )


def from_call(error: aio.AioRpcError, address: str) -> OttlaError:
    """A whole call that failed."""
    status, details = error.code(), error.details() or "no details"
    if (refusal := refusal_in(error)) is not None:
        said = details.removeprefix(f"{name_of(refusal.code)}: ")
        refusal.message = f"{address} refused the call: {said}"
        return from_server(refusal)
    if status == grpc.StatusCode.UNAVAILABLE:
        return ConnectionFailed(
            f"{address} does not answer ({details}). Next: check that the node runs and is reachable"
        )
    if status == grpc.StatusCode.DEADLINE_EXCEEDED:
        return RequestTimedOut(
            f"{address} did not answer in time; whether the request took effect is unknown. "
            "Next: look at the cluster's state before sending it again"
        )
    return OttlaError(f"the call to {address} failed with {status.name}: {details}. Next: look into the node's log")

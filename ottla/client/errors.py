"""What can go wrong for a user of the client.

OttlaError (an ApiError: code, message, retriable)
├── ConfigError             a setting or an argument makes no sense, here or to the cluster (a ValueError, too)
├── ConnectionFailed        no node answers
├── RequestTimedOut         no answer in time: whether the request took effect is unknown
├── UnknownTopic            the cluster has no such topic or partition
├── TopicAlreadyExists      create_topic without exists_ok
├── RecordTooLarge          a record is over max_request_size, or over the topic's max.message.bytes
├── InvalidRecord           the topic does not take the record: no key where it is compacted, a time out of bounds
├── NotEnoughReplicas       fewer replicas are in sync than min.insync.replicas
├── LeaderNotAvailable      a partition has no leader
├── BufferFull              send waited max_block_ms for room
├── Closed                  the producer, consumer or client was closed
├── DeliveryFailed          a record was refused, or not acknowledged in time; also of the class of its reason
├── OffsetOutOfRange        a position lies outside of the log
├── LogTruncation           what was read is no longer in the log (KIP-320)
├── DeserializationFailed   key_deserializer or value_deserializer does not take a record
├── SchemaRegistryError     a schema registry refused, or does not answer
├── CorruptRecords          bytes do not match their checksums
├── UnsupportedCodec        the codec's package is not installed
├── UnknownGroup            the cluster has no such group
├── GroupNotEmpty           a group with members can be neither deleted nor reset
├── MemberFenced            another member has the partitions, or the instance id, by now
├── UnknownUser             the cluster has no such user
├── UserAlreadyExists       create_user
├── AuthenticationFailed    wrong user or password, or a node that wants users and was given none
├── NotAuthorized           the caller has not the right to do this
├── Throttled               the node has no room for the request now
├── PolicyViolation         a limit of the cluster is reached
├── UnsupportedVersion      one side is too old for what was asked
└── WrongCluster            the node belongs to another cluster
"""

import contextlib
from collections.abc import Iterable
from typing import Any, Final, Self

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from ottla.protocol.errors import ApiError, name_of
from ottla.v1 import error_pb2 as pb

_DETAILS: Final = "grpc-status-details-bin"


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
    """A setting or an argument makes no sense; a node may say so, too, of a config or a number of replicas."""

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


class TopicAlreadyExists(OttlaError):
    """There is a topic of that name. `create_topic(..., exists_ok=True)` takes it as it is."""

    default_code = pb.ERROR_CODE_TOPIC_ALREADY_EXISTS


class RecordTooLarge(OttlaError):
    """A record does not fit into max_request_size, and was not sent; or into the topic's max.message.bytes, and was not
    stored."""

    default_code = pb.ERROR_CODE_MESSAGE_TOO_LARGE


class InvalidRecord(OttlaError):
    """The topic does not take the record. It was not stored."""

    default_code = pb.ERROR_CODE_INVALID_RECORD


class NotEnoughReplicas(OttlaError):
    """Fewer replicas are in sync than the topic's min.insync.replicas asks for."""

    default_code = pb.ERROR_CODE_NOT_ENOUGH_REPLICAS


class LeaderNotAvailable(OttlaError):
    """A partition has no leader: no replica that may lead it is up."""

    default_code = pb.ERROR_CODE_LEADER_NOT_AVAILABLE


class BufferFull(OttlaError):
    """send() waited max_block_ms for room in the buffer. The record was not taken."""

    default_code = pb.ERROR_CODE_REQUEST_TIMED_OUT


class Closed(OttlaError):
    """The object was closed before, or while, it was used."""

    default_code = pb.ERROR_CODE_INVALID_REQUEST


class DeliveryFailed(OttlaError):
    """A record was not acknowledged. `maybe_written` tells apart "certainly not in the log" (False) and "unknown"
    (True): then it may be there, or still appear. `record_errors` has (index in the batch, reason) where the server
    named records (KIP-467).

    It is also of the class of its code, so that `except NotEnoughReplicas` catches it, too."""

    def __new__(cls, message: str = "", code: int = 0, **_: object) -> Self:
        made: Self = super().__new__(_UNDELIVERED.get(code, cls), message, code)
        return made

    def __init__(self, message: str, code: int, *, maybe_written: bool, retriable: bool | None = None) -> None:
        super().__init__(message, code, retriable=retriable)
        self.maybe_written = maybe_written
        self.record_errors: tuple[tuple[int, str], ...] = ()

    def __reduce__(self) -> tuple[object, ...]:
        return _restore_delivery, (dict(self.__dict__),)


def _restore_delivery(fields: dict[str, object]) -> DeliveryFailed:
    error = DeliveryFailed.__new__(DeliveryFailed, code=fields["code"])  # type: ignore[arg-type]
    error.__dict__.update(fields)
    return error


class OffsetOutOfRange(OttlaError):
    """A position is outside of the log, and auto_offset_reset is none: seek to go on. `topic`, `partition` and `offset`
    say which, for a consumer."""

    default_code = pb.ERROR_CODE_OFFSET_OUT_OF_RANGE

    def __init__(
        self,
        message: str,
        code: int | None = None,
        *,
        retriable: bool | None = None,
        topic: str = "",
        partition: int = -1,
        offset: int = -1,
    ) -> None:
        super().__init__(message, code, retriable=retriable)
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


class DeserializationFailed(OttlaError):
    """A deserializer raised for the record at `offset`; what it raised is the `__cause__`. The partition stays there:
    seek to the offset behind it to skip the record."""

    default_code = pb.ERROR_CODE_INVALID_RECORD

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        super().__init__(
            f"{topic}-{partition}: the record at offset {offset} can't be deserialized: {reason}. "
            f"Next: mend the deserializer, or seek to {offset + 1} to skip the record"
        )
        self.topic, self.partition, self.offset = topic, partition, offset


class SchemaRegistryError(OttlaError):
    """A schema registry refused what was asked, or does not answer (retriable). `status` is HTTP's, 0 without an
    answer; `error_code` the registry's own, such as 40403 for an id that it does not know."""

    default_code = pb.ERROR_CODE_INVALID_REQUEST

    def __init__(
        self,
        message: str,
        code: int | None = None,
        *,
        retriable: bool | None = None,
        status: int = 0,
        error_code: int = 0,
    ) -> None:
        super().__init__(message, code, retriable=retriable)
        self.status, self.error_code = status, error_code


class CorruptRecords(OttlaError):
    """A batch does not match its checksums, or is of another partition."""

    default_code = pb.ERROR_CODE_CORRUPT_MESSAGE


class UnsupportedCodec(OttlaError):
    """The codec's package is not installed."""

    default_code = pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE


class UnknownGroup(OttlaError):
    """The cluster has no such group: it has neither members nor positions."""

    default_code = pb.ERROR_CODE_GROUP_ID_NOT_FOUND


class GroupNotEmpty(OttlaError):
    """The group has members: close them before its positions are moved or deleted."""

    default_code = pb.ERROR_CODE_NON_EMPTY_GROUP


class MemberFenced(OttlaError):
    """The partitions, or the group_instance_id, are another member's by now: what was not committed is read again."""

    default_code = pb.ERROR_CODE_FENCED_MEMBER_EPOCH


class UnknownUser(OttlaError):
    """The cluster has no such user."""

    default_code = pb.ERROR_CODE_RESOURCE_NOT_FOUND


class UserAlreadyExists(OttlaError):
    """There is a user of that name."""

    default_code = pb.ERROR_CODE_DUPLICATE_RESOURCE


class AuthenticationFailed(OttlaError):
    """The user or the password is wrong, or the node wants a user and was given none."""

    default_code = pb.ERROR_CODE_SASL_AUTHENTICATION_FAILED


class NotAuthorized(OttlaError):
    """The caller has not the right to do this."""

    default_code = pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED


class Throttled(OttlaError):
    """The node has no room for the request now; it was not begun."""

    default_code = pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED


class PolicyViolation(OttlaError):
    """A limit of the cluster is reached; the message names it."""

    default_code = pb.ERROR_CODE_POLICY_VIOLATION


class UnsupportedVersion(OttlaError):
    """The client or the cluster is too old for what was asked."""

    default_code = pb.ERROR_CODE_UNSUPPORTED_VERSION


class WrongCluster(OttlaError):
    """The node that answers belongs to another cluster than the one the client knows."""

    default_code = pb.ERROR_CODE_INCONSISTENT_CLUSTER_ID


_CODES: dict[type[OttlaError], tuple[int, ...]] = {
    ConfigError: (
        pb.ERROR_CODE_INVALID_CONFIG,
        pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION,
        pb.ERROR_CODE_INVALID_PARTITIONS,
        pb.ERROR_CODE_INVALID_REPLICATION_FACTOR,
        pb.ERROR_CODE_INVALID_REPLICA_ASSIGNMENT,
        pb.ERROR_CODE_INVALID_REQUIRED_ACKS,
        pb.ERROR_CODE_INVALID_GROUP_ID,
        pb.ERROR_CODE_INVALID_SESSION_TIMEOUT,
        pb.ERROR_CODE_INVALID_REGULAR_EXPRESSION,
        pb.ERROR_CODE_UNSUPPORTED_ASSIGNOR,
        pb.ERROR_CODE_UNACCEPTABLE_CREDENTIAL,
        pb.ERROR_CODE_OFFSET_METADATA_TOO_LARGE,
    ),
    RequestTimedOut: (pb.ERROR_CODE_REQUEST_TIMED_OUT,),
    UnknownTopic: (pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION, pb.ERROR_CODE_UNKNOWN_TOPIC_ID),
    TopicAlreadyExists: (pb.ERROR_CODE_TOPIC_ALREADY_EXISTS,),
    RecordTooLarge: (pb.ERROR_CODE_MESSAGE_TOO_LARGE, pb.ERROR_CODE_RECORD_LIST_TOO_LARGE),
    InvalidRecord: (pb.ERROR_CODE_INVALID_RECORD, pb.ERROR_CODE_INVALID_TIMESTAMP),
    NotEnoughReplicas: (pb.ERROR_CODE_NOT_ENOUGH_REPLICAS, pb.ERROR_CODE_NOT_ENOUGH_REPLICAS_AFTER_APPEND),
    LeaderNotAvailable: (pb.ERROR_CODE_LEADER_NOT_AVAILABLE, pb.ERROR_CODE_ELIGIBLE_LEADERS_NOT_AVAILABLE),
    OffsetOutOfRange: (pb.ERROR_CODE_OFFSET_OUT_OF_RANGE,),
    CorruptRecords: (pb.ERROR_CODE_CORRUPT_MESSAGE,),
    UnsupportedCodec: (pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE,),
    UnknownGroup: (pb.ERROR_CODE_GROUP_ID_NOT_FOUND,),
    GroupNotEmpty: (pb.ERROR_CODE_NON_EMPTY_GROUP,),
    MemberFenced: (
        pb.ERROR_CODE_FENCED_MEMBER_EPOCH,
        pb.ERROR_CODE_STALE_MEMBER_EPOCH,
        pb.ERROR_CODE_UNKNOWN_MEMBER_ID,
        pb.ERROR_CODE_ILLEGAL_GENERATION,
        pb.ERROR_CODE_FENCED_INSTANCE_ID,
        pb.ERROR_CODE_UNRELEASED_INSTANCE_ID,
    ),
    UnknownUser: (pb.ERROR_CODE_RESOURCE_NOT_FOUND,),
    UserAlreadyExists: (pb.ERROR_CODE_DUPLICATE_RESOURCE,),
    AuthenticationFailed: (pb.ERROR_CODE_SASL_AUTHENTICATION_FAILED,),
    NotAuthorized: (
        pb.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED,
        pb.ERROR_CODE_GROUP_AUTHORIZATION_FAILED,
        pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED,
    ),
    Throttled: (pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED,),
    PolicyViolation: (pb.ERROR_CODE_POLICY_VIOLATION,),
    UnsupportedVersion: (pb.ERROR_CODE_UNSUPPORTED_VERSION,),
    WrongCluster: (pb.ERROR_CODE_INCONSISTENT_CLUSTER_ID,),
}
"""What one catches for which codes of a node; other codes are plain OttlaErrors."""
_BY_CODE = {code: kind for kind, codes in _CODES.items() for code in codes}
_UNDELIVERED: dict[int, type[Any]] = {
    code: type("DeliveryFailed", (DeliveryFailed, kind), {"__module__": __name__, "__doc__": DeliveryFailed.__doc__})
    for code, kind in _BY_CODE.items()
}
"""A failed delivery that is of the class of its code, too."""


def from_server(error: pb.Error) -> OttlaError:
    """What a server said about one item of a request, as the class a user would catch. The code stays the server's."""
    return _BY_CODE.get(error.code, OttlaError)(error.message, error.code, retriable=error.retriable)


def refusal_in(error: aio.AioRpcError) -> pb.Error | None:
    """What a node said when it refused a whole call; None where the failure is gRPC's own."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in _details(error):
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


def _details(error: aio.AioRpcError) -> Iterable[any_pb2.Any]:
    """The messages of google.rpc's error model beside the status, if there are any."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            with contextlib.suppress(DecodeError):  # of something between us and a node
                details: Iterable[any_pb2.Any] = status_pb2.Status.FromString(value).details
                return details
    return ()


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

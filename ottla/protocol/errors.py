"""Every error code in one table: whether to retry, whether to refresh metadata, the gRPC status, and what to do next.

`ApiError` is the one exception for a refusal with a code. Servers raise it and put `to_proto()` in the item's result;
clients get it back with `ApiError.from_proto()`. Codes and names are Kafka's (its `Errors.java`).
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from ottla.v1 import error_pb2 as pb
from ottla.v1.error_pb2 import ErrorCode


class Rule(NamedTuple):
    """How a client should treat a code. `grpc_status` is the name of the status when a whole call fails with it."""

    retriable: bool
    refresh_metadata: bool
    grpc_status: str
    next_step: str


_FINAL: Final = "INVALID_ARGUMENT"
_GONE: Final = "UNAVAILABLE"
_STATE: Final = "FAILED_PRECONDITION"
_ABORT: Final = "ABORTED"

RULES: Final[dict[int, Rule]] = {
    pb.ERROR_CODE_UNKNOWN_SERVER_ERROR: Rule(False, False, "UNKNOWN", "look into the node's log, and report it"),
    pb.ERROR_CODE_OFFSET_OUT_OF_RANGE: Rule(False, False, "OUT_OF_RANGE", "seek to an offset that exists"),
    pb.ERROR_CODE_CORRUPT_MESSAGE: Rule(True, False, "DATA_LOSS", "send or read it again"),
    pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION: Rule(True, True, "NOT_FOUND", "check the name, or create the topic"),
    pb.ERROR_CODE_LEADER_NOT_AVAILABLE: Rule(True, True, _GONE, "wait for an election"),
    pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER: Rule(True, True, _STATE, "ask the leader that is named, or any node"),
    pb.ERROR_CODE_REQUEST_TIMED_OUT: Rule(
        True, False, "DEADLINE_EXCEEDED", "look whether it took effect; a producer retries with the same sequence"
    ),
    pb.ERROR_CODE_MESSAGE_TOO_LARGE: Rule(
        False, False, "RESOURCE_EXHAUSTED", "send less at once, or raise max.message.bytes"
    ),
    pb.ERROR_CODE_OFFSET_METADATA_TOO_LARGE: Rule(False, False, _FINAL, "shorten the metadata"),
    pb.ERROR_CODE_NETWORK_EXCEPTION: Rule(
        True, True, _GONE, "look whether it took effect; a producer retries with the same sequence"
    ),
    pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS: Rule(True, False, _GONE, "wait a moment"),
    pb.ERROR_CODE_COORDINATOR_NOT_AVAILABLE: Rule(True, True, _GONE, "wait for an election"),
    pb.ERROR_CODE_NOT_COORDINATOR: Rule(True, True, _GONE, "ask any node again"),
    pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION: Rule(False, False, _FINAL, "use another name"),
    pb.ERROR_CODE_RECORD_LIST_TOO_LARGE: Rule(False, False, _FINAL, "send fewer records at once"),
    pb.ERROR_CODE_NOT_ENOUGH_REPLICAS: Rule(True, True, _GONE, "bring replicas back, or lower min.insync.replicas"),
    pb.ERROR_CODE_NOT_ENOUGH_REPLICAS_AFTER_APPEND: Rule(
        True, True, _GONE, "treat it as unknown; retry with the same sequence"
    ),
    pb.ERROR_CODE_INVALID_REQUIRED_ACKS: Rule(False, False, _FINAL, "use 0, 1 or -1"),
    pb.ERROR_CODE_ILLEGAL_GENERATION: Rule(False, False, _ABORT, "join the group again"),
    pb.ERROR_CODE_INCONSISTENT_GROUP_PROTOCOL: Rule(
        False, False, _STATE, "use another group, or wait until this one has no members"
    ),
    pb.ERROR_CODE_INVALID_GROUP_ID: Rule(False, False, _FINAL, "use 1 to 255 characters"),
    pb.ERROR_CODE_UNKNOWN_MEMBER_ID: Rule(False, False, _ABORT, "join the group again"),
    pb.ERROR_CODE_INVALID_SESSION_TIMEOUT: Rule(False, False, _FINAL, "use a time-out in the allowed range"),
    pb.ERROR_CODE_REBALANCE_IN_PROGRESS: Rule(False, False, _ABORT, "join the group again"),
    pb.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED: Rule(
        False, False, "PERMISSION_DENIED", "ask for the right to use the topic"
    ),
    pb.ERROR_CODE_GROUP_AUTHORIZATION_FAILED: Rule(
        False, False, "PERMISSION_DENIED", "ask for the right to use the group"
    ),
    pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED: Rule(False, False, "PERMISSION_DENIED", "ask for the right to do this"),
    pb.ERROR_CODE_INVALID_TIMESTAMP: Rule(False, False, _FINAL, "check the producer's clock"),
    pb.ERROR_CODE_UNSUPPORTED_SASL_MECHANISM: Rule(False, False, _FINAL, "use one of the mechanisms that are named"),
    pb.ERROR_CODE_ILLEGAL_SASL_STATE: Rule(False, False, _STATE, "connect again, and log in first"),
    pb.ERROR_CODE_UNSUPPORTED_VERSION: Rule(False, False, "UNIMPLEMENTED", "update the older side"),
    pb.ERROR_CODE_TOPIC_ALREADY_EXISTS: Rule(False, False, "ALREADY_EXISTS", "use it, or choose another name"),
    pb.ERROR_CODE_INVALID_PARTITIONS: Rule(False, False, _FINAL, "choose a number in the allowed range"),
    pb.ERROR_CODE_INVALID_REPLICATION_FACTOR: Rule(False, False, _FINAL, "choose at most the number of live brokers"),
    pb.ERROR_CODE_INVALID_REPLICA_ASSIGNMENT: Rule(
        False, False, _FINAL, "name each live broker at most once per partition"
    ),
    pb.ERROR_CODE_INVALID_CONFIG: Rule(False, False, _FINAL, "correct the key or the value"),
    pb.ERROR_CODE_NOT_CONTROLLER: Rule(True, True, _GONE, "ask again in a moment"),
    pb.ERROR_CODE_INVALID_REQUEST: Rule(False, False, _FINAL, "correct the request"),
    pb.ERROR_CODE_POLICY_VIOLATION: Rule(False, False, "RESOURCE_EXHAUSTED", "stay below the limit, or raise it"),
    pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER: Rule(
        False, False, _ABORT, "retry only if an earlier batch is still unacknowledged"
    ),
    pb.ERROR_CODE_DUPLICATE_SEQUENCE_NUMBER: Rule(False, False, _ABORT, "take it as success: it was stored before"),
    pb.ERROR_CODE_INVALID_PRODUCER_EPOCH: Rule(False, False, _ABORT, "ask for a new producer id"),
    pb.ERROR_CODE_CONCURRENT_TRANSACTIONS: Rule(True, False, _ABORT, "wait a moment"),
    pb.ERROR_CODE_KAFKA_STORAGE_ERROR: Rule(True, True, _GONE, "wait until another replica leads; look into the disk"),
    pb.ERROR_CODE_SASL_AUTHENTICATION_FAILED: Rule(
        False, False, "UNAUTHENTICATED", "check user and password; `ottla user list` shows which users there are"
    ),
    pb.ERROR_CODE_UNKNOWN_PRODUCER_ID: Rule(False, False, _ABORT, "ask for a new producer id"),
    pb.ERROR_CODE_REASSIGNMENT_IN_PROGRESS: Rule(False, False, _STATE, "wait for it, or cancel it"),
    pb.ERROR_CODE_NON_EMPTY_GROUP: Rule(False, False, _STATE, "stop the group's members first"),
    pb.ERROR_CODE_GROUP_ID_NOT_FOUND: Rule(False, False, "NOT_FOUND", "check the group id"),
    pb.ERROR_CODE_FENCED_LEADER_EPOCH: Rule(True, True, _STATE, "refresh metadata, then ask the leader"),
    pb.ERROR_CODE_UNKNOWN_LEADER_EPOCH: Rule(True, True, _STATE, "wait until the node has caught up"),
    pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE: Rule(False, False, _FINAL, "use another codec, or none"),
    pb.ERROR_CODE_STALE_BROKER_EPOCH: Rule(False, False, _STATE, "register again"),
    pb.ERROR_CODE_OFFSET_NOT_AVAILABLE: Rule(True, True, _GONE, "wait until the new leader has caught up"),
    pb.ERROR_CODE_MEMBER_ID_REQUIRED: Rule(False, False, _ABORT, "join again with the id that the answer has"),
    pb.ERROR_CODE_GROUP_MAX_SIZE_REACHED: Rule(False, False, "RESOURCE_EXHAUSTED", "use another group"),
    pb.ERROR_CODE_FENCED_INSTANCE_ID: Rule(False, False, _ABORT, "stop the other member, or use another instance id"),
    pb.ERROR_CODE_ELIGIBLE_LEADERS_NOT_AVAILABLE: Rule(True, True, _GONE, "bring an eligible replica back"),
    pb.ERROR_CODE_ELECTION_NOT_NEEDED: Rule(False, False, _STATE, "nothing needs to be done"),
    pb.ERROR_CODE_NO_REASSIGNMENT_IN_PROGRESS: Rule(False, False, _STATE, "nothing needs to be done"),
    pb.ERROR_CODE_GROUP_SUBSCRIBED_TO_TOPIC: Rule(False, False, _STATE, "stop the members that consume the topic"),
    pb.ERROR_CODE_INVALID_RECORD: Rule(False, False, _FINAL, "correct the record"),
    pb.ERROR_CODE_UNSTABLE_OFFSET_COMMIT: Rule(True, False, _GONE, "wait until the transaction ends"),
    pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED: Rule(True, False, "RESOURCE_EXHAUSTED", "wait as long as the answer says"),
    pb.ERROR_CODE_PRODUCER_FENCED: Rule(False, False, _ABORT, "stop: a newer producer took over"),
    pb.ERROR_CODE_RESOURCE_NOT_FOUND: Rule(
        False, False, "NOT_FOUND", "check the name; `ottla user list` shows which users there are"
    ),
    pb.ERROR_CODE_DUPLICATE_RESOURCE: Rule(
        False, False, "ALREADY_EXISTS", "`ottla user passwd` changes the password of a user that is there"
    ),
    pb.ERROR_CODE_UNACCEPTABLE_CREDENTIAL: Rule(False, False, _FINAL, "correct what is named"),
    pb.ERROR_CODE_INVALID_UPDATE_VERSION: Rule(False, False, _STATE, "take the newer state, then decide again"),
    pb.ERROR_CODE_UNKNOWN_TOPIC_ID: Rule(
        True, True, "NOT_FOUND", "refresh metadata: the topic was deleted or created again"
    ),
    pb.ERROR_CODE_DUPLICATE_BROKER_REGISTRATION: Rule(
        False, False, _STATE, "give this node another node.id, or stop the other"
    ),
    pb.ERROR_CODE_BROKER_ID_NOT_REGISTERED: Rule(False, False, _STATE, "start the broker first"),
    pb.ERROR_CODE_INCONSISTENT_TOPIC_ID: Rule(True, True, _STATE, "refresh metadata"),
    pb.ERROR_CODE_INCONSISTENT_CLUSTER_ID: Rule(
        False, False, _STATE, "connect to the right cluster, or check data.dir"
    ),
    pb.ERROR_CODE_INELIGIBLE_REPLICA: Rule(False, True, _STATE, "wait until the replica is back"),
    pb.ERROR_CODE_NEW_LEADER_ELECTED: Rule(False, True, _STATE, "follow the new leader"),
    pb.ERROR_CODE_FENCED_MEMBER_EPOCH: Rule(False, False, _ABORT, "join the group again"),
    pb.ERROR_CODE_UNRELEASED_INSTANCE_ID: Rule(
        False, False, _ABORT, "stop the other member, or use another instance id"
    ),
    pb.ERROR_CODE_UNSUPPORTED_ASSIGNOR: Rule(False, False, _FINAL, "use uniform or range"),
    pb.ERROR_CODE_STALE_MEMBER_EPOCH: Rule(True, False, _ABORT, "take the new assignment, then retry"),
    pb.ERROR_CODE_INVALID_REGISTRATION: Rule(
        False, False, _STATE, "move its data directory away: with an empty one it joins as a new node"
    ),
    pb.ERROR_CODE_TRANSACTION_ABORTABLE: Rule(False, False, _ABORT, "abort the transaction"),
    pb.ERROR_CODE_INVALID_RECORD_STATE: Rule(False, False, _STATE, "the lock is lost: the record is delivered again"),
    pb.ERROR_CODE_INVALID_VOTER_KEY: Rule(False, False, _FINAL, "name the voter's current directory id"),
    pb.ERROR_CODE_DUPLICATE_VOTER: Rule(False, False, _FINAL, "nothing needs to be done"),
    pb.ERROR_CODE_VOTER_NOT_FOUND: Rule(False, False, _FINAL, "see `ottla cluster quorum` for the voters"),
    pb.ERROR_CODE_INVALID_REGULAR_EXPRESSION: Rule(False, False, _FINAL, "correct the expression"),
}


def name_of(code: int) -> str:
    """Kafka's name of a code; a number that this build does not know stays a number."""
    try:
        return ErrorCode.Name(code).removeprefix("ERROR_CODE_")  # type: ignore[arg-type]
    except ValueError:
        return f"ERROR_{code}"


@dataclass(eq=False)
class ApiError(Exception):
    """A refusal with a code. `message` has the cause and the facts; the code's next step is added when it is shown."""

    code: int
    message: str
    leader: int | None = None
    epoch: int | None = None
    address: str = ""
    retry_after_ms: int = 0
    retriable_override: bool | None = None
    next_step: str = ""
    """In place of the code's own."""

    @property
    def name(self) -> str:
        return name_of(self.code)

    @property
    def retriable(self) -> bool:
        """Whether the same request can succeed later. A code this build does not know is final."""
        if self.retriable_override is not None:
            return self.retriable_override
        return self.code in RULES and RULES[self.code].retriable

    @property
    def refresh_metadata(self) -> bool:
        return self.code in RULES and RULES[self.code].refresh_metadata

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"

    def to_proto(self) -> pb.Error:
        """The wire form, with the code's next step at the end of the message."""
        rule = RULES.get(self.code)
        text = self.message.rstrip(".")
        if rule is not None:
            text += f". Next: {self.next_step or rule.next_step}."
        return pb.Error(
            code=self.code,  # type: ignore[arg-type]
            message=text,
            retriable=self.retriable,
            refresh_metadata=self.refresh_metadata,
            leader=self.leader,
            epoch=self.epoch,
            address=self.address,
            retry_after_ms=self.retry_after_ms,
        )

    @classmethod
    def from_proto(cls, error: pb.Error) -> "ApiError":
        """What a server said. Its word on `retriable` counts, so that a new code works with an old client."""
        return cls(
            code=error.code,
            message=error.message,
            leader=error.leader if error.HasField("leader") else None,
            epoch=error.epoch if error.HasField("epoch") else None,
            address=error.address,
            retry_after_ms=error.retry_after_ms,
            retriable_override=error.retriable,
        )

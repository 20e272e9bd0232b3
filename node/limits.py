"""Every bound on what a client may ask of a node, in one place: no legal request may cost other clients their second.

Bounds that depend on the machine or that an operator may want to move are settings (`node.config`); the others are
here, with what the refusal is and what to do about it. docs/configuration.md is written from `BOUNDS`.
"""

import os
from typing import Final, NamedTuple

from ottla.protocol.errors import ApiError
from ottla.protocol.records import PLAIN_MAX_BYTES, RECORDS_MAX
from ottla.v1 import error_pb2 as pb

MIB: Final = 2**20

# Items: what a repeated field of a request holds.
ITEMS_MAX: Final = 10_000
STREAM_POSITIONS_MAX: Final = 20_000
STREAMS_POSITIONS_MAX: Final = 100_000
"""Of all streams of a listener: half a KB each."""
STREAMS_RETRY_MS: Final = 1000
PARTITIONS_PER_REQUEST_MAX: Final = 4000
NODE_ITEMS_MAX: Final = 100_000
"""Of requests between nodes: a node tells of each of its partitions at once when its disk fails."""
ITEM_PARTS_MAX: Final = 50_000
"""Elements within a request's items, all together: the assignments of new topics, the changes of configs."""
AT_ONCE: Final = 200
"""Items that are worked on between two turns of a loop: some microseconds each."""
AT_ONCE_BYTES: Final = 4 * MIB

# Bytes of one request, by what it is for. Requests that carry records have the setting socket.request.max.bytes.
PLAIN_REQUEST_MAX_BYTES: Final = MIB
POSITIONS_REQUEST_MAX_BYTES: Final = 16 * MIB
NODE_REQUEST_MAX_BYTES: Final = 64 * MIB
TRANSPORT_SLACK: Final = 2
"""gRPC takes this many times a listener's limit, so that a request above the limit gets words of ours."""

# Bytes in flight, all calls of a node together.
IN_FLIGHT_SHARE: Final = 32
IN_FLIGHT_MIN_BYTES: Final = 64 * MIB
IN_FLIGHT_MAX_BYTES: Final = 256 * MIB
IN_FLIGHT_RETRY_MS: Final = 100
RECEIVING_MAX: Final = 16
"""Unary requests that a listener asks its clients for at once: each may have as many bytes as one is allowed."""
RECEIVING_LATE_MAX: Final = 4
"""And of clients that were slow just now."""
RECEIVING_LARGE_MAX: Final = 4
RECEIVING_LARGE_BYTES: Final = 4 * MIB
"""And of clients that sent as many bytes at once just now."""
RECEIVING_SLOWLY_MAX: Final = 8
"""And those that take their time."""
LARGE_BYTES: Final = MIB
"""Requests of Kafka's clients, and of streams, of so many bytes wait for room."""
LARGE_SHARE: Final = 4
"""A fourth of the bytes in flight is for those of Kafka's clients that are on their way, and as much for those at work:
what is appended faster than followers copy it would cost them their place in the ISR."""

# Waits.
WAIT_MAX_MS: Final = 60_000

# Producers.
PRODUCERS_MAX: Final = 20_000
"""With an id, of one partition."""

# Groups.
GROUPS_MAX: Final = 10_000
"""Of one partition of `__consumer_offsets`."""
GROUP_MEMBERS_MAX: Final = 5_000
GROUP_SUBSCRIPTIONS_MAX: Final = 100
"""Different ones in one group: who shares work asks for the same."""
GROUP_TOPICS_MAX: Final = 1_000
CLASSIC_MEMBERS_MAX: Final = 2_000
"""Of a classic group: all of them are told, and written, at once."""
GROUP_PROTOCOLS_MAX: Final = 50
"""That a member of a classic group can work with."""
GROUP_METADATA_MAX_BYTES: Final = 192 << 10
"""Of what a member of a classic group says of itself, and of its assignment: a record of the log has both."""
GROUP_BYTES_MAX: Final = 8 * MIB
"""Of what all members of a classic group say of themselves."""
CLASSIC_BYTES_MAX: Final = 64 * MIB
"""The same of all groups of a partition of `__consumer_offsets`."""
TOPIC_REGEX_MAX: Final = 1_000
METADATA_MAX_BYTES: Final = 4096
GROUP_ANSWER_MAX_BYTES: Final = 16 * MIB
"""Of positions, or of descriptions of groups."""
GROUP_LAGS_MAX: Final = 2_000
"""Partitions of groups in the metrics of a node."""

# Users.
USERS_MAX: Final = 10_000

# ACLs.
ACLS_MAX: Final = 20_000
ACLS_ANSWER_MAX_BYTES: Final = 3 * MIB

# Quotas.
QUOTAS_MAX: Final = 10_000
"""Entities that have some."""
QUOTAS_ANSWER_MAX_BYTES: Final = 3 * MIB
QUOTA_DEBT_MAX_S: Final = 10
"""Whoever used up so much time of a quota in advance by unary calls is refused: answers that are held back bound only
who waits for them."""

# Calls.
ADMIN_IN_FLIGHT_MAX: Final = 16
ADMIN_RETRY_MS: Final = 100
WATCHERS_MAX: Final = 5000
WATCHERS_RETRY_MS: Final = 1000
CLIENT_STREAMS_MAX: Final = 256
NODE_STREAMS_MAX: Final = 4096
STOCK_MESSAGE_BYTES: Final = 4 * MIB
"""What a client of gRPC takes in one message unless it was told otherwise."""


class Bound(NamedTuple):
    """A row of docs/configuration.md."""

    what: str
    limit: str
    refusal: str
    next_step: str


BOUNDS: Final = (
    Bound("items of a request", f"{ITEMS_MAX}", "INVALID_REQUEST", "split the request"),
    Bound(
        "elements within the items of a request, together", f"{ITEM_PARTS_MAX}", "INVALID_REQUEST", "split the request"
    ),
    Bound(
        "partitions of one topic that one request makes",
        f"{PARTITIONS_PER_REQUEST_MAX}",
        "POLICY_VIOLATION",
        "make it with fewer and let it grow with CreatePartitions",
    ),
    Bound("positions of a FetchStream", f"{STREAM_POSITIONS_MAX}", "POLICY_VIOLATION", "open another stream"),
    Bound(
        "positions of all FetchStreams of a node",
        f"{STREAMS_POSITIONS_MAX}",
        "THROTTLING_QUOTA_EXCEEDED for the largest stream of the connection that has the most",
        "read by several nodes, or fewer partitions",
    ),
    Bound(
        "bytes of a request without records",
        f"{PLAIN_REQUEST_MAX_BYTES} (1 MiB)",
        "MESSAGE_TOO_LARGE",
        "split the request",
    ),
    Bound(
        "bytes of a request that names positions, or of a group's message",
        f"{POSITIONS_REQUEST_MAX_BYTES} (16 MiB)",
        "MESSAGE_TOO_LARGE",
        "split the request",
    ),
    Bound(
        "bytes of a request with records",
        "`socket.request.max.bytes`; far above it gRPC itself answers RESOURCE_EXHAUSTED",
        "MESSAGE_TOO_LARGE",
        "send less at once, or raise the setting",
    ),
    Bound("records of a batch", f"{RECORDS_MAX}", "MESSAGE_TOO_LARGE", "split the batch"),
    Bound(
        "bytes of a batch after decompression", f"{PLAIN_MAX_BYTES} (32 MiB)", "MESSAGE_TOO_LARGE", "split the batch"
    ),
    Bound(
        "bytes in flight, all calls of a node together",
        f"`in.flight.max.bytes`; 0 = a {IN_FLIGHT_SHARE}th of the memory, from {IN_FLIGHT_MIN_BYTES // MIB} to "
        f"{IN_FLIGHT_MAX_BYTES // MIB} MiB",
        "THROTTLING_QUOTA_EXCEEDED for large calls (COORDINATOR_LOAD_IN_PROGRESS to clients of Kafka that ask for "
        "positions or groups); streams are not read from, readers get little at once",
        "try again after the time that the answer says",
    ),
    Bound(
        "unary requests on their way at once, per listener",
        f"{RECEIVING_MAX}; of clients that were slow in the last 10 s {RECEIVING_LATE_MAX}, of those that sent "
        f"{RECEIVING_LARGE_BYTES // MIB} MiB at once {RECEIVING_LARGE_MAX}, and {RECEIVING_SLOWLY_MAX} that take "
        "longer than 0.6 s; more wait at their clients, whose turns they take",
        "THROTTLING_QUOTA_EXCEEDED for the oldest slow one of the client that has the most",
        "try again after the time that the answer says; send less at once",
    ),
    Bound(
        "bytes of requests of Kafka's clients, and of streams, with 1 MiB and more",
        f"a {LARGE_SHARE}th of `in.flight.max.bytes` from where they begin until they are answered, of Kafka's clients "
        "as much on their way; one gets in alone",
        "none: they wait. Of Kafka's clients' that come slowly, where there is no room for them, the slowest one's "
        "connection is closed",
        "nothing",
    ),
    Bound(
        "time that a request may ask to wait", f"{WAIT_MAX_MS} ms", "none: a longer wait is cut to it", "ask once more"
    ),
    Bound(
        "producers with an id that a partition remembers",
        f"{PRODUCERS_MAX}; the one that is idle the longest is forgotten for a new one, after two minutes at least",
        "THROTTLING_QUOTA_EXCEEDED for the new one",
        "try again after the time that the answer says; share producers",
    ),
    Bound(
        "groups in one partition of `__consumer_offsets`",
        f"{GROUPS_MAX}",
        "POLICY_VIOLATION",
        "delete some, or wait until they expire",
    ),
    Bound("members of a group", f"{GROUP_MEMBERS_MAX}", "POLICY_VIOLATION", "use another group"),
    Bound(
        "members of a classic group (clients of Kafka)",
        f"{CLASSIC_MEMBERS_MAX}",
        "GROUP_MAX_SIZE_REACHED",
        "use another group",
    ),
    Bound(
        "different subscriptions of a group's members",
        f"{GROUP_SUBSCRIPTIONS_MAX}",
        "POLICY_VIOLATION",
        "let members subscribe to the same topics",
    ),
    Bound(
        "protocols of a member of a classic group",
        f"{GROUP_PROTOCOLS_MAX}",
        "INVALID_REQUEST",
        "none",
    ),
    Bound(
        "bytes of such a member's metadata, and of its assignment",
        f"{GROUP_METADATA_MAX_BYTES} (192 KiB)",
        "INVALID_REQUEST",
        "share the topics out among several groups",
    ),
    Bound(
        "bytes of such metadata in a group; in a partition of `__consumer_offsets`",
        f"{GROUP_BYTES_MAX} (8 MiB); {CLASSIC_BYTES_MAX} (64 MiB)",
        "GROUP_MAX_SIZE_REACHED",
        "use another group",
    ),
    Bound(
        "topics that a member names; characters of its expression",
        f"{GROUP_TOPICS_MAX}; {TOPIC_REGEX_MAX}",
        "INVALID_REQUEST; INVALID_REGULAR_EXPRESSION",
        "use an expression, or more members",
    ),
    Bound("bytes of a position's metadata", f"{METADATA_MAX_BYTES}", "OFFSET_METADATA_TOO_LARGE", "shorten it"),
    Bound(
        "bytes of an answer of positions or groups",
        f"{GROUP_ANSWER_MAX_BYTES} (16 MiB)",
        "INVALID_REQUEST",
        "ask for less at once",
    ),
    Bound(
        "partitions of groups in the metrics of a node",
        f"{GROUP_LAGS_MAX}; `ottla_group_lag_unlisted_groups` counts the groups that are left out",
        "none",
        "`ottla group describe`",
    ),
    Bound("users", f"{USERS_MAX}", "POLICY_VIOLATION", "remove some"),
    Bound("ACLs", f"{ACLS_MAX}", "POLICY_VIOLATION", "remove some, or use prefixed ones"),
    Bound(
        "bytes of ACLs in an answer",
        f"{ACLS_ANSWER_MAX_BYTES} (3 MiB)",
        "MESSAGE_TOO_LARGE",
        "name a principal or a resource",
    ),
    Bound("entities with quotas of their own", f"{QUOTAS_MAX}", "POLICY_VIOLATION", "remove some, or use defaults"),
    Bound(
        "bytes of quotas in an answer",
        f"{QUOTAS_ANSWER_MAX_BYTES} (3 MiB)",
        "MESSAGE_TOO_LARGE",
        "name a user, a client id or an address",
    ),
    Bound(
        "calls of AdminService under way at once, per node",
        f"{ADMIN_IN_FLIGHT_MAX}",
        "THROTTLING_QUOTA_EXCEEDED",
        "try again after the time that the answer says",
    ),
    Bound(
        "open WatchMetadata streams, per node",
        f"{WATCHERS_MAX}",
        "THROTTLING_QUOTA_EXCEEDED",
        "watch another node, or ask with GetMetadata",
    ),
    Bound(
        "replicas of a node",
        "`max.partitions.per.node`, and three quarters of the file descriptors (`ulimit -n`) that the node does not "
        "need itself: 108 with 256, 570 with 1 024, more than 4 000 with 8 192; the line `capacity` of its log says it",
        "POLICY_VIOLATION",
        "raise `ulimit -n`, or add nodes",
    ),
    Bound(
        "connections of clients to a node",
        "the rest of those descriptors: 36 with 256, 190 with 1 024",
        "closed at once",
        "raise `ulimit -n`, or share connections",
    ),
    Bound(
        "connections to the HTTP listener",
        "64, fewer with less than 2 048 descriptors",
        "the oldest without a request is closed",
        "none",
    ),
    Bound(
        "streams and calls under way at once, per connection of a client",
        f"{CLIENT_STREAMS_MAX}; gRPC keeps more of them waiting at the client",
        "none",
        "open another connection",
    ),
)


def too_many(what: str, asked: int, limit: int) -> ApiError:
    """The refusal of a request with more items than one may have. `what` names the request and its items."""
    return ApiError(
        pb.ERROR_CODE_INVALID_REQUEST, f"{what}: {asked} or more are too many, {limit} are allowed: split the request"
    )


def too_large(what: str, asked_bytes: int, limit_bytes: int) -> ApiError:
    """The refusal of a request that has more bytes than one of its kind may have."""
    return ApiError(
        pb.ERROR_CODE_MESSAGE_TOO_LARGE,
        f"a {what} of {asked_bytes} bytes is too large, {limit_bytes} are allowed: send less at once",
    )


def throttled(what: str, limit: str, retry_after_ms: int) -> ApiError:
    """The refusal of something that would do later."""
    return ApiError(
        pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED,
        f"{what}, {limit}: try again in {retry_after_ms} ms",
        retry_after_ms=retry_after_ms,
    )


def wait_ms(asked_ms: int, default_ms: int) -> int:
    """The wait that a request gets: 0 asks for the default. Raises INVALID_REQUEST for a negative one."""
    if asked_ms < 0:
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"timeout_ms {asked_ms} is negative: 0 or more is allowed")
    return min(asked_ms or default_ms, WAIT_MAX_MS)


def in_flight_bytes(setting: int) -> int:
    """How many bytes a node may have in flight; 0 goes by the memory that this process may have."""
    if setting:
        return setting
    return max(IN_FLIGHT_MIN_BYTES, min(IN_FLIGHT_MAX_BYTES, memory_bytes() // IN_FLIGHT_SHARE))


def memory_bytes() -> int:
    """Memory that this process may have: its control group's limit, else the machine's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                return min(machine, int(file.read()))
        except (OSError, ValueError):
            continue
    return machine

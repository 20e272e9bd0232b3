"""What a member of a group knows and decides, as a plain state machine (protocol.md section 7; KIP-848's way).

The server assigns, a member follows: it gives back what a new assignment lacks, confirms, and starts with what is new.
It may hand out records only while the server was heard of lately. `now_ms` is monotonic.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ottla.client.records import TopicPartition
from ottla.v1 import error_pb2 as pb
from ottla.v1.data_pb2 import TopicPartition as WirePartition
from ottla.v1.group_pb2 import Assignment, Join, Owned

REJOIN_CODES = frozenset({pb.ERROR_CODE_UNKNOWN_MEMBER_ID, pb.ERROR_CODE_FENCED_MEMBER_EPOCH})
"""The server took the member out of the group: whatever it owned may have another owner by now."""
SILENCE_STOPS_MS = 3_000
"""A tick is due every second. A node takes 3 s at the least to find a connection dead, and 300 ms later others get the
partitions of the client behind it: by then it must have stopped."""


class Gained(NamedTuple):
    """A partition to start with: at the committed offset if there is one, at 0 if it was added after the group began,
    else by the reset policy."""

    where: TopicPartition
    topic_id: bytes
    offset: int | None
    leader_epoch: int | None
    is_new_partition: bool


@dataclass(slots=True)
class Membership:
    """One member of one group."""

    group_id: str
    topics: Sequence[str]
    topic_regex: str
    assignor: str
    instance_id: str
    client_id: str
    session_timeout_ms: int
    member_id: str
    """The client's own choice, so that joining again after a lost answer makes no second member (KIP-1082)."""
    member_epoch: int = 0
    owned: dict[TopicPartition, bytes] = field(default_factory=dict)
    """What this member reads, with the topic's id."""
    assignment: Assignment | None = None
    """The latest; it replaces all earlier ones."""
    last_heard_ms: int | None = None
    needs_proof: bool = True
    """Only an assignment shows that the member is one: after joining, and after too long a silence."""

    def join_request(self) -> Join:
        """The first message of a session; resumes the membership if there is one."""
        return Join(
            group_id=self.group_id,
            member_id=self.member_id,
            member_epoch=self.member_epoch,
            instance_id=self.instance_id,
            topics=self.topics,
            topic_regex=self.topic_regex,
            assignor=self.assignor,
            session_timeout_ms=self.session_timeout_ms,
            client_id=self.client_id,
            owned=[_on_wire(where, topic_id) for where, topic_id in self.owned.items()],
        )

    def may_hand_out(self, now_ms: int) -> bool:
        """Whether no other member can own what this one owns."""
        return not self.needs_proof and self.last_heard_ms is not None and now_ms - self.last_heard_ms < self.silence_ms

    @property
    def silence_ms(self) -> int:
        """For how long nothing may be heard before others may own what this member owns."""
        return min(SILENCE_STOPS_MS, self.session_timeout_ms)

    def heard(self, now_ms: int) -> bool:
        """A word from the server. False if it comes after too long a silence: it may be an old one that waited in a
        buffer, so the coordinator must be asked what holds."""
        in_time = self.last_heard_ms is None or now_ms - self.last_heard_ms < self.silence_ms
        self.needs_proof = self.needs_proof or not in_time
        self.last_heard_ms = now_ms
        return in_time

    def proven(self, member_id: str, member_epoch: int, asked_ms: int) -> None:
        """The coordinator, asked at `asked_ms`, said that this member is one, in this epoch."""
        if (member_id, member_epoch) == (self.member_id, self.member_epoch):
            self.needs_proof = False
            self.last_heard_ms = max(asked_ms, self.last_heard_ms or asked_ms)

    def connected(self) -> None:
        """A new session: the time before it does not count as silence, but nothing is proven yet either."""
        self.last_heard_ms = None if self.needs_proof else self.last_heard_ms

    def assigned(self, assignment: Assignment, now_ms: int) -> None:
        """What the member should own from now on."""
        self.assignment = assignment
        self.member_id = assignment.member_id
        self.member_epoch = assignment.member_epoch
        if assignment.session_timeout_ms:
            self.session_timeout_ms = assignment.session_timeout_ms
        self.last_heard_ms = now_ms
        self.needs_proof = False

    def to_give_back(self, assignment: Assignment) -> list[TopicPartition]:
        """What is owned and not in the assignment."""
        kept = {(p.partition.topic, p.partition.partition): p.partition.topic_id for p in assignment.partitions}
        return [where for where, topic_id in self.owned.items() if kept.get(where) != topic_id]

    def to_start(self, assignment: Assignment) -> list[Gained]:
        """What is in the assignment and not owned yet."""
        gained = []
        for p in assignment.partitions:
            where = TopicPartition(p.partition.topic, p.partition.partition)
            if where not in self.owned:
                offset = p.committed_offset if p.HasField("committed_offset") else None
                epoch = p.committed_leader_epoch if p.HasField("committed_leader_epoch") else None
                gained.append(Gained(where, p.partition.topic_id, offset, epoch, p.new_partition))
        return gained

    def confirmation(self, assignment: Assignment) -> Owned:
        """What to answer once the partitions were given back."""
        return Owned(
            assignment_id=assignment.assignment_id,
            partitions=[_on_wire(where, topic_id) for where, topic_id in self.owned.items()],
        )

    def fenced(self) -> list[TopicPartition]:
        """The server took the member out: it starts anew. Answers what it owned, which is another's now."""
        lost = list(self.owned)
        self.owned.clear()
        self.assignment = None
        self.member_epoch = 0
        self.needs_proof = True
        self.last_heard_ms = None
        return lost


def _on_wire(where: TopicPartition, topic_id: bytes) -> WirePartition:
    return WirePartition(topic=where.topic, topic_id=topic_id, partition=where.partition)

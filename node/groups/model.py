"""What a coordinator knows of its groups, and how a record of `__consumer_offsets` changes it. Pure.

State changes only in `Groups.replay`: a decision writes records and replays them, loading replays the log, so both end
in the same state.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from node.groups.assign import TopicPartition
from ottla.internal.v1 import group_pb2 as pb


@dataclass(frozen=True, slots=True)
class TopicView:
    """The topics that groups may consume: name -> (topic id, partition count). Internal topics are left out."""

    topics: Mapping[str, tuple[bytes, int]]
    names: Mapping[bytes, str]

    @staticmethod
    def of(topics: Mapping[str, tuple[bytes, int]]) -> "TopicView":
        return TopicView(topics, {topic_id: name for name, (topic_id, _) in topics.items()})

    def count(self, topic_id: bytes) -> int:
        """Partitions of a topic, 0 where it does not exist (any more)."""
        name = self.names.get(topic_id)
        return 0 if name is None else self.topics[name][1]


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """A position. `offset` is the next one to read; `leader_epoch` None = not known."""

    offset: int
    leader_epoch: int | None
    metadata: str
    commit_time_ms: int


@dataclass(frozen=True, slots=True)
class Member:
    """A member as the log has it. It owns `assigned` and, until it confirms, `revoking`: nobody else may own these."""

    member_id: str
    instance_id: str
    client_id: str
    client_host: str
    topics: tuple[str, ...]
    topic_regex: str
    assignor: str
    session_timeout_ms: int
    member_epoch: int
    previous_epoch: int
    assigned: frozenset[TopicPartition] = frozenset()
    revoking: frozenset[TopicPartition] = frozenset()
    away: bool = False

    def to_value(self) -> pb.MemberValue:
        return pb.MemberValue(
            instance_id=self.instance_id,
            client_id=self.client_id,
            client_host=self.client_host,
            topics=self.topics,
            topic_regex=self.topic_regex,
            assignor=self.assignor,
            session_timeout_ms=self.session_timeout_ms,
            member_epoch=self.member_epoch,
            previous_epoch=self.previous_epoch,
            assigned=pack(self.assigned),
            revoking=pack(self.revoking),
            away=self.away,
        )

    @staticmethod
    def from_value(member_id: str, v: pb.MemberValue) -> "Member":
        return Member(
            member_id=member_id,
            instance_id=v.instance_id,
            client_id=v.client_id,
            client_host=v.client_host,
            topics=tuple(v.topics),
            topic_regex=v.topic_regex,
            assignor=v.assignor,
            session_timeout_ms=v.session_timeout_ms,
            member_epoch=v.member_epoch,
            previous_epoch=v.previous_epoch,
            assigned=unpack(v.assigned),
            revoking=unpack(v.revoking),
            away=v.away,
        )


@dataclass(slots=True)
class Group:
    """A group. `owners` says who owns a partition now; it is derived from the members."""

    group_id: str
    group_epoch: int = 0
    target_epoch: int = 0
    seen_topics: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    empty_since_ms: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    targets: dict[str, frozenset[TopicPartition]] = field(default_factory=dict)
    offsets: dict[TopicPartition, CommittedOffset] = field(default_factory=dict)
    owners: dict[TopicPartition, str] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """empty, assigning (the target is behind the group), reconciling (members are behind the target) or stable."""
        if not self.members:
            return "empty"
        if self.target_epoch < self.group_epoch:
            return "assigning"
        for member_id, member in self.members.items():
            if member.member_epoch < self.target_epoch or member.revoking:
                return "reconciling"
            if member.assigned != self.targets.get(member_id, frozenset()):
                return "reconciling"
        return "stable"

    def member_with_instance(self, instance_id: str) -> Member | None:
        return next((m for m in self.members.values() if m.instance_id == instance_id), None)


Record = tuple[bytes, bytes | None]
"""(key, value) of a record; value None deletes the key."""


class Groups:
    """All groups of one partition of `__consumer_offsets`, by id."""

    def __init__(self) -> None:
        self.by_id: dict[str, Group] = {}

    def replay(self, record: Record) -> None:
        """Applies one record. A key of a kind that this build does not know is left alone."""
        key = pb.GroupRecordKey.FromString(record[0])
        value = record[1]
        match key.WhichOneof("key"):
            case "offset":
                self._replay_offset(key.offset, value)
            case "group":
                self._replay_group(key.group, value)
            case "member":
                self._replay_member(key.member, value)
            case "target":
                group = self._group(key.target.group_id)
                if value is None:
                    group.targets.pop(key.target.member_id, None)
                else:
                    group.targets[key.target.member_id] = unpack(pb.TargetValue.FromString(value).partitions)
                self._drop_if_bare(group)
            case None:
                pass

    def _replay_offset(self, key: pb.OffsetKey, value: bytes | None) -> None:
        group = self._group(key.group_id)
        at = (key.topic_id, key.partition)
        if value is None:
            group.offsets.pop(at, None)
        else:
            v = pb.CommittedOffsetValue.FromString(value)
            epoch = v.leader_epoch if v.HasField("leader_epoch") else None
            group.offsets[at] = CommittedOffset(v.offset, epoch, v.metadata, v.commit_time_ms)
        self._drop_if_bare(group)

    def _replay_group(self, group_id: str, value: bytes | None) -> None:
        group = self._group(group_id)
        if value is None:
            group.group_epoch = group.target_epoch = group.empty_since_ms = 0
            group.seen_topics = {}
        else:
            v = pb.GroupValue.FromString(value)
            group.group_epoch = v.group_epoch
            group.target_epoch = v.target_epoch
            group.empty_since_ms = v.empty_since_ms
            group.seen_topics = {t.topic_id: (t.first_count, t.count) for t in v.seen_topics}
        self._drop_if_bare(group)

    def _replay_member(self, key: pb.MemberKey, value: bytes | None) -> None:
        group = self._group(key.group_id)
        before = group.members.pop(key.member_id, None)
        if before is not None:
            for tp in before.assigned | before.revoking:
                if group.owners.get(tp) == key.member_id:
                    del group.owners[tp]
        if value is not None:
            member = Member.from_value(key.member_id, pb.MemberValue.FromString(value))
            group.members[key.member_id] = member
            for tp in member.assigned | member.revoking:
                group.owners[tp] = key.member_id
        self._drop_if_bare(group)

    def _group(self, group_id: str) -> Group:
        return self.by_id.setdefault(group_id, Group(group_id))

    def _drop_if_bare(self, group: Group) -> None:
        """A group that has neither epoch, members, targets nor positions does not exist."""
        if not (group.group_epoch or group.members or group.targets or group.offsets):
            self.by_id.pop(group.group_id, None)


def pack(partitions: Iterable[TopicPartition]) -> list[pb.TopicPartitions]:
    """Sorted, one entry per topic: equal sets give equal bytes."""
    by_topic: dict[bytes, list[int]] = {}
    for topic_id, partition in sorted(partitions):
        by_topic.setdefault(topic_id, []).append(partition)
    return [pb.TopicPartitions(topic_id=topic_id, partitions=numbers) for topic_id, numbers in by_topic.items()]


def unpack(packed: Iterable[pb.TopicPartitions]) -> frozenset[TopicPartition]:
    return frozenset((entry.topic_id, partition) for entry in packed for partition in entry.partitions)


def offset_record(group_id: str, at: TopicPartition, value: CommittedOffset | None) -> Record:
    key = pb.GroupRecordKey(offset=pb.OffsetKey(group_id=group_id, topic_id=at[0], partition=at[1]))
    if value is None:
        return key.SerializeToString(deterministic=True), None
    body = pb.CommittedOffsetValue(
        offset=value.offset,
        leader_epoch=value.leader_epoch,
        metadata=value.metadata,
        commit_time_ms=value.commit_time_ms,
    )
    return key.SerializeToString(deterministic=True), body.SerializeToString(deterministic=True)


def group_record(group_id: str, value: pb.GroupValue | None) -> Record:
    key = pb.GroupRecordKey(group=group_id).SerializeToString(deterministic=True)
    return key, None if value is None else value.SerializeToString(deterministic=True)


def member_record(group_id: str, member_id: str, value: Member | None) -> Record:
    key = pb.GroupRecordKey(member=pb.MemberKey(group_id=group_id, member_id=member_id))
    body = None if value is None else value.to_value().SerializeToString(deterministic=True)
    return key.SerializeToString(deterministic=True), body


def target_record(group_id: str, member_id: str, value: frozenset[TopicPartition] | None) -> Record:
    key = pb.GroupRecordKey(target=pb.MemberKey(group_id=group_id, member_id=member_id))
    body = None if value is None else pb.TargetValue(partitions=pack(value)).SerializeToString(deterministic=True)
    return key.SerializeToString(deterministic=True), body

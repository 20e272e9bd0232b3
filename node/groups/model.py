"""What a coordinator knows of its groups, and how a change - a record of `__consumer_offsets` - alters it. Pure.

State changes only in `Groups.apply`: a decision applies its changes to a staged copy, loading applies the log's, so
both end in the same state.
"""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from node.groups.assign import Shares, TopicPartition
from node.groups.classic import StoredGeneration, StoredMember
from node.groups.overlay import Overlay
from node.metadata.image import Delta, Image, Topic
from ottla.internal.v1 import group_pb2 as pb

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class TopicView:
    """The topics that groups may consume: name -> (topic id, partition count). Internal topics are left out."""

    topics: Mapping[str, tuple[bytes, int]]
    names: Mapping[bytes, str]

    @staticmethod
    def of(topics: Mapping[str, tuple[bytes, int]]) -> "TopicView":
        return TopicView(topics, {topic_id: name for name, (topic_id, _) in topics.items()})

    def after(self, image: Image, delta: Delta) -> "TopicView":
        """The topics of the next image; this object where they are the same. Costs what has changed."""
        if delta.snapshot:
            whole = {t.name: (t.topic_id, len(t.partitions)) for t in image.topics.values() if not t.internal}
            return self if whole == self.topics else TopicView.of(whole)
        changed = {*delta.created_topics, *delta.deleted_topics, *(at[0] for at in delta.changed_partitions)}
        now = {topic_id: _countable(image.topics.get(topic_id)) for topic_id in sorted(changed)}
        differ = {topic_id: count for topic_id, count in now.items() if count != self.count(topic_id)}
        if not differ:
            return self
        topics = {name: entry for name, entry in self.topics.items() if entry[0] not in differ}
        topics.update((image.topics[t].name, (t, count)) for t, count in differ.items() if count)
        return TopicView.of(topics)

    def count(self, topic_id: bytes) -> int:
        """Partitions of a topic, 0 where it does not exist (any more)."""
        name = self.names.get(topic_id)
        return 0 if name is None else self.topics[name][1]


def _countable(topic: Topic | None) -> int:
    """Partitions that groups may consume."""
    return 0 if topic is None or topic.internal else len(topic.partitions)


TARGET_EVERY_MS: Final = 50
TARGET_EVERY_MAX_MS: Final = 400
"""A group gets no two targets within the first, and one of many members none within the second."""

Subscription = tuple[tuple[str, ...], str]
"""(topics, expression) that a member asks for."""


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
    rebalance_timeout_ms: int = 0

    @property
    def subscription(self) -> Subscription:
        return self.topics, self.topic_regex

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
            rebalance_timeout_ms=self.rebalance_timeout_ms,
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
            rebalance_timeout_ms=v.rebalance_timeout_ms,
        )


class GroupState(NamedTuple):
    """A group's own record. `seen_topics`: topic id -> (partitions when the group began to consume it, and lately)."""

    group_epoch: int
    target_epoch: int
    seen_topics: Mapping[bytes, tuple[int, int]]
    empty_since_ms: int
    forgotten: bool = False
    """It is no more, but for positions that go part by part."""

    def to_value(self) -> pb.GroupValue:
        return pb.GroupValue(
            group_epoch=self.group_epoch,
            target_epoch=self.target_epoch,
            empty_since_ms=self.empty_since_ms,
            forgotten=self.forgotten,
            seen_topics=[
                pb.SeenTopic(topic_id=topic_id, first_count=first, count=count)
                for topic_id, (first, count) in sorted(self.seen_topics.items())
            ],
        )

    @staticmethod
    def from_value(v: pb.GroupValue) -> "GroupState":
        seen = {t.topic_id: (t.first_count, t.count) for t in v.seen_topics}
        return GroupState(v.group_epoch, v.target_epoch, seen, v.empty_since_ms, v.forgotten)


_NO_STATE = GroupState(0, 0, {}, 0)


class ClassicState(NamedTuple):
    """A group of Kafka's classic protocol, in its last stable generation."""

    generation: int = 0
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    member_ids: tuple[str, ...] = ()

    def to_value(self) -> pb.ClassicGroupValue:
        return pb.ClassicGroupValue(
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol=self.protocol,
            leader=self.leader,
            member_ids=self.member_ids,
        )

    @staticmethod
    def from_value(v: pb.ClassicGroupValue) -> "ClassicState":
        return ClassicState(
            v.generation,
            v.protocol_type if v.HasField("protocol_type") else None,
            v.protocol if v.HasField("protocol") else None,
            v.leader,
            tuple(v.member_ids),
        )


class ClassicMember(NamedTuple):
    """A member of such a group. `generation`: what its assignment is of."""

    generation: int
    member: StoredMember

    def to_value(self) -> pb.ClassicMemberValue:
        member = self.member
        return pb.ClassicMemberValue(
            generation=self.generation,
            instance_id=member.instance_id,
            client_id=member.client_id,
            client_host=member.client_host,
            session_timeout_ms=member.session_timeout_ms,
            rebalance_timeout_ms=member.rebalance_timeout_ms,
            metadata=member.metadata,
            assignment=member.assignment,
        )

    @staticmethod
    def from_value(member_id: str, v: pb.ClassicMemberValue) -> "ClassicMember":
        instance_id = v.instance_id if v.HasField("instance_id") else None
        member = StoredMember(
            member_id, instance_id, v.client_id, v.client_host, v.session_timeout_ms, v.rebalance_timeout_ms,
            v.metadata, v.assignment,
        )  # fmt: skip
        return ClassicMember(v.generation, member)


class Plan(NamedTuple):
    """A target under way, for the group as it was at `epoch`, with these members. What changes meanwhile is for the
    next one, so that each is carried to its end: `shares` is computed, then written, of which so much is `written`."""

    epoch: int
    members: frozenset[str]
    shares: Shares
    changes: tuple[tuple[str, frozenset[TopicPartition]], ...] | None = None
    written: int = 0


@dataclass(slots=True)
class Group:
    """A group. `owners` says who owns a partition now, `heirs` who is to own it, `subscriptions` how many members ask
    for the same; all three are derived from the others.

    The others are soft: when this coordinator last made a target, why the next one is due, the one that it is at,
    who is still to be reconciled, and why, and the topics that its state is based on.
    """

    group_id: str
    own: GroupState = _NO_STATE
    members: MutableMapping[str, Member] = field(default_factory=dict)
    targets: MutableMapping[str, frozenset[TopicPartition]] = field(default_factory=dict)
    offsets: MutableMapping[TopicPartition, CommittedOffset] = field(default_factory=dict)
    owners: MutableMapping[TopicPartition, str] = field(default_factory=dict)
    heirs: MutableMapping[TopicPartition, str] = field(default_factory=dict)
    subscriptions: MutableMapping[Subscription, int] = field(default_factory=dict)
    classic: ClassicState | None = None
    classic_members: MutableMapping[str, ClassicMember] = field(default_factory=dict)
    targeted_ms: int | None = field(default=None, compare=False)
    reason: str = field(default="", compare=False)
    plan: Plan | None = field(default=None, compare=False)
    behind: MutableMapping[str, str] = field(default_factory=dict, compare=False)
    saw: TopicView | None = field(default=None, compare=False)

    @property
    def group_epoch(self) -> int:
        return self.own.group_epoch

    @property
    def target_epoch(self) -> int:
        return self.own.target_epoch

    @property
    def seen_topics(self) -> Mapping[bytes, tuple[int, int]]:
        return self.own.seen_topics

    @property
    def empty_since_ms(self) -> int:
        return self.own.empty_since_ms

    def is_expired(self, wall_ms: int, retention_ms: int) -> bool:
        """Its last member left, or its last position was stored without one, long enough ago - or it is going."""
        long_ago = bool(self.empty_since_ms) and wall_ms - self.empty_since_ms > retention_ms
        return not self.has_members and (self.own.forgotten or long_ago)

    @property
    def has_members(self) -> bool:
        """Of either protocol, as the log has it."""
        return bool(self.members) or (self.classic is not None and bool(self.classic.member_ids))

    def stored_generation(self) -> StoredGeneration | None:
        """The classic group as whoever takes over finds it; None where the log holds but a part of a generation."""
        state = self.classic or ClassicState()
        members = [self.classic_members.get(member_id) for member_id in state.member_ids]
        whole = [each.member for each in members if each is not None and each.generation == state.generation]
        return StoredGeneration(*state[:4], tuple(whole)) if len(whole) == len(members) else None

    def target_is_due(self) -> bool:
        """Members or topics have changed since the last target was made."""
        return bool(self.members) and self.target_epoch < self.group_epoch

    def target_due_ms(self) -> int:
        """A target is made at once where the one before is old enough; else all changes until then share one."""
        if self.targeted_ms is None:
            return 0
        return self.targeted_ms + min(TARGET_EVERY_MAX_MS, TARGET_EVERY_MS + len(self.members) // 2)

    @property
    def is_at_work(self) -> bool:
        """A target, or what follows from it, was begun and goes on in the next turn."""
        return self.plan is not None or bool(self.behind)

    def target(self, member_id: str) -> frozenset[TopicPartition]:
        """What a member is to own in the end."""
        return self.targets.get(member_id, frozenset())

    @property
    def state(self) -> str:
        """empty, assigning (the target is behind the group), reconciling (members are behind the target) or stable."""
        if not self.members:
            return "empty"
        if self.target_is_due():
            return "assigning"
        for member_id, member in self.members.items():
            if member.revoking or member.assigned != self.target(member_id):
                return "reconciling"
        return "stable"

    def member_with_instance(self, instance_id: str) -> Member | None:
        return next((m for m in self.members.values() if m.instance_id == instance_id), None)

    @property
    def is_bare(self) -> bool:
        """A group that has neither epoch, type, members, targets nor positions does not exist."""
        owns = self.members or self.targets or self.offsets or self.classic_members
        return not (self.group_epoch or self.classic is not None or owns)

    def staged(self) -> "Group":
        """The group with its maps overlaid: what is changed there is changed here by `land`."""
        return Group(
            self.group_id,
            self.own,
            Overlay(self.members),
            Overlay(self.targets),
            Overlay(self.offsets),
            Overlay(self.owners),
            Overlay(self.heirs),
            Overlay(self.subscriptions),
            self.classic,
            Overlay(self.classic_members),
            self.targeted_ms,
            self.reason,
            self.plan,
            Overlay(self.behind),
            self.saw,
        )

    def land(self, staged: "Group") -> None:
        """Takes over what was changed in `staged`, which was made from this one."""
        self.own, self.targeted_ms, self.reason = staged.own, staged.targeted_ms, staged.reason
        self.plan, self.saw, self.classic = staged.plan, staged.saw, staged.classic
        for overlaid in (staged.members, staged.targets, staged.offsets, staged.owners, staged.heirs):
            assert isinstance(overlaid, Overlay)
            overlaid.land()
        assert isinstance(staged.subscriptions, Overlay)
        staged.subscriptions.land()
        assert isinstance(staged.classic_members, Overlay)
        staged.classic_members.land()
        assert isinstance(staged.behind, Overlay)
        staged.behind.land()


class OffsetChange(NamedTuple):
    """A position is stored, or forgotten."""

    group_id: str
    at: TopicPartition
    value: CommittedOffset | None


class GroupChange(NamedTuple):
    """A group's own state."""

    group_id: str
    value: GroupState | None


class MemberChange(NamedTuple):
    """A member comes, changes or goes."""

    group_id: str
    member_id: str
    value: Member | None


class TargetChange(NamedTuple):
    """What a member is to own."""

    group_id: str
    member_id: str
    value: frozenset[TopicPartition] | None


class ClassicGroupChange(NamedTuple):
    """A generation of a classic group is stable, or the group is none (any more)."""

    group_id: str
    value: ClassicState | None


class ClassicMemberChange(NamedTuple):
    """A member of a classic group in a generation; None = it is none any more."""

    group_id: str
    member_id: str
    value: ClassicMember | None


Change = OffsetChange | GroupChange | MemberChange | TargetChange | ClassicGroupChange | ClassicMemberChange
Record = tuple[bytes, bytes | None]
"""(key, value) of a record; value None deletes the key."""


class Groups:
    """All groups of one partition of `__consumer_offsets`, by id."""

    def __init__(self) -> None:
        self.by_id: MutableMapping[str, Group] = {}

    def replay(self, record: Record) -> None:
        """Applies a record of the log. A key of a kind that this build does not know is left alone."""
        change = decode(record)
        if change is not None:
            self.apply(change)

    def apply(self, change: Change) -> None:
        group = self.by_id.get(change.group_id)
        if group is None:
            group = self.by_id[change.group_id] = Group(change.group_id)
        match change:
            case OffsetChange(_, at, value):
                _set(group.offsets, at, value)
            case GroupChange(_, value):
                group.own = value or _NO_STATE
            case MemberChange(_, member_id, value):
                before = group.members.get(member_id)
                _set(group.members, member_id, value)
                _claim(group.owners, member_id, _held(before), _held(value))
                _count(group.subscriptions, before, -1)
                _count(group.subscriptions, value, +1)
            case TargetChange(_, member_id, value):
                target = group.target(member_id)
                _set(group.targets, member_id, value)
                _claim(group.heirs, member_id, target, value or frozenset())
            case ClassicGroupChange(_, value):
                group.classic = value
            case ClassicMemberChange(_, member_id, value):
                _set(group.classic_members, member_id, value)
        if group.is_bare:
            del self.by_id[change.group_id]

    def staged(self) -> "StagedGroups":
        return StagedGroups(self)


class StagedGroups(Groups):
    """Groups in which a decision's changes hold, over `base`, in which they do not until `land`."""

    def __init__(self, base: Groups) -> None:
        self._base = base
        self.by_id: MutableMapping[str, Group] = _StagedById(base.by_id)

    def peek(self, group_id: str) -> Group:
        """To be read only: as it was, unless the decision has changed it."""
        assert isinstance(self.by_id, _StagedById)
        return self.by_id.peek(group_id)

    def changed(self) -> list[str]:
        """Groups that may have been changed since this was staged."""
        assert isinstance(self.by_id, _StagedById)
        return self.by_id.changed()

    def land(self) -> None:
        """What was changed here holds in the groups that this was staged from."""
        assert isinstance(self.by_id, _StagedById)
        for group_id, staged in self.by_id.looked_at.items():
            if group_id in self.by_id and self.by_id[group_id] is staged:
                self._base.by_id[group_id].land(staged)
        self.by_id.land()


class _StagedById(MutableMapping[str, Group]):
    """Groups that are looked at are overlaid, so that a change of them changes the base by `land` only."""

    def __init__(self, base: MutableMapping[str, Group]) -> None:
        self._base = base
        self._made: Overlay[str, Group] = Overlay(base)
        self.looked_at: dict[str, Group] = {}

    def __getitem__(self, group_id: str) -> Group:
        group = self._made[group_id]
        if group is not self._base.get(group_id):
            return group  # made by this decision
        staged = self.looked_at.get(group_id)
        if staged is None:
            staged = self.looked_at[group_id] = group.staged()
        return staged

    def peek(self, group_id: str) -> Group:
        looked_at = self.looked_at.get(group_id)
        if looked_at is None and isinstance(self._base, _StagedById) and group_id not in self._made.touched():
            return self._base.peek(group_id)
        return self._made[group_id] if looked_at is None else looked_at

    def __setitem__(self, group_id: str, group: Group) -> None:
        self._made[group_id] = group

    def __delitem__(self, group_id: str) -> None:
        del self._made[group_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def changed(self) -> list[str]:
        return [*self.looked_at, *(group_id for group_id in self._made.touched() if group_id not in self.looked_at)]

    def land(self) -> None:
        self._made.land()


def _set(mapping: MutableMapping[K, V], key: K, value: V | None) -> None:
    if value is None:
        mapping.pop(key, None)
    else:
        mapping[key] = value


def _held(member: Member | None) -> frozenset[TopicPartition]:
    return frozenset() if member is None else member.assigned | member.revoking


def _count(subscriptions: MutableMapping[Subscription, int], member: Member | None, change: int) -> None:
    if member is not None:
        count = subscriptions.get(member.subscription, 0) + change
        _set(subscriptions, member.subscription, count or None)


def _claim(
    owners: MutableMapping[TopicPartition, str],
    member_id: str,
    before: frozenset[TopicPartition],
    after: frozenset[TopicPartition],
) -> None:
    for tp in before - after:
        if owners.get(tp) == member_id:
            del owners[tp]
    for tp in after - before:
        owners[tp] = member_id


def pack(partitions: Iterable[TopicPartition]) -> list[pb.TopicPartitions]:
    """Sorted, one entry per topic: equal sets give equal bytes."""
    by_topic: dict[bytes, list[int]] = {}
    for topic_id, partition in sorted(partitions):
        by_topic.setdefault(topic_id, []).append(partition)
    return [pb.TopicPartitions(topic_id=topic_id, partitions=numbers) for topic_id, numbers in by_topic.items()]


def unpack(packed: Iterable[pb.TopicPartitions]) -> frozenset[TopicPartition]:
    return frozenset((entry.topic_id, partition) for entry in packed for partition in entry.partitions)


def encode(change: Change) -> Record:
    """A change as it is written. The key's bytes are deterministic: compaction goes by them."""
    match change:
        case OffsetChange(group_id, at, offset):
            key = pb.GroupRecordKey(offset=pb.OffsetKey(group_id=group_id, topic_id=at[0], partition=at[1]))
            return _record(key, None if offset is None else _offset_value(offset))
        case GroupChange(group_id, state):
            return _record(pb.GroupRecordKey(group=group_id), None if state is None else state.to_value())
        case MemberChange(group_id, member_id, member):
            key = pb.GroupRecordKey(member=pb.MemberKey(group_id=group_id, member_id=member_id))
            return _record(key, None if member is None else member.to_value())
        case TargetChange(group_id, member_id, target):
            key = pb.GroupRecordKey(target=pb.MemberKey(group_id=group_id, member_id=member_id))
            return _record(key, None if target is None else pb.TargetValue(partitions=pack(target)))
        case ClassicGroupChange(group_id, classic):
            return _record(pb.GroupRecordKey(classic_group=group_id), None if classic is None else classic.to_value())
        case ClassicMemberChange(group_id, member_id, kept):
            key = pb.GroupRecordKey(classic_member=pb.MemberKey(group_id=group_id, member_id=member_id))
            return _record(key, None if kept is None else kept.to_value())


Value = (
    pb.CommittedOffsetValue
    | pb.GroupValue
    | pb.MemberValue
    | pb.TargetValue
    | pb.ClassicGroupValue
    | pb.ClassicMemberValue
)


def _record(key: pb.GroupRecordKey, value: Value | None) -> Record:
    body = None if value is None else value.SerializeToString(deterministic=True)
    return key.SerializeToString(deterministic=True), body


def _offset_value(offset: CommittedOffset) -> pb.CommittedOffsetValue:
    return pb.CommittedOffsetValue(
        offset=offset.offset,
        leader_epoch=offset.leader_epoch,
        metadata=offset.metadata,
        commit_time_ms=offset.commit_time_ms,
    )


def decode(record: Record) -> Change | None:
    """A record as the change it is; None where its key is of a kind that this build does not know."""
    key = pb.GroupRecordKey.FromString(record[0])
    value = record[1]
    match key.WhichOneof("key"):
        case "offset":
            at = (key.offset.topic_id, key.offset.partition)
            return OffsetChange(key.offset.group_id, at, None if value is None else _offset(value))
        case "group":
            state = None if value is None else GroupState.from_value(pb.GroupValue.FromString(value))
            return GroupChange(key.group, state)
        case "member":
            who = key.member
            member = None if value is None else Member.from_value(who.member_id, pb.MemberValue.FromString(value))
            return MemberChange(who.group_id, who.member_id, member)
        case "target":
            target = None if value is None else unpack(pb.TargetValue.FromString(value).partitions)
            return TargetChange(key.target.group_id, key.target.member_id, target)
        case "classic_group":
            classic = None if value is None else ClassicState.from_value(pb.ClassicGroupValue.FromString(value))
            return ClassicGroupChange(key.classic_group, classic)
        case "classic_member":
            who = key.classic_member
            kept = None
            if value is not None:
                kept = ClassicMember.from_value(who.member_id, pb.ClassicMemberValue.FromString(value))
            return ClassicMemberChange(who.group_id, who.member_id, kept)
        case _:
            return None


def _offset(value: bytes) -> CommittedOffset:
    v = pb.CommittedOffsetValue.FromString(value)
    return CommittedOffset(
        v.offset, v.leader_epoch if v.HasField("leader_epoch") else None, v.metadata, v.commit_time_ms
    )

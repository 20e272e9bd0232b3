"""Positions of groups: who may store them, how long they live, and that none is not 0. Pure: parts of decisions."""

from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

from node import limits
from node.groups import classics
from node.groups.assign import TopicPartition
from node.groups.membership import check_not_forgotten, check_room, forget_classic
from node.groups.model import CommittedOffset, Group, Member, OffsetChange, TopicView
from node.groups.stage import Stage
from ottla.protocol.errors import ApiError
from ottla.protocol.names import check_group_id
from ottla.v1 import error_pb2 as e

FORGOTTEN_MAX: Final = 500
"""Positions that go in one turn, of groups that were deleted or have expired, or in topics that are gone."""
LOOKED_AT: Final = 10
"""So many positions are looked at for the work of one that goes."""


class Where(NamedTuple):
    """A partition, by its topic's name, id, or both."""

    topic: str
    topic_id: bytes
    partition: int


class Position(NamedTuple):
    """What is to be stored: the next offset to read. `leader_epoch` None = not known."""

    where: Where
    offset: int
    leader_epoch: int | None = None
    metadata: str = ""


class Committer(NamedTuple):
    """Who commits: a member in its epoch. Without an id: somebody outside, while the group has no members."""

    member_id: str = ""
    epoch: int = 0


class ClassicCommitter(NamedTuple):
    """Who commits by Kafka's protocol. Without a generation (-1): somebody outside, while the group has no members. Of
    a group whose partitions the server assigns the generation is the member's epoch."""

    member_id: str = ""
    instance_id: str | None = None
    generation: int = -1


def commit(
    stage: Stage, group_id: str, who: Committer | ClassicCommitter, positions: Iterable[Position], wall_ms: int
) -> list[ApiError | None]:
    """Stores positions; what is wrong with each. They may be told when the records are committed. Raises ApiError:
    nothing stored."""
    check_group_id(group_id)
    group = stage.group(group_id)
    check_not_forgotten(group)
    if isinstance(who, ClassicCommitter) and group is not None and group.members:
        who = Committer(who.member_id, who.generation)
    if isinstance(who, ClassicCommitter):
        member = None
        _check_classic_committer(stage, group_id, who, group)
    else:
        member = None if group is None else group.members.get(who.member_id)
        _check_committer(stage, group_id, who, member)
    check_room(stage, group_id)
    errors: list[ApiError | None] = []
    for position in positions:
        try:
            at = _check_commit(stage.topics, position, member)
        except ApiError as error:
            errors.append(error)
            continue
        stored = CommittedOffset(position.offset, position.leader_epoch, position.metadata, wall_ms)
        stage.emit(OffsetChange(group_id, at, stored))
        errors.append(None)
    _note_use(stage, group_id, wall_ms)
    return errors


def _note_use(stage: Stage, group_id: str, wall_ms: int) -> None:
    """What is written to an empty group keeps it."""
    group = stage.group(group_id)
    if group is not None and stage.records and not stage.member_count(group_id):
        stage.write_group(group_id, group.own._replace(empty_since_ms=wall_ms))


def _check_classic_committer(stage: Stage, group_id: str, who: ClassicCommitter, group: Group | None) -> None:
    classic = stage.classic.get(group_id)
    if classic is None and group is not None and group.classic is not None:
        classic = classics.load(group, 0)
    if who.generation >= 0 and group is None:
        raise ApiError(e.ERROR_CODE_GROUP_ID_NOT_FOUND, f"there is no group {group_id!r}")
    if classic is not None and classic.members:
        code = classic.commit_error(*who)
    else:
        outside = who.generation < 0 and not who.member_id and not stage.member_count(group_id)
        code = 0 if outside else e.ERROR_CODE_UNKNOWN_MEMBER_ID
    if code:
        raise ApiError(code, f"generation {who.generation} of member {who.member_id[:255]!r} may not commit")


def _check_committer(stage: Stage, group_id: str, who: Committer, member: Member | None) -> None:
    if not who.member_id:
        if count := stage.member_count(group_id):
            raise ApiError(
                e.ERROR_CODE_UNKNOWN_MEMBER_ID, f"group {group_id!r} has {count} members: only they may commit"
            )
        return
    if member is None:
        raise _unknown_member(group_id, who.member_id)
    _check_epoch(member, who.epoch)


def _unknown_member(group_id: str, member_id: str) -> ApiError:
    return ApiError(e.ERROR_CODE_UNKNOWN_MEMBER_ID, f"group {group_id!r} has no member {member_id[:255]!r}")


def _check_epoch(member: Member, epoch: int) -> None:
    if epoch > member.member_epoch:
        raise ApiError(
            e.ERROR_CODE_FENCED_MEMBER_EPOCH,
            f"member epoch {epoch} was never given out, the current one is {member.member_epoch}",
        )
    if epoch < member.member_epoch:
        raise ApiError(
            e.ERROR_CODE_STALE_MEMBER_EPOCH, f"member epoch {epoch} is old, the current one is {member.member_epoch}"
        )


def _check_commit(topics: TopicView, position: Position, member: Member | None) -> TopicPartition:
    at = resolve(topics, position.where)
    if position.offset < 0:
        raise ApiError(e.ERROR_CODE_INVALID_REQUEST, f"offset {position.offset} is negative")
    size = len(position.metadata.encode())
    if size > limits.METADATA_MAX_BYTES:
        raise ApiError(
            e.ERROR_CODE_OFFSET_METADATA_TOO_LARGE,
            f"metadata has {size} bytes, {limits.METADATA_MAX_BYTES} are allowed",
        )
    if member is not None and at not in member.assigned and at not in member.revoking:
        raise ApiError(
            e.ERROR_CODE_STALE_MEMBER_EPOCH,
            f"partition {at[1]} of {topics.names[at[0]]!r} is not assigned to member {member.member_id!r}",
        )
    return at


def resolve(topics: TopicView, where: Where) -> TopicPartition:
    """By name, by id, or by both where they belong together. Raises UNKNOWN_TOPIC_OR_PARTITION or
    INCONSISTENT_TOPIC_ID."""
    topic_id = where.topic_id
    if not topic_id and where.topic in topics.topics:
        topic_id = topics.topics[where.topic][0]
    elif topic_id and where.topic and topics.names.get(topic_id, where.topic) != where.topic:
        raise ApiError(
            e.ERROR_CODE_INCONSISTENT_TOPIC_ID,
            f"topic id {topic_id.hex()} belongs to another topic, not to {where.topic[:249]!r}",
        )
    if not 0 <= where.partition < topics.count(topic_id):
        name = where.topic[:249] or where.topic_id[:16].hex()
        raise ApiError(e.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION, f"there is no partition {where.partition} of {name!r}")
    return topic_id, where.partition


def check_reader(group: Group | None, group_id: str, member_id: str, epoch: int) -> None:
    """Who reads positions as a member of a group whose partitions the server assigns is one, in its current epoch: what
    it reads then, nobody commits any more but itself."""
    if group is None or group.classic is not None or not group.group_epoch:
        return
    member = group.members.get(member_id)
    if member is None:
        raise _unknown_member(group_id, member_id)
    _check_epoch(member, epoch)


def positions(group: Group | None, topics: TopicView, wanted: Iterable[Where]) -> list[CommittedOffset | None]:
    """One for each partition; None where none was committed. Raises INCONSISTENT_TOPIC_ID."""
    return [_position(group, topics, where) for where in wanted]


def _position(group: Group | None, topics: TopicView, where: Where) -> CommittedOffset | None:
    try:
        at = resolve(topics, where)
    except ApiError as error:
        if error.code == e.ERROR_CODE_INCONSISTENT_TOPIC_ID:
            raise
        return None
    return None if group is None else group.offsets.get(at)


def delete(stage: Stage, group_id: str, wanted: Iterable[Where]) -> list[ApiError | None]:
    """Forgets positions, but in topics that the group's members consume; what is wrong with each. Raises
    GROUP_ID_NOT_FOUND, and NON_EMPTY_GROUP where it cannot be told what they consume."""
    check_group_id(group_id)
    group = stage.group(group_id)
    if group is None:
        raise ApiError(e.ERROR_CODE_GROUP_ID_NOT_FOUND, f"there is no group {group_id!r}")
    check_not_forgotten(group)
    consumed = set[bytes]().union(*map(stage.subscriptions.topic_ids, group.subscriptions))
    if group.classic is not None:
        names = classics.consumed(group, stage.classic.get(group_id))
        if names is None:
            raise ApiError(e.ERROR_CODE_NON_EMPTY_GROUP, f"nobody knows what the members of group {group_id!r} consume")
        consumed |= {stage.topics.topics[name][0] for name in names if name in stage.topics.topics}
    errors: list[ApiError | None] = []
    for where in wanted:
        try:
            at = resolve(stage.topics, where)
            if at[0] in consumed:
                raise ApiError(
                    e.ERROR_CODE_GROUP_SUBSCRIBED_TO_TOPIC, f"members of group {group_id!r} consume {where.topic!r}"
                )
        except ApiError as error:
            errors.append(error)
            continue
        if at in group.offsets:
            stage.emit(OffsetChange(group_id, at, None))
        errors.append(None)
    if group.is_bare:
        stage.write_group(group_id, None)
    return errors


def reset(stage: Stage, group_id: str, moved: Iterable[tuple[TopicPartition, int]], wall_ms: int) -> None:
    """Moves positions of a group without members. Raises NON_EMPTY_GROUP or GROUP_ID_NOT_FOUND."""
    check_empty(stage, group_id)
    for at, offset in moved:
        stage.emit(OffsetChange(group_id, at, CommittedOffset(offset, None, "", wall_ms)))
    _note_use(stage, group_id, wall_ms)


def check_empty(stage: Stage, group_id: str) -> Group:
    """The group, if it exists and has no members. Raises NON_EMPTY_GROUP or GROUP_ID_NOT_FOUND."""
    check_group_id(group_id)
    group = stage.group(group_id)
    if group is None:
        raise ApiError(e.ERROR_CODE_GROUP_ID_NOT_FOUND, f"there is no group {group_id!r}")
    check_not_forgotten(group)
    if count := stage.member_count(group_id):
        raise ApiError(e.ERROR_CODE_NON_EMPTY_GROUP, f"group {group_id!r} has {count} members")
    return group


def forget(stage: Stage, group: Group) -> int:
    """The group is no more. Of many positions a part goes, the others in turns to come, and the group says so: it is
    brought to its end whoever coordinates. Returns how many went."""
    gone = list(islice(group.offsets, FORGOTTEN_MAX))
    if len(gone) < len(group.offsets) and not group.own.forgotten:
        stage.write_group(group.group_id, group.own._replace(forgotten=True))
    for at in gone:
        stage.emit(OffsetChange(group.group_id, at, None))
    if not group.offsets:
        if group.classic is not None:
            forget_classic(stage, group)
        stage.write_group(group.group_id, None)
    return len(gone)


def expire(stage: Stage, group_ids: list[str], wall_ms: int) -> None:
    """Of groups whose time may have come: those that have been empty for too long go."""
    seen = 0
    for group_id in group_ids:
        group = stage.group(group_id)
        stage.seen_expired.append(group_id)
        if group is not None and group.is_expired(wall_ms, stage.settings.offsets_retention_ms):
            seen += 1 + forget(stage, group)
        if seen > FORGOTTEN_MAX:
            return


def sweep(stage: Stage) -> None:
    """Forgets positions in topics that are gone, of as many groups as one turn may look at."""
    seen, rest = 0, list(stage.swept)
    while rest and seen < FORGOTTEN_MAX:
        group_id = rest.pop()
        if group_id not in stage.groups.by_id:
            continue  # it was deleted meanwhile
        group = stage.groups.peek(group_id)
        seen += 1 + len(group.offsets) // LOOKED_AT
        gone = [at for at in group.offsets if at[0] not in stage.topics.names]
        for at in gone[:FORGOTTEN_MAX]:
            stage.emit(OffsetChange(group_id, at, None))
        seen += len(gone)
        if len(gone) > FORGOTTEN_MAX:
            rest.append(group_id)
    stage.swept = rest

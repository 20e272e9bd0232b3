"""Groups of Kafka's classic protocol among those of a partition: what of them the log keeps. Pure: parts of decisions.

A group id is one group of one type: who joins by the other protocol is refused while it has members; an empty group
changes its type, and keeps its positions.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from node import limits
from node.groups.assign import TopicPartition
from node.groups.classic import ClassicGroup, Limits, StoredGeneration, StoredMember
from node.groups.embedded import subscribed
from node.groups.membership import check_not_forgotten, check_room
from node.groups.model import (
    ClassicGroupChange,
    ClassicMember,
    ClassicMemberChange,
    ClassicState,
    Group,
    GroupState,
    Member,
)
from node.groups.stage import Stage
from node.groups.targets import majority_assignor
from node.history.groups import ASSIGNMENT, JOINED, LEFT, Note
from ottla.protocol.errors import ApiError
from ottla.protocol.names import check_group_id
from ottla.v1 import error_pb2 as e

CLASSIC: Final = "classic"
CONSUMER: Final = "consumer"
LIMITS: Final = Limits(members_max=limits.CLASSIC_MEMBERS_MAX, bytes_max=limits.GROUP_BYTES_MAX)


def begin(stage: Stage, group_id: str, wall_ms: int) -> None:
    """A member of the classic protocol comes: the group is of that type from here on. Raises
    INCONSISTENT_GROUP_PROTOCOL."""
    check_group_id(group_id)
    group = stage.group(group_id)
    check_not_forgotten(group)
    if group is not None and group.members:
        raise ApiError(
            e.ERROR_CODE_INCONSISTENT_GROUP_PROTOCOL,
            f"group {group_id!r} has {len(group.members)} members whose partitions the server assigns",
        )
    check_room(stage, group_id)
    if group is None or group.classic is None:
        stage.emit(ClassicGroupChange(group_id, ClassicState()))
    if group is None:
        stage.write_group(group_id, GroupState(0, 0, {}, wall_ms))


def store(stage: Stage, group_id: str, stored: StoredGeneration, wall_ms: int) -> None:
    """Each member, then the generation that names them, then who is none any more: each prefix of that is a whole
    generation or recognizably none."""
    group = stage.group(group_id)
    check_not_forgotten(group)
    before = [] if group is None else list(group.classic_members)
    for member in stored.members:
        stage.emit(ClassicMemberChange(group_id, member.member_id, ClassicMember(stored.generation, member)))
    member_ids = tuple(member.member_id for member in stored.members)
    stage.emit(ClassicGroupChange(group_id, ClassicState(*stored[:4], member_ids)))
    now = set(member_ids)
    for member_id in before:
        if member_id not in now:
            stage.emit(ClassicMemberChange(group_id, member_id, None))
    _note(stage, group_id, before, stored)
    own = stage.groups.by_id[group_id].own
    empty_since_ms = 0 if member_ids else wall_ms
    if own.empty_since_ms != empty_since_ms:
        stage.write_group(group_id, own._replace(empty_since_ms=empty_since_ms))


def _note(stage: Stage, group_id: str, before: Sequence[str], stored: StoredGeneration) -> None:
    """Who came and went is known when a generation is stored; who went between two is told then, too."""
    live = stage.classic.get(group_id)
    gone = {} if live is None else live.gone
    now = {member.member_id: member for member in stored.members}
    for member_id, member in now.items():
        if member_id not in before:
            stage.notes.append(
                Note(group_id, JOINED, f"it joined from {member.client_host}, as {member.client_id}", member_id)
            )
    for member_id in [m for m in before if m not in now]:
        cause = gone.get(member_id, "it is not in the new generation")
        stage.notes.append(Note(group_id, LEFT, cause, member_id))
    stage.notes.append(Note(group_id, ASSIGNMENT, f"generation {stored.generation} has {len(now)} members"))


def load(group: Group, now_ms: int) -> ClassicGroup:
    """The group at a coordinator that has its log."""
    stored = group.stored_generation()
    if stored is not None:
        return ClassicGroup.load(stored, LIMITS, now_ms)
    assert group.classic is not None, "it is of this type"
    begun = [each.generation for each in group.classic_members.values()]
    return ClassicGroup.lost(max(begun, default=group.classic.generation), LIMITS, now_ms)


class Shown(NamedTuple):
    """A group of either protocol, or of none yet, for those who look at it. States are Kafka's."""

    group_id: str
    type: str
    """classic, consumer (whose partitions the server assigns), or nothing: it has never had members."""
    state: str
    protocol_type: str = ""
    protocol: str = ""
    """That of a classic group's members, or the assignor of the server."""
    generation: int = 0
    member_count: int = 0
    members: tuple[StoredMember, ...] = ()
    """Those of a classic group."""
    target_epoch: int = 0
    consumers: tuple[tuple[Member, frozenset[TopicPartition]], ...] = ()
    """Those that the server assigns to, and what each is to own."""


def shown(group: Group, classic: ClassicGroup | None, *, with_members: bool) -> Shown:
    if group.classic is None:
        return _shown_consumers(group, with_members=with_members)
    if classic is None:
        classic = load(group, 0)
    return Shown(
        group.group_id,
        CLASSIC,
        classic.state.value,
        classic.protocol_type or "",
        classic.protocol or "",
        classic.generation,
        len(classic.members),
        classic.stored_members() if with_members else (),
    )


def _shown_consumers(group: Group, *, with_members: bool) -> Shown:
    used = CONSUMER if group.group_epoch else ""
    members = group.members if with_members else {}
    return Shown(
        group.group_id,
        used,
        group.state.capitalize(),
        used,
        majority_assignor(group) if members else "",
        group.group_epoch,
        len(group.members),
        target_epoch=group.target_epoch,
        consumers=tuple((member, group.target(member_id)) for member_id, member in sorted(members.items())),
    )


def consumed(group: Group, classic: ClassicGroup | None) -> frozenset[str] | None:
    """The topics that members of a classic group consume; None where that cannot be told."""
    if classic is None:
        classic = load(group, 0)
    if not classic.members:
        return frozenset()
    said = [subscribed(each.metadata) for each in classic.stored_members()]
    readable = [topics for topics in said if topics is not None]
    if classic.protocol_type != CONSUMER or len(readable) < len(said):
        return None
    return frozenset(topic for topics in readable for topic in topics)

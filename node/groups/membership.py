"""Members come, answer, fall silent and go. Pure: each function is a part of one decision, on its stage."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from node import limits
from node.groups import targets
from node.groups.assign import ASSIGNORS, TopicPartition
from node.groups.model import ClassicGroupChange, ClassicMemberChange, Group, GroupState, Member, TargetChange
from node.groups.sessions import Contact, MemberKey
from node.groups.stage import GroupSettings, Stage
from node.groups.subscriptions import compile_topic_regex
from node.history.groups import JOINED, LEFT, Note
from ottla.protocol.errors import ApiError
from ottla.protocol.names import check_group_id, check_id, check_topic_name
from ottla.v1 import error_pb2 as e
from ottla.v1 import group_pb2

TICK_MEMBERS_MAX: Final = 250
TICK_WORK_MAX: Final = 2_000
GROUP_WORK: Final = 20
"""What one turn does about targets: members and partitions, and what a group costs by itself, in the same unit."""
LOOK_WORK: Final = 5
NAMES_A_WORK: Final = 20
"""The same for groups that are to see which topics there are."""


def join(stage: Stage, session: int, join: group_pb2.Join, client_host: str, new_member_id: str) -> None:
    """A member joins or resumes over the stream `session`. Raises ApiError."""
    asked = _asked(stage.settings, join, client_host)
    check_not_forgotten(stage.group(join.group_id))
    check_type(stage, join.group_id)
    see_topics(stage, join.group_id)
    group = stage.group(join.group_id)
    known = None if group is None else group.members.get(join.member_id)
    if join.member_id and (join.member_epoch or join.owned):
        member = _resume(known, join)
    elif known is not None:
        member = known  # it joined before, and the answer was lost with its coordinator or its stream (KIP-1082)
    else:
        member = admit(stage, group, join.group_id, replace(asked, member_id=join.member_id or new_member_id))
    # Who comes back and names nothing has not given anything back: that it will say when it confirms.
    owned = frozenset((tp.topic_id, tp.partition) for tp in join.owned) if join.member_id and join.owned else None
    enter(stage, join.group_id, member, asked, session, owned)
    _answer(stage, join.group_id, member.member_id, session)


def enter(
    stage: Stage,
    group_id: str,
    member: Member,
    asked: Member,
    session: int,
    owned: frozenset[TopicPartition] | None = None,
    *,
    polls: bool = False,
) -> None:
    """The member, new or not, is here and asks for what `asked` says. `owned`: all that it still owns; None = it does
    not say. `polls`: it has no stream."""
    group = stage.group(group_id)
    before = None if group is None else group.members.get(member.member_id)
    _check_subscription(group, before, asked)
    _connect(stage, (group_id, member.member_id), session, polls=polls)
    updated = replace(
        member,
        client_id=asked.client_id,
        client_host=asked.client_host,
        topics=asked.topics,
        topic_regex=asked.topic_regex,
        assignor=asked.assignor,
        session_timeout_ms=asked.session_timeout_ms,
        rebalance_timeout_ms=asked.rebalance_timeout_ms,
        away=False,
    )
    if owned is not None:
        updated = replace(updated, revoking=updated.revoking & owned)
    if updated != before:
        stage.write_member(group_id, updated)
    if before is None:
        came = f"it joined from {asked.client_host}{f', as {asked.client_id}' if asked.client_id else ''}"
        stage.notes.append(Note(group_id, JOINED, came, member.member_id))
        targets.changed(stage, group_id, "a member joined", stage.subscriptions.topic_ids(updated.subscription))
    elif (before.subscription, before.assignor) != (updated.subscription, updated.assignor):
        targets.changed(stage, group_id, "a subscription changed", stage.subscriptions.topic_ids(updated.subscription))
    else:
        targets.make_if_due(stage, group_id)
        targets.reconcile(stage, group_id, [member.member_id], "the member came back")
    if before is not None:
        targets.freed(stage, group_id, before.revoking - updated.revoking)


def _answer(stage: Stage, group_id: str, member_id: str, session: int) -> None:
    """Who resumes hears what it owns at once; a new member when it has an epoch."""
    group = stage.groups.by_id[group_id]
    member = group.members[member_id]
    if session not in stage.pushes and member.member_epoch:
        targets.push_assignment(stage, group, member, "the session was resumed")


def _asked(settings: GroupSettings, join: group_pb2.Join, client_host: str) -> Member:
    """What the join asks for, checked: a member without an id yet."""
    check_group_id(join.group_id)
    timeout_ms = join.session_timeout_ms or settings.session_timeout_ms
    low, high = settings.session_timeout_min_ms, settings.session_timeout_max_ms
    if not low <= timeout_ms <= high:
        raise ApiError(
            e.ERROR_CODE_INVALID_SESSION_TIMEOUT, f"session time-out {timeout_ms} ms is not within {low} to {high} ms"
        )
    assignor = join.assignor or "uniform"
    check_assignor(assignor)
    if not join.topics and not join.topic_regex:
        raise ApiError(e.ERROR_CODE_INVALID_REQUEST, "a member must name topics or a topic_regex")
    check_topics(join.topics)
    for what in ("member_id", "instance_id", "client_id", "rack"):
        check_id(what, getattr(join, what))
    compile_topic_regex(join.topic_regex)
    return Member(
        member_id="",
        instance_id=join.instance_id,
        client_id=join.client_id,
        client_host=client_host,
        topics=tuple(sorted(set(join.topics))),
        topic_regex=join.topic_regex,
        assignor=assignor,
        session_timeout_ms=timeout_ms,
        member_epoch=0,
        previous_epoch=0,
    )


def check_assignor(assignor: str) -> None:
    if assignor not in ASSIGNORS:
        raise ApiError(
            e.ERROR_CODE_UNSUPPORTED_ASSIGNOR, f"no assignor {assignor[:255]!r}; there are {sorted(ASSIGNORS)}"
        )


def check_topics(topics: Sequence[str]) -> None:
    if len(topics) > limits.GROUP_TOPICS_MAX:
        raise ApiError(
            e.ERROR_CODE_INVALID_REQUEST, f"{len(topics)} topics named, {limits.GROUP_TOPICS_MAX} are allowed"
        )
    for name in topics:
        check_topic_name(name)


def _resume(member: Member | None, join: group_pb2.Join) -> Member:
    if member is None:
        raise ApiError(
            e.ERROR_CODE_UNKNOWN_MEMBER_ID,
            f"group {join.group_id!r} has no member {join.member_id!r}: it left, or was silent for too long",
        )
    if join.member_epoch not in (member.member_epoch, member.previous_epoch):
        raise ApiError(
            e.ERROR_CODE_FENCED_MEMBER_EPOCH,
            f"member epoch {join.member_epoch} is not the current one, {member.member_epoch}",
        )
    return member


def admit(stage: Stage, group: Group | None, group_id: str, member: Member) -> Member:
    """A new member, within the bounds; a static one takes its old place."""
    check_room(stage, group_id)
    if group is None:
        return member
    if group.classic is not None:  # it has no members: its type changes
        forget_classic(stage, group)
    if len(group.members) >= limits.GROUP_MEMBERS_MAX:
        raise ApiError(
            e.ERROR_CODE_POLICY_VIOLATION,
            f"group {group_id!r} has {len(group.members)} members, {limits.GROUP_MEMBERS_MAX} are allowed",
        )
    return _take_over_instance(stage, group, member) if member.instance_id else member


def check_type(stage: Stage, group_id: str) -> None:
    if count := stage.classic_member_count(group_id):
        raise ApiError(
            e.ERROR_CODE_INCONSISTENT_GROUP_PROTOCOL,
            f"group {group_id!r} has {count} members of Kafka's classic protocol",
        )


def forget_classic(stage: Stage, group: Group) -> None:
    """The group is no classic one any more."""
    for member_id in list(group.classic_members):
        stage.emit(ClassicMemberChange(group.group_id, member_id, None))
    stage.emit(ClassicGroupChange(group.group_id, None))


def check_room(stage: Stage, group_id: str) -> None:
    """Raises POLICY_VIOLATION where a group would be one too many."""
    count = len(stage.groups.by_id)
    if count >= limits.GROUPS_MAX and group_id not in stage.groups.by_id:
        raise ApiError(
            e.ERROR_CODE_POLICY_VIOLATION,
            f"group {group_id!r} would be one too many: its partition of the offsets topic has {count} groups, "
            f"{limits.GROUPS_MAX} are allowed: delete some, or wait until they expire",
        )


def check_not_forgotten(group: Group | None) -> None:
    """Who comes back to a group that is going waits for its end: of its positions some are there and others not."""
    if group is not None and group.own.forgotten:
        raise ApiError(
            e.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS, f"group {group.group_id!r} is being deleted", retry_after_ms=20
        )


def _check_subscription(group: Group | None, before: Member | None, asked: Member) -> None:
    if group is None or (before is not None and before.subscription == asked.subscription):
        return
    if len(group.subscriptions) >= limits.GROUP_SUBSCRIPTIONS_MAX and asked.subscription not in group.subscriptions:
        raise ApiError(
            e.ERROR_CODE_POLICY_VIOLATION,
            f"the members of group {group.group_id!r} have {len(group.subscriptions)} different subscriptions, "
            f"{limits.GROUP_SUBSCRIPTIONS_MAX} are allowed: let members subscribe to the same topics",
        )


def _take_over_instance(stage: Stage, group: Group, member: Member) -> Member:
    """Static membership (KIP-345): who comes back under its instance id gets its old place, nothing moves."""
    old = group.member_with_instance(member.instance_id)
    if old is None:
        return member
    if stage.sessions.connected((group.group_id, old.member_id)) is not None:
        raise ApiError(
            e.ERROR_CODE_UNRELEASED_INSTANCE_ID,
            f"instance id {member.instance_id!r} is held by member {old.member_id!r}, which is connected",
        )
    target = group.target(old.member_id)
    stage.remove_member(group.group_id, old.member_id)
    if target:
        stage.emit(TargetChange(group.group_id, member.member_id, target))
    taken_over = replace(
        member,
        topics=old.topics,
        topic_regex=old.topic_regex,
        assignor=old.assignor,
        member_epoch=old.member_epoch,
        previous_epoch=old.member_epoch,
        assigned=old.assigned,
    )
    stage.write_member(group.group_id, taken_over)
    if group.plan is not None:  # which knows it by its old name
        targets.changed(stage, group.group_id, "a member came back")
    targets.freed(stage, group.group_id, old.revoking)
    return taken_over


def _connect(stage: Stage, key: MemberKey, session: int, *, polls: bool) -> None:
    old = stage.sessions.connected(key)
    if old is not None and polls and stage.sessions.polls(key):
        stage.sessions.heard(old, stage.now_ms)
        return
    if old is not None and old != session:
        _end(stage, old, ApiError(e.ERROR_CODE_FENCED_MEMBER_EPOCH, "the member resumed over another stream"))
    stage.sessions.connect(key, session, stage.now_ms, polls=polls)


def _end(stage: Stage, session: int, error: ApiError) -> None:
    stage.tell(session, group_pb2.SessionResponse(error=error.to_proto()), close=True)


def _member_of(stage: Stage, session: int) -> tuple[Group, Member, int] | None:
    """The member behind a stream and the id of its latest assignment, its contact noted; None where the stream has been
    replaced or removed."""
    if (contact := stage.sessions.of(session)) is not None:
        see_topics(stage, contact.group_id)  # which may replace the assignment
    contact = stage.sessions.heard(session, stage.now_ms)
    if contact is None:
        return None
    group = stage.groups.by_id[contact.group_id]
    return group, group.members[contact.member_id], contact.assignment_id


def confirm(stage: Stage, session: int, owned: group_pb2.Owned) -> None:
    """The member says what it owns now: what it no longer owns is free for others."""
    found = _member_of(stage, session)
    if found is None:
        return
    group, member, latest = found
    kept = frozenset((tp.topic_id, tp.partition) for tp in owned.partitions)
    # Another id answers an assignment that has been replaced: what it lacks may have been given since.
    if owned.assignment_id == latest and member.revoking and not member.revoking <= kept:
        stage.write_member(group.group_id, replace(member, revoking=member.revoking & kept))
        targets.freed(stage, group.group_id, member.revoking - kept, member.member_id)


def leave(stage: Stage, session: int, wall_ms: int) -> None:
    """The member goes: its partitions are free at once. A static member keeps its place until its time-out."""
    found = _member_of(stage, session)
    if found is None:
        return
    group, member, _ = found
    stage.sessions.disconnect(session)
    if member.instance_id:
        away = f"it left; its place is kept for {member.session_timeout_ms} ms, for it is static"
        stage.notes.append(Note(group.group_id, LEFT, away, member.member_id))
        stage.write_member(group.group_id, replace(member, away=True))
    else:
        remove(stage, group.group_id, {member.member_id: "it left"}, wall_ms, "a member left")


def remove(stage: Stage, group_id: str, member_ids: Mapping[str, str], wall_ms: int, reason: str) -> None:
    """These are members no more, each for its own cause; who is still connected hears of it."""
    see_topics(stage, group_id)
    group = stage.groups.by_id[group_id]
    held = [tp for m in member_ids for tp in group.members[m].assigned | group.members[m].revoking]
    for member_id, cause in sorted(member_ids.items()):
        stage.notes.append(Note(group_id, LEFT, cause, member_id))
        session = stage.sessions.connected((group_id, member_id))
        if session is not None:
            silent = ApiError(e.ERROR_CODE_UNKNOWN_MEMBER_ID, f"member {member_id!r} was silent for too long")
            _end(stage, session, silent)
        stage.remove_member(group_id, member_id)
    if group.members:
        targets.changed(stage, group_id, reason)
        targets.freed(stage, group_id, held)
    else:
        epoch = group.group_epoch + 1
        group.plan = None
        stage.write_group(group_id, GroupState(epoch, epoch, group.seen_topics, wall_ms))


def tick(stage: Stage, silent: list[MemberKey], due: list[str], wall_ms: int) -> None:
    """Of those whose time may have come: who has been silent for too long goes, and targets that are due are made."""
    stage.seen_silent = silent
    lost: dict[str, dict[str, str]] = {}
    for group_id, member_id in silent:
        group, contact = stage.group(group_id), stage.sessions.contacts.get((group_id, member_id))
        if group is None or contact is None or member_id not in group.members:
            continue
        expires_ms = contact.expires_ms(group.members[member_id])
        if expires_ms is not None and expires_ms <= stage.now_ms:
            lost.setdefault(group_id, {})[member_id] = _how_lost(stage, contact, group.members[member_id])
    for group_id, member_ids in lost.items():
        remove(stage, group_id, member_ids, wall_ms, "a member was lost")
    work = 0
    for group_id in due:
        group = stage.group(group_id)
        if group is not None:
            work += GROUP_WORK + len(group.members) + len(group.owners)
            see_topics(stage, group_id)
            targets.go_on(stage, group_id)
        stage.seen_due.append(group_id)
        if work > TICK_WORK_MAX:
            return


def _how_lost(stage: Stage, contact: Contact, member: Member) -> str:
    silent_ms = stage.now_ms - contact.last_contact_ms
    if contact.revoke_by_ms is not None and contact.revoke_by_ms <= stage.now_ms:
        return f"it did not give back partitions within its rebalance time-out of {member.rebalance_timeout_ms} ms"
    if contact.session is None and contact.lost_client:
        return f"its connection was closed without a word, and it did not come back for {silent_ms} ms"
    if contact.session is None:
        return (
            f"its stream ended, and it did not come back within its session time-out of {member.session_timeout_ms} ms"
        )
    return f"it was silent for {silent_ms} ms, its session time-out is {member.session_timeout_ms} ms"


def see_some(stage: Stage) -> None:
    """Some of the groups that have not seen yet which topics there are now."""
    work, rest = 0, list(stage.unseen)
    while rest and work <= TICK_WORK_MAX:
        work += see_topics(stage, rest.pop())
    stage.unseen = rest


def see_topics(stage: Stage, group_id: str) -> int:
    """New, grown or deleted topics that the group consumes: it gets a new target. Before anything else is decided of
    it, for what is new by then must not count as old. Returns how much work that was."""
    if group_id not in stage.groups.by_id or stage.groups.peek(group_id).saw is stage.topics:
        return 1
    group = stage.groups.by_id[group_id]
    group.saw = stage.topics
    if not group.members:
        return LOOK_WORK
    named = [stage.subscriptions.topic_ids(subscription) for subscription in group.subscriptions]
    wanted = frozenset[bytes]().union(*named)
    topics, seen = stage.topics, group.seen_topics
    work = LOOK_WORK + (sum(map(len, named)) + len(seen)) // NAMES_A_WORK
    if all(topics.count(t) for t in seen) and all(topics.count(t) == seen.get(t, (0, 0))[1] for t in wanted):
        return work
    targets.changed(stage, group_id, "topics changed", wanted, are_new=True)
    return work + GROUP_WORK + len(group.members) + len(group.owners)

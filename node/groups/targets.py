"""What each member is to own, and how members get there one by one. Pure; `membership` says when.

    a change -> group epoch + 1 -> a target, at once or when the last one is old enough -> members are reconciled:
        has more than its target   -> told what to keep; `revoking` stays its own until it confirms
        has nothing to give back   -> takes the target's epoch and what of the target nobody owns (any more)

Whom a target leaves as it was is neither rewritten nor told: its epoch stays, and is as good as before.
"""

from collections.abc import Iterable
from dataclasses import replace

from node.groups.assign import ASSIGNORS, TopicPartition
from node.groups.model import Group, GroupState, Member, TargetChange
from node.groups.stage import Stage
from ottla.v1 import data_pb2, group_pb2


def changed(
    stage: Stage, group_id: str, reason: str, wanted: frozenset[bytes] = frozenset(), *, are_new: bool = False
) -> None:
    """The group gets a new epoch, unless its target is due already, and the target if it is time. `wanted`: topics that
    are consumed from now on. `are_new`: those that the group has not seen yet did not exist when its members
    subscribed, so nothing of them is old."""
    group = stage.groups.by_id[group_id]
    own = group.own
    epoch = own.group_epoch + (own.group_epoch == own.target_epoch)
    state = GroupState(epoch, own.target_epoch, _seen(stage, group, wanted, are_new), 0)
    if state != own:
        stage.write_group(group_id, state)
    group.reason = reason
    make_if_due(stage, group_id)


def _seen(stage: Stage, group: Group, wanted: frozenset[bytes], are_new: bool) -> dict[bytes, tuple[int, int]]:
    """Kept also while nobody wants the topic: who comes back to it finds partitions that are new since."""
    seen = group.seen_topics
    counts = {t: count for t in (*seen, *wanted) if (count := stage.topics.count(t))}
    return {t: (seen[t][0] if t in seen else 0 if are_new else count, count) for t, count in counts.items()}


def make_if_due(stage: Stage, group_id: str) -> None:
    """The target for all that has changed since the last one, unless that is young: then it is made in its time."""
    group = stage.group(group_id)
    if group is None or not group.target_is_due() or group.target_due_ms() > stage.now_ms:
        return
    wanted = {m: stage.subscriptions.topic_ids(member.subscription) for m, member in group.members.items()}
    counts = {topic_id: stage.topics.count(topic_id) for topic_id in frozenset().union(*wanted.values())}
    target = ASSIGNORS[_majority_assignor(group)](wanted, counts, {m: group.target(m) for m in group.members})
    for member_id in sorted(target):
        if group.target(member_id) != target[member_id]:
            stage.emit(TargetChange(group_id, member_id, target[member_id] or None))
    # After the targets: a log that was cut off between them still says that one is due.
    stage.write_group(group_id, group.own._replace(target_epoch=group.group_epoch))
    group.targeted_ms = stage.now_ms
    reason, group.reason = group.reason or "members changed", ""
    behind = [m for m, member in group.members.items() if member.member_epoch == 0 or _is_behind(group, member)]
    reconcile(stage, group_id, behind, reason)


def _is_behind(group: Group, member: Member) -> bool:
    return bool(member.revoking) or member.assigned != group.target(member.member_id)


def _majority_assignor(group: Group) -> str:
    """What most members ask for; the first by name where they are even."""
    names = sorted(member.assignor for member in group.members.values())
    return max(dict.fromkeys(names), key=names.count)


def reconcile(stage: Stage, group_id: str, member_ids: Iterable[str], reason: str) -> None:
    """Brings members closer to their targets: first those who give back, then those who take what is free."""
    group = stage.groups.by_id[group_id]
    before = {m: group.members[m] for m in sorted(member_ids) if m in group.members}
    for member_id in before:
        _give_back(stage, group, group.members[member_id])
    for member_id in before:
        _take(stage, group, group.members[member_id])
    for member_id, was in before.items():
        member = group.members[member_id]
        if member != was or was.member_epoch == 0:
            push_assignment(stage, group, member, reason)


def _give_back(stage: Stage, group: Group, member: Member) -> None:
    surplus = member.assigned - group.target(member.member_id)
    if surplus:
        gone = {tp for tp in surplus if tp[1] >= stage.topics.count(tp[0])}  # deleted: nothing to give back
        revoking = member.revoking | (surplus - gone)
        stage.write_member(group.group_id, replace(member, assigned=member.assigned - surplus, revoking=revoking))


def _take(stage: Stage, group: Group, member: Member) -> None:
    if member.revoking or _away(stage, group, member):
        return
    free = frozenset(tp for tp in group.target(member.member_id) - member.assigned if tp not in group.owners)
    epoch = group.target_epoch
    if free or member.member_epoch != epoch:
        previous = member.previous_epoch if member.member_epoch == epoch else member.member_epoch
        assigned = member.assigned | free
        stage.write_member(
            group.group_id, replace(member, member_epoch=epoch, previous_epoch=previous, assigned=assigned)
        )


def _away(stage: Stage, group: Group, member: Member) -> bool:
    """Who is not connected takes nothing new: it could not start to read it."""
    return stage.sessions.connected((group.group_id, member.member_id)) is None


def freed(stage: Stage, group_id: str, partitions: Iterable[TopicPartition], *others: str) -> None:
    """Who waited for these takes them. `others` are to be looked at, too."""
    group = stage.group(group_id)
    if group is not None:
        heirs = {heir for tp in partitions if (heir := group.heirs.get(tp)) is not None}
        reconcile(stage, group_id, heirs.union(others), "partitions were given back")


def push_assignment(stage: Stage, group: Group, member: Member, reason: str) -> None:
    """Tells a member what it should own, if it is connected."""
    key = (group.group_id, member.member_id)
    contact = stage.sessions.contacts.get(key)
    if contact is None or contact.session is None:
        return
    contact = replace(contact, assignment_id=contact.assignment_id + 1)
    stage.sessions.contacts[key] = contact
    assignment = group_pb2.Assignment(
        assignment_id=contact.assignment_id,
        member_id=member.member_id,
        member_epoch=member.member_epoch,
        reason=reason,
        session_timeout_ms=member.session_timeout_ms,
        missing_topics=[name for name in member.topics if name not in stage.topics.topics],
    )
    for at in sorted(member.assigned):
        entry = assignment.partitions.add(
            partition=data_pb2.TopicPartition(topic=stage.topics.names.get(at[0], ""), topic_id=at[0], partition=at[1])
        )
        entry.new_partition = at[1] >= group.seen_topics.get(at[0], (at[1] + 1, 0))[0]
        if (value := group.offsets.get(at)) is not None:
            entry.committed_offset = value.offset
            if value.leader_epoch is not None:
                entry.committed_leader_epoch = value.leader_epoch
    assert contact.session is not None
    stage.tell(contact.session, group_pb2.SessionResponse(assignment=assignment))

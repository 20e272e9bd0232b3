"""What each member is to own, and how members get there one by one. Pure; `membership` says when.

    a change -> group epoch + 1 -> a target, at once or when the last one is old enough -> members are reconciled:
        has more than its target   -> told what to keep; `revoking` stays its own until it confirms
        has nothing to give back   -> takes the target's epoch and what of the target nobody owns (any more)

A member that polls is reconciled when it asks, and never between: its epoch is always the one of its last answer.

Whom a target leaves as it was is neither rewritten nor told: its epoch stays, and is as good as before.

In a large group no turn of the loop does all of that. A target that was begun is carried to its end, whatever changes
meanwhile: that is a later epoch's, so targets come to an end however often members change. Until its end nobody gives
or takes: the target's epoch is still the old one, and the next owner's must be higher than the last one's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from node.groups.assign import ASSIGNORS, Shares, TopicPartition
from node.groups.model import Group, GroupState, Member, Plan, TargetChange
from node.groups.stage import Stage
from node.history.groups import ASSIGNMENT, Note
from ottla.v1 import data_pb2, group_pb2

STEPS_A_TURN: Final = 4
"""Of an assignor."""
WORK_A_TURN: Final = 400
"""Members, and partitions of theirs, that are written in one turn."""


def changed(
    stage: Stage, group_id: str, reason: str, wanted: frozenset[bytes] = frozenset(), *, are_new: bool = False
) -> None:
    """The group gets a new epoch, unless its target is due already, and the target if it is time. `wanted`: topics that
    are consumed from now on. `are_new`: those that the group has not seen yet did not exist when its members
    subscribed, so nothing of them is old."""
    group = stage.groups.by_id[group_id]
    own = group.own
    planned = own.target_epoch if group.plan is None else group.plan.epoch
    epoch = own.group_epoch + (own.group_epoch == planned)
    state = GroupState(epoch, own.target_epoch, _seen(stage, group, wanted, are_new), 0)
    if state != own:
        stage.write_group(group_id, state)
    group.reason = reason
    stage.notes.append(Note(group_id, ASSIGNMENT, reason))
    group.saw = stage.topics
    make_if_due(stage, group_id)


def _seen(stage: Stage, group: Group, wanted: frozenset[bytes], are_new: bool) -> dict[bytes, tuple[int, int]]:
    """Kept also while nobody wants the topic: who comes back to it finds partitions that are new since."""
    seen = group.seen_topics
    counts = {t: count for t in (*seen, *wanted) if (count := stage.topics.count(t))}
    return {t: (seen[t][0] if t in seen else 0 if are_new else count, count) for t, count in counts.items()}


def make_if_due(stage: Stage, group_id: str) -> None:
    """Begins the target for all that has changed since the last one, unless that is young: then it is begun in its
    time. A large one goes on in later turns."""
    group = stage.group(group_id)
    if group is None or group.is_at_work or not group.target_is_due() or group.target_due_ms() > stage.now_ms:
        return
    wanted = {m: stage.subscriptions.topic_ids(member.subscription) for m, member in group.members.items()}
    counts = {topic_id: stage.topics.count(topic_id) for topic_id in frozenset().union(*wanted.values())}
    now = {m: group.target(m) for m in group.members}
    shares = Shares(ASSIGNORS[majority_assignor(group)](wanted, counts, now))
    group.plan = Plan(group.group_epoch, frozenset(wanted), shares)
    is_small = len(group.members) + sum(counts.values()) <= WORK_A_TURN
    _plan_on(stage, group)
    while is_small and group.plan is not None:
        _plan_on(stage, group)


def go_on(stage: Stage, group_id: str) -> None:
    """A turn's part of what was begun; then of what is due."""
    group = stage.group(group_id)
    if group is None:
        return
    if group.plan is not None:
        _plan_on(stage, group)
    elif group.behind:
        _reconcile_on(stage, group)
    else:
        make_if_due(stage, group_id)


def _plan_on(stage: Stage, group: Group) -> None:
    """Computes, or writes, or ends the target."""
    plan = group.plan
    assert plan is not None
    if plan.changes is None:
        shared = plan.shares.go_on(STEPS_A_TURN)
        if shared is not None:
            differing = ((m, share) for m, share in sorted(shared.items()) if group.target(m) != share)
            group.plan = plan._replace(changes=tuple(differing))
    elif plan.written < len(plan.changes):
        _write_on(stage, group, plan, plan.changes)
    else:
        _planned(stage, group, plan)


def _write_on(
    stage: Stage, group: Group, plan: Plan, changes: tuple[tuple[str, frozenset[TopicPartition]], ...]
) -> None:
    work, written = 0, plan.written
    while written < len(changes) and work < WORK_A_TURN:
        member_id, share = changes[written]
        if member_id in group.members:
            stage.emit(TargetChange(group.group_id, member_id, share or None))
        work += 1 + len(share)
        written += 1
    group.plan = plan._replace(written=written)


def _planned(stage: Stage, group: Group, plan: Plan) -> None:
    """After the targets: a log that was cut off between them still says that one is due."""
    stage.write_group(group.group_id, group.own._replace(target_epoch=plan.epoch))
    group.plan = None
    group.targeted_ms = stage.now_ms
    reason, group.reason = group.reason or "members changed", ""
    for member_id, member in group.members.items():
        is_new = member.member_epoch == 0 and member_id in plan.members
        if is_new or is_behind(group, member):
            group.behind[member_id] = reason
    _reconcile_on(stage, group)


def is_behind(group: Group, member: Member) -> bool:
    return bool(member.revoking) or member.assigned != group.target(member.member_id)


def majority_assignor(group: Group) -> str:
    """What most members ask for; the first by name where they are even."""
    names = sorted(member.assignor for member in group.members.values())
    return max(dict.fromkeys(names), key=names.count)


def reconcile(stage: Stage, group_id: str, member_ids: Iterable[str], reason: str) -> None:
    """Brings members closer to their targets: as many as one turn has time for, the others in turns to come."""
    group = stage.groups.by_id[group_id]
    if group.plan is not None:
        return  # at its end everybody is looked at
    asked = sorted(member_ids)
    now = _part(group, asked)
    for member_id in asked[len(now) :]:
        group.behind[member_id] = reason
    _bring_closer(stage, group, dict.fromkeys(now, reason))


def _reconcile_on(stage: Stage, group: Group) -> None:
    now = _part(group, list(group.behind))
    reasons = {member_id: group.behind.pop(member_id) for member_id in now}
    _bring_closer(stage, group, reasons)


def _part(group: Group, member_ids: list[str]) -> list[str]:
    """The first of these: one, or as many as have few partitions."""
    work = 0
    for number, member_id in enumerate(member_ids):
        member = group.members.get(member_id)
        work += 1 + len(group.target(member_id)) + (0 if member is None else len(member.assigned))
        if number and work > WORK_A_TURN:
            return member_ids[:number]
    return member_ids


def _bring_closer(stage: Stage, group: Group, reasons: Mapping[str, str]) -> None:
    """First those who give back, then those who take what is free. Who polls comes for it."""
    polls = stage.sessions.polls
    before = {m: group.members[m] for m in reasons if m in group.members and not polls((group.group_id, m))}
    for member_id in before:
        _give_back(stage, group, group.members[member_id])
    for member_id in before:
        _take(stage, group, group.members[member_id])
    for member_id, was in before.items():
        member = group.members[member_id]
        if member != was or was.member_epoch == 0:
            push_assignment(stage, group, member, reasons[member_id])


def come_closer(
    stage: Stage, group_id: str, member_id: str, owned: frozenset[TopicPartition] | None
) -> frozenset[TopicPartition]:
    """A member that polls asks: it is told what it is to own now. `owned`: all that it still does; None = it does not
    say. What of that it is not to own any more, others may take when it has said that it does not."""
    group = stage.groups.by_id[group_id]
    before = group.members[member_id]
    is_due = group.plan is None and (before.member_epoch == 0 or is_behind(group, before))
    if is_due:
        _give_back(stage, group, before)
    member = group.members[member_id]
    if owned is not None and not member.revoking <= owned:
        stage.write_member(group_id, replace(member, revoking=member.revoking & owned))
    if is_due:
        _take(stage, group, group.members[member_id])
    elif before.member_epoch == 0 and group.target_epoch:  # it need not wait to be a member for what it will own
        stage.write_member(group_id, replace(member, member_epoch=group.target_epoch))
    after = group.members[member_id]
    freed(stage, group_id, (before.assigned | before.revoking) - (after.assigned | after.revoking))
    _watch_revocation(stage, group_id, before, after)
    return after.assigned


def _watch_revocation(stage: Stage, group_id: str, before: Member, after: Member) -> None:
    """Its time to give back begins anew with whatever it is to give back."""
    key = (group_id, after.member_id)
    by_ms = stage.sessions.contacts[key].revoke_by_ms
    if after.revoking and after.rebalance_timeout_ms:
        if by_ms is None or after.revoking != before.revoking:
            stage.sessions.revokes(key, stage.now_ms + after.rebalance_timeout_ms + 1)
    elif by_ms is not None:
        stage.sessions.revokes(key, None)


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
    """Tells a member what it should own, over its stream."""
    key = (group.group_id, member.member_id)
    contact = stage.sessions.contacts.get(key)
    if contact is None or contact.session is None or contact.polls:
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

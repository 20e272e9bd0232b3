"""Members without a stream: each heartbeat says what has changed, its answer what the member is to own (Kafka's
ConsumerGroupHeartbeat). They are members like the others, in the same groups. Pure: parts of decisions."""

from dataclasses import replace
from typing import Final, NamedTuple

from node.groups import membership, targets
from node.groups.assign import TopicPartition
from node.groups.model import Group, Member
from node.groups.stage import GroupSettings, Stage, State
from node.groups.subscriptions import compile_topic_regex
from ottla.protocol.errors import ApiError
from ottla.protocol.names import check_group_id, check_id
from ottla.v1 import error_pb2 as e

JOINS: Final = 0
LEAVES: Final = -1
STEPS_OUT: Final = -2
"""Of a static member, which leaves and keeps its place until its time-out."""


class Heartbeat(NamedTuple):
    """What a member says; None = as before. `owned`: all the partitions that it owns. `is_whole`: it says everything,
    and asks for everything."""

    member_id: str
    member_epoch: int
    instance_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: tuple[str, ...] | None = None
    topic_regex: str | None = None
    assignor: str | None = None
    rebalance_timeout_ms: int | None = None
    owned: frozenset[TopicPartition] | None = None

    @property
    def is_bare(self) -> bool:
        """It says no more than that the member lives."""
        news = (self.topics, self.topic_regex, self.assignor, self.rebalance_timeout_ms, self.owned)
        return self.member_epoch > JOINS and not any(said is not None for said in news)

    @property
    def is_whole(self) -> bool:
        subscribes = self.topics is not None or self.topic_regex is not None
        says_all = self.rebalance_timeout_ms is not None and subscribes and self.owned is not None
        return self.member_epoch == JOINS or says_all


class Told(NamedTuple):
    """The answer. `assigned` None = as the member was told before. `member_epoch` 0: it is a member, and its target is
    still being made."""

    member_id: str
    member_epoch: int
    assigned: frozenset[TopicPartition] | None = None


def heartbeat(stage: Stage, group_id: str, session: int, said: Heartbeat, wall_ms: int) -> Told:
    """Who joins has an id. `session`: a new one, should the member have none. Raises ApiError."""
    _check(group_id, said)
    membership.check_not_forgotten(stage.group(group_id))
    membership.check_type(stage, group_id)
    if said.member_epoch in (LEAVES, STEPS_OUT):
        return _left(stage, group_id, said, wall_ms)
    membership.see_topics(stage, group_id)
    group = stage.group(group_id)
    known = _known(group, said) if said.member_epoch != JOINS else _of(group, said.member_id)
    asked = _asked(stage.settings, known or _newcomer(said), said)
    member = known or membership.admit(stage, group, group_id, asked)
    was_here = stage.sessions.polls((group_id, said.member_id))
    membership.enter(stage, group_id, member, asked, session, polls=True)
    assigned = targets.come_closer(stage, group_id, said.member_id, said.owned)
    now = stage.groups.by_id[group_id].members[said.member_id]
    is_news = said.is_whole or not was_here or assigned != member.assigned
    return Told(now.member_id, now.member_epoch, assigned if is_news else None)


def quiet(state: State, group_id: str, said: Heartbeat) -> Told | None:
    """The answer to a heartbeat that has no news for a member for which there are none, as most are; else None."""
    group = state.groups.by_id.get(group_id)
    member = _of(group, said.member_id)
    if not said.is_bare or group is None or member is None or group.saw is not state.topics:
        return None
    speaks = (said.member_epoch, said.client_id, said.client_host, said.instance_id or member.instance_id)
    is_known = speaks == (member.member_epoch, member.client_id, member.client_host, member.instance_id)
    if not is_known or not state.sessions.polls((group_id, said.member_id)):
        return None
    is_at_rest = group.plan is not None or not targets.is_behind(group, member)
    return Told(member.member_id, member.member_epoch) if is_at_rest else None


def _check(group_id: str, said: Heartbeat) -> None:
    check_group_id(group_id)
    if said.member_epoch < STEPS_OUT:
        raise ApiError(
            e.ERROR_CODE_INVALID_REQUEST,
            f"member epoch {said.member_epoch}: 0 joins, {LEAVES} leaves, {STEPS_OUT} leaves for a while",
        )
    if said.rebalance_timeout_ms is not None and said.rebalance_timeout_ms < 0:
        raise ApiError(e.ERROR_CODE_INVALID_REQUEST, f"rebalance time-out {said.rebalance_timeout_ms} ms is negative")
    for what, text in (
        ("member_id", said.member_id),
        ("instance_id", said.instance_id or ""),
        ("client_id", said.client_id),
    ):
        check_id(what, text)
    if said.assignor is not None:
        membership.check_assignor(said.assignor)
    membership.check_topics(said.topics or ())
    compile_topic_regex(said.topic_regex or "")


def _of(group: Group | None, member_id: str) -> Member | None:
    return None if group is None else group.members.get(member_id)


def _known(group: Group | None, said: Heartbeat) -> Member:
    """The member that speaks, in the epoch that it was told, or in the one before where that answer was lost."""
    member = _found(group, said)
    lost = said.member_epoch == member.previous_epoch and said.owned is not None
    is_before = lost and said.owned is not None and said.owned <= member.assigned | member.revoking
    if member.away or (said.member_epoch != member.member_epoch and not is_before):
        raise ApiError(
            e.ERROR_CODE_FENCED_MEMBER_EPOCH,
            f"member epoch {said.member_epoch} is not the current one, {member.member_epoch}: give up all partitions, "
            "and join with epoch 0",
        )
    return member


def _found(group: Group | None, said: Heartbeat) -> Member:
    member = _of(group, said.member_id)
    holder = group.member_with_instance(said.instance_id) if group is not None and said.instance_id else None
    if holder is not None and holder is not member:
        raise ApiError(
            e.ERROR_CODE_FENCED_INSTANCE_ID, f"instance id {said.instance_id!r} is held by member {holder.member_id!r}"
        )
    if member is None:
        raise ApiError(
            e.ERROR_CODE_UNKNOWN_MEMBER_ID,
            f"the group has no member {said.member_id!r}: it left, was silent for too long, or did not give back in "
            "time what was revoked",
        )
    return member


def _newcomer(said: Heartbeat) -> Member:
    return Member(said.member_id, said.instance_id or "", "", "", (), "", "uniform", 0, 0, 0)


def _asked(settings: GroupSettings, member: Member, said: Heartbeat) -> Member:
    """The member as it wants to be."""
    waits_ms = said.rebalance_timeout_ms
    return replace(
        member,
        client_id=said.client_id,
        client_host=said.client_host,
        topics=member.topics if said.topics is None else tuple(sorted(set(said.topics))),
        topic_regex=member.topic_regex if said.topic_regex is None else said.topic_regex,
        assignor=said.assignor or member.assignor,
        session_timeout_ms=settings.session_timeout_ms,
        rebalance_timeout_ms=member.rebalance_timeout_ms if waits_ms is None else max(1, waits_ms),
    )


def _left(stage: Stage, group_id: str, said: Heartbeat, wall_ms: int) -> Told:
    member = _found(stage.group(group_id), said)
    if said.member_epoch == LEAVES:
        membership.remove(stage, group_id, {member.member_id: "it left"}, wall_ms, "a member left")
    else:
        stage.sessions.step_out((group_id, member.member_id), stage.now_ms)
        stage.write_member(group_id, replace(member, away=True, revoking=frozenset()))
        targets.freed(stage, group_id, member.revoking)
    return Told(member.member_id, said.member_epoch)

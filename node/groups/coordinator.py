"""The group coordinator's decisions (KIP-848's way: the server assigns, members follow by epochs). Pure.

    join -> group epoch + 1 -> target assignment -> members are reconciled one by one:
        has more than its target   -> told what to keep; `revoking` stays its own until it confirms
        has nothing to give back   -> takes the target's epoch and what of the target nobody owns (any more)

A partition is in `assigned` or `revoking` of at most one member: that is "one owner", and `_write_member` checks it. A
commit counts only with the member's current epoch, for a partition it owns.

Every method returns an `Outcome`: records to append as one batch, and what to tell members and the caller once that
batch is committed. Records are replayed here at once, so the state is the one at the log's end; if the append fails
the whole state is thrown away and loaded again.

Sessions (who is connected, when last heard of) are soft: after a change of coordinator each member has its session
time-out to come back, and no partition moves meanwhile.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import re2

from node.groups.assign import ASSIGNORS, TopicPartition
from node.groups.model import (
    CommittedOffset,
    Group,
    Groups,
    Member,
    Record,
    TopicView,
    group_record,
    member_record,
    offset_record,
    target_record,
)
from ottla.internal.v1 import group_pb2 as records
from ottla.protocol.errors import ApiError
from ottla.protocol.invariant import InvariantError
from ottla.protocol.names import check_group_id, check_topic_name
from ottla.v1 import data_pb2, group_pb2
from ottla.v1 import error_pb2 as e

LOST_CLIENT_GRACE_MS: Final = 300
"""How long a member may take to resume after the node that held its connection saw it close (protocol.md section 7)."""

METADATA_MAX_BYTES: Final = 4096
MEMBERS_MAX: Final = 10_000
TOPICS_PER_MEMBER_MAX: Final = 1_000
NAME_MAX: Final = 255
"""Characters of an instance id or client id. With the bounds above a member's record always fits into the log."""


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Bounds and defaults, in ms."""

    session_timeout_ms: int = 10_000
    session_timeout_min_ms: int = 1_000
    session_timeout_max_ms: int = 1_800_000
    offsets_retention_ms: int = 7 * 24 * 3_600_000


@dataclass(slots=True)
class Push:
    """A message for the session `session`; with `close` it is the last one."""

    session: int
    response: group_pb2.SessionResponse
    close: bool = False


@dataclass(slots=True)
class Outcome:
    """What a decision came to. Records first, then, when they are committed, pushes."""

    records: list[Record] = field(default_factory=list)
    pushes: list[Push] = field(default_factory=list)


@dataclass(slots=True)
class _Session:
    """Soft state of a member. `session` None = not connected; `deadline_ms` None = no limit while connected."""

    group_id: str
    member_id: str
    session: int | None
    last_contact_ms: int
    assignment_id: int = 0
    heartbeats: bool = False
    lost_client: bool = False


class Coordinator:
    """Groups of one partition of `__consumer_offsets`. `now_ms` is monotonic, `wall_ms` since the epoch."""

    def __init__(self, groups: Groups, settings: GroupSettings, topics: TopicView, now_ms: int) -> None:
        self._groups = groups
        self._settings = settings
        self._topics = topics
        self._sessions: dict[tuple[str, str], _Session] = {}
        self._by_session: dict[int, _Session] = {}
        for group in groups.by_id.values():
            for member_id in group.members:
                self._sessions[group.group_id, member_id] = _Session(group.group_id, member_id, None, now_ms)

    # --- sessions -------------------------------------------------------------------------------------------------

    def join(self, session: int, join: group_pb2.Join, client_host: str, new_member_id: str, now_ms: int) -> Outcome:
        """A member joins or resumes over the stream `session`. Raises ApiError, nothing changed."""
        check_group_id(join.group_id)
        timeout_ms = join.session_timeout_ms or self._settings.session_timeout_ms
        low, high = self._settings.session_timeout_min_ms, self._settings.session_timeout_max_ms
        if not low <= timeout_ms <= high:
            raise ApiError(
                e.ERROR_CODE_INVALID_SESSION_TIMEOUT,
                f"session time-out {timeout_ms} ms is not within {low} to {high} ms",
            )
        assignor = join.assignor or "uniform"
        if assignor not in ASSIGNORS:
            raise ApiError(
                e.ERROR_CODE_UNSUPPORTED_ASSIGNOR, f"no assignor {assignor!r}; there are {sorted(ASSIGNORS)}"
            )
        if not join.topics and not join.topic_regex:
            raise ApiError(e.ERROR_CODE_INVALID_REQUEST, "a member must name topics or a topic_regex")
        if len(join.topics) > TOPICS_PER_MEMBER_MAX:
            raise ApiError(
                e.ERROR_CODE_INVALID_REQUEST, f"{len(join.topics)} topics named, {TOPICS_PER_MEMBER_MAX} are allowed"
            )
        for name in join.topics:
            check_topic_name(name)
        for what in ("member_id", "instance_id", "client_id"):
            text = getattr(join, what)
            if len(text) > NAME_MAX:
                raise ApiError(
                    e.ERROR_CODE_INVALID_REQUEST, f"{what} has {len(text)} characters, {NAME_MAX} are allowed"
                )
        compile_topic_regex(join.topic_regex)
        group = self._groups.by_id.get(join.group_id)
        outcome = Outcome()
        known = None if group is None else group.members.get(join.member_id)
        if join.member_id and (join.member_epoch or join.owned):
            member = _resume(known, join)
        elif known is not None:
            member = known  # it joined before, and the answer was lost with its coordinator or its stream (KIP-1082)
        else:
            member = Member(
                member_id=join.member_id or new_member_id,
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
            if group is not None and len(group.members) >= MEMBERS_MAX:
                raise ApiError(e.ERROR_CODE_POLICY_VIOLATION, f"the group has {MEMBERS_MAX} members, the limit")
            if join.instance_id and group is not None:
                member = self._take_over_instance(group, member, outcome)
        self._connect(join.group_id, member.member_id, session, now_ms, outcome)
        before = None if group is None else group.members.get(member.member_id)
        updated = replace(
            member,
            client_id=join.client_id,
            client_host=client_host,
            topics=tuple(sorted(set(join.topics))),
            topic_regex=join.topic_regex,
            assignor=assignor,
            session_timeout_ms=timeout_ms,
            away=False,
        )
        # Who comes back and names nothing has not given anything back: that it will say when it confirms.
        if join.member_id and join.owned:
            owned = frozenset((tp.topic_id, tp.partition) for tp in join.owned)
            updated = replace(updated, revoking=updated.revoking & owned)
        if updated != before:
            self._write_member(join.group_id, updated, outcome)
        group = self._groups.by_id[join.group_id]
        if before is None or _subscription(before) != _subscription(updated):
            self._retarget(group, outcome, "a member joined" if before is None else "a subscription changed")
        else:
            self._reconcile(group, outcome, "the member came back")
        if not any(push.session == session for push in outcome.pushes):
            self._push_assignment(group, group.members[member.member_id], outcome, "the session was resumed")
        return outcome

    def _take_over_instance(self, group: Group, member: Member, outcome: Outcome) -> Member:
        """Static membership (KIP-345): who comes back under its instance id gets its old place, nothing moves."""
        old = group.member_with_instance(member.instance_id)
        if old is None:
            return member
        held = self._sessions.get((group.group_id, old.member_id))
        if held is not None and held.session is not None:
            raise ApiError(
                e.ERROR_CODE_UNRELEASED_INSTANCE_ID,
                f"instance id {member.instance_id!r} is held by member {old.member_id!r}, which is connected",
            )
        target = group.targets.get(old.member_id, frozenset())
        self._forget_session(group.group_id, old.member_id)
        self._emit(member_record(group.group_id, old.member_id, None), outcome)
        self._emit(target_record(group.group_id, old.member_id, None), outcome)
        self._emit(target_record(group.group_id, member.member_id, target), outcome)
        taken_over = replace(
            member,
            topics=old.topics,
            topic_regex=old.topic_regex,
            assignor=old.assignor,
            member_epoch=old.member_epoch,
            previous_epoch=old.member_epoch,
            assigned=old.assigned,
        )
        self._write_member(group.group_id, taken_over, outcome)
        return taken_over

    def confirm(self, session: int, owned: group_pb2.Owned, now_ms: int) -> Outcome:
        """The member says what it owns now: what it no longer owns is free for others."""
        outcome = Outcome()
        found = self._heard(session, now_ms)
        if found is None:
            return outcome
        group, member = found
        kept = frozenset((tp.topic_id, tp.partition) for tp in owned.partitions)
        # Another id answers an assignment that has been replaced: what it lacks may have been given since.
        latest = self._by_session[session].assignment_id
        if owned.assignment_id == latest and member.revoking and not member.revoking <= kept:
            self._write_member(group.group_id, replace(member, revoking=member.revoking & kept), outcome)
            self._reconcile(group, outcome, "partitions were given back")
        return outcome

    def heartbeat(self, session: int, now_ms: int) -> None:
        """The member lives. Who has sent one heartbeat must go on: its silence then counts."""
        held = self._by_session.get(session)
        if held is not None:
            held.last_contact_ms = now_ms
            held.heartbeats = True

    def leave(self, session: int, now_ms: int, wall_ms: int) -> Outcome:
        """The member goes: its partitions are free at once. A static member keeps its place until its time-out."""
        outcome = Outcome()
        found = self._heard(session, now_ms)
        if found is None:
            return outcome
        group, member = found
        held = self._sessions[group.group_id, member.member_id]
        self._by_session.pop(session, None)
        if member.instance_id:
            held.session = None
            self._write_member(group.group_id, replace(member, away=True), outcome)
        else:
            self._remove_members(group, [member.member_id], outcome, wall_ms, "a member left")
        return outcome

    def closed(self, session: int, *, by_client: bool, now_ms: int) -> None:
        """The stream ended without a word. `by_client`: the node that held the client's connection saw it close."""
        held = self._by_session.pop(session, None)
        if held is None or held.session != session:
            return
        held.session = None
        if by_client or not held.heartbeats:
            held.last_contact_ms = now_ms
        held.lost_client = by_client

    def tick(self, now_ms: int, wall_ms: int) -> Outcome:
        """Removes who has been silent for too long, and positions of groups that are empty for too long."""
        outcome = Outcome()
        for group in list(self._groups.by_id.values()):
            silent = [m for m in group.members if self._expired(group, m, now_ms)]
            if silent:
                self._remove_members(group, silent, outcome, wall_ms, "a member was lost")
            elif (
                not group.members
                and group.empty_since_ms
                and wall_ms - group.empty_since_ms > self._settings.offsets_retention_ms
            ):
                self._delete(group, outcome)
        return outcome

    def _expired(self, group: Group, member_id: str, now_ms: int) -> bool:
        held = self._sessions[group.group_id, member_id]
        member = group.members[member_id]
        if held.session is not None and not held.heartbeats:
            return False  # the stream's keepalive vouches for it
        limit_ms = member.session_timeout_ms
        if held.session is None and held.lost_client and not member.instance_id:
            limit_ms = LOST_CLIENT_GRACE_MS
        return now_ms - held.last_contact_ms > limit_ms

    def topics_changed(self, topics: TopicView) -> Outcome:
        """New, grown or deleted topics: groups that consume them get a new target; positions of deleted ones go.

        Due after loading, too: the coordinator before may have ended between a change and its answer to it.
        """
        self._topics = topics
        outcome = Outcome()
        for group in list(self._groups.by_id.values()):
            for at in sorted(group.offsets):
                if at[0] not in topics.names:
                    self._emit(offset_record(group.group_id, at, None), outcome)
            if not group.members:
                continue
            wanted = frozenset().union(*self._wanted(group).values())
            owned_gone = any(not topics.count(topic_id) for topic_id in group.seen_topics)
            if owned_gone or any(
                topics.count(topic_id) != group.seen_topics.get(topic_id, (0, 0))[1] for topic_id in wanted
            ):
                self._retarget(group, outcome, "topics changed", are_new=True)
        return outcome

    # --- positions ------------------------------------------------------------------------------------------------

    def commit(
        self, request: group_pb2.CommitOffsetsRequest, wall_ms: int
    ) -> tuple[Outcome, group_pb2.CommitOffsetsResponse]:
        """Stores positions. The answer may leave when the records are committed. Raises ApiError: nothing stored."""
        check_group_id(request.group_id)
        group = self._groups.by_id.get(request.group_id)
        member = None if group is None else group.members.get(request.member_id)
        self._check_committer(request, group, member)
        outcome = Outcome()
        response = group_pb2.CommitOffsetsResponse()
        for item in request.offsets:
            result = response.offsets.add(partition=item.partition)
            try:
                at = self._check_commit(item, member)
            except ApiError as error:
                result.error.CopyFrom(error.to_proto())
                continue
            epoch = item.leader_epoch if item.HasField("leader_epoch") else None
            value = CommittedOffset(item.offset, epoch, item.metadata, wall_ms)
            self._emit(offset_record(request.group_id, at, value), outcome)
        group = self._groups.by_id.get(request.group_id)
        if group is not None and not group.members and outcome.records:
            self._write_group(group, outcome, empty_since_ms=wall_ms)
        return outcome, response

    def _check_committer(
        self, request: group_pb2.CommitOffsetsRequest, group: Group | None, member: Member | None
    ) -> None:
        if not request.member_id:
            if group is not None and group.members:
                raise ApiError(
                    e.ERROR_CODE_UNKNOWN_MEMBER_ID,
                    f"group {request.group_id!r} has {len(group.members)} members: only they may commit",
                )
            return
        if member is None:
            raise ApiError(
                e.ERROR_CODE_UNKNOWN_MEMBER_ID, f"group {request.group_id!r} has no member {request.member_id!r}"
            )
        if request.member_epoch > member.member_epoch:
            raise ApiError(
                e.ERROR_CODE_FENCED_MEMBER_EPOCH,
                f"member epoch {request.member_epoch} was never given out, the current one is {member.member_epoch}",
            )
        if request.member_epoch < member.member_epoch:
            raise ApiError(
                e.ERROR_CODE_STALE_MEMBER_EPOCH,
                f"member epoch {request.member_epoch} is old, the current one is {member.member_epoch}",
            )

    def _check_commit(self, item: group_pb2.OffsetCommit, member: Member | None) -> TopicPartition:
        at = self._resolve(item.partition)
        if item.offset < 0:
            raise ApiError(e.ERROR_CODE_INVALID_REQUEST, f"offset {item.offset} is negative")
        if len(item.metadata.encode()) > METADATA_MAX_BYTES:
            raise ApiError(
                e.ERROR_CODE_OFFSET_METADATA_TOO_LARGE,
                f"metadata has {len(item.metadata.encode())} bytes, {METADATA_MAX_BYTES} are allowed",
            )
        if member is not None and at not in member.assigned and at not in member.revoking:
            raise ApiError(
                e.ERROR_CODE_STALE_MEMBER_EPOCH,
                f"partition {at[1]} of {self._topics.names[at[0]]!r} is not assigned to member {member.member_id!r}",
            )
        return at

    def _resolve(self, tp: data_pb2.TopicPartition) -> TopicPartition:
        topic_id = tp.topic_id
        if not topic_id and tp.topic in self._topics.topics:
            topic_id = self._topics.topics[tp.topic][0]
        if not 0 <= tp.partition < self._topics.count(topic_id):
            name = tp.topic or tp.topic_id.hex()
            raise ApiError(e.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION, f"there is no partition {tp.partition} of {name!r}")
        return topic_id, tp.partition

    def offsets(self, request: group_pb2.FetchOffsetsRequest) -> group_pb2.FetchOffsetsResponse:
        """Positions at the log's end: the caller lets the answer leave when everything up to there is committed."""
        check_group_id(request.group_id)
        group = self._groups.by_id.get(request.group_id)
        stored = {} if group is None else group.offsets
        response = group_pb2.FetchOffsetsResponse()
        if request.partitions:
            wanted: Iterable[tuple[TopicPartition | None, data_pb2.TopicPartition]] = [
                (self._known(tp), tp) for tp in request.partitions
            ]
        else:
            wanted = [(at, self._name(at)) for at in sorted(stored)]
        for at, tp in wanted:
            entry = response.offsets.add(partition=tp)
            if at is not None and (value := stored.get(at)) is not None:
                entry.offset = value.offset
                entry.metadata = value.metadata
                entry.commit_time_ms = value.commit_time_ms
                if value.leader_epoch is not None:
                    entry.leader_epoch = value.leader_epoch
        return response

    def _known(self, tp: data_pb2.TopicPartition) -> TopicPartition | None:
        try:
            return self._resolve(tp)
        except ApiError:
            return None

    def reset(self, group_id: str, offsets: Iterable[tuple[TopicPartition, int]], wall_ms: int) -> Outcome:
        """Moves positions of a group without members. Raises NON_EMPTY_GROUP or GROUP_ID_NOT_FOUND."""
        group = self._empty_group(group_id)
        outcome = Outcome()
        for at, offset in offsets:
            self._emit(offset_record(group_id, at, CommittedOffset(offset, None, "", wall_ms)), outcome)
        if outcome.records:
            self._write_group(group, outcome, empty_since_ms=wall_ms)
        return outcome

    def delete(self, group_id: str, validate_only: bool = False) -> Outcome:
        """Forgets a group without members. Raises NON_EMPTY_GROUP or GROUP_ID_NOT_FOUND."""
        outcome = Outcome()
        group = self._empty_group(group_id)
        if not validate_only:
            self._delete(group, outcome)
        return outcome

    def _empty_group(self, group_id: str) -> Group:
        check_group_id(group_id)
        group = self._groups.by_id.get(group_id)
        if group is None:
            raise ApiError(e.ERROR_CODE_GROUP_ID_NOT_FOUND, f"there is no group {group_id!r}")
        if group.members:
            raise ApiError(e.ERROR_CODE_NON_EMPTY_GROUP, f"group {group_id!r} has {len(group.members)} members")
        return group

    def _delete(self, group: Group, outcome: Outcome) -> None:
        for at in sorted(group.offsets):
            self._emit(offset_record(group.group_id, at, None), outcome)
        self._emit(group_record(group.group_id, None), outcome)

    # --- looking at groups ----------------------------------------------------------------------------------------

    def group(self, group_id: str) -> Group | None:
        return self._groups.by_id.get(group_id)

    def groups(self) -> list[Group]:
        return [self._groups.by_id[group_id] for group_id in sorted(self._groups.by_id)]

    def _name(self, at: TopicPartition) -> data_pb2.TopicPartition:
        return data_pb2.TopicPartition(topic=self._topics.names.get(at[0], ""), topic_id=at[0], partition=at[1])

    # --- assignment -----------------------------------------------------------------------------------------------

    def _wanted(self, group: Group) -> dict[str, frozenset[bytes]]:
        """Topic ids that each member wants and that exist."""
        wanted = {}
        for member_id, member in group.members.items():
            matches = compile_topic_regex(member.topic_regex)
            names = set(member.topics)
            if matches is not None:
                names |= {name for name in self._topics.topics if matches(name)}
            wanted[member_id] = frozenset(self._topics.topics[n][0] for n in names if n in self._topics.topics)
        return wanted

    def _retarget(self, group: Group, outcome: Outcome, reason: str, *, are_new: bool = False) -> None:
        """A new group epoch and a target assignment for it, then every member is brought closer to it. `are_new`:
        topics that the group has not seen yet did not exist when its members subscribed, so nothing of them is old."""
        wanted = self._wanted(group)
        counts = {topic_id: self._topics.count(topic_id) for topic_id in frozenset().union(*wanted.values())}
        current = {m: group.targets.get(m, member.assigned) for m, member in group.members.items()}
        target = ASSIGNORS[_majority_assignor(group)](wanted, counts, current)
        # Kept also while nobody wants the topic: who comes back to it finds partitions that are new since.
        counted = {t: self._topics.count(t) for t in group.seen_topics if self._topics.count(t)} | counts
        seen = [
            records.SeenTopic(
                topic_id=topic_id,
                first_count=group.seen_topics.get(topic_id, (0 if are_new else count, count))[0],
                count=count,
            )
            for topic_id, count in sorted(counted.items())
        ]
        epoch = group.group_epoch + 1
        for member_id in sorted(group.targets.keys() - target.keys()):
            self._emit(target_record(group.group_id, member_id, None), outcome)
        for member_id in sorted(target):
            if group.targets.get(member_id) != target[member_id]:
                self._emit(target_record(group.group_id, member_id, target[member_id]), outcome)
        self._emit(
            group_record(group.group_id, records.GroupValue(group_epoch=epoch, target_epoch=epoch, seen_topics=seen)),
            outcome,
        )
        self._reconcile(group, outcome, reason)

    def _reconcile(self, group: Group, outcome: Outcome, reason: str) -> None:
        """Brings members closer to their targets: first those who give back, then those who take what is free."""
        before = dict(group.members)
        for member_id in sorted(group.members):
            member = group.members[member_id]
            surplus = member.assigned - group.targets.get(member_id, frozenset())
            if surplus:
                gone = {tp for tp in surplus if tp[1] >= self._topics.count(tp[0])}  # deleted: nothing to give back
                revoking = member.revoking | (surplus - gone)
                self._write_member(
                    group.group_id, replace(member, assigned=member.assigned - surplus, revoking=revoking), outcome
                )
        for member_id in sorted(group.members):
            member = group.members[member_id]
            if member.revoking or self._away(group, member):
                continue
            target = group.targets.get(member_id, frozenset())
            free = frozenset(tp for tp in target - member.assigned if tp not in group.owners)
            epoch = group.target_epoch
            if not free and member.member_epoch == epoch:
                continue
            previous = member.previous_epoch if member.member_epoch == epoch else member.member_epoch
            self._write_member(
                group.group_id,
                replace(member, member_epoch=epoch, previous_epoch=previous, assigned=member.assigned | free),
                outcome,
            )
        for member_id, member in sorted(group.members.items()):
            if member != before.get(member_id) or before[member_id].member_epoch == 0:
                self._push_assignment(group, member, outcome, reason)

    def _away(self, group: Group, member: Member) -> bool:
        """Who is not connected takes nothing new: it could not start to read it."""
        held = self._sessions.get((group.group_id, member.member_id))
        return held is None or held.session is None

    def _remove_members(self, group: Group, member_ids: list[str], outcome: Outcome, wall_ms: int, reason: str) -> None:
        for member_id in sorted(member_ids):
            held = self._sessions.get((group.group_id, member_id))
            if held is not None and held.session is not None:
                gone = ApiError(e.ERROR_CODE_UNKNOWN_MEMBER_ID, f"member {member_id!r} was silent for too long")
                outcome.pushes.append(Push(held.session, group_pb2.SessionResponse(error=gone.to_proto()), close=True))
            self._forget_session(group.group_id, member_id)
            self._emit(member_record(group.group_id, member_id, None), outcome)
            self._emit(target_record(group.group_id, member_id, None), outcome)
        if group.members:
            self._retarget(group, outcome, reason)
        else:
            self._write_group(group, outcome, empty_since_ms=wall_ms, bump=True)

    # --- small parts ----------------------------------------------------------------------------------------------

    def _emit(self, record: Record, outcome: Outcome) -> None:
        outcome.records.append(record)
        self._groups.replay(record)

    def _write_member(self, group_id: str, member: Member, outcome: Outcome) -> None:
        group = self._groups.by_id.get(group_id)
        owners = {} if group is None else group.owners
        taken = [tp for tp in member.assigned | member.revoking if owners.get(tp, member.member_id) != member.member_id]
        if taken:
            raise InvariantError(f"partition {taken[0]} of group {group_id!r} would have two owners")
        self._emit(member_record(group_id, member.member_id, member), outcome)

    def _write_group(self, group: Group, outcome: Outcome, *, empty_since_ms: int, bump: bool = False) -> None:
        epoch = group.group_epoch + bump
        value = records.GroupValue(
            group_epoch=epoch,
            target_epoch=epoch,
            empty_since_ms=empty_since_ms,
            seen_topics=[
                records.SeenTopic(topic_id=topic_id, first_count=first, count=count)
                for topic_id, (first, count) in sorted(group.seen_topics.items())
            ],
        )
        self._emit(group_record(group.group_id, value), outcome)

    def _push_assignment(self, group: Group, member: Member, outcome: Outcome, reason: str) -> None:
        held = self._sessions.get((group.group_id, member.member_id))
        if held is None or held.session is None:
            return
        session = held.session
        outcome.pushes = [push for push in outcome.pushes if push.session != session]  # it replaces earlier ones
        held.assignment_id += 1
        assignment = group_pb2.Assignment(
            assignment_id=held.assignment_id,
            member_id=member.member_id,
            member_epoch=member.member_epoch,
            reason=reason,
            session_timeout_ms=member.session_timeout_ms,
        )
        for at in sorted(member.assigned):
            entry = assignment.partitions.add(partition=self._name(at))
            entry.new_partition = at[1] >= group.seen_topics.get(at[0], (at[1] + 1, 0))[0]
            if (value := group.offsets.get(at)) is not None:
                entry.committed_offset = value.offset
                if value.leader_epoch is not None:
                    entry.committed_leader_epoch = value.leader_epoch
        outcome.pushes.append(Push(session, group_pb2.SessionResponse(assignment=assignment)))

    def _connect(self, group_id: str, member_id: str, session: int, now_ms: int, outcome: Outcome) -> None:
        old = self._sessions.get((group_id, member_id))
        if old is not None and old.session is not None and old.session != session:
            replaced = ApiError(e.ERROR_CODE_FENCED_MEMBER_EPOCH, "the member resumed over another stream")
            outcome.pushes.append(Push(old.session, group_pb2.SessionResponse(error=replaced.to_proto()), close=True))
            self._by_session.pop(old.session, None)
        held = _Session(group_id, member_id, session, now_ms)
        self._sessions[group_id, member_id] = self._by_session[session] = held

    def _heard(self, session: int, now_ms: int) -> tuple[Group, Member] | None:
        """The member behind a stream, with its contact noted; None where the stream has been replaced or removed."""
        held = self._by_session.get(session)
        if held is None:
            return None
        held.last_contact_ms = now_ms
        group = self._groups.by_id[held.group_id]
        return group, group.members[held.member_id]

    def _forget_session(self, group_id: str, member_id: str) -> None:
        held = self._sessions.pop((group_id, member_id), None)
        if held is not None and held.session is not None:
            self._by_session.pop(held.session, None)


def compile_topic_regex(pattern: str) -> Callable[[str], bool] | None:
    """A whole-name match in RE2's syntax, whose run time no pattern can blow up; None for an empty pattern."""
    if not pattern:
        return None
    if len(pattern) > 1_000:
        raise ApiError(
            e.ERROR_CODE_INVALID_REGULAR_EXPRESSION, f"the expression has {len(pattern)} characters, 1000 are allowed"
        )
    try:
        compiled = re2.compile(pattern)
    except re2.error as error:
        raise ApiError(
            e.ERROR_CODE_INVALID_REGULAR_EXPRESSION, f"{pattern!r} does not compile: {_text(error)}"
        ) from None
    return lambda name: compiled.fullmatch(name) is not None


def _text(error: Exception) -> str:
    detail = error.args[0] if error.args else error
    return detail.decode() if isinstance(detail, bytes) else str(detail)


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


def _subscription(member: Member) -> tuple[tuple[str, ...], str, str]:
    return member.topics, member.topic_regex, member.assignor


def _majority_assignor(group: Group) -> str:
    """What most members ask for; the first by name where they are even."""
    names = sorted(member.assignor for member in group.members.values())
    return max(dict.fromkeys(names), key=names.count)

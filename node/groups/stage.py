"""A decision under way: it reads and changes a staged view, and nothing of it holds before it lands.

    decide on the stage -> append its records -> land -> ... committed -> push and answer

A decision that raises, and one whose records the log refuses, leave nothing behind: the stage is dropped. Once landed
the state is the one at the log's end; only an append of unknown outcome has the whole state thrown away and loaded.

A stage may lie over another one: several decisions, each of which sees those before it, are then appended as one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from node.groups.classic import ClassicGroup
from node.groups.model import (
    Change,
    Group,
    GroupChange,
    Groups,
    GroupState,
    Member,
    MemberChange,
    Record,
    StagedGroups,
    TargetChange,
    TopicView,
    encode,
)
from node.groups.sessions import MemberKey, Sessions
from node.groups.subscriptions import Subscriptions
from node.groups.timers import Timers
from node.history.groups import Note
from ottla.protocol.invariant import InvariantError
from ottla.v1 import group_pb2

HEARTBEAT_MAX_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Bounds and defaults, in ms."""

    session_timeout_ms: int = 10_000
    session_timeout_min_ms: int = 1_000
    session_timeout_max_ms: int = 1_800_000
    offsets_retention_ms: int = 7 * 24 * 3_600_000

    @property
    def heartbeat_interval_ms(self) -> int:
        """How often a member without a stream is to ask: five times before its silence counts, and each second."""
        return min(HEARTBEAT_MAX_MS, max(1, self.session_timeout_ms // 5))


@dataclass(slots=True)
class Push:
    """A message for the session `session`; with `close` it is the last one."""

    session: int
    response: group_pb2.SessionResponse
    close: bool = False


class State:
    """What a coordinator knows: the groups as the log has them, who is connected, the topics - and what is due when."""

    def __init__(self, groups: Groups, settings: GroupSettings, topics: TopicView) -> None:
        self.groups = groups
        self.settings = settings
        self.topics = topics
        self.subscriptions = Subscriptions(topics)
        self.sessions = Sessions()
        self.classic: dict[str, ClassicGroup] = {}
        """Soft: what is more than the log has of these groups. Changed at once, not staged."""
        self.classic_bytes = 0
        """What members of these say of themselves."""
        self.classic_due: Timers[str] = Timers()
        self.swept: list[str] = []
        """Groups that are still to be searched for positions in topics that are gone."""
        self.unseen: list[str] = []
        """Groups that are still to see the topics there are now."""
        self.silence: Timers[MemberKey] = Timers()
        self.targets: Timers[str] = Timers()
        self.expiry: Timers[str] = Timers()
        """In wall time, as what it looks at."""

    def watch_silence(self, key: MemberKey) -> None:
        """The member's contact or time-out has changed."""
        contact, group = self.sessions.contacts.get(key), self.groups.by_id.get(key[0])
        member = None if group is None else group.members.get(key[1])
        if contact is not None and member is not None and (at_ms := contact.expires_ms(member)) is not None:
            self.silence.arm(key, at_ms)

    def watch(self, group_id: str) -> None:
        """The group has changed."""
        group = self.groups.by_id.get(group_id)
        if group is None:
            return
        if group.is_at_work:
            self.targets.arm(group_id, 0)
        elif group.target_is_due():
            self.targets.arm(group_id, group.target_due_ms())
        if group.own.forgotten:
            self.expiry.arm(group_id, 0)
        elif group.empty_since_ms and not group.has_members:
            self.expiry.arm(group_id, group.empty_since_ms + self.settings.offsets_retention_ms + 1)

    def landed(self, stage: "Stage", groups: list[str], contacts: list[MemberKey]) -> None:
        """The stage's changes hold here now, of these groups and contacts."""
        self.silence.settle(stage.seen_silent)
        self.targets.settle(stage.seen_due)
        self.expiry.settle(stage.seen_expired)
        for key in {*contacts, *stage.seen_silent}:
            self.watch_silence(key)
        for group_id in {*groups, *stage.seen_due, *stage.seen_expired}:
            self.watch(group_id)
            self._keep_classic(group_id)

    def _keep_classic(self, group_id: str) -> None:
        """What is soft goes with a group that is deleted, or of the other type now."""
        group, classic = self.groups.by_id.get(group_id), self.classic.get(group_id)
        if classic is not None and not classic.members and (group is None or group.classic is None):
            del self.classic[group_id]


@dataclass(slots=True)
class Outcome:
    """What a decision came to: records, appended as one; then it lands; then, when they are committed, pushes."""

    stage: "Stage"
    records: list[Record] = field(default_factory=list)
    pushes: list[Push] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def land(self) -> None:
        self.stage.land()


class Stage:
    """The view of a decision over `base`, which must not change meanwhile. `now_ms` is monotonic."""

    def __init__(self, base: "State | Stage", now_ms: int) -> None:
        self._base = base
        self.now_ms = now_ms
        self.settings: GroupSettings = base.settings
        self.groups: StagedGroups = base.groups.staged()
        self.sessions: Sessions = base.sessions.staged()
        self.classic: Mapping[str, ClassicGroup] = base.classic
        self.topics: TopicView = base.topics
        self.subscriptions: Subscriptions = base.subscriptions
        self.swept: list[str] = base.swept
        self.unseen: list[str] = base.unseen
        self.records: list[Record] = []
        self.pushes: dict[int, Push] = {}
        """By session."""
        self.notes: list[Note] = []
        """What is told of it to people."""
        self.seen_silent: list[MemberKey] = []
        self.seen_due: list[str] = []
        self.seen_expired: list[str] = []

    def group(self, group_id: str) -> Group | None:
        return self.groups.by_id.get(group_id)

    def member_count(self, group_id: str) -> int:
        """Of members of either protocol, those that are still joining, too."""
        group = self.group(group_id)
        return (0 if group is None else len(group.members)) + self.classic_member_count(group_id)

    def classic_member_count(self, group_id: str) -> int:
        classic = self.classic.get(group_id)
        if classic is not None:
            return len(classic.members)
        group = self.group(group_id)
        return 0 if group is None or group.classic is None else len(group.classic.member_ids)

    def emit(self, change: Change) -> None:
        self.records.append(encode(change))
        self.groups.apply(change)

    def write_member(self, group_id: str, member: Member) -> None:
        """The one way in which a member comes to own anything. Nobody else may own it: one owner at a time."""
        group = self.group(group_id)
        if group is not None:
            owners = group.owners
            for tp in member.assigned | member.revoking:
                if owners.get(tp, member.member_id) != member.member_id:
                    raise InvariantError(f"partition {tp} of group {group_id!r} would have two owners")
        self.emit(MemberChange(group_id, member.member_id, member))

    def remove_member(self, group_id: str, member_id: str) -> None:
        """The member is in the group no more, and nothing waits for it."""
        self.sessions.forget((group_id, member_id))
        self.emit(MemberChange(group_id, member_id, None))
        group = self.group(group_id)
        if group is not None and member_id in group.targets:
            self.emit(TargetChange(group_id, member_id, None))

    def write_group(self, group_id: str, state: GroupState | None) -> None:
        self.emit(GroupChange(group_id, state))

    def tell(self, session: int, response: group_pb2.SessionResponse, *, close: bool = False) -> None:
        """When everything is committed. An assignment replaces those before it, and nothing follows a last word."""
        before = self.pushes.get(session)
        if before is None or not before.close:
            self.pushes[session] = Push(session, response, close)

    def outcome(self) -> Outcome:
        return Outcome(self, self.records, list(self.pushes.values()), self.notes)

    def land(self) -> None:
        """What was decided holds."""
        base = self._base
        groups, contacts = self.groups.changed(), self.sessions.changed()
        self.groups.land()
        self.sessions.land()
        base.swept, base.unseen = self.swept, self.unseen
        base.landed(self, groups, contacts)

    def landed(self, stage: "Stage", groups: list[str], contacts: list[MemberKey]) -> None:
        """A decision after those that hold here already; it will be appended, and told, with them."""
        self.records += stage.records
        self.notes += stage.notes
        for push in stage.pushes.values():
            self.tell(push.session, push.response, close=push.close)
        self.seen_silent = [*self.seen_silent, *stage.seen_silent]
        self.seen_due += stage.seen_due
        self.seen_expired += stage.seen_expired

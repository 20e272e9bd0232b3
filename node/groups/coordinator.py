"""The group coordinator's decisions (KIP-848's way: the server assigns, members follow by epochs). Pure.

A partition is in `assigned` or `revoking` of at most one member: that is "one owner", and `Stage.write_member` checks
it. A commit counts only with the member's current epoch, for a partition it owns.

Every decision returns an `Outcome`: records to append as one batch, and what to tell members and the caller once that
batch is committed. It holds when it has landed, and what raises has changed nothing.
"""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from node import limits
from node.groups import classics, membership, offsets, polling
from node.groups.assign import TopicPartition
from node.groups.classic import ClassicGroup, StoredGeneration
from node.groups.classics import Shown
from node.groups.membership import TICK_MEMBERS_MAX
from node.groups.model import CommittedOffset, Group, Groups, TopicView
from node.groups.offsets import ClassicCommitter, Committer, Position, Where
from node.groups.polling import Heartbeat, Told
from node.groups.sessions import Contact
from node.groups.stage import GroupSettings, Outcome, Stage, State
from ottla.protocol.errors import ApiError
from ottla.protocol.names import check_group_id
from ottla.v1 import group_pb2

TICK_CLASSICS_MAX: Final = 20
TICK_CLASSIC_WORK: Final = 500
T = TypeVar("T")


class Coordinator:
    """Groups of one partition of `__consumer_offsets`. `now_ms` is monotonic, `wall_ms` since the epoch."""

    def __init__(self, groups: Groups, settings: GroupSettings, topics: TopicView, now_ms: int) -> None:
        self._state = state = State(groups, settings, topics)
        self._open: Stage | None = None
        for group_id, group in groups.by_id.items():
            for member_id in group.members:
                contact = Contact(group_id, member_id, None, now_ms)
                state.sessions.contacts[contact.key] = contact
                state.watch_silence(contact.key)
            state.watch(group_id)
        state.swept = list(groups.by_id)
        state.unseen = list(groups.by_id)
        self._asleep = [
            group_id for group_id, group in groups.by_id.items() if group.classic is not None and group.has_members
        ]
        """Classic groups whose members' silence does not count yet."""

    # --- several decisions as one -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Decisions from now on land on a stage of their own, until it ends. Whoever looks does not see them yet."""
        self._open = Stage(self._state, 0)

    def end(self) -> Outcome:
        """All that was decided since `begin`, as one decision."""
        assert self._open is not None, "nothing was begun"
        outcome, self._open = self._open.outcome(), None
        return outcome

    def _stage(self, now_ms: int) -> Stage:
        return Stage(self._open or self._state, now_ms)

    # --- members --------------------------------------------------------------------------------------------------

    def join(self, session: int, join: group_pb2.Join, client_host: str, new_member_id: str, now_ms: int) -> Outcome:
        """A member joins or resumes over the stream `session`. Raises ApiError."""
        stage = self._stage(now_ms)
        membership.join(stage, session, join, client_host, new_member_id)
        return stage.outcome()

    def confirm(self, session: int, owned: group_pb2.Owned, now_ms: int) -> Outcome:
        """The member says what it owns now: what it no longer owns is free for others."""
        stage = self._stage(now_ms)
        membership.confirm(stage, session, owned)
        return stage.outcome()

    def leave(self, session: int, now_ms: int, wall_ms: int) -> Outcome:
        """The member goes: its partitions are free at once. A static member keeps its place until its time-out."""
        stage = self._stage(now_ms)
        membership.leave(stage, session, wall_ms)
        return stage.outcome()

    def poll(self, group_id: str, session: int, said: Heartbeat, now_ms: int, wall_ms: int) -> tuple[Outcome, Told]:
        """A heartbeat of a member without a stream; what it is told when it is committed. Raises ApiError."""
        stage = self._stage(now_ms)
        told = polling.heartbeat(stage, group_id, session, said, wall_ms)
        return stage.outcome(), told

    def quiet(self, group_id: str, said: Heartbeat, now_ms: int) -> Told | None:
        """The answer to a heartbeat of which nothing follows, but that the member lives; None: `poll` has it."""
        assert self._open is None, "what is heard would be lost with a stage that is dropped"
        told = polling.quiet(self._state, group_id, said)
        if told is not None:
            self._watch(self._state.sessions.heard_of((group_id, said.member_id), now_ms))
        return told

    def heartbeat(self, session: int, now_ms: int) -> None:
        """The member lives. Who has sent one heartbeat must go on: its silence then counts."""
        assert self._open is None, "what is heard would be lost with a stage that is dropped"
        self._watch(self._state.sessions.heard(session, now_ms, heartbeat=True))

    def closed(self, session: int, *, by_client: bool, now_ms: int) -> None:
        """The stream ended without a word. `by_client`: the node that held the client's connection saw it close."""
        assert self._open is None, "what is heard would be lost with a stage that is dropped"
        self._watch(self._state.sessions.closed(session, now_ms, by_client=by_client))

    def _watch(self, contact: Contact | None) -> None:
        if contact is not None:
            self._state.watch_silence(contact.key)

    # --- members of the classic protocol, which is soft until a generation is stored ------------------------------

    def begin_classic(self, group_id: str, wall_ms: int) -> Outcome:
        """A member of the classic protocol comes. Raises INCONSISTENT_GROUP_PROTOCOL, or POLICY_VIOLATION where there
        are too many groups."""
        stage = self._stage(0)
        classics.begin(stage, group_id, wall_ms)
        return stage.outcome()

    def store_classic(self, group_id: str, stored: StoredGeneration, wall_ms: int) -> Outcome:
        stage = self._stage(0)
        classics.store(stage, group_id, stored, wall_ms)
        return stage.outcome()

    def classic(self, group_id: str, now_ms: int) -> ClassicGroup | None:
        """The group; None where there is none of that type."""
        state = self._state
        found = state.classic.get(group_id)
        if found is None:
            group = (self._open or state).groups.by_id.get(group_id)
            if group is None or group.classic is None or group.own.forgotten:
                return None
            found = state.classic[group_id] = classics.load(group, now_ms)
            state.classic_bytes += found.held_bytes
            self._watch_classic(group_id, found)
        return found

    def act(self, group_id: str, classic: ClassicGroup, action: Callable[[], T]) -> T:
        """Lets something happen to a classic group of this coordinator, and sees to its deadlines."""
        before = classic.held_bytes
        result = action()
        self._state.classic_bytes += classic.held_bytes - before
        self._watch_classic(group_id, classic)
        return result

    def _watch_classic(self, group_id: str, classic: ClassicGroup) -> None:
        if (at_ms := classic.deadline_ms()) is not None:
            self._state.classic_due.arm(group_id, at_ms)

    def classic_has_room(self, more_bytes: int) -> bool:
        return self._state.classic_bytes + more_bytes <= limits.CLASSIC_BYTES_MAX

    def classics_due(self, now_ms: int) -> list[tuple[str, ClassicGroup]]:
        """Those whose deadline has come, or some of them: `tick` is to be called for each. Wakes some after loading."""
        work = 0
        while self._asleep and work < TICK_CLASSIC_WORK:
            group = self.classic(self._asleep.pop(), now_ms)
            work += 1 + (0 if group is None else len(group.members))
        state = self._state
        due = state.classic_due.due(now_ms, TICK_CLASSICS_MAX)
        state.classic_due.settle(due)
        return [(group_id, state.classic[group_id]) for group_id in due if group_id in state.classic]

    def classics(self) -> list[ClassicGroup]:
        """All that are awake here."""
        return list(self._state.classic.values())

    # --- time and topics ------------------------------------------------------------------------------------------

    def due_ms(self, now_ms: int, old_ms: int) -> int | None:
        """In how many ms `tick` has something to do; None where nothing is due ever. `old_ms` as there."""
        state = self._state
        if state.swept or state.unseen or self._asleep:
            return 0
        waits = [
            at_ms - from_ms
            for at_ms, from_ms in (
                (state.silence.next_ms(), now_ms),
                (state.targets.next_ms(), now_ms),
                (state.classic_due.next_ms(), now_ms),
                (state.expiry.next_ms(), old_ms),
            )
            if at_ms is not None
        ]
        return max(0, min(waits)) if waits else None

    def tick(self, now_ms: int, wall_ms: int, old_ms: int | None = None) -> Outcome:
        """Does what is due, or a part of it: silent members go, targets are made, old positions are forgotten.
        `old_ms`: the time by which they are old if that is not the wall clock's, 0 where nobody can tell."""
        state, old_ms = self._state, wall_ms if old_ms is None else old_ms
        stage = self._stage(now_ms)
        membership.see_some(stage)
        silent = state.silence.due(now_ms, TICK_MEMBERS_MAX)
        membership.tick(stage, silent, state.targets.due(now_ms, TICK_MEMBERS_MAX), wall_ms)
        offsets.expire(stage, state.expiry.due(old_ms, TICK_MEMBERS_MAX), old_ms)
        offsets.sweep(stage)
        return stage.outcome()

    def topics_changed(self, topics: TopicView) -> None:
        """New, grown or deleted topics: from now on groups see these before anything else, and the others by and by.
        Due after loading, too: the coordinator before may have ended between a change and its answer to it."""
        assert self._open is None, "a decision under way has looked at others"
        state = self._state
        if state.topics.names.keys() - topics.names.keys():
            state.swept = list(state.groups.by_id)
        state.topics = topics
        state.subscriptions.see(topics)
        state.unseen = list(state.groups.by_id)

    # --- positions ------------------------------------------------------------------------------------------------

    def commit(
        self, group_id: str, who: Committer | ClassicCommitter, positions: Iterable[Position], wall_ms: int
    ) -> tuple[Outcome, list[ApiError | None]]:
        """Stores positions; what is wrong with each. They may be told when the records are committed. Raises ApiError:
        nothing stored."""
        stage = self._stage(0)
        errors = offsets.commit(stage, group_id, who, positions, wall_ms)
        return stage.outcome(), errors

    def delete_positions(self, group_id: str, wanted: Iterable[Where]) -> tuple[Outcome, list[ApiError | None]]:
        """Forgets positions in topics that no member consumes; what is wrong with each. Raises GROUP_ID_NOT_FOUND."""
        stage = self._stage(0)
        errors = offsets.delete(stage, group_id, wanted)
        return stage.outcome(), errors

    def reset(self, group_id: str, moved: Iterable[tuple[TopicPartition, int]], wall_ms: int) -> Outcome:
        """Moves positions of a group without members. Raises NON_EMPTY_GROUP or GROUP_ID_NOT_FOUND."""
        stage = self._stage(0)
        offsets.reset(stage, group_id, moved, wall_ms)
        return stage.outcome()

    def delete(self, group_id: str, validate_only: bool = False) -> Outcome:
        """Forgets a group without members. Raises NON_EMPTY_GROUP or GROUP_ID_NOT_FOUND."""
        stage = self._stage(0)
        group = offsets.check_empty(stage, group_id)
        if not validate_only:
            offsets.forget(stage, group)
        return stage.outcome()

    # --- looking at groups: at the log's end; answers leave when everything up to there is committed ---------------

    def offsets(self, group_id: str, wanted: Iterable[Where]) -> list[CommittedOffset | None]:
        """The positions that are asked for. Raises INCONSISTENT_TOPIC_ID."""
        check_group_id(group_id)
        return offsets.positions(self.group(group_id), self._state.topics, wanted)

    def check_reader(self, group_id: str, member_id: str, epoch: int) -> None:
        """Raises UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH or FENCED_MEMBER_EPOCH where that is no member any more."""
        check_group_id(group_id)
        offsets.check_reader(self.group(group_id), group_id, member_id, epoch)

    def stored(self, group_id: str) -> list[Where]:
        """Where the group has positions."""
        check_group_id(group_id)
        group, names = self.group(group_id), self._state.topics.names
        return [Where(names[at[0]], *at) for at in sorted({} if group is None else group.offsets) if at[0] in names]

    def group(self, group_id: str) -> Group | None:
        group = self._state.groups.by_id.get(group_id)
        return None if group is None or group.own.forgotten else group

    def shown(self, group: Group, *, with_members: bool = False) -> Shown:
        """What is to be told of a group of this coordinator."""
        return classics.shown(group, self._state.classic.get(group.group_id), with_members=with_members)

    def groups(self) -> list[Group]:
        return [group for _, group in sorted(self._state.groups.by_id.items()) if not group.own.forgotten]

"""A coordinator with members that obey, step by step: what they were told, what they own, and a log to load again."""

from collections.abc import Iterable
from typing import Any

import pytest

from node.groups.assign import TopicPartition
from node.groups.coordinator import Coordinator
from node.groups.model import TARGET_EVERY_MAX_MS, Groups, Record, TopicView
from node.groups.offsets import ClassicCommitter, Committer, Position, Where
from node.groups.polling import Heartbeat, Told
from node.groups.stage import GroupSettings, Outcome
from ottla.protocol.errors import ApiError
from ottla.v1 import data_pb2, group_pb2

GROUP = "g"
At = tuple[str, int]


def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every group is as a large one: no target is made, and no two members are reconciled, in one turn."""
    for name in ("KEPT_A_STEP", "MOVED_A_STEP"):
        monkeypatch.setattr(f"node.groups.assign.{name}", 1)
    for name in ("STEPS_A_TURN", "WORK_A_TURN"):
        monkeypatch.setattr(f"node.groups.targets.{name}", 1)


def topic_id(name: str) -> bytes:
    return name.encode().ljust(16, b"_")[:16]


def view(**counts: int) -> TopicView:
    return TopicView.of({name: (topic_id(name), count) for name, count in counts.items()})


class Member:
    """A member as its client sees it. `inbox` holds what it has not read yet."""

    def __init__(self, world: "World", session: int, group_id: str, join: dict[str, Any]) -> None:
        self.world = world
        self.session = session
        self.group_id = group_id
        self.fields = join
        self.member_id = ""
        self.epoch = 0
        self.owned: set[At] = set()
        self.last: group_pb2.Assignment | None = None
        self.inbox: list[group_pb2.SessionResponse] = []
        self.error = 0

    def read(self) -> None:
        """Takes what it was told; it owns from the assignment on, gives back at once and confirms nothing yet."""
        for response in self.inbox:
            if response.HasField("error"):
                self.error = response.error.code
                self.owned.clear()
                continue
            self.last = response.assignment
            self.member_id, self.epoch = self.last.member_id, self.last.member_epoch
            self.owned = {(p.partition.topic, p.partition.partition) for p in self.last.partitions}
        self.inbox.clear()

    def confirm(self, assignment_id: int | None = None, owned: Iterable[At] | None = None) -> None:
        assert self.last is not None
        partitions = [wire(at) for at in sorted(self.owned if owned is None else owned)]
        number = self.last.assignment_id if assignment_id is None else assignment_id
        message = group_pb2.Owned(assignment_id=number, partitions=partitions)
        self.world.done(self.world.coordinator.confirm(self.session, message, self.world.now))

    def leave(self, *, pause: bool = True) -> None:
        if pause:
            self.world.pause()
        self.world.done(self.world.coordinator.leave(self.session, self.world.now, self.world.wall))

    def lose(self, *, by_client: bool = True) -> None:
        self.world.coordinator.closed(self.session, by_client=by_client, now_ms=self.world.now)

    def resume(self, **changes: Any) -> None:
        """Comes back over another stream. Raises ApiError."""
        self.world.sessions += 1
        self.session = self.world.sessions
        fields: dict[str, Any] = {
            **self.fields,
            "member_id": self.member_id,
            "member_epoch": self.epoch,
            "owned": [wire(at) for at in sorted(self.owned)],
            **changes,
        }
        join = group_pb2.Join(group_id=self.group_id, **fields)
        self.world.done(self.world.coordinator.join(self.session, join, "", "unused", self.world.now))

    def commit(self, offset: int, at: At = ("t", 0), **changes: Any) -> int:
        """Answers the error code of the call or of the position, 0 = stored."""
        who = {"member_id": self.member_id, "member_epoch": self.epoch}
        return self.world.commit(offset, at, group_id=self.group_id, **{**who, **changes})


class Poller:
    """A member without a stream, as its client sees it. It says what it owns when that has changed."""

    def __init__(self, world: "World", member_id: str, *topics: str, group_id: str = GROUP, **fields: Any) -> None:
        self.world = world
        self.member_id = member_id
        self.group_id = group_id
        self.fields: dict[str, Any] = {"instance_id": None, "client_id": "c", "client_host": "h"}
        self.joining: dict[str, Any] = {"topics": topics or ("t",), "rebalance_timeout_ms": 60_000, **fields}
        if "instance_id" in fields:
            self.fields["instance_id"] = self.joining.pop("instance_id")
        self.epoch = 0
        self.owned: set[At] = set()
        self._said: frozenset[TopicPartition] | None = None

    def join(self) -> Told:
        """Or comes back with nothing. Raises ApiError."""
        self.epoch, self.owned = 0, set()
        return self.ask(owned=frozenset(), **self.joining)

    def beat(self, **changes: Any) -> Told:
        """Says what it owns if that is another than last time. Raises ApiError."""
        if (owned := ids(self.owned)) != self._said and "owned" not in changes:
            changes["owned"] = owned
        return self.ask(**changes)

    def ask(self, **said: Any) -> Told:
        fields = {"member_id": self.member_id, "member_epoch": self.epoch, **self.fields, **said}
        self.world.sessions += 1
        world = self.world
        heartbeat = Heartbeat(**fields)
        told = world.coordinator.quiet(self.group_id, heartbeat, world.now)
        if told is None:
            outcome, told = world.coordinator.poll(self.group_id, world.sessions, heartbeat, world.now, world.wall)
            world.done(outcome)
        if said.get("owned") is not None:
            self._said = said["owned"]
        self.take(told)
        return told

    def take(self, told: Told) -> None:
        self.epoch = max(told.member_epoch, 0)
        if told.assigned is not None:
            names = self.world.topics.names
            self.owned = {(names[topic_id], number) for topic_id, number in told.assigned}

    def commit(self, offset: int, at: At = ("t", 0), **changes: Any) -> int:
        """As a client of Kafka does."""
        who = ClassicCommitter(self.member_id, None, changes.pop("epoch", self.epoch))
        return self.world.commit_as(who, offset, at, group_id=self.group_id)


class World:
    """One coordinator. Members' answers are immediate unless a test says otherwise; `log` is what was appended."""

    def __init__(self, *, settings: GroupSettings | None = None, **counts: int) -> None:
        self.now = 0
        self.wall = 1_000_000
        self.settings = settings or GroupSettings()
        self.topics = view(**(counts or {"t": 4}))
        self.log: list[Record] = []
        self.members: list[Member] = []
        self.sessions = 0
        self.coordinator = Coordinator(Groups(), self.settings, self.topics, 0)

    def done(self, outcome: Outcome) -> None:
        self.log += outcome.records
        outcome.land()
        for push in outcome.pushes:
            for member in self.members:
                if member.session == push.session:
                    member.inbox.append(push.response)

    def join(
        self, *topics: str, group_id: str = GROUP, settle: bool = True, pause: bool = True, **fields: Any
    ) -> Member:
        """A new member; with `settle` everybody reads and confirms until nothing moves. Raises ApiError."""
        if pause:
            self.pause()
        self.sessions += 1
        if topics or not fields.keys() & {"topics", "topic_regex"}:
            fields["topics"] = list(topics or ("t",))
        member = Member(self, self.sessions, group_id, fields)
        self.members.append(member)
        join = group_pb2.Join(group_id=group_id, **fields)
        try:
            self.done(self.coordinator.join(member.session, join, "host", f"m{self.sessions}", self.now))
        except ApiError:
            self.members.remove(member)
            raise
        if settle:
            self.settle()
        return member

    def settle(self) -> None:
        """Targets that are due soon are waited for."""
        self.settle_told()
        for _ in range(TARGET_EVERY_MAX_MS + 1):
            if self.state != "assigning":
                return
            self.tick(1)
            self.settle_told()
        raise AssertionError("a target is due, and nobody makes it")

    def settle_told(self) -> None:
        """Everybody reads and confirms what is there to be read."""
        while any(member.inbox for member in self.members):
            for member in self.members:
                if member.inbox:
                    member.read()
                    if member.last is not None and not member.error:
                        member.confirm()

    def pause(self) -> None:
        """Between two changes here lies enough time for a target of its own each."""
        self.now += TARGET_EVERY_MAX_MS
        self.wall += TARGET_EVERY_MAX_MS

    def tick(self, ms: int) -> None:
        """Time passes, step by step as things fall due."""
        until = self.now + ms
        while (due_ms := self.coordinator.due_ms(self.now, self.wall)) is not None and self.now + due_ms <= until:
            self._at(self.now + due_ms)
        self._at(until)

    def _at(self, now: int) -> None:
        self.wall += now - self.now
        self.now = now
        self.done(self.coordinator.tick(self.now, self.wall))

    def topics_are(self, **counts: int) -> None:
        self.pause()
        self.topics = view(**counts)
        self.coordinator.topics_changed(self.topics)
        self.done(self.coordinator.tick(self.now, self.wall))

    def move(self) -> None:
        """Another coordinator takes over: it has the log, and nobody is connected."""
        groups = Groups()
        for record in self.log:
            groups.replay(record)
        self.coordinator = Coordinator(groups, self.settings, self.topics, self.now)
        self.done(self.coordinator.tick(self.now, self.wall))

    def commit(
        self,
        offset: int,
        at: At = ("t", 0),
        *,
        group_id: str = GROUP,
        member_id: str = "",
        member_epoch: int = 0,
        leader_epoch: int | None = None,
        metadata: str = "",
    ) -> int:
        position = Position(Where(at[0], b"", at[1]), offset, leader_epoch, metadata)
        return self._commit(group_id, Committer(member_id, member_epoch), position)

    def commit_as(self, who: ClassicCommitter, offset: int, at: At = ("t", 0), *, group_id: str = GROUP) -> int:
        return self._commit(group_id, who, Position(Where(at[0], b"", at[1]), offset))

    def _commit(self, group_id: str, who: Committer | ClassicCommitter, position: Position) -> int:
        try:
            outcome, errors = self.coordinator.commit(group_id, who, [position], self.wall)
        except ApiError as error:
            return error.code
        self.done(outcome)
        return 0 if errors[0] is None else errors[0].code

    def committed(self, at: At = ("t", 0), group_id: str = GROUP) -> int | None:
        """The stored position; None where there is none."""
        (found,) = self.coordinator.offsets(group_id, [Where(at[0], b"", at[1])])
        return None if found is None else found.offset

    @property
    def state(self) -> str:
        group = self.coordinator.group(GROUP)
        return "none" if group is None else group.state

    @property
    def group_epoch(self) -> int:
        group = self.coordinator.group(GROUP)
        assert group is not None
        return group.group_epoch


def ids(owned: Iterable[At]) -> frozenset[TopicPartition]:
    return frozenset((topic_id(name), number) for name, number in owned)


def wire(at: At) -> data_pb2.TopicPartition:
    return data_pb2.TopicPartition(topic=at[0], topic_id=topic_id(at[0]), partition=at[1])

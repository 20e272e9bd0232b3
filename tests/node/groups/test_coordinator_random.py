"""Random joins, losses, growth and slow clients against the pure coordinator: one owner always, progress in the end.

Each simulated client believes what it was told: it owns a partition from the assignment that names it until it confirms
one without it, leaves, or learns that it is gone. Messages in both directions are delayed and processed out of step.
"""

import random
from collections import deque
from contextlib import suppress

import pytest

from node.groups.coordinator import Coordinator
from node.groups.model import Groups, Record, TopicView
from node.groups.offsets import Committer, Position, Where
from node.groups.polling import LEAVES, Heartbeat, Told
from node.groups.sessions import LOST_CLIENT_GRACE_MS
from node.groups.stage import GroupSettings, Outcome
from ottla.protocol.errors import ApiError
from ottla.v1 import data_pb2, group_pb2
from tests.node.groups.support import short_turns

GROUP = "g"


class Client:
    def __init__(self, session: int, topics: list[str]) -> None:
        self.session = session
        self.topics = topics
        self.member_id = ""
        self.epoch = 0
        self.owned: set[tuple[bytes, int]] = set()
        self.inbox: deque[group_pb2.SessionResponse] = deque()
        self.outbox: deque[group_pb2.SessionRequest] = deque()
        self.connected = True
        self.alive = True

    def take_one(self) -> None:
        response = self.inbox.popleft()
        if response.HasField("error"):
            self.owned.clear()
            self.alive = False
            return
        assignment = response.assignment
        self.member_id, self.epoch = assignment.member_id, assignment.member_epoch
        self.owned = {(p.partition.topic_id, p.partition.partition) for p in assignment.partitions}
        partitions = [data_pb2.TopicPartition(topic_id=t, partition=p) for t, p in sorted(self.owned)]
        self.outbox.append(
            group_pb2.SessionRequest(
                owned=group_pb2.Owned(assignment_id=assignment.assignment_id, partitions=partitions)
            )
        )


class Asker:
    """A client without a stream: it asks again and again, answers get lost, and it takes its time to do as told."""

    def __init__(self, member_id: str, topics: list[str]) -> None:
        self.member_id = member_id
        self.topics = topics
        self.epoch = 0
        self.owned: frozenset[tuple[bytes, int]] = frozenset()
        self.target: frozenset[tuple[bytes, int]] = frozenset()
        self.said: frozenset[tuple[bytes, int]] | None = None
        self.alive = True
        self.answer_was_lost = True

    def work(self) -> None:
        self.owned = self.target

    def heartbeat(self) -> Heartbeat:
        if self.answer_was_lost:
            self.work()  # or it would begin later what it is said not to own
            self.said = self.owned
            return Heartbeat(
                self.member_id, self.epoch, None, "", "", tuple(self.topics), None, None, 5_000, self.owned
            )
        news = self.owned if self.owned != self.said else None
        self.said = self.owned
        return Heartbeat(self.member_id, self.epoch, owned=news)

    def take(self, told: Told) -> None:
        self.answer_was_lost = False
        self.epoch = told.member_epoch
        if told.assigned is not None:
            self.target = told.assigned

    def drop(self) -> None:
        """It is fenced: it begins anew."""
        self.epoch, self.owned, self.target = 0, frozenset(), frozenset()
        self.answer_was_lost = True


class World:
    def __init__(self, seed: int, *, with_askers: bool = False) -> None:
        self.with_askers = with_askers
        self.rng = random.Random(seed)
        self.now = 0
        self.counts = {"a": self.rng.randint(1, 9), "b": self.rng.randint(1, 5)}
        self.log: list[Record] = []
        self.groups = Groups()
        self.coordinator = Coordinator(self.groups, GroupSettings(), self.view(), 0)
        self.clients: list[Client] = []
        self.askers: list[Asker] = []
        self.sessions = 0
        self.accepted: dict[tuple[bytes, int], tuple[int, str]] = {}

    def view(self) -> TopicView:
        return TopicView.of({name: (name.encode() * 16, count) for name, count in self.counts.items()})

    def done(self, outcome: Outcome) -> None:
        self.log += outcome.records
        outcome.land()
        for push in outcome.pushes:
            for client in self.clients:
                if client.session == push.session:
                    client.inbox.append(push.response)

    def step(self) -> None:
        self.now += self.rng.randint(1, 200)
        alive = [c for c in self.clients if c.alive]
        askers = [a for a in self.askers if a.alive]
        ours = ["arrive", "ask", "ask", "ask", "work", "work", "quit"] if self.with_askers else []
        match self.rng.choice([*ours, "join", "read", "read", "read", "send", "send", "send", "lose", "back", "leave",
                               "grow", "tick", "tick", "restart", "commit"]):  # fmt: skip
            case "arrive" if len(askers) < 4:
                self.sessions += 1
                topics = self.rng.choice([["a"], ["b"], ["a", "b"]])
                self.askers.append(Asker(f"a{self.sessions}", topics))
            case "ask" if askers:
                self.ask(self.rng.choice(askers), lost=self.rng.random() < 0.15)
            case "work" if askers:
                self.rng.choice(askers).work()
            case "quit" if askers:
                self.quit(self.rng.choice(askers))
            case "join" if len(alive) < 6:
                self.join()
            case "read" if ready := [c for c in alive if c.inbox]:
                self.rng.choice(ready).take_one()
            case "send" if ready := [c for c in alive if c.outbox and c.connected]:
                self.send_one(self.rng.choice(ready))
            case "lose" if ready := [c for c in alive if c.connected and c.member_id]:
                self.lose(self.rng.choice(ready))
            case "back" if ready := [c for c in alive if not c.connected]:
                self.come_back(self.rng.choice(ready))
            case "leave" if ready := [c for c in alive if c.connected and c.member_id]:
                client = self.rng.choice(ready)
                client.alive = False
                client.owned.clear()
                self.done(self.coordinator.leave(client.session, self.now, self.now))
            case "grow" if self.rng.random() < 0.3:
                self.counts[self.rng.choice(["a", "b"])] += 1
                self.coordinator.topics_changed(self.view())
            case "tick":
                self.done(self.coordinator.tick(self.now, self.now))
            case "restart" if self.rng.random() < 0.3:
                self.restart()
            case "commit" if ready := [c for c in [*alive, *askers] if c.owned]:
                self.commit(self.rng.choice(ready))
            case _:
                pass
        self.check()

    def join(self) -> None:
        self.sessions += 1
        client = Client(self.sessions, self.rng.choice([["a"], ["b"], ["a", "b"]]))
        self.clients.append(client)
        message = group_pb2.Join(group_id=GROUP, topics=client.topics, assignor=self.rng.choice(["uniform", "range"]))
        self.done(self.coordinator.join(client.session, message, "", f"m{self.sessions}", self.now))

    def ask(self, asker: Asker, *, lost: bool = False) -> None:
        self.sessions += 1
        said = asker.heartbeat()
        try:
            told = self.coordinator.quiet(GROUP, said, self.now)
            if told is None:
                outcome, told = self.coordinator.poll(GROUP, self.sessions, said, self.now, self.now)
                self.done(outcome)
        except ApiError:
            asker.drop()
            return
        asker.answer_was_lost = True
        if not lost and told.member_epoch:
            asker.take(told)

    def quit(self, asker: Asker) -> None:
        """With a word or without."""
        if self.rng.random() < 0.5:
            with suppress(ApiError):
                leaves = Heartbeat(asker.member_id, LEAVES)
                self.done(self.coordinator.poll(GROUP, 0, leaves, self.now, self.now)[0])
        asker.alive = False

    def send_one(self, client: Client) -> None:
        message = client.outbox.popleft()
        self.done(self.coordinator.confirm(client.session, message.owned, self.now))

    def lose(self, client: Client) -> None:
        """The stream breaks: what was under way in it is lost; the client may not come back for a while."""
        client.connected = False
        client.inbox.clear()
        client.outbox.clear()
        self.coordinator.closed(client.session, by_client=self.rng.random() < 0.5, now_ms=self.now)
        if self.rng.random() < 0.3:
            client.alive = False
            client.owned.clear()

    def come_back(self, client: Client) -> None:
        self.sessions += 1
        client.session = self.sessions
        owned = [data_pb2.TopicPartition(topic_id=t, partition=p) for t, p in sorted(client.owned)]
        if self.rng.random() < 0.5:
            owned = []  # a thin client names nothing: then it still owns what it owned
        join = group_pb2.Join(
            group_id=GROUP, member_id=client.member_id, member_epoch=client.epoch, topics=client.topics, owned=owned
        )
        try:
            self.done(self.coordinator.join(client.session, join, "", "unused", self.now))
            client.connected = True
        except ApiError:
            client.alive = False
            client.owned.clear()

    def restart(self) -> None:
        """Another node takes over: it has the log, and nobody is connected."""
        self.groups = Groups()
        for record in self.log:
            self.groups.replay(record)
        self.coordinator = Coordinator(self.groups, GroupSettings(), self.view(), self.now)
        for client in self.clients:
            if client.alive:
                client.connected = False
                client.inbox.clear()
                client.outbox.clear()
                if not client.member_id:
                    client.alive = False

    def commit(self, client: Client | Asker) -> None:
        at = self.rng.choice(sorted(client.owned))
        who, position = Committer(client.member_id, client.epoch), Position(Where("", *at), self.now)
        try:
            outcome, [error] = self.coordinator.commit(GROUP, who, [position], self.now)
        except ApiError:
            return
        self.done(outcome)
        if error is None:
            epoch, member_id = self.accepted.get(at, (0, client.member_id))
            assert client.epoch >= epoch, f"commit of {at} accepted with epoch {client.epoch} after {epoch}"
            assert client.epoch > epoch or member_id == client.member_id, f"two committers of {at} in epoch {epoch}"
            self.accepted[at] = client.epoch, client.member_id

    def members(self) -> set[str]:
        group = self.coordinator.group(GROUP)
        return set() if group is None else set(group.members)

    def check(self) -> None:
        """At most one living member believes that it owns a partition."""
        members = self.members()
        owners: dict[tuple[bytes, int], str] = {}
        for client in [*self.clients, *self.askers]:
            if client.alive and client.member_id in members:
                for at in client.owned:
                    other = owners.setdefault(at, client.member_id)
                    assert other == client.member_id, f"{at} is owned by {other} and {client.member_id}"

    def settle(self) -> None:
        """No more faults: everybody reads, answers and comes back; lost members run into their time-out."""
        for _ in range(60):
            self.now += 500
            for client in [c for c in self.clients if c.alive]:
                if not client.connected:
                    self.come_back(client)
                while client.alive and (client.inbox or client.outbox):
                    if client.inbox:
                        client.take_one()
                    if client.outbox and client.alive:
                        self.send_one(client)
                    self.check()
            for asker in [a for a in self.askers if a.alive]:
                self.ask(asker)
                asker.work()
                self.check()
            self.done(self.coordinator.tick(self.now, self.now))


@pytest.mark.parametrize("block", range(10))
def test_turns_that_are_short_change_nothing_of_that(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    short_turns(monkeypatch)
    for seed in range(block * 30, block * 30 + 30):
        run_schedule(seed)


@pytest.mark.parametrize("block", range(10))
def test_one_owner_through_any_schedule_and_full_coverage_after_it(block: int) -> None:
    for seed in range(block * 30, block * 30 + 30):
        run_schedule(seed)


@pytest.mark.parametrize("block", range(4))
def test_members_with_and_without_streams_are_members_alike(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if block % 2:
        short_turns(monkeypatch)
    for seed in range(block * 30, block * 30 + 30):
        run_schedule(seed, with_askers=True)


def run_schedule(seed: int, *, with_askers: bool = False) -> None:
    """150 random steps, then quiet: everybody who lives owns what is wanted, and nothing twice."""
    world = World(seed, with_askers=with_askers)
    for _ in range(150):
        world.step()
    world.settle()
    alive = [c for c in [*world.clients, *world.askers] if c.alive]
    group = world.coordinator.group(GROUP)
    if not alive:
        assert group is None or group.state == "empty", f"seed {seed}: {group}"
        return
    assert group is not None
    assert group.state == "stable", f"seed {seed}: {group}"
    wanted = {name for client in alive for name in client.topics}
    expected = {(name.encode() * 16, p) for name in wanted for p in range(world.counts[name])}
    assert set().union(*(c.owned for c in alive)) == expected, f"seed {seed}"


def test_replaying_the_log_gives_the_same_groups() -> None:
    for seed in range(40):
        world = World(seed)
        for _ in range(120):
            world.step()
        again = Groups()
        for record in world.log:
            again.replay(record)
        assert again.by_id == world.groups.by_id, f"seed {seed}"


def test_a_lost_client_has_300_ms_and_not_more() -> None:
    world = World(1)
    world.join()
    world.join()
    world.settle()
    world.now = 100_000
    world.coordinator.closed(world.clients[0].session, by_client=True, now_ms=100_000)
    assert not world.coordinator.tick(100_000 + LOST_CLIENT_GRACE_MS, 0).records
    assert world.coordinator.tick(100_001 + LOST_CLIENT_GRACE_MS, 0).records

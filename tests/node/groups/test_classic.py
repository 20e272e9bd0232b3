"""The classic group protocol: what each request gets in each state, and random schedules of whole groups."""

import random
from dataclasses import dataclass, field

import pytest

from node.groups.classic import (
    FENCED_INSTANCE_ID,
    GROUP_MAX_SIZE_REACHED,
    ILLEGAL_GENERATION,
    INCONSISTENT_GROUP_PROTOCOL,
    INVALID_SESSION_TIMEOUT,
    MEMBER_ID_REQUIRED,
    REBALANCE_IN_PROGRESS,
    UNKNOWN_MEMBER_ID,
    ClassicGroup,
    Effect,
    Join,
    JoinAnswer,
    Limits,
    Protocols,
    Reply,
    State,
    Store,
    StoredGeneration,
    SyncAnswer,
)

NOT_COORDINATOR = 16
RANGE: Protocols = (("range", b"topics"),)
LIMITS = Limits(1000, 60_000, 5, 100)


@dataclass
class World:
    """A group, its clock, and what was answered and stored. Stores succeed at once unless held."""

    group: ClassicGroup = field(default_factory=lambda: ClassicGroup(LIMITS))
    now: int = 0
    answers: dict[object, JoinAnswer | SyncAnswer] = field(default_factory=dict)
    stores: list[Store] = field(default_factory=list)
    hold: bool = False
    ids: int = 0

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                assert effect.token not in self.answers, "answered twice"
                self.answers[effect.token] = effect.answer
            else:
                self.stores.append(effect)
                if not self.hold:
                    self.take(self.group.stored(effect.number, 0, self.now))

    def join(
        self,
        token: object,
        member_id: str = "",
        instance: str | None = None,
        protocols: Protocols = RANGE,
        type_: str = "consumer",
        session: int = 10_000,
        **more: bool,
    ) -> JoinAnswer | None:
        self.ids += 1
        more = {"may_need_id": False} | more
        request = Join(member_id, instance, "client", "host", session, 30_000, type_, protocols, f"m{self.ids}", **more)
        self.take(self.group.join(request, token, self.now))
        found = self.answers.get(token)
        assert found is None or isinstance(found, JoinAnswer)
        return found

    def sync(
        self, token: object, member_id: str, assignments: dict[str, bytes] | None = None, generation: int | None = None
    ) -> SyncAnswer | None:
        of = self.group.generation if generation is None else generation
        self.take(self.group.sync(member_id, None, of, assignments or {}, token, self.now))
        found = self.answers.get(token)
        assert found is None or isinstance(found, SyncAnswer)
        return found

    def after(self, ms: int) -> None:
        """Time passes, from deadline to deadline."""
        end = self.now + ms
        while (deadline := self.group.deadline_ms()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.take(self.group.tick(self.now))
        self.now = end

    def beat(self, member_id: str) -> int:
        return self.group.heartbeat(member_id, None, self.group.generation, self.now)


def stable(members: int = 2) -> World:
    """Members m1, m2 and so on, m1 leading; assignments are their ids."""
    world = World()
    for number in range(members):
        world.join(number)
    world.after(200)
    ids = list(world.group.members)
    for member_id in reversed(ids):
        world.sync(("sync", member_id), member_id, {each: each.encode() for each in ids} if member_id == "m1" else None)
    assert world.group.state is State.STABLE
    return world


def test_a_first_generation() -> None:
    world = World()
    assert world.join("a") is None
    world.after(60)
    assert world.join("b") is None
    world.after(60)  # the delay goes on for as long as members come
    assert "a" not in world.answers
    world.after(100)
    assert world.answers["a"] == JoinAnswer(
        0, "m1", 1, "consumer", "range", "m1", (("m1", None, b"topics"), ("m2", None, b"topics"))
    )
    assert world.answers["b"] == JoinAnswer(0, "m2", 1, "consumer", "range", "m1")
    assert world.group.state is State.COMPLETING
    world.sync("sb", "m2")
    assert "sb" not in world.answers
    world.sync("sa", "m1", {"m1": b"1", "m2": b"2"})
    assert world.answers["sa"] == SyncAnswer(0, "consumer", "range", b"1")
    assert world.answers["sb"] == SyncAnswer(0, "consumer", "range", b"2")
    assert world.beat("m1") == 0
    assert [(each.member_id, each.assignment) for each in world.stores[-1].generation.members] == [
        ("m1", b"1"), ("m2", b"2"),
    ]  # fmt: skip


def test_nobody_gets_an_assignment_before_it_is_stored() -> None:
    world = World(hold=True)
    world.join("a")
    world.after(100)
    world.sync("s", "m1", {"m1": b"1"})
    assert "s" not in world.answers
    assert world.group.state is State.COMPLETING
    world.take(world.group.stored(world.stores[-1].number, 0, world.now))
    assert world.answers["s"] == SyncAnswer(0, "consumer", "range", b"1")


def test_an_assignment_that_cannot_be_stored_is_made_anew() -> None:
    world = World(hold=True)
    world.join("a")
    world.after(100)
    world.sync("s", "m1", {"m1": b"1"})
    world.take(world.group.stored(world.stores[-1].number, NOT_COORDINATOR, world.now))
    assert world.answers["s"] == SyncAnswer(NOT_COORDINATOR)
    assert world.beat("m1") == REBALANCE_IN_PROGRESS
    assert world.join("again", "m1") == JoinAnswer(0, "m1", 2, "consumer", "range", "m1", (("m1", None, b"topics"),))


def test_a_new_member_is_told_its_id_first_and_the_id_stays_valid() -> None:
    world = World()
    told = world.join("a", may_need_id=True)
    assert told == JoinAnswer(MEMBER_ID_REQUIRED, "m1")
    assert world.group.state is State.EMPTY
    world.after(9_000)
    assert world.join("b", "m1", may_need_id=True) is None
    world.after(100)
    assert world.answers["b"].error_code == 0
    world.join("c", may_need_id=True)
    world.after(10_000)
    assert world.join("d", "m3", may_need_id=True) == JoinAnswer(UNKNOWN_MEMBER_ID, "m3")


@pytest.mark.parametrize(
    ("join", "code"),
    [
        ({"session": 999}, INVALID_SESSION_TIMEOUT),
        ({"session": 60_001}, INVALID_SESSION_TIMEOUT),
        ({"type_": "connect"}, INCONSISTENT_GROUP_PROTOCOL),
        ({"type_": ""}, INCONSISTENT_GROUP_PROTOCOL),
        ({"protocols": (("sticky", b""),)}, INCONSISTENT_GROUP_PROTOCOL),
        ({"protocols": ()}, INCONSISTENT_GROUP_PROTOCOL),
        ({"member_id": "nobody"}, UNKNOWN_MEMBER_ID),
        ({"member_id": "m1", "instance": "nobody"}, UNKNOWN_MEMBER_ID),
    ],
)
def test_joins_that_are_refused(join: dict[str, object], code: int) -> None:
    world = stable()
    answer = world.join("x", **join)  # type: ignore[arg-type]
    assert answer is not None
    assert answer.error_code == code
    assert world.group.state is State.STABLE


def test_a_group_has_a_most() -> None:
    world = stable(5)
    answer = world.join("x")
    assert answer is not None
    assert answer.error_code == GROUP_MAX_SIZE_REACHED


def test_requests_of_strangers_and_of_other_generations() -> None:
    world = stable()
    assert world.beat("nobody") == UNKNOWN_MEMBER_ID
    assert world.group.heartbeat("m1", None, 7, world.now) == ILLEGAL_GENERATION
    assert world.sync("a", "nobody") == SyncAnswer(UNKNOWN_MEMBER_ID)
    assert world.sync("b", "m1", generation=7) == SyncAnswer(ILLEGAL_GENERATION)
    world.take(world.group.sync("m1", None, 1, {}, "c", world.now, "consumer", "sticky"))
    assert world.answers["c"] == SyncAnswer(INCONSISTENT_GROUP_PROTOCOL)
    assert world.sync("d", "m2") == SyncAnswer(0, "consumer", "range", b"m2")


def test_a_new_member_rebalances_and_who_does_not_come_back_is_out() -> None:
    world = stable()
    world.join("new")
    assert world.beat("m1") == REBALANCE_IN_PROGRESS
    world.join("m1 again", "m1")
    assert "new" not in world.answers
    world.after(5_000)
    assert world.beat("m2") == REBALANCE_IN_PROGRESS
    world.after(9_000)
    assert "new" not in world.answers
    world.after(1_000)  # m2's session
    assert world.answers["new"].error_code == 0
    assert list(world.group.members) == ["m1", "m3"]
    assert world.group.generation == 2


def test_who_only_beats_is_out_after_the_rebalance_timeout() -> None:
    world = stable()
    world.join("new")
    world.join("m1 again", "m1")
    for _ in range(29):
        world.after(1_000)
        assert world.beat("m2") == REBALANCE_IN_PROGRESS
    world.after(1_000)
    assert list(world.group.members) == ["m1", "m3"]
    assert world.beat("m2") == UNKNOWN_MEMBER_ID


def test_a_follower_that_comes_again_without_a_change_rebalances_nothing() -> None:
    world = stable()
    assert world.join("again", "m2") == JoinAnswer(0, "m2", 1, "consumer", "range", "m1")
    assert world.group.state is State.STABLE
    world.join("changed", "m2", protocols=(("range", b"other topics"),))
    assert world.group.state is State.PREPARING


def test_a_leader_that_comes_again_rebalances() -> None:
    world = stable()
    assert world.join("again", "m1") is None
    assert world.group.state is State.PREPARING


def test_a_leader_that_never_assigns_is_out() -> None:
    world = World()
    world.join("a", session=60_000)
    world.join("b", session=60_000)
    world.after(200)
    world.sync("sb", "m2")
    world.after(30_000)
    assert world.answers["sb"] == SyncAnswer(REBALANCE_IN_PROGRESS)
    assert list(world.group.members) == ["m2"]


def test_leaving() -> None:
    world = stable(3)
    errors, effects = world.group.leave([("m2", None), ("nobody", None)], world.now)
    world.take(effects)
    assert errors == [0, UNKNOWN_MEMBER_ID]
    assert world.group.state is State.PREPARING
    world.take(world.group.leave([("m1", None), ("m3", None)], world.now)[1])
    assert world.group.state is State.EMPTY
    assert world.stores[-1].generation.members == ()
    assert world.stores[-1].generation.generation == 2


def test_a_static_member_comes_back_without_a_rebalance() -> None:
    world = World()
    world.join("a")
    world.join("b", instance="i1")
    world.after(200)
    world.sync("sb", "m2")
    world.sync("sa", "m1", {"m1": b"1", "m2": b"2"})
    world.hold = True
    assert world.join("b2", instance="i1") is None  # not before it is stored
    world.take(world.group.stored(world.stores[-1].number, 0, world.now))
    assert world.answers["b2"] == JoinAnswer(0, "m3", 1, "consumer", "range", "m1")
    assert world.sync("sb2", "m3") == SyncAnswer(0, "consumer", "range", b"2")
    assert world.group.heartbeat("m2", "i1", 1, world.now) == FENCED_INSTANCE_ID
    assert world.join("old", "m2", instance="i1") == JoinAnswer(FENCED_INSTANCE_ID, "m2")
    assert world.group.leave([("m2", "i1")], world.now)[0] == [FENCED_INSTANCE_ID]
    assert world.group.leave([("", "i1")], world.now)[0] == [0]


@pytest.mark.parametrize("may_skip", [False, True])
def test_a_static_leader_comes_back_and_does_not_assign_again(may_skip: bool) -> None:
    world = World()
    world.join("a", instance="i1")
    world.join("b")
    world.after(200)
    world.sync("sb", "m2")
    world.sync("sa", "m1", {"m1": b"1", "m2": b"2"})
    answer = world.join("a2", instance="i1", may_skip_assignment=may_skip)
    assert answer is not None
    assert answer.skip_assignment is may_skip
    assert answer.leader == ("m3" if may_skip else "m1")
    assert [member_id for member_id, *_ in answer.members] == (["m3", "m2"] if may_skip else [])
    assert world.sync("sa2", "m3") == SyncAnswer(0, "consumer", "range", b"1")
    assert world.group.generation == 1


def test_a_static_member_with_other_topics_rebalances() -> None:
    world = World()
    world.join("a", instance="i1")
    world.after(100)
    world.sync("sa", "m1", {"m1": b"1"})
    world.join("a2", instance="i1", protocols=(("range", b"other"),))
    assert world.group.generation == 2


def test_what_most_like_best_of_what_all_can() -> None:
    world = World()
    world.join("a", protocols=(("sticky", b""), ("range", b""), ("only-a", b"")))
    world.join("b", protocols=(("only-b", b""), ("range", b""), ("sticky", b"")))
    world.join("c", protocols=(("range", b""), ("sticky", b"")))
    world.after(300)
    answer = world.answers["a"]
    assert isinstance(answer, JoinAnswer)
    assert answer.protocol == "range"


def test_a_new_coordinator_goes_on_with_the_generation_that_was_stored() -> None:
    world = stable(3)
    moved = ClassicGroup.load(world.stores[-1].generation, LIMITS, world.now)
    for member_id in ("m1", "m2", "m3"):
        assert moved.heartbeat(member_id, None, 1, world.now) == 0
    assert moved.state is State.STABLE
    [reply] = moved.sync("m2", None, 1, {}, "s", world.now)
    assert reply == Reply("s", SyncAnswer(0, "consumer", "range", b"m2"))
    again = Join("m2", None, "c", "h", 10_000, 30_000, "consumer", (("range", b"topics"), ("x", b"")), "n")
    assert moved.join(again, "j", world.now) == [
        Reply("j", JoinAnswer(0, "m2", 1, "consumer", "range", "m1")),
    ]  # fmt: skip
    assert moved.deadline_ms() == world.now + 10_000


@dataclass
class Client:
    """A consumer that follows the protocol, by turns of a scheduler."""

    name: str
    instance: str | None
    member_id: str = ""
    generation: int = -1
    held: frozenset[int] | None = None  # partitions, in `generation`
    waits: object | None = None
    alive: bool = True
    stopped: bool = False


PARTITIONS = frozenset(range(12))


class Simulation:
    """Clients that join, beat, crash, come back and leave, a coordinator that moves; nothing is answered twice, no
    partition is held twice in one generation, and in the end all hold everything."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.group = ClassicGroup(Limits(1000, 60_000, 20, 50))
        self.durable: StoredGeneration | None = None
        self.now = 0
        self.tokens = 0
        self.unstored: list[Store] = []
        self.waiting: dict[object, Client] = {}
        self.answered: set[object] = set()
        self.clients = [Client(f"c{n}", f"i{n}" if self.random.random() < 0.3 else None) for n in range(5)]

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Store):
                self.unstored.append(effect)
                continue
            assert effect.token not in self.answered
            self.answered.add(effect.token)
            client = self.waiting.pop(effect.token, None)
            if client is not None and client.waits == effect.token:
                client.waits = None
                self.hear(client, effect.answer)

    def hear(self, client: Client, answer: JoinAnswer | SyncAnswer) -> None:
        if isinstance(answer, SyncAnswer):
            if answer.error_code:
                self.lost(client, answer.error_code)
                return
            client.held = frozenset(answer.assignment)
            for other in self.clients:
                if other is not client and other.held and other.alive and other.generation == client.generation:
                    assert not other.held & client.held, (client, other)
            return
        if answer.error_code == MEMBER_ID_REQUIRED:
            client.member_id = answer.member_id
        elif answer.error_code:
            self.lost(client, answer.error_code)
        else:
            client.member_id, client.generation, client.held = answer.member_id, answer.generation, None
            assignments = {}
            if answer.members and not answer.skip_assignment:
                shares = [[p for p in PARTITIONS if p % len(answer.members) == n] for n in range(len(answer.members))]
                assignments = {each[0]: bytes(share) for each, share in zip(answer.members, shares, strict=True)}
            token = self.token(client)
            self.take(
                self.group.sync(client.member_id, client.instance, client.generation, assignments, token, self.now)
            )

    def lost(self, client: Client, code: int) -> None:
        client.generation, client.held = -1, None
        if code in (UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID):
            client.member_id = ""

    def token(self, client: Client) -> object:
        self.tokens += 1
        client.waits = self.tokens
        self.waiting[self.tokens] = client
        return self.tokens

    def turn(self, client: Client) -> None:
        if not client.alive or client.stopped or client.waits is not None:
            return
        if client.generation == -1:
            protocols = (("range", b""), ("sticky", b""))
            request = Join(
                client.member_id, client.instance, "c", "h", 3000, 6000, "consumer", protocols,
                f"{client.name}-{self.tokens}", may_skip_assignment=client.name < "c3",
            )  # fmt: skip
            self.take(self.group.join(request, self.token(client), self.now))
            return
        code = self.group.heartbeat(client.member_id, client.instance, client.generation, self.now)
        if code:
            self.lost(client, code)

    def fault(self) -> None:
        client, kind = self.random.choice(self.clients), self.random.random()
        if kind < 0.3:
            client.alive = not client.alive
            if not client.alive:
                client.member_id, client.generation, client.held, client.waits = "", -1, None, None
        elif kind < 0.45 and client.alive and client.member_id and client.waits is None:
            self.take(self.group.leave([(client.member_id, client.instance)], self.now)[1])
            client.member_id, client.generation, client.held = "", -1, None
        elif kind < 0.6:
            client.stopped = not client.stopped
        elif kind < 0.75:
            self.move()
        elif self.unstored:
            store = self.unstored.pop(0)
            self.take(self.group.stored(store.number, NOT_COORDINATOR, self.now))

    def move(self) -> None:
        """Another coordinator loads what is durable; what waited at this one fails."""
        before = self.group
        self.unstored.clear()
        waiting, self.waiting = self.waiting, {}
        for client in waiting.values():
            client.waits = None
            self.lost(client, NOT_COORDINATOR)
        if self.durable is None:
            self.group = ClassicGroup(before.limits)
        else:
            self.group = ClassicGroup.load(self.durable, before.limits, self.now)

    def step(self, faults: bool) -> None:
        self.now += self.random.randrange(0, 200)
        deadline = self.group.deadline_ms()
        if deadline is not None and deadline <= self.now:
            self.take(self.group.tick(self.now))
        if self.unstored and self.random.random() < 0.7:
            store = self.unstored.pop(0)
            self.durable = store.generation
            self.take(self.group.stored(store.number, 0, self.now))
        if faults and self.random.random() < 0.1:
            self.fault()
        for client in self.random.sample(self.clients, len(self.clients)):
            if self.random.random() < 0.8:
                self.turn(client)


@pytest.mark.parametrize("seed", range(150))
def test_random_schedules(seed: int) -> None:
    world = Simulation(seed)
    for _ in range(300):
        world.step(faults=True)
    for client in world.clients:
        client.alive, client.stopped = True, False
    for _ in range(400):
        world.step(faults=False)
    assert world.group.state is State.STABLE
    held = [client.held for client in world.clients]
    assert all(each is not None for each in held), world.clients
    assert {client.generation for client in world.clients} == {world.group.generation}
    assert sorted(p for each in held if each for p in each) == sorted(PARTITIONS)
    # And a move now is noticed by nobody.
    generation = world.group.generation
    world.move()
    for _ in range(30):
        world.step(faults=False)
    assert (world.group.state, world.group.generation) == (State.STABLE, generation)
    assert [client.held for client in world.clients] == held

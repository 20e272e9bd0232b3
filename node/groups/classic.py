"""One group of Kafka's classic protocol (JoinGroup, SyncGroup, Heartbeat, LeaveGroup), pure.

Time is an argument, waits are deadlines, answers and what must be durable are effects. Invariants:

- A member acts on a generation only after every member of it was told of the join, and an assignment is handed out
  only after it is stored: a coordinator that takes over loads the generation that its members have.
- A stored generation is whole: all its members with their assignments, or none. One that was under way at a move of
  the coordinator is not loaded; its members' joins and syncs fail there and are repeated here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

NONE: Final = 0
ILLEGAL_GENERATION: Final = 22
INCONSISTENT_GROUP_PROTOCOL: Final = 23
UNKNOWN_MEMBER_ID: Final = 25
INVALID_SESSION_TIMEOUT: Final = 26
REBALANCE_IN_PROGRESS: Final = 27
MEMBER_ID_REQUIRED: Final = 79
GROUP_MAX_SIZE_REACHED: Final = 81
FENCED_INSTANCE_ID: Final = 82
GONE_MAX: Final = 100

Protocols: TypeAlias = tuple[tuple[str, bytes], ...]
"""What a member can work with, best first: (name, metadata), both opaque here."""


class State(Enum):
    """Values are what DescribeGroups and ListGroups call them."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


class Join(NamedTuple):
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: Protocols
    new_member_id: str  # taken if the member has none yet
    may_need_id: bool = True  # v4 and later: a new member is told its id first and joins with it
    may_skip_assignment: bool = False  # v9 and later


class JoinAnswer(NamedTuple):
    error_code: int
    member_id: str = ""
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    members: tuple[tuple[str, str | None, bytes], ...] = ()  # (member id, instance id, metadata), for the leader alone
    skip_assignment: bool = False


class SyncAnswer(NamedTuple):
    error_code: int
    protocol_type: str | None = None
    protocol: str | None = None
    assignment: bytes = b""


class Reply(NamedTuple):
    """Answers the join or sync that came with `token`."""

    token: object
    answer: JoinAnswer | SyncAnswer


class StoredMember(NamedTuple):
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    metadata: bytes
    assignment: bytes


class StoredGeneration(NamedTuple):
    generation: int
    protocol_type: str | None
    protocol: str | None
    leader: str
    members: tuple[StoredMember, ...]


class Store(NamedTuple):
    """To be made durable; `stored` is to be called with its number. Later ones hold more than earlier ones."""

    number: int
    generation: StoredGeneration


Effect: TypeAlias = Reply | Store


@dataclass(frozen=True)
class Limits:
    session_timeout_min_ms: int = 6_000
    session_timeout_max_ms: int = 1_800_000
    members_max: int = 10_000
    initial_delay_ms: int = 200
    bytes_max: int = 8 << 20
    """Of what all members say of themselves."""


@dataclass
class Member:
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: Protocols
    deadline_ms: int
    assignment: bytes = b""
    joining: object | None = None  # the token of a join that waits
    syncing: object | None = None
    synced: bool = False

    def supports(self) -> list[str]:
        return [name for name, _ in self.protocols]

    def metadata(self, protocol: str | None) -> bytes:
        return next((data for name, data in self.protocols if name == protocol), b"")


@dataclass
class ClassicGroup:
    limits: Limits = field(default_factory=Limits)
    state: State = State.EMPTY
    generation: int = 0
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    held_bytes: int = 0
    gone: dict[str, str] = field(default_factory=dict)  # why the last members that went did
    _instances: dict[str, str] = field(default_factory=dict)  # instance id -> member id
    _supported: dict[str, int] = field(default_factory=dict)  # protocol -> how many members can work with it
    _next_ms: int | None = None  # nothing is due before; what is due later need not move it
    _pending: dict[str, int] = field(default_factory=dict)  # ids told to members that are to join with them: deadlines
    _join_deadline_ms: int | None = None
    _initial_until_ms: int | None = None  # a first rebalance waits for more members until then at the latest
    _grew: bool = False
    _sync_deadline_ms: int | None = None
    _store_number: int = 0
    _storing: int | None = None  # the number of the store that makes the generation stable
    _after_store: dict[int, list[Reply]] = field(default_factory=dict)

    # -- requests

    def join(self, request: Join, token: object, now_ms: int) -> list[Effect]:
        error = self._join_error(request)
        if error:
            return [Reply(token, JoinAnswer(error, request.member_id))]
        known = self._static(request.instance_id)
        if not request.member_id:
            if known is not None:
                return self._replace_static(known, request, token, now_ms)
            if request.may_need_id and request.instance_id is None:
                self._pending[request.new_member_id] = self._due(now_ms + request.session_timeout_ms)
                return [Reply(token, JoinAnswer(MEMBER_ID_REQUIRED, request.new_member_id))]
            return self._add(request, request.new_member_id, token, now_ms)
        if request.instance_id is not None:
            if known is None:
                return [Reply(token, JoinAnswer(UNKNOWN_MEMBER_ID, request.member_id))]
            if known.member_id != request.member_id:
                return [Reply(token, JoinAnswer(FENCED_INSTANCE_ID, request.member_id))]
        if self._pending.pop(request.member_id, None) is not None:
            return self._add(request, request.member_id, token, now_ms)
        member = self.members.get(request.member_id)
        if member is None:
            return [Reply(token, JoinAnswer(UNKNOWN_MEMBER_ID, request.member_id))]
        return self._rejoin(member, request, token, now_ms)

    def sync(
        self,
        member_id: str,
        instance_id: str | None,
        generation: int,
        assignments: Mapping[str, bytes],
        token: object,
        now_ms: int,
        protocol_type: str | None = None,
        protocol: str | None = None,
    ) -> list[Effect]:
        """`protocol_type` and `protocol` are None before v5."""
        error = self._member_error(member_id, instance_id, generation)
        if not error and (protocol_type not in (None, self.protocol_type) or protocol not in (None, self.protocol)):
            error = INCONSISTENT_GROUP_PROTOCOL
        if not error and self.state is State.PREPARING:
            error = REBALANCE_IN_PROGRESS
        if error:
            return [Reply(token, SyncAnswer(error))]
        member = self.members[member_id]
        member.deadline_ms = now_ms + member.session_timeout_ms
        member.synced = True
        if self.state is State.STABLE:
            return [Reply(token, self._sync_answer(member))]
        effects: list[Effect] = []
        if member.syncing is not None:
            effects.append(Reply(member.syncing, SyncAnswer(REBALANCE_IN_PROGRESS)))
        member.syncing = token
        if member_id == self.leader and self._storing is None:
            for each in self.members.values():
                each.assignment = assignments.get(each.member_id, b"")
            effects.append(self._store())
            self._storing = self._store_number
        return effects

    def heartbeat(self, member_id: str, instance_id: str | None, generation: int, now_ms: int) -> int:
        """The error code of the answer."""
        error = self._member_error(member_id, instance_id, generation)
        if error:
            return error
        member = self.members[member_id]
        member.deadline_ms = now_ms + member.session_timeout_ms
        return REBALANCE_IN_PROGRESS if self.state is State.PREPARING else NONE

    def leave(self, leaving: Iterable[tuple[str, str | None]], now_ms: int) -> tuple[list[int], list[Effect]]:
        """`leaving`: (member id, instance id); a static member may be named by its instance alone. Error codes in
        their order."""
        errors, gone, effects = [], False, list[Effect]()
        for member_id, instance_id in leaving:
            if self._pending.pop(member_id, None) is not None:
                errors.append(NONE)
                gone = True
                continue
            found = self._static(instance_id) if instance_id is not None else self.members.get(member_id)
            if found is None:
                errors.append(UNKNOWN_MEMBER_ID)
            elif member_id and found.member_id != member_id:
                errors.append(FENCED_INSTANCE_ID)
            else:
                errors.append(NONE)
                gone = True
                effects += self._remove(found, "it left")
        return errors, effects + (self._after_removal(now_ms) if gone else [])

    # -- time, and what was stored

    def deadline_ms(self) -> int | None:
        """When `tick` is to be called: it may find nothing to do yet, as deadlines move away."""
        return self._next_ms

    def _due(self, at_ms: int) -> int:
        if self._next_ms is None or at_ms < self._next_ms:
            self._next_ms = at_ms
        return at_ms

    def _find_next(self) -> int | None:
        waits = [member.deadline_ms for member in self.members.values() if not self._waits(member)]
        waits += self._pending.values()
        sync_ms = self._sync_deadline_ms if self._storing is None else None
        waits += [each for each in (self._join_deadline_ms, sync_ms) if each is not None]
        return min(waits, default=None)

    def tick(self, now_ms: int) -> list[Effect]:
        """Everything whose time has come."""
        effects: list[Effect] = []
        expired = [each for each in self.members.values() if not self._waits(each) and each.deadline_ms <= now_ms]
        silent = {each.member_id for each in expired}
        if self._sync_deadline_ms is not None and self._sync_deadline_ms <= now_ms and self._storing is None:
            # They were told of the generation and never came for their part of it.
            expired += [each for each in self.members.values() if not each.synced and each not in expired]
            self._sync_deadline_ms = None
        late = [member_id for member_id, deadline_ms in self._pending.items() if deadline_ms <= now_ms]
        for member_id in late:
            del self._pending[member_id]
        for member in expired:
            how = f"it was silent for its session time-out of {member.session_timeout_ms} ms"
            effects += self._remove(member, how if member.member_id in silent else "it never came for its assignment")
        if expired or late:
            effects += self._after_removal(now_ms)
        if self.state is State.PREPARING and self._join_deadline_ms is not None and self._join_deadline_ms <= now_ms:
            if self._initial_until_ms is not None and self._grew and now_ms < self._initial_until_ms:
                self._grew = False
                self._join_deadline_ms = min(now_ms + self.limits.initial_delay_ms, self._initial_until_ms)
            else:
                effects += self._complete_join(now_ms)
        self._next_ms = self._find_next()
        return effects

    def commit_error(self, member_id: str, instance_id: str | None, generation: int) -> int:
        """Whether a commit counts: of a member in its generation, or of somebody outside while there are none."""
        if generation < 0 and not self.members:
            return NONE
        if generation < 0 and not member_id and instance_id is None:
            return UNKNOWN_MEMBER_ID
        error = self._member_error(member_id, instance_id, generation)
        return REBALANCE_IN_PROGRESS if not error and self.state is State.COMPLETING else error

    def heard(self, member_id: str, now_ms: int) -> None:
        """The member lives."""
        member = self.members.get(member_id)
        if member is not None:
            member.deadline_ms = now_ms + member.session_timeout_ms

    def drop(self, error_code: int) -> list[Reply]:
        """This coordinator has the group no more: whoever waits here is told that."""
        replies = [Reply(each.token, each.answer) for some in self._after_store.values() for each in some]
        for member in self.members.values():
            if member.joining is not None:
                replies.append(Reply(member.joining, JoinAnswer(NONE, member.member_id)))
            if member.syncing is not None:
                replies.append(Reply(member.syncing, SyncAnswer(NONE)))
            member.joining = member.syncing = None
        self._after_store.clear()
        return [
            Reply(token, JoinAnswer(error_code) if isinstance(answer, JoinAnswer) else SyncAnswer(error_code))
            for token, answer in replies
        ]

    def stored(self, number: int, error_code: int, now_ms: int) -> list[Effect]:
        """A store ended: durable if `error_code` is 0, else not, and its members hear that code and come again."""
        effects: list[Effect] = []
        for reply in self._after_store.pop(number, ()):
            failed = JoinAnswer(error_code) if isinstance(reply.answer, JoinAnswer) else SyncAnswer(error_code)
            effects.append(Reply(reply.token, failed) if error_code else reply)
        if number != self._storing:
            return effects
        self._storing = None
        if error_code:
            effects += self._answer_syncs(error_code)
            return effects + self._prepare(now_ms)
        self.state = State.STABLE
        self._sync_deadline_ms = None
        for member in self.members.values():
            if member.syncing is not None:
                effects.append(Reply(member.syncing, self._sync_answer(member)))
                member.syncing = None
            member.deadline_ms = self._due(now_ms + member.session_timeout_ms)
        return effects

    @staticmethod
    def load(stored: StoredGeneration, limits: Limits, now_ms: int) -> "ClassicGroup":
        """The group at a coordinator that takes over: its members go on as if nothing had happened."""
        group = ClassicGroup(limits, State.STABLE if stored.members else State.EMPTY, *stored[:4])
        for each in stored.members:
            group.members[each.member_id] = Member(
                *each[:6],
                protocols=((stored.protocol or "", each.metadata),),
                deadline_ms=now_ms + each.session_timeout_ms,
                assignment=each.assignment,
                synced=True,
            )
            group._count(group.members[each.member_id], +1)
        group._next_ms = group._find_next()
        return group

    @staticmethod
    def lost(generation: int, limits: Limits, now_ms: int) -> "ClassicGroup":
        """The group where the log holds but a part of a generation: a rebalance to which nobody has come yet."""
        group = ClassicGroup(limits, State.PREPARING, generation)
        group._join_deadline_ms = group._due(now_ms)
        return group

    # -- within

    def _join_error(self, request: Join) -> int:
        limits = self.limits
        error = join_error(request, limits)
        if error:
            return error
        own = self._static(request.instance_id)
        before = own or self.members.get(request.member_id)
        others = len(self.members) - (before is not None)
        if others:
            if request.protocol_type != self.protocol_type:
                return INCONSISTENT_GROUP_PROTOCOL
            mine = set() if before is None else set(before.supports())
            if all(self._supported.get(name, 0) - (name in mine) < others for name, _ in request.protocols):
                return INCONSISTENT_GROUP_PROTOCOL
        is_new = before is None and request.member_id not in self._pending
        if is_new and len(self.members) + len(self._pending) >= limits.members_max:
            return GROUP_MAX_SIZE_REACHED
        grows = _size(request.protocols) - (0 if before is None else _size(before.protocols))
        return GROUP_MAX_SIZE_REACHED if grows > 0 and self.held_bytes + grows > limits.bytes_max else NONE

    def _member_error(self, member_id: str, instance_id: str | None, generation: int) -> int:
        static = self._static(instance_id)
        if instance_id is not None and static is not None and static.member_id != member_id:
            return FENCED_INSTANCE_ID
        if member_id not in self.members:
            return UNKNOWN_MEMBER_ID
        return NONE if generation == self.generation else ILLEGAL_GENERATION

    def _static(self, instance_id: str | None) -> Member | None:
        return None if instance_id is None else self.members.get(self._instances.get(instance_id, ""))

    def _count(self, member: Member, change: int) -> None:
        """The member has come (+1) or gone (-1), with what it can work with."""
        self.held_bytes += change * _size(member.protocols)
        for name in set(member.supports()):
            self._supported[name] = self._supported.get(name, 0) + change
            if not self._supported[name]:
                del self._supported[name]
        if member.instance_id is not None:
            if change > 0:
                self._instances[member.instance_id] = member.member_id
            else:
                self._instances.pop(member.instance_id, None)

    @staticmethod
    def _waits(member: Member) -> bool:
        """A member whose request waits here is alive."""
        return member.joining is not None or member.syncing is not None

    def _add(self, request: Join, member_id: str, token: object, now_ms: int) -> list[Effect]:
        member = Member(member_id, *request[1:6], protocols=request.protocols, deadline_ms=0, joining=token)
        member.deadline_ms = self._due(now_ms + member.session_timeout_ms)
        self.protocol_type = request.protocol_type
        self.members[member_id] = member
        self._count(member, +1)
        self._grew = True
        return self._prepare(now_ms)

    def _rejoin(self, member: Member, request: Join, token: object, now_ms: int) -> list[Effect]:
        changed = member.protocols != request.protocols and self._changed(member, request)
        leads = member.member_id == self.leader
        member.deadline_ms = self._due(now_ms + request.session_timeout_ms)
        if (self.state is State.STABLE and not leads and not changed) or (
            self.state is State.COMPLETING and not changed
        ):
            # It did not hear the answer, or came again without a need.
            return [Reply(token, self._join_answer(member))]
        effects: list[Effect] = []
        if member.joining is not None:
            effects.append(Reply(member.joining, JoinAnswer(REBALANCE_IN_PROGRESS, member.member_id)))
        self._update(member, request)
        self.protocol_type = request.protocol_type
        member.joining = token
        return effects + self._prepare(now_ms)

    def _changed(self, member: Member, request: Join) -> bool:
        """Whether what the member says now would change the assignment; after a move of the coordinator only what was
        chosen is known of it."""
        if len(member.protocols) == 1 and self.protocol is not None:
            return dict(request.protocols).get(self.protocol) != member.metadata(self.protocol)
        return True

    def _update(self, member: Member, request: Join) -> None:
        self._count(member, -1)
        member.client_id, member.client_host = request.client_id, request.client_host
        member.session_timeout_ms = request.session_timeout_ms
        member.rebalance_timeout_ms = request.rebalance_timeout_ms
        member.protocols = request.protocols
        self._count(member, +1)

    def _replace_static(self, known: Member, request: Join, token: object, now_ms: int) -> list[Effect]:
        """A static member came back as another process: the new id takes the old one's place."""
        effects: list[Effect] = []
        if known.joining is not None:
            effects.append(Reply(known.joining, JoinAnswer(FENCED_INSTANCE_ID, known.member_id)))
        if known.syncing is not None:
            effects.append(Reply(known.syncing, SyncAnswer(FENCED_INSTANCE_ID)))
        old_id, led = known.member_id, known.member_id == self.leader
        same = dict(request.protocols).get(self.protocol or "") == known.metadata(self.protocol)
        new = replace(known, member_id=request.new_member_id, joining=None, syncing=None)
        self._update(new, request)
        new.deadline_ms = self._due(now_ms + new.session_timeout_ms)
        self.members = {
            (new.member_id if each_id == old_id else each_id): (new if each_id == old_id else each)
            for each_id, each in self.members.items()
        }
        if led:
            self.leader = new.member_id
        if self.state is State.STABLE and same:
            answer = self._join_answer(new)
            if led and request.may_skip_assignment:
                answer = answer._replace(skip_assignment=True)
            elif led:
                # It must not assign again: it is told that another leads.
                answer = answer._replace(leader=old_id, members=())
            store = self._store()
            self._after_store[store.number] = [Reply(token, answer)]
            return [*effects, store]
        new.joining = token
        return effects + self._prepare(now_ms)

    def _prepare(self, now_ms: int) -> list[Effect]:
        """Begins a rebalance, or looks whether the one under way can end."""
        effects: list[Effect] = []
        if self.state is not State.PREPARING:
            first = self.state is State.EMPTY
            effects += self._answer_syncs(REBALANCE_IN_PROGRESS)
            self._storing = None
            self._sync_deadline_ms = None
            self.state = State.PREPARING
            longest = max((each.rebalance_timeout_ms for each in self.members.values()), default=0)
            self._join_deadline_ms = self._due(
                now_ms + (min(self.limits.initial_delay_ms, longest) if first else longest)
            )
            self._initial_until_ms = now_ms + longest if first else None
            self._grew = False
        if self._initial_until_ms is None:
            effects += self._complete_if_all_joined(now_ms)
        return effects

    def _complete_if_all_joined(self, now_ms: int) -> list[Effect]:
        if self._pending or any(each.joining is None for each in self.members.values()):
            return []
        return self._complete_join(now_ms)

    def _complete_join(self, now_ms: int) -> list[Effect]:
        """The join is over: who did not come is out, but static members, who may."""
        late = [each for each in self.members.values() if each.joining is None and each.instance_id is None]
        effects: list[Effect] = []
        for member in late:
            effects += self._remove(member, f"it did not rejoin within {member.rebalance_timeout_ms} ms")
        if self.members and all(each.joining is None for each in self.members.values()):
            # Only static members, none of whom is here yet.
            self._join_deadline_ms = self._due(
                now_ms + max(each.rebalance_timeout_ms for each in self.members.values())
            )
            return effects
        self._join_deadline_ms = self._initial_until_ms = None
        self.generation += 1
        if not self.members:
            self.state, self.protocol, self.leader = State.EMPTY, None, ""
            return [*effects, self._store()]
        self.state = State.COMPLETING
        self.protocol = self._elect_protocol()
        leader = self.members.get(self.leader)
        if leader is None or leader.joining is None:
            self.leader = next(each.member_id for each in self.members.values() if each.joining is not None)
        longest = max(each.rebalance_timeout_ms for each in self.members.values())
        self._sync_deadline_ms = self._due(now_ms + longest)
        for member in self.members.values():
            member.synced = member.joining is None
            if member.joining is not None:
                effects.append(Reply(member.joining, self._join_answer(member)))
                member.joining = None
                member.deadline_ms = self._due(now_ms + member.session_timeout_ms)
        return effects

    def _elect_protocol(self) -> str:
        """What all can work with; of that, what most like best."""
        members = list(self.members.values())
        common = {name for name, count in self._supported.items() if count == len(members)}
        votes = dict.fromkeys([name for name in members[0].supports() if name in common], 0)
        for member in members:
            votes[next(name for name in member.supports() if name in common)] += 1
        return max(votes, key=votes.__getitem__)

    def _remove(self, member: Member, why: str) -> list[Effect]:
        del self.members[member.member_id]
        self.gone[member.member_id] = why
        if len(self.gone) > GONE_MAX:
            del self.gone[next(iter(self.gone))]
        self._count(member, -1)
        if self.leader == member.member_id:
            self.leader = ""
        effects: list[Effect] = []
        if member.joining is not None:
            effects.append(Reply(member.joining, JoinAnswer(UNKNOWN_MEMBER_ID, member.member_id)))
        if member.syncing is not None:
            effects.append(Reply(member.syncing, SyncAnswer(UNKNOWN_MEMBER_ID)))
        return effects

    def _after_removal(self, now_ms: int) -> list[Effect]:
        if self.state is State.EMPTY:
            return []
        if self.members or self.state is not State.PREPARING:
            return self._prepare(now_ms)
        return self._complete_join(now_ms) if not self._pending else []

    def _answer_syncs(self, error_code: int) -> list[Effect]:
        effects: list[Effect] = []
        for member in self.members.values():
            if member.syncing is not None:
                effects.append(Reply(member.syncing, SyncAnswer(error_code)))
                member.syncing = None
        return effects

    def _join_answer(self, member: Member) -> JoinAnswer:
        members: tuple[tuple[str, str | None, bytes], ...] = ()
        if member.member_id == self.leader:
            members = tuple(
                (each.member_id, each.instance_id, each.metadata(self.protocol)) for each in self.members.values()
            )
        return JoinAnswer(
            NONE, member.member_id, self.generation, self.protocol_type, self.protocol, self.leader, members
        )

    def _sync_answer(self, member: Member) -> SyncAnswer:
        return SyncAnswer(NONE, self.protocol_type, self.protocol, member.assignment)

    def _store(self) -> Store:
        self._store_number += 1
        generation = StoredGeneration(
            self.generation, self.protocol_type, self.protocol, self.leader, self.stored_members()
        )
        return Store(self._store_number, generation)

    def stored_members(self) -> tuple[StoredMember, ...]:
        protocol = self.protocol
        return tuple(
            StoredMember(
                each.member_id, each.instance_id, each.client_id, each.client_host, each.session_timeout_ms,
                each.rebalance_timeout_ms, each.metadata(protocol), each.assignment,
            )
            for each in self.members.values()
        )  # fmt: skip


def join_error(request: Join, limits: Limits) -> int:
    """What is wrong with a join, whatever the group."""
    if not limits.session_timeout_min_ms <= request.session_timeout_ms <= limits.session_timeout_max_ms:
        return INVALID_SESSION_TIMEOUT
    return NONE if request.protocol_type and request.protocols else INCONSISTENT_GROUP_PROTOCOL


def _size(protocols: Protocols) -> int:
    return sum(len(name) + len(metadata) for name, metadata in protocols)

"""The quorum's real driver, disk queue, store and links, on simulated time, network and disks.

python -m tests.sim.quorum_sim --seeds 0:200        or --seed N

`raft_sim` has the consensus core alone and forgets what a core would have lost; here is what lies around it: what is
written, synced and only then said (`node.quorum.disk`), what is read back after a loss of power (`node.quorum.store`),
snapshots on their way in, streams that break. Nothing is replaced: files, streams and time are arguments.
"""

import argparse
import asyncio
import errno
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from random import Random
from typing import Any, Final

from node.config import Settings
from node.quorum.driver import Leadership, Quorum
from ottla.protocol.errors import ApiError
from raft.messages import AppendAccepted, Message, VoteResponse
from raft.model import PeerId
from storage.directory import LogDirectory
from tests.sim.cluster_disk import Disk
from tests.sim.cluster_grpc import SimChannel, SimServer
from tests.sim.cluster_loop import Process, SimLoop, Violation, World, virtual
from tests.sim.cluster_net import LinkFaults, Network
from tests.sim.cluster_sim import quiet

VOTERS: Final = (1, 2, 3)
OBSERVER: Final = 4
PORT: Final = 9292
DIRECTORY: Final = "/data"
CLUSTER: Final = b"q" * 16
CHAOS_MS: Final = 12_000.0
PEACE_MS: Final = 20_000.0
KINDS: Final = (
    "kill",
    "power",
    "power of all",
    "stop",
    "cut",
    "isolate",
    "freeze",
    "slow disk",
    "disk full",
    "no descriptor",
    "disk fails",
    "rot",
    "transfer",
    "voters",
)


class Dialer:
    """`node.transport.Transport` of the simulation."""

    cluster_id: bytes | None = CLUSTER
    caller = None

    def __init__(self, net: Network) -> None:
        self._net = net

    def dial(self, address: str, node_id: int, options: Any) -> Any:
        return SimChannel(self._net, address)

    def is_stale(self, channel: Any) -> bool:
        return False

    def add_port(self, server: Any, address: str) -> int:
        return int(server.add_insecure_port(address))

    def not_reached(self, address: str, node_id: int) -> None: ...


class History:
    """What was committed, as whoever applied it first saw it, and who led."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, bytes]] = []
        self.chain: list[int] = [0]
        """By index: a checksum over all entries up to it, which stands for the state machine."""
        self.leaders: dict[int, int] = {}

    @property
    def committed(self) -> int:
        return len(self.entries)

    def add(self, index: int, term: int, data: bytes) -> int:
        """An entry was applied; returns the chain. Raises Violation: another one was committed there."""
        if index == self.committed + 1:
            if self.entries and term < self.entries[-1][0]:
                raise Violation(f"entry {index} of term {term} is committed after one of term {self.entries[-1][0]}")
            self.entries.append((term, data))
            self.chain.append(zlib.crc32(b"%d %d " % (index, term) + data, self.chain[-1]))
        elif index > self.committed:
            raise Violation(f"entry {index} is applied, {self.committed} is the last one known")
        elif self.entries[index - 1] != (term, data):
            raise Violation(f"entry {index} is {(term, data)} here, and was committed as {self.entries[index - 1]}")
        return self.chain[index]


class Machine:
    """The state machine of one start of a member (QuorumListener)."""

    def __init__(self, member: "Member") -> None:
        self.member = member
        self.applied = 0
        self.chain = 0

    def on_committed(self, index: int, term: int, data: bytes) -> None:
        if index != self.applied + 1:
            raise Violation(f"{self.member.name} applies {index} after {self.applied}")
        self.chain = self.member.sim.history.add(index, term, data)
        self.applied = index

    def on_snapshot(self, index: int, term: int, data: bytes) -> None:
        history = self.member.sim.history
        chain = int(data.split(b" ")[0])
        if index > history.committed or chain != history.chain[index]:
            raise Violation(f"{self.member.name} takes a snapshot of {index} that is not the state there")
        self.member.sim.counts["snapshots received" if self.member.started else "snapshots read at a start"] += 1
        self.applied, self.chain = index, chain

    def on_leadership(self, leadership: Leadership) -> None:
        history, me = self.member.sim.history, self.member.node_id
        if not leadership.is_self:
            return
        if history.leaders.setdefault(leadership.term, me) != me:
            raise Violation(f"{me} and {history.leaders[leadership.term]} lead in term {leadership.term}")
        before = sum(term < leadership.term for term, _ in history.entries)
        if leadership.serving and self.applied < before:
            raise Violation(f"{me} serves in term {leadership.term} at {self.applied}, {before} were committed before")

    def on_peer_dead(self, node_id: int) -> None: ...
    def on_peer_alive(self, node_id: int) -> None: ...

    def state(self) -> bytes:
        return b"%d " % self.chain + b"." * self.member.sim.padding


class Watched(Quorum):
    """What leaves a member after a sync binds it for good, whatever happens to it next."""

    def __init__(self, member: "Member", directory: LogDirectory) -> None:
        self._member = member
        rng = Random(member.rng.getrandbits(64))
        super().__init__(member.settings, directory, member.disk, rng, Dialer(member.sim.net))

    def _send(self, message: Message) -> None:
        member = self._member
        granted = isinstance(message, VoteResponse) and message.granted
        if granted or isinstance(message, AppendAccepted):
            if message.term < member.told_term:
                raise Violation(f"{member.name} says {message} after something of term {member.told_term}")
            member.told_term = message.term
        if granted and member.votes.setdefault(message.term, message.to) != message.to:
            raise Violation(f"{member.name} votes for {message.to} and {member.votes[message.term]} in {message.term}")
        super()._send(message)


class Member(Process):
    """A process with a quorum, and the disk that outlives it."""

    def __init__(self, sim: "QuorumSim", node_id: int) -> None:
        super().__init__(sim.world, f"n{node_id}")
        self.sim = sim
        self.node_id = node_id
        self.rng = Random(sim.rng.getrandbits(64))
        self.disk = Disk(self.rng.randrange(2**32))
        self.settings = sim.settings(node_id)
        self.machine = Machine(self)
        self.quorum: Quorum | None = None
        self.loop: SimLoop | None = None
        self.may_fail = False
        """A fault of its disk was made that ends it."""
        self.started = False
        self.votes: dict[int, PeerId] = {}
        self.told_term = 0
        self._directory: LogDirectory | None = None
        self._boot = 1
        self._busy_until_ms = 0.0
        self.job_delay_ms = self._job_delay_ms

    def _job_delay_ms(self, job: Callable[..., Any]) -> float:
        """One thread does them, one after the other."""
        now_ms = self.world.now_ms
        took_ms = 0.05 + self.rng.expovariate(1 / (self.disk.slow_ms or 0.5))
        self._busy_until_ms = max(self._busy_until_ms, now_ms) + took_ms
        return self._busy_until_ms - now_ms

    # --- life

    def start(self) -> None:
        self.up = True
        self.quorum = None
        self.started = False
        self.incarnation += 1
        self.frozen_until_ms = 0.0
        self._busy_until_ms = 0.0
        self.sim.net.dark.discard(self.name)
        self.loop = self.make_loop("c")
        self.world.scheduler.after(0.1, self.loop.execute, self._begin)

    def _begin(self) -> None:
        assert self.loop is not None
        self.loop.create_task(self._run(), name="member").add_done_callback(self._over)

    async def _run(self) -> None:
        directory = self._directory = LogDirectory.open(
            self.disk,
            DIRECTORY,
            node_id=self.node_id,
            new_directory_id=bytes([self.node_id]) * 16,
            boot_id=f"{self.name}-{self._boot}",
        )
        self.machine = Machine(self)
        quorum = self.quorum = Watched(self, directory)
        quorum.add_listener(self.machine)
        quorum.set_snapshot_source(self.machine.state)
        server = SimServer(self.sim.net)
        quorum.add_to(server)  # type: ignore[arg-type]
        server.add_insecure_port(f"{self.name}:{PORT}")
        await server.start()
        await quorum.start()
        for other in self.sim.members.values():
            quorum.set_address(other.node_id, f"{other.name}:{PORT}")
        self.started = True
        await quorum.failed

    def _over(self, task: "asyncio.Task[None]") -> None:
        """It gave up by itself: only a disk that fails may make it."""
        if task.cancelled() or not self.up:
            return
        error = task.exception()
        starting = self.quorum is None or not self.quorum.voters
        short = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENOSPC)
        if isinstance(error, Violation) or not (self.may_fail or (starting and short)):
            raise Violation(f"{self.name} ended with {error!r}") from error
        self.sim.counts["members that ended with their disk"] += 1
        self.crash(power=False)
        self.world.scheduler.after(self.rng.uniform(100, 1500), self.restart)

    def restart(self) -> None:
        if not self.up:
            self.disk.heal()
            self.may_fail = False
            self.start()

    def crash(self, *, power: bool) -> None:
        self.end()
        self.quorum = None
        self.sim.net.process_ended(self, silent=power)
        if power:
            self.disk = self.disk.power_loss()
            self._boot += 1
            self.sim.net.dark.add(self.name)
        else:
            self.disk = self.disk.kill()

    def stop(self) -> None:
        """In order: leadership is handed over, the log is closed."""
        loop, quorum, directory = self.loop, self.quorum, self._directory
        if loop is None or quorum is None or directory is None or self.may_fail:
            return

        async def end() -> None:
            try:
                await quorum.stop()
                directory.close(clean=True)
                self.sim.counts["members that stopped in order"] += 1
            finally:
                if self.up:
                    self.crash(power=False)

        loop.execute(lambda: loop.create_task(end(), name="stop"))

    def call(self, act: Callable[[Quorum], Any]) -> None:
        """On its loop, if it runs."""
        loop, quorum = self.loop, self.quorum
        if self.up and loop is not None and quorum is not None:
            loop.execute(lambda: act(quorum))


class QuorumSim:
    """One seed."""

    def __init__(self, seed: int, kinds: tuple[str, ...] = ()) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.world = World(seed)
        self.counts: Counter[str] = Counter()
        self.net = Network(self.world, Random(self.rng.getrandbits(64)), self.counts)
        self.history = History()
        self.padding = self.rng.choice((0, 0, 600_000))
        """More than two chunks of a snapshot, in some runs."""
        self._snapshot_bytes = self.rng.choice((500, 3_000, 4 << 20))
        self.kinds = kinds or tuple(kind for kind in KINDS if self.rng.random() < 0.6) or ("kill",)
        self.members = {node_id: Member(self, node_id) for node_id in (*VOTERS, OBSERVER)}
        self.rotten: int | None = None
        self.chaos = True
        self._proposed = 0
        self.net.faults = LinkFaults(
            delay_mean_ms=self.rng.choice((0.5, 3.0, 15.0)),
            loss=self.rng.choice((0.0, 0.02)),
            reset=self.rng.choice((0.0, 0.002)),
        )

    def settings(self, node_id: int) -> Settings:
        return Settings(
            node_id=node_id,
            data_dir=DIRECTORY,
            listen_host=f"n{node_id}",
            controller_quorum_voters=tuple(f"{n}@n{n}:{PORT}" for n in VOTERS),  # type: ignore[arg-type]
            controller_quorum_election_timeout_ms=300,
            controller_quorum_fetch_timeout_ms=600,
            metadata_log_max_record_bytes_between_snapshots=self._snapshot_bytes,
            logging_level="error",
        )

    def run(self) -> None:
        """Chaos, then peace. Raises Violation."""
        with virtual(self.world):
            for member in self.members.values():
                self.world.scheduler.after(self.rng.uniform(0, 500), member.start)
            self.world.scheduler.after(500, self._work)
            self.world.scheduler.after(1_500, self._fault)
            self.world.run_until(CHAOS_MS)
            self._peace()
            self.world.run_until(CHAOS_MS + PEACE_MS)
            self._judge()

    # --- work

    def _work(self) -> None:
        """Somebody proposes, or reads, wherever it believes that the leader is."""
        self.world.scheduler.after(self.rng.expovariate(1 / 12), self._work)
        if self.chaos or self.counts["peace: proposals"] < 200:
            member = self.rng.choice(list(self.members.values()))
            member.call(self._propose if self.rng.random() < 0.8 else self._read)

    def _propose(self, quorum: Quorum) -> None:
        leadership = quorum.leadership
        if not leadership.is_self:
            return
        self._proposed += 1
        data = b"%d " % self._proposed + b"x" * self.rng.choice((1, 30, 300))
        stale = self.rng.random() < 0.05
        term = leadership.term - stale
        try:
            index = quorum.propose(data, term)
        except ApiError:
            return
        if stale:
            raise Violation(f"entry {index} was taken for term {term}, in term {leadership.term}")
        self.counts["proposals"] += 1
        self.counts["peace: proposals"] += not self.chaos

    def _read(self, quorum: Quorum) -> None:
        """Linearizable: what anybody has seen committed when it begins is in what it answers."""
        before = self.history.committed

        async def read() -> None:
            try:
                index = await quorum.read_barrier()
            except ApiError:
                return
            if index < before or quorum.applied_index < index:
                raise Violation(f"a read answers {index} at {quorum.applied_index}, {before} was committed before it")
            self.counts["reads"] += 1

        def over(task: "asyncio.Task[None]") -> None:
            if not task.cancelled() and isinstance(error := task.exception(), Violation):
                self.world.bug = str(error)

        if quorum.leadership.is_self:
            asyncio.get_running_loop().create_task(read(), name="read").add_done_callback(over)

    # --- faults

    def _fault(self) -> None:
        if not self.chaos:
            return
        self.world.scheduler.after(self.rng.expovariate(1 / 700), self._fault)
        kind = self.rng.choice(self.kinds)
        member = self.rng.choice(list(self.members.values()))
        if self.rng.random() < 0.4:  # who leads has more to lose
            leaders = [m for m in self.members.values() if m.quorum is not None and m.quorum.leadership.is_self]
            member = self.rng.choice(leaders or [member])
        getattr(self, f"_{kind.replace(' ', '_')}")(member)
        self.counts[f"fault: {kind}"] += 1
        self.world.note(f"{kind} {member.name}")

    def _back(self, member: Member) -> None:
        self.world.scheduler.after(self.rng.uniform(50, 2_500), member.restart)

    def _kill(self, member: Member) -> None:
        if member.up:
            member.crash(power=False)
            self._back(member)

    def _power(self, member: Member) -> None:
        if member.up:
            member.crash(power=True)
            self._back(member)

    def _power_of_all(self, _: Member) -> None:
        for member in self.members.values():
            self._power(member)

    def _stop(self, member: Member) -> None:
        if member.up:
            member.stop()
            self._back(member)

    def _cut(self, member: Member) -> None:
        other = self.rng.choice([each for each in self.members.values() if each is not member])
        links = [(member.name, other.name), (other.name, member.name)][: self.rng.choice((1, 2))]
        self._cut_for_a_while(links)

    def _isolate(self, member: Member) -> None:
        others = [each.name for each in self.members.values() if each is not member]
        links = [link for other in others for link in ((member.name, other), (other, member.name))]
        self._cut_for_a_while(links)

    def _cut_for_a_while(self, links: list[tuple[str, str]]) -> None:
        for link in links:
            self.net.cut_link(*link)
            self.world.scheduler.after(
                self.rng.choice((500, 2_000, 6_000)) * self.rng.random(), self.net.mend_link, *link
            )

    def _freeze(self, member: Member) -> None:
        member.frozen_until_ms = self.world.now_ms + self.rng.uniform(50, 2_500)

    def _slow_disk(self, member: Member) -> None:
        member.disk.slow_ms = self.rng.uniform(5, 300)
        self.world.scheduler.after(self.rng.uniform(200, 2_000), member.disk.heal)

    def _disk_full(self, member: Member) -> None:
        member.disk.fill()
        self.world.scheduler.after(self.rng.uniform(200, 2_000), member.disk.heal)

    def _no_descriptor(self, member: Member) -> None:
        member.disk.fail("open", errno.EMFILE, self.rng.randint(1, 5))

    def _disk_fails(self, member: Member) -> None:
        if member.up:
            member.may_fail = True
            member.disk.fail_next(self.rng)

    def _rot(self, member: Member) -> None:
        """A bit of one member's log flips while it is down; the others' disks are well, as raft needs of a majority."""
        if member.up and self.rotten in (None, member.node_id):
            member.crash(power=False)
            self._back(member)
            path = f"{DIRECTORY}/quorum/log"
            logs = [name for name in _listed(member.disk, path) if name.endswith(".log")]
            if logs and member.disk.rot(f"{path}/{self.rng.choice(logs)}", self.rng):
                self.rotten = member.node_id

    def _transfer(self, member: Member) -> None:
        member.call(lambda quorum: self._ask(quorum.transfer(self.rng.choice((None, *VOTERS)))))

    def _voters(self, member: Member) -> None:
        node_id = self.rng.choice((*VOTERS, OBSERVER))
        directory_id = bytes([node_id]) * 16

        def change(quorum: Quorum) -> None:
            if PeerId(node_id, directory_id) not in quorum.voters:
                self._ask(quorum.add_voter(node_id, directory_id))
            elif len(quorum.voters) > 3:
                self._ask(quorum.remove_voter(node_id, directory_id))

        member.call(change)

    def _ask(self, work: Any) -> None:
        async def ask() -> None:
            try:
                await work
                self.counts["requests done"] += 1
            except ApiError:
                self.counts["requests refused"] += 1

        asyncio.get_running_loop().create_task(ask(), name="ask")

    # --- the end

    def _peace(self) -> None:
        self.chaos = False
        self.net.heal()
        for member in self.members.values():
            member.frozen_until_ms = min(member.frozen_until_ms, self.world.now_ms)
            member.disk.heal()
            self.world.scheduler.after(self.rng.uniform(0, 300), member.restart)

    def _judge(self) -> None:
        """Somebody leads, work went on, and everybody has everything."""
        leaders = [m.node_id for m in self.members.values() if m.quorum is not None and m.quorum.leadership.serving]
        if len(leaders) != 1 or not self.counts["peace: proposals"]:
            raise Violation(f"at peace {leaders} lead, {self.counts['peace: proposals']} proposals were taken")
        for member in self.members.values():
            if (member.machine.applied, member.machine.chain) != (self.history.committed, self.history.chain[-1]):
                raise Violation(f"{member.name} has {member.machine.applied} of {self.history.committed} entries")


def _listed(disk: Disk, path: str) -> list[str]:
    try:
        return sorted(disk.listdir(path))
    except OSError:
        return []


@contextmanager
def told(sim: QuorumSim) -> Iterator[None]:
    """What went before a violation is printed."""
    try:
        yield
    except BaseException:
        print(sim.world.story(), flush=True)
        print(f"seed {sim.seed} failed after {sim.world.scheduler.events} events, kinds {sim.kinds}", flush=True)
        raise


def run_seed(seed: int, kinds: tuple[str, ...] = (), *, tell: bool = True) -> QuorumSim:
    """Run one seed to its end. Raises Violation; `tell`: after what went before it was printed."""
    sim = QuorumSim(seed, kinds)
    with told(sim) if tell else nullcontext():
        sim.run()
    return sim


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulates the quorum's driver, disk and store under faults.")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", default="0:20", help="from:to")
    parser.add_argument("--faults", default="", help=f"these kinds alone: {', '.join(KINDS)}")
    parser.add_argument("--keep-going", action="store_true")
    options = parser.parse_args()
    quiet()
    kinds = tuple(options.faults.split(",")) if options.faults else ()
    first, last = (options.seed, options.seed + 1) if options.seed is not None else map(int, options.seeds.split(":"))
    counts: Counter[str] = Counter()
    failed = []
    for seed in range(first, last):
        try:
            sim = run_seed(seed, kinds)
        except Violation as violation:
            failed.append(seed)
            print(f"seed {seed}: {violation}", flush=True)
            if not options.keep_going:
                raise
            continue
        counts += sim.counts
        counts["events"] += sim.world.scheduler.events
        counts["committed"] += sim.history.committed
        counts["terms with a leader"] += len(sim.history.leaders)
    for name, count in sorted(counts.items()):
        print(f"  {name}: {count}")
    if failed:
        sys.exit(f"{len(failed)} seeds failed: {failed}")


if __name__ == "__main__":
    main()

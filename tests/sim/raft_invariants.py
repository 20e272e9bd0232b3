"""The promises of consensus, checked after every event on the node the event touched (numbers: docs/testing.md).

1 one leader per term            6 applied sequences are prefixes of each other, equal state at equal index
2 nothing goes backwards         7 committed is durable on a majority of the leader's voter set
3 votes and acks durable first   8 a leader commits by counting in its own term only
4 log matching                   9 at most one uncommitted voter change
5 leader completeness           10 a compacted log has a snapshot that covers the gap
"""

from collections.abc import Collection

from raft.core import Raft
from raft.effects import Effects, Role
from raft.messages import AppendAccepted, Message, VoteResponse
from raft.model import EntryKind, PeerId
from raft.quorum import majority
from tests.sim.raft_node import SimNode


class Violation(AssertionError):
    """A promise does not hold."""


class Invariants:
    """What the whole cluster has ever done, as far as it must stay true."""

    def __init__(self, nodes: dict[PeerId, SimNode]) -> None:
        self._nodes = nodes
        self.leaders: dict[int, PeerId] = {}
        self.logs: dict[tuple[int, int], int] = {}
        """(index, term) -> chain hash."""
        self.committed: dict[int, tuple[int, int]] = {}
        """index -> (term, chain hash)."""
        self.last_committed = 0
        self._committed_in = 0
        """The term in which the last committed entry was first seen committed."""
        self._votes: dict[tuple[PeerId, int], PeerId] = {}
        self._seen: dict[tuple[PeerId, int], tuple[int, int, int]] = {}
        self._durable: dict[PeerId, tuple[int, int]] = {}
        self._was_leader: dict[PeerId, tuple[int, int]] = {}
        self._commit_seen: dict[tuple[PeerId, int], int] = {}

    def fail(self, number: int, text: str) -> None:
        raise Violation(f"invariant {number}: {text}")

    def before_send(self, node: SimNode, message: Message) -> None:
        """3: what a vote or an acknowledgement says is on the sender's disk when it leaves; so is its term."""
        disk = node.disk
        if message.term > disk.hard_state.term:
            self.fail(3, f"{node.me} speaks in term {message.term}, its disk knows {disk.hard_state.term}")
        if isinstance(message, VoteResponse) and message.granted:
            on_disk = (disk.hard_state.term, disk.hard_state.voted_for)
            if on_disk != (message.term, message.to):
                self.fail(3, f"{node.me} grants {message.to} term {message.term}, its disk says {disk.hard_state}")
            known = self._votes.setdefault((node.me, message.term), message.to)
            if known != message.to:
                self.fail(3, f"{node.me} voted for {known} and {message.to} in term {message.term}")
        disk_end = max(disk.last_index, disk.snapshot.meta.last_index)
        if isinstance(message, AppendAccepted) and disk_end < message.match_index:
            self.fail(3, f"{node.me} acknowledges {message.match_index}, its disk ends at {disk_end}")

    def after_drain(self, node: SimNode, effects: Effects) -> None:
        """Everything else, for the node that just changed."""
        raft = node.raft
        assert raft is not None
        self._goes_forward(node, raft)
        if effects.append:
            self._log_matching(node, effects)
        if raft.role is Role.LEADER:
            self._leader(node, raft, effects)
        self._applied(node, raft.term)
        if effects.reset_log is not None or effects.drop_log_to is not None:
            self._covered(node, raft)

    def _goes_forward(self, node: SimNode, raft: Raft) -> None:
        now = (raft.term, raft.commit_index, node.applied_index)
        key = (node.me, node.incarnation)
        before = self._seen.get(key, (0, 0, 0))
        if now != before:
            if now[0] < before[0] or now[1] < before[1] or now[2] < before[2]:
                self.fail(2, f"{node.me} went from (term, commit, applied) {before} to {now}")
            self._seen[key] = now
        durable = (node.disk.hard_state.term, node.disk.snapshot.meta.last_index)
        known = self._durable.get(node.me, (0, 0))
        if durable != known:
            if durable[0] < known[0] or durable[1] < known[1]:
                self.fail(2, f"the disk of {node.me} went from (term, snapshot) {known} to {durable}")
            self._durable[node.me] = durable

    def _log_matching(self, node: SimNode, effects: Effects) -> None:
        for entry in effects.append:
            digest = node.chains[entry.index]
            if self.logs.setdefault((entry.index, entry.term), digest) != digest:
                self.fail(4, f"{node.me} holds another log up to ({entry.index}, {entry.term})")

    def _leader(self, node: SimNode, raft: Raft, effects: Effects) -> None:
        if self.leaders.setdefault(raft.term, node.me) != node.me:
            self.fail(1, f"{self.leaders[raft.term]} and {node.me} lead term {raft.term}")
        led = (raft.term, node.incarnation)
        if self._was_leader.get(node.me) != led:
            previous = self._was_leader.get(node.me)
            if previous is not None and previous[0] == raft.term:
                self.fail(1, f"{node.me} leads term {raft.term} again after a restart")
            self._was_leader[node.me] = led
            if self.last_committed > 0:
                self._complete(node, raft.term)
        voter_changes = [e.index for e in effects.append if e.kind is EntryKind.VOTERS and e.term == raft.term]
        open_before = voter_changes and raft.log.snapshot.last_index < raft.commit_index
        if open_before:
            index = voter_changes[0]
            for other in raft.log.slice(raft.commit_index + 1, index - 1):
                if other.kind is EntryKind.VOTERS:
                    self.fail(9, f"{node.me} changes voters at {index} while {other.index} is not committed")
            if raft.log.term_at(raft.commit_index) != raft.term:
                self.fail(9, f"{node.me} changes voters at {index} before it committed in its own term")
        commit_key = (node.me, raft.term)
        if raft.commit_index > self._commit_seen.get(commit_key, 0):
            first = commit_key not in self._commit_seen
            self._commit_seen[commit_key] = raft.commit_index
            term = raft.log.term_at(raft.commit_index)
            if term == raft.term:
                self._durable_on_majority(raft)
            elif not first:
                self.fail(8, f"{node.me} committed {raft.commit_index} of term {term} in term {raft.term}")

    def _complete(self, node: SimNode, term: int) -> None:
        if term <= self._committed_in:
            return  # an old election that ended late: it promises nothing about later terms
        digest = node.chains.get(self.last_committed)
        if digest is None and min(node.chains) > self.last_committed:
            return
        if digest != self.committed[self.last_committed][1]:
            self.fail(5, f"{node.me} leads without the committed entry {self.last_committed}")

    def _durable_on_majority(self, raft: Raft) -> None:
        index, term = raft.commit_index, raft.log.term_at(raft.commit_index)
        voters = raft.log.voters
        holders = 0
        for voter in voters:
            disk = self._nodes[voter].disk
            # A damaged member still stands for what it acknowledged: until it is whole, its vote makes no majority.
            promised = not disk.is_whole and disk.promised_index >= index
            if disk.term_at(index) == term or disk.snapshot.meta.last_index >= index or promised:
                holders += 1
        if holders < majority(len(voters)):
            self.fail(7, f"entry {index} of term {term} is committed with {holders} of {len(voters)} synced copies")

    def _applied(self, node: SimNode, term: int) -> None:
        if not node.applied:
            return
        index = node.applied[0].index
        for entry in node.applied:
            digest = node.chains[index]
            known = self.committed.get(index)
            if known is None:
                if index != self.last_committed + 1:
                    self.fail(6, f"{node.me} applied {index}, but {self.last_committed + 1} was never applied")
                self.committed[index] = (entry.term, digest)
                self.last_committed = index
                self._committed_in = term
            elif known != (entry.term, digest):
                self.fail(6, f"{node.me} applied another entry at {index}")
            index += 1
        if node.applied_state != self.committed[node.applied_index][1]:
            self.fail(6, f"{node.me} has another state at {node.applied_index}")
        node.applied.clear()

    def _covered(self, node: SimNode, raft: Raft) -> None:
        first = node.disk.first_index
        snapshot = node.disk.snapshot.meta.last_index
        if first > 1 and node.disk.entries and snapshot < first - 1:
            self.fail(10, f"the log of {node.me} starts at {first}, its snapshot ends at {snapshot}")
        if raft.log.base_index > raft.log.snapshot.last_index:
            self.fail(10, f"{node.me} dropped entries up to {raft.log.base_index} without a snapshot")

    def in_full(self, forged: Collection[str] = ()) -> None:
        """At the end, on every node: the whole log and the whole disk."""
        for node in self._nodes.values():
            assert node.raft is not None
            for index in range(node.raft.log.snapshot.last_index + 1, node.raft.commit_index + 1):
                if node.chains[index] != self.committed[index][1]:
                    self.fail(4, f"{node.me} differs at committed entry {index}")
            for entry in node.disk.entries:
                known = self.committed.get(entry.index)
                if known is not None and entry.index <= node.raft.commit_index and known[0] != entry.term:
                    self.fail(4, f"the disk of {node.me} differs at committed entry {entry.index}")
            wrong = dict(node.raft.dropped)
            for harmless in ("leader_is_live", "unknown_sender", *forged):
                wrong.pop(harmless, None)
            if wrong:
                self.fail(4, f"{node.me} takes messages of correct peers for wrong ones: {wrong}")

"""What must hold after every event: reliability rules 11 to 26 on the replicas that the event touched.

One `Truth` per partition says what was ever committed, as the first replica to call it committed had it. Every
replica's log is shadowed, batch by batch, so that a check costs what changed and not what there is. What a run of
`flush=replica` may lose to power (the careful election after `last_known_elr`) is cut out of the truth, counted, and
allowed only where power was lost. A replica that was down meanwhile may still have it: where such an election finds the
most complete log there, what was committed once is committed again.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from typing import Any

from node.groups.shell import OFFSETS_TOPIC, stored_records
from node.metadata.image import NO_LEADER, Delta, Image
from ottla.protocol.payloads import as_ottla, packed_records
from ottla.v1.record_pb2 import Records
from tests.sim.cluster_loop import Process, Violation, World
from tests.sim.cluster_metadata import (
    came_back,
    counts_nowhere,
    drained_gets_nothing,
    elected_of_last_known,
    enough,
    is_flush_ack,
    left_for_good,
    who_stays_has_all,
)
from tests.sim.cluster_node import Node
from tests.sim.cluster_rules import producers_known
from tests.sim.cluster_truth import NEXT, Entry, Key, Led, Shadow, Truth


class Invariants:
    """See the module. `after` is called with the process that an event touched."""

    def __init__(self, world: World, nodes: dict[int, Node], counts: Counter[str]) -> None:
        self.world = world
        self.nodes = nodes
        self.counts = counts
        self.truths: dict[Key, Truth] = {}
        self.shadows: dict[int, dict[Key, Shadow]] = {n: {} for n in nodes}
        self.image: Image = Image.EMPTY
        self.topics_ever: dict[bytes, str] = {}
        self.deleted: set[bytes] = set()
        self.led: dict[tuple[Key, int], Led] = {}
        self.looks = 0
        self.unresolved: Callable[[str, int], int] = lambda topic, number: 0
        """How many sends to a partition have no outcome yet; for counting only."""
        self.lost_power = False
        self.powerless: set[int] = set()
        """Nodes that lost power and have not registered since."""
        self.unreported: set[int] = set()
        """Those of them that were at work: not one that was stopping and may have ended in order."""
        self.lost_disk: set[int] = set()
        """Nodes whose disk was wiped or damaged: they may lack what they had synced."""
        self.rotten: set[int] = set()
        self.departures: Counter[tuple[int, Key]] = Counter()
        """How often a replica left its partition: what it has when it comes back is another log."""
        self.deleted_logs: dict[int, set[Key]] = {}
        """Of each node what somebody deleted while it was down, until it registers."""

    # --- the metadata

    def on_image(self, image: Image, delta: Delta) -> None:
        """Every committed metadata entry, once. The drafts check themselves; here is what outlives a draft."""
        live = {b.node_id for b in image.live_brokers()} & {b.node_id for b in self.image.live_brokers()}
        for topic_id in delta.deleted_topics:
            self.deleted.add(topic_id)
        for topic_id in delta.created_topics:
            if topic_id in self.topics_ever:
                raise Violation(f"25: topic id {topic_id.hex()} came back")
            self.topics_ever[topic_id] = image.topics[topic_id].name
        for key in sorted(delta.changed_partitions):
            after = image.partition(*key)
            if after is None:
                continue
            for node_id in after.isr:
                broker = image.brokers.get(node_id)
                if broker is None or broker.fenced:
                    raise Violation(f"15: {after} has {node_id} in its ISR, which is fenced or unknown")
            if after.leader != NO_LEADER:
                self.led[key, after.leader] = Led(after.leader_epoch, after.replicas, enough(image, key))
            if after.leader != NO_LEADER and after.leader not in after.isr:
                raise Violation(f"15: {after} has a leader outside of its ISR")
            before = self.image.partition(*key)
            drained_gets_nothing(self.image, image, before, after)
            if before is not None:
                self._joined(key, before, after)
                self._left(image, key, before, after, calm=not delta.changed_brokers)
                self._count_change(key, before, after)
                logs = {n: shadow for n, of in self.shadows.items() if (shadow := of.get(key)) is not None}
                name = f"{image.topics[key[0]].name}-{key[1]}"
                elected_of_last_known(name, before, after, logs, self.lost_disk, live)
        for node_id in delta.changed_brokers:
            left_for_good(self.image, image, node_id)
            self._registered(image, self.image.brokers.get(node_id), image.brokers.get(node_id))
        self.image = image

    def _joined(self, key: Key, before: Any, after: Any) -> None:
        """16: who joins the ISR has all that is committed. Whose disk is damaged may have lost it since, and will not
        lead before it has it again."""
        truth = self.truths.get(key)
        if truth is None or before.leader_epoch != after.leader_epoch or truth.cuts:
            return
        excused = self.lost_disk if truth.flush_ack else self.lost_disk | self.powerless
        for node_id in set(after.isr) - {*before.isr, *excused}:
            shadow = self.shadows[node_id].get(key)
            if shadow is not None and not shadow.unsure and shadow.end < truth.end:
                raise Violation(
                    f"16: node {node_id} joins the ISR of {truth.label} with {shadow.end} offsets, {truth.end} are "
                    f"committed: {after}"
                )

    def _left(self, image: Image, key: Key, before: Any, after: Any, calm: bool) -> None:
        gone = set(before.replicas) - set(after.replicas)
        for node_id in gone:
            self.departures[node_id, key] += 1
        self.counts["moves begun or changed"] += after.target not in ((), before.target)
        self.counts["moves ended"] += bool(before.target and not after.target)
        self.counts["rare: replicas that a move took away from the lead"] += before.leader in gone
        if calm and gone & set(before.isr) and len(after.isr) < enough(image, key):
            raise Violation(f"33: {sorted(gone)} leave an ISR that is too small without them: {before} to {after}")
        truth = self.truths.get(key)
        if truth is not None and gone and not truth.cuts:
            excused = self.lost_disk if truth.flush_ack else self.lost_disk | self.powerless
            ends = {n: s.end for n in after.isr if (s := self.shadows[n].get(key)) is not None}
            who_stays_has_all(truth.label, truth.end, ends, excused, enough(image, key), before, after)

    def _registered(self, image: Image, before: Any, after: Any) -> None:
        if before is None and after is not None:
            # New, or with an empty disk after it was unregistered: what was lost before has nothing to do with it.
            self.unreported.discard(after.node_id)
            self.deleted_logs.pop(after.node_id, None)
        if before is None or after is None or before.broker_epoch == after.broker_epoch:
            return
        came_back(image, before, after, after.node_id in self.unreported)
        counts_nowhere(image, after.node_id, self.deleted_logs.pop(after.node_id, ()))
        self.unreported.discard(after.node_id)
        self.counts["registrations of restarted brokers"] += 1
        if after.unclean_stop:
            self.counts["rare: registrations after an unclean shutdown"] += 1
        if after.directory_id != before.directory_id:
            self.counts["rare: registrations with another disk"] += 1
        if not before.fenced:
            self.counts["rare: registrations before the old incarnation was fenced"] += 1

    def _count_leader_change(self, key: Key, before: Any) -> None:
        """A leader is replaced, or goes: what was going on meanwhile?"""
        truth = self.truths.get(key)
        shadow = self.shadows.get(before.leader, {}).get(key)
        if truth is None or shadow is None:
            return
        if shadow.end > truth.end:
            self.counts["rare: leader changes with uncommitted batches"] += 1
        if self.unresolved(truth.name, truth.number):
            self.counts["rare: leader changes with sends on their way"] += 1
        if truth.internal:
            for group in truth.groups.by_id.values():
                self.counts["rare: coordinators of a group replaced"] += bool(group.members)
                self.counts["rare: coordinators replaced while members join or give back"] += group.state in (
                    "assigning",
                    "reconciling",
                )

    def _count_change(self, key: Key, before: Any, after: Any) -> None:
        counts = self.counts
        if after.leader != before.leader:
            if before.leader != NO_LEADER:
                self._count_leader_change(key, before)
            counts["elections"] += after.leader != NO_LEADER
            if before.leader == NO_LEADER and after.leader != NO_LEADER:
                if after.leader in before.elr:
                    counts["rare: elections from the ELR"] += 1
                elif after.leader in before.last_known_elr or after.recovering:
                    counts["rare: elections of the most complete log (last known ELR)"] += 1
            counts["partitions without a leader"] += after.leader == NO_LEADER
        if after.elr and not before.elr:
            counts["rare: partitions with an ELR"] += 1
        if len(after.isr) < len(before.isr):
            counts["ISR shrinks"] += 1
        elif len(after.isr) > len(before.isr):
            counts["ISR expansions"] += 1

    # --- after an event

    def after(self, process: Process | None) -> None:
        if isinstance(process, Node) and process.plane is not None:
            self.look(process)

    def look(self, node: Node) -> None:
        self.looks += 1
        if self.powerless and node.active:
            self.powerless.discard(node.node_id)
        shadows = self.shadows[node.node_id]
        for key, partition in node.plane.broker.partitions.items():
            shadow = shadows.get(key)
            log = partition.log
            if (
                shadow is None
                or shadow.log is not log
                or log.log_end_offset != shadow.end
                or partition.high_watermark != shadow.mark
                or log.log_start_offset != shadow.start
                or partition.leader is not shadow.leader
                or (log.epochs.latest_epoch or 0) != shadow.epoch
            ):
                self._changed(node, key, partition)
            elif log._durable.end_offset != shadow.synced:
                shadow.synced = log.synced_end_offset

    def _changed(self, node: Node, key: Key, partition: Any) -> None:
        truth = self._truth(key, partition)
        if truth is None or partition.closed:
            return
        log = partition.log
        shadow = self.shadows[node.node_id].get(key)
        if log.failed is not None and shadow is not None:
            shadow.damaged = True  # it may lose what it had; what it commits with its last breath counts
        if log.damaged_at is not None:
            if shadow is not None and not shadow.damaged:
                shadow.damaged = True
                self.counts["rare: logs found damaged"] += 1
            return
        if shadow is None or shadow.log is not log:
            shadow = self._adopt(node, key, truth, shadow, log)
        start, end = log.log_start_offset, log.log_end_offset
        if start and truth.name == "s":
            raise Violation(f"{node.name} {truth.label} begins at {start}: nothing in it is old enough to go")
        if start < shadow.start:
            self.counts["rare: logs begun again further down"] += 1
            shadow.entries.clear()
            shadow.end = start
        if start > shadow.end and partition.cuts > shadow.cuts:
            self.counts["rare: logs begun again behind their end"] += 1
            shadow.entries.clear()
            shadow.gap = start
        if end < shadow.end or (log.epochs.latest_epoch or 0) < shadow.epoch:
            self.counts["rare: truncations of diverging logs"] += 1
            while shadow.entries and shadow.entries[-1].next > end:
                shadow.entries.pop()
        seen_end = shadow.entries[-1].next if shadow.entries else start
        if end > seen_end:
            try:
                self._take_new(node, key, truth, shadow, partition, max(seen_end, start), end)
            except OSError as error:
                if "injected" not in str(error):
                    raise
                # Its file fails, and the node has yet to notice: what came last, nobody can read.
                self.counts["rare: logs that fail before their node knows"] += 1
                shadow.damaged = True
                return
        cut = end < shadow.end or partition.leader is not shadow.leader
        if cut and partition.offline is None and node.node_id not in self.rotten:
            producers_known(node.name, truth.label, shadow.entries, partition, shadow.gap)
        shadow.cuts = partition.cuts
        shadow.start, shadow.end, shadow.epoch = start, end, log.epochs.latest_epoch or 0
        shadow.synced = log.synced_end_offset
        mark, before = partition.high_watermark, shadow.mark
        if log.failed is None and not start <= mark <= end:  # a failed one is offline: its last cut may be half made
            raise Violation(f"11: {node.name} {truth.label}: start {start}, high watermark {mark}, end {end}")
        # One event may hold the last commit of a leader and the end of its leadership.
        leader = partition.leader or shadow.leader
        if partition.leader is not shadow.leader:
            shadow.leader = partition.leader
            if partition.leader is not None and node.active:
                self._new_leader(node, key, truth, shadow, partition)
        if mark > before or partition.leader is not None:
            self._committed(node, key, truth, shadow, partition, leader, before, mark)
        shadow.mark = mark
        self._trim(truth, shadow)

    def _truth(self, key: Key, partition: Any) -> Truth | None:
        truth = self.truths.get(key)
        if truth is None:
            topic = self.image.topic(key[0])
            if topic is None:
                return None
            compacted = "compact" in topic.configs.get("cleanup.policy", "")
            truth = Truth(topic.name, key[1], topic.internal, compacted, is_flush_ack(topic))
            self.truths[key] = truth
        return truth

    def _adopt(self, node: Node, key: Key, truth: Truth, old: Shadow | None, log: Any) -> Shadow:
        """A log that was opened: after a start, or anew."""
        self.counts["rare: torn tails cut at a start"] += log.recovery.truncated_bytes > 0
        departures, state = self.departures[node.node_id, key], self.image.partition(*key)
        shadow = Shadow(log, [], log.log_start_offset, log.log_start_offset)
        shadow.departures = departures if state is None or node.node_id in state.replicas else -1
        self.shadows[node.node_id][key] = shadow
        if old is not None and old.departures != departures:
            old = None
        if old is not None and node.node_id in self.rotten:
            # Its headers may lie: what it has is what it had, until it is read with its checksums.
            shadow.entries = [e for e in old.entries if log.log_start_offset <= e.base and e.next <= log.log_end_offset]
        if old is None or truth.compacted or node.node_id in self.lost_disk or old.damaged:
            return shadow
        promised = old.synced if old.unsure else old.end
        if log.log_end_offset < promised and key[0] not in self.deleted:
            raise Violation(
                f"{node.name} {truth.label}: {'synced' if old.unsure else 'written'} to {promised}, after the start "
                f"its log ends at {log.log_end_offset}"
            )
        return shadow

    def _take_new(
        self, node: Node, key: Key, truth: Truth, shadow: Shadow, partition: Any, start: int, end: int
    ) -> None:
        leader = partition.leader
        for stored in partition.log.scan(start, end):
            h = stored.header
            entry = Entry(
                h.base_offset,
                h.next_offset,
                h.leader_epoch,
                (h.payload_crc, h.base_timestamp, h.producer_id, h.base_sequence, h.last_offset_delta),
                h.producer_id,
                h.producer_epoch,
                h.base_sequence,
            )
            if shadow.entries and entry.base < shadow.entries[-1].next:
                continue
            if not truth.compacted:
                known = truth.identity.setdefault((entry.epoch, entry.base), entry.what)
                if known != entry.what:
                    raise Violation(
                        f"14: two batches at offset {entry.base} of epoch {entry.epoch} of {truth.label}: {node.name} "
                        f"has {entry.what}, another one {known}"
                    )
            if leader is not None and shadow.leader is leader and entry.epoch == leader.leader_epoch:
                holder = truth.appenders.setdefault(entry.epoch, (node.node_id, node.incarnation))
                if holder[0] != node.node_id:
                    raise Violation(f"12: {truth.label}: {holder[0]} and {node.name} both append in {entry.epoch}")
            if shadow.entries and entry.epoch < shadow.entries[-1].epoch:
                raise Violation(f"20: {node.name} {truth.label}: epoch {entry.epoch} after {shadow.entries[-1].epoch}")
            shadow.entries.append(entry)

    def _new_leader(self, node: Node, key: Key, truth: Truth, shadow: Shadow, partition: Any) -> None:
        """Whoever leads a new epoch has everything that was ever committed, or was elected by the careful way."""
        epoch = partition.leader.leader_epoch
        if epoch <= truth.leader[0]:
            if epoch == truth.leader[0] and truth.leader[1] != node.node_id:
                raise Violation(f"12: {truth.label}: nodes {truth.leader[1]} and {node.name} both lead epoch {epoch}")
            return
        self._count_new_leader(node, key, truth, partition)
        truth.leader = (epoch, node.node_id)
        lost_from = self._lacks(node, truth, shadow)
        if lost_from is not None:
            self._lose(node, truth, shadow, partition, lost_from)
        if truth.cuts and partition.state.recovering:
            self._bring_back(truth, shadow, partition.high_watermark)

    def _lose(self, node: Node, truth: Truth, shadow: Shadow, partition: Any, lost_from: int) -> None:
        epoch, state = partition.leader.leader_epoch, partition.state
        excuse = (self.lost_power and not truth.flush_ack) or self.lost_disk
        if not state.recovering or not excuse:
            raise Violation(
                f"{node.name} leads {truth.label} in epoch {epoch} with {shadow.end} offsets; {truth.end} were "
                f"committed, those from {lost_from} on are gone ({'recovering' if state.recovering else 'in sync'})"
            )
        self.counts["committed records lost where that is allowed"] += truth.end - lost_from
        self.world.note(f"{truth.label}: records {lost_from} to {truth.end} were lost, which is allowed here")
        truth.lost_end = max(truth.lost_end, truth.end)
        while truth.entries and truth.entries[-1].next > lost_from:
            truth.lost[truth.entries.pop()] = truth.payloads.pop()
        truth.end = truth.entries[-1].next if truth.entries else truth.trimmed
        truth.cuts += 1
        truth.marks = (epoch, 0)
        self._recount_producers(truth)

    def _bring_back(self, truth: Truth, shadow: Shadow, mark: int) -> None:
        """The careful way has elected a log with records that an earlier such election took back. Its mark is from when
        they were committed, and it alone may have them now. Only those very batches: compacted logs are judged by
        their end."""
        start = truth.end
        for entry in shadow.entries[shadow.at(start) :]:
            if truth.compacted:
                known = truth.end <= entry.base and entry.next <= truth.lost_end
            else:
                known = truth.end == entry.base and entry in truth.lost
            if entry.next > mark or not known:
                break
            truth.entries.append(entry)
            truth.payloads.append(truth.lost.get(entry, []))
            truth.end = entry.next
        if truth.end > start:
            self.counts["committed records brought back by a more complete log"] += truth.end - start
            self.world.note(f"{truth.label}: records {start} to {truth.end} are back")
            self._recount_producers(truth)

    def _count_new_leader(self, node: Node, key: Key, truth: Truth, partition: Any) -> None:
        counts = self.counts
        counts["leaderships begun"] += 1
        counts["rare: high watermarks withheld by a new leader"] += not partition.leader.high_watermark_known
        counts["rare: leaderships begun in recovery"] += partition.state.recovering
        old = self.nodes.get(truth.leader[1])
        if old is not None and old is not node and old.up:
            led = old.partitions.get(key)
            counts["rare: two leaders at once, of different epochs"] += led is not None and led.leader is not None

    def _lacks(self, node: Node, truth: Truth, shadow: Shadow) -> int | None:
        """The first committed offset that a log does not have. Compacted logs are judged by their end, and so are those
        of a disk that rots: what is known of them has gaps."""
        if truth.compacted or node.node_id in self.rotten:
            return shadow.end if shadow.end < truth.end else None
        if shadow.end < truth.end:
            return shadow.end
        index = shadow.at(shadow.start)
        first = self._index(truth, shadow.start)
        for mine, theirs in zip(shadow.entries[index:], truth.entries[first:], strict=False):
            if mine != theirs:
                return theirs.base
        return None

    @staticmethod
    def _index(truth: Truth, offset: int) -> int:
        return bisect_right(truth.entries, offset, key=NEXT)

    # --- what is committed

    def _committed(
        self,
        node: Node,
        key: Key,
        truth: Truth,
        shadow: Shadow,
        partition: Any,
        leader: Any,
        before: int,
        mark: int,
    ) -> None:
        # Where an election took records back, a follower may start with a mark from before that.
        behind = truth.cuts > 0 and partition.leader is None
        if not truth.compacted and mark > before and node.node_id not in self.rotten and not behind:
            index = shadow.at(max(before, shadow.start))
            known = self._index(truth, max(before, shadow.start))
            while index < len(shadow.entries) and known < len(truth.entries):
                mine, theirs = shadow.entries[index], truth.entries[known]
                if mine.next > mark:
                    break
                if mine != theirs:
                    raise Violation(
                        f"14: {node.name} {truth.label} below its high watermark {mark}: {mine}, not {theirs}"
                    )
                index, known = index + 1, known + 1
        if leader is None:
            if mark <= truth.end or mark <= before or truth.cuts:
                return
            led = self.led.get((key, node.node_id))
            if led is None:
                raise Violation(f"{node.name} {truth.label} follows with mark {mark}, {truth.end} are committed")
            # It led, committed and lost its leadership again, all in the one event in which it heard of it.
            self._extend(node, key, truth, shadow, partition, led, mark)
            return
        # What an allowed loss took back, a replaced leader goes on showing until it hears of it: no new commit.
        replaced = mark == before and truth.cuts > 0 and leader.leader_epoch < truth.leader[0]
        if mark > truth.end and not replaced:
            self._extend(node, key, truth, shadow, partition, leader, mark)
        if partition.leader is leader and leader.high_watermark_known and node.active:
            epoch, seen = truth.marks
            if leader.leader_epoch >= epoch:
                if mark < seen:
                    raise Violation(
                        f"13: {node.name} shows {truth.label} up to {mark} in epoch {leader.leader_epoch}, {seen} was "
                        f"seen in {epoch}"
                    )
                truth.marks = (leader.leader_epoch, mark)

    def _extend(
        self, node: Node, key: Key, truth: Truth, shadow: Shadow, partition: Any, leader: Any, mark: int
    ) -> None:
        """A leader says that more is committed."""
        fresh = []
        for entry in shadow.entries[shadow.at(truth.end) :]:
            if entry.next > mark:
                break
            if entry.base < truth.end:
                raise Violation(f"19: {truth.label}: {entry} overlaps what is committed up to {truth.end}")
            if entry.base > truth.end and not truth.compacted:
                raise Violation(f"19: {truth.label}: a gap from {truth.end} to {entry.base}")
            self._sequence(truth, entry)
            fresh.append(entry)
            truth.end = entry.next
        truth.entries += fresh
        if truth.end < mark and not truth.compacted:
            raise Violation(f"{node.name} {truth.label}: high watermark {mark} is in the middle of a batch")
        truth.end = mark
        for entry in fresh:
            self._payload(node, truth, partition, entry)
        if leader.leader_epoch < truth.leader[0]:
            self._known_to_newest(node, key, truth, fresh)
        state = self.image.partition(*key)
        committed = enough(self.image, key) if state and state.leader_epoch == leader.leader_epoch else 0
        wanted = max(leader.effective_min_isr, committed)
        held = [
            n
            for n, shadows in self.shadows.items()
            if n in leader.replicas and (s := shadows.get(key)) and self._holds(s, fresh[-1:], truth)
        ]
        # Under flush=replica a member may lose with its power what it has acknowledged, and nobody knows yet.
        lost = self.lost_disk if truth.flush_ack else self.lost_disk | (self.powerless & set(leader.replicas))
        if len(held) < wanted and len(lost.union(held)) < wanted:
            raise Violation(f"17: {truth.label} up to {mark} is committed, but only {held} have it; {wanted} must")
        if leader.pending is not None:
            self.counts["rare: commits while an ISR change is on its way"] += 1
        if len(leader.replicas) > len(held) >= wanted:
            self.counts["rare: commits that not all replicas have"] += 1
        if leader.leader_epoch != (fresh[-1].epoch if fresh else leader.leader_epoch):
            self.counts["rare: commits of an earlier epoch's records"] += 1

    def _holds(self, shadow: Shadow, last: list[Entry], truth: Truth) -> bool:
        if not last:
            return True
        entry = last[0]
        if truth.flush_ack and (shadow.synced if shadow.log is not None else 0) < entry.next:
            return False
        if truth.compacted:
            return shadow.end >= entry.next
        index = shadow.at(entry.base)
        return index < len(shadow.entries) and shadow.entries[index] == entry

    def _known_to_newest(self, node: Node, key: Key, truth: Truth, fresh: list[Entry]) -> None:
        """An old leader may still learn that all of its ISR has something: then the new leader has it too."""
        self.counts["rare: commits by a leader that is replaced already"] += 1
        newest = self.shadows[truth.leader[1]].get(key)
        if newest is not None and fresh and not truth.compacted:
            index = newest.at(fresh[0].base)
            if newest.entries[index : index + len(fresh)] != fresh:
                raise Violation(
                    f"{node.name} commits {truth.label} {fresh} in an old epoch; node {truth.leader[1]}, which leads "
                    f"{truth.leader[0]}, does not have it"
                )

    def _sequence(self, truth: Truth, entry: Entry) -> None:
        """21, 22: numbers of a producer go on without gaps, and its epochs never go back."""
        if not entry.producer_id:
            return
        epoch, expected = truth.producers.get(entry.producer_id, (-1, 0))
        if entry.producer_epoch < epoch:
            raise Violation(f"22: {truth.label}: epoch {entry.producer_epoch} of a producer after {epoch}: {entry}")
        if entry.producer_epoch > epoch:
            self.counts["rare: producers that began another epoch"] += epoch >= 0
            expected = 0
        if entry.sequence != expected:
            raise Violation(f"21: {truth.label}: sequence {entry.sequence}, {expected} was due: {entry}")
        truth.producers[entry.producer_id] = (entry.producer_epoch, expected + entry.next - entry.base)

    def _recount_producers(self, truth: Truth) -> None:
        truth.producers.clear()
        for entry in truth.entries:
            if entry.producer_id:
                start = entry.sequence + entry.next - entry.base
                truth.producers[entry.producer_id] = (entry.producer_epoch, start)

    def _payload(self, node: Node, truth: Truth, partition: Any, entry: Entry) -> None:
        with node.disk.seen_from_outside():  # a leader commits before it has noticed
            data = partition.log.read(entry.base, 1, entry.next, min_one=True).data
        if truth.internal and truth.name == OFFSETS_TOPIC:
            records = stored_records(data)
            truth.payloads.append(list(records))
            for record in records:
                self._group_record(truth, record)
            self._owners(truth)
            return
        batch_payload = _records_of(data)
        truth.payloads.append([(r.key if r.HasField("key") else None, r.value) for r in batch_payload])

    def _trim(self, truth: Truth, shadow: Shadow) -> None:
        truth.trimmed = max(truth.trimmed, shadow.start) if shadow.start <= truth.end else truth.trimmed

    # --- groups: judged by what is committed in the offsets topic

    def _group_record(self, truth: Truth, record: tuple[bytes, bytes | None]) -> None:
        truth.groups.replay(record)
        for group_id, group in truth.groups.by_id.items():
            before = truth.group_epochs.get(group_id, 0)
            if group.group_epoch < before and group.group_epoch:
                raise Violation(f"23: group {group_id} went from epoch {before} back to {group.group_epoch}")
            truth.group_epochs[group_id] = group.group_epoch

    def _owners(self, truth: Truth) -> None:
        for group_id, group in truth.groups.by_id.items():
            owners: dict[Any, str] = {}
            for member_id, member in group.members.items():
                before = truth.member_epochs.get((group_id, member_id), 0)
                if 0 < member.member_epoch < before:  # 0: it is new, or came back after it was out, and has none yet
                    raise Violation(f"23: member {member_id} went from epoch {before} back to {member.member_epoch}")
                truth.member_epochs[group_id, member_id] = max(before, member.member_epoch)
                for at in member.assigned | member.revoking:
                    if at in owners:
                        raise Violation(f"23: partition {at[1]} is owned by {owners[at]} and {member_id} of {group_id}")
                    owners[at] = member_id

    # --- what clients see

    def told(self, group_id: str, member_id: str, member_epoch: int) -> None:
        """23: a member hears of an epoch when it is committed: what a coordinator merely decided may be undone."""
        truths = [truth for truth in self.truths.values() if truth.internal and group_id in truth.group_epochs]
        known = max((truth.member_epochs.get((group_id, member_id), 0) for truth in truths), default=0)
        if known < member_epoch and not any(truth.cuts for truth in truths):
            raise Violation(f"23: member {member_id} of {group_id} is told epoch {member_epoch}, committed is {known}")

    def acknowledged(self, topic: str, partition: int, offset: int, value: bytes) -> None:
        """acks=all said that a record is at an offset."""
        truth = self.by_name(topic, partition)
        if truth is None or offset < 0 or truth.cuts:
            return
        found = self.value_at(truth, offset)
        if offset >= truth.end or found != value:
            raise Violation(
                f"17: {value!r} is acknowledged at {truth.label} {offset}; there is {found!r}, end {truth.end}"
            )

    def consumed(self, topic: str, partition: int, offset: int, value: bytes | None) -> None:
        """A consumer was handed a record."""
        truth = self.by_name(topic, partition)
        if truth is None or truth.cuts or truth.compacted:
            return
        if offset >= truth.end:
            raise Violation(f"18: a consumer got {truth.label} {offset}, only {truth.end} are committed")
        found = self.value_at(truth, offset)
        if found != value:
            raise Violation(f"18: a consumer got {value!r} at {truth.label} {offset}, the log has {found!r}")

    def by_name(self, topic: str, partition: int) -> Truth | None:
        topic_id = self.image.names.get(topic)
        return None if topic_id is None else self.truths.get((topic_id, partition))

    def value_at(self, truth: Truth, offset: int) -> bytes | None:
        index = self._index(truth, offset)
        if index >= len(truth.entries) or truth.entries[index].base > offset:
            return None
        return truth.payloads[index][offset - truth.entries[index].base][1]

    # --- faults

    def power_lost(self, node: Node) -> None:
        self.lost_power = True
        self.powerless.add(node.node_id)
        if node.active and not node.stopping:
            self.unreported.add(node.node_id)
        for shadow in self.shadows[node.node_id].values():
            shadow.unsure = True

    def disk_lost(self, node: Node) -> None:
        self.lost_disk.add(node.node_id)

    def log_deleted(self, node: Node, key: Key) -> None:
        self.disk_lost(node)
        self.deleted_logs.setdefault(node.node_id, set()).add(key)

    def rotted(self, node: Node) -> None:
        self.disk_lost(node)
        self.rotten.add(node.node_id)


def _records_of(data: bytes) -> Any:
    from ottla.protocol.batch import read_batch

    batch = read_batch(data, 0)
    assert batch is not None
    plain = packed_records(batch.header.attributes, batch.payload(data)[1])
    return Records.FromString(bytes(as_ottla(batch.header, plain))).records

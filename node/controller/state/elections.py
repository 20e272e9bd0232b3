"""Who leads a partition and who is in its ISR, ELR and last known ELR. Every partition change is made here.

The rules (KIP-966, KIP-841):
- the ISR has live members only; who leaves it while it is below min ISR stays eligible (ELR), because the high
  watermark does not move then; who may have lost data is only *last known*;
- ELR and last known ELR are empty while the ISR has min ISR members;
- a leader comes from the ISR, else from the ELR. With both empty: when every last known eligible replica is back, the
  most complete log of all live replicas, without an operator: who was eligible last may have lost what others have. Who
  came back with another disk is not waited for, and where nobody else was eligible last, all replicas are; so they are
  where the most complete log is empty. Any other replica only where the topic's config or an operator says so;
- nobody leads in an epoch that was led before;
- a move of a partition (KIP-455) is complete when every replica that it is to have is in sync, and one that was called
  off as soon as what it added can be spared. Replicas leave then and not before, in the record in which they leave the
  ISR and the lead. None leaves from the ELR or the last known ELR, and none while nobody leads or the leader has yet to
  confirm its log;
- who has no room for producers is in no ISR of clients' records that is large enough without it: what is acknowledged
  from then on is on as many as min ISR asks for, as ever, and a full leader hands over by leaving.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from node.controller.state.draft import Draft, LogEnd, Rules
from node.controller.state.invariants import check_leaving
from node.metadata.image import NO_LEADER, Partition
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.invariant import InvariantError


class _Choice(NamedTuple):
    leader: int
    how: str
    clean: bool = True


def reconsider(
    draft: Draft,
    partition: Partition,
    cause: str,
    *,
    isr: Collection[int] | None = None,
    lost: Collection[int] = (),
    wiped: Collection[int] = (),
    prefer_first: bool = False,
    hand_over: bool = False,
    allow_unclean: bool = False,
    recovered: bool = False,
) -> Partition:
    """Brings a partition in line with who is live now; adds a record if that changes anything.

    `isr` is a leader's wish for the ISR; `lost` are replicas whose log may lack what it had, `wiped` those of them that
    have nothing: where nobody else was eligible last, any replica may have the most. `prefer_first` moves leadership
    to the first replica where it is in sync, `hand_over` from a drained
    broker to another that is; `allow_unclean` elects any live replica where nobody else is.
    Returns the partition as it is then.
    """
    topic = draft.view.topic(partition.topic_id)
    if topic is None:
        raise InvariantError(f"partition {partition.partition} of unknown topic {partition.topic_id.hex()}")
    rules = draft.rules(topic)
    replicas = partition.replicas
    enough = rules.enough(partition.replication_factor)

    wanted = partition.isr if isr is None else isr
    new_isr = tuple(n for n in replicas if n in wanted and n not in lost and draft.eligible(n, partition))
    roomy = tuple(n for n in new_isr if draft.has_room(n))
    if len(roomy) >= enough and not topic.internal:
        new_isr = roomy
    were_eligible = {*partition.isr, *partition.elr}
    elr = tuple(n for n in replicas if n in were_eligible and n not in new_isr and n not in lost)
    known = {*were_eligible, *partition.last_known_elr}
    last_known = tuple(n for n in replicas if n in known and n not in (*new_isr, *elr, *wiped))
    if not (new_isr or elr or last_known):
        last_known = replicas

    confirmed = recovered or not partition.recovering
    needed = () if len(new_isr) >= enough else (*elr, *last_known)
    then = partition
    if confirmed and may_settle(partition, new_isr, needed, rules):
        then = replace(partition, replicas=partition.target, adding=(), target=())
        enough = rules.enough(then.replication_factor)
        new_isr, elr, last_known = (
            tuple(n for n in then.replicas if n in members) for members in (new_isr, elr, last_known)
        )

    unclean = allow_unclean or rules.unclean_election
    choice = _choose(draft, then, new_isr, elr, last_known, prefer_first, hand_over, unclean)
    if choice.leader != NO_LEADER and choice.leader not in new_isr:
        new_isr = (choice.leader,)
        elr = tuple(n for n in elr if n != choice.leader)
        last_known = tuple(n for n in last_known if n != choice.leader)
    if len(new_isr) >= enough or not choice.clean:
        elr, last_known = (), ()

    change = records.PartitionChangeRecord(topic_id=partition.topic_id, partition=partition.partition)
    if then is not partition:
        _set(change.replicas, then.replicas)
        _set(change.target_replicas, ())
        if partition.adding:
            _set(change.adding_replicas, ())
    if new_isr != partition.isr:
        _set(change.isr, new_isr)
    if elr != partition.elr:
        _set(change.elr, elr)
    if last_known != partition.last_known_elr:
        _set(change.last_known_elr, last_known)
    if choice.leader != partition.leader:
        change.leader = choice.leader
        last_leader = partition.leader if choice.leader == NO_LEADER else NO_LEADER
        if last_leader != partition.last_known_leader:
            change.last_known_leader = last_leader
    recovering = not choice.clean or (partition.recovering and not recovered)
    if recovering != partition.recovering:
        change.recovering = recovering
    if change.ByteSize() == _key_bytes(partition):
        return partition
    change.cause = cause + (f"; {choice.how}" if choice.leader != partition.leader else "")
    if then is not partition:
        change.cause += f"; the move to {_list(then.replicas)} is complete"
    draft.add(records.MetadataRecord(partition_change=change))
    after = draft.view.partition(partition.topic_id, partition.partition)
    if after is None:
        raise InvariantError(f"{topic.name}-{partition.partition} is gone after a change of it")
    check_leaving(topic, partition, after, rules)
    return reconsider(draft, after, cause) if after.target else after  # who leads now may have been waited for


def may_settle(partition: Partition, isr: Collection[int], needed: Collection[int], rules: Rules) -> bool:
    """Whether a move is complete with this ISR, so that its `leaving` may go. `needed`: who may be needed as a leader
    because the ISR is too small. A move to where it began (it was called off, or changes the order only) waits for no
    replica, but that enough are left."""
    target, leaving = set(partition.target), partition.leaving
    if not target or not isr or not set(needed).isdisjoint(leaving):
        return False
    if target == set(partition.original):
        return spare(leaving, isr, rules.enough(len(target)))
    return target <= set(isr)


def spare(leaving: Collection[int], isr: Collection[int], enough: int) -> bool:
    """Whether an ISR is no worse without `leaving`, or still large enough."""
    left = set(isr).difference(leaving)
    return len(left) == len(set(isr)) or len(left) >= enough


def reconsider_all(draft: Draft, node_id: int, cause: str, lost_by_flush: bool = False, wiped: bool = False) -> None:
    """Reconsiders every partition for which `node_id` matters, after its broker changed.

    `lost_by_flush`: its last stop may have lost what was not synced, so only `flush=ack` keeps it eligible. `wiped`:
    it came back with another disk and has nothing.
    """
    for topic in list(draft.view.all_topics()):
        for partition in topic.partitions:
            if node_id not in partition.replicas:
                continue
            may_have_lost = wiped or (lost_by_flush and not draft.rules(topic).flush_ack)
            if node_id in partition.isr or partition.leader in (node_id, NO_LEADER) or may_have_lost:
                reconsider(
                    draft,
                    partition,
                    cause,
                    lost=(node_id,) if may_have_lost else (),
                    wiped=(node_id,) if wiped else (),
                )


def best_log(draft: Draft, partition: Partition, candidates: Collection[int]) -> int:
    """The candidate with the most complete log; of equal or unreported ones the first in the order of the replicas."""
    nothing = LogEnd(-2, -1)
    return max(
        (n for n in partition.replicas if n in candidates),
        key=lambda n: (draft.log_end(n, partition) or nothing, -partition.replicas.index(n)),
    )


def _choose(
    draft: Draft,
    partition: Partition,
    isr: tuple[int, ...],
    elr: tuple[int, ...],
    last_known: tuple[int, ...],
    prefer_first: bool,
    hand_over: bool,
    allow_unclean: bool,
) -> _Choice:
    replicas = partition.replicas
    if prefer_first and replicas[0] in isr and draft.has_room(replicas[0]):
        return _Choice(replicas[0], f"leadership goes to the preferred replica {replicas[0]}")
    others = [n for n in isr if not draft.draining(n)]
    if partition.leader in isr and not (hand_over and others and partition.leader not in others):
        return _Choice(partition.leader, "")
    if isr:
        first = (others or isr)[0]
        return _Choice(first, f"{first} elected from the ISR")
    live = [n for n in replicas if draft.eligible(n, partition)]
    eligible = [n for n in elr if n in live]
    if eligible:
        return _Choice(eligible[0], f"{eligible[0]} elected from the eligible leader replicas")
    if not elr and last_known and all(n in live for n in last_known):
        if len(replicas) == 1:
            return _Choice(live[0], f"{live[0]} elected: there is no other replica", clean=False)
        if all(draft.log_end(n, partition) is not None for n in live):
            # Any live replica may win: in one epoch a longer log contains every shorter one.
            best = best_log(draft, partition, live)
            end = draft.log_end(best, partition)
            if (end is not None and end.log_end_offset > 0) or len(live) == len(replicas):
                back = f"{last_known[0]} is" if len(last_known) == 1 else f"all of {_list(last_known)} are"
                return _Choice(best, f"{back} back, {best} has the most complete log", clean=False)
            # Of those that are back nobody has anything: whoever is away may, and would cut its log down to nothing.
            last_known = tuple(n for n in replicas if n not in live)
    if allow_unclean and live:
        best = best_log(draft, partition, live)
        return _Choice(best, f"UNCLEAN election of {best}, acknowledged records may be lost", clean=False)
    waits_for = elr or last_known
    return _Choice(NO_LEADER, f"no leader until {_list(waits_for)} {'is' if len(waits_for) == 1 else 'are'} back")


def _key_bytes(partition: Partition) -> int:
    """Size of a change that names its partition and nothing else."""
    return records.PartitionChangeRecord(topic_id=partition.topic_id, partition=partition.partition).ByteSize()


def _set(field: records.NodeList, ids: Collection[int]) -> None:
    """Present, also where it is empty."""
    field.ids.extend(ids)
    field.SetInParent()


def _list(ids: Collection[int]) -> str:
    return ", ".join(map(str, ids))

"""Replicas of a node that is gone for long are rebuilt elsewhere (`replica.heal.after.ms`), by moves like any other."""

from typing import Final

from node.controller.state.draft import Draft, PartitionKey
from node.controller.state.features import level_of
from node.controller.state.moves import begin_move, call_off
from node.controller.state.placement import Load, add_followers
from node.metadata.image import (
    GONE_SINCE_METADATA_VERSION,
    NO_LEADER,
    REASSIGNMENT_METADATA_VERSION,
    Partition,
    Topic,
)
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError

AT_ONCE: Final = 50
"""Plans begun in one look: the next one goes on."""


def heal(draft: Draft) -> None:
    """One look, every second or so: begins what is due, and calls off what is needed no longer. A plan of anybody else
    is left alone."""
    since_ms = _gone_since_ms(draft)
    left_alone = draft.soft.left_alone = {
        key: left for key, nodes in draft.soft.left_alone.items() if (left := nodes & since_ms.keys())
    }
    after_ms = draft.cluster_config("replica.heal.after.ms")
    assert isinstance(after_ms, int)
    gone = {n for n, at_ms in since_ms.items() if after_ms and draft.now_ms - at_ms >= after_ms}
    if not (gone or draft.soft.heals) or level_of(draft) < REASSIGNMENT_METADATA_VERSION:
        return
    load = Load.of(draft.view)
    begun, called_off = 0, set[int]()
    heals: dict[PartitionKey, dict[int, int]] = {}
    for topic in list(draft.view.all_topics()):
        for partition in topic.partitions:
            key = (topic.topic_id, partition.partition)
            before = draft.soft.heals.get(key, {})
            instead = _own(partition, before)
            if before and not instead and not partition.target:
                # Complete, or called off by somebody, who is not contradicted.
                called_off |= (kept := before.keys() & set(partition.original))
                left_alone.setdefault(key, set()).update(kept)
            due = gone - left_alone.get(key, set())
            wanted = instead if begun >= AT_ONCE else _instead(draft, partition, instead, due, load)
            target = _target(partition, wanted)
            if target != (partition.target or partition.replicas) and _is_free(partition, instead):
                begun += 1
                if not _change(draft, topic, partition, target, wanted, load):
                    wanted = instead
            if wanted:
                heals[key] = wanted
    draft.soft.heals = heals
    for node_id in sorted(called_off & draft.soft.gone_known):
        # The next controller, which does not know that it was called off, is not to begin it at once.
        _write_down(draft, node_id, draft.now_ms)


def _gone_since_ms(draft: Draft) -> dict[int, int]:
    """Since when brokers are gone. What an earlier controller wrote down counts for this one, once: the clock of the
    cluster may be set meanwhile. What nobody has written down is, so that it outlives this controller."""
    soft, before = draft.soft, draft.soft.gone_since_ms
    gone = [broker for broker in draft.view.brokers.values() if broker.fenced]
    soft.gone_since_ms = since_ms = {b.node_id: before.get(b.node_id, draft.now_ms) for b in gone}
    soft.gone_known &= since_ms.keys()
    offset_ms = draft.clock_offset_ms()
    if offset_ms is None or level_of(draft) < GONE_SINCE_METADATA_VERSION:
        return since_ms
    for broker in gone:
        node_id = broker.node_id
        if node_id in soft.gone_known and broker.fenced_since_ms:
            continue
        if node_id in soft.gone_known:
            since_ms[node_id] = draft.now_ms  # it was back, between two looks
        soft.gone_known.add(node_id)
        if broker.fenced_since_ms:
            since_ms[node_id] = min(since_ms[node_id], broker.fenced_since_ms - offset_ms)
        else:
            _write_down(draft, node_id, since_ms[node_id])
    return since_ms


def _write_down(draft: Draft, node_id: int, since_ms: int) -> None:
    offset_ms = draft.clock_offset_ms()
    if offset_ms is not None:
        change = records.BrokerChangeRecord(
            node_id=node_id,
            broker_epoch=draft.view.brokers[node_id].broker_epoch,
            fenced_since_ms=since_ms + offset_ms,
            cause=f"broker {node_id} is still fenced",
        )
        draft.add(records.MetadataRecord(broker_change=change))


def _own(partition: Partition, instead: dict[int, int]) -> dict[int, int]:
    """Who is replaced by whom, where the partition moves for that reason, and for no other by now."""
    return instead if partition.target and partition.target == _target(partition, instead) else {}


def _is_free(partition: Partition, instead: dict[int, int]) -> bool:
    moves_for_others = partition.target and not instead
    return not moves_for_others and partition.leader != NO_LEADER and not partition.recovering


def _instead(draft: Draft, partition: Partition, before: dict[int, int], gone: set[int], load: Load) -> dict[int, int]:
    """Who is to be replaced by whom. Who is back stays replaced until it is in sync; then it is needed no longer."""
    original = partition.original
    lost = [n for n in original if n in gone or (n in before and n not in partition.isr)]
    wanted = {n: before[n] for n in lost if n in before and before[n] not in gone}
    due = [n for n in lost if n not in wanted]
    takers = [broker for broker in draft.takers() if broker.node_id not in (*original, *wanted.values())]
    kept = tuple(wanted.get(n, n) for n in original if n not in due)
    racks = len(kept) + min(len(due), len(takers))
    if due and takers:
        everybody = [broker for broker in draft.takers() if broker.node_id not in lost]
        new = add_followers(kept, everybody, racks, load)[len(kept) :]
        load.replicas.update(new)
        wanted |= dict(zip(due, new, strict=False))
    return wanted


def _target(partition: Partition, instead: dict[int, int]) -> tuple[int, ...]:
    return tuple(instead.get(n, n) for n in partition.original)


def _change(
    draft: Draft, topic: Topic, partition: Partition, target: tuple[int, ...], instead: dict[int, int], load: Load
) -> bool:
    """Whether the plan is as wanted now."""
    try:
        if not instead:
            call_off(draft, topic, partition, "what was gone is in sync again")
        else:
            lost = ", ".join(map(str, sorted(instead)))
            cause = f"node {lost} is gone for {_gone_s(draft, instead)} s: its replica is rebuilt on "
            cause += ", ".join(str(instead[n]) for n in sorted(instead))
            begin_move(draft, topic, partition, target, cause, load)
    except ApiError:
        return False  # the node that would get it is full: the next look may find another
    return True


def _gone_s(draft: Draft, instead: dict[int, int]) -> int:
    since_ms = [at_ms for n in instead if (at_ms := draft.soft.gone_since_ms.get(n)) is not None]
    return (draft.now_ms - min(since_ms, default=draft.now_ms)) // 1000

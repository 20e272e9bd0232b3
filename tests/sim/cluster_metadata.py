"""What a committed metadata entry may say, judged by what the simulation did to disks and machines."""

from collections.abc import Iterable
from typing import Any

from node.metadata.image import NO_LEADER, UNREGISTERED, is_draining
from ottla.protocol.configs import enough_in_sync, min_isr_set
from tests.sim.cluster_loop import Violation


def came_back(image: Any, before: Any, after: Any, lost_power: bool) -> None:
    """15: a broker that registers a new start. Who may have lost what it had says so, and is eligible nowhere where
    that matters: what was in sync is what it was."""
    wiped = before is not None and before.directory_id != after.directory_id
    if lost_power and not wiped and not after.unclean_stop:
        raise Violation(f"15: node {after.node_id} lost power, its next start does not say so")
    if not (wiped or after.unclean_stop):
        return
    for topic in image.all_topics():
        if not wiped and is_flush_ack(topic):
            continue
        for state in topic.partitions:
            if after.node_id in (*state.isr, *state.elr):
                how = "with another disk" if wiped else "from a loss of power"
                raise Violation(f"15: node {after.node_id} came back {how} and counts in {topic.name}: {state}")


def counts_nowhere(image: Any, node_id: int, lost: Iterable[tuple[bytes, int]]) -> None:
    """15: whose log of a partition was deleted while it was down is neither in sync nor eligible there once it is back:
    others have more."""
    for key in sorted(lost):
        state = image.partition(*key)
        if state is not None and node_id in (*state.isr, *state.elr):
            raise Violation(f"15: node {node_id} came back without its log, and counts in {state}")


def elected_of_last_known(
    name: str, before: Any, after: Any, shadows: dict[int, Any], damaged: set[int], live: set[int]
) -> None:
    """15: where nobody is eligible any more, the most complete log of all leads, once everybody who was eligible last
    is back: of those and of every live replica. (Nothing is written without a leader, so what each has is what it has
    said to have.) Of a damaged disk it is not known here what it still has; a leader's own is as it was opened."""
    if before.leader != NO_LEADER or after.leader == NO_LEADER or not after.recovering:
        return
    others = live & {n for n in after.replicas if (s := shadows.get(n)) is not None and not s.damaged}
    judged = {after.leader, *({*before.last_known_elr, *others} - damaged)}
    ends = {n: (s.epoch, s.end) for n in sorted(judged) if (s := shadows.get(n)) is not None}
    if ends.get(after.leader, (0, 0)) < max(ends.values(), default=(0, 0)):
        raise Violation(f"15: {after.leader} is elected in {name}, the logs end at (epoch, offset) {ends}: {before}")


def enough(image: Any, key: tuple[bytes, int]) -> int:
    """How many must be in sync, as the metadata has it: by the replicas from before a move until that is complete."""
    state = image.partition(*key)
    factor = len(state.replicas) - len(state.adding)
    return enough_in_sync(min_isr_set(image.topics[key[0]].configs, {}), factor)


def who_stays_has_all(
    label: str, end: int, ends: dict[int, int], excused: set[int], wanted: int, before: Any, after: Any
) -> None:
    """33: when replicas leave, those that stay in sync have all that is committed, and are enough."""
    held = {n for n, own_end in ends.items() if own_end >= end}
    if len(held | (excused & set(after.replicas))) < min(wanted, len(after.isr)):
        raise Violation(f"33: of {label} up to {end} only {held} have all: {before} to {after}")


def drained_gets_nothing(was: Any, image: Any, before: Any, after: Any) -> None:
    """38: of a node that was drained and still is."""
    drained = {n for n in image.brokers if is_draining(was, n) and is_draining(image, n)}
    new = set(after.replicas) - set(before.replicas if before is not None else ())
    if drained & new:
        raise Violation(f"38: {sorted(drained & new)} are drained and get a replica: {before} to {after}")
    if before is not None and before.leader != after.leader and after.leader in drained and set(after.isr) - drained:
        raise Violation(f"38: {after.leader} is drained and leads, others could: {before} to {after}")


def left_for_good(was: Any, image: Any, node_id: int) -> None:
    """41: who is taken off the register has nothing, and does not come back with the disk that it had."""
    after = image.brokers.get(node_id)
    if after is None and any(node_id in p.replicas for topic in image.all_topics() for p in topic.partitions):
        raise Violation(f"41: node {node_id} was unregistered, and has replicas")
    gone = was.broker_configs.get(str(node_id), {}).get(UNREGISTERED, "")
    if after is not None and node_id not in was.brokers and after.directory_id.hex() in gone.split(","):
        raise Violation(f"41: node {node_id} was unregistered, and is back with the same disk: {after}")


def is_flush_ack(topic: Any) -> bool:
    return bool(topic.internal or topic.configs.get("flush") == "ack")

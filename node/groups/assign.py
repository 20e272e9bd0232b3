"""How a group's partitions are shared out: `uniform` (sticky, counts differ by at most one) and `range`. Pure."""

from collections.abc import Callable, Mapping
from typing import Final

TopicPartition = tuple[bytes, int]
"""(topic id, partition number)."""

Assignment = dict[str, frozenset[TopicPartition]]
Assignor = Callable[
    [Mapping[str, frozenset[bytes]], Mapping[bytes, int], Mapping[str, frozenset[TopicPartition]]], Assignment
]
"""(topic ids each member wants, partition count per topic, what each member has now) -> what each member shall have."""


def uniform(
    wanted: Mapping[str, frozenset[bytes]],
    counts: Mapping[bytes, int],
    current: Mapping[str, frozenset[TopicPartition]],
) -> Assignment:
    """Keeps what members have, gives the rest to those with the least, then evens out with as few moves as needed.

    Where all members want the same topics, counts differ by at most one and the moves are minimal (KIP-848's uniform
    assignor). Where they want different ones, no single move could make it more even.
    """
    members = sorted(wanted)
    owned: dict[str, set[TopicPartition]] = {}
    taken: set[TopicPartition] = set()
    for member in members:
        kept = {
            tp
            for tp in current.get(member, frozenset())
            if tp[0] in wanted[member] and tp[1] < counts.get(tp[0], 0) and tp not in taken
        }
        owned[member] = kept
        taken |= kept
    subscribers = {topic: [m for m in members if topic in wanted[m]] for topic in sorted(counts)}
    for topic, candidates in subscribers.items():
        for partition in range(counts[topic]) if candidates else ():
            if (topic, partition) not in taken:
                owned[min(candidates, key=lambda m: (len(owned[m]), m))].add((topic, partition))
    while _move_one(members, wanted, owned):
        pass
    return {member: frozenset(partitions) for member, partitions in owned.items()}


def _move_one(
    members: list[str], wanted: Mapping[str, frozenset[bytes]], owned: dict[str, set[TopicPartition]]
) -> bool:
    """Moves one partition from a member with at least two more than the receiver. False: nothing left to even out."""
    by_load = sorted(members, key=lambda m: (len(owned[m]), m))
    for giver in reversed(by_load):
        for taker in by_load:
            if len(owned[giver]) - len(owned[taker]) < 2:
                break
            movable = [tp for tp in owned[giver] if tp[0] in wanted[taker]]
            if movable:
                moved = max(movable)
                owned[giver].remove(moved)
                owned[taker].add(moved)
                return True
    return False


def range_(
    wanted: Mapping[str, frozenset[bytes]],
    counts: Mapping[bytes, int],
    current: Mapping[str, frozenset[TopicPartition]],
) -> Assignment:
    """Per topic, contiguous runs of partitions for the members in order, so that equal numbers meet at one member."""
    owned: dict[str, set[TopicPartition]] = {member: set() for member in sorted(wanted)}
    for topic, count in sorted(counts.items()):
        members = [member for member in owned if topic in wanted[member]]
        start = 0
        for place, member in enumerate(members):
            run = count // len(members) + (place < count % len(members))
            owned[member].update((topic, partition) for partition in range(start, start + run))
            start += run
    return {member: frozenset(partitions) for member, partitions in owned.items()}


ASSIGNORS: Final[Mapping[str, Assignor]] = {"uniform": uniform, "range": range_}

"""What a node can carry, by the file descriptors that its process may have (`ulimit -n`).

A replica takes one for good, a client's connection another. Both are bounded from the start, so that the one kind never
takes the other's, and what a node needs for itself - quorum, peers, what is open for a moment - is there. What is more
than it can carry is refused with a word at once, instead of failing somewhere later.
"""

from typing import Final, NamedTuple

from node import process

OWN: Final = 56
"""Loops, pipes, listeners, the quorum's log, channels to peers: measured 38 with three nodes."""
DESCRIPTORS_MIN: Final = 112
PLENTY: Final = 2**20
"""Where the operating system sets no limit."""


class Capacity(NamedTuple):
    """`peers`: connections to each of the listeners for other nodes. `segments`: closed ones that readers keep open.
    `spares`: see `storage.fs.Spares`."""

    descriptors: int
    partitions: int
    connections: int
    peers: int
    http: int
    segments: int
    spares: int


def capacity(descriptors: int) -> Capacity:
    """Shares `descriptors` out."""
    few = max(6, descriptors // 32)
    http, syncs, peers = min(64, few), min(16, few), few
    segments = max(6, min(512, descriptors // 16))
    spares = max(16, min(64, descriptors // 16))
    rest = descriptors - OWN - http - syncs - peers - segments - spares
    partitions = max(1, rest * 3 // 4)
    # Connections of peers are few in practice; their bound is for whoever is not one.
    return Capacity(descriptors, partitions, max(4, rest - partitions), max(32, peers), http, segments, spares)


def of_process() -> Capacity:
    """What this process can carry."""
    return capacity(min(process.descriptors() or PLENTY, PLENTY))

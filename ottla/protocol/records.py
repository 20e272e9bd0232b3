"""Records inside a plain payload: `walk`, `find` and `cut` as ottla.protocol.walk describes them.

From the C helper where it was built. It is optional: without a compiler `pip install` leaves it out, and the pure twin
does the same, slower.
"""

from typing import Final

from ottla.protocol import walk as twin

RECORDS_MAX: Final = 1 << 19
"""Records in a batch: as many as the smallest ones fill an uncompressed batch of the default max.message.bytes. What a
few KB of compressed bytes may unfold to is a bound of its own: each reader makes an object of each record."""

PLAIN_MAX_BYTES: Final = 32 * 1024 * 1024
"""A batch's payload after decompression: as much as the largest message, so it can be sent on uncompressed."""

STORED_MAX_BYTES: Final = PLAIN_MAX_BYTES + 5 * RECORDS_MAX
"""The largest plain payload of a batch in a log: compaction gives each record an offset delta of its own."""

HELPED: bool
"""Whether the C helper is at work."""

try:
    from ottla.protocol import _walk

    if _walk.VERSION != twin.VERSION:
        raise ImportError(f"_walk {_walk.VERSION} was built from other sources than walk.py {twin.VERSION}")
    walk, find, cut, HELPED = _walk.walk, _walk.find, _walk.cut, True
except ImportError:
    walk, find, cut, HELPED = twin.walk, twin.find, twin.cut, False

__all__ = ["HELPED", "PLAIN_MAX_BYTES", "RECORDS_MAX", "STORED_MAX_BYTES", "cut", "find", "walk"]

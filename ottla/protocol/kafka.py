"""Kafka's records: `walk`, `to_ottla` and `to_kafka` as ottla.protocol.kafka_records describes them.

From the C helper where it was built. It is optional, as that of ottla.protocol.records: without it the pure twin does
the same, slower.
"""

from typing import Final

from ottla.protocol import kafka_records as twin

VERSION: Final = 2
"""Of what the functions take and give: a helper that was built from other sources is not used."""

HELPED: bool
"""Whether the C helper is at work."""

try:
    from ottla.protocol import _kafka

    if _kafka.VERSION != VERSION:
        raise ImportError(f"_kafka {_kafka.VERSION} was built from other sources than {VERSION}")
    walk, to_ottla, to_kafka, HELPED = _kafka.walk, _kafka.to_ottla, _kafka.to_kafka, True
except ImportError:
    walk, to_ottla, to_kafka, HELPED = twin.walk, twin.to_ottla, twin.to_kafka, False

__all__ = ["HELPED", "to_kafka", "to_ottla", "walk"]

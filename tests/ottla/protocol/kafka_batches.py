"""Batches whose payload is Kafka's, as a leader stores them, for tests on both sides of the package."""

from collections.abc import Sequence

from ottla.protocol.batch import PAYLOAD_KAFKA, BatchHeader, encode_batch
from ottla.protocol.kafka_records import to_kafka
from ottla.protocol.payloads import ATTR_KAFKA, kafka_header, repacked
from ottla.v1.record_pb2 import Record, Records


def kept(records: Sequence[Record], header: BatchHeader, packed: bytes | None = None) -> tuple[BatchHeader, bytes]:
    """(header, payload) of a batch at the place that `header` says. `packed`: its records compressed."""
    plain, count = to_kafka(Records(records=records).SerializeToString())
    header = header._replace(attributes=header.attributes | ATTR_KAFKA, record_count=count)
    return repacked(header, plain if packed is None else packed)


def kept_batch(records: Sequence[Record], header: BatchHeader, seed: int, packed: bytes | None = None) -> bytes:
    """As it lies in a log."""
    header, payload = kept(records, header, packed)
    return b"".join(encode_batch(header, seed, payload, PAYLOAD_KAFKA))


def sent(records: Sequence[Record], header: BatchHeader, packed: bytes | None = None) -> tuple[BatchHeader, bytes]:
    """(header for the append, the batch as its client sends it: at offset 0, without an epoch)."""
    header, payload = kept(records, header._replace(base_offset=0), packed)
    size, crc = len(payload), header.payload_crc
    return header, kafka_header(header, size, 0, -1, crc) + payload[61:]

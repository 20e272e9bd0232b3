"""A third of the batches that producers send is stored as if Kafka's clients had sent it: the simulation has no door of
Kafka's, but all that lies behind it - logs, followers, recovery, compaction, producers, readers - has both kinds."""

from collections import Counter
from collections.abc import Callable

from node.broker import door, kafka_codecs
from node.broker.door import Admitted, DoorRules, OnLoop
from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.protocol.batch import PAYLOAD_KAFKA
from ottla.protocol.checksum import crc32c
from ottla.protocol.kafka_records import to_kafka
from ottla.protocol.payloads import ATTR_KAFKA, repacked

Admit = Callable[..., Admitted]


def admit(counts: Counter[str]) -> Admit:
    """In the place of `door.admit`. By the batch's bytes alone, so that one that is sent again is what it was."""

    def admitted(batch: RecordBatchView, rules: DoorRules, now_ms: int, on_loop: OnLoop | None = None) -> Admitted:
        found = door.admit(batch, rules, now_ms, on_loop)
        if crc32c(found.payload) % 3:
            return found
        codec = found.header.codec
        plain, _ = to_kafka(kafka_codecs.unpack(codec, found.payload) if codec else found.payload)
        header = found.header._replace(attributes=found.header.attributes | ATTR_KAFKA)
        header, payload = repacked(header, kafka_codecs.fold(codec, plain))
        counts["batches stored as Kafka's"] += 1
        return Admitted(header, payload, PAYLOAD_KAFKA, rules)

    return admitted

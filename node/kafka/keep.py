"""A producer's batch that is stored as it came, from `KAFKA_METADATA_VERSION` on: its records are walked over, and its
bytes stay, but for the fields of its header that are the broker's (docs/storage-format.md).

The append checks its checksum, so the door does it only where something is wrong: that may have happened on the way.
"""

from typing import Final

from node.broker import door
from node.broker.door import Admitted, DoorRules, Form, OnLoop
from node.broker.kafka_codecs import fold, within
from node.kafka import batch as kafka
from node.kafka.convert import Sent, producer_of
from ottla.protocol import kafka as records
from ottla.protocol import kafka_records
from ottla.protocol.batch import PAYLOAD_KAFKA
from ottla.protocol.errors import ApiError
from ottla.protocol.kafka_codecs import unfold
from ottla.protocol.payloads import ATTR_KAFKA, repacked
from ottla.protocol.walk import Plain
from ottla.v1 import error_pb2 as pb

KAFKA: Final = Form("Kafka's records", records.walk, kafka_records.find)


def on_loop() -> OnLoop:
    """What may be walked over on the loop for one request."""
    return OnLoop() if records.HELPED else OnLoop(records=10_000)


def admit(sent: Sent, rules: DoorRules, now_ms: int, room: OnLoop | None) -> Admitted:
    """A producer's batch as the log keeps it. Raises ApiError; Heavy if there is not so much `room`."""
    try:
        head = kafka.read(sent.data, rules.max_message_bytes)
        try:
            return _admit(sent, head, rules, now_ms, room)
        except (ApiError, kafka.BatchRefused):
            kafka.check_crc(sent.data, head)
            raise
    except kafka.BatchRefused as error:
        raise ApiError(error.code, str(error)) from None


def _admit(sent: Sent, head: kafka.KafkaBatch, rules: DoorRules, now_ms: int, room: OnLoop | None) -> Admitted:
    kafka.check_fields(head, sent.version)
    producer = producer_of(head)
    plain = unfold(head.codec, kafka.records_of(sent.data), within(room))
    base = head.base_timestamp if head.base_timestamp >= 0 else None
    count, *times = door.look(plain, base, 0, rules, now_ms, room, KAFKA)
    if count != head.record_count:
        raise ApiError(
            pb.ERROR_CODE_INVALID_RECORD, f"the batch says that it has {head.record_count} records, it has {count}"
        )
    codec = head.codec if rules.compression_codec is None else rules.compression_codec
    header = door.header_of(codec | ATTR_KAFKA, count, (times[0], times[1]), producer, rules, head.crc)
    payload: Plain = sent.data
    if codec != head.codec:
        kafka.check_crc(sent.data, head)
        if codec and room is not None:
            room.fold(len(plain))
        header, payload = repacked(header, fold(codec, bytes(plain)))
    return Admitted(header, payload, PAYLOAD_KAFKA, rules)

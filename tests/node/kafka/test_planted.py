"""Planted bugs: each of these changes to how Kafka's batches are kept, converted, compacted, found by time and checked
must turn a test red. docs/testing.md lists them."""

from functools import partial

import pytest

import storage.append
import storage.compaction
from ottla.protocol.batch import CorruptBatch
from ottla.protocol.errors import ApiError
from storage.errors import StorageError
from tests.node.broker import test_lookup
from tests.node.kafka import test_handlers, test_keep
from tests.ottla.protocol import test_payloads
from tests.planted import Bug, listed, plant
from tests.storage import test_kinds

KEEP = "node.kafka.keep:_admit"
LOOKUP = "node.broker.lookup"
PAYLOADS = "ottla.protocol.payloads"
COMPACTION = "storage.compaction:CompactionRun._cleaned"
KAFKA = test_lookup.TestOfKafka()

BUGS = [
    Bug(
        "the door takes a header's word for the times of its records",
        KEEP,
        "(times[0], times[1])",
        "(head.base_timestamp, head.max_timestamp)",
        test_keep.test_times_are_those_of_the_records_whatever_the_header_says,
    ),
    Bug(
        "the door takes a header's word for how many records there are",
        KEEP,
        "if count != head.record_count:",
        "if False:",
        test_keep.test_what_is_refused,
    ),
    Bug(
        "a topic's codec is in the header alone",
        KEEP,
        "if codec != head.codec:",
        "if False:",
        partial(test_keep.test_a_topics_own_codec, 1, 4),
    ),
    Bug(
        "what the leader sets leaves the producer's checksum",
        f"{PAYLOADS}:sealed",
        "    if head[KAFKA_CRC_FROM:] != view[KAFKA_CRC_FROM:KAFKA_HEADER_BYTES]:\n",
        "    if False:\n",
        test_kinds.test_log_append_time_is_set_in_both_headers,
    ),
    Bug(
        "a producer's checksum is believed",
        f"{PAYLOADS}:sealed",
        'if crc != int.from_bytes(view[_CRC], "big"):',
        "if False:",
        test_kinds.test_a_kafka_batch_is_stored_as_it_came_but_for_what_the_leader_sets,
    ),
    Bug(
        "rot before what Kafka's checksum covers is not looked for",
        f"{PAYLOADS}:check_payload",
        "if payload[:KAFKA_HEADER_BYTES] != kafka_header(",
        "if False and payload[:KAFKA_HEADER_BYTES] != kafka_header(",
        test_kinds.test_rot_in_a_kafka_batch_is_never_read,
    ),
    Bug(
        "rot in Kafka's records is not looked for",
        f"{PAYLOADS}:check_payload",
        "or crc32c(payload[KAFKA_CRC_FROM:]) != h.payload_crc:",
        "or False:",
        test_payloads.test_every_flipped_bit_is_seen,
    ),
    Bug(
        "what compaction leaves of a batch has the checksum from before",
        COMPACTION,
        "header, made = repacked(header, stored)",
        "_, made = repacked(header, stored)",
        partial(test_kinds.test_compaction_keeps_the_last_value_of_each_key_across_kinds, 0),
    ),
    Bug(
        "compaction frames Kafka's codecs as Ottla's",
        COMPACTION,
        "compress(codec | attributes & ATTR_KAFKA, kept)",
        "compress(codec, kept)",
        partial(test_kinds.test_compaction_keeps_the_last_value_of_each_key_across_kinds, 2),
    ),
    Bug(
        "an emptied batch says that it is compressed",
        COMPACTION,
        "codec = attributes & ATTR_CODEC_MASK if count else 0",
        "codec = attributes & ATTR_CODEC_MASK",
        test_kinds.test_an_emptied_kafka_batch_keeps_its_producers_sequence,
    ),
    Bug(
        "a time is looked for in Kafka's records as if they were Ottla's",
        f"{LOOKUP}:_converted",
        "return as_ottla(header, plain)",
        "return plain",
        partial(KAFKA.test_times_are_found_as_in_ottlas_own, 0),
    ),
    Bug(
        "a time is looked for in what Kafka's clients framed as if it were not",
        f"{LOOKUP}:_converted",
        "unpack(header.codec | ATTR_KAFKA, packed)",
        "unpack(header.codec, packed)",
        partial(KAFKA.test_times_are_found_as_in_ottlas_own, 2),
    ),
    Bug(
        "readers get Kafka's batches whether they know them or not",
        f"{LOOKUP}:readable",
        "known = known and reader.every_kind",
        "pass",
        partial(KAFKA.test_who_knows_them_gets_their_bytes_and_others_get_records, 0),
    ),
    Bug(
        "only the first batch of a slice may be of another kind",
        f"{LOOKUP}:readable",
        "(reader.every_kind or not mixed)",
        "True",
        partial(KAFKA.test_who_knows_them_gets_their_bytes_and_others_get_records, 0),
    ),
    Bug(
        "a converted batch says that it is Kafka's",
        f"{LOOKUP}:_encoded",
        "~(ATTR_CODEC_MASK | ATTR_KIND_MASK)",
        "~ATTR_CODEC_MASK",
        partial(KAFKA.test_who_knows_them_gets_their_bytes_and_others_get_records, 4),
    ),
    Bug(
        "a log that was scanned does not know its kinds",
        "storage.recovery:_Scan._read",
        "self._mixed = self._mixed or bool(header.attributes >> KIND_FROM)",
        "pass",
        partial(test_kinds.test_a_log_knows_after_a_restart_that_it_has_other_kinds, False, False, False),
    ),
    Bug(
        "a conversion is given for another batch at its offset",
        "node.kafka.convert:Converted.get",
        "key = topic_id, partition, header",
        "key = next((key for key in self._kept if key[2].base_offset == header.base_offset), None)",
        test_handlers.test_a_conversion_is_of_one_batch,
    ),
    Bug(
        "what unfolds to much is converted on the loop",
        "node.kafka.convert:to_client",
        "room.convert(len(plain))",
        "pass",
        test_handlers.test_what_is_much_is_converted_in_a_thread,
    ),
]
IMPORTERS = (storage.append, storage.compaction, test_keep, test_lookup, test_payloads)


@pytest.mark.parametrize("bug", BUGS, ids=[bug.what.replace(" ", "-") for bug in BUGS])
def test_a_planted_bug_is_caught(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.caught_by()
    plant(bug, monkeypatch, IMPORTERS)
    with pytest.raises((AssertionError, CorruptBatch, ApiError, StorageError, ValueError, pytest.fail.Exception)):
        bug.caught_by()


def test_every_planted_bug_is_listed_in_the_documentation() -> None:
    assert listed("Kafka's batches") == [bug.what for bug in BUGS]

"""The door: what a producer's batch must be before it may enter the log (docs/protocol.md section 1).

Each payload is looked at once: bounded decompression, one walk over its records, a checksum. Then the producer's bytes
are stored as they are. Whatever the header says is checked or made anew: a log holds nothing that only a client says.

A small request may ask for much work, so that is bounded twice: by what a batch may unfold to at all, and by what is
done on the event loop (`OnLoop`); what needs more raises `Heavy` and is admitted in a thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from node.broker import codecs
from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.protocol import kafka, records
from ottla.protocol.batch import (
    ATTR_CODEC_MASK,
    ATTR_LOG_APPEND_TIME,
    PAYLOAD_COMPRESSED,
    PAYLOAD_RECORDS,
    STORED_OVERHEAD_MAX,
    BatchHeader,
    stored_bytes,
)
from ottla.protocol.checksum import crc32c
from ottla.protocol.errors import ApiError
from ottla.protocol.records import PLAIN_MAX_BYTES, RECORDS_MAX
from ottla.protocol.walk import NO_KEY, WRONG_OFFSET, Malformed, Plain
from ottla.v1 import error_pb2 as pb

_PRODUCER_BITS: Final = ATTR_CODEC_MASK | ATTR_LOG_APPEND_TIME
_INT64_MAX: Final = (1 << 63) - 1
_INT64_MIN: Final = -(1 << 63)
EPOCH_MAX: Final = (1 << 15) - 1
"""The largest producer epoch, Kafka's: a batch can be told to clients that know 16 bits of it."""

LOOP_PLAIN_BYTES: Final = 1024 * 1024
_LOOP_CONVERTED_BYTES: Final = LOOP_PLAIN_BYTES if kafka.HELPED else 64 * 1024
"""Plain bytes of one request whose records are made another kind's on the loop: a header may be two of them, so what is
counted is bytes. At worst it takes 10 ns a byte in C and 0.3 us in Python."""
_LOOP_FREE_BYTES: Final = 64 * 1024
_LOOP_UNFOLDING: Final = 16
_UNFOLDING_BYTES: Final = 128
"""What unfolding costs in any case, in the bytes that it takes as long for: a request may have very many of nothing."""


@dataclass(frozen=True, slots=True)
class DoorRules:
    """The topic configs that decide over a batch. Bytes and ms; `compression_codec` None = as the producer sends it."""

    max_message_bytes: int = 1_048_588
    log_append_time: bool = False
    timestamp_before_max_ms: int = (1 << 63) - 1
    timestamp_after_max_ms: int = 3_600_000
    compression_codec: int | None = None
    keys_required: bool = False


class Admitted(NamedTuple):
    """A batch that may be appended. The header lacks what only the append knows: offset, epoch, size, header CRC."""

    header: BatchHeader
    payload: Plain
    payload_field: int
    rules: DoorRules


class Form(NamedTuple):
    """How records are written: what walks over them."""

    name: str
    walk: Callable[[Plain, int, int, int, bool], tuple[int, int, int, int, list[tuple[int, int]]]]
    find: Callable[[Plain, int, int], tuple[int, int, int, int] | None]


OTTLA: Final = Form("a Records message", records.walk, records.find)


class InvalidRecords(ApiError):
    """A refusal that names the records at fault: (index in the batch, what is wrong with it) (KIP-467)."""

    def __init__(
        self, message: str, record_errors: Sequence[tuple[int, str]], code: int = pb.ERROR_CODE_INVALID_RECORD
    ) -> None:
        super().__init__(code, message)
        self.record_errors = list(record_errors)


class Heavy(Exception):
    """The batch needs more work than there is room for on the loop: admit it in a thread."""


class OnLoop:
    """How much of one request may be looked at on the event loop: plain bytes to be unfolded, records to be walked,
    plain bytes to be converted."""

    __slots__ = ("converted_bytes", "plain_bytes", "records")

    def __init__(
        self, plain_bytes: int = LOOP_PLAIN_BYTES, records: int = 200_000 if records.HELPED else 10_000
    ) -> None:
        self.plain_bytes = plain_bytes
        self.records = records
        self.converted_bytes = _LOOP_CONVERTED_BYTES

    def unfold(self, codec: int, payload: bytes | memoryview) -> memoryview:
        """The plain payload. What unfolds to much more than was sent is not for the loop: it costs its sender little.
        Raises Heavy, ApiError."""
        room = min(self.plain_bytes, _LOOP_FREE_BYTES + _LOOP_UNFOLDING * len(payload))
        plain = codecs.decompress_within(codec, payload, room) if room > 0 else None
        self.plain_bytes -= room if plain is None else max(len(plain), _UNFOLDING_BYTES)
        if plain is None:
            raise Heavy
        return plain

    def fold(self, plain_bytes: int) -> None:
        """Makes sure that so much may be compressed. Raises Heavy."""
        if plain_bytes > self.plain_bytes:
            raise Heavy
        self.plain_bytes -= plain_bytes

    def walked(self, count: int) -> None:
        """Takes note of records. Raises Heavy if there were more than there was room for."""
        if count > self.records:
            raise Heavy
        self.records -= count

    def convert(self, plain_bytes: int) -> None:
        """Makes sure that so much may be converted to records of another kind. Raises Heavy."""
        if plain_bytes > self.converted_bytes:
            raise Heavy
        self.converted_bytes -= plain_bytes


Admit = Callable[[Any, DoorRules, int, OnLoop | None], Admitted]
"""Checks a batch as its producer sent it, in whichever form: (batch, rules, now_ms, on_loop)."""


def admit(batch: RecordBatchView, rules: DoorRules, now_ms: int, on_loop: OnLoop | None = None) -> Admitted:
    """Checks a produced batch. `now_ms` is wall-clock time, `on_loop` None: this is a thread. Without side effects.

    Raises ApiError with what was wrong: INVALID_RECORD, INVALID_TIMESTAMP, MESSAGE_TOO_LARGE, CORRUPT_MESSAGE or
    UNSUPPORTED_COMPRESSION_TYPE; and Heavy, if there is `on_loop`.
    """
    attributes = batch.attributes
    if attributes & ~_PRODUCER_BITS:
        raise _invalid(
            f"attributes {attributes:#x}: a producer may only set a codec (control and transactional bits are refused)"
        )
    codec = attributes & ATTR_CODEC_MASK
    payload, payload_field = _payload(batch, codec)
    check_size(payload_field, len(payload), rules)
    try:
        if codec == 0:
            plain: Plain = payload
        elif on_loop is None:
            plain = codecs.decompress(codec, payload, PLAIN_MAX_BYTES)
        else:
            plain = on_loop.unfold(codec, payload)
        times = batch.base_timestamp or None, batch.max_timestamp
        count, base_timestamp, max_timestamp = look(plain, *times, rules, now_ms, on_loop)
    except ApiError:
        # What is wrong with it may have happened on the way: then it is to be sent again.
        _check_crc(batch, payload)
        raise
    if batch.record_count not in (0, count) or batch.last_offset_delta not in (0, count - 1):
        raise _invalid(
            f"record_count {batch.record_count} and last_offset_delta {batch.last_offset_delta} do not fit the "
            f"{count} records of the payload"
        )
    payload_crc = batch.payload_crc  # checked by the append, which needs the checksum anyway
    if rules.compression_codec is not None and rules.compression_codec != codec:
        _check_crc(batch, payload)
        codec, payload_crc = rules.compression_codec, 0
        if codec:
            if on_loop is not None:
                on_loop.fold(len(plain))
            payload, payload_field = codecs.compress(codec, plain), PAYLOAD_COMPRESSED
        else:
            check_size(PAYLOAD_RECORDS, len(plain), rules)
            payload, payload_field = bytes(plain), PAYLOAD_RECORDS
    header = header_of(codec, count, (base_timestamp, max_timestamp), _producer(batch), rules, payload_crc)
    return Admitted(header, payload, payload_field, rules)


def header_of(
    form: int,
    count: int,
    times: tuple[int, int],
    producer: tuple[int, int, int],
    rules: DoorRules,
    payload_crc: int = 0,
) -> BatchHeader:
    """The header of a batch of so many records, but for what its place in the log gives it. `form`: the attributes that
    say how the payload is written; `times`: base and max, `producer`: id, epoch, base sequence."""
    producer_id, producer_epoch, base_sequence = producer
    return BatchHeader(
        base_offset=0,
        leader_epoch=0,
        record_count=count,
        last_offset_delta=count - 1,
        attributes=form | (ATTR_LOG_APPEND_TIME if rules.log_append_time else 0),
        base_timestamp=times[0],
        max_timestamp=times[1],
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        payload_crc=payload_crc,
    )


def _producer(batch: RecordBatchView) -> tuple[int, int, int]:
    """(producer id, epoch, base sequence); without an id the others mean nothing."""
    producer_id, epoch, sequence = batch.producer_id, batch.producer_epoch, batch.base_sequence
    if producer_id == 0:
        return 0, 0, 0
    if producer_id < 0:
        raise _invalid(f"producer_id {producer_id}: ids start at 1, 0 means none")
    if not 0 <= epoch <= EPOCH_MAX or sequence < 0:
        raise _invalid(
            f"producer_epoch {epoch} must be 0 to {EPOCH_MAX} and base_sequence {sequence} must not be negative"
        )
    return producer_id, epoch, sequence


def check_size(payload_field: int, payload_bytes: int, rules: DoorRules) -> None:
    if payload_bytes + STORED_OVERHEAD_MAX <= rules.max_message_bytes:
        return
    size = stored_bytes(payload_field, payload_bytes)
    if size > rules.max_message_bytes:
        raise ApiError(
            pb.ERROR_CODE_MESSAGE_TOO_LARGE,
            f"the batch has {size} bytes, max.message.bytes of the topic is {rules.max_message_bytes}",
        )


def _check_crc(batch: RecordBatchView, payload: bytes) -> None:
    if batch.payload_crc not in (0, crc32c(payload)):
        raise corrupt(batch.payload_crc, len(payload))


def corrupt(payload_crc: int, payload_bytes: int) -> ApiError:
    return ApiError(
        pb.ERROR_CODE_CORRUPT_MESSAGE,
        f"payload_crc {payload_crc:#010x} is not the checksum of the {payload_bytes} payload bytes that arrived",
    )


def _payload(batch: RecordBatchView, codec: int) -> tuple[bytes, int]:
    kind = batch.WhichOneof("payload")
    if kind == "records":
        if codec:
            raise _invalid(f"attributes name codec {codec}, but the payload is plain records")
        return batch.records, PAYLOAD_RECORDS
    if kind == "compressed_records":
        if not codec:
            raise _invalid("compressed_records needs its codec in attributes")
        return batch.compressed_records, PAYLOAD_COMPRESSED
    if kind is None:
        raise _invalid("the batch has no records")
    raise _invalid(f"a producer may not send a payload of kind {kind}")


def look(
    plain: Plain,
    base: int | None,
    latest_given: int,
    rules: DoorRules,
    now_ms: int,
    on_loop: OnLoop | None,
    form: Form = OTTLA,
) -> tuple[int, int, int]:
    """One walk over the records: (count, base timestamp, max timestamp). `base`, `latest_given`: what the header says
    of the first and the latest time, None and 0 where it says nothing."""
    count_max = RECORDS_MAX if on_loop is None or on_loop.records > RECORDS_MAX else on_loop.records
    try:
        count, lowest, highest, faulty, faults = form.walk(
            plain, count_max, _INT64_MIN, _INT64_MAX, rules.keys_required
        )
    except Malformed as error:
        raise _invalid(f"the {len(plain)} bytes of plain payload are not {form.name}: {error}") from None
    if on_loop is not None:
        on_loop.walked(count)
    if count > RECORDS_MAX:
        raise ApiError(
            pb.ERROR_CODE_MESSAGE_TOO_LARGE,
            f"the batch has more than {RECORDS_MAX} records; send fewer in one batch",
        )
    if not count:
        raise _invalid("the batch has no records")
    if faulty:
        raise _faulty(count, faulty, faults)
    if rules.log_append_time:
        return count, now_ms, now_ms
    if base is None:
        # What only says when its latest record was says when all were. What says nothing is of now.
        base = latest_given - highest if latest_given else now_ms
    earliest = max(0, now_ms - rules.timestamp_before_max_ms)
    latest = min(_INT64_MAX, now_ms + rules.timestamp_after_max_ms)
    if not 0 <= base <= _INT64_MAX:
        raise ApiError(pb.ERROR_CODE_INVALID_TIMESTAMP, f"base_timestamp {base} must not be negative")
    if base + lowest < earliest or base + highest > latest:
        raise _mistimed(plain, base, earliest, latest, rules, now_ms, form)
    return count, base, base + highest


def _faulty(count: int, faulty: int, faults: Sequence[tuple[int, int]]) -> InvalidRecords:
    texts = {
        NO_KEY: "it has no key",
        WRONG_OFFSET: "its offset_delta is not its place in the batch",
    }
    index, kind = faults[0]
    rule = (
        "a compacted topic keeps the last record of each key"
        if kind == NO_KEY
        else "leave offset_delta out: offsets are the leader's"
    )
    return InvalidRecords(
        f"{faulty} of {count} records are refused, the first is number {index}: {texts[kind]}; {rule}",
        [(index, texts[kind]) for index, kind in faults],
    )


def _mistimed(
    plain: Plain, base: int, earliest: int, latest: int, rules: DoorRules, now_ms: int, form: Form
) -> InvalidRecords:
    """Names the records whose time is out of bounds: a second walk, for those who need it."""
    bounds = (max(earliest - base, _INT64_MIN), min(latest - base, _INT64_MAX))
    count, _, _, faulty, faults = form.walk(plain, RECORDS_MAX, *bounds, False)
    first = faults[0][0]
    found = form.find(plain, first, _INT64_MIN)
    at = base + (found[3] if found is not None else 0)
    if at < 0 or at > _INT64_MAX:
        rule = "times are 0 to 2^63 - 1"
    elif at > latest:
        rule = (
            f"that is {at - now_ms} ms ahead of the leader's clock; message.timestamp.after.max.ms is "
            f"{rules.timestamp_after_max_ms}"
        )
    else:
        rule = f"that is {now_ms - at} ms old; message.timestamp.before.max.ms is {rules.timestamp_before_max_ms}"
    return InvalidRecords(
        f"{faulty} of {count} records have a timestamp out of bounds, the first is number {first} of {at} ms: {rule}",
        [(index, "its timestamp is out of bounds") for index, _ in faults],
        pb.ERROR_CODE_INVALID_TIMESTAMP,
    )


def _invalid(message: str) -> ApiError:
    return ApiError(pb.ERROR_CODE_INVALID_RECORD, message)

"""Every decision of a producer, as a plain state machine: what to send where, what an answer means, when to give up.

No I/O, no clock: `now_ms` (monotonic), the rng and metadata are handed in. The shell (producer.py) sends what `poll`
says, and reports answers, lost connections and news of leaders; a simulator can do the same.

Rules (KIP-98, protocol.md section 9):
- A batch gets its sequence when it is first sent and keeps it over every retry: an unknown outcome is cleared up by
  sending the same batch again. At most five batches of a partition are on their way; none is sent before a lower one.
- OUT_OF_ORDER_SEQUENCE_NUMBER is final only for an attempt that was sent as the lowest unacknowledged one. Then it was
  not stored, nor was anything after it, and the partition goes on in a new producer epoch from sequence 0.
- Every attempt names the leader's epoch, and only the leader in that epoch may answer: "out of order" from one that was
  replaced, and has not heard of it, says nothing about what its successor has stored.
- A batch that is too large for its topic is split, where it is certain that nothing of it is stored: its records keep
  their sequences, and what follows keeps its own.
- A new epoch begins only where nothing is on its way and no earlier batch is unresolved, and for one partition alone: a
  failure in one never repeats batches of another (librdkafka 4953).
"""

import logging
from collections.abc import Sequence
from random import Random
from typing import Final

from ottla.client.codecs import codec_named
from ottla.client.encode import BATCH_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, around_value
from ottla.client.errors import DeliveryFailed
from ottla.client.partitioner import StickyPartitioner
from ottla.client.producer_batch import Batch, Delivery
from ottla.client.producer_queue import NO_LEADER, NOT_WRITTEN, Actions, Leader, Queue, Topic, Transmit
from ottla.client.settings import ANSWER_GRACE_MS, LINGER_MS, MAX_IN_FLIGHT, ProducerSettings
from ottla.protocol.errors import ApiError
from ottla.protocol.partitioner import partition_for_key
from ottla.v1 import error_pb2 as pb
from ottla.v1.data_pb2 import ProduceResult

log = logging.getLogger("ottla.producer")

_TOO_LARGE: Final = (pb.ERROR_CODE_MESSAGE_TOO_LARGE, pb.ERROR_CODE_RECORD_LIST_TOO_LARGE)

_SEQUENCE_CODES: Final = (
    pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER,
    pb.ERROR_CODE_INVALID_PRODUCER_EPOCH,
    pb.ERROR_CODE_UNKNOWN_PRODUCER_ID,
)


class ProducerState:
    """All batches of a producer. Calls must come from one thread; times are monotonic ms."""

    def __init__(self, settings: ProducerSettings, rng: Random) -> None:
        self.settings = settings
        self.codec = codec_named(settings.compression_type)
        self.topics: dict[str, Topic] = {}
        self.producer_id = 0
        self.first_epoch = 0
        self.buffer_memory = settings.buffer_memory
        self.batch_size = min(settings.batch_size, settings.max_request_size - BATCH_OVERHEAD_BYTES)
        self.buffered_bytes = 0
        self.flushing = 0
        """While above 0, open batches do not linger."""
        self._rng = rng
        self._next_epochs: dict[str, int] = {}
        self._active: dict[tuple[str, int], Queue] = {}

    # -- records in ------------------------------------------------------------------------------------------------

    def partition_for(self, topic: Topic, key: bytes | None, size_bytes: int) -> int:
        """Where a record goes that names no partition: by its key, else sticky."""
        queues = topic.queues
        if key is not None:
            return partition_for_key(key, len(queues))
        partitioner = topic.partitioner
        if partitioner.stays(size_bytes) and queues[partitioner.partition].leader.node_id is not None:
            return partitioner.partition
        return partitioner.switch(
            size_bytes,
            [queue.leader.node_id is not None for queue in queues],
            [len(queue.in_flight) + len(queue.waiting) for queue in queues],
        )

    def has_room(self, size_bytes: int) -> bool:
        """Whether a record of that size fits into buffer_memory."""
        return self.buffered_bytes + size_bytes <= self.buffer_memory

    def open_batch(self, queue: Queue, size_bytes: int) -> Batch | None:
        """The batch that takes the partition's next record of `size_bytes`, None: a new one must. The caller adds the
        record, and its size to `buffered_bytes`."""
        if queue.waiting:
            batch = queue.waiting[-1]
            if batch.payload is None:
                if batch.size_bytes + size_bytes <= queue.batch_size:
                    return batch
                batch.seal(self.codec)
        return None

    def new_batch(self, queue: Queue, timestamp: int, now_ms: int) -> Batch:
        """A new batch for the partition's next records, the first of them of that time; `poll` must be called."""
        batch = Batch(queue.topic, queue.partition, now_ms, timestamp)
        self.buffered_bytes += BATCH_OVERHEAD_BYTES
        queue.waiting.append(batch)
        self._active[queue.topic, queue.partition] = queue
        return batch

    def add_value(self, topic_name: str, value: bytes, timestamp: int) -> Delivery | None:
        """Takes a record that is a value and no more, if it goes where the last one without key of its topic went, as
        nearly all do. None: it was not taken, and `partition_for` and what follows must decide; here they would decide
        the same, and take twice the time. Written out in one piece because each call costs a record 60 ns."""
        topic = self.topics.get(topic_name)
        if topic is None:
            return None
        partitioner = topic.partitioner
        batch = partitioner.batch
        if batch is None or batch.payload is not None:
            return None
        length = len(value)
        size_bytes = length + RECORD_OVERHEAD_BYTES
        filled, buffered = batch.size_bytes + size_bytes, self.buffered_bytes + size_bytes
        if filled > partitioner.limit or buffered > self.buffer_memory:
            return None
        self.buffered_bytes = buffered
        batch.size_bytes = filled
        prefix, rest = around_value(length, timestamp - batch.base_timestamp)
        batch.parts += (prefix, value, rest)
        timestamps = batch.timestamps
        index = len(timestamps)
        timestamps.append(timestamp)
        return Delivery(batch, index)

    def outstanding(self) -> list[Batch]:
        """Every batch without an outcome."""
        return [batch for queue in self._active.values() for batch in queue.batches()]

    @property
    def buffered_records(self) -> int:
        """How many records have no outcome. Another thread may ask: what changes is copied before it is read."""
        queues = list(self._active.values())
        return sum(batch.count for queue in queues for batch in [*queue.in_flight, *queue.waiting])

    def start_epoch(self, producer_id: int, epoch: int) -> None:
        """The producer's identity, from InitProducerId; batches have waited for it."""
        self.producer_id = producer_id
        self.first_epoch = epoch
        for topic in self.topics.values():
            for queue in topic.queues:
                queue.epoch = epoch

    # -- what to do ------------------------------------------------------------------------------------------------

    def poll(self, now_ms: int) -> Actions:
        """What to send, and what has failed for good because its time is up."""
        actions = Actions()
        for queue in list(self._active.values()):
            self._give_up_on_attempts(queue, now_ms, actions)
            self._expire(queue, now_ms, actions)
            self._begin_epoch(queue)
        if self.settings.idempotent and not self.producer_id and self._active:
            actions.needs_producer_id = True
        else:
            self._fill_requests(now_ms, actions)
        can_send = not actions.needs_producer_id
        linger_ms = self._linger_ms()
        events = (self._next_event_ms(queue, linger_ms, can_send) for queue in self._active.values())
        actions.next_poll_ms = min(
            (at for at in events if at is not None),
            default=None,
        )
        return actions

    def _fill_requests(self, now_ms: int, actions: Actions) -> None:
        requests: dict[int, list[tuple[Transmit, int]]] = {}
        linger_ms = self._linger_ms()
        for queue in list(self._active.values()):
            position = 0
            while (batch := self._take_next(queue, now_ms, linger_ms, actions)) is not None:
                # A request holds one batch of a partition: its n-th batch goes into the leader's n-th request or later.
                leader_id = batch.sent_to or 0
                size = len(batch.payload or b"") + BATCH_OVERHEAD_BYTES
                open_requests = requests.setdefault(leader_id, [])
                while position < len(open_requests) and open_requests[position][1] < size:
                    position += 1
                if position == len(open_requests):
                    open_requests.append((Transmit(leader_id, []), self.settings.max_request_size))
                    actions.transmits.append(open_requests[position][0])
                transmit, room = open_requests[position]
                transmit.batches.append(batch)
                open_requests[position] = (transmit, room - size)
                position += 1

    def _linger_ms(self) -> int:
        """How long an open batch waits for more records, at this moment."""
        if self.flushing:
            return 0
        if self.settings.linger_ms is not None:
            return self.settings.linger_ms
        return LINGER_MS if any(queue.in_flight for queue in self._active.values()) else 0

    def _take_next(self, queue: Queue, now_ms: int, linger_ms: int, actions: Actions) -> Batch | None:
        """Marks the next batch of the partition as sent, if one may be sent now."""
        if queue.leader.node_id is None:
            return None
        for position, batch in enumerate(queue.in_flight):
            if not batch.is_sent:
                if batch.retry_at_ms > now_ms or batch.new_epoch or position >= MAX_IN_FLIGHT:
                    return None
                return self._mark_sent(queue, batch, position == 0, now_ms)
        if len(queue.in_flight) >= MAX_IN_FLIGHT or not queue.waiting:
            return None
        batch = queue.waiting[0]
        if not batch.is_sealed:
            if batch.created_ms + linger_ms > now_ms:
                return None
            batch.seal(self.codec)
        if batch.seal_error is not None:
            actions.completed.append(self._fail(queue, batch, _unsendable(batch, batch.seal_error)))
            return self._take_next(queue, now_ms, linger_ms, actions)
        if queue.next_needs_epoch:
            if queue.in_flight:
                return None
            queue.next_needs_epoch = False
            queue.epoch += 1
            queue.next_sequence = 0
        queue.waiting.popleft()
        self._number(queue, batch)
        queue.in_flight.append(batch)
        return self._mark_sent(queue, batch, len(queue.in_flight) == 1, now_ms)

    def _number(self, queue: Queue, batch: Batch) -> None:
        batch.epoch = queue.epoch
        batch.sequence = queue.next_sequence
        queue.next_sequence = (queue.next_sequence + batch.count) & 0x7FFFFFFF

    def _mark_sent(self, queue: Queue, batch: Batch, lowest: bool, now_ms: int) -> Batch:
        batch.attempt += 1
        batch.sent_to, batch.sent_epoch = queue.leader
        batch.sent_ms = now_ms
        batch.sent_as_lowest = lowest
        return batch

    def _begin_epoch(self, queue: Queue) -> None:
        """Numbers a partition's batches anew, once the first was found not to be stored and none is on its way."""
        in_flight = queue.in_flight
        if in_flight and in_flight[0].new_epoch and not any(batch.is_sent for batch in in_flight):
            queue.epoch += 1
            queue.next_sequence = 0
            for batch in in_flight:
                batch.new_epoch = batch.maybe_written = False
                self._number(queue, batch)

    def _give_up_on_attempts(self, queue: Queue, now_ms: int, actions: Actions) -> None:
        """An answer that is overdue: the outcome is unknown, and the connection is not to be trusted."""
        limit_ms = self.settings.request_timeout_ms + ANSWER_GRACE_MS
        for batch in queue.in_flight:
            if batch.sent_to is not None and now_ms - batch.sent_ms >= limit_ms:
                actions.abandoned.add(batch.sent_to)
                self._unknown(batch, now_ms, back_off=True)

    def _expire(self, queue: Queue, now_ms: int, actions: Actions) -> None:
        timeout_ms = self.settings.delivery_timeout_ms
        while (batch := next(queue.batches(), None)) is not None and now_ms - batch.created_ms >= timeout_ms:
            maybe_written = batch.maybe_written or batch.is_sent
            last = f"; the last answer was: {batch.error}" if batch.error else ""
            fate = "whether it was written is unknown" if maybe_written else "it was not written"
            leader = queue.leader.node_id
            reason = "the partition has no leader" if leader is None else f"its leader is node {leader}"
            refusal = None if maybe_written else batch.error
            error = DeliveryFailed(
                f"{batch.topic}-{batch.partition}: a batch of {batch.count} records was not acknowledged within "
                f"delivery_timeout_ms {timeout_ms} ({reason}); {fate}{last}. Next: look at the partition with "
                f"`ottla topic describe {batch.topic}`",
                # Where it is known not to be stored, why is worth more than that it took too long.
                pb.ERROR_CODE_REQUEST_TIMED_OUT if refusal is None else refusal.code,
                maybe_written=maybe_written,
            )
            actions.completed.append(self._fail(queue, batch, error))

    def _next_event_ms(self, queue: Queue, linger_ms: int, can_send: bool) -> int | None:
        """When time alone may change something for the partition: never a time at which `poll` could do nothing, or the
        caller would ask again and again."""
        first = next(queue.batches(), None)
        if first is None:
            return None
        at = first.created_ms + self.settings.delivery_timeout_ms
        blocked = queue.leader.node_id is None or not can_send
        for position, batch in enumerate(queue.in_flight):
            if batch.is_sent:
                at = min(at, batch.sent_ms + self.settings.request_timeout_ms + ANSWER_GRACE_MS)
            elif not blocked:
                # The first one that waits holds up all behind it, whatever their times are.
                blocked = True
                if not batch.new_epoch and position < MAX_IN_FLIGHT:
                    at = min(at, batch.retry_at_ms)
        blocked = blocked or len(queue.in_flight) >= MAX_IN_FLIGHT or (queue.next_needs_epoch and bool(queue.in_flight))
        if queue.waiting and not blocked:
            batch = queue.waiting[0]
            if not batch.is_sealed and not self.flushing:
                at = min(at, batch.created_ms + linger_ms)
        return at

    # -- what happened ---------------------------------------------------------------------------------------------

    def on_result(self, batch: Batch, attempt: int, result: ProduceResult, now_ms: int) -> list[Batch]:
        """An answer to one attempt. Answers to attempts that were given up on are ignored: a later one decides."""
        queue = self._queue_of(batch, attempt)
        if queue is None:
            return []
        code = result.error.code
        if code in (pb.ERROR_CODE_NONE, pb.ERROR_CODE_DUPLICATE_SEQUENCE_NUMBER):
            batch.base_offset = result.base_offset if code == pb.ERROR_CODE_NONE else -1
            batch.log_append_time_ms = result.log_append_time_ms
            batch.leader_epoch = result.leader_epoch
            batch.receipt = result.receipt
            batch.duplicate = result.duplicate or code != pb.ERROR_CODE_NONE
            return [self._finish(queue, batch)]
        error = ApiError.from_proto(result.error)
        batch.sent_to = None
        if code not in NOT_WRITTEN:
            batch.maybe_written = True
        batch.error = DeliveryFailed(error.message, code, maybe_written=batch.maybe_written, retriable=error.retriable)
        batch.error.record_errors = tuple((e.index, e.message) for e in result.record_errors)
        if self.settings.idempotent and code in _SEQUENCE_CODES:
            return self._sequence_refused(queue, batch, code, now_ms)
        if code in _TOO_LARGE and batch.count > 1 and not batch.maybe_written and self.settings.idempotent:
            return [self._split(queue, batch)]
        if not error.retriable:
            return [self._fail(queue, batch, batch.error)]
        self._learn_leader(queue, error)
        if batch.sent_epoch < queue.leader.epoch:
            batch.retry_at_ms = now_ms
        else:
            self._back_off(batch, now_ms, error.retry_after_ms)
        return []

    def on_unknown(self, batch: Batch, attempt: int, now_ms: int) -> list[Batch]:
        """The connection that carried an attempt is gone, or it could not be sent."""
        queue = self._queue_of(batch, attempt)
        if queue is None:
            return []
        if not self.settings.idempotent:
            error = DeliveryFailed(
                f"{batch.topic}-{batch.partition}: the connection was lost, and acks=0 does not allow a retry. "
                "Next: use acks=1 or all",
                pb.ERROR_CODE_NETWORK_EXCEPTION,
                maybe_written=True,
            )
            return [self._fail(queue, batch, error)]
        self._unknown(batch, now_ms, back_off=True)
        return []

    def on_unsendable(self, batch: Batch, attempt: int, error: Exception) -> list[Batch]:
        """An attempt that could not be encoded, and so never left: no later one could be."""
        queue = self._queue_of(batch, attempt)
        if queue is None:
            return []
        return [self._fail(queue, batch, _unsendable(batch, error))]

    def on_metadata(self, name: str, topic_id: bytes, leaders: Sequence[Leader], now_ms: int) -> None:
        """What the cluster says about a topic that is used. Batches on their way to a former leader are sent again at
        once, to the new one; their first attempt counts as unknown."""
        topic = self.topics.get(name)
        if topic is None:
            topic = Topic(topic_id, [], StickyPartitioner(self.batch_size, self._rng))
            self.topics[name] = topic
        elif topic.topic_id != topic_id:
            self._start_over(topic, topic_id, now_ms)
        while len(topic.queues) < len(leaders):
            epoch = self._next_epochs.get(name, self.first_epoch)
            topic.queues.append(Queue(name, len(topic.queues), topic.partitioner.batch_size, epoch=epoch))
        topic.partitioner.unfollow()
        for queue, leader in zip(topic.queues, leaders, strict=False):
            if leader.epoch > queue.leader.epoch or (leader.epoch == queue.leader.epoch and leader != queue.leader):
                self._set_leader(queue, leader, now_ms)

    def on_topic_deleted(self, name: str) -> list[Batch]:
        """Fails whatever was meant for a topic that is no more."""
        topic = self.topics.pop(name, None)
        if topic is None:
            return []
        # Should the same topic come back, no old sequence may be taken for a new one.
        self._next_epochs[name] = 1 + max((queue.epoch for queue in topic.queues), default=self.first_epoch)
        completed = []
        for queue in topic.queues:
            for batch in list(queue.batches()):
                error = DeliveryFailed(
                    f"topic {name} was deleted. Next: create it again, or stop writing to it",
                    pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION,
                    maybe_written=batch.maybe_written or batch.is_sent,
                )
                completed.append(self._fail(queue, batch, error))
        return completed

    def abort(self, error: DeliveryFailed) -> list[Batch]:
        """Fails everything, for a producer that is closed without waiting."""
        completed = []
        for queue in list(self._active.values()):
            for batch in list(queue.batches()):
                own = DeliveryFailed(error.message, error.code, maybe_written=batch.maybe_written or batch.is_sent)
                completed.append(self._fail(queue, batch, own))
        return completed

    # -- inside ----------------------------------------------------------------------------------------------------

    def _queue_of(self, batch: Batch, attempt: int) -> Queue | None:
        """The partition of a batch that still waits for this attempt."""
        if batch.is_done or batch.attempt != attempt or not batch.is_sent:
            return None
        return self._active[batch.topic, batch.partition]

    def _sequence_refused(self, queue: Queue, batch: Batch, code: int, now_ms: int) -> list[Batch]:
        assert batch.error is not None
        batch.retry_at_ms = now_ms
        if not batch.sent_as_lowest:
            return []  # a lower one was refused or lost: in its turn it gets a verdict
        if code != pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER and batch.maybe_written:
            # The broker forgot the producer, so it can't tell whether an earlier attempt was stored.
            return [self._fail(queue, batch, batch.error)]
        log.warning(
            "%s-%d refused sequence %d of producer %d (%s): earlier records, acknowledged or given up, are not in "
            "its log; going on in a new producer epoch",
            batch.topic,
            batch.partition,
            batch.sequence,
            self.producer_id,
            batch.error.message.partition(". Next:")[0],
        )
        self._back_off(batch, now_ms, 0)
        batch.new_epoch = True
        return []

    def _split(self, queue: Queue, batch: Batch) -> Batch:
        """Puts two halves in the place of a batch that is too large for its topic (KIP-126). Invariant: none of it is
        stored, for every attempt was answered so (`maybe_written`). So the halves keep the sequences of its records:
        the leader waits for just these, and what follows stays valid as it is numbered."""
        batch.error = None
        halves = batch.split(self.codec)
        position = queue.in_flight.index(batch)
        queue.in_flight[position : position + 1] = halves
        self.buffered_bytes += sum(half.size_bytes + BATCH_OVERHEAD_BYTES for half in halves)
        self.buffered_bytes -= batch.size_bytes + BATCH_OVERHEAD_BYTES
        batch.payload = b""
        self.topics[batch.topic].fits(halves[0].size_bytes)
        return batch

    def _learn_leader(self, queue: Queue, error: ApiError) -> None:
        """Takes a newer leader from an error (KIP-951): a retry can go there at once."""
        if error.leader is not None and error.epoch is not None and error.epoch > queue.leader.epoch:
            queue.leader = Leader(error.leader, error.epoch)

    def _set_leader(self, queue: Queue, leader: Leader, now_ms: int) -> None:
        former, queue.leader = queue.leader.node_id, leader
        if leader.node_id == former:
            return
        for batch in queue.in_flight:
            if batch.is_sent:
                if self.settings.idempotent:
                    self._unknown(batch, now_ms, back_off=False)
            else:
                batch.retry_at_ms = now_ms

    def _start_over(self, topic: Topic, topic_id: bytes, now_ms: int) -> None:
        """The topic was deleted and created again: its partitions know nothing of this producer."""
        topic.topic_id = topic_id
        for queue in topic.queues:
            queue.leader = NO_LEADER
            for batch in queue.in_flight:
                batch.sent_to = None
                batch.retry_at_ms = now_ms
            if queue.in_flight:
                queue.in_flight[0].new_epoch = True
            else:
                queue.next_needs_epoch = True

    def _unknown(self, batch: Batch, now_ms: int, *, back_off: bool) -> None:
        batch.sent_to = None
        batch.maybe_written = True
        if back_off:
            self._back_off(batch, now_ms, 0)
        else:
            batch.retry_at_ms = now_ms

    def _back_off(self, batch: Batch, now_ms: int, at_least_ms: int) -> None:
        """Exponential with jitter (KIP-580)."""
        settings = self.settings
        delay = min(settings.retry_backoff_ms * 2 ** min(batch.failures, 16), settings.retry_backoff_max_ms)
        batch.failures += 1
        batch.retry_at_ms = now_ms + max(at_least_ms, round(delay * self._rng.uniform(0.8, 1.2)))

    def _fail(self, queue: Queue, batch: Batch, error: DeliveryFailed) -> Batch:
        """A final failure. What follows in sequence would be refused if this one is certainly missing: it starts a new
        epoch. If this one may have been stored, the next one finds out."""
        batch.error = error
        if batch.sequence >= 0 and (batch.new_epoch or not error.maybe_written):
            position = queue.in_flight.index(batch)
            if position + 1 < len(queue.in_flight):
                queue.in_flight[position + 1].new_epoch = True
            else:
                queue.next_needs_epoch = True
        return self._complete(queue, batch)

    def _finish(self, queue: Queue, batch: Batch) -> Batch:
        batch.error = None
        return self._complete(queue, batch)

    def _complete(self, queue: Queue, batch: Batch) -> Batch:
        batch.is_done = True
        batch.sent_to = None
        batch.payload = b""
        if batch.sequence >= 0:
            queue.in_flight.remove(batch)
        else:
            queue.waiting.remove(batch)
        self.buffered_bytes -= batch.size_bytes + BATCH_OVERHEAD_BYTES
        if not queue.in_flight and not queue.waiting:
            self._active.pop((queue.topic, queue.partition), None)
        return batch


def _unsendable(batch: Batch, error: Exception) -> DeliveryFailed:
    return DeliveryFailed(
        f"{batch.topic}-{batch.partition}: a batch of {batch.count} records can't be encoded: {error!r}. "
        "Next: report this",
        pb.ERROR_CODE_INVALID_RECORD,
        maybe_written=batch.maybe_written,
    )

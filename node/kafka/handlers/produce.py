"""Produce: each batch goes to the log at once, in the order of the requests; the answer follows when acks hold."""

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from node import limits, turns
from node.api.in_flight import InFlight
from node.api.produce import ACKS_NONE, ProduceApi, check_terms, wait_ms
from node.broker.door import Admit, Admitted, Heavy, InvalidRecords, OnLoop
from node.broker.host import Appended
from node.kafka import convert, keep
from node.kafka.connection import Call
from node.kafka.convert import Sent
from node.kafka.handlers.cluster_facts import ClusterFacts, run, unexpected
from node.kafka.handlers.offsets import TRANSACTIONAL_ID_AUTHORIZATION_FAILED
from node.kafka.produce import Leader, Produced, ProduceRequest, ProduceResponse, TopicProduced
from node.kafka.wire import Buffer, Message
from node.metadata.image import FIRST_METADATA_VERSION, KAFKA_METADATA_VERSION, METADATA_VERSION
from node.metrics import Metrics
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

API: Final = "Produce"
LOW, HIGH = 0, 13
"""0 to 2 are advertised because older clients stop compressing without version 0; batches of theirs are refused."""
FIRST_SERVED: Final = 3
IDS: Final = 13
"""From here on topics are named by their ids."""
_RETRIED: Final = frozenset(
    {
        pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS,
        pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED,
        pb.ERROR_CODE_NETWORK_EXCEPTION,
    }
)
"""Retriable, but clients know them from other answers only: they get one that has them try again."""


class _Door(NamedTuple):
    """How batches are taken: how they are checked, and how much of one request on the loop."""

    admit: Admit
    on_loop: Callable[[], OnLoop]


_CONVERTS: Final = _Door(convert.admit, OnLoop)
_KEEPS: Final = _Door(keep.admit, keep.on_loop)


class _Part(NamedTuple):
    """One batch of a request. `slot`: its place among the results."""

    slot: int
    topic: str
    topic_id: bytes
    partition: int
    data: Buffer | None


class _Producing:
    """One request under way: a slot for each of its batches."""

    def __init__(self, request: ProduceRequest, call: Call, facts: ClusterFacts) -> None:
        self.call = call
        self.pause_ms = 0
        self.acks = request.acks
        self.timeout_ms = request.timeout_ms
        self.parts = [
            _Part(slot, topic.name, topic.topic_id if call.version >= IDS else b"", partition, data)
            for slot, (topic, (partition, data)) in enumerate(
                (topic, batch) for topic in request.topics for batch in topic.partitions
            )
        ]
        self._topics = [((topic.name, topic.topic_id), len(topic.partitions)) for topic in request.topics]
        self._facts = facts
        self._results: list[Produced | None] = [None] * len(self.parts)
        self._left = len(self.parts)
        self._failed = False

    def finish_empty(self) -> None:
        if not self.parts:
            self._answer()

    def finish(self, slot: int, result: Produced) -> None:
        if self._results[slot] is not None:
            return
        self._results[slot] = result
        self._failed = self._failed or result.error_code != 0
        self._left -= 1
        if not self._left:
            self._answer()

    def _answer(self) -> None:
        if self.acks == ACKS_NONE:
            if self._failed:
                # There is no answer that could say it, and the client is to look for the leader anew.
                self.call.connection.refuse("a request with acks=0 failed", self.call.client_id)
            else:
                self.call.no_answer()
            return
        results = iter(result for result in self._results if result is not None)
        topics = [TopicProduced(*at, [next(results) for _ in range(count)]) for at, count in self._topics]
        leaders = {r.current_leader.leader_id for r in self._results if r is not None and r.current_leader is not None}
        self.call.answer(ProduceResponse(topics, self.pause_ms, self._facts.endpoints_of(leaders, self.call)))


class ProduceHandler:
    def __init__(self, api: ProduceApi, facts: ClusterFacts, in_flight: InFlight, metrics: Metrics) -> None:
        self._api = api
        self._facts = facts
        self._in_flight = in_flight
        self._metrics = metrics

    @property
    def _door(self) -> _Door:
        """By the level of the cluster, which never goes back; what was checked at a lower one may still be appended."""
        level = self._facts.view.image.features.get(METADATA_VERSION, FIRST_METADATA_VERSION)
        return _KEEPS if level >= KAFKA_METADATA_VERSION else _CONVERTS

    def __call__(self, request: Message, call: Call) -> None:
        assert isinstance(request, ProduceRequest)
        producing = _Producing(request, call, self._facts)
        throttle = self._facts.view.throttle
        if throttle.on and (pause_ms := throttle.produced(call.client_id or "", call.size_bytes)):
            producing.pause_ms = pause_ms
            call.connection.mute(pause_ms)
        refusal = _refusal(request, call.version)
        if refusal is not None:
            for part in producing.parts:
                self._fail(producing, part, refusal)
        else:
            on_loop = self._door.on_loop()
            for index, part in enumerate(producing.parts):
                if index == limits.AT_ONCE:
                    self._later(producing, index)
                    break
                try:
                    self._start(producing, part, on_loop)
                except Heavy:
                    self._later(producing, index)
                    break
        producing.finish_empty()

    def _start(self, producing: _Producing, part: _Part, on_loop: OnLoop, admitted: Admitted | None = None) -> None:
        """Appends one batch. Raises Heavy."""
        api = self._api
        try:
            topic, partition = api.writable(part.topic, part.topic_id, part.partition)
            if part.data is None:
                raise ApiError(pb.ERROR_CODE_INVALID_RECORD, f"no batch is given for {topic.name}-{part.partition}")
            if api.leader_of(topic, partition) != self._facts.view.node_id:
                raise self._facts.view.not_leader(topic, partition)
            appended = api.append(
                topic.topic_id,
                part.partition,
                Sent(part.data, producing.call.version),
                self._door.admit,
                acks=producing.acks,
                current_leader_epoch=None,
                on_loop=on_loop,
                admitted=admitted,
            )
        except ApiError as error:
            self._fail(producing, part, error)
        except Heavy:
            raise
        except Exception as error:
            self._fail(producing, part, unexpected(API, error))
        else:
            done = partial(self._acknowledged, producing, part, appended)
            api.when_acknowledged(appended, wait_ms(producing.timeout_ms), done)

    def _later(self, producing: _Producing, index: int) -> None:
        """What is too much for one turn of the loop, or for the loop at all; what follows waits, so that the order
        stays that of the log."""
        call = producing.call
        rest = [part._replace(data=part.data and bytes(part.data)) for part in producing.parts[index:]]
        size = sum(len(part.data) for part in rest if part.data)
        try:
            self._in_flight.check(size)
        except ApiError as error:
            for part in rest:
                self._fail(producing, part, error)
            return
        self._in_flight.take(size)
        call.hold()
        run(API, call, self._rest(producing, rest, size))

    async def _rest(self, producing: _Producing, rest: list[_Part], size: int) -> None:
        try:
            for part in rest:
                await turns.give_way()
                await self._heavy(producing, part)
        finally:
            self._in_flight.give(size)
            producing.call.release()

    async def _heavy(self, producing: _Producing, part: _Part) -> None:
        admitted: Admitted | None = None
        while True:
            try:
                self._start(producing, part, self._door.on_loop(), admitted)
                return
            except Heavy:
                assert part.data is not None
            try:
                topic, _ = self._api.writable(part.topic, part.topic_id, part.partition)
                sent = Sent(part.data, producing.call.version)
                admitted = await self._api.admit(topic.topic_id, part.partition, sent, self._door.admit)
            except ApiError as error:
                self._fail(producing, part, error)
                return
            except Exception as error:
                self._fail(producing, part, unexpected(API, error))
                return

    def _acknowledged(self, producing: _Producing, part: _Part, appended: Appended, error: Exception | None) -> None:
        if error is None:
            producing.finish(
                part.slot,
                Produced(
                    part.partition, 0, appended.base_offset, appended.log_append_time_ms, appended.log_start_offset
                ),
            )
        else:
            self._fail(producing, part, error if isinstance(error, ApiError) else unexpected(API, error))

    def _fail(self, producing: _Producing, part: _Part, error: ApiError) -> None:
        self._metrics.refused(f"Kafka{API}", error.code)
        leader: Leader | None = self._facts.leader_of(error)
        producing.finish(
            part.slot,
            Produced(
                part.partition,
                pb.ERROR_CODE_LEADER_NOT_AVAILABLE if error.code in _RETRIED else error.code,
                log_start_offset=-1
                if error.code == pb.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED
                else self._api.log_start(part.topic, part.topic_id, part.partition),
                record_errors=error.record_errors if isinstance(error, InvalidRecords) else (),
                error_message=error.message,
                current_leader=leader,
            ),
        )


def _refusal(request: ProduceRequest, version: int) -> ApiError | None:
    """Of a request as a whole."""
    if version < FIRST_SERVED:
        return ApiError(
            pb.ERROR_CODE_UNSUPPORTED_VERSION, f"Produce version {version} has a format of records that is not taken"
        )
    if request.transactional_id is not None:
        return ApiError(TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactions are not served: produce without an id")
    try:
        check_terms(request.acks, request.timeout_ms)
    except ApiError as error:
        return error
    return None

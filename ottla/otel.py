"""OpenTelemetry's traces through records (`pip install 'ottla[otel]'`), by its conventions for messaging.

    producer = instrument(Producer("host:9192"))    # a span for each send, whose traceparent goes with the record
    async for record in consumer:
        with process(record, group="billing"):      # a span in the trace of whoever wrote the record
            ...

Nothing of it is in the way of who does not use it: a producer that is not instrumented has no line of this to pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from ottla.client import arguments
from ottla.client.errors import ConfigError, DeliveryFailed, OttlaError
from ottla.client.producer import Producer
from ottla.client.producer_batch import Delivery
from ottla.client.records import ConsumerRecord, Headers

__all__ = ["instrument", "process"]

_SYSTEM: Final = "ottla"
P = TypeVar("P")


def instrument(producer: P, *, tracer_provider: Any = None) -> P:
    """Makes a span of each `send` of a producer, `ottla.Producer` or `ottla.sync.Producer`; answers the same producer.

    A span is a child of the one that is current, begins with the call and ends when the record is acknowledged or has
    failed; its context goes with the record, by the propagator that is set (W3C's traceparent by default), in place of
    a header of that name. `tracer_provider` is the global one if not given. Raises ConfigError.
    """
    trace, propagate = _api()
    inner: Any = getattr(producer, "_inner", producer)
    if not isinstance(inner, Producer):
        raise ConfigError(f"{arguments.shown(producer)} is no producer but {type(producer).__name__}")
    if "send" in vars(inner):
        raise ConfigError("this producer is instrumented already")
    tracer = _tracer(trace, tracer_provider)
    plain = inner.send
    client_id = inner.settings.client_id

    async def send(
        topic: str,
        value: Any,
        *,
        key: Any = None,
        headers: Headers = (),
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Delivery:
        about = _about("send", "send", topic) | {"messaging.client.id": client_id}
        if isinstance(value, bytes):
            about["messaging.message.body.size"] = len(value)
        elif value is None:
            about["messaging.kafka.message.tombstone"] = True
        span = tracer.start_span(f"send {topic}", kind=trace.SpanKind.PRODUCER, attributes=about)
        try:
            carrier: dict[str, str] = {}
            propagate.inject(carrier, trace.set_span_in_context(span))
            own = [pair for pair in arguments.header_pairs(headers) if pair[0] not in carrier]
            all_headers: Any = [*own, *((name, text.encode()) for name, text in carrier.items())]
            delivery: Delivery = await plain(
                topic, value, key=key, headers=all_headers, partition=partition, timestamp=timestamp
            )
        except BaseException as error:
            _failed(trace, span, error)
            span.end()
            raise
        if span.is_recording():
            _end_when_done(trace, span, delivery)
        else:
            span.end()
        return delivery

    inner.send = send  # type: ignore[method-assign]
    return producer


def _end_when_done(trace: Any, span: Any, delivery: Delivery) -> None:
    """A batch that is split has several outcomes; the record's is that of the part that has it."""
    batch, index = delivery._now(), delivery._index

    def look(_: object) -> None:
        _end_when_done(trace, span, delivery)

    if not batch.is_done:
        batch.outcome().add_done_callback(look)
        return
    if batch.error is not None:
        _failed(trace, span, batch.error)
    else:
        span.set_attribute("messaging.destination.partition.id", str(batch.partition))
        if batch.base_offset >= 0:
            span.set_attribute("messaging.kafka.offset", batch.base_offset + index)
    span.end()


@contextmanager
def process(
    what: ConsumerRecord | Sequence[ConsumerRecord], *, group: str | None = None, tracer_provider: Any = None
) -> Iterator[Any]:
    """A span for the work on a record, or on a list of them as `Consumer.batches` gives it; it is current inside of
    the `with` block, which gets it.

    That of a record is in the trace of whoever wrote it, if the record's headers name one; that of a list, of which
    each record may have its own, stays in the current trace. Both link to where records come from. What the block
    raises is recorded. `group` is the consumer's. `tracer_provider` is the global one if not given.
    """
    trace, propagate = _api()
    records = [what] if isinstance(what, ConsumerRecord) else list(what)
    if not records or not all(isinstance(record, ConsumerRecord) for record in records):
        raise ConfigError(f"{arguments.shown(what)} is neither a record nor a list of them")
    first = records[0]
    about = _about("process", "process", first.topic) | {"messaging.destination.partition.id": str(first.partition)}
    if group is not None:
        about["messaging.consumer.group.name"] = group
    if isinstance(what, ConsumerRecord):
        about["messaging.kafka.offset"] = first.offset
        if first.value is None:
            about["messaging.kafka.message.tombstone"] = True
    else:
        about["messaging.batch.message_count"] = len(records)
    contexts = [propagate.extract(_carrier(record)) for record in records]
    came_from = [trace.get_current_span(context).get_span_context() for context in contexts]
    known = [came for came in came_from if came.is_valid and came.is_remote]
    parent = contexts[0] if isinstance(what, ConsumerRecord) and known else None
    with _tracer(trace, tracer_provider).start_as_current_span(
        f"process {first.topic}",
        context=parent,
        kind=trace.SpanKind.CONSUMER,
        attributes=about,
        links=[trace.Link(came) for came in known],
    ) as span:
        try:
            yield span
        except Exception as error:
            span.set_attribute("error.type", _type_of(error))
            raise


def _carrier(record: ConsumerRecord) -> dict[str, str]:
    """The first header of each name, as text."""
    found: dict[str, str] = {}
    for name, value in record.headers:
        if value is not None:
            found.setdefault(name, value.decode("utf-8", "replace"))
    return found


def _about(name: str, kind: str, topic: object) -> dict[str, Any]:
    return {
        "messaging.system": _SYSTEM,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": str(topic),
    }


def _failed(trace: Any, span: Any, error: BaseException) -> None:
    span.set_attribute("error.type", _type_of(error))
    if isinstance(error, DeliveryFailed):
        span.set_attribute("ottla.maybe_written", error.maybe_written)
    span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))


def _type_of(error: BaseException) -> str:
    return error.name if isinstance(error, OttlaError) else type(error).__qualname__


def _tracer(trace: Any, provider: Any) -> Any:
    return trace.get_tracer("ottla", _version(), provider)


def _version() -> str:
    import ottla

    return ottla.__version__


def _api() -> tuple[Any, Any]:
    try:
        from opentelemetry import propagate, trace
    except ImportError:
        raise ConfigError(
            "opentelemetry-api, which traces are made with, is not installed. Next: `pip install 'ottla[otel]'`"
        ) from None
    return trace, propagate

"""Metrics and traces of the client, with real nodes' data planes: what is counted is what happened."""

import asyncio
import contextlib
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import messaging_attributes as conventions
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry, generate_latest

import ottla.sync
from ottla import Client, ConfigError, Consumer, ConsumerRecord, DeliveryFailed, DeserializationFailed, Producer
from ottla.client.metrics import LATENCY_BOUNDS_MS
from ottla.otel import instrument, process
from ottla.prometheus import ClientCollector
from ottla.serializers import from_json
from tests.node.services.planes import Planes


@pytest.fixture
def provider() -> TracerProvider:
    made = TracerProvider()
    made.exporter = InMemorySpanExporter()  # type: ignore[attr-defined]
    made.add_span_processor(SimpleSpanProcessor(made.exporter))  # type: ignore[attr-defined]
    return made


async def test_metrics_count_what_happened_and_spans_end_with_it(
    planes: Planes, client: Client, provider: TracerProvider
) -> None:
    planes.create_topic("counted", [1, 2], max_message_bytes="100000")
    async with Producer(client, retry_backoff_ms=1) as producer:
        instrument(producer, tracer_provider=provider)
        for number in range(20):
            await producer.send("counted", b'{"n": %d}' % number, partition=number % 2)
        assert producer.metrics().buffered_records + producer.metrics().records_acknowledged == 20
        await producer.flush()
        big = [await producer.send("counted", b"x" * 60_000, partition=0) for _ in range(2)]  # a batch that is split
        for delivery in big:
            await delivery
        with pytest.raises(DeliveryFailed):
            await producer.send_and_wait("counted", b"x" * 200_000, partition=1)
    wrote = producer.metrics()
    assert (wrote.records_acknowledged, wrote.failures) == (22, {"MESSAGE_TOO_LARGE": 1})
    assert (wrote.records_failed, wrote.buffered_records, wrote.buffered_bytes) == (1, 0, 0)
    assert wrote.batches_acknowledged >= 4
    assert sum(wrote.latency_records) == 22
    assert len(wrote.latency_records) == len(LATENCY_BOUNDS_MS) + 1

    spans = provider.exporter.get_finished_spans()  # type: ignore[attr-defined]
    of_first = [
        span.attributes for span in spans if span.attributes.get(conventions.MESSAGING_DESTINATION_PARTITION_ID) == "0"
    ]
    assert sorted(about[conventions.MESSAGING_KAFKA_OFFSET] for about in of_first) == list(range(12))
    (failed,) = (span for span in spans if span.status.status_code is StatusCode.ERROR)
    assert failed.attributes["error.type"] == "MESSAGE_TOO_LARGE"
    assert failed.attributes["ottla.maybe_written"] is False

    async with Consumer("counted", bootstrap=client, value_deserializer=from_json) as consumer:
        taken = [await anext(consumer), *await consumer.poll(max_records=4)]
        while len(taken) < 20:
            with contextlib.suppress(DeserializationFailed):  # partition 0 may come to its end first
                taken += await consumer.poll(max_records=20 - len(taken))
            await asyncio.sleep(0)
        with pytest.raises(DeserializationFailed):
            await anext(consumer)
        read = consumer.metrics()
        assert (read.records_consumed, read.deserialization_failures, len(taken)) == (20, 1, 20)
        assert read.lag == {("counted", 0): 2, ("counted", 1): 0}
        assert (read.commits, read.rebalances) == (0, 0)
        assert read.bytes_fetched > 120_000
        assert read.fetches > 1

        registry = CollectorRegistry()
        registry.register(ClientCollector(orders=producer, billing=consumer))
        text = generate_latest(registry).decode()
    for line in (
        'ottla_producer_records_acknowledged_total{client="orders"} 22.0',
        'ottla_producer_records_failed_total{client="orders",error="MESSAGE_TOO_LARGE"} 1.0',
        'ottla_producer_acknowledge_seconds_count{client="orders"} 22.0',
        'ottla_producer_acknowledge_seconds_bucket{client="orders",le="+Inf"} 22.0',
        'ottla_consumer_records_consumed_total{client="billing"} 20.0',
        'ottla_consumer_lag_records{client="billing",partition="0",topic="counted"} 2.0',
    ):
        assert line in text.splitlines()
    assert ottla.sync.Producer("127.0.0.1:1").metrics().records_acknowledged == 0
    with pytest.raises(ConfigError, match="admin is neither"):
        ClientCollector(admin=client)  # type: ignore[arg-type]


async def test_a_trace_goes_through_a_record(planes: Planes, client: Client, provider: TracerProvider) -> None:
    planes.create_topic("traced", [1])
    tracer = provider.get_tracer("test")
    async with Producer(client, client_id="me") as producer:
        assert instrument(producer, tracer_provider=provider) is producer
        with pytest.raises(ConfigError, match="already"):
            instrument(producer)
        with tracer.start_as_current_span("request") as request:
            stale = [("traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"), ("mine", b"kept")]
            await producer.send_and_wait("traced", b"value", headers=stale)
            await producer.send_and_wait("traced", None, key=b"k")
        with pytest.raises(ConfigError):
            await producer.send("traced", b"x", headers=7)  # type: ignore[arg-type]
    async with Consumer("traced", bootstrap=client) as consumer:
        first, second = await anext(consumer), await anext(consumer)
    with (
        process(first, group="g", tracer_provider=provider),
        pytest.raises(ZeroDivisionError),
        process([first, second], tracer_provider=provider),
    ):
        1 / 0  # noqa: B018
    with process(ConsumerRecord("t", 0, 0, 0, None, None, (("traceparent", b"\xff"),), 0), tracer_provider=provider):
        pass

    sent, tombstone, refused, outer, many, one, alone = sorted(
        provider.exporter.get_finished_spans(),  # type: ignore[attr-defined]
        key=lambda span: (span.name != "send traced", span.name == "process t", span.end_time),
    )
    assert [name for name, _ in first.headers] == ["mine", "traceparent"]
    assert outer.context == request.get_span_context()
    assert sent.parent.span_id == tombstone.parent.span_id == outer.context.span_id
    assert sent.kind is SpanKind.PRODUCER
    assert dict(sent.attributes) == {
        conventions.MESSAGING_SYSTEM: "ottla",
        conventions.MESSAGING_OPERATION_NAME: "send",
        conventions.MESSAGING_OPERATION_TYPE: "send",
        conventions.MESSAGING_DESTINATION_NAME: "traced",
        conventions.MESSAGING_CLIENT_ID: "me",
        conventions.MESSAGING_MESSAGE_BODY_SIZE: 5,
        conventions.MESSAGING_DESTINATION_PARTITION_ID: "0",
        conventions.MESSAGING_KAFKA_OFFSET: 0,
    }
    assert tombstone.attributes[conventions.MESSAGING_KAFKA_MESSAGE_TOMBSTONE] is True
    assert (refused.status.status_code, refused.attributes["error.type"]) == (StatusCode.ERROR, "INVALID_CONFIG")
    assert one.context.trace_id == sent.context.trace_id
    assert one.parent.span_id == sent.context.span_id
    assert one.kind is SpanKind.CONSUMER
    assert one.attributes[conventions.MESSAGING_CONSUMER_GROUP_NAME] == "g"
    assert one.attributes[conventions.MESSAGING_KAFKA_OFFSET] == 0
    assert many.parent.span_id == one.context.span_id
    assert [link.context.span_id for link in many.links] == [sent.context.span_id, tombstone.context.span_id]
    assert many.attributes[conventions.MESSAGING_BATCH_MESSAGE_COUNT] == 2
    assert (many.status.status_code, many.attributes["error.type"]) == (StatusCode.ERROR, "ZeroDivisionError")
    assert (alone.parent, list(alone.links)) == (None, [])
    assert trace.get_current_span().get_span_context().is_valid is False


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from ottla.registry import AvroDeserializer, JsonSchemaDeserializer, SchemaRegistry

    for module in ("opentelemetry", "prometheus_client", "fastavro", "jsonschema"):
        monkeypatch.setitem(sys.modules, module, None)
    registry = SchemaRegistry("http://127.0.0.1:1")
    for extra, call in (
        ("otel", lambda: instrument(Producer("127.0.0.1:1"))),
        ("prometheus", ClientCollector),
        ("avro", lambda: AvroDeserializer(registry)),
        ("jsonschema", lambda: JsonSchemaDeserializer(registry)),
    ):
        with pytest.raises(ConfigError, match=rf"pip install 'ottla\[{extra}\]'"):
            call()

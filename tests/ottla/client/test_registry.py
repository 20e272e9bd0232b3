"""Serializers with a schema registry, over real HTTP, held against those of confluent-kafka: each reads what the other
writes, and both write the same bytes."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema as TheirSchema
from confluent_kafka.schema_registry import SchemaReference, SchemaRegistryClient, avro, json_schema, protobuf
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from pydantic import BaseModel

from ottla import Client, ConfigError, Consumer, DeserializationFailed, Producer, SchemaRegistryError
from ottla.registry import (
    AvroDeserializer,
    AvroSerializer,
    JsonSchemaDeserializer,
    JsonSchemaSerializer,
    ProtobufDeserializer,
    ProtobufSerializer,
    Reference,
    Schema,
    SchemaRegistry,
    record_subject_name_strategy,
    topic_record_subject_name_strategy,
)
from ottla.secure.issue import Authority, asked_client, asked_node
from ottla.v1.data_pb2 import ProduceResult
from tests.node.services.planes import Planes
from tests.ottla.client.registries import Store, running

ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [{"name": "number", "type": "int"}, {"name": "note", "type": ["null", "string"], "default": None}],
}
ORDER_JSON = {"title": "Order", "type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
VALUE, KEY = (SerializationContext("orders", field) for field in (MessageField.VALUE, MessageField.KEY))


def _shop() -> descriptor_pool.DescriptorPool:
    """shop.proto, with a first message, a second one, and one in that."""
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    sale, order = file.message_type.add(name="Sale"), file.message_type.add(name="Order")
    for message in (sale, order, order.nested_type.add(name="Item"), order.nested_type.add(name="Line")):
        message.field.add(name="number", number=1, type=5, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


SHOP = _shop()


def message_named(name: str) -> Any:
    return message_factory.GetMessageClass(SHOP.FindMessageTypeByName(name))


class Order(BaseModel):
    number: int
    note: str | None = None


@dataclass
class Counted:
    number: int


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may have one; what is on loopback is not for it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Store]]:
    with running() as made:
        yield made


@pytest.fixture
def store(server: tuple[str, Store]) -> Store:
    """Empty, and well-behaved."""
    _, store = server
    store.user, store.refuses, store.garbage, store.incompatible = "", [], b"", False
    store.schemas.clear()
    store.subjects.clear()
    store.asked.clear()
    store.reached.clear()
    return store


@pytest.fixture
def registry(server: tuple[str, Store], store: Store) -> SchemaRegistry:
    return SchemaRegistry(server[0])


@pytest.fixture
def theirs(server: tuple[str, Store], store: Store) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": server[0]})


# -- the same bytes ----------------------------------------------------------------------------------------------------


def test_avro_is_what_confluents_serializers_write_and_read(
    registry: SchemaRegistry, theirs: SchemaRegistryClient, store: Store
) -> None:
    text = '{"type": "record", "name": "Order", "fields": [{"name": "number", "type": "int"}]}'
    ours, other = AvroSerializer(registry, text), avro.AvroSerializer(theirs, text)
    written = ours.serialize({"number": 3}, "orders", "value")
    assert written == other({"number": 3}, VALUE) == b"\0\0\0\0\1\6"
    assert ours.serialize({"number": 3}, "orders", "key") == other({"number": 3}, KEY)
    assert set(store.subjects) == {"orders-value", "orders-key"}
    assert AvroDeserializer(registry)(other({"number": 4}, VALUE)) == {"number": 4}
    assert avro.AvroDeserializer(theirs)(written, VALUE) == {"number": 3}


def test_json_is_what_confluents_serializers_write_and_read(
    registry: SchemaRegistry, theirs: SchemaRegistryClient
) -> None:
    ours = JsonSchemaSerializer(registry, ORDER_JSON)
    written = ours.serialize({"number": 3}, "orders", "value")
    text = registry.latest("orders-value").schema.text
    other = json_schema.JSONSerializer(text, theirs)({"number": 3}, VALUE)
    assert written[:5] == other[:5] == b"\0\0\0\0\1"
    assert JsonSchemaDeserializer(registry)(other) == {"number": 3}
    assert json_schema.JSONDeserializer(text, schema_registry_client=theirs)(written, VALUE) == {"number": 3}


@pytest.mark.parametrize(
    "message",
    [
        ProduceResult(topic="t", partition=7),  # its file imports others of ours
        message_named("shop.Sale")(number=3),  # a file's first
        message_named("shop.Order")(number=3),
        message_named("shop.Order.Line")(number=3),
    ],
    ids=lambda message: message.DESCRIPTOR.name,
)
def test_protobuf_is_what_confluents_serializers_write_and_read(
    message: Any, registry: SchemaRegistry, theirs: SchemaRegistryClient, store: Store
) -> None:
    written = ProtobufSerializer(registry, type(message)).serialize(message, "orders", "value")
    registered = dict(store.subjects)
    conf = {"use.deprecated.format": False}
    other = protobuf.ProtobufSerializer(type(message), theirs, conf)(message, VALUE)
    assert written == other
    assert store.subjects == registered  # the imported files, too, and with the same texts
    assert ProtobufDeserializer(type(message))(other) == message
    assert protobuf.ProtobufDeserializer(type(message), conf, theirs)(written, VALUE) == message


def test_types_of_other_subjects(registry: SchemaRegistry, theirs: SchemaRegistryClient) -> None:
    registry.register("order", Schema(avro_text := '{"type":"record","name":"shop.Order","fields":[]}', "AVRO"))
    schema = '{"type": "record", "name": "Sale", "fields": [{"name": "of", "type": "shop.Order"}]}'
    ours = AvroSerializer(registry, schema, references=[Reference("shop.Order", "order", 1)])
    written = ours.serialize({"of": {}}, "sales", "value")
    other = TheirSchema(schema, "AVRO", [SchemaReference("shop.Order", "order", 1)])
    assert avro.AvroSerializer(theirs, other)({"of": {}}, SerializationContext("sales", MessageField.VALUE)) == written
    assert AvroDeserializer(registry)(written) == {"of": {}}
    assert registry.version("order", 1).schema.text == avro_text

    registry.register("number", Schema('{"type": "integer"}', "JSON"))
    pointing = {"type": "object", "properties": {"number": {"$ref": "number.json"}}}
    checked = JsonSchemaSerializer(registry, pointing, references=[Reference("number.json", "number", 1)])
    assert JsonSchemaDeserializer(registry)(checked.serialize({"number": 3}, "n", "value")) == {"number": 3}
    with pytest.raises(ValueError, match=r"\$\.number does not fit .*integer"):
        checked.serialize({"number": "3"}, "n", "value")


# -- subjects, versions, values ----------------------------------------------------------------------------------------


def test_strategies_versions_and_who_registers(registry: SchemaRegistry, store: Store) -> None:
    for strategy in (record_subject_name_strategy, topic_record_subject_name_strategy):
        AvroSerializer(registry, ORDER, subject_name_strategy=strategy).serialize({"number": 1}, "orders", "value")
    assert set(store.subjects) == {"shop.Order", "orders-shop.Order"}
    unnamed = AvroSerializer(registry, '"string"', subject_name_strategy=record_subject_name_strategy)
    with pytest.raises(ConfigError, match="no name"):
        unnamed.serialize("x", "orders", "value")

    careful = AvroSerializer(registry, ORDER, auto_register_schemas=False)
    with pytest.raises(SchemaRegistryError, match=r"40401.*register the schema first") as caught:
        careful.serialize({"number": 1}, "orders", "value")
    assert (caught.value.status, caught.value.error_code, caught.value.retriable) == (404, 40401, False)
    longer = ORDER | {"fields": [{"name": "number", "type": "long"}]}
    AvroSerializer(registry, longer).serialize({"number": 1}, "orders", "value")
    before = store.asked.copy()
    newest = AvroSerializer(registry, ORDER, use_latest_version=True)
    assert newest.serialize({"number": 2**40}, "orders", "value")[:5] == b"\0\0\0\0\2"  # an int has no room for it
    newest.serialize({"number": 2}, "orders", "value")
    assert store.asked - before == {"GET /subjects/orders-value/versions/latest": 1}
    store.incompatible = True
    with pytest.raises(SchemaRegistryError, match=r"409.*compatible"):
        AvroSerializer(registry, ORDER).serialize({"number": 1}, "orders", "value")


def test_models_dataclasses_and_a_readers_own_schema(registry: SchemaRegistry) -> None:
    as_avro, as_json = AvroSerializer(registry, ORDER), JsonSchemaSerializer(registry, Order.model_json_schema())
    read = AvroDeserializer(registry, from_dict=Order.model_validate)
    assert read(as_avro.serialize(Order(number=3), "a", "value")) == Order(number=3)
    assert read(as_avro.serialize(Counted(4), "a", "value")) == Order(number=4)
    read_json = JsonSchemaDeserializer(registry, from_dict=Order.model_validate)
    assert read_json(as_json.serialize(Order(number=3, note="n"), "j", "value")) == Order(number=3, note="n")
    assert read_json(as_json.serialize(Counted(4), "j", "value")) == Order(number=4)
    newer = ORDER | {"fields": [*ORDER["fields"], {"name": "paid", "type": "boolean", "default": False}]}  # type: ignore[misc]
    resolved = AvroDeserializer(registry, reader_schema=newer)
    assert resolved(as_avro.serialize({"number": 3}, "a", "value")) == {"number": 3, "note": None, "paid": False}


def test_bytes_that_no_serializer_wrote(registry: SchemaRegistry) -> None:
    registry.register("j", Schema("{}", "JSON"))
    registry.register("a", Schema('"int"', "AVRO"))
    for read in (AvroDeserializer(registry), JsonSchemaDeserializer(registry), ProtobufDeserializer(ProduceResult)):
        for data in (b"", b"\0\0\0", b'{"number": 3}', b"\1\0\0\0\1\0"):
            with pytest.raises(ValueError, match="not written by a serializer"):
                read(data)
    for data in (b"\0\0\0\0\2", b"\0\0\0\0\2\1", b"\0\0\0\0\2\xff\xff\xff", b"\0\0\0\0\2" + b"\xff" * 20):
        with pytest.raises(ValueError, match="place"):
            ProtobufDeserializer(ProduceResult)(data)
    with pytest.raises(ValueError, match="kind JSON, not AVRO"):
        AvroDeserializer(registry)(b"\0\0\0\0\1{}")
    with pytest.raises(ValueError, match="1 bytes are left"):
        AvroDeserializer(registry)(b"\0\0\0\0\2\6\6")
    with pytest.raises(SchemaRegistryError, match="40403"):
        AvroDeserializer(registry)(b"\0\0\0\0\7\6")


# -- the registry ------------------------------------------------------------------------------------------------------


def test_what_a_registry_refuses_and_what_is_tried_again(
    server: tuple[str, Store], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema_id = SchemaRegistry(server[0]).register("s", Schema('"int"', "AVRO"))
    store.refuses = [503, 429, 500]
    assert SchemaRegistry(server[0]).schema(schema_id).text == '"int"'
    monkeypatch.setattr("ottla.registry.client._BACKOFF_S", 60.0)  # once and no more, with all the time that there is
    store.refuses = [503]
    with pytest.raises(SchemaRegistryError, match="503, code 50001: Error in the backend") as caught:
        SchemaRegistry(server[0]).schema(schema_id)
    assert caught.value.retriable
    store.refuses = []
    for given in ({}, {"user": "me", "password": "wrong"}, {"token": lambda: "t"}):
        store.user = "me:secret"
        with pytest.raises(SchemaRegistryError, match=r"401.*password") as caught:
            SchemaRegistry(server[0], **given).schema(schema_id)  # type: ignore[arg-type]
        assert "wrong" not in str(caught.value)
    assert SchemaRegistry(server[0], user="me", password="secret").schema(schema_id).kind == "AVRO"
    for store.garbage in (b"<html>", b"[]", b'{"schema": 7}', b'{"schema": "x", "schemaType": "XML"}'):
        with pytest.raises(SchemaRegistryError, match="check the URL"):
            SchemaRegistry(server[0], user="me", password="secret").schema(schema_id)
    dead = "http://127.0.0.1:1"
    with pytest.raises(SchemaRegistryError, match=r"127.0.0.1:1 does not answer: .*refused"):
        SchemaRegistry(dead).schema(1)
    store.garbage = b""
    assert SchemaRegistry([dead, server[0]], user="me", password="secret").schema(schema_id).text == '"int"'


def test_certificates_of_both_sides(tmp_path: Path, server: tuple[str, Store]) -> None:
    authority = Authority.make(tmp_path, None, replace=False)
    for asked in (asked_node(1, []), asked_client("admin")):
        authority.issue(asked, 30, replace=False)
    node = next(path.parent for path in tmp_path.rglob("tls.crt") if "admin" not in str(path))
    client = next(path.parent for path in tmp_path.rglob("tls.crt") if "admin" in str(path))
    with running(node) as (url, _):
        assert SchemaRegistry(url, tls=client).register("s", Schema('"int"', "AVRO")) == 1
        with pytest.raises(SchemaRegistryError, match=r"certificate .* is not trusted: .*name whom"):
            SchemaRegistry(url).schema(1)


WRONG: list[tuple[str, Callable[[SchemaRegistry], object]]] = [
    ("no URL", lambda registry: SchemaRegistry("registry:8081")),
    ("no URL", lambda registry: SchemaRegistry("ftp://registry")),
    ("no URL", lambda registry: SchemaRegistry("http://registry:port")),
    ("logs would show", lambda registry: SchemaRegistry("http://me:secret@registry")),
    ("without a user", lambda registry: SchemaRegistry("http://r", password="p")),
    ("one of", lambda registry: SchemaRegistry("http://r", user="u")),
    ("both", lambda registry: SchemaRegistry("http://r", user="u", password="p", token="t")),
    ("token", lambda registry: SchemaRegistry("http://r", token="a\nb")),
    ("not https", lambda registry: SchemaRegistry("http://r", tls="directory")),
    ("request_timeout_ms", lambda registry: SchemaRegistry("http://r", request_timeout_ms=0)),
    ("no Avro schema", lambda registry: AvroSerializer(registry, {"type": "recrod"})),
    ("no JSON", lambda registry: AvroSerializer(registry, "string")),
    ("no JSON Schema", lambda registry: JsonSchemaSerializer(registry, {"type": "objekt"})),
    ("generated class", lambda registry: ProtobufSerializer(registry, dict)),  # type: ignore[type-var]
    ("registry", lambda registry: AvroDeserializer("http://r")),  # type: ignore[arg-type]
    ("use_latest_version", lambda registry: AvroSerializer(registry, ORDER, use_latest_version=1)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("said", "call"), WRONG)
def test_what_makes_no_sense_is_said_at_once(
    said: str, call: Callable[[SchemaRegistry], object], registry: SchemaRegistry
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        call(registry)
    assert "secret" not in caught.value.message


# -- in a producer and a consumer --------------------------------------------------------------------------------------


async def test_a_registry_is_asked_once_beside_the_loop(
    planes: Planes, client: Client, registry: SchemaRegistry, store: Store
) -> None:
    planes.create_topic("orders", [1])
    store.gate.clear()
    async with Producer(client, value_serializer=AvroSerializer(registry, ORDER)) as producer:
        sends = [asyncio.create_task(producer.send("orders", {"number": number})) for number in range(50)]
        await asyncio.to_thread(store.reached.wait, 10)  # the loop goes on while the registry takes its time
        assert not any(task.done() for task in sends)
        sends[0].cancel()  # it asks for all of them, and its end must not be theirs
        store.gate.set()
        taken = await asyncio.gather(*sends, return_exceptions=True)
        assert [type(each).__name__ for each in taken] == ["CancelledError"] + ["Delivery"] * 49
        with pytest.raises(ConfigError, match=r"value_serializer raised .*number"):
            await producer.send("orders", {"number": "three"})
        await producer.send("orders", b"\0\0\0\0\x09by hand")
        await producer.flush()
    assert store.asked == {"POST /subjects/orders-value/versions": 1}

    store.gate.clear()
    read = AvroDeserializer(SchemaRegistry(registry.urls), from_dict=Order.model_validate)
    async with Consumer("orders", bootstrap=client, value_deserializer=read) as consumer:
        assert await consumer.poll(timeout_ms=20) == []
        assert (await consumer.position("orders", 0), consumer.buffered_bytes) == (0, 0)
        store.gate.set()
        numbers = [(await anext(consumer)).value.number for _ in range(49)]  # type: ignore[union-attr]
        assert sorted(numbers) == list(range(1, 50))
        for _ in range(2):  # an id that the registry does not have: nothing is passed over
            with pytest.raises(DeserializationFailed, match=r"offset 49.*40403"):
                await anext(consumer)
        assert await consumer.position("orders", 0) == 49
        store.schemas.extend([{"schema": '"string"'}] * 8)
        consumer.seek("orders", 0, 49)  # it may be there by now
        with pytest.raises(DeserializationFailed, match=r"offset 49"):
            await anext(consumer)
    assert store.asked["GET /schemas/ids/1"] == 1

"""Schemas of a registry that speaks Confluent's REST API, and serializers whose bytes begin with a schema's id.

    registry = SchemaRegistry("https://registry:8081", user="me", password_file="secret")
    Producer(value_serializer=AvroSerializer(registry, schema))
    Consumer("orders", value_deserializer=AvroDeserializer(registry))

docs/schema-registry.md tells it from the start.
"""

from ottla.registry.avro import AvroDeserializer, AvroSerializer
from ottla.registry.client import Reference, RegisteredSchema, Schema, SchemaRegistry
from ottla.registry.json_schema import JsonSchemaDeserializer, JsonSchemaSerializer
from ottla.registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from ottla.registry.serde import (
    record_subject_name_strategy,
    topic_record_subject_name_strategy,
    topic_subject_name_strategy,
)

__all__ = [
    "AvroDeserializer",
    "AvroSerializer",
    "JsonSchemaDeserializer",
    "JsonSchemaSerializer",
    "ProtobufDeserializer",
    "ProtobufSerializer",
    "Reference",
    "RegisteredSchema",
    "Schema",
    "SchemaRegistry",
    "record_subject_name_strategy",
    "topic_record_subject_name_strategy",
    "topic_subject_name_strategy",
]

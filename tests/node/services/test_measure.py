"""What a request may have is counted before it is parsed, of every public method."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError

from node import limits
from node.services import listener, measure
from node.services.measure import Limits, limits_of, measured
from ottla.internal.v1 import controller_pb2
from ottla.internal.v1.view_pb2 import ProduceRequestView
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2, cluster_pb2, data_pb2, group_pb2
from ottla.v1 import error_pb2 as pb

RECORDS_MAX_BYTES = 32 * limits.MIB
PUBLIC = [
    method
    for module, name in (
        (data_pb2, "DataService"),
        (cluster_pb2, "ClusterService"),
        (admin_pb2, "AdminService"),
        (group_pb2, "GroupService"),
    )
    for method in module.DESCRIPTOR.services_by_name[name].methods
]
LISTS = [
    (method, field)
    for method in PUBLIC
    for field in method.input_type.fields
    if field.is_repeated and field.type in (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_STRING)
]


def reader(method: MethodDescriptor) -> Callable[[bytes], Any]:
    message: Any = message_factory.GetMessageClass(method.input_type)
    return measured(message.FromString, method.input_type, method.name, limits_of(method, RECORDS_MAX_BYTES))


def items(field: FieldDescriptor, count: int) -> bytes:
    """That many empty items of a field, as they are on the wire."""
    assert field.number < 16
    return bytes([field.number << 3 | 2, 0]) * count


def refusal(read: Callable[[bytes], Any], data: bytes) -> ApiError:
    with pytest.raises(ApiError) as raised:
        read(data)
    return raised.value


def test_lists_are_found_in_every_service() -> None:
    assert {field.containing_type.full_name.rpartition(".")[2] for _, field in LISTS} >= {
        "FetchRequest",
        "GetMetadataRequest",
        "CreateTopicsRequest",
        "CommitOffsetsRequest",
        "SendRequest",
    }


@pytest.mark.parametrize(("method", "field"), LISTS, ids=[f"{m.name}.{f.name}" for m, f in LISTS])
def test_every_list_of_every_public_request_has_a_limit(method: MethodDescriptor, field: FieldDescriptor) -> None:
    most = limits.STREAM_POSITIONS_MAX if method.name == "FetchStream" else limits.ITEMS_MAX
    read = reader(method)
    assert len(getattr(read(items(field, most)), field.name)) == most
    error = refusal(read, items(field, most + 1))
    assert error.code == pb.ERROR_CODE_INVALID_REQUEST
    assert method.name in error.message
    assert f"{most} are allowed" in error.message


@pytest.mark.parametrize("method", PUBLIC, ids=[m.name for m in PUBLIC])
def test_every_public_request_has_a_size(method: MethodDescriptor) -> None:
    allowed = limits_of(method, RECORDS_MAX_BYTES)
    error = refusal(reader(method), b"\x7a" * (allowed.max_bytes + 1))
    assert error.code == pb.ERROR_CODE_MESSAGE_TOO_LARGE
    assert f"{allowed.max_bytes + 1} bytes" in error.message
    assert f"{allowed.max_bytes} are allowed" in error.message


def test_what_carries_no_records_is_small() -> None:
    sizes = {method.name: limits_of(method, RECORDS_MAX_BYTES).max_bytes for method in PUBLIC}
    large = {name for name, size in sizes.items() if size == RECORDS_MAX_BYTES}
    assert large == {"Produce", "ProduceStream", "Send", "ImportBatches"}
    assert sizes["CommitOffsets"] == sizes["Session"] == 16 * limits.MIB
    assert sizes["CreateTopics"] == sizes["GetMetadata"] == limits.MIB


def test_what_is_within_items_counts_too() -> None:
    """One topic of half a million assignments is one item."""
    method = admin_pb2.DESCRIPTOR.services_by_name["AdminService"].methods_by_name["CreateTopics"]
    topic = admin_pb2.NewTopic(name="t")
    request = admin_pb2.CreateTopicsRequest(topics=[topic])
    assert reader(method)(request.SerializeToString()).topics[0].name == "t"
    topic.assignments.extend([admin_pb2.ReplicaAssignment()] * (limits.ITEM_PARTS_MAX + 1))
    error = refusal(reader(method), admin_pb2.CreateTopicsRequest(topics=[topic]).SerializeToString())
    assert error.code == pb.ERROR_CODE_INVALID_REQUEST


def test_packed_numbers_count_one_by_one() -> None:
    method = admin_pb2.DESCRIPTOR.services_by_name["AdminService"].methods_by_name["CreateTopics"]
    packed = admin_pb2.ReplicaAssignment(replicas=[1] * (limits.ITEM_PARTS_MAX + 1))
    request = admin_pb2.CreateTopicsRequest(topics=[admin_pb2.NewTopic(assignments=[packed])])
    assert refusal(reader(method), request.SerializeToString()).code == pb.ERROR_CODE_INVALID_REQUEST


def test_a_field_that_comes_again_and_again_is_refused() -> None:
    """Nothing of it would stay, and reading it would still be work."""
    method = cluster_pb2.DESCRIPTOR.services_by_name["ClusterService"].methods_by_name["GetMetadata"]
    assert refusal(reader(method), b"\x10\x01" * 500_000).code == pb.ERROR_CODE_INVALID_REQUEST
    assert refusal(reader(method), b"\x7a\x00" * 500_000).code == pb.ERROR_CODE_INVALID_REQUEST


@pytest.mark.parametrize("tail", [b"\x7a", b"\xff" * 30_000, b"\x7a\xff\xff\x7f", b"\x0b" * 30_000])
def test_what_is_no_message_is_for_the_parser_to_refuse(tail: bytes) -> None:
    method = cluster_pb2.DESCRIPTOR.services_by_name["ClusterService"].methods_by_name["GetMetadata"]
    with pytest.raises(DecodeError):
        reader(method)(b"\x0a\x00" * 9_990 + b"\x0a\x7f" + b"a" * 127 + tail)


def test_a_node_may_tell_of_all_of_its_partitions() -> None:
    method = controller_pb2.DESCRIPTOR.services_by_name["ControllerService"].methods_by_name["Heartbeat"]
    field = method.input_type.fields_by_name["offline_partitions"]
    assert len(reader(method)(items(field, 100_000)).offline_partitions) == 100_000
    assert refusal(reader(method), items(field, 100_001)).code == pb.ERROR_CODE_INVALID_REQUEST


def test_a_million_items_are_refused_in_no_time() -> None:
    read = measured(ProduceRequestView.FromString, ProduceRequestView.DESCRIPTOR, "Produce", Limits(RECORDS_MAX_BYTES))
    field = ProduceRequestView.DESCRIPTOR.fields_by_name["partitions"]
    data = items(field, 16_000_000)
    began = time.thread_time()
    assert refusal(read, data).code == pb.ERROR_CODE_INVALID_REQUEST
    assert time.thread_time() - began < 0.1


@pytest.mark.parametrize("method", ["Produce", "ProduceStream"])
def test_records_are_not_walked_here_but_where_they_are_checked(method: str) -> None:
    """The measure is Python: it took ten times as long for a batch of small records as all the rest of an append."""
    fields = ProduceRequestView.DESCRIPTOR.fields_by_name
    assert listener.PARSED_AS[method] is ProduceRequestView.DESCRIPTOR
    assert measure.shape_of(listener.PARSED_AS[method]) == {fields["partitions"].number: measure.Part(True, False, {})}

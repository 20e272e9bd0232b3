"""A client made from nothing but the descriptors of the contract as it was declared stable, against today's nodes."""

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.cluster.harness import ROOT, LocalCluster

pytestmark = pytest.mark.cluster

STABLE: Final = ROOT / "proto" / "stable" / "v1.binpb"
SESSION_S: Final = 30


class StableClient:
    """Calls methods by name; messages are of classes made from the descriptors, in a pool of their own."""

    def __init__(self, channel: grpc.Channel, descriptors: Path) -> None:
        self._channel = channel
        self._pool = descriptor_pool.DescriptorPool()
        # buf writes files after those they import, as the pool wants them.
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file:
            self._pool.Add(file)

    def new(self, message: str, **fields: Any) -> Any:
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"ottla.v1.{message}"))(**fields)

    def call(self, service: str, method: str, **fields: Any) -> Any:
        """A unary call."""
        described = self._pool.FindServiceByName(f"ottla.v1.{service}").methods_by_name[method]
        rpc = self._channel.unary_unary(
            f"/ottla.v1.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(described.output_type).FromString,
        )
        return rpc(message_factory.GetMessageClass(described.input_type)(**fields), timeout=20)

    def stream(self, service: str, method: str, requests: Iterator[Any]) -> Any:
        described = self._pool.FindServiceByName(f"ottla.v1.{service}").methods_by_name[method]
        rpc = self._channel.stream_stream(
            f"/ottla.v1.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(described.output_type).FromString,
        )
        return rpc(requests, timeout=SESSION_S)

    def batch(self, *values: bytes) -> Any:
        return self.new("RecordBatch", records=self.new("Records", records=[{"value": value} for value in values]))


@pytest.fixture
def client(standing: LocalCluster) -> Iterator[StableClient]:
    with standing.channel(2) as channel:
        yield StableClient(channel, STABLE)


def test_every_node_says_what_it_is(standing: LocalCluster) -> None:
    said = []
    for node_id in standing.nodes:
        with standing.channel(node_id) as channel:
            said.append(StableClient(channel, STABLE).call("ClusterService", "GetVersion"))
    assert [each.node_id for each in said] == list(standing.nodes)
    assert all(each.contract_version >= 1 and each.version and "send" in each.features for each in said)
    assert len({each.cluster_id for each in said}) == 1
    assert len(said[0].cluster_id) == 32


def create_topic(client: StableClient, name: str, partitions: int) -> None:
    topic = client.new("NewTopic", name=name, num_partitions=partitions, replication_factor=3)
    made = client.call("AdminService", "CreateTopics", topics=[topic]).topics[0]
    assert not made.HasField("error"), made.error
    assert (made.name, made.num_partitions, len(made.topic_id)) == (name, partitions, 16)


def values_in(result: Any) -> list[bytes]:
    assert not result.HasField("error"), result.error
    return [record.value for batch in result.batches for record in batch.records.records]


def test_produces_and_fetches(client: StableClient) -> None:
    create_topic(client, "stable", 1)
    part = client.new("ProducePartition", topic="stable", batch=client.batch(b"one", b"two"))
    produced = client.call("DataService", "Produce", request_id=7, partitions=[part])
    assert (produced.request_id, produced.partitions[0].base_offset) == (7, 0)
    assert not produced.partitions[0].HasField("error"), produced.partitions[0].error

    sent = client.call("DataService", "Send", topic="stable", records=[{"key": b"k", "value": b"three"}]).results[0]
    assert not sent.HasField("error"), sent.error
    assert (sent.partition, sent.offset) == (0, 2)

    wanted = [{"topic": "stable", "timestamp_ms": -2}, {"topic": "stable", "timestamp_ms": -1}]
    listed = client.call("DataService", "ListOffsets", partitions=wanted).partitions
    assert [each.offset for each in listed] == [0, 3]

    fetched = client.call("DataService", "Fetch", partitions=[{"topic": "stable", "offset": 0}], max_wait_ms=1000)
    assert values_in(fetched.partitions[0]) == [b"one", b"two", b"three"]
    assert fetched.partitions[0].next_offset == 3


def test_streams(client: StableClient) -> None:
    create_topic(client, "stable-streams", 1)
    requests = [
        client.new(
            "ProduceRequest", request_id=i, partitions=[{"topic": "stable-streams", "batch": client.batch(b"%d" % i)}]
        )
        for i in range(1, 21)
    ]
    answers = [
        each for message in client.stream("DataService", "ProduceStream", iter(requests)) for each in message.responses
    ]
    assert sorted(each.request_id for each in answers) == list(range(1, 21))
    assert not any(each.partitions[0].HasField("error") for each in answers)

    commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
    add = client.new("FetchPartition", topic="stable-streams")
    commands.put(client.new("FetchStreamRequest", add=[add], credit_bytes=1 << 20))
    got: list[bytes] = []
    for message in client.stream("DataService", "FetchStream", iter(commands.get, None)):
        for part in message.partitions:
            got += values_in(part)
        if len(got) == 20:
            commands.put(None)
            break
    assert got == [b"%d" % i for i in range(1, 21)]


def test_refusals_have_codes(client: StableClient) -> None:
    part = client.new("ProducePartition", topic="nobody-made-this", batch=client.batch(b"x"))
    error = client.call("DataService", "Produce", partitions=[part]).partitions[0].error
    names = error.DESCRIPTOR.fields_by_name["code"].enum_type.values_by_number
    assert names[error.code].name == "ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION"
    assert "nobody-made-this" in error.message


def test_a_group_session(client: StableClient) -> None:
    """The sequence in docs/contract.md: join, assignment, owned, commit, leave."""
    create_topic(client, "stable-group", 2)
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    requests.put(client.new("SessionRequest", join={"group_id": "stable-members", "topics": ["stable-group"]}))
    answers = client.stream("GroupService", "Session", iter(requests.get, None))

    assignment = next(a.assignment for a in answers if a.WhichOneof("message") == "assignment")
    assert assignment.member_id
    assert assignment.member_epoch > 0
    places = [each.partition for each in assignment.partitions]
    assert sorted(place.partition for place in places) == [0, 1]
    assert not any(each.HasField("committed_offset") for each in assignment.partitions)
    owned = client.new("Owned", assignment_id=assignment.assignment_id, partitions=places)
    requests.put(client.new("SessionRequest", owned=owned))
    assert next(answers).WhichOneof("message") in ("tick", "assignment")

    committed = client.call(
        "GroupService",
        "CommitOffsets",
        group_id="stable-members",
        member_id=assignment.member_id,
        member_epoch=assignment.member_epoch,
        offsets=[{"partition": places[0], "offset": 5, "metadata": "five"}],
    )
    assert not committed.HasField("error"), committed.error
    assert not committed.offsets[0].HasField("error"), committed.offsets[0].error

    requests.put(client.new("SessionRequest", leave={}))
    requests.put(None)
    assert all(answer.WhichOneof("message") != "error" for answer in answers)

    described = client.call("GroupService", "DescribeGroups", group_ids=["stable-members"]).groups[0]
    assert (described.state, len(described.members)) == ("empty", 0)
    stored = client.call("GroupService", "FetchOffsets", group_id="stable-members").offsets
    assert [(each.partition.partition, each.offset, each.metadata) for each in stored] == [
        (places[0].partition, 5, "five")
    ]

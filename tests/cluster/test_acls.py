"""Access control on three nodes: what users of Kafka's door and holders of certificates may do, and that they may not
any more when a right is taken away."""

import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from kafka.errors import KafkaError

from ottla import Acl, OttlaError, Tls
from ottla.secure.issue import Authority, asked_client, asked_node
from ottla.sync import Admin, Consumer, Producer
from ottla.v1 import admin_pb2, cluster_pb2, data_pb2, data_pb2_grpc, error_pb2, group_pb2, group_pb2_grpc, login_pb2
from tests.cluster.harness import LocalCluster, eventually
from tests.cluster.kafka_asks import UNKNOWN_TOPIC_ID, asks, codes
from tests.peers.wire import APIS, Connection

pytestmark = pytest.mark.cluster
PASSWORD = "correct horse"
FILES = (data_pb2, cluster_pb2, group_pb2, admin_pb2, login_pb2)
SERVICES = [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]


class Guarded:
    """Three nodes where ACLs count. Certificates: admin, who may everything, alice, bob, and eve, who may nothing;
    alice and bob are users, too. With `tokens` clients of gRPC are users as well, and nobody asks for certificates."""

    def __init__(self, directory: Path, *, tokens: bool = False) -> None:
        self.tokens = tokens
        self.tls = directory / "secure"
        authority = Authority.make(self.tls, None, replace=False)
        settings = {"kafka.authentication": "sasl", **({"public.authentication": "token"} if tokens else {})}
        self.cluster = LocalCluster(directory, 3, settings, kafka=True)
        names = ("admin", "alice", "bob", "eve")
        for asked in [*map(asked_client, names), *(asked_node(i, []) for i in self.cluster.nodes)]:
            authority.issue(asked, 30, replace=False)
        for i, node in self.cluster.nodes.items():
            node.settings = {
                **node.settings,
                "security": "on",
                "tls.dir": self.tls / f"node-{i}",
                "authorizer": "acl",
                "super.users": "User:admin",
            }

    def identity(self, who: str) -> dict[str, Any]:
        if self.tokens:
            return {"tls": Tls(self.tls / "ca" / "ca.crt"), "user": who, "password": PASSWORD}
        return {"tls": self.tls / who}

    def admin(self, who: str = "admin") -> Admin:
        return Admin(self.cluster.bootstrap, **self.identity(who))

    def as_node(self) -> Admin:
        """With the certificate of node 1, at that node's listener for nodes."""
        return Admin(self.cluster[1].address("replication"), tls=self.tls / "node-1")

    def producer(self, who: str) -> Producer:
        return Producer(self.cluster.bootstrap, **self.identity(who))

    def consumer(self, who: str, topic: str, **fields: Any) -> Consumer:
        return Consumer(topic, bootstrap=self.cluster.bootstrap, **self.identity(who), **fields)

    def kafka(self, user: str) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.cluster.kafka_bootstrap,
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-256",
            "sasl_plain_username": user,
            "sasl_plain_password": PASSWORD,
            "ssl_cafile": str(self.tls / "ca" / "ca.crt"),
        }


def allow(who: str, operation: str, kind: str, name: str, **fields: Any) -> Acl:
    return Acl(f"User:{who}", operation, kind, name, **fields)


RIGHTS = [
    allow("alice", "write", "topic", "orders"),
    allow("bob", "read", "topic", "ord", pattern_type="prefixed"),
    allow("bob", "read", "group", "readers"),
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("acls"))
    with made.cluster as cluster:
        cluster.start().wait_ready()
        with made.admin() as admin:
            admin.finalize_feature()
            for user in ("alice", "bob"):
                admin.create_user(user, PASSWORD)
            for topic in ("orders", "secrets"):
                admin.create_topic(topic, partitions=3)
            admin.create_acls(RIGHTS)
        yield made


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Where users log in at both doors; the first one was made at a node."""
    made = Guarded(tmp_path_factory.mktemp("acls-users"), tokens=True)
    with made.cluster as cluster:
        cluster.start().wait_ready()
        with made.as_node() as node:
            node.finalize_feature()
            node.create_user("admin", PASSWORD)
        with made.admin() as admin:
            for user in ("alice", "bob"):
                admin.create_user(user, PASSWORD)
            for topic in ("orders", "secrets"):
                admin.create_topic(topic, partitions=3)
            admin.create_acls(RIGHTS)
        yield made


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(OttlaError) as error:
        call()
    return str(error.value.name)


def test_over_grpc(guarded: Guarded) -> None:
    with guarded.producer("alice") as producer:
        for partition in range(3):
            assert producer.send("orders", b"one", partition=partition).result(10).offset >= 0
        assert refused(lambda: producer.send("secrets", b"x").result(10)) == "TOPIC_AUTHORIZATION_FAILED"
    with guarded.producer("bob") as producer:  # who may write nowhere gets no producer id
        assert refused(lambda: producer.send("orders", b"x").result(10)) == "CLUSTER_AUTHORIZATION_FAILED"
    with guarded.consumer("bob", "orders", group="readers") as consumer:
        assert consumer.poll(timeout_ms=20_000)[0].value == b"one"
    for who, group in (("bob", "others"), ("alice", "readers")):
        with guarded.consumer(who, "orders", group=group) as consumer:
            assert refused(lambda: consumer.poll(timeout_ms=10_000)) == "GROUP_AUTHORIZATION_FAILED"
    with guarded.consumer("alice", "orders") as consumer:
        assert refused(lambda: consumer.poll(timeout_ms=10_000)) == "TOPIC_AUTHORIZATION_FAILED"
    with guarded.admin("bob") as admin:
        assert sorted(admin.list_topics()) == ["orders"]
        assert refused(lambda: admin.create_topic("ord2")) == "TOPIC_AUTHORIZATION_FAILED"
        assert refused(lambda: admin.delete_topic("orders")) == "TOPIC_AUTHORIZATION_FAILED"
        for call in (admin.list_users, admin.list_acls, lambda: admin.create_acls(RIGHTS), admin.describe_quorum):
            assert refused(call) == "CLUSTER_AUTHORIZATION_FAILED"
        assert refused(lambda: admin.create_user("eve", PASSWORD)) == "CLUSTER_AUTHORIZATION_FAILED"
    with guarded.admin() as admin:
        assert sorted(admin.list_topics()) == ["orders", "secrets"]
        assert admin.test_acl("User:bob", "read", "topic", "orders").acl == RIGHTS[1]
        assert not admin.test_acl("User:bob", "write", "topic", "orders").allowed
    logs = "".join(node.log() for node in guarded.cluster.nodes.values())
    assert "access_denied" in logs


def test_over_kafka(guarded: Guarded) -> None:
    producer = KafkaProducer(**guarded.kafka("alice"))
    producer.send("orders", b"two").get(10)
    with pytest.raises(KafkaError, match="TopicAuthorizationFailed"):
        producer.send("secrets", b"x").get(5)
    producer.close()
    consumer = KafkaConsumer(
        "orders", **guarded.kafka("bob"), group_id="readers", auto_offset_reset="earliest", consumer_timeout_ms=15_000
    )
    assert next(consumer).value in (b"one", b"two")
    assert consumer.topics() == {"orders"}
    consumer.close()
    with pytest.raises(KafkaError, match="GroupAuthorizationFailed"):
        next(KafkaConsumer("orders", **guarded.kafka("bob"), group_id="others", consumer_timeout_ms=15_000))
    admin = KafkaAdminClient(**guarded.kafka("bob"))
    with pytest.raises(KafkaError, match="ClusterAuthorizationFailed"):
        admin.describe_user_scram_credentials()
    admin.close()


def test_a_right_that_is_taken_away_ends_open_streams(guarded: Guarded) -> None:
    with guarded.admin() as admin, guarded.producer("alice") as producer:
        admin.create_acls([allow("alice", "read", "topic", "secrets"), allow("alice", "write", "topic", "secrets")])
        producer.send("secrets", b"before", partition=0).result(10)
        by_kafka = KafkaProducer(**guarded.kafka("alice"))
        by_kafka.send("secrets", b"before", partition=0).get(10)
        reading = KafkaConsumer(**guarded.kafka("alice"), consumer_timeout_ms=15_000)
        reading.assign([TopicPartition("secrets", 0)])
        reading.seek_to_beginning()
        assert [next(reading).value for _ in range(2)] == [b"before"] * 2
        admin.create_acls([allow("bob", "read", "topic", "secrets")])
        with guarded.consumer("bob", "secrets", group="readers") as member:
            assert member.poll(timeout_ms=20_000)[0].value == b"before"
            admin.delete_acls(principal="User:alice", resource_name="secrets")
            # Removed is removed: the very next batch is refused.
            assert (
                refused(lambda: producer.send("secrets", b"x", partition=0).result(10)) == "TOPIC_AUTHORIZATION_FAILED"
            )
            with pytest.raises(KafkaError, match="TopicAuthorizationFailed"):
                by_kafka.send("secrets", b"x", partition=0).get(5)
            with pytest.raises((KafkaError, StopIteration)):
                next(reading)
            began = time.monotonic()
            admin.delete_acls(principal="User:bob", resource_type="group")
            assert refused(lambda: polled_for(member, 10)) == "GROUP_AUTHORIZATION_FAILED"
            assert time.monotonic() - began < 8, "it was polled to the end"
        admin.delete_acls(principal="User:bob", resource_name="secrets")
        admin.create_acls(RIGHTS)
        reading.close()
        by_kafka.close()


def polled_for(consumer: Consumer, seconds: float) -> None:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        consumer.poll(timeout_ms=200)


def test_users_with_tokens_may_do_the_same_at_both_doors(users: Guarded) -> None:
    test_over_grpc(users)
    test_over_kafka(users)


def fetch_stream(users: Guarded, node_id: int, who: str, topic: str) -> tuple[grpc.Channel, Any]:
    """A stub's own stream at a node, which waits half a minute for what comes."""
    credentials = grpc.ssl_channel_credentials((users.tls / "ca" / "ca.crt").read_bytes())
    channel = grpc.secure_channel(users.cluster[node_id].address(), credentials)
    first = data_pb2.FetchStreamRequest(
        add=[data_pb2.FetchPartition(topic=topic, partition=0, offset=0)], credit_bytes=1 << 20, max_wait_ms=30_000
    )
    asked: SimpleQueue[data_pb2.FetchStreamRequest] = SimpleQueue()
    asked.put(first)
    who_asks = "Basic " + b64encode(f"{who}:{PASSWORD}".encode()).decode()
    stub = data_pb2_grpc.DataServiceStub(channel)
    return channel, stub.FetchStream(iter(asked.get, None), metadata=(("authorization", who_asks),), timeout=60)


def test_streams_of_users_hear_at_once_that_a_right_is_gone(users: Guarded) -> None:
    """At the leader and where the stream is passed on, however long it waits; and the open stream of a producer."""
    with users.admin() as admin, users.producer("alice") as producer:
        admin.create_acls([allow("alice", op, "topic", "secrets") for op in ("read", "write")])
        producer.send("secrets", b"before", partition=0).result(10)
        streams = [fetch_stream(users, node_id, "alice", "secrets") for node_id in users.cluster.nodes]
        try:
            for _, stream in streams:
                assert next(stream).partitions[0].batches
            admin.delete_acls(principal="User:alice", resource_name="secrets")
            began = time.monotonic()
            code = refused(lambda: producer.send("secrets", b"x", partition=0).result(10))
            assert code == "TOPIC_AUTHORIZATION_FAILED"
            for _, stream in streams:
                assert next(stream).partitions[0].error.code == error_pb2.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED
            assert time.monotonic() - began < 15, "the streams wait half a minute for what comes"
        finally:
            for channel, stream in streams:
                stream.cancel()
                channel.close()
        assert producer.send("orders", b"after", partition=0).result(10).offset >= 0  # the stream itself goes on


def kafka_connection(users: Guarded, who: str) -> Connection:
    """A bare one, over TLS and after a login."""
    connection = Connection(("127.0.0.1", int(users.cluster[1].address("kafka").rpartition(":")[2])))
    context = ssl.create_default_context(cafile=str(users.tls / "ca" / "ca.crt"))
    connection.socket = context.wrap_socket(connection.socket, server_hostname="127.0.0.1")
    connection.send("SaslHandshake", 1, {"mechanism": "PLAIN"})
    assert connection.receive()["error_code"] == 0
    connection.send("SaslAuthenticate", 2, {"auth_bytes": f"\0{who}\0{PASSWORD}".encode()})
    assert connection.receive()["error_code"] == 0
    return connection


def test_each_api_of_kafka_refuses_whoever_may_nothing_and_names_nothing(users: Guarded) -> None:
    """What is there and what is not are told apart by nothing; no answer has a name that the question had not."""
    with users.admin() as admin:
        admin.create_user("eve", PASSWORD)
    with users.consumer("bob", "orders", group="readers") as consumer:
        consumer.poll(timeout_ms=5_000)
    connection, told = kafka_connection(users, "eve"), {}
    connection.send("ApiVersions", 3, {"client_software_name": "eve", "client_software_version": "1"})
    served = {each["api_key"] for each in connection.receive()["api_keys"]}
    there, none = asks("orders", "readers"), asks("nobody", "nowhere")
    assert {APIS[name].key for name in there} == served - {
        APIS[name].key for name in ("SaslHandshake", "SaslAuthenticate")
    }
    for name, ask in there.items():
        answers = []
        for each in (ask, none[name]):
            connection.send(name, each.version, each.body)
            answers.append(connection.receive())
        told[name] = codes(answers[0])
        shown = str(answers[0]).replace("orders", "nobody").replace("readers", "nowhere")
        assert shown == str(answers[1]).replace("orders", "ORDERS").replace("readers", "READERS"), name
        assert "secrets" not in str(answers), name
        if ask.refused is None:
            assert "orders" not in str(answers[0]), name
            assert "readers" not in str(answers[0]), name
    assert told == {name: {ask.refused} if ask.refused else set() for name, ask in there.items()}
    for key in ("topic_id", "name"):  # no name for an id, and none of all
        asked = None if key == "name" else [{"topic_id": topic_id, "name": None} for topic_id in topic_ids(users)]
        connection.send("Metadata", 12, {"topics": asked, "allow_auto_topic_creation": False})
        answer = connection.receive()
        assert "orders" not in str(answer)
        assert codes(answer) == ({UNKNOWN_TOPIC_ID} if asked else set())  # as an id that is none's
    connection.close()


def topic_ids(users: Guarded) -> list[bytes]:
    connection = kafka_connection(users, "admin")
    connection.send("Metadata", 12, {"topics": None, "allow_auto_topic_creation": False})
    found = [topic["topic_id"] for topic in connection.receive()["topics"] if topic["name"] == "orders"]
    connection.close()
    assert found
    return found


def test_acls_by_a_client_of_kafka(users: Guarded) -> None:
    mine = ACL("User:carol", "*", ACLOperation.READ, ACLPermissionType.ALLOW, ResourcePattern(ResourceType.TOPIC, "c"))
    of_carol = ACLFilter(
        "User:carol",
        None,
        ACLOperation.ANY,
        ACLPermissionType.ANY,
        ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
    )
    begin = ACL(
        "User:carol",
        "*",
        ACLOperation.READ,
        ACLPermissionType.DENY,
        ResourcePattern(ResourceType.GROUP, "c-", ACLResourcePatternType.PREFIXED),
    )
    admin = KafkaAdminClient(**users.kafka("admin"))
    made = admin.create_acls([mine, begin])
    assert (len(made["succeeded"]), made["failed"]) == (2, [])
    assert set(admin.describe_acls(of_carol)[0]) == {mine, begin}
    groups = ACLFilter(
        "User:carol",
        None,
        ACLOperation.ANY,
        ACLPermissionType.DENY,
        ResourcePatternFilter(ResourceType.GROUP, "c-9", ACLResourcePatternType.MATCH),
    )
    assert admin.describe_acls(groups)[0] == [begin]
    [(_, gone, _)] = admin.delete_acls([groups])
    assert gone == [begin]
    assert admin.describe_acls(of_carol)[0] == [mine]
    [(_, gone, _)] = admin.delete_acls([of_carol])
    assert gone == [mine]
    assert admin.describe_acls(of_carol)[0] == []
    admin.close()


AT = {"topic": "orders"}
TOPICS = [{"name": "orders"}]
ASKED: dict[str, dict[str, Any] | None] = {
    "Produce": {"partitions": [{**AT, "batch": {}}]},
    "ProduceStream": {"partitions": [{**AT, "batch": {}}]},
    "Send": {**AT, "records": [{"value": b"x"}]},
    "Fetch": {"partitions": [AT]},
    "FetchStream": {"add": [AT], "credit_bytes": 1000},
    "ListOffsets": {"partitions": [{**AT, "timestamp_ms": -1}]},
    "OffsetForLeaderEpoch": {"partitions": [AT]},
    "InitProducerId": {},
    "GetVersion": None,  # everybody's
    "BeginScram": None,
    "FinishScram": None,
    "GetMetadata": {"topics": ["orders"]},
    "WatchMetadata": {"topics": ["orders"]},
    "DescribeQuorum": {},
    "DescribeNode": {},
    "ListEvents": {},
    "Explain": {"topic": "orders"},
    "Session": {"join": {"group_id": "readers", "topics": ["orders"]}},
    "CommitOffsets": {"group_id": "readers", "offsets": [{"partition": AT}]},
    "FetchOffsets": {"group_id": "readers"},
    "ListGroups": None,  # lists what may be seen
    "DescribeGroups": {"group_ids": ["readers"]},
    "DeleteGroups": {"group_ids": ["readers"]},
    "ResetOffsets": {"group_id": "readers", "offset": 1},
    "CreateTopics": {"topics": TOPICS},
    "DeleteTopics": {"topics": TOPICS},
    "CreatePartitions": {"topics": [{"name": "orders", "total_count": 4}]},
    "AlterConfigs": {"resources": [{"resource": {"type": 2, "name": "orders"}}]},
    "DescribeConfigs": {"resources": [{"type": 2, "name": "orders"}]},
    "DeleteRecords": {"partitions": [{"partition": AT}]},
    "ExportBatches": {"partition": AT},
    "ImportBatches": {"partition": AT},
    "CompleteImport": {"topic_id": b"i" * 16},
    "ElectLeaders": {},
    "ReassignPartitions": {},
    "ListReassignments": {},
    "UnregisterBroker": {"node_id": 1},
    "AddVoter": {"node_id": 1},
    "RemoveVoter": {"node_id": 1},
    "TransferLeadership": {},
    "DescribeFeatures": {},
    "FinalizeFeature": {"name": "metadata.version"},
    "DescribeUserScramCredentials": {},
    "AlterUserScramCredentials": {"users": [{"name": "eve", "remove_all": True}]},
    "DescribeAcls": {},
    "CreateAcls": {},
    "DeleteAcls": {"filters": [{}]},
    "TestAcl": {"principal": "User:eve"},
    "DescribeClientQuotas": {},
    "AlterClientQuotas": {},
}


def test_whoever_may_nothing_is_refused_by_every_call(guarded: Guarded) -> None:
    """A new method of the contract needs a place in the table, and a rule."""
    files = [(guarded.tls / "eve" / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt")]
    with grpc.secure_channel(guarded.cluster.bootstrap.split(",")[0], grpc.ssl_channel_credentials(*files)) as channel:
        for service in SERVICES:
            for method in service.methods:
                fields = ASKED[method.name]
                if fields is None:
                    continue
                said = asked(channel, method, fields)
                assert "AUTHORIZATION_FAILED" in said, (method.full_name, said)


def asked(channel: grpc.Channel, method: Any, fields: dict[str, Any]) -> str:
    """What a method answers, as text."""
    request, answer = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    call = getattr(channel, kind)(path, request.SerializeToString, answer.FromString)
    message = request(**fields)
    asking: SimpleQueue[Any] = SimpleQueue()
    asking.put(message)
    try:
        # A stream that its client has ended need not answer any more.
        told = call(iter(asking.get, None) if method.client_streaming else message, timeout=10)
        return str(next(told) if method.server_streaming else told)
    except grpc.RpcError as error:
        return f"{error.code()} {error.details()}"
    finally:
        asking.put(None)


BY_ID: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "Produce": lambda at: {"partitions": [{**at, "batch": {}}]},
    "ProduceStream": lambda at: {"partitions": [{**at, "batch": {}}]},
    "Fetch": lambda at: {"partitions": [at]},
    "FetchStream": lambda at: {"add": [at], "credit_bytes": 1000},
    "ListOffsets": lambda at: {"partitions": [{**at, "timestamp_ms": -1}]},
    "OffsetForLeaderEpoch": lambda at: {"partitions": [at]},
    "CommitOffsets": lambda at: {"group_id": "readers", "offsets": [{"partition": at}]},
    "FetchOffsets": lambda at: {"group_id": "readers", "partitions": [at]},
    "ResetOffsets": lambda at: {"group_id": "readers", "offset": 1, "partitions": [at]},
    "DeleteRecords": lambda at: {"partitions": [{"partition": at}]},
    "ExportBatches": lambda at: {"partition": at},
    "ImportBatches": lambda at: {"partition": at},
    "DeleteTopics": lambda at: {"topics": [{"topic_id": at["topic_id"], "name": at.get("topic", "")}]},
}


def test_an_id_is_no_way_to_a_name(guarded: Guarded) -> None:
    """Neither alone nor beside the name of a topic that one may read."""
    with guarded.admin() as admin:
        hidden = admin.describe_topic("secrets").topic_id
    files = [(guarded.tls / "bob" / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt")]
    methods = {method.name: method for service in SERVICES for method in service.methods}
    with grpc.secure_channel(guarded.cluster.bootstrap.split(",")[0], grpc.ssl_channel_credentials(*files)) as channel:
        for at in ({"topic_id": hidden}, {"topic_id": hidden, "topic": "orders"}):
            for name, fields in BY_ID.items():
                said = asked(channel, methods[name], fields(at))
                assert "ERROR_CODE" in said, (name, said)
                assert "secrets" not in said, (name, said)


def test_an_expression_is_no_way_to_a_name(guarded: Guarded) -> None:
    files = [(guarded.tls / "bob" / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt")]
    with grpc.secure_channel(guarded.cluster.bootstrap.split(",")[0], grpc.ssl_channel_credentials(*files)) as channel:
        join = group_pb2.SessionRequest(join=group_pb2.Join(group_id="readers", topic_regex=".*"))
        asking: SimpleQueue[group_pb2.SessionRequest | None] = SimpleQueue()
        asking.put(join)
        told = group_pb2_grpc.GroupServiceStub(channel).Session(iter(asking.get, None), timeout=20)
        heard = next(each.assignment for each in told if each.assignment.partitions)
        assert {each.partition.topic for each in heard.partitions} == {"orders"}
        methods = {method.name: method for service in SERVICES for method in service.methods}
        said = asked(channel, methods["DescribeGroups"], {"group_ids": ["readers"]})
        assert "orders" in said
        assert "secrets" not in said
        asking.put(None)
        told.cancel()


def test_a_follower_and_a_new_controller_know_them(guarded: Guarded) -> None:
    """What is refused by one node is by all, and still is after the controller was killed."""
    with guarded.admin() as admin:
        leader = admin.describe_quorum().leader_id
        guarded.cluster[leader].kill()
        eventually(lambda: admin.describe_quorum().leader_id not in (None, leader), True, 20)
        assert len(admin.list_acls()) >= len(RIGHTS)
        guarded.cluster.start([leader]).wait_ready([leader])
    with guarded.producer("alice") as producer:
        assert refused(lambda: producer.send("secrets", b"x").result(20)) == "TOPIC_AUTHORIZATION_FAILED"

"""Unchanged clients of Kafka log in with SASL: over TLS, and on loopback without it.

kafka-python always; librdkafka (confluent-kafka) and aiokafka where they are installed.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import UserScramCredentialDeletion, UserScramCredentialUpsertion
from kafka.errors import KafkaError

from ottla.secure.issue import Authority, asked_client, asked_node
from ottla.sync import Admin
from tests.cluster.harness import LocalCluster, eventually

pytestmark = pytest.mark.cluster
PASSWORD, OTHER = "correct horse", "battery staple"
LOGINS = [("plain", "SCRAM-SHA-256"), ("plain", "PLAIN"), ("secure", "SCRAM-SHA-512"), ("secure", "PLAIN")]


class Door:
    """A cluster whose clients log in; `tls` is the directory with its authority."""

    def __init__(self, directory: Path, nodes: int, tls: Path | None) -> None:
        self.tls = tls
        self.cluster = LocalCluster(directory, nodes, {"kafka.authentication": "sasl"}, kafka=True)
        if tls is not None:
            authority = Authority.make(tls, None, replace=False)
            for asked in [asked_client("admin"), *(asked_node(i, []) for i in self.cluster.nodes)]:
                authority.issue(asked, 30, replace=False)
            for i, node in self.cluster.nodes.items():
                node.settings = {**node.settings, "security": "on", "tls.dir": tls / f"node-{i}"}

    def admin(self) -> Admin:
        return Admin(self.cluster.bootstrap, tls=None if self.tls is None else self.tls / "admin")

    @property
    def ca(self) -> str:
        assert self.tls is not None
        return str(self.tls / "ca" / "ca.crt")

    def kafka_python(self, mechanism: str, password: str = PASSWORD, user: str = "alice") -> dict[str, Any]:
        return {
            "bootstrap_servers": self.cluster.kafka_bootstrap,
            "security_protocol": "SASL_PLAINTEXT" if self.tls is None else "SASL_SSL",
            "sasl_mechanism": mechanism,
            "sasl_plain_username": user,
            "sasl_plain_password": password,
            **({} if self.tls is None else {"ssl_cafile": self.ca}),
        }

    def confluent(self, mechanism: str, password: str = PASSWORD) -> dict[str, Any]:
        return {
            "bootstrap.servers": ",".join(self.cluster.kafka_bootstrap),
            "security.protocol": "SASL_PLAINTEXT" if self.tls is None else "SASL_SSL",
            "sasl.mechanism": mechanism,
            "sasl.username": "alice",
            "sasl.password": password,
            **({} if self.tls is None else {"ssl.ca.location": self.ca}),
        }

    def aiokafka(self, mechanism: str, password: str = PASSWORD) -> dict[str, Any]:
        from aiokafka.helpers import create_ssl_context

        settings = self.kafka_python(mechanism, password)
        settings.pop("ssl_cafile", None)
        return {**settings, **({} if self.tls is None else {"ssl_context": create_ssl_context(cafile=self.ca)})}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    yield from opened(Door(tmp_path_factory.mktemp("plain"), 1, None))


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    directory = tmp_path_factory.mktemp("secure")
    yield from opened(Door(directory, 3, directory / "secure"))


def opened(door: Door) -> Iterator[Door]:
    with door.cluster as cluster:
        cluster.start().wait_ready()
        with door.admin() as admin:
            admin.finalize_feature()
            admin.create_user("alice", PASSWORD)
            admin.create_topic("t", partitions=3)
        yield door
        for node in cluster.nodes.values():
            assert PASSWORD not in node.log()
            assert OTHER not in node.log()


@pytest.fixture
def door(request: pytest.FixtureRequest) -> Door:
    found: Door = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(("door", "mechanism"), LOGINS, indirect=["door"])
def test_kafka_python(door: Door, mechanism: str, caplog: pytest.LogCaptureFixture) -> None:
    producer = KafkaProducer(**door.kafka_python(mechanism))
    producer.send("t", mechanism.encode()).get(10)
    producer.close()
    consumer = KafkaConsumer(
        "t", **door.kafka_python(mechanism), auto_offset_reset="earliest", consumer_timeout_ms=10_000
    )
    assert mechanism.encode() in (record.value for record in consumer)
    consumer.close()
    # It tries again after such an error for as long as it may.
    with pytest.raises(KafkaError):
        KafkaProducer(**door.kafka_python(mechanism, "wrong"), bootstrap_timeout_ms=700)
    assert "SaslAuthenticationFailedError: authentication failed: wrong user or password" in caplog.text
    assert "socket disconnected" not in caplog.text


@pytest.mark.parametrize(("door", "mechanism"), LOGINS, indirect=["door"])
def test_librdkafka(door: Door, mechanism: str) -> None:
    confluent = pytest.importorskip("confluent_kafka")
    errors: list[Any] = []
    producer = confluent.Producer(door.confluent(mechanism))
    producer.produce("t", b"x")
    assert producer.flush(10) == 0
    wrong = confluent.Producer({**door.confluent(mechanism, "wrong"), "error_cb": errors.append})
    began = time.monotonic()
    while not any(error.code() == confluent.KafkaError._AUTHENTICATION for error in errors):
        wrong.poll(0.05)
        assert time.monotonic() - began < 15, errors
    assert "wrong user or password" in str(errors[0])


@pytest.mark.parametrize(("door", "mechanism"), LOGINS, indirect=["door"])
async def test_aiokafka(door: Door, mechanism: str) -> None:
    aiokafka = pytest.importorskip("aiokafka")
    async with aiokafka.AIOKafkaProducer(**door.aiokafka(mechanism)) as producer:
        await producer.send_and_wait("t", b"y")
    began = time.monotonic()
    wrong = aiokafka.AIOKafkaProducer(**door.aiokafka(mechanism, "wrong"))
    try:
        with pytest.raises(aiokafka.errors.KafkaError):
            await wrong.start()
    finally:
        await wrong.stop()
    assert time.monotonic() - began < 20


def test_a_session_ends_within_a_second_of_its_password_on_every_node(secure: Door) -> None:
    ended = "was removed, or has another password"
    with secure.admin() as admin:
        admin.create_user("bob", PASSWORD)
        producer = KafkaProducer(**secure.kafka_python("SCRAM-SHA-512", user="bob"))
        consumer = KafkaConsumer(**secure.kafka_python("PLAIN", user="bob"))
        for partition in range(3):
            producer.send("t", b"z", partition=partition).get(10)
        consumer.topics()
        assert not any(ended in node.log() for node in secure.cluster.nodes.values())
        admin.change_password("bob", OTHER)
        eventually(lambda: sum(ended in node.log() for node in secure.cluster.nodes.values()) > 0, True, 1)
        assert_is_out(producer)
        consumer.close()
        again = KafkaProducer(**secure.kafka_python("SCRAM-SHA-256", OTHER, "bob"))
        again.send("t", b"again").get(10)
        admin.remove_user("bob")
        assert_is_out(again)


def assert_is_out(producer: KafkaProducer) -> None:
    with pytest.raises(KafkaError):
        producer.send("t", b"late").get(1)
    with suppress(KafkaError):
        producer.close(0)


def test_users_are_administrated_at_this_door_too(secure: Door) -> None:
    client = KafkaAdminClient(**secure.kafka_python("SCRAM-SHA-256"))
    new = UserScramCredentialUpsertion("carol", "SCRAM-SHA-256", OTHER, iterations=8192)
    assert client.alter_user_scram_credentials([new]) == {"carol": None}
    with secure.admin() as admin:
        assert admin.list_users()["carol"].credentials == {"SCRAM-SHA-256": 8192}
    KafkaProducer(**secure.kafka_python("PLAIN", OTHER, "carol")).close()
    assert "8192" in str(client.describe_user_scram_credentials(["carol"]))
    removal = UserScramCredentialDeletion("carol", "SCRAM-SHA-256")
    assert client.alter_user_scram_credentials([removal]) == {"carol": None}
    assert "carol" in str(client.alter_user_scram_credentials([removal])["carol"])
    assert set(client.describe_user_scram_credentials()) == {"alice"}
    client.close()

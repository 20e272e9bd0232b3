"""Records make images: each kind, what a delta names, snapshots, and what must never be guessed over."""

import pytest

from node.metadata.apply import (
    BROKER_CONFIG,
    TOPIC_CONFIG,
    apply,
    from_snapshot,
    snapshot_bytes,
    snapshot_delta,
    unloadable,
)
from node.metadata.image import Delta, Image, UnsupportedFeature
from node.metadata.publisher import MetadataPublisher
from ottla.internal.v1 import metadata_pb2 as pb
from ottla.protocol.invariant import InvariantError

TOPIC = b"t" * 16
OTHER = b"u" * 16


def entry(*records: object) -> pb.MetadataRecords:
    kinds = {
        pb.RegisterBrokerRecord: "register_broker",
        pb.BrokerChangeRecord: "broker_change",
        pb.UnregisterBrokerRecord: "unregister_broker",
        pb.TopicRecord: "topic",
        pb.RemoveTopicRecord: "remove_topic",
        pb.PartitionRecord: "partition",
        pb.PartitionChangeRecord: "partition_change",
        pb.ConfigRecord: "config",
        pb.ProducerIdsRecord: "producer_ids",
        pb.FeatureLevelRecord: "feature_level",
        pb.UserScramCredentialRecord: "user_scram_credential",
        pb.RemoveUserScramCredentialRecord: "remove_user_scram_credential",
        pb.ClusterSecretRecord: "cluster_secret",
        pb.SessionKeyRecord: "session_key",
    }
    return pb.MetadataRecords(records=[pb.MetadataRecord(**{kinds[type(r)]: r}) for r in records])  # type: ignore[index, arg-type]


def register(node_id: int, epoch: int, disk: bytes = b"") -> pb.RegisterBrokerRecord:
    return pb.RegisterBrokerRecord(
        node_id=node_id,
        directory_id=disk or bytes([node_id]) * 16,
        incarnation_id=b"i" * 16,
        broker_epoch=epoch,
        client_address="h:1",
        replication_address="h:2",
        control_address="h:3",
        rack="r",
        version="0.1",
        endpoints=[pb.Endpoint(name="kafka", host="h", port=4)],
    )


def scram(user: str = "alice", mechanism: int = 1, salt: bytes = b"salt") -> pb.UserScramCredentialRecord:
    return pb.UserScramCredentialRecord(
        user=user, mechanism=mechanism, iterations=4096, salt=salt, stored_key=b"stored", server_key=b"server"
    )


def partition(n: int = 0, topic_id: bytes = TOPIC) -> pb.PartitionRecord:
    return pb.PartitionRecord(
        topic_id=topic_id,
        partition=n,
        replicas=[1, 2],
        directories=[b"\1" * 16, b"\2" * 16],
        isr=[1, 2],
        leader=1,
        last_known_leader=-1,
    )


@pytest.fixture
def image() -> Image:
    return apply(
        Image.EMPTY,
        entry(
            pb.FeatureLevelRecord(name="metadata.version", level=1),
            register(1, 5),
            register(2, 5),
            pb.BrokerChangeRecord(node_id=1, broker_epoch=5, fenced=False),
            pb.TopicRecord(topic_id=TOPIC, name="t"),
            partition(0),
            partition(1),
            pb.ConfigRecord(resource_type=TOPIC_CONFIG, resource_name=TOPIC.hex(), key="flush", value="ack"),
            pb.ConfigRecord(resource_type=BROKER_CONFIG, resource_name="", key="log.retention.ms", value="5"),
            pb.ProducerIdsRecord(node_id=1, broker_epoch=5, next_producer_id=1001),
            pb.ClusterSecretRecord(secret=b"s" * 32),
            pb.SessionKeyRecord(id=3, key=b"kkkkkkkk"),
            scram(),
            scram(mechanism=2),
        ),
        5,
        2,
    )[0]


def step(image: Image, *records: object) -> tuple[Image, Delta]:
    return apply(image, entry(*records), image.index + 1, image.term)


def test_an_image_answers_by_id_name_and_number(image: Image) -> None:
    topic = image.topic_named("t")
    assert topic is not None
    assert topic is image.topic(TOPIC)
    assert (image.index, image.term, topic.replication_factor, len(topic.partitions)) == (5, 2, 2, 2)
    assert image.topic_named("u") is None
    assert image.topic(OTHER) is None
    assert [image.partition(TOPIC, n) is None for n in (-1, 0, 1, 2)] == [True, False, False, True]
    assert image.partition(OTHER, 0) is None
    assert [broker.node_id for broker in image.live_brokers()] == [1]
    assert image.broker_configs[""]["log.retention.ms"] == "5"
    assert image.next_producer_id == 1001


def test_an_image_never_changes(image: Image) -> None:
    before = snapshot_bytes(image)
    step(image, pb.RemoveTopicRecord(topic_id=TOPIC), pb.UnregisterBrokerRecord(node_id=1, broker_epoch=5))
    assert snapshot_bytes(image) == before
    with pytest.raises(TypeError):
        image.topics[OTHER] = image.topics[TOPIC]  # type: ignore[index]
    with pytest.raises(AttributeError):
        image.index = 6  # type: ignore[misc]


def test_a_partition_change_keeps_what_it_does_not_name_and_raises_epochs(image: Image) -> None:
    change = pb.PartitionChangeRecord(topic_id=TOPIC, partition=1, isr=pb.NodeList(ids=[1]), elr=pb.NodeList(ids=[2]))
    after, delta = step(image, change)
    p = after.partition(TOPIC, 1)
    assert p is not None
    assert (p.isr, p.elr, p.leader, p.leader_epoch, p.partition_epoch) == ((1,), (2,), 1, 0, 1)
    assert delta.changed_partitions == {(TOPIC, 1)}
    change = pb.PartitionChangeRecord(
        topic_id=TOPIC, partition=1, leader=-1, isr=pb.NodeList(), last_known_leader=1, recovering=True
    )
    p = step(after, change)[0].partition(TOPIC, 1)
    assert p is not None
    assert (p.isr, p.elr, p.leader, p.leader_epoch, p.partition_epoch) == ((), (2,), -1, 1, 2)
    assert (p.last_known_leader, p.recovering) == (1, True)


def test_the_same_leader_in_a_new_epoch_is_a_change_of_leader(image: Image) -> None:
    p = step(image, pb.PartitionChangeRecord(topic_id=TOPIC, partition=0, leader=1))[0].partition(TOPIC, 0)
    assert p is not None
    assert (p.leader, p.leader_epoch) == (1, 1)


def test_new_replicas_get_the_directories_of_their_brokers(image: Image) -> None:
    image, _ = step(image, register(3, 6))
    p = step(image, pb.PartitionChangeRecord(topic_id=TOPIC, partition=0, replicas=pb.NodeList(ids=[3, 1])))[
        0
    ].partition(TOPIC, 0)
    assert p is not None
    assert (p.replicas, p.directories) == ((3, 1), (b"\3" * 16, b"\1" * 16))


def test_a_delta_names_what_changed_and_nothing_else(image: Image) -> None:
    _, delta = step(
        image,
        pb.TopicRecord(topic_id=OTHER, name="u"),
        partition(0, OTHER),
        pb.ConfigRecord(resource_type=TOPIC_CONFIG, resource_name=TOPIC.hex(), key="flush"),
        register(2, 6),
    )
    assert delta.created_topics == {OTHER}
    assert delta.changed_partitions == {(OTHER, 0)}
    assert delta.changed_config_topics == {TOPIC}
    assert delta.changed_brokers == {2}
    assert not delta.deleted_topics
    assert not delta.broker_configs_changed
    after, delta = step(image, pb.RemoveTopicRecord(topic_id=TOPIC))
    assert set(delta.deleted_topics) == {TOPIC}
    assert not delta.changed_partitions
    assert after.topic_named("t") is None
    assert step(image)[1].empty


def test_what_is_made_and_deleted_in_one_entry_was_never_there(image: Image) -> None:
    after, delta = step(
        image,
        pb.TopicRecord(topic_id=OTHER, name="u"),
        partition(0, OTHER),
        pb.RemoveTopicRecord(topic_id=OTHER),
    )
    assert delta.empty
    assert after.topics == image.topics


def test_the_last_config_of_a_resource_leaves_nothing_behind(image: Image) -> None:
    records = [pb.ConfigRecord(resource_type=BROKER_CONFIG, resource_name="", key="log.retention.ms")]
    after, delta = step(image, *records)
    assert dict(after.broker_configs) == {}
    assert delta.broker_configs_changed


def test_a_broker_with_another_disk_takes_its_replicas_there(image: Image) -> None:
    after, delta = step(image, register(2, 6, disk=b"n" * 16))
    p = after.partition(TOPIC, 0)
    assert p is not None
    assert p.directories == (b"\1" * 16, b"n" * 16)
    assert p.partition_epoch == 0
    assert delta.changed_partitions == {(TOPIC, 0), (TOPIC, 1)}


@pytest.mark.parametrize(
    "record",
    [
        register(1, 5),
        register(1, 4),
        pb.BrokerChangeRecord(node_id=1, broker_epoch=4, fenced=True),
        pb.BrokerChangeRecord(node_id=9, broker_epoch=1, fenced=True),
        pb.UnregisterBrokerRecord(node_id=2, broker_epoch=1),
        pb.TopicRecord(topic_id=TOPIC, name="other"),
        pb.TopicRecord(topic_id=OTHER, name="t"),
        pb.RemoveTopicRecord(topic_id=OTHER),
        partition(3),
        partition(-1),
        partition(0, OTHER),
        pb.PartitionChangeRecord(topic_id=TOPIC, partition=2, leader=1),
        pb.ConfigRecord(resource_type=TOPIC_CONFIG, resource_name=OTHER.hex(), key="flush", value="ack"),
        pb.ConfigRecord(resource_type=7, resource_name="x", key="k", value="v"),
        pb.ProducerIdsRecord(next_producer_id=1000),
        pb.ClusterSecretRecord(secret=b"t" * 32),
        pb.SessionKeyRecord(id=3, key=b"x"),
        pb.RemoveUserScramCredentialRecord(user="bob", mechanism=1),
        pb.RemoveUserScramCredentialRecord(user="alice", mechanism=3),
    ],
)
def test_a_record_that_contradicts_the_image_is_a_bug_and_is_not_guessed_over(image: Image, record: object) -> None:
    before = snapshot_bytes(image)
    with pytest.raises(InvariantError):
        step(image, register(3, 6), record)
    assert snapshot_bytes(image) == before


def test_a_record_kind_of_a_newer_build_is_refused_not_skipped(image: Image) -> None:
    unknown = pb.MetadataRecords.FromString(b"\x0a\x04\xfa\x3e\x01x")
    with pytest.raises(InvariantError, match="kind that this build does not know"):
        apply(image, unknown, 6, 2)


def test_an_index_does_not_go_back(image: Image) -> None:
    with pytest.raises(InvariantError, match="entry 5 applied to an image at 5"):
        apply(image, entry(), 5, 2)


def test_a_snapshot_gives_the_same_image_and_equal_images_equal_bytes(image: Image) -> None:
    again = from_snapshot(snapshot_bytes(image), image.index, image.term)
    assert again == image
    assert snapshot_bytes(again) == snapshot_bytes(image)
    assert from_snapshot(snapshot_bytes(Image.EMPTY), 0, 0) == Image.EMPTY


def test_a_topic_id_does_not_come_back_in_one_entry(image: Image) -> None:
    with pytest.raises(InvariantError):
        step(image, pb.RemoveTopicRecord(topic_id=TOPIC), pb.TopicRecord(topic_id=TOPIC, name="t"))


def test_a_jump_by_snapshot_names_every_difference(image: Image) -> None:
    after, _ = step(
        image,
        pb.RemoveTopicRecord(topic_id=TOPIC),
        pb.TopicRecord(topic_id=OTHER, name="t"),
        partition(0, OTHER),
        pb.ConfigRecord(resource_type=BROKER_CONFIG, resource_name="", key="log.retention.ms"),
        register(2, 6),
    )
    delta = snapshot_delta(image, after)
    assert delta.snapshot
    assert not delta.empty
    assert (delta.created_topics, set(delta.deleted_topics)) == ({OTHER}, {TOPIC})
    assert (delta.changed_partitions, delta.changed_brokers) == ({(OTHER, 0)}, {2})
    assert (delta.changed_config_topics, delta.broker_configs_changed) == ({OTHER}, True)


def test_the_publisher_applies_then_tells_in_order(image: Image) -> None:
    publisher = MetadataPublisher()
    heard: list[tuple[str, int, int]] = []
    publisher.subscribe(lambda i, _d: heard.append(("a", i.index, publisher.image.index)))
    publisher.subscribe(lambda i, _d: heard.append(("b", i.index, publisher.image.index)))
    publisher.on_snapshot(5, 2, snapshot_bytes(image))
    publisher.on_committed(6, 3, b"")
    publisher.on_snapshot(5, 2, snapshot_bytes(Image.EMPTY))
    assert heard == [("a", 5, 5), ("b", 5, 5), ("a", 6, 6), ("b", 6, 6)]
    assert publisher.image.topics == image.topics
    assert from_snapshot(publisher.snapshot(), 6, 3) == publisher.image


@pytest.mark.parametrize(("name", "level"), [("metadata.version", 99), ("share.version", 1)])
def test_a_level_that_this_build_does_not_support_stops_it_with_the_feature_s_name(
    image: Image, name: str, level: int
) -> None:
    with pytest.raises(UnsupportedFeature, match=f"{name} {level}, this build supports"):
        step(image, pb.FeatureLevelRecord(name=name, level=level))
    snapshot = pb.MetadataRecords(
        records=[pb.MetadataRecord(feature_level=pb.FeatureLevelRecord(name=name, level=level))]
    ).SerializeToString()
    with pytest.raises(UnsupportedFeature, match=name):
        from_snapshot(snapshot, 9, 3)


def test_a_feature_that_is_switched_off_needs_no_support(image: Image) -> None:
    assert step(image, pb.FeatureLevelRecord(name="share.version", level=0))[0].features["share.version"] == 0


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([], ""),
        ([pb.MetadataRecord(topic=pb.TopicRecord(topic_id=b"t" * 16, name="t"))], ""),
        ([pb.MetadataRecord(topic=pb.TopicRecord(topic_id=b"t" * 16, name="t"))] * 2, "created twice"),
        ([pb.MetadataRecord(partition=pb.PartitionRecord(topic_id=b"t" * 16))], "unknown topic"),
        ([pb.MetadataRecord()], "does not know"),
        ([pb.MetadataRecord(config=pb.ConfigRecord(resource_type=2, resource_name="no hex"))], "fromhex"),
        ([pb.MetadataRecord(feature_level=pb.FeatureLevelRecord(name="metadata.version", level=99))], "supports"),
    ],
)
def test_a_snapshot_is_tried_out_before_it_counts(records, why):
    found = unloadable(pb.MetadataRecords(records=records).SerializeToString())
    assert why in found
    assert bool(found) == bool(why)


def test_bytes_that_are_no_snapshot_are_none():
    assert unloadable(b"\xff\xff\xff")


def test_credentials_are_set_one_by_one_and_a_user_without_any_is_none(image: Image) -> None:
    after, delta = step(image, scram(mechanism=2, salt=b"other"), scram("bob"))
    assert delta.users_changed
    assert not delta.empty
    assert after.users["alice"][1] == image.users["alice"][1]
    assert (after.users["alice"][2].salt, image.users["alice"][2].salt) == (b"other", b"salt")
    last, _ = step(after, *(pb.RemoveUserScramCredentialRecord(user="alice", mechanism=n) for n in (1, 2)))
    assert (set(last.users), set(after.users)) == ({"bob"}, {"alice", "bob"})
    assert from_snapshot(snapshot_bytes(last), last.index, last.term) == last
    assert snapshot_delta(image, last).users_changed
    assert not snapshot_delta(last, last).users_changed
    assert step(last, register(3, 6))[0].users is last.users, "what does not change is not copied"


def test_what_is_kept_of_a_password_is_not_shown(image: Image) -> None:
    assert not any(secret in repr(image) for secret in ("salt", "stored", "server'", "ssss", "kkkk"))


def test_two_keys_of_sessions_count_the_newest_and_the_one_before(image: Image) -> None:
    after, delta = step(image, pb.SessionKeyRecord(id=4, key=b"4"))
    last, _ = step(after, pb.SessionKeyRecord(id=6, key=b"6"))
    assert [[key.id for key in each.session_keys] for each in (image, after, last)] == [[3], [3, 4], [4, 6]]
    assert (delta.session_keys_changed, delta.empty) == (True, False)
    assert from_snapshot(snapshot_bytes(last), last.index, last.term) == last
    assert snapshot_delta(image, last).session_keys_changed
    assert not snapshot_delta(last, last).session_keys_changed
    assert not step(last, scram("bob"))[1].session_keys_changed

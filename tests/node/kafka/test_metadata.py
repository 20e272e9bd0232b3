"""Metadata's answers from kept bytes are those of the generated writer."""

from typing import Any

import pytest
from hypothesis import given, settings

from node.kafka import codec, metadata
from node.kafka.messages import metadata as messages
from node.kafka.schema.table import load
from tests.node.kafka.peers import kio_class, to_message, trees

[METADATA] = [api for api in load() if api.key == 3]


@pytest.mark.parametrize("version", list(METADATA.versions))
def test_kept_bytes_make_the_same_answer(version: int) -> None:
    cls = kio_class(METADATA, version, "response")

    @settings(max_examples=25, deadline=None)
    @given(trees(METADATA.response, version, cls))
    def check(tree: Any) -> None:
        message = to_message(messages.MetadataResponse, METADATA.response, version, tree, messages)
        assert isinstance(message, messages.MetadataResponse)
        topics = [metadata.topic_bytes(version, topic) for topic in message.topics]
        head = messages.MetadataResponse(
            message.throttle_time_ms,
            message.brokers,
            message.cluster_id,
            message.controller_id,
            (),
            message.cluster_authorized_operations,
            message.error_code,
        )
        assert b"".join(metadata.response_parts(version, head, topics)) == codec.write_body(3, version, message)

    check()


@pytest.mark.parametrize("version", [4, 8, 12])
@pytest.mark.parametrize("replicas", [126, 127, 300])
def test_a_partition_of_many_replicas(version: int, replicas: int) -> None:
    partition = messages.MetadataResponsePartition(0, 1, 2, 3, range(replicas), range(3), ())
    topic = messages.MetadataResponseTopic(0, "t", bytes(16), False, [partition])
    answer = messages.MetadataResponse(topics=[topic])
    parts = metadata.response_parts(version, messages.MetadataResponse(), [metadata.topic_bytes(version, topic)])
    assert b"".join(parts) == codec.write_body(3, version, answer)


def test_a_topic_is_encoded_once_until_the_metadata_moves_on() -> None:
    kept, asked = metadata.TopicBytes(), []

    def make() -> messages.MetadataResponseTopic:
        asked.append(1)
        return messages.MetadataResponseTopic(0, "t", bytes(16), False, ())

    first = kept.get(7, 12, "t", False, make)
    assert kept.get(7, 12, "t", False, make) is first
    assert len(asked) == 1
    kept.get(7, 9, "t", False, make)  # another version
    kept.get(7, 12, "t", True, make)  # with the operations that the client may do
    assert len(asked) == 3
    assert kept.get(8, 12, "t", False, make) is not first
    assert len(asked) == 4

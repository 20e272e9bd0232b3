"""The quorum as clients of Kafka are told of it."""

from typing import Any

import pytest

from node.kafka.codec import write_body
from node.kafka.handlers.quorum import TOPIC, DescribeQuorumHandler
from node.kafka.messages.describe_quorum import DescribedPartition, DescribedTopic, DescribeQuorumRequest
from ottla.v1 import error_pb2 as pb
from ottla.v1.cluster_pb2 import DescribeQuorumResponse, QuorumReplica
from tests.node.kafka.controlled import ask
from tests.node.kafka.peers import from_kio, kio_class, kio_parse
from tests.node.kafka.test_schema import APIS

DESCRIBE_QUORUM = 55
[API] = [each for each in APIS if each.key == DESCRIBE_QUORUM]
LED = DescribeQuorumResponse(
    leader_id=1,
    leader_epoch=7,
    commit_index=99,
    last_index=101,
    node_id=1,
    voters=[
        QuorumReplica(node_id=1, directory_id=b"a" * 16, match_index=101, lag_ms=0, address="127.0.0.1:9192"),
        QuorumReplica(node_id=2, directory_id=b"b" * 16, match_index=90, lag_ms=500, address="[::1]:9193"),
    ],
    observers=[QuorumReplica(node_id=4, directory_id=b"d" * 16)],
)


async def asked(quorum: DescribeQuorumResponse, version: int, **topics: list[int]) -> Any:
    """The answer as another implementation reads it."""

    async def describe() -> DescribeQuorumResponse:
        return quorum

    wanted = [DescribedTopic(name, [DescribedPartition(n) for n in numbers]) for name, numbers in topics.items()]
    answer = await ask(DescribeQuorumHandler(describe, lambda: 1_000_000), DescribeQuorumRequest(wanted), version)
    return from_kio(kio_parse(kio_class(API, version, "response"), write_body(DESCRIBE_QUORUM, version, answer)))


@pytest.mark.parametrize("version", range(3))
async def test_who_leads_and_how_far_the_others_are(version: int) -> None:
    found = await asked(LED, version, **{TOPIC: [0]})
    assert found["error_code"] == 0
    [topic] = found["topics"]
    [part] = topic["partitions"]
    assert topic["topic_name"] == TOPIC
    assert (part["error_code"], part["leader_id"], part["leader_epoch"], part["high_watermark"]) == (0, 1, 7, 100)
    ends = [(each["replica_id"], each["log_end_offset"]) for each in part["current_voters"] + part["observers"]]
    assert ends == [(1, 102), (2, 91), (4, -1)]
    if version >= 2:
        assert part["current_voters"][1]["replica_directory_id"] == b"b" * 16
        at = [(n["node_id"], n["listeners"][0]["host"], n["listeners"][0]["port"]) for n in found["nodes"]]
        assert at == [(1, "127.0.0.1", 9192), (2, "::1", 9193)]


async def test_when_a_voter_was_last_caught_up() -> None:
    async def describe() -> DescribeQuorumResponse:
        return LED

    wanted = DescribeQuorumRequest([DescribedTopic(TOPIC, [DescribedPartition(0)])])
    answer = await ask(DescribeQuorumHandler(describe, lambda: 1_000_000), wanted, 2)
    one, two = answer.topics[0].partitions[0].current_voters
    assert (one.last_caught_up_timestamp, two.last_caught_up_timestamp) == (1_000_000, 999_500)
    assert answer.topics[0].partitions[0].observers[0].last_caught_up_timestamp == -1


async def test_without_a_leader_a_node_says_what_it_has() -> None:
    alone = DescribeQuorumResponse(
        commit_index=5, last_index=8, leaderless_ms=700, node_id=2, leader_epoch=2**40,
        voters=[QuorumReplica(node_id=1), QuorumReplica(node_id=2)],
    )  # fmt: skip
    found = await asked(alone, 2, **{TOPIC: [0]})
    [part] = found["topics"][0]["partitions"]
    assert (part["error_code"], part["leader_id"], part["leader_epoch"]) == (5, -1, 2**31 - 1)
    assert "700 ms" in part["error_message"]
    assert [each["log_end_offset"] for each in part["current_voters"]] == [-1, 9]
    assert [each["listeners"] for each in found["nodes"]] == [[], []]


async def test_there_is_no_other_quorum() -> None:
    for topics in ({"t": [0]}, {TOPIC: [1]}, {TOPIC: [0, 1]}, {TOPIC: []}, {TOPIC: [0], "t": [-1]}, {}):
        found = await asked(LED, 2, **topics)
        told = {each["topic_name"]: [part["error_code"] for part in each["partitions"]] for each in found["topics"]}
        assert told == {name: [3] * len(numbers) for name, numbers in topics.items()}


async def test_what_went_wrong_is_told() -> None:
    error = pb.Error(code=pb.ERROR_CODE_NOT_CONTROLLER, message="none is active")
    found = await asked(DescribeQuorumResponse(error=error), 2, **{TOPIC: [0]})
    assert (found["error_code"], found["error_message"], found["topics"]) == (41, "none is active", [])

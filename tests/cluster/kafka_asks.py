"""A request of each API of Kafka that names a topic and a group, and what whoever may nothing is told."""

from typing import Any, NamedTuple

from tests.peers.batches import batch

TOPIC, GROUP, CLUSTER = 29, 30, 31
"""Error codes: the ..._AUTHORIZATION_FAILED of each."""
UNKNOWN_TOPIC_ID = 100


class Ask(NamedTuple):
    version: int
    body: dict[str, Any]
    refused: int | None
    """None: there is nothing to refuse, and nothing in the answer that a right is for."""


def asks(topic: str, group: str) -> dict[str, Ask]:
    """By the API's name: those of Kafka's documentation ("Operations and Resources on Protocols")."""
    parts = {"partitions": [{"partition_index": 0}]}
    committed = {"partition_index": 0, "committed_offset": 1}
    config = {"resource_type": 2, "resource_name": topic}
    filter_ = {
        "resource_type_filter": 1, "pattern_type_filter": 1, "operation": 1, "permission_type": 1,
    }  # fmt: skip
    acl = {
        "resource_type": 2, "resource_name": topic, "resource_pattern_type": 3, "principal": "User:eve", "host": "*",
        "operation": 3, "permission_type": 3,
    }  # fmt: skip
    member = {"group_id": group, "member_id": "m"}
    joins = {"rebalance_timeout_ms": 1000, "subscribed_topic_names": [topic], "topic_partitions": []}
    moves = [{"partition_index": 0, "replicas": [1]}]
    data = [{"name": topic, "partition_data": [{"index": 0, "records": batch([b"x"])}]}]
    quota = {
        "entity": [{"entity_type": "user", "entity_name": "eve"}],
        "ops": [{"key": "producer_byte_rate", "value": 1.0, "remove": True}],
    }
    return {
        "Produce": Ask(12, {"acks": -1, "timeout_ms": 1, "topic_data": data}, TOPIC),
        "Fetch": Ask(12, {"max_bytes": 99, "topics": [{"topic": topic, "partitions": [{"partition": 0}]}]}, TOPIC),
        "ListOffsets": Ask(7, {"replica_id": -1, "topics": [{"name": topic, **parts}]}, TOPIC),
        "Metadata": Ask(12, {"topics": [{"name": topic}], "allow_auto_topic_creation": False}, TOPIC),
        "OffsetCommit": Ask(8, {"group_id": group, "topics": [{"name": topic, "partitions": [committed]}]}, GROUP),
        "OffsetFetch": Ask(8, {"groups": [{"group_id": group, "topics": None}]}, GROUP),
        "FindCoordinator": Ask(4, {"key_type": 0, "coordinator_keys": [group]}, GROUP),
        "JoinGroup": Ask(7, {**member, "session_timeout_ms": 9000, "protocol_type": "consumer"}, GROUP),
        "Heartbeat": Ask(4, member, GROUP),
        "LeaveGroup": Ask(4, {"group_id": group, "members": [{"member_id": "m"}]}, GROUP),
        "SyncGroup": Ask(5, {**member, "protocol_type": "consumer", "protocol_name": "range"}, GROUP),
        "DescribeGroups": Ask(5, {"groups": [group], "include_authorized_operations": True}, GROUP),
        "ListGroups": Ask(4, {}, None),
        "ApiVersions": Ask(3, {"client_software_name": "eve", "client_software_version": "1"}, None),
        "CreateTopics": Ask(7, {"topics": [{"name": topic, "num_partitions": 1, "replication_factor": 1}]}, TOPIC),
        "DeleteTopics": Ask(6, {"topics": [{"name": topic}], "timeout_ms": 1000}, TOPIC),
        "DeleteRecords": Ask(2, {"topics": [{"name": topic, **parts}], "timeout_ms": 1000}, TOPIC),
        "InitProducerId": Ask(4, {"transactional_id": None, "transaction_timeout_ms": 1000}, CLUSTER),
        "OffsetForLeaderEpoch": Ask(4, {"topics": [{"topic": topic, "partitions": [{"partition": 0}]}]}, TOPIC),
        "DescribeAcls": Ask(3, filter_, CLUSTER),
        "CreateAcls": Ask(3, {"creations": [acl]}, CLUSTER),
        "DeleteAcls": Ask(3, {"filters": [filter_]}, CLUSTER),
        "DescribeConfigs": Ask(4, {"resources": [config]}, TOPIC),
        "AlterConfigs": Ask(2, {"resources": [config]}, TOPIC),
        "DescribeLogDirs": Ask(4, {"topics": None}, CLUSTER),
        "CreatePartitions": Ask(3, {"topics": [{"name": topic, "count": 9}], "timeout_ms": 1000}, TOPIC),
        "DeleteGroups": Ask(2, {"groups_names": [group]}, GROUP),
        "ElectLeaders": Ask(2, {"topic_partitions": None, "timeout_ms": 1000}, CLUSTER),
        "IncrementalAlterConfigs": Ask(1, {"resources": [config]}, TOPIC),
        "AlterPartitionReassignments": Ask(0, {"topics": [{"name": topic, "partitions": moves}]}, CLUSTER),
        "ListPartitionReassignments": Ask(0, {"topics": None}, CLUSTER),
        "UnregisterBroker": Ask(0, {"broker_id": 99}, CLUSTER),
        "OffsetDelete": Ask(0, {"group_id": group, "topics": [{"name": topic, **parts}]}, GROUP),
        "DescribeClientQuotas": Ask(1, {"components": []}, CLUSTER),
        "AlterClientQuotas": Ask(1, {"entries": [quota]}, CLUSTER),
        "DescribeUserScramCredentials": Ask(0, {"users": None}, CLUSTER),
        "AlterUserScramCredentials": Ask(0, {"deletions": [{"name": "alice", "mechanism": 1}]}, CLUSTER),
        "DescribeQuorum": Ask(1, {"topics": [{"topic_name": "__cluster_metadata", **parts}]}, CLUSTER),
        "DescribeCluster": Ask(1, {"include_cluster_authorized_operations": True}, None),
        "DescribeProducers": Ask(0, {"topics": [{"name": topic, "partition_indexes": [0]}]}, TOPIC),
        "ListTransactions": Ask(0, {}, None),
        "ConsumerGroupHeartbeat": Ask(0, {**member, **joins}, GROUP),
        "ConsumerGroupDescribe": Ask(0, {"group_ids": [group]}, GROUP),
        "DescribeTopicPartitions": Ask(0, {"topics": [{"name": topic}], "response_partition_limit": 9}, TOPIC),
    }  # fmt: skip


def codes(answer: Any) -> set[int]:
    """All error codes in an answer that say something."""
    if isinstance(answer, list):
        return set().union(*map(codes, answer))
    if not isinstance(answer, dict):
        return set()
    own = {code} if (code := answer.get("error_code")) else set()
    return own.union(*map(codes, answer.values()))

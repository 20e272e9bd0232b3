"""Every API that has codecs, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from typing import Final, NamedTuple


class Api(NamedTuple):
    key: int
    name: str
    low: int
    high: int
    flexible: int  # the first version with tagged fields and compact lengths
    module: str


APIS: Final = {
    0: Api(0, "Produce", 0, 13, 9, "node.kafka.produce"),
    1: Api(1, "Fetch", 4, 18, 12, "node.kafka.fetch"),
    2: Api(2, "ListOffsets", 1, 11, 6, "node.kafka.messages.list_offsets"),
    3: Api(3, "Metadata", 0, 13, 9, "node.kafka.messages.metadata"),
    8: Api(8, "OffsetCommit", 1, 10, 8, "node.kafka.messages.offset_commit"),
    9: Api(9, "OffsetFetch", 1, 10, 6, "node.kafka.messages.offset_fetch"),
    10: Api(10, "FindCoordinator", 0, 6, 3, "node.kafka.messages.find_coordinator"),
    11: Api(11, "JoinGroup", 0, 9, 6, "node.kafka.messages.join_group"),
    12: Api(12, "Heartbeat", 0, 4, 4, "node.kafka.messages.heartbeat"),
    13: Api(13, "LeaveGroup", 0, 5, 4, "node.kafka.messages.leave_group"),
    14: Api(14, "SyncGroup", 0, 5, 4, "node.kafka.messages.sync_group"),
    15: Api(15, "DescribeGroups", 0, 6, 5, "node.kafka.messages.describe_groups"),
    16: Api(16, "ListGroups", 0, 5, 3, "node.kafka.messages.list_groups"),
    17: Api(17, "SaslHandshake", 0, 1, 32768, "node.kafka.messages.sasl_handshake"),
    18: Api(18, "ApiVersions", 0, 4, 3, "node.kafka.messages.api_versions"),
    19: Api(19, "CreateTopics", 0, 7, 5, "node.kafka.messages.create_topics"),
    20: Api(20, "DeleteTopics", 0, 6, 4, "node.kafka.messages.delete_topics"),
    21: Api(21, "DeleteRecords", 0, 2, 2, "node.kafka.messages.delete_records"),
    22: Api(22, "InitProducerId", 0, 4, 2, "node.kafka.messages.init_producer_id"),
    23: Api(23, "OffsetForLeaderEpoch", 2, 4, 4, "node.kafka.messages.offset_for_leader_epoch"),
    29: Api(29, "DescribeAcls", 0, 3, 2, "node.kafka.messages.describe_acls"),
    30: Api(30, "CreateAcls", 0, 3, 2, "node.kafka.messages.create_acls"),
    31: Api(31, "DeleteAcls", 0, 3, 2, "node.kafka.messages.delete_acls"),
    32: Api(32, "DescribeConfigs", 0, 4, 4, "node.kafka.messages.describe_configs"),
    33: Api(33, "AlterConfigs", 0, 2, 2, "node.kafka.messages.alter_configs"),
    35: Api(35, "DescribeLogDirs", 0, 4, 2, "node.kafka.messages.describe_log_dirs"),
    36: Api(36, "SaslAuthenticate", 0, 2, 2, "node.kafka.messages.sasl_authenticate"),
    37: Api(37, "CreatePartitions", 0, 3, 2, "node.kafka.messages.create_partitions"),
    42: Api(42, "DeleteGroups", 0, 2, 2, "node.kafka.messages.delete_groups"),
    43: Api(43, "ElectLeaders", 0, 2, 2, "node.kafka.messages.elect_leaders"),
    44: Api(44, "IncrementalAlterConfigs", 0, 1, 1, "node.kafka.messages.incremental_alter_configs"),
    45: Api(45, "AlterPartitionReassignments", 0, 0, 0, "node.kafka.messages.alter_partition_reassignments"),
    46: Api(46, "ListPartitionReassignments", 0, 0, 0, "node.kafka.messages.list_partition_reassignments"),
    47: Api(47, "OffsetDelete", 0, 0, 32768, "node.kafka.messages.offset_delete"),
    48: Api(48, "DescribeClientQuotas", 0, 1, 1, "node.kafka.messages.describe_client_quotas"),
    49: Api(49, "AlterClientQuotas", 0, 1, 1, "node.kafka.messages.alter_client_quotas"),
    50: Api(50, "DescribeUserScramCredentials", 0, 0, 0, "node.kafka.messages.describe_user_scram_credentials"),
    51: Api(51, "AlterUserScramCredentials", 0, 0, 0, "node.kafka.messages.alter_user_scram_credentials"),
    55: Api(55, "DescribeQuorum", 0, 2, 0, "node.kafka.messages.describe_quorum"),
    60: Api(60, "DescribeCluster", 0, 2, 0, "node.kafka.messages.describe_cluster"),
    61: Api(61, "DescribeProducers", 0, 0, 0, "node.kafka.messages.describe_producers"),
    64: Api(64, "UnregisterBroker", 0, 0, 0, "node.kafka.messages.unregister_broker"),
    66: Api(66, "ListTransactions", 0, 2, 0, "node.kafka.messages.list_transactions"),
    68: Api(68, "ConsumerGroupHeartbeat", 0, 1, 0, "node.kafka.messages.consumer_group_heartbeat"),
    69: Api(69, "ConsumerGroupDescribe", 0, 1, 0, "node.kafka.messages.consumer_group_describe"),
    75: Api(75, "DescribeTopicPartitions", 0, 0, 0, "node.kafka.messages.describe_topic_partitions"),
}

"""DeleteRecords, ElectLeaders and DescribeLogDirs: what happens to replicas, and how large they are."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from node import limits, turns
from node.api.access import Access
from node.api.offsets import OffsetsApi
from node.api.replicas import ReplicasApi
from node.api.topics import Elected, TopicsApi
from node.kafka.connection import Call
from node.kafka.handlers.cluster_facts import ClusterFacts, unexpected, wait_ms
from node.kafka.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from node.kafka.messages.describe_log_dirs import (
    DescribableLogDirTopic,
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)
from node.kafka.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)
from node.kafka.wire import Message
from node.metrics import Metrics
from ottla.protocol.acls import DELETE, DESCRIBE
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

DELETE_LOW, DELETE_HIGH = 0, 2
ELECT_LOW, ELECT_HIGH = 0, 2
DIRS_LOW, DIRS_HIGH = 0, 4
PREFERRED, UNCLEAN = 0, 1
PREFERRED_LEADER_NOT_AVAILABLE: Final = 80


class DeleteRecordsHandler:
    """Each partition at its leader, which clients find."""

    def __init__(self, api: OffsetsApi, facts: ClusterFacts, metrics: Metrics) -> None:
        self._api = api
        self._facts = facts
        self._metrics = metrics

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DeleteRecordsRequest)
        deadline_s = asyncio.get_running_loop().time() + wait_ms(request.timeout_ms) / 1000
        wanted = [(topic.name, part) for topic in request.topics for part in topic.partitions]
        results: list[DeleteRecordsPartitionResult] = []
        for start in range(0, len(wanted), limits.ITEMS_MAX):
            some = wanted[start : start + limits.ITEMS_MAX]
            # A replica that is slow is waited for, and the others meanwhile do what they are asked.
            results += await turns.together(self._one(name, part, deadline_s) for name, part in some)
        told = iter(results)
        return DeleteRecordsResponse(
            topics=[
                DeleteRecordsTopicResult(name=topic.name, partitions=[next(told) for _ in topic.partitions])
                for topic in request.topics
            ]
        )

    async def _one(self, name: str, part: DeleteRecordsPartition, deadline_s: float) -> DeleteRecordsPartitionResult:
        view = self._facts.view
        try:
            topic, state = view.partition(name, b"", part.partition_index, DELETE)
            if state.leader != view.node_id:
                raise view.not_leader(topic, state)
            low = await self._api.delete_records(topic, part.partition_index, part.offset, deadline_s)
        except ApiError as error:
            refusal = error
        except Exception as error:
            refusal = unexpected("DeleteRecords", error)
        else:
            return DeleteRecordsPartitionResult(part.partition_index, low)
        self._metrics.refused("KafkaDeleteRecords", refusal.code)
        return DeleteRecordsPartitionResult(part.partition_index, -1, refusal.code)


class ElectLeadersHandler:
    def __init__(self, api: TopicsApi) -> None:
        self._api = api

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, ElectLeadersRequest)
        everywhere = request.topic_partitions is None
        wanted = [(topic.topic, number) for topic in request.topic_partitions or () for number in topic.partitions]
        code = 0
        elected: Sequence[Elected] = ()
        try:
            if request.election_type not in (PREFERRED, UNCLEAN):
                why = f"election type {request.election_type}: {PREFERRED} is preferred, {UNCLEAN} is unclean"
                raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, why)
            if wanted or everywhere:
                unclean = request.election_type == UNCLEAN
                elected = await self._api.elect(wanted, wait_ms(request.timeout_ms), unclean=unclean)
        except ApiError as error:
            code = error.code
            elected = [Elected(name, number, error) for name, number in wanted]
        by_topic: dict[str, list[PartitionResult]] = defaultdict(list)
        for each in elected:
            by_topic[each.topic].append(_outcome(each, request.election_type))
        return ElectLeadersResponse(
            error_code=code,
            replica_election_results=[ReplicaElectionResult(name, results) for name, results in by_topic.items()],
        )


def _outcome(elected: Elected, election_type: int) -> PartitionResult:
    error = elected.error
    if error is None:
        return PartitionResult(elected.partition, 0, None)
    not_there = error.code == pb.ERROR_CODE_ELIGIBLE_LEADERS_NOT_AVAILABLE and election_type == PREFERRED
    return PartitionResult(
        elected.partition, PREFERRED_LEADER_NOT_AVAILABLE if not_there else error.code, error.message
    )


class DescribeLogDirsHandler:
    """A node has one directory. Of what is not there nothing is said."""

    def __init__(self, api: ReplicasApi, access: Access) -> None:
        self._api = api
        self._access = access

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DescribeLogDirsRequest)
        try:
            self._access.check_cluster(DESCRIBE)
        except ApiError as error:
            return DescribeLogDirsResponse(error_code=error.code)
        wanted = self._api.partitions() if request.topics is None else _by_topic(request.topics)
        topics = []
        seen = 0
        for name, numbers in wanted.items():
            partitions = []
            for number in sorted(set(numbers)):
                seen += 1
                if seen % limits.AT_ONCE == 0:
                    await turns.give_way()
                replica = self._api.replica(name, number)
                if replica is not None:
                    partitions.append(DescribeLogDirsPartition(number, replica.size_bytes, replica.lag))
            if partitions:
                topics.append(DescribeLogDirsTopic(name, partitions))
        return DescribeLogDirsResponse(results=[self._directory(topics)])

    def _directory(self, topics: list[DescribeLogDirsTopic]) -> DescribeLogDirsResult:
        try:
            disk = self._api.disk()
        except OSError:
            return DescribeLogDirsResult(pb.ERROR_CODE_KAFKA_STORAGE_ERROR, self._api.path)
        return DescribeLogDirsResult(0, self._api.path, topics, disk.total_bytes, disk.free_bytes)


def _by_topic(topics: Sequence[DescribableLogDirTopic]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for topic in topics:
        found[topic.topic] += topic.partitions
    return found

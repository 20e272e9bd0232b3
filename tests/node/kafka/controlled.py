"""Handlers of a node whose controller is the real one's decisions, without a network between."""

from collections.abc import Callable
from typing import Any

from node.api.topics import TopicsApi
from node.controller.state.leaders import elect_leaders, everywhere
from node.controller.state.moves import reassign_partitions
from node.controller.state.resource_configs import alter_configs, describe_configs
from node.controller.state.topics import create_partitions, create_topics, delete_topics
from node.controller.state.unregister import unregister_broker
from node.kafka.handlers.cluster_facts import Later
from node.kafka.wire import Message
from node.services.topics import ControllerTopics
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2
from tests.node.controller.support import Cluster
from tests.node.kafka.test_handlers import Asked

DECISIONS: dict[str, Callable[..., Any]] = {
    "CreateTopics": create_topics,
    "DeleteTopics": delete_topics,
    "CreatePartitions": create_partitions,
    "AlterConfigs": alter_configs,
    "DescribeConfigs": describe_configs,
    "ElectLeaders": elect_leaders,
    "ReassignPartitions": reassign_partitions,
    "UnregisterBroker": unregister_broker,
}


class Controlled:
    """`unreachable`: why the controller cannot be asked. `calls`: what it was asked."""

    def __init__(self, cluster: Cluster | None = None) -> None:
        self.cluster = cluster or Cluster()
        self.unreachable: ApiError | None = None
        self.calls: list[tuple[str, Any]] = []
        self.api: TopicsApi = ControllerTopics(self)  # type: ignore[arg-type]

    async def call(self, method: str, request: bytes, timeout_s: float) -> bytes:
        if self.unreachable is not None:
            raise self.unreachable
        asked = getattr(admin_pb2, f"{method}Request").FromString(request)
        self.calls.append((method, asked))
        if method == "ElectLeaders" and not asked.partitions:
            asked = everywhere(self.cluster.image, asked)
        answer: bytes = self.cluster.do(DECISIONS[method], asked).SerializeToString()
        return answer


async def ask(handler: Later, request: Message, version: int = 1) -> Any:
    return await handler(request, Asked(version))  # type: ignore[arg-type]

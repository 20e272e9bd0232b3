"""Partitions moved by clients of Kafka (KIP-455)."""

from types import SimpleNamespace
from typing import Any

import pytest

from node.kafka.codec import write_body
from node.kafka.handlers.moves import MoveHandlers
from node.kafka.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from node.kafka.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from node.kafka.messages.unregister_broker import UnregisterBrokerRequest
from ottla.protocol import acls
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.controller.test_moves import cluster_of, joins
from tests.node.kafka.controlled import Controlled, ask

ALTER, LIST, UNREGISTER = 45, 46, 64
Wanted = tuple[str, int, list[int] | None]


class Rig:
    """A node's handlers: the moves are the controller's, what is listed is of its image. `granted`: on the cluster."""

    def __init__(self) -> None:
        self.controlled = Controlled(cluster_of())
        self.controlled.cluster.assign("t", [1, 2, 3], [2, 3, 1])
        self.granted = {acls.ALTER, acls.DESCRIBE}

    @property
    def image(self) -> Any:
        return self.controlled.cluster.image

    def check_cluster(self, operation: int) -> None:
        if operation not in self.granted:
            raise ApiError(pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED, "denied")

    @property
    def handlers(self) -> MoveHandlers:
        view: Any = SimpleNamespace(image=self.image, access=self)
        return MoveHandlers(self.controlled.api, view)

    async def alter(self, *wanted: Wanted) -> Any:
        topics = [ReassignableTopic(name, [ReassignablePartition(n, nodes)]) for name, n, nodes in wanted]
        answer = await ask(self.handlers.alter, AlterPartitionReassignmentsRequest(5000, topics), 0)
        assert write_body(ALTER, 0, answer)
        codes = [
            (each.name, part.partition_index, part.error_code) for each in answer.responses for part in each.partitions
        ]
        return answer.error_code, codes

    async def list(self, *wanted: tuple[str, list[int]], everything: bool = False) -> Any:
        topics = None if everything else [ListPartitionReassignmentsTopics(*each) for each in wanted]
        answer = await ask(self.handlers.list, ListPartitionReassignmentsRequest(5000, topics), 0)
        assert write_body(LIST, 0, answer)
        found = {
            (topic.name, each.partition_index): (
                list(each.replicas),
                list(each.adding_replicas),
                list(each.removing_replicas),
            )
            for topic in answer.topics
            for each in topic.partitions
        }
        return answer.error_code, found


async def test_moves_begin_are_listed_and_called_off() -> None:
    rig = Rig()
    assert await rig.list(everything=True) == (0, {})
    wanted: list[Wanted] = [("t", 0, [4, 2, 3]), ("t", 1, [2, 3, 9]), ("u", 0, [1]), ("t", 7, None)]
    assert await rig.alter(*wanted) == (0, [("t", 0, 0), ("t", 1, 39), ("u", 0, 3), ("t", 7, 3)])
    moving = {("t", 0): ([1, 2, 3, 4], [4], [1])}
    assert await rig.list(everything=True) == (0, moving)
    assert await rig.list(("t", [0, 1, 9]), ("missing", [0])) == (0, moving)
    assert await rig.list(("t", [1])) == await rig.list() == (0, {})
    assert await rig.alter(("t", 0, None), ("t", 1, None)) == (0, [("t", 0, 0), ("t", 1, 85)])
    assert rig.controlled.cluster.partition().replicas == (1, 2, 3)


async def test_a_second_move_replaces_the_first() -> None:
    rig = Rig()
    await rig.alter(("t", 0, [4, 5, 6]))
    await rig.alter(("t", 0, [5, 2, 3]))
    assert await rig.list(everything=True) == (0, {("t", 0): ([1, 2, 3, 5], [5], [1])})
    joins(rig.controlled.cluster, 5)
    assert rig.controlled.cluster.partition().replicas == (5, 2, 3)


async def test_nothing_and_a_controller_that_cannot_be_asked() -> None:
    rig = Rig()
    assert await rig.alter() == (0, [])
    rig.controlled.unreachable = ApiError(pb.ERROR_CODE_NOT_CONTROLLER, "there is none")
    assert await rig.alter(("t", 0, [4, 2, 3])) == (41, [])


@pytest.mark.parametrize("granted", [set(), {acls.ALTER}, {acls.DESCRIBE}])
async def test_who_may_not_is_told_so(granted: set[int]) -> None:
    rig = Rig()
    rig.granted = granted
    assert (await rig.alter())[0] == (0 if acls.ALTER in granted else 31)
    assert (await rig.alter(("t", 0, [4, 2, 3])))[0] == (0 if acls.ALTER in granted else 31)
    assert (await rig.list(everything=True))[0] == (0 if acls.DESCRIBE in granted else 31)


async def test_an_empty_node_is_unregistered() -> None:
    rig = Rig()

    async def unregister(node_id: int) -> Any:
        answer = await ask(rig.handlers.unregister, UnregisterBrokerRequest(node_id), 0)
        assert write_body(UNREGISTER, 0, answer)
        return answer.error_code, answer.error_message

    assert (await unregister(99))[0] == pb.ERROR_CODE_BROKER_ID_NOT_REGISTERED == 102
    code, message = await unregister(1)
    assert (code, message) == (pb.ERROR_CODE_INVALID_REQUEST, message)
    assert "node 1 has replicas of t-0" in message
    rig.granted.clear()
    assert (await unregister(4))[0] == pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED
    rig.granted.add(acls.ALTER)
    rig.controlled.cluster.dead(4)
    assert await unregister(4) == (0, None)
    assert 4 not in rig.image.brokers

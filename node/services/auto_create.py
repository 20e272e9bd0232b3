"""`auto.create.topics.enable`: a topic that is asked for by a name that does not exist is created with the defaults."""

import asyncio
from typing import Final

import grpc
import structlog

from node.services.admin import AdminForwarder
from ottla.protocol.errors import ApiError
from ottla.protocol.names import belongs_to_the_cluster, check_topic_name
from ottla.v1 import admin_pb2

log = structlog.get_logger(__name__)

UNDER_WAY_MAX: Final = 100
TIMEOUT_S: Final = 10.0


class AutoCreate:
    """Asks the controller in the background; whoever asked for the topic gets a retriable error meanwhile."""

    def __init__(self, admin: AdminForwarder) -> None:
        self._admin = admin
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def want(self, name: str) -> None:
        """Begins to create the topic, unless that is under way, or its name is not allowed."""
        if name in self._under_way or len(self._under_way) >= UNDER_WAY_MAX or belongs_to_the_cluster(name):
            return
        try:
            check_topic_name(name)
        except ApiError:
            return
        task = asyncio.create_task(self._create(name))
        self._under_way[name] = task
        task.add_done_callback(lambda _: self._under_way.pop(name, None))

    async def _create(self, name: str) -> None:
        request = admin_pb2.CreateTopicsRequest(topics=[admin_pb2.NewTopic(name=name)])
        try:
            answer = await self._admin.call("CreateTopics", request.SerializeToString(), TIMEOUT_S)
        except (ApiError, grpc.aio.AioRpcError) as error:
            log.warning("topic_not_created", topic=name, error=str(error))
            return
        result = admin_pb2.CreateTopicsResponse.FromString(answer).topics[0]
        log.info("topic_created", topic=name, error=result.error.message or None)

    async def stop(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

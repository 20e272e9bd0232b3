"""The controller's part of `node.api.quotas`: values in, the contract's messages to the controller, values out."""

from collections.abc import Mapping, Sequence
from typing import Final

from node.api.quotas import QuotaChanges
from node.services.topics import ControllerTopics, error_of
from ottla.protocol import quota_messages
from ottla.protocol.errors import ApiError
from ottla.protocol.quotas import Component, Entity
from ottla.v1 import admin_pb2

TIMEOUT_MS: Final = 30_000


class ControllerQuotas:
    """Beside topics, with which it shares the number of calls that may be under way."""

    def __init__(self, topics: ControllerTopics) -> None:
        self._topics = topics

    async def describe(
        self, wanted: Sequence[Component], *, strict: bool
    ) -> Sequence[tuple[Entity, Mapping[str, float]]]:
        request = admin_pb2.DescribeClientQuotasRequest(
            filters=map(quota_messages.component_message, wanted), strict=strict
        )
        data = await self._topics.ask("DescribeClientQuotas", request, TIMEOUT_MS)
        answer = admin_pb2.DescribeClientQuotasResponse.FromString(data)
        return [
            (tuple(quota_messages.parts_of(each.entity)), {value.key: value.value for value in each.values})
            for each in answer.quotas
        ]

    async def alter(
        self, changes: Sequence[QuotaChanges], timeout_ms: int, *, validate_only: bool
    ) -> Sequence[ApiError | None]:
        request = admin_pb2.AlterClientQuotasRequest(timeout_ms=timeout_ms, validate_only=validate_only)
        for each in changes:
            request.entries.add(
                entity=quota_messages.entity_messages(tuple(each.entity)),
                changes=[admin_pb2.QuotaChange(key=key, value=value) for key, value in each.values],
            )
        data = await self._topics.ask("AlterClientQuotas", request, timeout_ms)
        return [error_of(each) for each in admin_pb2.AlterClientQuotasResponse.FromString(data).results]

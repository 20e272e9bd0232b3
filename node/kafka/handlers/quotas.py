"""DescribeClientQuotas and AlterClientQuotas, which any node passes on to the controller."""

from typing import Final

from node import limits
from node.api.quotas import QuotaChanges, QuotasApi
from node.kafka.connection import Call
from node.kafka.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    ChangesData,
    EntityData,
    EntryData,
)
from node.kafka.messages.describe_client_quotas import (
    ComponentData,
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
    ValueData,
)
from node.kafka.messages.describe_client_quotas import EntityData as DescribedEntity
from node.kafka.messages.describe_client_quotas import EntryData as DescribedEntry
from node.kafka.wire import Message
from ottla.protocol.errors import ApiError
from ottla.protocol.quotas import Component
from ottla.v1 import error_pb2 as pb

LOW, HIGH = 0, 1
TIMEOUT_MS: Final = 30_000
EXACT, DEFAULT, ANY = 0, 1, 2


class QuotaHandlers:
    def __init__(self, api: QuotasApi) -> None:
        self._api = api

    async def describe(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DescribeClientQuotasRequest)
        try:
            _few("filters", len(request.components))
            found = await self._api.describe([_component(each) for each in request.components], strict=request.strict)
        except ApiError as error:
            return DescribeClientQuotasResponse(error_code=error.code, error_message=error.message, entries=None)
        return DescribeClientQuotasResponse(
            error_message=None,
            entries=[
                DescribedEntry(
                    [DescribedEntity(*part) for part in entity], [ValueData(*value) for value in values.items()]
                )
                for entity, values in found
            ],
        )

    async def alter(self, request: Message, call: Call) -> Message:
        assert isinstance(request, AlterClientQuotasRequest)
        errors: list[ApiError | None]
        try:
            _few("entities", len(request.entries))
            changes = [_changes(each) for each in request.entries]
            errors = [*await self._api.alter(changes, TIMEOUT_MS, validate_only=request.validate_only)]
        except ApiError as error:
            errors = [error] * len(request.entries)
        return AlterClientQuotasResponse(
            entries=[
                EntryData(
                    0 if error is None else error.code,
                    None if error is None else error.message,
                    [EntityData(part.entity_type, part.entity_name) for part in entry.entity],
                )
                for entry, error in zip(request.entries, errors, strict=True)
            ]
        )


def _component(component: ComponentData) -> Component:
    """Raises INVALID_REQUEST."""
    kind, match, name = component.entity_type, component.match_type, component.match
    if match == EXACT and name is not None:
        return Component(kind, any=False, name=name)
    if match in (DEFAULT, ANY) and name is None:
        return Component(kind, any=match == ANY)
    raise ApiError(
        pb.ERROR_CODE_INVALID_REQUEST,
        f"match type {match} {'without' if name is None else 'with'} a name: 0 has one, 1 (default) and 2 (any) do not",
    )


def _changes(entry: ChangesData) -> QuotaChanges:
    values = [(op.key, None if op.remove else op.value) for op in entry.ops]
    return QuotaChanges([(part.entity_type, part.entity_name) for part in entry.entity], values)


def _few(what: str, count: int) -> None:
    if count > limits.ITEMS_MAX:
        raise limits.too_many(f"{what} of a request", count, limits.ITEMS_MAX)

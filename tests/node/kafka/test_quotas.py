"""Kafka's own calls about quotas: asked and told in Kafka's form."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from node.api.quotas import QuotaChanges
from node.kafka.connection import Call
from node.kafka.handlers.quotas import QuotaHandlers
from node.kafka.messages.alter_client_quotas import AlterClientQuotasRequest, ChangesData, EntityData, OpData
from node.kafka.messages.describe_client_quotas import ComponentData, DescribeClientQuotasRequest
from ottla.protocol.errors import ApiError
from ottla.protocol.quotas import CLIENT_ID, FETCH, PRODUCE, USER, Component, Entity, entity_of
from ottla.v1 import error_pb2 as pb

CALL = cast(Call, None)
INVALID, DOWN = 42, 41


class Quotas:
    """A controller that knows one quota."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.down = False

    async def describe(
        self, wanted: Sequence[Component], *, strict: bool
    ) -> Sequence[tuple[Entity, Mapping[str, float]]]:
        self._ask(list(wanted), strict)
        return [(entity_of([(USER, "a"), (CLIENT_ID, None)]), {PRODUCE: 5.0})]

    async def alter(
        self, changes: Sequence[QuotaChanges], timeout_ms: int, *, validate_only: bool
    ) -> Sequence[ApiError | None]:
        self._ask(list(changes), validate_only)
        return [None if each.entity else ApiError(pb.ERROR_CODE_INVALID_REQUEST, "empty") for each in changes]

    def _ask(self, *what: Any) -> None:
        self.asked.append(what)
        if self.down:
            raise ApiError(pb.ERROR_CODE_NOT_CONTROLLER, "there is none")


async def test_what_is_described() -> None:
    api = Quotas()
    filters = [ComponentData(USER, 0, "a"), ComponentData(CLIENT_ID, 1, None), ComponentData("ip", 2, None)]
    answer: Any = await QuotaHandlers(api).describe(DescribeClientQuotasRequest(filters, True), CALL)
    [entry] = answer.entries
    assert [(part.entity_type, part.entity_name) for part in entry.entity] == [(CLIENT_ID, None), (USER, "a")]
    assert [(value.key, value.value) for value in entry.values] == [(PRODUCE, 5.0)]
    wanted = [Component(USER, False, "a"), Component(CLIENT_ID, False), Component("ip", True)]
    assert api.asked == [(wanted, True)]
    for wrong in (ComponentData(USER, 0, None), ComponentData(USER, 1, "a"), ComponentData(USER, 3, None)):
        answer = await QuotaHandlers(api).describe(DescribeClientQuotasRequest([wrong]), CALL)
        assert (answer.error_code, answer.entries) == (INVALID, None)
    api.down = True
    answer = await QuotaHandlers(api).describe(DescribeClientQuotasRequest(), CALL)
    assert (answer.error_code, answer.entries) == (DOWN, None)


async def test_what_is_altered() -> None:
    api = Quotas()
    ops = [OpData(PRODUCE, 5.0, False), OpData(FETCH, 0.0, True)]
    entries = [ChangesData([EntityData(USER, None)], ops), ChangesData([], ops)]
    answer: Any = await QuotaHandlers(api).alter(AlterClientQuotasRequest(entries, True), CALL)
    assert [each.error_code for each in answer.entries] == [0, INVALID]
    assert [part.entity_name for part in answer.entries[0].entity] == [None]
    values = [(PRODUCE, 5.0), (FETCH, None)]
    assert api.asked == [([QuotaChanges([(USER, None)], values), QuotaChanges([], values)], True)]
    api.down = True
    answer = await QuotaHandlers(api).alter(AlterClientQuotasRequest(entries), CALL)
    assert [each.error_code for each in answer.entries] == [DOWN, DOWN]

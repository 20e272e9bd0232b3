"""How many partitions clients may make and delete (KIP-599): what is too much is refused until later."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from node import limits, principal
from node.api.throttle import Throttle
from node.controller.slices import all_refused, items_of, joined, part_of
from node.metadata.image import Image
from ottla.protocol.errors import ApiError
from ottla.protocol.quotas import MUTATION

Handler = Callable[[Any, Any], Awaitable[Any]]


def _created(topic: Any, _image: Image) -> int:
    return max(1, int(topic.num_partitions), len(topic.assignments))


def _deleted(ref: Any, image: Image) -> int:
    topic = image.topic_named(ref.name) if ref.name else image.topic(ref.topic_id)
    return 1 if topic is None else len(topic.partitions)


def _grown(topic: Any, image: Image) -> int:
    there = image.topic_named(topic.name)
    return max(1, int(topic.total_count) - (0 if there is None else len(there.partitions)))


COSTS: Final = {"CreateTopics": _created, "DeleteTopics": _deleted, "CreatePartitions": _grown}
"""By method, how many partitions an item of a request makes or deletes."""


def rated(handlers: dict[str, Handler], throttle: Throttle, image: Callable[[], Image]) -> dict[str, Handler]:
    """Handlers that keep to the quotas of whoever asks. What fails costs nothing."""
    return {
        name: _rated(handler, COSTS[name], throttle, image) if name in COSTS else handler
        for name, handler in handlers.items()
    }


def _rated(
    handler: Handler, cost: Callable[[Any, Image], int], throttle: Throttle, image: Callable[[], Image]
) -> Handler:
    async def call(request: Any, context: Any) -> Any:
        if not throttle.on or request.validate_only:
            return await handler(request, context)
        client_id = principal.client_id()
        costs = {}
        owed_ms = 0
        for index, item in enumerate(items_of(request)):
            if owed_ms := throttle.owed_ms(MUTATION, client_id):
                break
            costs[index] = cost(item, image())
            throttle.mutated(client_id, costs[index])
        refused = range(len(costs), len(items_of(request)))
        answers: list[tuple[Any, Sequence[int]]] = []
        if refused:
            error = limits.throttled("this client made and deleted partitions", f"its {MUTATION} is used up", owed_ms)
            answers.append((all_refused(part_of(request, refused), error.to_proto()), refused))
        if costs or not refused:
            answers.append((await _counted(request, context, costs, client_id), list(costs)))
        return joined(request, answers)

    async def _counted(request: Any, context: Any, costs: dict[int, int], client_id: str) -> Any:
        try:
            answer = await handler(part_of(request, list(costs)), context)
        except ApiError:
            throttle.mutated(client_id, -sum(costs.values()))
            raise
        for made, result in zip(costs.values(), answer.topics, strict=True):
            if result.HasField("error"):
                throttle.mutated(client_id, -made)
        return answer

    return call

"""A request of many items is decided in slices, so that heartbeats and elections never wait behind thousands of them.

Each item of a request succeeds or fails by itself, so a request can be cut between any two: but items of one name stay
together, for a request that names something twice is refused for that.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from node import limits
from ottla.protocol.names import TOPIC_NAME_MAX, collision_key
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb


class _Many(NamedTuple):
    """Where the items of a request are, and its results; what makes two items one, and the work that an item is. And
    the answer to the request, with the result of an item that was refused."""

    items: str
    results: str
    key: Callable[[Any], object] | None
    weight: Callable[[Any], int]
    answer: type[Any]
    refused: Callable[[Any, pb.Error], Any]


DESCRIBED: Final = 10
"""A resource that is described is so many items: a quarter of a millisecond, and 3 KB of the answer."""


def _one(_item: Any) -> int:
    return 1


def _resource(change: Any) -> object:
    return (change.resource.type, change.resource.name)


def _shown(resource: admin.ConfigResource) -> admin.ConfigResource:
    return admin.ConfigResource(type=resource.type, name=resource.name[:300])


_MANY: Final[dict[type, _Many]] = {
    admin.CreateTopicsRequest: _Many(
        "topics",
        "topics",
        lambda topic: collision_key(topic.name),
        lambda topic: max(1, topic.num_partitions, len(topic.assignments)),
        admin.CreateTopicsResponse,
        lambda topic, error: admin.CreateTopicResult(name=topic.name[:TOPIC_NAME_MAX], error=error),
    ),
    admin.DeleteTopicsRequest: _Many(
        "topics",
        "topics",
        None,
        _one,
        admin.DeleteTopicsResponse,
        lambda ref, error: admin.DeleteTopicResult(
            name=ref.name[:TOPIC_NAME_MAX], topic_id=ref.topic_id[:16], error=error
        ),
    ),
    admin.CreatePartitionsRequest: _Many(
        "topics",
        "topics",
        lambda topic: topic.name,
        lambda topic: max(1, topic.total_count),
        admin.CreatePartitionsResponse,
        lambda topic, error: admin.CreatePartitionsResult(name=topic.name[:TOPIC_NAME_MAX], error=error),
    ),
    admin.AlterConfigsRequest: _Many(
        "resources",
        "resources",
        _resource,
        lambda change: max(1, len(change.changes)),
        admin.AlterConfigsResponse,
        lambda change, error: admin.AlterConfigsResult(resource=_shown(change.resource), error=error),
    ),
    admin.DescribeConfigsRequest: _Many(
        "resources",
        "resources",
        None,
        lambda _resource: DESCRIBED,
        admin.DescribeConfigsResponse,
        lambda resource, error: admin.DescribeConfigsResult(resource=_shown(resource), error=error),
    ),
    admin.AlterUserScramCredentialsRequest: _Many(
        "users",
        "users",
        lambda changes: changes.name,
        _one,
        admin.AlterUserScramCredentialsResponse,
        lambda changes, error: admin.UserScramResult(name=changes.name[:300], error=error),
    ),
    admin.DescribeUserScramCredentialsRequest: _Many(
        "users",
        "users",
        None,
        _one,
        admin.DescribeUserScramCredentialsResponse,
        lambda name, error: admin.UserScramCredentials(name=name[:300], error=error),
    ),
    admin.ElectLeadersRequest: _Many(
        "partitions",
        "partitions",
        None,
        _one,
        admin.ElectLeadersResponse,
        lambda partition, error: admin.ElectLeadersResult(partition=partition, error=error),
    ),
    admin.ReassignPartitionsRequest: _Many(
        "partitions",
        "partitions",
        lambda move: (move.partition.topic_id or move.partition.topic, move.partition.partition),
        _one,
        admin.ReassignPartitionsResponse,
        lambda move, error: admin.ReassignPartitionResult(partition=move.partition, error=error),
    ),
    admin.CreateAclsRequest: _Many(
        "acls",
        "results",
        None,
        _one,
        admin.CreateAclsResponse,
        lambda _acl, error: admin.CreateAclResult(error=error),
    ),
    admin.DeleteAclsRequest: _Many(
        "filters",
        "results",
        None,
        _one,
        admin.DeleteAclsResponse,
        lambda _filter, error: admin.DeleteAclsResult(error=error),
    ),
    admin.AlterClientQuotasRequest: _Many(
        "entries",
        "results",
        lambda changes: tuple(sorted(map(str, changes.entity))),
        _one,
        admin.AlterClientQuotasResponse,
        lambda changes, error: admin.AlterClientQuotasResult(entity=changes.entity[:10], error=error),
    ),
}


def items_of(request: Any) -> Sequence[Any]:
    """The items of a request of many."""
    return getattr(request, _MANY[type(request)].items)  # type: ignore[no-any-return]


def part_of(request: Any, chosen: Sequence[int]) -> Any:
    """The request with these of its items only."""
    return _slice(request, _MANY[type(request)], chosen)[0]


def weight_of(request: Any) -> int:
    """How much work a slice is, in items."""
    many = _MANY.get(type(request))
    return 1 if many is None else sum(map(many.weight, getattr(request, many.items))) or 1


def slices_of(request: Any) -> Iterator[tuple[Any, Sequence[int]]]:
    """The request cut into requests of about `AT_ONCE` items, each with its items' places in the whole."""
    many = _MANY.get(type(request))
    items = () if many is None else getattr(request, many.items)
    if many is None or len(items) <= 1:
        yield request, range(len(items))
        return
    groups: dict[object, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(index if many.key is None else many.key(item), []).append(index)
    part: list[int] = []
    weight = 0
    for group in groups.values():
        grown = sum(many.weight(items[index]) for index in group)
        if part and weight + grown > limits.AT_ONCE:
            yield _slice(request, many, part)
            part, weight = [], 0
        part += group
        weight += grown
    yield _slice(request, many, part)


def joined(request: Any, answers: Sequence[tuple[Any, Sequence[int]]]) -> Any:
    """One response from those of the slices, its results in the order of the request."""
    if len(answers) == 1:
        return answers[0][0]
    field = _MANY[type(request)].results
    ordered = sorted(
        (
            (index, result)
            for answer, places in answers
            for index, result in zip(places, getattr(answer, field), strict=True)
        ),
        key=lambda pair: pair[0],
    )
    return type(answers[0][0])(**{field: [result for _, result in ordered]})


def all_refused(request: Any, error: pb.Error) -> Any:
    """The response to a request of many items of which each met the same refusal; None for another one."""
    many = _MANY.get(type(request))
    if many is None:
        return None
    return many.answer(**{many.results: [many.refused(item, error) for item in getattr(request, many.items)]})


def result_field(response: Any) -> str:
    """Where the results of a response of many items are: its one field."""
    (field,) = response.DESCRIPTOR.fields
    return str(field.name)


def _slice(request: Any, many: _Many, chosen: Sequence[int]) -> tuple[Any, Sequence[int]]:
    """The items in the order of the request, which is that of their results."""
    places = sorted(chosen)
    part = type(request)()
    items = getattr(request, many.items)
    for field, value in request.ListFields():
        if field.name == many.items:
            getattr(part, many.items).extend(items[index] for index in places)
        elif field.is_repeated:
            getattr(part, field.name).extend(value)
        else:
            setattr(part, field.name, value)
    return part, places

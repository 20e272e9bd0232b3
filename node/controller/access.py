"""Who may have the controller do what: AdminService's calls are authorized where they are carried out, whichever door
and node they came by."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from google.protobuf import message_factory

from node.api.access import Access
from node.controller.slices import items_of, joined, part_of
from node.metadata.image import Image
from ottla.protocol.acls import (
    ALTER,
    ALTER_CONFIGS,
    CLUSTER,
    CLUSTER_NAME,
    CREATE,
    DELETE,
    DESCRIBE,
    DESCRIBE_CONFIGS,
    TOPIC,
)
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin

SERVICE: Final = admin.DESCRIPTOR.services_by_name["AdminService"]
Handler = Callable[[Any, Any], Awaitable[Any]]


class OfItems(NamedTuple):
    """A right for each item of a request: `check` raises ApiError."""

    check: Callable[[Access, Image, Any], None]


def _create(access: Access, _image: Image, topic: Any) -> None:
    if topic.HasField("importing"):
        access.check_cluster(ALTER)  # offsets, times and producers are what it says they are
    if not access.would(CREATE, CLUSTER, CLUSTER_NAME):
        access.check(CREATE, TOPIC, topic.name)


def _delete(access: Access, image: Image, ref: Any) -> None:
    """By its name where the request has one: the controller finds that name and id belong together."""
    if ref.name or not ref.topic_id:
        access.check(DELETE, TOPIC, ref.name)
    else:
        topic = image.topic(ref.topic_id)
        access.check_topic_of(ref.topic_id, DELETE, "" if topic is None else topic.name)


def _grow(access: Access, _image: Image, topic: Any) -> None:
    access.check(ALTER, TOPIC, topic.name)


def _configs(operation: int, access: Access, resource: Any) -> None:
    if resource.type == admin.CONFIG_RESOURCE_TYPE_TOPIC:
        access.check(operation, TOPIC, resource.name)
    else:
        access.check_cluster(operation)


RIGHTS: Final[dict[str, int | OfItems | None]] = {
    "CreateTopics": OfItems(_create),
    "DeleteTopics": OfItems(_delete),
    "CreatePartitions": OfItems(_grow),
    "AlterConfigs": OfItems(lambda access, _, item: _configs(ALTER_CONFIGS, access, item.resource)),
    "DescribeConfigs": OfItems(lambda access, _, item: _configs(DESCRIBE_CONFIGS, access, item)),
    "DeleteRecords": None,  # at leaders, as are the next two
    "ExportBatches": None,
    "ImportBatches": None,
    "CompleteImport": ALTER,
    "ElectLeaders": ALTER,
    "ReassignPartitions": ALTER,
    "ListReassignments": DESCRIBE,
    "UnregisterBroker": ALTER,
    "AddVoter": ALTER,
    "RemoveVoter": ALTER,
    "TransferLeadership": ALTER,
    "DescribeFeatures": DESCRIBE,
    "FinalizeFeature": ALTER,
    "DescribeUserScramCredentials": DESCRIBE,
    "AlterUserScramCredentials": ALTER,
    "DescribeAcls": DESCRIBE,
    "CreateAcls": ALTER,
    "DeleteAcls": ALTER,
    "TestAcl": DESCRIBE,
    "DescribeClientQuotas": DESCRIBE_CONFIGS,
    "AlterClientQuotas": ALTER_CONFIGS,
}
"""By method: an operation on the cluster, or what is checked for each item."""


def authorized(handlers: dict[str, Handler], access: Access, image: Callable[[], Image]) -> dict[str, Handler]:
    """Handlers that refuse what whoever asks may not do. A method without a rule is a KeyError."""
    return {name: _guarded(name, RIGHTS[name], handler, access, image) for name, handler in handlers.items()}


def _guarded(
    name: str, right: int | OfItems | None, handler: Handler, access: Access, image: Callable[[], Image]
) -> Handler:
    if right is None or not access.asks:
        return handler
    if isinstance(right, int):
        operation = right

        async def call(request: Any, context: Any) -> Any:
            access.check_cluster(operation)
            return await handler(request, context)

        return call

    check = right.check
    response_type = message_factory.GetMessageClass(SERVICE.methods_by_name[name].output_type)

    async def call_for_items(request: Any, context: Any) -> Any:
        refused: dict[int, ApiError] = {}
        items = items_of(request)
        for index, item in enumerate(items):
            try:
                check(access, image(), item)
            except ApiError as error:
                refused[index] = error
        if not refused:
            return await handler(request, context)
        response = response_type()
        (field,) = response.DESCRIPTOR.fields
        results = getattr(response, field.name)
        for index, refusal in refused.items():
            _add_refusal(results.add(), items[index], refusal)
        answers = [(response, list(refused))]
        left = [index for index in range(len(items)) if index not in refused]
        if left:
            answers.append((await handler(part_of(request, left), context), left))
        return joined(request, answers)

    return call_for_items


def _add_refusal(result: Any, item: Any, error: ApiError) -> None:
    """What was asked for, as the request named it: nothing more is said of it."""
    result.error.CopyFrom(error.to_proto())
    known = item.DESCRIPTOR.fields_by_name
    resource = item.resource if "resource" in known else item
    if "resource" in result.DESCRIPTOR.fields_by_name:
        result.resource.type, result.resource.name = resource.type, resource.name[:300]
        return
    for name in ("name", "topic_id"):
        if name in known and name in result.DESCRIPTOR.fields_by_name:
            setattr(result, name, getattr(item, name)[:300])

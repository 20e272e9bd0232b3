"""A node leaves the cluster for good (KIP-631's UnregisterBroker), and its data directory never comes back."""

from typing import Final

from node.controller.state.draft import Draft
from node.metadata.apply import BROKER_CONFIG
from node.metadata.image import UNREGISTERED, MetadataView
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb

NAMED_MAX: Final = 5


def unregister_broker(draft: Draft, request: admin.UnregisterBrokerRequest) -> admin.UnregisterBrokerResponse:
    """Takes a broker off the register, with its configs. Raises BROKER_ID_NOT_REGISTERED; INVALID_REQUEST where it is
    in use, or has a replica, or is to get one."""
    if request.validate_only:
        draft = draft.scratch()
    node_id = request.node_id
    broker = draft.view.brokers.get(node_id)
    if broker is None:
        raise ApiError(
            pb.ERROR_CODE_BROKER_ID_NOT_REGISTERED,
            f"node {node_id} is not registered, {sorted(draft.view.brokers)} are",
            next_step="nothing is left to be done",
        )
    held = [
        f"{topic.name}-{partition.partition}"
        for topic in sorted(draft.view.all_topics(), key=lambda topic: topic.name)
        for partition in topic.partitions
        if node_id in partition.replicas
    ]
    if held:
        more = f" and {len(held) - NAMED_MAX} more" if len(held) > NAMED_MAX else ""
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST,
            f"node {node_id} has replicas of {', '.join(held[:NAMED_MAX])}{more}",
            next_step=f"run `ottla node decommission {node_id} --watch`: it moves them first",
        )
    if not broker.fenced and not draft.draining(node_id):
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST,
            f"node {node_id} is up, and may get replicas",
            next_step=f"run `ottla node decommission {node_id} --watch`, or stop it first",
        )
    directories = sorted({*unregistered(draft.view, node_id), broker.directory_id.hex()})
    for key in draft.view.broker_configs.get(str(node_id), {}):
        if key != UNREGISTERED:
            _set(draft, node_id, key, None)
    _set(draft, node_id, UNREGISTERED, ",".join(directories))
    record = records.UnregisterBrokerRecord(node_id=node_id, broker_epoch=broker.broker_epoch)
    draft.add(records.MetadataRecord(unregister_broker=record))
    return admin.UnregisterBrokerResponse()


def unregistered(view: MetadataView, node_id: int) -> list[str]:
    """The data directories, in hexadecimal, with which a node of this id was in the cluster and left it."""
    text = view.broker_configs.get(str(node_id), {}).get(UNREGISTERED, "")
    return text.split(",") if text else []


def check_directory(draft: Draft, node_id: int, directory_id: bytes) -> None:
    """Raises INVALID_REGISTRATION where a node comes back that was unregistered: what it has is out of date."""
    if directory_id.hex() in unregistered(draft.view, node_id):
        raise ApiError(
            pb.ERROR_CODE_INVALID_REGISTRATION,
            f"node {node_id} was unregistered, and this is still the data directory it had then, {directory_id.hex()}",
        )


def _set(draft: Draft, node_id: int, key: str, value: str | None) -> None:
    config = records.ConfigRecord(resource_type=BROKER_CONFIG, resource_name=str(node_id), key=key, value=value)
    draft.add(records.MetadataRecord(config=config))

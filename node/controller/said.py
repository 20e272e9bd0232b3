"""What the active controller's node writes to its log of each entry that it makes."""

import structlog

from node.metadata.apply import acl_of
from node.metadata.image import DRAINING
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.quotas import shown

log = structlog.get_logger(__name__)


def log_changes(changes: list[records.MetadataRecord], index: int) -> None:
    """Brokers one line each; partitions one line for all, with the first cause: a fenced broker may lead thousands."""
    moved = [r.partition_change for r in changes if r.partition_change.HasField("leader")]
    added = [acl_of(r.acl) for r in changes if r.HasField("acl")]
    removed = [acl_of(r.remove_acl.acl) for r in changes if r.HasField("remove_acl")]
    for event, some in (("acls_added", added), ("acls_removed", removed)):
        if some:
            log.info(event, count=len(some), first=str(some[0]), index=index)
    for change in changes:
        if change.HasField("broker_change"):
            log.info("broker_changed", node=change.broker_change.node_id, cause=change.broker_change.cause, index=index)
        elif change.HasField("unregister_broker"):
            log.info("broker_unregistered", node=change.unregister_broker.node_id, index=index)
        elif change.HasField("config") and change.config.key == DRAINING:
            log.info("broker_draining", node=change.config.resource_name, draining=change.config.value, index=index)
        elif change.HasField("feature_level"):
            log.info("feature_finalized", name=change.feature_level.name, level=change.feature_level.level, index=index)
        elif change.HasField("user_scram_credential"):
            log.info("user_changed", user=change.user_scram_credential.user, index=index)
        elif change.HasField("remove_user_scram_credential"):
            log.info("user_credential_removed", user=change.remove_user_scram_credential.user, index=index)
        elif change.HasField("client_quota"):
            quota = change.client_quota
            log.info("quota_changed", entity=_entity(quota), key=quota.key, value=_value(quota), index=index)
        elif change.HasField("register_broker"):
            node = change.register_broker
            log.info("broker_registered", node=node.node_id, broker_epoch=node.broker_epoch, at=node.client_address)
    if moved:
        first = moved[0]
        log.info(
            "leaders_changed",
            count=len(moved),
            first=f"{first.topic_id.hex()}-{first.partition}",
            leader=first.leader,
            cause=first.cause,
            index=index,
        )


def _entity(quota: records.ClientQuotaRecord) -> str:
    return shown(tuple((each.type, each.name if each.HasField("name") else None) for each in quota.entity))


def _value(quota: records.ClientQuotaRecord) -> float | None:
    return quota.value if quota.HasField("value") else None

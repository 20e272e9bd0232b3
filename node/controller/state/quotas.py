"""Quotas of clients: set, removed and listed (KIP-546)."""

from collections import Counter

from node import limits
from node.controller.state.draft import Draft
from node.controller.state.features import check_level
from node.metadata.apply import quota_record
from node.metadata.image import QUOTAS_METADATA_VERSION
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol import quotas
from ottla.protocol.errors import ApiError
from ottla.protocol.quota_messages import component_of, entity_messages, parts_of
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb


def describe_quotas(draft: Draft, request: admin.DescribeClientQuotasRequest) -> admin.DescribeClientQuotasResponse:
    """Raises INVALID_REQUEST, MESSAGE_TOO_LARGE."""
    wanted = [component_of(each) for each in request.filters]
    quotas.check_components(wanted)
    response = admin.DescribeClientQuotasResponse()
    for entity in sorted(draft.view.quota_entries, key=quotas.order):
        if quotas.fits(entity, wanted, strict=request.strict):
            values = sorted(draft.view.quota_entries[entity].items())
            response.quotas.add(
                entity=entity_messages(entity),
                values=[admin.QuotaValue(key=key, value=value) for key, value in values],
            )
    if response.ByteSize() > limits.QUOTAS_ANSWER_MAX_BYTES:
        raise ApiError(
            pb.ERROR_CODE_MESSAGE_TOO_LARGE,
            f"the quotas of {len(response.quotas)} entities have {response.ByteSize()} bytes, "
            f"{limits.QUOTAS_ANSWER_MAX_BYTES} have room in an answer",
            next_step="name a user, a client id or an address",
        )
    return response


def alter_quotas(draft: Draft, request: admin.AlterClientQuotasRequest) -> admin.AlterClientQuotasResponse:
    """Changes quotas; those of one entity are changed all or none. Raises UNSUPPORTED_VERSION."""
    check_level(draft, QUOTAS_METADATA_VERSION, "quotas are kept")
    if request.validate_only:
        draft = draft.scratch()
    named = Counter(tuple(sorted(map(str, parts_of(changes.entity)))) for changes in request.entries)
    response = admin.AlterClientQuotasResponse()
    for changes in request.entries:
        result = response.results.add(entity=_shown(changes))
        try:
            if named[tuple(sorted(map(str, parts_of(changes.entity))))] > 1:
                raise ApiError(
                    pb.ERROR_CODE_DUPLICATE_RESOURCE,
                    "the request names an entity twice",
                    next_step="name each entity once",
                )
            _alter(draft, changes)
        except ApiError as error:
            result.error.CopyFrom(error.to_proto())
    return response


def _shown(changes: admin.ClientQuotaChanges) -> list[admin.QuotaEntityPart]:
    return [
        admin.QuotaEntityPart(type=each.type[:300], name=each.name[:300] if each.HasField("name") else None)
        for each in changes.entity[:10]
    ]


def _alter(draft: Draft, changes: admin.ClientQuotaChanges) -> None:
    """Raises ApiError before the first record. To remove what is not there is no error, as in Kafka."""
    entity = quotas.entity_of(parts_of(changes.entity))
    if not changes.changes:
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"nothing is to be changed of {quotas.shown(entity)}")
    if len({each.key for each in changes.changes}) < len(changes.changes):
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"the changes of {quotas.shown(entity)} name a quota twice")
    for each in changes.changes:
        if each.HasField("value"):
            quotas.check_value(entity, each.key, each.value)
        else:
            quotas.check_key(entity, each.key)
    there = draft.view.quota_entries.get(entity, {})
    if not there and len(draft.view.quota_entries) >= limits.QUOTAS_MAX:
        raise ApiError(
            pb.ERROR_CODE_POLICY_VIOLATION,
            f"{len(draft.view.quota_entries)} entities have quotas, {limits.QUOTAS_MAX} may",
            next_step="remove some, or use defaults",
        )
    for each in changes.changes:
        value = each.value if each.HasField("value") else None
        if there.get(each.key) != value:
            draft.add(records.MetadataRecord(client_quota=quota_record(entity, each.key, value)))

"""Topics that an import fills: made with what must be known before, opened when all is there (invariants.md 1, 48)."""

from typing import Final

from node.controller.state.draft import Draft
from node.controller.state.features import check_level
from node.metadata.image import IMPORT_METADATA_VERSION
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb

_BOUND: Final = 1 << 62
"""Above every offset and producer id that an import may name: so many can still follow."""


def check_new(draft: Draft, wish: admin.NewTopic, partitions: int) -> None:
    """Raises ApiError for an import that nobody could carry out: UNSUPPORTED_VERSION, INVALID_REQUEST."""
    check_level(draft, IMPORT_METADATA_VERSION, "topics are imported")
    importing = wish.importing
    if len(importing.import_id) != 16:
        raise _refused(f"an import's id has 16 bytes, not {len(importing.import_id)}")
    if len(importing.first_offsets) != partitions:
        raise _refused(f"{wish.name} gets {partitions} partitions, first offsets of {len(importing.first_offsets)}")
    if not all(0 <= offset < _BOUND for offset in (*importing.first_offsets, importing.producer_ids_end)):
        raise _refused("first offsets and producer_ids_end are 0 to 2^62 - 1")


def reserve_producer_ids(draft: Draft, end: int) -> None:
    """From here on no id below `end` is given to anybody."""
    if end > draft.view.next_producer_id:
        draft.add(records.MetadataRecord(producer_ids=records.ProducerIdsRecord(next_producer_id=end)))


def complete_import(draft: Draft, request: admin.CompleteImportRequest) -> admin.CompleteImportResponse:
    """Opens a topic; one that is open already stays. Raises UNKNOWN_TOPIC_ID, INVALID_REQUEST for another import."""
    topic = draft.view.topic(request.topic_id)
    if topic is None:
        raise ApiError(pb.ERROR_CODE_UNKNOWN_TOPIC_ID, f"there is no topic {request.topic_id[:16].hex()}")
    if not topic.import_id:
        return admin.CompleteImportResponse()
    if topic.import_id != request.import_id:
        raise _refused(f"{topic.name} is filled by import {topic.import_id.hex()}, not by that one")
    if not request.validate_only:
        opened = records.ImportCompletedRecord(topic_id=topic.topic_id)
        draft.add(records.MetadataRecord(import_completed=opened))
    return admin.CompleteImportResponse()


def _refused(why: str) -> ApiError:
    return ApiError(pb.ERROR_CODE_INVALID_REQUEST, why)

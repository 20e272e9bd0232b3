"""The keys that tokens of sessions are signed with: a new one each day, so that what somebody copied once, from a disk
or a backup, makes no tokens for ever."""

from typing import Final

from node.controller.state.draft import Draft
from node.controller.state.features import level_of
from node.metadata.image import SECURITY_METADATA_VERSION
from ottla.internal.v1 import metadata_pb2 as records

KEY_LIFE_MS: Final = 24 * 3600 * 1000
"""Much longer than a token's life: a key verifies as long again after it has signed."""


def draw_key(draft: Draft) -> None:
    """Draws the first key, and the next one when that is due; a new controller begins to count anew."""
    if level_of(draft) < SECURITY_METADATA_VERSION:
        return
    keys, due_ms = draft.view.session_keys, draft.soft.session_key_due_ms
    if not keys or (due_ms is not None and draft.now_ms >= due_ms):
        key = records.SessionKeyRecord(id=keys[-1].id + 1 if keys else 1, key=draft.new_id() + draft.new_id())
        draft.add(records.MetadataRecord(session_key=key))
        due_ms = None
    if due_ms is None:
        draft.soft.session_key_due_ms = draft.now_ms + KEY_LIFE_MS

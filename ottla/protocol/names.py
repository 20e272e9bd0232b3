"""What names may look like. Checked at the door, so that no path and no config is ever built from unchecked input."""

import re
from typing import Final

from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

TOPIC_NAME_MAX: Final = 249
GROUP_ID_MAX: Final = 255
ID_MAX: Final = 255
USER_NAME_MAX_BYTES: Final = 255
_TOPIC: Final = re.compile(r"[a-zA-Z0-9._-]+", re.ASCII)
OWN_TOPICS: Final = frozenset(
    {"__consumer_offsets", "__transaction_state", "__cluster_metadata", "__share_group_state", "__remote_log_metadata"}
)
OWN_PREFIX: Final = "__ottla"
"""Kafka's own topics, and whatever this project may need: clients must not create these, others they may, with two
underscores in front, too."""


def belongs_to_the_cluster(name: str) -> bool:
    """Whether only the cluster may create a topic of this name: '.' and '_' are the same in it."""
    key = collision_key(name)
    return key in OWN_TOPICS or key.startswith(OWN_PREFIX)


def check_topic_name(name: str) -> None:
    """Kafka's rule: 1 to 249 of a-z A-Z 0-9 . _ -, and neither '.' nor '..'. Raises INVALID_TOPIC_EXCEPTION."""
    if not name:
        raise ApiError(pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION, "the topic name is empty")
    if len(name) > TOPIC_NAME_MAX:
        raise ApiError(
            pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION,
            f"the topic name has {len(name)} characters, {TOPIC_NAME_MAX} are allowed",
        )
    if name in (".", "..") or not _TOPIC.fullmatch(name):
        raise ApiError(
            pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION,
            f"topic name {name!r} is not allowed: use a-z, A-Z, 0-9, '.', '_' and '-', but not '.' or '..' alone",
        )


def collision_key(name: str) -> str:
    """Two topics with equal keys must not both exist: '.' and '_' are the same in metric names (KIP-3)."""
    return name.replace(".", "_")


def check_group_id(group_id: str) -> None:
    """1 to 255 printable characters. Raises INVALID_GROUP_ID."""
    if not group_id or len(group_id) > GROUP_ID_MAX or not group_id.isprintable():
        raise ApiError(
            pb.ERROR_CODE_INVALID_GROUP_ID,
            f"group id {_shown(group_id)}: 1 to {GROUP_ID_MAX} printable characters are allowed",
        )


def check_user_name(name: str) -> None:
    """1 to 255 bytes of printable characters, none of them a space at an end. Raises UNACCEPTABLE_CREDENTIAL."""
    size = len(name.encode("utf-8", "replace"))
    if not 0 < size <= USER_NAME_MAX_BYTES or not name.isprintable() or name != name.strip():
        raise ApiError(
            pb.ERROR_CODE_UNACCEPTABLE_CREDENTIAL,
            f"user name {_shown(name)}: 1 to {USER_NAME_MAX_BYTES} bytes of printable characters are allowed, without "
            "a space at either end",
        )


def check_id(what: str, text: str) -> None:
    """A name that clients give themselves, which logs and terminals show: up to 255 printable characters, or none.
    Raises INVALID_REQUEST."""
    if len(text) > ID_MAX or not text.isprintable():
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST, f"{what} {_shown(text)}: up to {ID_MAX} printable characters are allowed"
        )


def _shown(text: str) -> str:
    """Escaped, and short."""
    begin = ascii(text[:40])
    return f"{begin}... of {len(text)} characters" if len(text) > 40 else begin

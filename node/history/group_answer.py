"""Why a group is as it is, from its coordinator's state and what that remembers. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from node.history.causes import UNKNOWN
from node.history.explain import Answer
from node.history.groups import ASSIGNMENT, LEFT
from node.metadata.events import Event

_CODES: Final = (
    ("it left", "member-left"),
    ("its connection was closed", "connection-lost"),
    ("its stream ended", "connection-lost"),
    ("it was silent", "member-silent"),
    ("it did not give back", "rebalance-timeout"),
    ("it did not rejoin", "rebalance-timeout"),
    ("it never came", "rebalance-timeout"),
    ("it joined", "member-joined"),
    ("a member joined", "member-joined"),
    ("a member came back", "member-joined"),
    ("a member left", "member-left"),
    ("a member was lost", "member-lost"),
    ("a subscription changed", "subscription-changed"),
    ("topics changed", "topics-changed"),
    ("generation ", "rebalanced"),
)
CODES: Final = tuple(dict.fromkeys(code for _, code in _CODES))


def code_of(event: Event) -> str:
    """The kind of cause of a group's event."""
    return next((code for start, code in _CODES if event.cause.startswith(start)), UNKNOWN)


def of_group(
    group_id: str, state: str, owned: Mapping[str, int], waits_for: Sequence[str], events: list[Event]
) -> Answer:
    """`state` as in the list of groups; `owned`: members, and how many partitions each has; `waits_for`: members that
    have yet to give back what they are to; `events`: the newest first."""
    subject = f"group {group_id}"
    last = events[0] if events else None
    since_ms = 0 if last is None else last.time_ms
    if state == "empty":
        return _empty(subject, events)
    cause = _cause(events)
    code, why = (UNKNOWN, "why is not known here: it has another coordinator since") if cause is None else cause
    evidence = tuple(reversed(events[:5]))
    members = f"{len(owned)} member{'s' if len(owned) != 1 else ''}"
    if state != "stable":
        text = f"{subject} shares out its partitions among {members}: {why}"
        steps: tuple[str, ...] = ()
        if waits_for:
            text += f"; it waits for {_some(waits_for)} to give partitions back"
            steps = (
                "a handler that takes long holds its partitions until it is done, or its rebalance time-out is over",
            )
        return Answer(subject, "rebalancing", True, code, text, since_ms, steps, evidence)
    idle = [member for member, count in owned.items() if not count]
    text = f"{subject} is stable with {members}; last change: {why}"
    if idle:
        has = "has" if len(idle) == 1 else "have"
        text += f". {_some(idle)} {has} nothing to read: there are fewer partitions than members"
        steps = ("add partitions (`ottla topic alter --partitions`), or run fewer members",)
        return Answer(subject, "idle-members", True, "too-few-partitions", text, since_ms, steps, evidence)
    return Answer(subject, "ok", True, code, text, since_ms, (), evidence)


def _empty(subject: str, events: list[Event]) -> Answer:
    left = next((event for event in events if event.kind == LEFT), None)
    if left is None:
        text = f"{subject} has no members, and why is not known here: its coordinator remembers none"
        return Answer(subject, "empty", True, UNKNOWN, text, 0, ("start a consumer of it",))
    text = f"{subject} has no members; the last one was {left.member_id}: {left.cause}"
    return Answer(subject, "empty", True, code_of(left), text, left.time_ms, ("start a consumer of it",), (left,))


def _cause(events: list[Event]) -> tuple[str, str] | None:
    """Who came or went last says more than that partitions are shared out anew."""
    for event in events:
        if event.kind != ASSIGNMENT:
            return code_of(event), f"member {event.member_id}: {event.cause}"
        if code_of(event) in ("subscription-changed", "topics-changed"):
            return code_of(event), event.cause
    return (code_of(events[0]), events[0].cause) if events else None


def _some(members: Sequence[str]) -> str:
    more = f" and {len(members) - 3} more" if len(members) > 3 else ""
    return ", ".join(members[:3]) + more

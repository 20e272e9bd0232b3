"""Which topics members ask for: by name, and by an expression that is matched once for each topic. Pure."""

from collections.abc import Callable
from typing import Final

import re2

from node import limits
from node.groups.model import Subscription, TopicView
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as e

KEPT_MAX: Final = 1_000
CHANGES_MAX: Final = 100
"""Of the topics, after which an expression is matched with all of them anew."""


class Subscriptions:
    """The topics of `view` that each subscription names. What was matched before is remembered, within a bound."""

    def __init__(self, view: TopicView) -> None:
        self._view = view
        self._ids: dict[Subscription, frozenset[bytes]] = {}
        self._matching: dict[str, tuple[int, frozenset[str]]] = {}
        """By expression: after how many changes it was matched, and the names."""
        self._changes: list[tuple[frozenset[str], frozenset[str]]] = []
        """(names that came, names that went), the last ones."""
        self._change_count = 0

    def topic_ids(self, subscription: Subscription) -> frozenset[bytes]:
        """Ids of the topics that are asked for and exist."""
        ids = self._ids.get(subscription)
        if ids is None:
            if len(self._ids) >= KEPT_MAX:
                self._ids.clear()
            topics, regex = subscription
            topics_of = self._view.topics
            ids = frozenset(topics_of[name][0] for name in {*topics, *self._matches(regex)} if name in topics_of)
            self._ids[subscription] = ids
        return ids

    def _matches(self, regex: str) -> frozenset[str]:
        """Only names that came since it was asked for are matched."""
        matches = compile_topic_regex(regex)
        if matches is None:
            return frozenset()
        known = self._matching.get(regex)
        if known is None or known[0] < self._change_count - len(self._changes):
            if len(self._matching) >= KEPT_MAX:
                self._matching.clear()
            found = frozenset(filter(matches, self._view.topics))
        else:
            found = known[1]
            for came, went in self._changes[len(self._changes) - (self._change_count - known[0]) :]:
                found = found.difference(went).union(filter(matches, came))
        self._matching[regex] = self._change_count, found
        return found

    def see(self, view: TopicView) -> None:
        """There are other topics now."""
        names, before = view.topics.keys(), self._view.topics.keys()
        self._view = view
        self._ids.clear()
        self._changes = [*self._changes, (frozenset(names - before), frozenset(before - names))][-CHANGES_MAX:]
        self._change_count += 1


def compile_topic_regex(pattern: str) -> Callable[[str], bool] | None:
    """A whole-name match in RE2's syntax, whose run time no pattern can blow up; None for an empty pattern."""
    if not pattern:
        return None
    if len(pattern) > limits.TOPIC_REGEX_MAX:
        raise ApiError(
            e.ERROR_CODE_INVALID_REGULAR_EXPRESSION,
            f"the expression has {len(pattern)} characters, {limits.TOPIC_REGEX_MAX} are allowed",
        )
    try:
        compiled = re2.compile(pattern)
    except re2.error as error:
        raise ApiError(
            e.ERROR_CODE_INVALID_REGULAR_EXPRESSION, f"{pattern!r} does not compile: {_text(error)}"
        ) from None
    return lambda name: compiled.fullmatch(name) is not None


def _text(error: Exception) -> str:
    detail = error.args[0] if error.args else error
    return detail.decode() if isinstance(detail, bytes) else str(detail)

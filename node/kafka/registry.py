"""Which APIs and versions are served, and by whom. Only what is served here is advertised to clients."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from node.kafka.codec import API_VERSIONS
from node.kafka.messages import APIS
from node.kafka.messages.api_versions import (
    ApiVersion,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)
from node.kafka.wire import Message

if TYPE_CHECKING:
    from node.kafka.connection import Call

UNSUPPORTED_VERSION: Final = 35
FEATURES_FROM: Final = 4
"""Clients that ask in an earlier version cannot read a feature that may be off (KAFKA-17011)."""
GROUP_VERSION: Final = ("group.version", 1)
"""Kafka's name and level of groups whose partitions the server assigns (KIP-848), which are always on here."""
# Returns the answer, or None: then `Call.answer` or `Call.no_answer` follows, now or later.
Handler = Callable[[Message, "Call"], Message | None]


class Served(NamedTuple):
    low: int
    high: int
    handler: Handler


class Registry:
    """ApiVersions is served by itself; everything else is added."""

    def __init__(self) -> None:
        api = APIS[API_VERSIONS]
        self._served = {API_VERSIONS: Served(api.low, api.high, lambda _, call: self.answer(call.version))}

    def add(self, key: int, low: int, high: int, handler: Handler) -> None:
        """Serves versions `low` to `high` of an API. A later call for the same API replaces the handler."""
        api = APIS[key]
        if not api.low <= low <= high <= api.high:
            raise ValueError(f"{api.name}: there are codecs for {api.low} to {api.high}, not for {low} to {high}")
        self._served[key] = Served(low, high, handler)

    def find(self, key: int, version: int) -> Handler | None:
        served = self._served.get(key)
        return served.handler if served is not None and served.low <= version <= served.high else None

    def advertised(self) -> Sequence[ApiVersion]:
        return [ApiVersion(key, each.low, each.high) for key, each in sorted(self._served.items())]

    def answer(self, version: int) -> ApiVersionsResponse:
        """The answer to an ApiVersions request that could be read."""
        if version < FEATURES_FROM:
            return ApiVersionsResponse(0, self.advertised())
        name, level = GROUP_VERSION
        return ApiVersionsResponse(
            0,
            self.advertised(),
            supported_features=[SupportedFeatureKey(name, 0, level)],
            finalized_features_epoch=0,
            finalized_features=[FinalizedFeatureKey(name, level, level)],
        )

    def answer_to_a_newer_client(self) -> ApiVersionsResponse:
        """KIP-511: whoever asks in a version of ApiVersions that is not known here gets version 0's answer, with the
        versions that are."""
        served = self._served[API_VERSIONS]
        return ApiVersionsResponse(UNSUPPORTED_VERSION, [ApiVersion(API_VERSIONS, served.low, served.high)])

"""Looking at the levels of the cluster's features and raising them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from grpc import aio

from ottla.client import arguments
from ottla.client.connection import Client
from ottla.v1 import admin_pb2
from ottla.v1.admin_pb2_grpc import AdminServiceStub

METADATA_VERSION = "metadata.version"
_CALL_MARGIN_S = 2.0


@dataclass(frozen=True, slots=True)
class SupportedLevels:
    """What one node supports of a feature; `version` is its build."""

    lowest: int
    highest: int
    version: str


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that every node must understand before one of them uses it. `nodes`: all registered ones by id, those
    that are down as their last start said."""

    name: str
    level: int
    nodes: Mapping[int, SupportedLevels]


@dataclass(frozen=True, slots=True)
class FinalizedFeature:
    """A feature's level before and after."""

    name: str
    previous_level: int
    level: int


class FeatureAdmin:
    """The part of `Admin` that is about feature levels."""

    _client: Client
    _timeout_ms: int

    async def describe_features(self) -> dict[str, Feature]:
        """The cluster's features by name, with the level each is at and what the nodes support."""
        answer = await self._client.on_any_node(partial(_describe, self._timeout_ms), self._timeout_ms)
        return {
            feature.name: Feature(
                feature.name,
                feature.level,
                {node.node_id: SupportedLevels(node.min_level, node.max_level, node.version) for node in feature.nodes},
            )
            for feature in answer.features
        }

    async def finalize_feature(
        self, name: str = METADATA_VERSION, level: int | None = None, *, validate_only: bool = False
    ) -> FinalizedFeature:
        """Raises a feature to `level`, by default the highest that any node supports. There is no way back: builds that
        do not support it are refused from then on. Raises OttlaError: UNSUPPORTED_VERSION with the nodes that lack it.
        """
        request = admin_pb2.FinalizeFeatureRequest(
            name=arguments.name("name", name),
            level=0 if level is None else arguments.whole("level", level, 1, arguments.INT32_MAX),
            validate_only=arguments.flag("validate_only", validate_only),
        )
        timeout_s = self._timeout_ms / 1000 + _CALL_MARGIN_S
        answer = await self._client.until_done(
            lambda channel: AdminServiceStub(channel).FinalizeFeature(request, timeout=timeout_s),
            self._timeout_ms,
            lambda answer: [answer.error],
            repeatable=False,
        )
        return FinalizedFeature(name, answer.previous_level, answer.level)


async def _describe(timeout_ms: int, channel: aio.Channel) -> admin_pb2.DescribeFeaturesResponse:
    request = admin_pb2.DescribeFeaturesRequest()
    return await AdminServiceStub(channel).DescribeFeatures(request, timeout=timeout_ms / 1000)

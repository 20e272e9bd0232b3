"""Feature levels (KIP-584): what a newer build brought is used once every node has it, and somebody said so."""

from node.controller.state.draft import Draft
from node.metadata.image import FEATURES, FIRST_METADATA_VERSION, METADATA_VERSION, Broker
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb


def describe_features(draft: Draft, _request: admin.DescribeFeaturesRequest) -> admin.DescribeFeaturesResponse:
    """Shows each feature's level, and what the nodes support."""
    nodes = [
        admin.FeatureSupport(
            node_id=broker.node_id,
            min_level=broker.min_metadata_version,
            max_level=broker.max_metadata_version,
            version=broker.version,
        )
        for broker in _by_id(draft)
    ]
    return admin.DescribeFeaturesResponse(
        features=[admin.Feature(name=METADATA_VERSION, level=level_of(draft), nodes=nodes)]
    )


def finalize_feature(draft: Draft, request: admin.FinalizeFeatureRequest) -> admin.FinalizeFeatureResponse:
    """Raises the level of a feature, or says that it is there already. Raises UNSUPPORTED_VERSION with the nodes that
    do not support it: one that is down would not come back, so it counts as well; INVALID_REQUEST for a lower level.
    """
    name = request.name
    if name not in FEATURES:
        raise ApiError(
            pb.ERROR_CODE_UNSUPPORTED_VERSION,
            f"the active controller knows no feature {name[:300]!r}, it knows {', '.join(FEATURES)}",
        )
    brokers, before = _by_id(draft), level_of(draft)
    lowest, highest = FEATURES[name]
    level = request.level or max([before, *(broker.max_metadata_version for broker in brokers)])
    if level < before:
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST, f"the cluster is at {name} {before}, and a level is never taken back"
        )
    lacking = [
        f"node {broker.node_id} (build {broker.version or 'unknown'}{', fenced' if broker.fenced else ''}) supports "
        f"{broker.min_metadata_version} to {broker.max_metadata_version}"
        for broker in brokers
        if not broker.min_metadata_version <= level <= broker.max_metadata_version
    ]
    if not lacking and not lowest <= level <= highest:
        lacking.append(f"the active controller supports {lowest} to {highest}")
    if lacking:
        raise ApiError(
            pb.ERROR_CODE_UNSUPPORTED_VERSION, f"{name} {level} is not supported by all: {'; '.join(lacking[:10])}"
        )
    if level != before and not request.validate_only:
        draft.add(records.MetadataRecord(feature_level=records.FeatureLevelRecord(name=name, level=level)))
    return admin.FinalizeFeatureResponse(previous_level=before, level=level)


def level_of(draft: Draft) -> int:
    """The cluster's level."""
    return draft.view.features.get(METADATA_VERSION, FIRST_METADATA_VERSION)


def check_level(draft: Draft, needed: int, what: str) -> None:
    """Raises UNSUPPORTED_VERSION where the cluster is not at that level yet. `what` there is from it on, as in "quotas
    are kept"."""
    if (level := level_of(draft)) < needed:
        raise ApiError(
            pb.ERROR_CODE_UNSUPPORTED_VERSION,
            f"{what} from {METADATA_VERSION} {needed} on, the cluster is at {level}",
            next_step="run `ottla cluster finalize` once every node has this build: there is no way back to older ones",
        )


def _by_id(draft: Draft) -> list[Broker]:
    return [broker for _, broker in sorted(draft.view.brokers.items())]

"""Quotas in the metadata log: set, removed and listed, bounded, from a level on, and kept by snapshots; and how many
partitions a client may make."""

import asyncio
from typing import Any

import pytest

from node import limits, principal
from node.api.throttle import Throttle
from node.controller.quotas import rated
from node.controller.state import quotas as decisions
from node.controller.state.features import finalize_feature
from node.metadata.apply import from_snapshot, snapshot_bytes
from node.metadata.image import METADATA_VERSION, QUOTAS_METADATA_VERSION, Image
from node.metadata.quotas import Quotas
from ottla.protocol.errors import ApiError
from ottla.protocol.quotas import MUTATION, entity_of
from ottla.v1 import admin_pb2 as admin
from tests.node.controller.support import Cluster


def entity(**parts: str | None) -> list[admin.QuotaEntityPart]:
    return [admin.QuotaEntityPart(type=kind.replace("_", "-"), name=name) for kind, name in parts.items()]


def changes(of: list[admin.QuotaEntityPart], **values: float | None) -> admin.ClientQuotaChanges:
    return admin.ClientQuotaChanges(
        entity=of, changes=[admin.QuotaChange(key=key, value=value) for key, value in values.items()]
    )


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(nodes=0)
    for node_id in (1, 2, 3):
        made.start(node_id, max_metadata_version=QUOTAS_METADATA_VERSION)
    made.do(finalize_feature, admin.FinalizeFeatureRequest(name=METADATA_VERSION))
    return made


def alter(cluster: Cluster, *entries: admin.ClientQuotaChanges, **fields: Any) -> list[str]:
    """The names of errors, or nothing."""
    results = cluster.do(decisions.alter_quotas, admin.AlterClientQuotasRequest(entries=entries, **fields)).results
    assert [list(each.entity) for each in results] == [list(each.entity) for each in entries]
    return [ApiError.from_proto(each.error).name if each.HasField("error") else "" for each in results]


def listed(cluster: Cluster, *filters: admin.QuotaFilter, strict: bool = False) -> list[dict[str, float]]:
    request = admin.DescribeClientQuotasRequest(filters=filters, strict=strict)
    found = cluster.do(decisions.describe_quotas, request).quotas
    return [{value.key: value.value for value in each.values} for each in found]


def test_quotas_are_set_listed_and_removed(cluster: Cluster) -> None:
    assert listed(cluster) == []
    user, both = entity(user="a"), entity(user=None, client_id="c")
    assert alter(cluster, changes(user, producer_byte_rate=5, consumer_byte_rate=6)) == [""]
    index = cluster.image.index
    assert alter(cluster, changes(user, producer_byte_rate=5)) == [""]
    assert cluster.image.index == index  # nothing changed: no entry
    assert alter(cluster, changes(both, request_percentage=12.5)) == [""]
    assert listed(cluster) == [{"request_percentage": 12.5}, {"consumer_byte_rate": 6, "producer_byte_rate": 5}]
    assert listed(cluster, admin.QuotaFilter(type="user", name="a")) == listed(
        cluster, admin.QuotaFilter(type="user"), strict=True
    )
    assert listed(cluster, admin.QuotaFilter(type="user", is_default=True)) == [{"request_percentage": 12.5}]
    assert alter(cluster, changes(user, producer_byte_rate=None, consumer_byte_rate=7)) == [""]
    assert listed(cluster, admin.QuotaFilter(type="user", name="a")) == [{"consumer_byte_rate": 7}]
    assert alter(cluster, changes(user, producer_byte_rate=None, consumer_byte_rate=None)) == [""]
    assert alter(cluster, changes(both, request_percentage=None)) == [""]
    assert cluster.image.quotas == Quotas.EMPTY


def test_an_entity_is_changed_all_or_not_at_all(cluster: Cluster) -> None:
    assert alter(
        cluster,
        changes(entity(user="a"), producer_byte_rate=5, consumer_byte_rate=-1),
        changes(entity(user="b"), producer_byte_rate=5),
        changes(entity(user="c")),
        changes(entity(group="d"), producer_byte_rate=5),
    ) == ["INVALID_REQUEST", "", "INVALID_REQUEST", "INVALID_REQUEST"]
    twice = changes(entity(client_id="x", user="y"), producer_byte_rate=5)
    again = changes(entity(user="y", client_id="x"), producer_byte_rate=6)
    assert alter(cluster, twice, again) == ["DUPLICATE_RESOURCE"] * 2
    key_twice = admin.ClientQuotaChanges(
        entity=entity(user="a"), changes=[admin.QuotaChange(key="producer_byte_rate", value=n) for n in (1, 2)]
    )
    assert alter(cluster, key_twice) == ["INVALID_REQUEST"]
    assert listed(cluster) == [{"producer_byte_rate": 5}]
    with pytest.raises(ApiError, match="INVALID_REQUEST"):
        listed(cluster, admin.QuotaFilter(type="group"))


def test_only_checking_changes_nothing(cluster: Cluster) -> None:
    assert alter(cluster, changes(entity(user="a"), producer_byte_rate=5), validate_only=True) == [""]
    assert listed(cluster) == []


def test_they_are_bounded(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUOTAS_MAX", 1)
    first, second = (changes(entity(user=name), producer_byte_rate=5) for name in "ab")
    assert alter(cluster, first, second) == ["", "POLICY_VIOLATION"]
    assert alter(cluster, changes(entity(user="a"), producer_byte_rate=6)) == [""]
    monkeypatch.setattr(limits, "QUOTAS_ANSWER_MAX_BYTES", 10)
    with pytest.raises(ApiError, match="MESSAGE_TOO_LARGE"):
        listed(cluster)


def test_there_are_none_before_their_level() -> None:
    made = Cluster(nodes=0)
    made.start(1, max_metadata_version=3)
    made.do(finalize_feature, admin.FinalizeFeatureRequest(name=METADATA_VERSION))
    with pytest.raises(ApiError, match=r"metadata.version 4 on, the cluster is at 3"):
        alter(made, changes(entity(user="a"), producer_byte_rate=5))
    assert listed(made) == []


def test_a_snapshot_has_them(cluster: Cluster) -> None:
    alter(cluster, *(changes(entity(user=name, client_id=None), producer_byte_rate=5) for name in ("b", None, "a")))
    alter(cluster, changes(entity(ip="10.0.0.1"), connection_creation_rate=5))
    image = from_snapshot(snapshot_bytes(cluster.image), cluster.image.index, cluster.image.term)
    assert image.quotas == cluster.image.quotas
    assert len(image.quotas) == 4
    assert snapshot_bytes(image) == snapshot_bytes(cluster.image)


class Maker:
    """Makes topics, unless they are called `bad`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.throttle = Throttle(lambda: self.now_s)
        self.throttle.changed(Quotas({entity_of([("client-id", "c")]): {MUTATION: 1.0}}))
        handlers = {"CreateTopics": self.make, "DeleteTopics": self.fail, "DescribeAcls": self.fail}
        self.handlers = rated(handlers, self.throttle, lambda: Image.EMPTY)

    async def make(self, request: Any, _context: Any) -> admin.CreateTopicsResponse:
        response = admin.CreateTopicsResponse()
        for topic in request.topics:
            result = response.topics.add(name=topic.name)
            if topic.name == "bad":
                result.error.code = 36
        return response

    async def fail(self, _request: Any, _context: Any) -> Any:
        raise ApiError(41, "not here")

    def create(self, *topics: tuple[str, int], client_id: str = "c", **fields: Any) -> list[tuple[str, int]]:
        async def asked() -> Any:
            principal.calls_itself(client_id)
            wishes = [admin.NewTopic(name=name, num_partitions=count) for name, count in topics]
            return await self.handlers["CreateTopics"](admin.CreateTopicsRequest(topics=wishes, **fields), None)

        return [(each.name, each.error.code) for each in asyncio.run(asked()).topics]


def test_partitions_are_made_no_faster_than_they_may_be() -> None:
    maker = Maker()
    assert maker.create(("a", 6), ("b", 6), ("c", 1), ("d", 1)) == [("a", 0), ("b", 0), ("c", 89), ("d", 89)]
    assert maker.create(("e", 1)) == [("e", 89)]
    assert maker.create(("e", 1), client_id="other") == [("e", 0)]
    assert maker.create(("e", 1), validate_only=True) == [("e", 0)]
    maker.now_s += 2.001
    assert maker.create(("e", 1)) == [("e", 0)]
    maker.now_s += 100
    assert maker.create(("a", 10), ("b", 1)) == [("a", 0), ("b", 0)]
    assert maker.create(*[]) == []


def test_what_fails_costs_nothing() -> None:
    maker = Maker()
    for _ in range(20):
        assert maker.create(("bad", 6)) == [("bad", 36)]

    async def delete() -> None:
        principal.calls_itself("c")
        with pytest.raises(ApiError, match="not here"):
            await maker.handlers["DeleteTopics"](admin.DeleteTopicsRequest(topics=[admin.TopicRef(name="a")]), None)

    for _ in range(20):
        asyncio.run(delete())
    assert maker.create(("a", 10)) == [("a", 0)]

"""Configs for clients of Kafka: told whole, changed by either of its ways."""

from typing import Any

import pytest

from node.api.in_flight import InFlight
from node.api.topics import Config, ConfigLevel, Described
from node.kafka import topic_configs
from node.kafka.codec import codec, write_body
from node.kafka.handlers import configs
from node.kafka.handlers.configs import AlterConfigsHandler, DescribeConfigsHandler
from node.kafka.messages import alter_configs, incremental_alter_configs
from node.kafka.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
)
from node.kafka.wire import ELEMENTS_MAX
from ottla.protocol.configs import TOPIC_KEYS
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.controller.support import Cluster
from tests.node.kafka.controlled import Controlled, ask
from tests.node.kafka.peers import from_kio, kio_class, kio_parse
from tests.node.kafka.test_handlers import Asked
from tests.node.kafka.test_schema import APIS

DESCRIBE = 32
IN_FLIGHT = InFlight(64 << 20)
TOPIC, BROKER, LOGGER = 2, 4, 8
SET, DELETE, APPEND, SUBTRACT = range(4)
OF_KAFKA_4 = {
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
}


@pytest.fixture
def controlled() -> Controlled:
    made = Controlled()
    made.cluster.create(retention_ms="1000", cleanup_policy="compact")
    return made


async def described(
    controlled: Controlled, *resources: DescribeConfigsResource, version: int = 4, **fields: Any
) -> Any:
    """The results as another implementation reads them."""
    before = IN_FLIGHT.used_bytes
    handler = DescribeConfigsHandler(
        controlled.api, IN_FLIGHT, 1, {"auto.create.topics.enable": "false", "broker.id": "1"}
    )
    call = Asked(version)
    answer: Any = await handler(DescribeConfigsRequest(resources=resources, **fields), call)  # type: ignore[arg-type]
    size = sum(map(len, answer.body))
    assert size - 16 <= IN_FLIGHT.used_bytes - before <= size
    assert call.on_sent is not None
    call.on_sent()
    assert IN_FLIGHT.used_bytes == before
    [api] = [each for each in APIS if each.key == DESCRIBE]
    found = from_kio(kio_parse(kio_class(api, version, "response"), write_body(DESCRIBE, version, answer)))
    assert list(found) in (["throttle_time", "results"], ["results", "throttle_time"])
    return found["results"]


async def entries(controlled: Controlled, kind: int = TOPIC, name: str = "t", **fields: Any) -> dict[str, Any]:
    [result] = await described(controlled, DescribeConfigsResource(kind, name, None), **fields)
    assert (result["error_code"], result["error_message"]) == (0, None)
    assert (result["resource_type"], result["resource_name"]) == (kind, name)
    return {each["name"]: each for each in result["configs"]}


async def test_a_topic_has_every_config_that_kafka_has(controlled: Controlled) -> None:
    found = await entries(controlled)
    assert found.keys() >= OF_KAFKA_4
    assert found.keys() - OF_KAFKA_4 == {"flush"}
    assert {name for name, each in found.items() if each["read_only"]} == found.keys() - TOPIC_KEYS.keys()
    assert (found["segment.index.bytes"]["value"], found["segment.index.bytes"]["config_type"]) == ("10485760", 3)
    assert all(each["config_type"] for each in found.values())
    assert {each["is_sensitive"] for each in found.values()} == {False}


async def test_where_a_value_comes_from(controlled: Controlled) -> None:
    setting = configs.ConfigChange("log.segment.bytes", "2000000", configs.SET)
    await controlled.api.alter([configs.Changes(BROKER, "", [setting])], validate_only=False)
    found = await entries(controlled, include_synonyms=True, include_documentation=True)

    def told(name: str) -> Any:
        each = found[name]
        return each["value"], each["config_source"], [(s["name"], s["value"], s["source"]) for s in each["synonyms"]]

    week = str(7 * 86_400_000)
    assert told("retention.ms") == ("1000", 1, [("retention.ms", "1000", 1), ("log.retention.ms", week, 5)])
    default = str(128 * 2**20)
    levels = [("log.segment.bytes", "2000000", 3), ("log.segment.bytes", default, 5)]
    assert told("segment.bytes") == ("2000000", 3, levels)
    assert told("flush.ms") == (str(2**63 - 1), 5, [("log.flush.interval.ms", str(2**63 - 1), 5)])
    assert told("cleanup.policy")[:2] == ("compact", 1)
    assert all(each["documentation"] for each in found.values())
    brief = await entries(controlled)
    assert {(len(each["synonyms"]), each["documentation"]) for each in brief.values()} == {(0, None)}


@pytest.mark.parametrize("version", range(5))
def test_the_parts_of_an_answer_are_what_the_codec_writes(version: int) -> None:
    found = Described(None, [*topic_configs.SHOWN, Config("x", "1", 1, False, [ConfigLevel("y", "2", 4)], "says")])
    asked = [DescribeConfigsResource(TOPIC, name, None) for name in ("t", "u" * 200)]
    request = DescribeConfigsRequest(asked, include_synonyms=True, include_documentation=True)
    results = [configs._described(each, found, request) for each in asked]
    assert {(each.name == "x", each.is_default) for each in results[0].configs} == {(True, False), (False, True)}
    for some in ([], results, results * 100):
        parts = configs._body(version, [configs._element(version, each) for each in some])
        assert b"".join(parts) == write_body(DESCRIBE, version, DescribeConfigsResponse(results=some))


async def test_a_broker_has_what_clients_look_for(controlled: Controlled) -> None:
    found = await entries(controlled, BROKER, "1", include_synonyms=True)
    wanted = {
        "num.partitions",
        "default.replication.factor",
        "log.retention.ms",
        "auto.create.topics.enable",
        "broker.id",
    }
    assert wanted <= found.keys()
    own = found["auto.create.topics.enable"]
    assert (own["value"], own["config_source"], own["read_only"]) == ("false", 4, True)
    assert own["synonyms"] == [{"name": "auto.create.topics.enable", "value": "false", "source": 4}]
    assert not found["num.partitions"]["read_only"]
    assert "broker.id" not in await entries(controlled, BROKER, "2"), "another node's own settings are not known here"
    assert await entries(controlled, BROKER, "") == {}, "what was set for all of them"
    assert await altered(controlled, ("log.segment.bytes", SET, "2000000"), at=(BROKER, "")) == [0]
    of_all = await entries(controlled, BROKER, "", include_synonyms=True)
    assert {name: (each["value"], len(each["synonyms"])) for name, each in of_all.items()} == {
        "log.segment.bytes": ("2000000", 1)
    }


@pytest.mark.parametrize("version", range(1, 5))
async def test_every_version_is_read_by_others(controlled: Controlled, version: int) -> None:
    asked = [DescribeConfigsResource(TOPIC, name, ["retention.ms", "no.such"]) for name in ("t", "missing", "t")]
    found = await described(controlled, *asked, version=version)
    assert [each["error_code"] for each in found] == [0, 3, 0]
    assert [[config["name"] for config in each["configs"]] for each in found] == [
        ["retention.ms"],
        [],
        ["retention.ms"],
    ]


async def test_no_keys_are_all_keys(controlled: Controlled) -> None:
    [found] = await described(controlled, DescribeConfigsResource(TOPIC, "t", []))
    assert len(found["configs"]) > 30


async def test_what_has_no_configs_here(controlled: Controlled) -> None:
    wanted = [(LOGGER, "1", 42), (16, "m", 42), (0, "", 42), (-1, "t", 42), (BROKER, "9", 42), (BROKER, "x", 42)]
    wanted += [(TOPIC, "", 3), (TOPIC, "x" * 30_000, 3), (TOPIC, "t", 0)]
    found = await described(controlled, *(DescribeConfigsResource(kind, name, None) for kind, name, _ in wanted))
    assert [each["error_code"] for each in found] == [code for _, _, code in wanted]
    assert [each["resource_name"] for each in found] == [name for _, name, _ in wanted]


async def test_an_answer_has_a_bound(controlled: Controlled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "ANSWER_MAX_BYTES", 100_000)
    asked = [DescribeConfigsResource(TOPIC, "t", None)] * ELEMENTS_MAX
    found = await described(controlled, *asked)
    assert len(found) == ELEMENTS_MAX
    good = [each for each in found if not each["error_code"]]
    assert 40 <= len(good) <= 200
    assert {each["error_code"] for each in found} == {0, 42}
    assert "ask for fewer" in found[-1]["error_message"]
    assert len(controlled.calls) * configs.AT_ONCE == len(good), "what is not told is not asked for"


async def test_there_is_little_while_much_is_in_flight(controlled: Controlled) -> None:
    asked = [DescribeConfigsResource(TOPIC, "t", None)] * 500
    assert {each["error_code"] for each in await described(controlled, *asked)} == {0}
    IN_FLIGHT.take(40 << 20)
    try:
        codes = [each["error_code"] for each in await described(controlled, *asked)]
    finally:
        IN_FLIGHT.give(40 << 20)
    assert set(codes) == {0, 42}
    assert codes[0] == 0, "never nothing"


async def test_a_controller_that_cannot_be_asked_is_told_of(controlled: Controlled) -> None:
    controlled.unreachable = ApiError(pb.ERROR_CODE_NOT_CONTROLLER, "no controller")
    [first, second] = await described(
        controlled, DescribeConfigsResource(TOPIC, "t", None), DescribeConfigsResource(LOGGER, "1", None)
    )
    assert (first["error_code"], first["error_message"], second["error_code"]) == (41, "no controller", 42)
    assert await altered(controlled, ("retention.ms", SET, "5")) == [41]
    assert await replaced(controlled, ("retention.ms", "5")) == [41]


async def altered(
    controlled: Controlled, *items: tuple[str, int, str | None], at: tuple[int, str] = (TOPIC, "t"), dry: bool = False
) -> list[int]:
    some = [incremental_alter_configs.AlterableConfig(*item) for item in items]
    resource = incremental_alter_configs.AlterConfigsResource(*at, some)
    return await altered_all(controlled, resource, dry=dry)


async def altered_all(controlled: Controlled, *resources: Any, dry: bool = False) -> list[int]:
    request = incremental_alter_configs.IncrementalAlterConfigsRequest(resources, dry)
    answer = await ask(AlterConfigsHandler(controlled.api).incremental, request)
    assert codec(44).write
    for version in (0, 1):
        assert write_body(44, version, answer)
    assert [(each.resource_type, each.resource_name) for each in answer.responses] == [
        (each.resource_type, each.resource_name) for each in resources
    ]
    assert all((each.error_message is None) == (each.error_code == 0) for each in answer.responses)
    return [each.error_code for each in answer.responses]


async def replaced(
    controlled: Controlled, *items: tuple[str, str | None], at: tuple[int, str] = (TOPIC, "t"), dry: bool = False
) -> list[int]:
    some = [alter_configs.AlterableConfig(*item) for item in items]
    request = alter_configs.AlterConfigsRequest([alter_configs.AlterConfigsResource(*at, some)], dry)
    answer = await ask(AlterConfigsHandler(controlled.api).replacing, request)
    for version in (0, 1, 2):
        assert write_body(33, version, answer)
    return [each.error_code for each in answer.responses]


def set_on(controlled: Controlled) -> dict[str, str]:
    return dict(controlled.cluster.topic().configs)


async def test_key_by_key(controlled: Controlled) -> None:
    items = (("segment.bytes", SET, "2000000"), ("retention.ms", DELETE, None), ("cleanup.policy", APPEND, "delete"))
    assert await altered(controlled, *items, dry=True) == [0]
    assert set_on(controlled) == {"retention.ms": "1000", "cleanup.policy": "compact"}
    assert await altered(controlled, *items) == [0]
    assert set_on(controlled) == {"segment.bytes": "2000000", "cleanup.policy": "compact,delete"}
    assert await altered(controlled, ("cleanup.policy", SUBTRACT, "compact,nonsense")) == [40]
    assert await altered(controlled, ("cleanup.policy", SUBTRACT, "compact")) == [0]
    assert set_on(controlled) == {"segment.bytes": "2000000", "cleanup.policy": "delete"}


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([("retention.ms", SET, "x")], 40),
        ([("retention.ms", SET, "-2")], 40),
        ([("retention.ms", SET, "-1")], 0),
        ([("retention.ms", SET, str(2**63 - 1))], 0),
        ([("retention.ms", SET, str(2**63))], 40),
        ([("retention.ms", APPEND, "5")], 40),
        ([("retention.ms", SET, None)], 42),
        ([("retention.ms", 4, "5")], 42),
        ([("retention.ms", -1, "5")], 42),
        ([("retention.ms", SET, "5"), ("retention.ms", SET, "5")], 42),
        ([("no.such", SET, "5")], 40),
        ([("x" * 30_000, SET, "5" * 30_000)], 40),
        ([("", SET, "")], 40),
        ([("segment.ms", SET, "5"), ("no.such", SET, "5")], 40),
        ([], 0),
    ],
)  # fmt: skip
async def test_a_resources_changes_are_made_all_or_none(
    controlled: Controlled, items: list[tuple[str, int, str | None]], code: int
) -> None:
    before = set_on(controlled)
    for dry in (True, False):
        assert await altered(controlled, *items, dry=dry) == [code]
    assert (set_on(controlled) == before) == (code != 0 or not items)


@pytest.mark.parametrize(
    ("at", "code"),
    [
        ((TOPIC, "missing"), 3),
        ((TOPIC, ""), 3),
        ((BROKER, "9"), 42),
        ((LOGGER, "1"), 42),
        ((-1, "t"), 42),
        ((32, "g"), 42),
    ],
)
async def test_whose_configs_cannot_be_changed(controlled: Controlled, at: tuple[int, str], code: int) -> None:
    assert await altered(controlled, ("retention.ms", SET, "5"), at=at) == [code]
    assert await altered(controlled, at=at) == [code], "also where nothing is to be changed"
    assert await replaced(controlled, ("retention.ms", "5"), at=at) == [code]


async def test_one_bad_resource_fails_no_other(controlled: Controlled) -> None:
    controlled.cluster.create("u")
    change = [incremental_alter_configs.AlterableConfig("retention.ms", SET, "77")]
    wanted = [
        incremental_alter_configs.AlterConfigsResource(kind, name, change)
        for kind, name in ((TOPIC, "t"), (TOPIC, "missing"), (TOPIC, "u"), (TOPIC, "t"), (LOGGER, "t"))
    ]
    assert await altered_all(controlled, *wanted) == [42, 3, 0, 42, 42]
    assert set_on(controlled)["retention.ms"] == "1000"
    assert controlled.cluster.topic("u").configs["retention.ms"] == "77"


async def test_many_resources_go_in_parts(controlled: Controlled) -> None:
    wanted = [incremental_alter_configs.AlterConfigsResource(TOPIC, f"n{n}", []) for n in range(101)]
    assert await altered_all(controlled, *wanted) == [3] * 101
    assert max(len(asked.resources) for _, asked in controlled.calls) == configs.AT_ONCE


async def test_kafkas_configs_that_mean_nothing_are_taken_and_not_kept(controlled: Controlled) -> None:
    before = set_on(controlled)
    for name in topic_configs.PASSED_OVER:
        default = topic_configs.PASSED_OVER[name].default
        assert await altered(controlled, (name, SET, default)) == [0], name
        assert await altered(controlled, (name, DELETE, None)) == [0], name
    assert await altered(controlled, ("leader.replication.throttled.replicas", APPEND, "0:1,1:1")) == [0]
    for name, value in (
        ("flush.messages", "0"), ("flush.ms", "soon"), ("segment.index.bytes", "3"), ("preallocate", "yes"),
        ("compression.lz4.level", "18"), ("remote.storage.enable", "true"),
    ):  # fmt: skip
        assert await altered(controlled, (name, SET, value), ("retention.ms", SET, "5")) == [40], name
        assert await replaced(controlled, (name, value)) == [40], name
    assert set_on(controlled) == before


async def test_all_at_once(controlled: Controlled) -> None:
    assert await replaced(controlled, ("segment.ms", "5000"), ("flush.ms", "1"), dry=True) == [0]
    assert set_on(controlled) == {"retention.ms": "1000", "cleanup.policy": "compact"}
    assert await replaced(controlled, ("segment.ms", "5000"), ("flush.ms", "1")) == [0]
    assert set_on(controlled) == {"segment.ms": "5000"}, "what is not named goes back to its default"
    assert await replaced(controlled, ("segment.ms", None)) == [42]
    assert await replaced(controlled, ("segment.ms", "0")) == [40]
    assert set_on(controlled) == {"segment.ms": "5000"}
    assert await replaced(controlled) == [0]
    assert set_on(controlled) == {}


async def test_a_brokers_configs_are_its_own(controlled: Controlled) -> None:
    cluster: Cluster = controlled.cluster
    assert await altered(controlled, ("log.retention.ms", SET, "1"), at=(BROKER, "")) == [0]
    assert await altered(controlled, ("log.segment.bytes", SET, "3000000"), at=(BROKER, "")) == [0]
    assert await altered(controlled, ("log.retention.ms", SET, "2"), at=(BROKER, "1")) == [0]
    assert await altered(controlled, ("num.partitions", SET, "2"), at=(BROKER, "1")) == [40], "the same for all"
    assert await altered(controlled, ("node.id", SET, "2"), at=(BROKER, "1")) == [40]
    assert await replaced(controlled, ("log.roll.ms", "5"), at=(BROKER, "1")) == [0]
    everywhere = {"log.retention.ms": "1", "log.segment.bytes": "3000000"}
    assert dict(cluster.image.broker_configs) == {"": everywhere, "1": {"log.roll.ms": "5"}}
    assert await replaced(controlled, ("num.partitions", "4"), at=(BROKER, "")) == [0]
    assert dict(cluster.image.broker_configs) == {"": {"num.partitions": "4"}, "1": {"log.roll.ms": "5"}}


async def test_throttles_that_are_not_there_can_be_deleted(controlled: Controlled) -> None:
    rate = "leader.replication.throttled.rate"
    assert await altered(controlled, (rate, DELETE, None), at=(BROKER, "1")) == [0]
    assert await altered(controlled, (rate, SET, "1000"), at=(BROKER, "1")) == [40]
    assert await altered(controlled, ("nonsense", DELETE, None), at=(BROKER, "1")) == [40]

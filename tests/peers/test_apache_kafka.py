"""The same requests to Apache Kafka and to Ottla; their answers are compared field by field."""

import pytest

import tests.peers.exchanges.cluster
import tests.peers.exchanges.data
import tests.peers.exchanges.groups
import tests.peers.exchanges.listed
import tests.peers.exchanges.mixed
import tests.peers.exchanges.topics  # noqa: F401
from tests.peers.exchange import EXCHANGES, Exchange
from tests.peers.explained import EXPLAINED
from tests.peers.normal import Step, differences
from tests.peers.side import Side
from tests.peers.wire import APIS, Connection

# `long` keeps it out of `make test` and of CI: `make peers` runs it.
pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]
Address = tuple[str, int]
USERS = {APIS[name].key for name in ("DescribeUserScramCredentials", "AlterUserScramCredentials")}
"""Passwords are tested with clients (tests/cluster/test_kafka_login.py)."""
PRODUCE_LOW = 3
"""Kafka says that it serves Produce from 0 on, for clients that compress by that, and ends the connection."""


def steps(address: Address, exchange: Exchange) -> list[Step]:
    side = Side(address, exchange.name + "-")
    try:
        exchange.run(side, exchange.version)
    finally:
        side.close()
    return side.steps


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda each: each.name)
def test_ottla_answers_as_apache_kafka_does(kafka: Address, ottla: Address, exchange: Exchange) -> None:
    theirs, ours = steps(kafka, exchange), steps(ottla, exchange)
    assert theirs, "an exchange that compares nothing"
    assert [label for label, _ in theirs] == [label for label, _ in ours]
    found = [
        (label + place, said, ottla_said)
        for (label, kafka_said), (_, own) in zip(theirs, ours, strict=True)
        for place, said, ottla_said in differences(kafka_said, own)
    ]
    unexplained = [each for each in found if not any(e.covers(exchange.name, each[0], each[2]) for e in EXPLAINED)]
    told = "\n".join(f"{place}: Kafka {kafka_said!r}, Ottla {own!r}" for place, kafka_said, own in unexplained)
    assert not unexplained, f"{exchange.name}\n{told}"


def test_every_version_that_both_serve_is_asked(kafka: Address, ottla: Address) -> None:
    ranges = []
    for address in (kafka, ottla):
        connection = Connection(address)
        connection.send("ApiVersions", 0, {})
        ranges.append({each["api_key"]: each for each in connection.receive()["api_keys"]})
        connection.close()
    asked = {(APIS[each.api].key, each.version) for each in EXCHANGES}
    theirs, ours = ranges
    for key in theirs.keys() & ours.keys() - USERS:
        low = max(theirs[key]["min_version"], ours[key]["min_version"])
        high = min(theirs[key]["max_version"], ours[key]["max_version"])
        low = max(low, PRODUCE_LOW) if key == 0 else low
        assert not {(key, version) for version in range(low, high + 1)} - asked, f"API {key} is not asked in full"

"""A real cluster for tests without asyncio, and the blocking client's ways of reading on it."""

import inspect
import time

import pytest

import ottla.testing.sync
from ottla import ConfigError, TopicPartition, UnknownTopic
from ottla.serializers import from_json, to_json
from ottla.sync import Admin, Consumer, Producer
from ottla.testing import ClusterFailed

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("name", ["Cluster", "Node"])
def test_nothing_is_missing(name: str) -> None:
    ours, theirs = getattr(ottla.testing.sync, name), getattr(ottla.testing, name)
    for method, member in inspect.getmembers(theirs, inspect.isfunction):
        if not method.startswith("_"):
            assert list(inspect.signature(getattr(ours, method)).parameters) == list(
                inspect.signature(member).parameters
            )


def test_a_dead_leader_and_the_ways_of_reading() -> None:
    with ottla.testing.sync.cluster(3) as c:
        with Admin(c.bootstrap) as admin:
            for topic, partitions in (("events", 1), ("more", 2)):
                admin.create_topic(topic, partitions=partitions, replication_factor=3)
        with Producer(c.bootstrap, value_serializer=to_json) as producer:
            producer.send_and_wait("events", {"n": 0})
            victim = c.leader("events")
            c.kill(victim)
            assert not c[victim].running
            for n in range(1, 5):
                producer.send_and_wait("events", {"n": n})
            assert c.leader("events") != victim
            c.start(victim)
            assert c[victim].http("/readyz")[0] == 200
            producer.send_and_wait("more", 7, partition=1)
        _alone(c.bootstrap)
        _in_a_group(c.bootstrap)
        directory = c[1].data.parent
    assert not directory.exists()
    with pytest.raises(ClusterFailed, match="with"):
        c.start(1)


def _alone(bootstrap: str) -> None:
    with Consumer("events", bootstrap=bootstrap, value_deserializer=from_json) as consumer:
        assert consumer.end_offsets() == {("events", 0): 5}
        assert consumer.end_offsets([("more", 1)]) == {TopicPartition("more", 1): 1}
        lists = consumer.batches(max_records=3)
        assert [record.value["n"] for record in next(lists)] == [0, 1, 2]  # type: ignore[index, call-overload]
        assert len(next(lists)) == 2
        consumer.seek("events", 0, 2)
        assert consumer.lag() == {("events", 0): 3}
        consumer.subscribe("events", "more")
        assert consumer.position("events", 0) == 2
        assert len(consumer.assignment()) == 3
        consumer.subscribe("more")
        assert next(consumer).value == 7
        with pytest.raises(UnknownTopic):
            consumer.subscribe("no-such-topic")
        with pytest.raises(ConfigError, match="group"):
            consumer.subscribe(topic_regex="m.*")
        assert {tp.topic for tp in consumer.assignment()} == {"more"}


def _in_a_group(bootstrap: str) -> None:
    with Consumer("events", group="g", bootstrap=bootstrap, enable_auto_commit=False) as consumer:
        records = [next(consumer) for _ in range(3)]
        consumer.commit(records[1])
        assert consumer.committed("events", 0) == 2
        consumer.subscribe("more")
        while next(consumer).topic != "more":
            pass  # what was read ahead, until the group has decided
        assert consumer.assignment() == [("more", 0), ("more", 1)]
        with pytest.raises(ConfigError, match="compile"):
            consumer.subscribe(topic_regex="more|(")
        consumer.subscribe(topic_regex="ev.*|more")
        give_up = time.monotonic() + 20
        while len(consumer.assignment()) < 3:
            consumer.poll(timeout_ms=100)
            assert time.monotonic() < give_up
        assert consumer.lag()["events", 0] <= 3  # it goes on at the position that was committed


async def test_where_a_loop_runs_it_says_where_to_go() -> None:
    with pytest.raises(ClusterFailed, match=r"ottla\.testing\.cluster"):
        ottla.testing.sync.cluster(1).__enter__()

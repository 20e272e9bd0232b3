"""Containers die, freeze and lose the network under load; every acknowledged record is there afterwards."""

import time

import pytest

from tests.chaos.compose import ComposeCluster
from tests.cluster.test_failover import Writer, check

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


def test_a_killed_container_loses_nothing_acknowledged(compose: ComposeCluster) -> None:
    compose.create_topic("killed", 3)
    with Writer(compose, "killed", 3) as writer:
        for _ in range(3):
            writer.more(100)
            victim = compose.leader("killed")
            compose[victim].kill()
            writer.more(100, 60)
            compose.start([victim]).wait_ready([victim])
    check(compose, writer, "killed", 1)


def test_all_containers_killed_at_once_come_back_with_everything(compose: ComposeCluster) -> None:
    compose.create_topic("all-killed", 3)
    with Writer(compose, "all-killed", 3) as writer:
        writer.more(200)
        for node in compose.nodes.values():
            node.kill()
        compose.start().wait_ready()
        writer.more(100, 60)
    check(compose, writer, "all-killed", 2)


def test_a_frozen_container_is_replaced_and_catches_up(compose: ComposeCluster) -> None:
    compose.create_topic("frozen", 3)
    with Writer(compose, "frozen", 3) as writer:
        writer.more(100)
        victim = compose.leader("frozen")
        compose[victim].pause()
        writer.more(100, 60)
        compose[victim].resume()
        compose.wait_ready([victim])
        writer.more(100, 60)
    check(compose, writer, "frozen", victim)


def test_a_container_without_network_is_replaced_and_catches_up(compose: ComposeCluster) -> None:
    compose.create_topic("cut-off", 3)
    with Writer(compose, "cut-off", 3) as writer:
        writer.more(100)
        victim = compose.leader("cut-off")
        compose[victim].cut_off()
        writer.more(100, 60)
        deadline = time.monotonic() + 10
        while compose[victim].ready:
            assert time.monotonic() < deadline, "a node that nobody answers says that it is ready"
        compose[victim].connect()
        compose.wait_ready([victim])
        writer.more(100, 60)
    check(compose, writer, "cut-off", victim)


def test_a_rolling_restart_loses_and_refuses_nothing(compose: ComposeCluster) -> None:
    compose.create_topic("rolled", 3)
    with Writer(compose, "rolled", 3) as writer:
        for node in compose.containers.values():
            writer.more(50)
            assert node.stop() == 0, "a controlled stop ends by itself"
            node.start()
            compose.wait_ready([node.node_id])
        writer.more(50)
    check(compose, writer, "rolled", 3)

"""Both brokers, once for all exchanges."""

from collections.abc import Iterator

import pytest

from tests.cluster.harness import LocalCluster, free_base_port
from tests.peers.apache_kafka import apache_kafka, missing, wait_until_served


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    if why := missing():
        pytest.skip(why)
    port = free_base_port(2)
    with apache_kafka(tmp_path_factory.mktemp("apache-kafka"), port, port + 1) as address:
        yield address


@pytest.fixture(scope="session")
def ottla(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    # One node has nobody to take over from it: on a busy machine it isn't to be taken for dead.
    settings = {"auto.create.topics.enable": "true", "broker.session.timeout.ms": 60_000}
    with LocalCluster(tmp_path_factory.mktemp("ottla"), 1, settings, kafka=True) as cluster:
        cluster.start().wait_ready(timeout_s=90)
        host, port = cluster[1].address("kafka").rsplit(":", 1)
        wait_until_served((host, int(port)))
        yield host, int(port)

"""What `ottla dev` checks and writes before any process runs."""

import socket
from pathlib import Path

import pytest

from node.config import load
from ottla.cli.failure import Failure
from ottla.cli.local import HOST, KAFKA, LISTENERS, LocalCluster, LocalNode, check_ports, free_base_port
from tests.cluster import harness


def test_a_node_can_load_the_config_that_is_written(tmp_path: Path) -> None:
    port = harness.free_base_port(3)
    with LocalCluster(3, tmp_path / "a folder", port, {"num.partitions": 3}) as cluster:
        cluster.write_configs()
        loaded = [load(node.config, [], environ={}) for node in cluster.nodes]
    assert [settings.node_id for settings in loaded] == [1, 2, 3]
    assert [settings.listener("public") for settings in loaded] == [f"{HOST}:{port + i}" for i in range(3)]
    assert cluster.bootstrap == ",".join(settings.listener("public") for settings in loaded)
    assert [settings.listener("http") for settings in loaded] == [f"{HOST}:{port + 300 + i}" for i in range(3)]
    for settings in loaded:
        assert settings.broker_configs["num.partitions"] == "3"
        assert [voter.address for voter in settings.voters] == [other.listener("control") for other in loaded]
    assert len({settings.data_dir for settings in loaded}) == 3


@pytest.mark.parametrize("use", LISTENERS)
def test_a_taken_port_is_named_with_its_use(tmp_path: Path, use: str) -> None:
    port = harness.free_base_port(3)
    node = LocalNode(2, tmp_path, port, port + LISTENERS[KAFKA])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, port + LISTENERS[use]))
        taken.listen()
        with pytest.raises(Failure) as failed:
            check_ports(node)
        assert failed.value.code == "PORT_TAKEN"
        assert str(port + LISTENERS[use]) in failed.value.message
        assert f"node 2 needs it for {use}" in failed.value.message
        assert ("--kafka-port" if use == KAFKA else "--base-port") in failed.value.next_step
        assert free_base_port(1, [port, port + 1]) == port + 1
    check_ports(node)


def test_no_free_port_is_a_failure() -> None:
    with pytest.raises(Failure, match="no 5 free ports"):
        free_base_port(1, [])


def test_a_directory_of_another_cluster_size_is_refused(tmp_path: Path) -> None:
    LocalCluster(3, tmp_path, harness.free_base_port(3)).write_configs()
    with pytest.raises(Failure) as failed:
        LocalCluster(1, tmp_path, harness.free_base_port(3)).write_configs()
    assert "holds a cluster of 3 nodes, 1 were asked for" in failed.value.message
    assert "--nodes 3" in failed.value.next_step


def test_the_command_to_start_a_node_by_hand_is_quoted_for_the_shell(tmp_path: Path) -> None:
    node = LocalCluster(1, tmp_path / "it's here", harness.free_base_port(3)).nodes[0]
    assert node.command.startswith("ottla node --config '")
    assert """'"'"'""" in node.command


def test_a_cluster_knows_where_it_ran_before_and_stays_there(tmp_path: Path) -> None:
    new = LocalCluster(3, tmp_path / "new", None)
    assert (new.port_before(), new.bootstrap) == (None, f"{HOST}:9192,{HOST}:9193,{HOST}:9194")
    assert new.kafka_bootstrap == f"{HOST}:9092,{HOST}:9093,{HOST}:9094"
    LocalCluster(3, tmp_path / "old", 9092).write_configs()
    assert LocalCluster(3, tmp_path / "old", 9192).port_before() == 9092
    assert LocalCluster(3, tmp_path / "old", None).bootstrap == f"{HOST}:9092,{HOST}:9093,{HOST}:9094"
    (tmp_path / "old" / "node-1.toml").write_text("base.port = what")
    assert LocalCluster(3, tmp_path / "old", 9192).port_before() is None


@pytest.mark.parametrize(
    ("written", "kafka"),
    [
        ("", "127.0.0.1:8992"),
        ('listeners.kafka = "127.0.0.1:9492"\nauto.create.topics.enable = true\n', "127.0.0.1:9492"),
    ],
)
def test_a_directory_of_an_older_version_keeps_its_ports(tmp_path: Path, written: str, kafka: str) -> None:
    voters = 'controller.quorum.voters = ["1@127.0.0.1:9192"]\n'
    (tmp_path / "node-1.toml").write_text(f'node.id = 1\ndata.dir = "x"\nbase.port = 9092\n{voters}{written}')
    cluster = LocalCluster(1, tmp_path, None)
    cluster.write_configs()
    made = load(cluster.nodes[0].config, [], environ={})
    found = [made.listener(name) for name in ("public", "control", "replication", "http")]
    assert found == [f"127.0.0.1:{port}" for port in (9092, 9192, 9292, 9392)]
    assert [each.address for each in made.kafka_listeners] == [kafka]
    assert made.voters[0].address == "127.0.0.1:9192"


@pytest.mark.parametrize("port", [0, 100, 65227])
def test_a_base_port_leaves_room_on_both_sides(tmp_path: Path, port: int) -> None:
    with pytest.raises(Failure) as failed:
        LocalCluster(1, tmp_path, port)
    assert failed.value.next_step == "choose 101 to 65226 with --base-port"
    assert LocalCluster(1, tmp_path, 101).kafka_bootstrap == f"{HOST}:1"


def test_clients_of_kafka_have_a_port_of_each_node_and_keep_it(tmp_path: Path) -> None:
    LocalCluster(3, tmp_path, 33000, kafka_port=33400).write_configs()
    again = LocalCluster(3, tmp_path, 33000)
    assert again.kafka_bootstrap == f"{HOST}:33400,{HOST}:33401,{HOST}:33402"
    again.write_configs()
    loaded = [load(node.config, [], environ={}) for node in again.nodes]
    assert [settings.kafka_listeners[0].address for settings in loaded] == [f"{HOST}:{33400 + i}" for i in range(3)]
    assert (
        LocalCluster(3, tmp_path, 33000, kafka_port=33450).kafka_bootstrap == f"{HOST}:33450,{HOST}:33451,{HOST}:33452"
    )
    closed = LocalCluster(3, tmp_path, 33000, kafka_port=0)
    closed.write_configs()
    assert LocalCluster(3, tmp_path, 33000).kafka_bootstrap is None
    assert not load(closed.nodes[0].config, [], environ={}).serves_kafka


def test_clients_of_kafka_move_with_the_others_where_nothing_else_was_said(tmp_path: Path) -> None:
    LocalCluster(1, tmp_path, 33000).write_configs()
    assert LocalCluster(1, tmp_path, 33000).kafka_bootstrap == f"{HOST}:32900"
    assert LocalCluster(1, tmp_path, 34000).kafka_bootstrap == f"{HOST}:33900"
    LocalCluster(1, tmp_path, 33000, kafka_port=32900).write_configs()
    assert LocalCluster(1, tmp_path, 34000).kafka_bootstrap == f"{HOST}:33900"


@pytest.mark.parametrize("said", ["'nonsense'", "7", "'127.0.0.1:'", "''"])
def test_a_config_that_names_no_port_for_clients_of_kafka_says_nothing_of_them(tmp_path: Path, said: str) -> None:
    (tmp_path / "node-1.toml").write_text(f"listeners.kafka = {said}")
    assert LocalCluster(1, tmp_path, 33000).kafka_bootstrap == f"{HOST}:32900"


@pytest.mark.parametrize("first", [33000, 33002, 32998, 33100, 33202, 33298])
def test_ports_for_clients_of_kafka_do_not_collide_with_the_clusters_own(tmp_path: Path, first: int) -> None:
    with pytest.raises(Failure) as failed:
        LocalCluster(3, tmp_path, 33000, kafka_port=first)
    assert failed.value.code == "INVALID_CONFIG"
    assert f"clients of Kafka cannot have ports {first} to {first + 2}: the nodes need ports 33" in failed.value.message
    assert "--kafka-port, as 32900" in failed.value.next_step


@pytest.mark.parametrize("first", [32997, 33003, 33097, 33303])
def test_ports_beside_them_are_good(tmp_path: Path, first: int) -> None:
    assert LocalCluster(3, tmp_path, 33000, kafka_port=first).nodes[2].kafka_port == first + 2


def test_a_remembered_port_that_collides_after_a_move_is_told(tmp_path: Path) -> None:
    LocalCluster(1, tmp_path, 33000, kafka_port=33400).write_configs()
    with pytest.raises(Failure, match="Kafka cannot have port 33400: the nodes need port 33400 for control"):
        LocalCluster(1, tmp_path, 33300)


def test_a_taken_port_for_clients_of_kafka_is_named_with_its_use(tmp_path: Path) -> None:
    port = harness.free_base_port(2)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, port + 1))
        taken.listen()
        with LocalCluster(1, tmp_path, port, kafka_port=port + 1) as cluster, pytest.raises(Failure) as failed:
            cluster.start()
    assert (failed.value.code, failed.value.next_step.rsplit(" with ", 1)[1]) == (
        "PORT_TAKEN",
        "--kafka-port (0: none)",
    )
    assert f"port {port + 1} on {HOST} is in use; node 1 needs it for clients of Kafka" in failed.value.message


def test_what_is_made_is_for_its_owner_alone(tmp_path: Path) -> None:
    LocalCluster(1, tmp_path / "data", 9092).write_configs()
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0

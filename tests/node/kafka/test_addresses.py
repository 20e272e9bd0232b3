"""Which address a client of Kafka is told, by how it came in."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node.kafka.addresses import Addresses, Network, Reach, of_container
from node.metadata.image import Endpoint

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010017AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000017AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
GATEWAY, NEIGHBOUR, STRANGER = "172.23.0.1", "172.23.0.3", "192.0.2.7"


def broker(node_id: int, host: str, **more: str) -> Any:
    endpoints = {at.name: at for at in endpoints_of(node_id, host, **more)}
    return SimpleNamespace(node_id=node_id, endpoint=endpoints.get)


def endpoints_of(node_id: int, host: str, **more: str) -> list[Endpoint]:
    named = [Endpoint(f"kafka.{name}", at, 19091 + node_id) for name, at in more.items()]
    return [Endpoint("kafka", host, 9091 + node_id), *named]


def told(addresses: Addresses, local: str, peer: str, *brokers: Any, listener: str = "kafka") -> list[str | None]:
    reach = addresses.reach(listener, local, peer)
    found = [addresses.seen(each, reach) for each in brokers]
    return [None if at is None else f"{at[0]}:{at[1]}" for at in found]


@pytest.fixture
def container(tmp_path: Path) -> Path:
    (tmp_path / ".dockerenv").touch()
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").write_text(ROUTES)
    return tmp_path


def test_a_container_knows_its_gateway_and_its_neighbours(container: Path) -> None:
    network = of_container(container)
    assert network is not None
    assert network.gateway == GATEWAY
    assert [network.has(address) for address in (GATEWAY, NEIGHBOUR, STRANGER, "::1", "")] == [True, True] + [False] * 3
    (container / "sys/class/net/eth0/device").mkdir(parents=True)
    assert of_container(container) is None, "it uses the network of its machine"


def test_outside_of_containers_nobody_is_a_gateway(container: Path) -> None:
    (container / ".dockerenv").unlink()
    assert of_container(container) is None
    (container / "run").mkdir()
    (container / "run/.containerenv").touch()
    assert of_container(container) is not None, "podman's"
    (container / "proc/net/route").unlink()
    assert of_container(container) is None


async def test_one_compose_file_is_for_the_host_and_for_other_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(GATEWAY, of_nets("172.23.0.0/16"))
    addresses = Addresses(endpoints_of(1, "ottla-1"), network=network)
    places = {"ottla-1": "172.23.0.2", "ottla-2": NEIGHBOUR, "far": STRANGER, "gone": None}
    resolve(monkeypatch, places)
    await addresses.look_up(places)
    nodes = [broker(1, "ottla-1"), broker(2, "ottla-2"), broker(3, "gone"), broker(4, "far")]
    beside = ["localhost:9092", "localhost:9093", "localhost:9094", "far:9095"]
    assert told(addresses, "172.23.0.2", GATEWAY, *nodes) == beside
    assert told(addresses, "::ffff:172.23.0.2", f"::ffff:{GATEWAY}", *nodes) == beside
    as_registered = ["ottla-1:9092", "ottla-2:9093", "gone:9094", "far:9095"]
    assert told(addresses, "172.23.0.2", NEIGHBOUR, *nodes) == as_registered
    assert told(addresses, "172.23.0.2", STRANGER, *nodes) == as_registered


@pytest.mark.parametrize("local", ["127.0.0.1", "127.0.0.53", "::1"])
def test_over_loopback_the_nodes_of_this_machine_are_at_loopback(local: str) -> None:
    addresses = Addresses(endpoints_of(1, "here"))
    nodes = [broker(1, "here"), broker(2, "here"), broker(3, "there")]
    assert told(addresses, local, local, *nodes) == [f"{local}:9092", f"{local}:9093", "there:9094"]
    assert told(addresses, "192.0.2.1", "192.0.2.1", *nodes) == ["here:9092", "here:9093", "there:9094"]


def test_what_somebody_has_chosen_stands() -> None:
    network = Network(GATEWAY, of_nets("172.23.0.0/16"))
    addresses = Addresses(endpoints_of(1, "here"), said=["kafka"], network=network)
    for local, peer in (("127.0.0.1", "127.0.0.1"), ("172.23.0.2", GATEWAY)):
        assert told(addresses, local, peer, broker(1, "here")) == ["here:9092"]


def test_clients_are_told_the_addresses_of_the_listener_at_which_they_came_in() -> None:
    addresses = Addresses(endpoints_of(1, "in-1", OUT="out"), said=["kafka.OUT"])
    nodes = [broker(1, "in-1", OUT="out"), broker(2, "in-2", OUT="out"), broker(3, "in-3")]
    assert told(addresses, "10.0.0.1", STRANGER, *nodes) == ["in-1:9092", "in-2:9093", "in-3:9094"]
    assert told(addresses, "10.0.0.1", STRANGER, *nodes, listener="kafka.OUT") == ["out:19092", "out:19093", None]


def test_a_connection_without_addresses_is_told_what_is_registered() -> None:
    assert Addresses().reach("kafka", "", "") == Reach("kafka")


def of_nets(*texts: str) -> Any:
    import ipaddress

    return tuple(ipaddress.IPv4Network(text) for text in texts)


def resolve(monkeypatch: pytest.MonkeyPatch, places: dict[str, str | None]) -> None:
    import asyncio

    async def getaddrinfo(host: str, port: object, **_: object) -> Any:
        if places[host] is None:
            raise OSError("Name or service not known")
        return [(2, 1, 6, "", (places[host], 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

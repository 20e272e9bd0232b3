"""The proxy between nodes: bytes pass, stop where a direction is cut, and come when it heals; nobody is told."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from ottla.verify.links import HOST, Links


class Pair:
    """Node 1 has dialled node 2."""

    def __init__(self, links: Links, server: socket.socket) -> None:
        self.links = links
        self.server = server
        self.port = server.getsockname()[1]
        self.near = self.dial()
        self.far, _ = server.accept()
        assert self.near.recv(100) == b"HTTP/1.1 200 OK\r\n\r\n"
        self.far.settimeout(10)

    def dial(self) -> socket.socket:
        host, port = self.links.environment(1)["grpc_proxy"].removeprefix("http://").split(":")
        near = socket.create_connection((host, int(port)), timeout=10)
        near.sendall(f"CONNECT {HOST}:{self.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return near

    def nothing_comes(self, side: socket.socket) -> bool:
        side.settimeout(0.2)
        try:
            side.recv(1)
        except TimeoutError:
            return True
        finally:
            side.settimeout(10)
        return False


@pytest.fixture
def pair() -> Iterator[Pair]:
    with socket.create_server((HOST, 0)) as server, contextlib.ExitStack() as stack:
        server.settimeout(10)
        links = Links([1, 2], {server.getsockname()[1]: 2})
        stack.callback(links.close)
        made = Pair(links, server)
        yield made
        made.near.close()
        made.far.close()


def test_bytes_pass_both_ways(pair: Pair) -> None:
    pair.near.sendall(b"there")
    assert pair.far.recv(100) == b"there"
    pair.far.sendall(b"back")
    assert pair.near.recv(100) == b"back"


def test_a_cut_direction_holds_bytes_and_the_other_passes_them(pair: Pair) -> None:
    pair.links.cut([(1, 2)])
    pair.near.sendall(b"there")
    pair.far.sendall(b"back")
    assert pair.near.recv(100) == b"back"
    assert pair.nothing_comes(pair.far)
    pair.links.cut([])
    assert pair.far.recv(100) == b"there"


def test_nobody_is_told_of_a_cut_nor_over_it_of_an_end(pair: Pair) -> None:
    pair.links.cut([(1, 2), (2, 1)])
    pair.near.close()
    assert pair.nothing_comes(pair.far)
    pair.links.cut([])
    assert pair.far.recv(100) == b""


@pytest.mark.parametrize("direction", [(1, 2), (2, 1)])
def test_a_new_connection_waits_for_the_link(pair: Pair, direction: tuple[int, int]) -> None:
    pair.links.cut([direction])
    late = pair.dial()
    assert pair.nothing_comes(late)
    pair.links.cut([])
    assert late.recv(100) == b"HTTP/1.1 200 OK\r\n\r\n"
    late.close()


def test_a_listener_that_is_not_there_is_refused(pair: Pair) -> None:
    pair.server.close()
    assert pair.dial().recv(100).startswith(b"HTTP/1.1 502")


def test_an_end_is_passed_on(pair: Pair) -> None:
    pair.far.close()
    assert pair.near.recv(100) == b""

"""Streams end when they are told to, whatever gRPC makes of it."""

import asyncio
from types import SimpleNamespace

import grpc
import pytest
import structlog

from node.quorum.links import Links, not_here
from ottla.internal.v1 import raft_pb2 as pb
from tests.node.quorum.harness import until


class Broken(grpc.RpcError):
    """What a call that was cancelled under its reader may raise."""


@pytest.mark.parametrize("ends_with", [Broken, TimeoutError, asyncio.InvalidStateError, asyncio.CancelledError])
async def test_a_stop_ends_a_dialler_whose_cancel_grpc_turned_into_an_error(ends_with):
    links = Links(listener=None)
    running = asyncio.Event()

    async def handshake(call, node_id, address):
        running.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ends_with from None

    links._handshake_out = handshake
    links.dial(2, ("127.0.0.1:1",))
    await running.wait()
    async with asyncio.timeout(10):
        await links.stop()


async def test_a_stream_that_grpc_cancelled_is_dialled_again():
    links = Links(listener=None)
    tries = []

    async def handshake(call, node_id, address):
        tries.append(node_id)
        raise asyncio.CancelledError

    links._handshake_out = handshake
    links.dial(2, ("127.0.0.1:1",))
    await until(lambda: len(tries) >= 3)
    async with asyncio.timeout(10):
        await links.stop()


@pytest.mark.parametrize("says_where", [True, False], ids=["this build", "a build that does not say so"])
async def test_a_node_that_looks_for_the_quorum_at_another_listener_is_told(says_where):
    """As at gRPC's port, which was the quorum's in clusters of before, by nodes that do not know yet."""
    server = grpc.aio.server()
    if says_where:
        not_here(server, 2, "127.0.0.1:9293")
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    listener = SimpleNamespace(hello=lambda to: pb.RaftHello(sender=pb.RaftPeer(node_id=1), to_node_id=to))
    links = Links(listener)
    with structlog.testing.capture_logs() as said:
        links.dial(2, (f"127.0.0.1:{port}",))
        await until(lambda: said)
        await asyncio.sleep(0.7)
        await links.stop()
    await server.stop(None)
    [line] = said  # not one for each attempt
    expected = "the quorum of node 2 is at 127.0.0.1:9293" if says_where else "no quorum is at this port"
    assert (line["event"], line["node_id"], line["address"]) == ("quorum_peer_refuses", 2, f"127.0.0.1:{port}")
    assert line["reason"].startswith(expected)
    assert line["reason"].endswith("look at base.port and controller.quorum.voters of both nodes")
    assert links.connected == ()

"""Streams end when they are told to, whatever gRPC makes of it."""

import asyncio

import grpc
import pytest

from node.quorum.links import Links
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

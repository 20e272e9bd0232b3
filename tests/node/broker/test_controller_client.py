"""Calls to the controller while it moves."""

import asyncio
from typing import Any

import grpc
import pytest

from node.broker.controller_client import ControllerClient
from ottla.internal.v1 import controller_pb2 as messages
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb


async def test_a_call_under_way_to_the_former_controller_ends_as_unknown_and_cancels_nobody() -> None:
    """The sender of ISR changes shares the client with others. It was cancelled with its call, by nobody, and from then
    on no ISR led by this node changed any more."""
    asked = asyncio.Event()

    async def silent(request: bytes, context: Any) -> bytes:
        asked.set()
        await asyncio.sleep(60)
        return b""

    server = grpc.aio.server()
    handlers = {"AlterPartition": grpc.unary_unary_rpc_method_handler(silent)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("ottla.internal.v1.ControllerService", handlers),)
    )
    former = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    address = former
    client = ControllerClient(lambda: address)
    try:
        call = asyncio.create_task(client.alter_partition(messages.AlterPartitionRequest()))
        await asked.wait()
        address = "127.0.0.1:1"
        with pytest.raises(ApiError):
            await client.allocate_producer_ids(messages.AllocateProducerIdsRequest())
        with pytest.raises(ApiError) as unknown:
            await call
        assert unknown.value.code == pb.ERROR_CODE_NETWORK_EXCEPTION
        assert "another controller" in unknown.value.message
    finally:
        await client.close()
        await server.stop(None)

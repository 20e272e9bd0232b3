"""The gRPC ceiling: a leader, followers that pull, a client, all bare grpc.aio. No broker: bytes, a checksum, a file.

    python -m bench.grpc_pipeline leader PORT FOLLOWERS FILE
    python -m bench.grpc_pipeline follower PORT NUMBER FILE

A produce stream takes batches and answers with the count of acknowledged ones; a replicate stream takes a follower's
position, which acknowledges what lies before it, and answers with up to 1 MB of the log.
"""

import asyncio
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc.aio

from bench.log import Acknowledgements, Log
from bench.process import run

BytesStream: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"
NUMBER = struct.Struct("<q")
OPTIONS = [("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", 32 << 20)]


class Leader:
    def __init__(self, followers: int, path: Path) -> None:
        self._log = Log(path)
        self._acknowledgements = Acknowledgements(followers)
        self._grown = asyncio.Event()
        self._acknowledged = asyncio.Event()

    async def produce(self, _request: Any, context: Any) -> None:
        answers = asyncio.ensure_future(self._answer(context))
        try:
            while (data := await context.read()) is not grpc.aio.EOF:
                self._log.append(data)
                self._acknowledgements.appended(self._log.end)
                self._grown.set()
                self._acknowledged.set()
        finally:
            answers.cancel()

    async def _answer(self, context: Any) -> None:
        told = 0
        while True:
            await self._acknowledged.wait()
            self._acknowledged.clear()
            if (count := self._acknowledgements.count(self._log.end)) > told:
                await context.write(NUMBER.pack(count))
                told = count

    async def replicate(self, _request: Any, context: Any) -> None:
        follower = int(dict(context.invocation_metadata())["follower"])
        while (request := await context.read()) is not grpc.aio.EOF:
            (position,) = NUMBER.unpack(request)
            self._acknowledgements.reached(follower, position)
            self._acknowledged.set()
            while position == self._log.end:
                self._grown.clear()
                await self._grown.wait()
            await context.write(self._log.read(position))


async def lead(port: int, followers: int, path: Path) -> None:
    leader = Leader(followers, path)
    server = grpc.aio.server(options=OPTIONS)
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Produce": grpc.stream_stream_rpc_method_handler(leader.produce),
        "Replicate": grpc.stream_stream_rpc_method_handler(leader.replicate),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        await server.wait_for_termination()
    finally:
        await server.stop(0)


async def follow(port: int, number: int, path: Path) -> None:
    log = Log(path)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        stream: BytesStream = channel.stream_stream("/bench/Replicate")(
            metadata=(("follower", str(number)),), wait_for_ready=True
        )
        while True:
            await stream.write(NUMBER.pack(log.end))
            data = await stream.read()
            if not isinstance(data, bytes):
                return
            log.append(data)


class GrpcLink:
    """The client's end."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)
        self._stream: BytesStream = self._channel.stream_stream("/bench/Produce")(wait_for_ready=True)

    async def send(self, batch: bytes) -> None:
        await self._stream.write(batch)

    async def acknowledged(self) -> AsyncIterator[range]:
        told = 0
        while isinstance(answer := await self._stream.read(), bytes):
            (count,) = NUMBER.unpack(answer)
            yield range(told, count)
            told = count

    async def close(self) -> None:
        self._stream.cancel()
        await self._channel.close()


if __name__ == "__main__":
    role, at, which, file = sys.argv[1:]
    run((lead if role == "leader" else follow)(int(at), int(which), Path(file)))

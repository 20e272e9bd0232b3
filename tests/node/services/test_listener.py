"""What a server's limits do to one client must not do anything to another."""

import asyncio
import socket
import threading
import time
from typing import Any

import grpc

from node.services.listener import STREAMS_MAX, make_server
from tests.cluster.test_hostile import BEGIN, headers_of_a_call

ECHO = "/test.Service/Echo"


async def test_streams_of_one_connection_fail_no_call_of_another() -> None:
    """As many streams as one connection may open, while the loop is too busy to take any of them."""

    async def echo(request: bytes, _context: Any) -> bytes:
        return request

    server = make_server(2**20)
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    flooded = threading.Event()

    def call(number: int) -> bytes:
        assert flooded.wait(20)
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            answer: bytes = channel.unary_unary(ECHO)(b"%d" % number, timeout=30)
            return answer

    def flood(hostile: socket.socket) -> None:
        """Keeps the loop, which runs it, from everything else until the others' calls are there, too."""
        hostile.sendall(BEGIN + b"".join(headers_of_a_call(2 * n + 1, ECHO) for n in range(STREAMS_MAX)))
        time.sleep(0.5)
        flooded.set()
        time.sleep(0.5)

    others = [asyncio.create_task(asyncio.to_thread(call, number)) for number in range(4)]
    await asyncio.sleep(0)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as hostile:
        flood(hostile)
        assert await asyncio.gather(*others) == [b"0", b"1", b"2", b"3"]
    await server.stop(None)

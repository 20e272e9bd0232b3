"""gRPC servers of a node: their options, and how servicers are bound to the contract's methods.

The hot methods are served by generic handlers, so that batches arrive as bytes (`proto/ottla/internal/v1/view.proto`)
and fetch answers leave as bytes; reflection and clients see the typed contract.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError

from node import limits
from node.api.in_flight import COUNTED_BYTES, InFlight
from node.hooks import Hooks
from node.metrics import Metrics
from node.principal import CLIENT_ID, Principal, calls_itself, identified
from node.services import accept, faults, receive
from node.services.held import holding_back
from node.services.measure import limits_of, measured
from node.services.sessions import Sessions
from node.transport import PLAIN, Transport
from node.turns import Turns, for_client, in_turn
from ottla.internal.v1.view_pb2 import ProduceRequestView
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

CLUSTER_ID_KEY: Final = "ottla-cluster-id"
"""A client that names its cluster in a call's metadata is refused by every other one."""
UNLIMITED: Final = 2**31 - 2
"""The most that gRPC takes: one more and it aborts the process."""
HANDSHAKE_MS: Final = 5000
SEND_MAX_BYTES: Final = 64 * limits.MIB
PENDING_MAX: Final = 4 * limits.NODE_STREAMS_MAX
"""Calls that wait for our loop to take them. Above 1 000 gRPC cancels new ones at random, whoever they are from: the
streams of one connection, opened while the loop is busy, would fail the calls of everybody else."""

LARGE: Final = frozenset({"Produce"})
"""Calls whose requests may be so large that many at a time, taken as fast as they come, would fill the memory: forty of
31 MB took 1.5 times as much as they do one by one."""
COUNTS_ITSELF: Final = "Fetch"
"""Its answers are bytes of batches, which are counted where they are read."""

HELD_BACK: Final = frozenset({"Produce", "Send", "ExportBatches", "ImportBatches"})
"""Calls whose answers wait where a quota is used up."""

PARSED_LATER: Final = frozenset({"ProduceStream", "FetchStream"})
"""Streams whose handlers get what parses a message, for they do it when it is their client's turn."""

Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]


PARSED_AS: Final = dict.fromkeys(("Produce", "ProduceStream"), ProduceRequestView.DESCRIPTOR)
"""Whose records are bytes to the parser: they are counted where they are checked, in the one walk over them."""


def passes(data: bytes) -> bytes:
    """Serializer for messages that are bytes already."""
    return data


def make_server(
    request_max_bytes: int,
    hooks: Hooks | None = None,
    *,
    streams_max: int = limits.NODE_STREAMS_MAX,
    connections_max: int = UNLIMITED,
) -> grpc.aio.Server:
    """A server with this project's limits. Far above `request_max_bytes` gRPC itself answers RESOURCE_EXHAUSTED; below
    that a request that is too large gets words of ours. `streams_max`: calls under way on one connection.
    `connections_max`: more are closed at once, and those that say nothing after a while."""
    return accept.server(
        [hooks.interceptor] if hooks else None,
        [
            ("grpc.max_receive_message_length", limits.TRANSPORT_SLACK * request_max_bytes),
            ("grpc.max_send_message_length", SEND_MAX_BYTES),
            ("grpc.max_concurrent_streams", streams_max),
            ("grpc.max_allowed_incoming_connections", min(connections_max, UNLIMITED)),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
            ("grpc.server.max_pending_requests", PENDING_MAX),
            ("grpc.server.max_pending_requests_hard_limit", PENDING_MAX),
            # Two nodes on one port must not share it silently.
            ("grpc.so_reuseport", 0),
            # Idle streams are pinged by clients and by us; grpc's defaults would end those connections.
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
            ("grpc.http2.max_ping_strikes", 0),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 3000),
            ("grpc.http2.ping_timeout_ms", 3000),
            ("grpc.http2.max_pings_without_data", 0),
        ],
        one_by_one=LARGE,
    )


def listen(
    server: grpc.aio.Server, address: str, name: str, transport: Transport = PLAIN, *, certified: bool = True
) -> None:
    """Binds a listener. `certified`: its clients show a certificate where there are any. Raises OSError that names it
    where the address cannot be had."""
    try:
        port = transport.add_port(server, address, certified=certified)
    except RuntimeError:
        port = 0
    if port == 0:
        raise OSError(f"the {name} listener cannot have {address}: is the port taken by another process?")


def add_service(
    server: grpc.aio.Server,
    service: ServiceDescriptor,
    handlers: Mapping[str, Callable[..., Awaitable[Any]]],
    metrics: Metrics,
    *,
    records_max_bytes: int = 32 * limits.MIB,
    slack: int = 1,
    check_cluster: Callable[[str], None] | None = None,
    turns: Turns | None = None,
    forwarded: bool = False,
    identify: Callable[[faults.Context], Principal] | None = None,
    sessions: Sessions | None = None,
    receiver: receive.Receiver | None = None,
    in_flight: InFlight | None = None,
    requests: Mapping[str, Deserializer] | None = None,
    responses: Mapping[str, Serializer] | None = None,
) -> None:
    """Binds a handler to each method it is given for. `requests` and `responses` replace the contract's own codecs;
    requests above the limits of their kind are refused before they are parsed. `slack`: a call that was passed on may
    be a few bytes larger than it was at the door. `check_cluster` raises ApiError for a call of another cluster.
    `identify` says whose a call is, and raises ApiError where that is nobody who may call here; `sessions` lets in
    users alone. Without them nobody knows. With `turns` clients take them; `forwarded`: calls are of nodes, which say
    for whom. `receiver` asks for unary requests, of all services of a listener; without one each method has its own, so
    that no heartbeat waits behind another kind of request. `in_flight` counts unary answers until they have left."""
    table: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in service.methods:
        handler = handlers.get(method.name)
        if handler is None:
            raise ValueError(f"{service.full_name}.{method.name} has no handler")
        parse = (requests or {}).get(method.name) or _class_of(method.input_type).FromString
        allowed = limits_of(method, records_max_bytes)
        allowed = replace(allowed, max_bytes=slack * allowed.max_bytes)
        deserialize = measured(parse, PARSED_AS.get(method.name, method.input_type), method.name, allowed)
        if method.name in PARSED_LATER:
            deserialize = partial(partial, deserialize)
        if method.client_streaming:
            handler = in_turn(handler)
        else:
            handler = _received(
                _parsed(handler, deserialize, method.input_type.full_name), receiver or receive.Receiver()
            )
            if method.name in HELD_BACK:
                handler = holding_back(handler)
        if check_cluster is not None:
            handler = _checked(handler, partial(_look_at_metadata, check_cluster))
        if turns is not None:
            handler = for_client(handler, turns, forwarded=forwarded)
        if sessions is not None:
            handler = sessions.guarded(handler, method)
        elif identify is not None:
            handler = identified(handler, identify)
        metrics.served(method.name)
        serialize = (responses or {}).get(method.name) or _class_of(method.output_type).SerializeToString
        if in_flight is not None and not method.server_streaming and method.name != COUNTS_ITSELF:
            handler, serialize = _counted(handler, serialize, in_flight), passes
        table[method.name] = _bind(method, handler, metrics, deserialize, serialize)
    server.add_registered_method_handlers(service.full_name, table)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, table),))


def _bind(
    method: MethodDescriptor,
    handler: Callable[..., Awaitable[Any]],
    metrics: Metrics,
    deserialize: Deserializer,
    serialize: Serializer,
) -> "grpc.RpcMethodHandler[Any, Any]":
    """Who streams its requests, to gRPC, are all clients: so it is us who ask for them (see `receive`)."""
    if not method.client_streaming and not method.server_streaming:
        return grpc.stream_unary_rpc_method_handler(
            faults.unary(method.name, metrics, handler), response_serializer=serialize
        )
    return grpc.stream_stream_rpc_method_handler(
        faults.stream(method.name, metrics, handler),
        request_deserializer=deserialize if method.client_streaming else None,
        response_serializer=serialize,
    )


def _counted(
    handler: Callable[..., Awaitable[Any]], serialize: Serializer, in_flight: InFlight
) -> Callable[..., Awaitable[bytes]]:
    """A client may take its time to read an answer, which is here until then."""

    async def call(context: faults.Context) -> bytes:
        data = serialize(await handler(context))
        if (size := len(data)) >= COUNTED_BYTES:
            in_flight.take(size)
            done: Any = lambda _: in_flight.give(size)  # noqa: E731 (gRPC's stubs ask for another shape)
            context.add_done_callback(done)
        return data

    return call


def _checked(
    handler: Callable[..., Awaitable[Any]], check: Callable[[faults.Context], object]
) -> Callable[..., Awaitable[Any]]:
    """`check` raises ApiError before anything of a call is read."""

    def call(*arguments: Any) -> Awaitable[Any]:
        check(arguments[-1])
        return handler(*arguments)

    return call


def _look_at_metadata(check_cluster: Callable[[str], None], context: faults.Context) -> None:
    """Which cluster a call is meant for, and what its client calls itself."""
    for key, value in context.invocation_metadata() or ():
        if key == CLUSTER_ID_KEY:
            check_cluster(str(value))
        elif key == CLIENT_ID:
            calls_itself(str(value))


def _received(handler: Callable[..., Awaitable[Any]], receiver: receive.Receiver) -> Callable[..., Awaitable[Any]]:
    async def call(context: faults.Context) -> Any:
        return await handler(await receiver.request(context), context)

    return call


def _parsed(
    handler: Callable[..., Awaitable[Any]], deserialize: Deserializer, name: str
) -> Callable[..., Awaitable[Any]]:
    """Parsing is a part of the handler: what it refuses gets words of ours. gRPC
    answers an exception of a deserializer with INTERNAL or UNKNOWN, and logs a stack trace: anybody could fill our log.
    """

    def call(data: bytes, context: faults.Context) -> Awaitable[Any]:
        try:
            request = deserialize(data)
        except DecodeError:
            raise ApiError(
                pb.ERROR_CODE_INVALID_REQUEST, f"the {len(data)} bytes of the request are no {name}"
            ) from None
        return handler(request, context)

    return call


def _class_of(descriptor: Any) -> Any:
    return message_factory.GetMessageClass(descriptor)

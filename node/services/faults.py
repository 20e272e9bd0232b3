"""How a whole call fails: a gRPC status with `google.rpc` details, never a stack trace."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NoReturn, TypeVar

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc._cython import cygrpc
from grpc_status import rpc_status

from node.fail_stop import stop_if_broken
from node.metrics import Metrics
from ottla.protocol.errors import RULES, ApiError
from ottla.v1 import error_pb2 as pb

log = structlog.get_logger(__name__)

DOMAIN: Final = "ottla"
RETRY_MS: Final = 20
"""When to come back where the refusal does not say."""
OVER: Final = (grpc.aio.InternalError, getattr(cygrpc, "_ServerStoppedError", grpc.aio.InternalError))
"""What gRPC raises where a call is over before its task has been cancelled: its client is gone, or the server stops."""
Context = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response")


async def abort(context: Context, error: ApiError) -> NoReturn:
    """Ends the call with the status of the error's code, and its facts as ErrorInfo and RetryInfo."""
    proto = error.to_proto()
    rule = RULES.get(error.code)
    code = grpc.StatusCode[rule.grpc_status] if rule is not None else grpc.StatusCode.UNKNOWN
    facts = {"code": str(error.code), "retriable": str(error.retriable).lower()}
    if error.leader is not None:
        facts["leader"] = str(error.leader)
    if error.epoch is not None:
        facts["epoch"] = str(error.epoch)
    if error.address:
        facts["address"] = error.address
    details = [_packed(error_details_pb2.ErrorInfo(reason=error.name, domain=DOMAIN, metadata=facts))]
    if error.retriable:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(error.retry_after_ms or RETRY_MS)
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    status = status_pb2.Status(code=code.value[0], message=f"{error.name}: {proto.message}", details=details)
    await context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort does not return")


def refusal_in(error: grpc.aio.AioRpcError) -> ApiError | None:
    """What `abort` made a status of, at another node; None where the status is gRPC's own."""
    status = rpc_status.from_call(error)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details if status is not None else ():
        detail.Unpack(info)
        detail.Unpack(retry)
    if info.domain != DOMAIN:
        return None
    code = int(info.metadata["code"])
    return ApiError(
        code,
        (error.details() or "").removeprefix(f"{info.reason}: "),
        retry_after_ms=retry.retry_delay.ToMilliseconds(),
        retriable_override=info.metadata["retriable"] == "true",
    )


def unexpected(where: str, error: Exception) -> ApiError:
    """A bug of ours, as a client may see it: the details go to the node's log. A broken invariant ends the node."""
    stop_if_broken(error)
    log.error("request_failed", rpc=where, exc_info=error)
    return ApiError(pb.ERROR_CODE_UNKNOWN_SERVER_ERROR, f"{where} failed with {type(error).__name__}")


def unary(
    name: str, metrics: Metrics, handler: Callable[[Context], Awaitable[Response]]
) -> Callable[[AsyncIterator[Any], Context], Awaitable[Response]]:
    """Wraps a handler that reads its request through its context: counts and times it, and turns what it raises into a
    status."""
    latency = metrics.request_seconds.labels(rpc=name)
    requests = metrics.requests.labels(rpc=name)

    @functools.wraps(handler)
    async def call(_requests: AsyncIterator[Any], context: Context) -> Response:
        started = time.perf_counter()
        requests.inc()
        try:
            return await handler(context)
        except ApiError as error:
            metrics.refused(name, error.code)
            refused = _bare(error)
        except (grpc.aio.AbortError, asyncio.CancelledError):
            raise
        except OVER:
            # The request could not be taken: gRPC refused it, or that its client is gone has not reached us yet.
            raise asyncio.CancelledError from None
        except Exception as error:
            metrics.refused(name, pb.ERROR_CODE_UNKNOWN_SERVER_ERROR)
            refused = unexpected(name, error)
        finally:
            latency.observe(time.perf_counter() - started)
        return await abort(context, refused)

    return call


def stream(
    name: str, metrics: Metrics, handler: Callable[[Context], Awaitable[None]]
) -> Callable[[AsyncIterator[Any], Context], Awaitable[None]]:
    """Wraps a handler that reads and writes through its context."""

    open_streams = metrics.open_streams.labels(rpc=name)

    async def call(_requests: AsyncIterator[Any], context: Context) -> None:
        open_streams.inc()
        try:
            await handler(context)
            return
        except DecodeError:
            metrics.refused(name, pb.ERROR_CODE_INVALID_REQUEST)
            refused = ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"a message of the {name} stream is malformed")
        except ApiError as error:
            metrics.refused(name, error.code)
            refused = _bare(error)
        except (grpc.aio.AbortError, asyncio.CancelledError):
            raise
        except OVER:
            # A message could not be handed over: the client is gone, and gRPC's cancellation has not reached us yet.
            raise asyncio.CancelledError from None
        except Exception as error:
            metrics.refused(name, pb.ERROR_CODE_UNKNOWN_SERVER_ERROR)
            refused = unexpected(name, error)
        finally:
            open_streams.dec()
        await abort(context, refused)

    return call


def _bare(error: ApiError) -> ApiError:
    """Without the frames that it came through, which hold the request: gRPC keeps what `abort` raises, and what was
    being handled then, until the collector comes by."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed

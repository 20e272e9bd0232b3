"""What the client makes of a call that failed as a whole: a node's words, gRPC's, or those of what is between."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from ottla.client.errors import refusal_in

KEY = "grpc-status-details-bin"


def failed(*trailing: tuple[str, bytes | str]) -> aio.AioRpcError:
    return aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata(*trailing), "no leader")


def details(domain: str) -> bytes:
    status = status_pb2.Status(code=14, message="another")
    facts = {"code": "5", "retriable": "true"}
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain=domain, metadata=facts))
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(70)
    status.details.add().Pack(retry)
    return status.SerializeToString()


def test_a_nodes_refusal() -> None:
    said = refusal_in(failed(("x", "y"), (KEY, details("ottla"))))
    assert said is not None
    assert (said.code, said.message, said.retriable, said.retry_after_ms) == (5, "no leader", True, 70)


@pytest.mark.parametrize(
    "trailing", [(), (("x", "y"),), ((KEY, details("another")),), ((KEY, b"\xff\xff"),), ((KEY, b""),)], ids=range(5)
)
def test_the_failure_of_something_else(trailing: tuple[tuple[str, bytes | str], ...]) -> None:
    assert refusal_in(failed(*trailing)) is None

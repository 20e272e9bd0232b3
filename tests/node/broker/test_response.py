"""Responses to followers as bytes: what is written is the contract's message, and what any node writes can be read."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from node.broker.response import read_response, result_parts
from ottla.internal.v1.replication_pb2 import ReplicaFetchResponse, ReplicaFetchResult
from ottla.v1 import error_pb2 as pb

results = st.builds(
    ReplicaFetchResult,
    topic_id=st.binary(max_size=16),
    partition=st.integers(0, 2**31 - 1),
    error=st.none() | st.builds(pb.Error, message=st.text(max_size=5)),
    batches=st.binary(max_size=400),
    high_watermark=st.integers(-1, 2**63 - 1),
    position=st.integers(0, 2**63 - 1),
)


def without_batches(result: ReplicaFetchResult) -> ReplicaFetchResult:
    copy = ReplicaFetchResult()
    copy.CopyFrom(result)
    copy.ClearField("batches")
    return copy


def written(wanted: list[ReplicaFetchResult]) -> bytes:
    return b"".join(part for each in wanted for part in result_parts(without_batches(each), each.batches))


@given(st.lists(results, max_size=4))
def test_what_is_written_is_the_contracts_message(wanted: list[ReplicaFetchResult]) -> None:
    message = written(wanted)
    assert list(ReplicaFetchResponse.FromString(message).partitions) == wanted
    found = read_response(message)
    assert found.error is None
    assert [(result, bytes(batches)) for result, batches in found.results] == [
        (without_batches(each), each.batches) for each in wanted
    ]


@given(st.lists(results, max_size=4), st.booleans())
def test_fields_in_another_order_are_read_too(wanted: list[ReplicaFetchResult], refused: bool) -> None:
    error = pb.Error(code=pb.ERROR_CODE_STALE_BROKER_EPOCH) if refused else None
    found = read_response(ReplicaFetchResponse(partitions=wanted, error=error).SerializeToString())
    assert [bytes(batches) for _, batches in found.results] == [each.batches for each in wanted]
    assert [without_batches(result) for result, _ in found.results] == [without_batches(each) for each in wanted]
    assert found.error == error


@given(st.lists(results, min_size=1, max_size=3), st.data())
def test_a_response_that_was_cut_off_is_refused_or_lacks_whole_results(
    wanted: list[ReplicaFetchResult], data: st.DataObject
) -> None:
    message = written(wanted)
    cut = data.draw(st.integers(0, len(message) - 1))
    try:
        found = read_response(message[:cut])
    except DecodeError:
        return
    assert written(wanted[: len(found.results)]) == message[:cut]


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_read_or_refused(message: bytes) -> None:
    try:
        read_response(message)
    except DecodeError:
        with pytest.raises(DecodeError):
            ReplicaFetchResponse.FromString(message)

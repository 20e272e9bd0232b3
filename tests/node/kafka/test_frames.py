"""Requests are cut out of what comes however it comes; sizes that cannot be and other protocols are told at once."""

import random
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.kafka.frames import AT_ONCE_BYTES, BIG_BYTES, BadFrame, FrameLimits, Frames, NotKafka, protocol_of

LIMITS = FrameLimits(100_000, {0: 8 << 20})


def request(size: int, key: int = 0) -> bytes:
    """A request of so many bytes, with its size before it."""
    body = struct.pack(">h", key) + random.Random(size).randbytes(size - 2)
    return struct.pack(">i", size) + body


def cut(frames: Frames, data: bytes, pieces: list[int]) -> list[bytes]:
    """What `frames` makes of `data` when it arrives in pieces of these sizes, over and over."""
    found, at, turn = [], 0, 0
    while at < len(data):
        space = frames.space()
        count = min(pieces[turn % len(pieces)], len(space), len(data) - at)
        space[:count] = data[at : at + count]
        frames.received(count)
        while (frame := frames.next()) is not None:
            found.append(bytes(frame))
        frames.keep()
        at, turn = at + count, turn + 1
    return found


SIZES = st.lists(
    st.one_of(st.integers(10, 300), st.integers(BIG_BYTES - 8, BIG_BYTES + 8), st.just(300_000)), max_size=8
)


@settings(deadline=None)
@given(SIZES, st.lists(st.integers(1, 200_000), min_size=1, max_size=5), st.integers(70_000, 262_144))
def test_requests_arrive_whole_whatever_the_pieces(sizes: list[int], pieces: list[int], scratch: int) -> None:
    data = b"".join(map(request, sizes))
    pieces = [max(each, len(data) // 500) for each in pieces]
    frames = Frames(memoryview(bytearray(scratch)), LIMITS)
    assert cut(frames, data, pieces) == [request(size)[4:] for size in sizes]
    assert frames.held_bytes == 0


@given(st.integers(1, 60), st.lists(st.integers(10, 40), min_size=1, max_size=6))
def test_a_byte_at_a_time(piece: int, sizes: list[int]) -> None:
    data = b"".join(map(request, sizes))
    frames = Frames(memoryview(bytearray(1 << 17)), LIMITS)
    assert cut(frames, data, [piece]) == [request(size)[4:] for size in sizes]


def test_connections_share_the_buffer_and_keep_what_is_theirs() -> None:
    scratch = memoryview(bytearray(1 << 17))
    data = [request(size) for size in (50, 60, 70)]
    several = [Frames(scratch, LIMITS) for _ in data]
    for start in range(0, 80, 7):
        for number, frames in enumerate(several):
            piece = data[number][start : start + 7]
            if not piece:
                continue
            frames.space()[: len(piece)] = piece
            frames.received(len(piece))
            found = frames.next()
            assert (found is not None) == (start + 7 >= len(data[number]))
            assert found is None or found == data[number][4:]
            frames.keep()
    assert [frames.held_bytes for frames in several] == [0, 0, 0]


def test_what_had_no_room_is_kept_and_comes_later() -> None:
    frames = Frames(memoryview(bytearray(1 << 17)), LIMITS)
    data = b"".join(request(size) for size in (20, 30, 40)) + request(50)[:9]
    frames.space()[: len(data)] = data
    frames.received(len(data))
    assert frames.next() == request(20)[4:]
    frames.keep()
    assert frames.next() == request(30)[4:]
    assert frames.next() == request(40)[4:]
    assert frames.next() is None
    frames.keep()
    rest = request(50)[9:]
    frames.space()[: len(rest)] = rest
    frames.received(len(rest))
    assert frames.next() == request(50)[4:]


@pytest.mark.parametrize("size", [-1, -(2**31), 0, 9])
def test_a_size_that_no_request_has(size: int) -> None:
    with pytest.raises(BadFrame, match=f"a request of {size} bytes"):
        cut(Frames(memoryview(bytearray(1 << 17)), LIMITS), struct.pack(">i", size), [4])


@pytest.mark.parametrize(("size", "key"), [(2**31 - 1, 0), ((8 << 20) + 1, 0), (100_001, 3), (2**31 - 1, 3)])
def test_a_size_above_its_limit(size: int, key: int) -> None:
    frames = Frames(memoryview(bytearray(1 << 17)), LIMITS)
    assert cut(frames, struct.pack(">i", size), [4]) == []  # whose limit holds is not known yet
    with pytest.raises(BadFrame, match=f"a request of {size} bytes with API key {key}; at most"):
        cut(frames, struct.pack(">h", key), [2])


def test_a_size_is_only_a_claim() -> None:
    """Memory grows with what comes, not with what is announced."""
    limits = FrameLimits(1 << 30)
    scratch = memoryview(bytearray(1 << 17))
    tracemalloc.start()
    try:
        frames = Frames(scratch, limits)
        cut(frames, struct.pack(">ih", 1 << 30, 0), [6])
        assert frames.held_bytes <= AT_ONCE_BYTES
        assert tracemalloc.get_traced_memory()[1] < AT_ONCE_BYTES + (1 << 20)
        cut(frames, bytes(3 << 20), [1 << 16])
        assert frames.held_bytes == (3 << 20) + 2
    finally:
        tracemalloc.stop()


def test_a_request_of_many_megabytes() -> None:
    data = request(7_654_321) + request(12)
    frames = Frames(memoryview(bytearray(1 << 18)), LIMITS)
    assert cut(frames, data, [1 << 20]) == [data[4:-16], data[-12:]]


@pytest.mark.parametrize(
    ("first", "protocol"),
    [
        (bytes.fromhex("16030100"), "TLS"),
        (bytes.fromhex("160303ff"), "TLS"),
        (b"GET ", "HTTP"),
        (b"POST", "HTTP"),
        (b"PRI ", "gRPC"),
        (struct.pack(">i", 10), None),
        (struct.pack(">i", 100 << 20), None),
    ],
)
def test_other_protocols(first: bytes, protocol: str | None) -> None:
    assert protocol_of(first) == protocol
    frames = Frames(memoryview(bytearray(1 << 17)), FrameLimits(1 << 30))
    if protocol is None:
        assert cut(frames, first, [1]) == []
    else:
        with pytest.raises(NotKafka, match=protocol):
            cut(frames, first, [1])


def test_a_later_size_that_looks_like_another_protocol_is_a_size() -> None:
    frames = Frames(memoryview(bytearray(1 << 17)), LIMITS)
    with pytest.raises(BadFrame, match="a request of 1195725856 bytes"):
        cut(frames, request(10) + b"GET /x", [20])

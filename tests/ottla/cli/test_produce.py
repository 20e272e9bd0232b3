"""How `ottla produce` cuts its input into records."""

import asyncio
import io
import os
import time

import pytest

from ottla.cli.failure import Failure
from ottla.cli.produce import LINE_BYTES_MAX, lines_of, split


async def all_lines(data: bytes) -> list[bytes]:
    return [line async for lines, _ in lines_of(io.BytesIO(data)) for line in lines]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\nb", [b"a", b"b"]),
        (b"\n\n", [b"", b""]),
        (b"\xff\x00\r\n", [b"\xff\x00\r"]),
        (b"x" * 1_000_000 + b"\ny\n", [b"x" * 1_000_000, b"y"]),
        (b"a\n" * 300_000, [b"a"] * 300_000),
    ],
)
async def test_lines_are_found_wherever_a_read_ends(data: bytes, lines: list[bytes]) -> None:
    assert await all_lines(data) == lines


async def test_a_line_is_there_before_the_input_ends() -> None:
    """Typed lines must go out as they are typed."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(writing, "wb", buffering=0) as sink:
        found = lines_of(source)
        sink.write(b"first\nsec")
        assert await asyncio.wait_for(anext(found), 5) == ([b"first"], 9)
        sink.write(b"ond\n")
        assert await asyncio.wait_for(anext(found), 5) == ([b"second"], 4)


async def test_waiting_for_input_can_be_cancelled_at_once() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(writing, "wb"):
        waiting = asyncio.ensure_future(anext(lines_of(source)))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert time.monotonic() - started < 1


async def test_an_endless_line_is_refused() -> None:
    with pytest.raises(Failure) as failed:
        await all_lines(b"x" * (LINE_BYTES_MAX + 300_000))
    assert failed.value.code == "MESSAGE_TOO_LARGE"


def test_key_and_value() -> None:
    assert split(b"k=v=w", b"=", 1) == (b"k", b"v=w")
    assert split(b"=v", b"=", 1) == (b"", b"v")
    assert split(b"k=v", None, 1) == (None, b"k=v")


def test_a_line_without_separator_is_named() -> None:
    with pytest.raises(Failure) as failed:
        split(b"no separator here", b"::", 42)
    assert failed.value.code == "INVALID_RECORD"
    assert "line 42 has no '::'" in failed.value.message
    assert "no separator here" in failed.value.message

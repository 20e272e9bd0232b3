"""How `ottla produce` cuts its input into records."""

import asyncio
import io
import os
import time

import pytest

from ottla.cli.failure import Failure
from ottla.cli.pieces import LINE_BYTES_MAX, Outgoing, Shape, pieces_of, split, whole_of


async def all_lines(data: bytes) -> list[bytes]:
    return [line async for lines, _ in pieces_of(io.BytesIO(data)) for line in lines]


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
        found = pieces_of(source)
        sink.write(b"first\nsec")
        assert await asyncio.wait_for(anext(found), 5) == ([b"first"], 9)
        sink.write(b"ond\n")
        assert await asyncio.wait_for(anext(found), 5) == ([b"second"], 4)


async def test_waiting_for_input_can_be_cancelled_at_once() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(writing, "wb"):
        waiting = asyncio.ensure_future(anext(pieces_of(source)))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert time.monotonic() - started < 5


async def test_an_endless_line_is_refused() -> None:
    with pytest.raises(Failure) as failed:
        await all_lines(b"x" * (LINE_BYTES_MAX + 300_000))
    assert failed.value.code == "MESSAGE_TOO_LARGE"


def test_key_and_value() -> None:
    assert split(b"k=v=w", b"=", 1) == (b"k", b"v=w")
    assert split(b"=v", b"=", 1) == (b"", b"v")
    assert Shape().record(b"k=v", 1) == Outgoing(None, b"k=v")


def test_what_every_record_has() -> None:
    shape = Shape(key=b"k", headers=(("h", b"1"),), partition=2)
    assert shape.record(b"v", 1) == Outgoing(b"k", b"v", (("h", b"1"),), 2)


def test_tombstones() -> None:
    shape = Shape(key_separator=b":", empty_is_null=True)
    assert [shape.record(line, 1).value for line in (b"k:", b"k:v")] == [None, b"v"]
    assert Shape(key_separator=b":").record(b"k:", 1).value == b""


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b"{}", Outgoing(None, None)),
        (b'{"key": "k", "value": "v"}', Outgoing(b"k", b"v")),
        (b'{"value": {"a": [1, "\xc5\xbe"]}}', Outgoing(None, b'{"a":[1,"\xc5\xbe"]}')),
        (b'{"key_base64": "/w==", "value": ""}', Outgoing(b"\xff", b"")),
        (b'{"headers": {"a": "1", "b": null}}', Outgoing(None, None, (("a", b"1"), ("b", None)))),
        (
            b'{"topic": "t", "offset": 5, "partition": 1, "timestamp_ms": 7, "value": null, "headers": '
            b'[{"key": "a", "value_base64": "/w=="}, {"key": "a", "value": "2"}]}',
            Outgoing(None, None, (("a", b"\xff"), ("a", b"2")), 1, 7),
        ),
    ],
)
def test_lines_of_json(line: bytes, record: Outgoing) -> None:
    assert Shape(is_json=True).record(line, 1) == record


def test_options_fill_what_a_line_of_json_lacks() -> None:
    shape = Shape(key=b"k", headers=(("h", b"1"),), partition=3, is_json=True, empty_is_null=True)
    assert shape.record(b'{"value": "", "partition": 1}', 1) == Outgoing(b"k", None, (("h", b"1"),), 3)
    assert shape.record(b'{"key": "own", "headers": {"x": "y"}}', 1).headers == (("h", b"1"), ("x", b"y"))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"vlaue": "v"}',
        b'{"key_base64": "?"}',
        b'{"headers": "h"}',
        b'{"headers": [["a", "b"]]}',
        b'{"partition": "1"}',
        b'{"timestamp_ms": 1.5}',
        b'{"value": "\\ud800"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_record_in_json_is_named(line: bytes) -> None:
    with pytest.raises(Failure) as failed:
        Shape(is_json=True).record(line, 42)
    assert failed.value.code == "INVALID_RECORD"
    assert failed.value.message.startswith("line 42: ")
    assert len(failed.value.message) < 300


async def test_other_delimiters_and_whole_files() -> None:
    assert [pieces async for pieces, _ in pieces_of(io.BytesIO(b"a\nb\0c"), b"\0")] == [[b"a\nb"], [b"c"]]
    assert [each async for each in whole_of(io.BytesIO(b"a\nb\n"))] == [([b"a\nb\n"], 4)]
    assert [each async for each in whole_of(io.BytesIO(b""))] == [([b""], 0)]


def test_a_line_without_separator_is_named() -> None:
    with pytest.raises(Failure) as failed:
        split(b"no separator here", b"::", 42)
    assert failed.value.code == "INVALID_RECORD"
    assert "line 42 has no '::'" in failed.value.message
    assert "no separator here" in failed.value.message

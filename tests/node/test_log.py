"""A log that cannot be written ends nothing and holds up nobody."""

import os
import time
from collections.abc import Iterator

import pytest

from node import log as node_log
from node.log import Lines
from node.metrics import Metrics


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    # The other end stays: a writer may still have lines for it, and the next file would get its number.
    os.close(reading)


def test_lines_arrive_in_order_whatever_is_in_them(pipe: tuple[int, int]) -> None:
    lines = Lines(pipe[1])
    for text in ("one", "zwö", "\udcff"):
        lines.info(text)
    lines.flush(5)
    assert os.read(pipe[0], 100) == "one\nzwö\n\\udcff\n".encode()
    assert lines.lost == 0


def test_a_reader_that_is_gone_costs_the_lines_only() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    lines = Lines(writing)
    for _ in range(3):
        lines.error("x")
        lines.flush(5)
    assert lines.lost == 3
    os.close(writing)


def test_a_full_disk_costs_the_lines_only() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    lines = Lines(full)
    lines.error("x")
    lines.flush(5)
    assert lines.lost == 1
    os.close(full)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_is_stuck_holds_up_nobody(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, blocking: bool
) -> None:
    monkeypatch.setattr(node_log, "WAITING_MAX", 100)
    monkeypatch.setattr(node_log, "_STUCK_MS", 50)
    os.set_blocking(pipe[1], blocking)
    lines = Lines(pipe[1])
    line = "x" * 9_999
    started = time.monotonic()
    for _ in range(200):
        lines.info(line)
    assert time.monotonic() - started < 5
    assert lines.lost >= 80
    if blocking:
        for _ in range(2):  # two lines, one at a time, so that the writer ends with the test
            assert len(os.read(pipe[0], 10_000)) == 10_000
        os.set_blocking(pipe[1], False)
    lines.flush(0.1)
    assert time.monotonic() - started < 8


def test_after_a_torn_line_the_next_one_stands_alone(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_log, "_STUCK_MS", 50)
    os.set_blocking(pipe[1], False)
    lines = Lines(pipe[1])
    lines.info("x" * 100_000)
    lines.flush(5)
    assert lines.lost == 1
    assert set(os.read(pipe[0], 200_000)) == {ord("x")}
    lines.info("next")
    lines.flush(5)
    assert os.read(pipe[0], 100) == b"\nnext\n"


def test_lost_lines_are_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    assert b"\nottla_log_lines_lost_total 0.0\n" in Metrics().render()
    reading, writing = os.pipe()
    os.close(reading)
    lines = Lines(writing)
    monkeypatch.setattr(node_log, "_lines", lines)
    lines.info("x")
    lines.flush(5)
    assert b"\nottla_log_lines_lost_total 1.0\n" in Metrics().render()
    os.close(writing)

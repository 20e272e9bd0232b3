"""Durations, sizes and moments as people write them."""

from datetime import UTC, datetime

import pytest

from ottla.cli.failure import Failure
from ottla.cli.units import config_value, duration_ms, moment_ms, shown_bytes, shown_ms, size_bytes

NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("1.5d", 129_600_000),
        ("250ms", 250),
        ("2W", 1_209_600_000),
        (" 10s ", 10_000),
        ("30", 30_000),
        ("0.5", 500),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert duration_ms(text) == expected


@pytest.mark.parametrize(
    "text", ["", "m", "5 minutes", "-5m", "5y", "1h-3m", "1e3", "\u0665m", "9" * 400 + "d", "9" * 5000]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Failure, match="is not a duration"):
        duration_ms(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10MiB", 10 * 2**20), ("10M", 10 * 2**20), ("10MB", 10_000_000), ("1.5 KiB", 1536), ("7", 7), ("7b", 7)],
)
def test_sizes(text: str, expected: int) -> None:
    assert size_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "MiB", "-1MiB", "1 XiB", "1e3", "1.5", "9" * 400 + "kb", "9" * 5000])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Failure, match="is not a size"):
        size_bytes(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("1h", NOW - 3_600_000),
        ("-15m", NOW - 900_000),
        ("1357034400123", 1_357_034_400_123),
        ("2013-01-01T10:00:00Z", 1_357_034_400_000),
        ("1969-12-31T23:59:59.998Z", 0),  # no record is older, and -2 is no time
        ("2013-01-01T12:00:00+02:00", 1_357_034_400_000),
        ("2013-01-01 10:00", int(datetime(2013, 1, 1, 10).timestamp() * 1000)),
        ("20130101", int(datetime(2013, 1, 1).timestamp() * 1000)),
    ],
)
def test_moments(text: str, expected: int) -> None:
    assert moment_ms(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "-", "12", "2013-13-01", "99999999999999999999"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(Failure, match="is no moment"):
        moment_ms(text, NOW)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("retention.ms", "7d", "604800000"),
        ("segment.bytes", "64MiB", "67108864"),
        ("retention.ms", "-1", "-1"),
        ("retention.ms", "60000", "60000"),
        ("cleanup.policy", "compact", "compact"),
        ("min.cleanable.dirty.ratio", "0.5", "0.5"),
        ("retention.ms", "soon", "soon"),
    ],
)
def test_settings(key: str, value: str, expected: str) -> None:
    assert config_value(key, value) == expected


def test_how_they_are_shown() -> None:
    assert [shown_ms(ms) for ms in (0, 350, 4_200, 200_000, 7_500_000, 604_800_000)] == [
        "0 ms",
        "350 ms",
        "4.2 s",
        "3m 20s",
        "2h 5m",
        "7d",
    ]
    assert [shown_bytes(n) for n in (0, 812, 1536, 64 * 2**20, 5 * 2**50)] == [
        "0 B",
        "812 B",
        "1.5 KiB",
        "64 MiB",
        "5120 TiB",
    ]
    assert datetime.fromtimestamp(moment_ms("2013-01-01T10:00:00Z", NOW) / 1000, UTC).hour == 10

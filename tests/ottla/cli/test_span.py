"""What the options of `ottla consume` mean, and where that is in a partition."""

from collections.abc import Mapping
from typing import Any

import pytest

from ottla import TopicPartition
from ottla.cli.failure import Failure
from ottla.cli.span import EARLIEST, LATEST, Span, ends_of, span_of, starts_of

NOW = 1_800_000_000_000
HOUR = 3_600_000


def span(**options: Any) -> Span:
    nothing: dict[str, Any] = {
        "start": None,
        "from_beginning": False,
        "until": None,
        "offsets": None,
        "last": None,
        "to_end": False,
        "follow": False,
    }
    return span_of(**{**nothing, **options}, now_ms=NOW)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Span(LATEST)),
        ({"from_beginning": True}, Span(EARLIEST)),
        ({"to_end": True}, Span(EARLIEST, end="now")),
        ({"start": "beginning", "to_end": True}, Span(EARLIEST, end="now")),
        ({"start": "end"}, Span(LATEST)),
        ({"start": "1h"}, Span(NOW - HOUR)),
        ({"start": "2h", "until": "1h"}, Span(NOW - 2 * HOUR, end="time", end_at=NOW - HOUR)),
        ({"until": "now"}, Span(EARLIEST, end="time", end_at=NOW)),
        ({"last": 5}, Span(EARLIEST, end="now", last=5)),
        ({"last": 5, "follow": True}, Span(LATEST, last=5)),
        ({"offsets": "5"}, Span(EARLIEST, 5)),
        ({"offsets": "5", "to_end": True}, Span(EARLIEST, 5, "now")),
        ({"offsets": "5:"}, Span(EARLIEST, 5, "now")),
        ({"offsets": "5:10"}, Span(EARLIEST, 5, "offset", 10)),
        ({"offsets": ":10"}, Span(EARLIEST, None, "offset", 10)),
    ],
    ids=str,
)
def test_options(options: dict[str, Any], expected: Span) -> None:
    assert span(**options) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"start": "1h", "last": 3},
        {"from_beginning": True, "offsets": "3"},
        {"until": "now", "to_end": True},
        {"until": "now", "last": 2},
        {"follow": True, "to_end": True},
        {"follow": True, "until": "now"},
        {"offsets": "5:10", "to_end": True},
        {"offsets": "5", "until": "now"},
        {"offsets": "10:5"},
        {"start": "1h", "until": "2h"},
        {"start": "tomorrow"},
    ],
    ids=str,
)
def test_contradictions(options: dict[str, Any]) -> None:
    with pytest.raises(Failure) as failed:
        span(**options)
    assert failed.value.code == "INVALID_REQUEST"
    assert failed.value.next_step


P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)
# Partition 0 has records at offsets 3 to 9, one an hour up to now; partition 1 is empty.
LOG = {P0: (3, 10), P1: (0, 0)}


async def look(wanted: Mapping[tuple[str, int], int]) -> dict[TopicPartition, int | None]:
    found: dict[TopicPartition, int | None] = {}
    for where, ms in wanted.items():
        tp = TopicPartition(*where)
        first, end = LOG[tp]
        at = {EARLIEST: first, LATEST: end}.get(ms, end - 1 - (NOW - ms) // HOUR)
        found[tp] = at if ms < 0 else max(first, at) if at < end else None
    return found


@pytest.mark.parametrize(
    ("wanted", "starts", "ends"),
    [
        (Span(EARLIEST, end="now"), (3, 0), (10, 0)),
        (Span(NOW - 2 * HOUR, end="time", end_at=NOW - HOUR), (7, 0), (8, 0)),
        (Span(NOW + HOUR, end="time", end_at=NOW + 2 * HOUR), (10, 0), (10, 0)),
        (Span(EARLIEST, 5, "offset", 8), (5, 5), (8, 0)),
        (Span(EARLIEST, None, "offset", 800), (3, 0), (10, 0)),
        (Span(LATEST), (10, 0), (10, 0)),
    ],
    ids=str,
)
async def test_places(wanted: Span, starts: tuple[int, int], ends: tuple[int, int]) -> None:
    assert await starts_of(wanted, [P0, P1], look) == dict(zip((P0, P1), starts, strict=True))
    assert await ends_of(wanted, [P0, P1], look) == dict(zip((P0, P1), ends, strict=True))

"""Which records of a partition are wanted: where to start, and where to leave."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from ottla.cli.failure import Failure
from ottla.cli.units import moment_ms

if TYPE_CHECKING:
    from ottla import TopicPartition

EARLIEST: Final = -2
LATEST: Final = -1
Places = dict["TopicPartition", int]
Look = Callable[[Mapping[tuple[str, int], int]], Awaitable[Mapping["TopicPartition", int | None]]]
"""Times (or EARLIEST, LATEST) to offsets, as `Admin.list_offsets` has it."""


@dataclass(frozen=True, slots=True)
class Span:
    """The start is an offset where there is one, else a time; the end is exclusive, and never beyond the end that a
    partition has now. `end` None: there is none, so one waits for more."""

    start_ms: int = LATEST
    start_offset: int | None = None
    end: Literal["now", "time", "offset"] | None = None
    end_at: int = 0
    last: int | None = None


def span_of(
    *,
    start: str | None,
    from_beginning: bool,
    until: str | None,
    offsets: str | None,
    last: int | None,
    to_end: bool,
    follow: bool,
    now_ms: int,
) -> Span:
    """What the options of `ottla consume` ask for. Raises Failure where they contradict each other."""
    starts = [
        name
        for name, given in (
            ("--from", start is not None),
            ("--from-beginning", from_beginning),
            ("--offset", offsets is not None),
            ("--last", last is not None),
        )
        if given
    ]
    if len(starts) > 1:
        raise Failure("INVALID_REQUEST", f"{' and '.join(starts)} both say where to start", "leave one of them out")
    if until is not None and (to_end or last is not None):
        other = "--to-end" if to_end else "--last"
        raise Failure("INVALID_REQUEST", f"--until and {other} both say where to leave", "leave one of them out")
    if follow and (to_end or until is not None):
        raise Failure("INVALID_REQUEST", "--follow never leaves", "leave --follow out, or --to-end and --until")
    if offsets is not None:
        return _range(offsets, to_end, follow, until is not None)
    end: Literal["now", "time"] | None = "now" if to_end or (last is not None and not follow) else None
    end_at = 0
    if until is not None:
        end, end_at = "time", moment_ms(until, now_ms)
    # Who names the end alone wants what is there: what comes from now on has none yet.
    start_ms = EARLIEST if from_beginning or (start is None and end is not None) else LATEST
    if start is not None:
        start_ms = {"beginning": EARLIEST, "end": LATEST}.get(start.strip().lower()) or moment_ms(start, now_ms)
    if end == "time" and start_ms > end_at:
        raise Failure("INVALID_REQUEST", f"--until {until} is before --from {start}", "turn them around")
    return Span(start_ms, None, end, end_at, last)


def _range(text: str, to_end: bool, follow: bool, until: bool) -> Span:
    """`5` (from there on), `5:10` (5 to 9), `:10`, `5:`."""
    first, colon, end = text.partition(":")
    if end and (to_end or follow or until):
        raise Failure("INVALID_REQUEST", f"--offset {text} says where to leave", "leave the other end out")
    if until:
        raise Failure("INVALID_REQUEST", "--until is a time, --offset a place", "start with --from, too")
    if first and end and int(first) > int(end):
        raise Failure("INVALID_REQUEST", f"--offset {text} ends before it starts", "turn it around")
    start = int(first) if first else None
    if end:
        return Span(EARLIEST, start, "offset", int(end))
    return Span(EARLIEST, start, "now" if to_end or colon else None)


async def starts_of(span: Span, where: Iterable["TopicPartition"], look: Look) -> Places:
    """The first wanted offset of each partition."""
    places = list(where)
    if span.start_offset is not None:
        return dict.fromkeys(places, span.start_offset)
    found = await look(dict.fromkeys(places, span.start_ms))
    starts = {tp: offset for tp, offset in found.items() if offset is not None}
    if nothing_newer := [tp for tp in places if tp not in starts]:
        ends = await look(dict.fromkeys(nothing_newer, LATEST))
        starts.update((tp, offset) for tp, offset in ends.items() if offset is not None)
    return starts


async def ends_of(span: Span, where: Iterable["TopicPartition"], look: Look) -> Places:
    """The first offset of each partition that is not wanted any more."""
    places = list(where)
    latest = {tp: offset for tp, offset in (await look(dict.fromkeys(places, LATEST))).items() if offset is not None}
    if span.end == "offset":
        return {tp: min(offset, span.end_at) for tp, offset in latest.items()}
    if span.end == "time":
        found = await look(dict.fromkeys(places, span.end_at))
        return latest | {tp: offset for tp, offset in found.items() if offset is not None}
    return latest

"""`ottla consume`: records to standard output, a line each."""

import re
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import click

from ottla.cli import complete, streams, typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json

if TYPE_CHECKING:
    from ottla.cli.span import Span

DEFAULT_FORMAT: Final = "{value}"
_RANGE: Final = re.compile(r"\d+|\d*:\d+|\d+:", re.ASCII)


def _range(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    if text is not None and not _RANGE.fullmatch(text):
        raise click.BadParameter("write it like 5, 5:10 (5 to 9), :10 or 5: (to the end)")
    return text


def consume(
    topics: Annotated[list[str], typed.Argument(metavar="TOPIC...", shell_complete=complete.topics)],
    regex: Annotated[
        bool, typed.Option("--regex", "-r", help="TOPIC is a pattern that whole names must match; new ones join.")
    ] = False,
    start: Annotated[
        str | None,
        typed.Option(
            "--from", metavar="WHEN", help="beginning, end, or a time: 2026-11-30T10:15, 15m (ago), ms since 1970."
        ),
    ] = None,
    from_beginning: Annotated[
        bool, typed.Option("--from-beginning", help="As --from beginning; in a group, where it has no position.")
    ] = False,
    last: Annotated[
        int | None, typed.Option("--last", help="The newest N over all partitions.", metavar="N", min=1)
    ] = None,
    partitions: Annotated[
        list[int] | None, typed.Option("--partition", "-p", help="Only this one; may be repeated.", min=0)
    ] = None,
    offset: Annotated[
        str | None,
        typed.Option(
            "--offset",
            "-o",
            help="Of one partition: 5 on, 5:10 (5 to 9), :10, 5: to the end.",
            metavar="RANGE",
            callback=_range,
        ),
    ] = None,
    until: Annotated[
        str | None, typed.Option("--until", help="Leave before the first record of this time or later.", metavar="WHEN")
    ] = None,
    to_end: Annotated[
        bool, typed.Option("--to-end", "-e", help="Leave at the end that there is now; starts at the beginning.")
    ] = False,
    follow: Annotated[bool, typed.Option("--follow", help="Go on with what comes, after --last, too.")] = False,
    max_messages: Annotated[
        int | None, typed.Option("--max-messages", "-n", help="Leave after so many.", metavar="N", min=1)
    ] = None,
    group: Annotated[
        str | None,
        typed.Option(
            "--group",
            "-g",
            help="Share the partitions with the group's other members, and go on where the group stopped.",
            metavar="GROUP",
            shell_complete=complete.groups,
        ),
    ] = None,
    template: Annotated[
        str,
        typed.Option("--format", "-f", help="What to print of a record; see below.", metavar="TEXT"),
    ] = DEFAULT_FORMAT,
    delimiter: Annotated[
        str, typed.Option("--delimiter", "-d", help="What stands behind each record.", metavar="TEXT")
    ] = "\\n",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Print records: all, some, or as they come.

    Without a word about where to start, what comes from now on is printed; without one about where to leave, it goes on
    until Ctrl-C. --json prints an object a line, which `ottla produce --input json` takes.

    \b
    --format has {value} {key} {headers} {topic} {partition} {offset} {time}
    {timestamp_ms}, \\t \\n \\0 \\xNN, and of {value}, {key} and {header:NAME}:
      {value:hex} {value:base64} {value:json} {value:size}
      {value:.user.tags[0]}    a place in a JSON value, as in jq
      {time:%H:%M:%S}          as in strftime, UTC

    \b
    Examples:
      ottla consume hello --to-end
      ottla consume hello --from 15m --until now --format '{time} {key}={value}'
      ottla consume hello --last 10 --follow
      ottla consume hello --partition 2 --offset 100:110 --json
      ottla consume --regex 'orders-.*' --group billing
    """
    from ottla.cli.connect import run
    from ottla.cli.format import json_line, line_maker
    from ottla.cli.reading import Wish, read
    from ottla.cli.span import span_of

    if "stdout" in streams.closed:
        raise Failure("INVALID_REQUEST", "standard output is closed", "give the records somewhere to go: > FILE")
    if offset is not None and (len(partitions or ()) != 1 or len(topics) != 1 or regex or from_beginning):
        raise Failure(
            "INVALID_REQUEST",
            "--offset is a place in one partition",
            "name one --partition of one topic too, and leave --from-beginning out",
        )
    span = span_of(
        start=start,
        from_beginning=from_beginning,
        until=until,
        offsets=offset,
        last=last,
        to_end=to_end,
        follow=follow,
        now_ms=time.time_ns() // 1_000_000,
    )
    if group is not None:
        _check_group(span, partitions)
    for_terminal = sys.stdout.isatty()
    line_of = (
        partial(json_line, for_terminal=for_terminal)
        if as_json
        else line_maker(template, delimiter=delimiter, for_terminal=for_terminal)
    )
    wish = Wish(tuple(dict.fromkeys(topics)), regex, tuple(partitions or ()), span, group, max_messages)
    run(read(bootstrap, wish, line_of))


def _check_group(span: "Span", partitions: list[int] | None) -> None:
    if partitions:
        raise Failure("INVALID_REQUEST", "a group shares the partitions out itself", "leave --partition or --group out")
    if span.last is not None or span.end == "time":
        raise Failure(
            "INVALID_REQUEST",
            "a group goes on where it stopped: --last and --until have no meaning there",
            "leave --group out, or move it with `ottla group reset`",
        )

"""`ottla consume`: records to standard output, a line each."""

import errno
import os
import select
import stat
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ottla.cli import streams
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json

if TYPE_CHECKING:
    from ottla import Client
    from ottla.cli.format import Shown

DEFAULT_FORMAT: Final = "{value}"
_AT_ONCE: Final = 500


def consume(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", show_default=False)],
    from_beginning: Annotated[
        bool,
        typer.Option(
            "--from-beginning", help="Else only what comes from now on; in a group, where it has no position."
        ),
    ] = False,
    partition: Annotated[int | None, typer.Option("--partition", help="Only this partition; else all.", min=0)] = None,
    offset: Annotated[
        int | None, typer.Option("--offset", help="Start here; needs --partition.", metavar="N", min=0)
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            help="Share the partitions with the group's other members, and go on where the group stopped.",
            metavar="GROUP",
        ),
    ] = None,
    max_messages: Annotated[
        int | None, typer.Option("--max-messages", help="Stop after so many; else at Ctrl-C.", metavar="N", min=1)
    ] = None,
    template: Annotated[
        str,
        typer.Option(
            "--format",
            help="A line from {value} {key} {offset} {partition} {time} {timestamp_ms} {headers} {topic}; "
            "--json gives all of it.",
            metavar="TEXT",
        ),
    ] = DEFAULT_FORMAT,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Print records as they come, values alone by default."""
    from ottla.cli.connect import run
    from ottla.cli.format import json_line, line_maker

    if "stdout" in streams.closed:
        raise Failure("INVALID_REQUEST", "standard output is closed", "give the records somewhere to go: > FILE")
    if offset is not None and (partition is None or from_beginning):
        raise Failure(
            "INVALID_REQUEST",
            "--offset is a place in one partition",
            "name --partition too, and leave --from-beginning out",
        )
    if group is not None and partition is not None:
        raise Failure("INVALID_REQUEST", "a group shares the partitions out itself", "leave --partition or --group out")
    for_terminal = sys.stdout.isatty()
    line_of = (
        partial(json_line, for_terminal=for_terminal) if as_json else line_maker(template, for_terminal=for_terminal)
    )
    run(_consume(bootstrap, topic, group, from_beginning, partition, offset, max_messages, line_of))


async def _consume(
    bootstrap: str,
    topic: str,
    group: str | None,
    from_beginning: bool,
    partition: int | None,
    offset: int | None,
    max_messages: int | None,
    line_of: "Callable[[Shown], bytes]",
) -> None:
    from ottla import Consumer
    from ottla.cli.connect import Contact, connection

    out = sys.stdout.buffer
    left = max_messages
    topics = [topic] if partition is None else []
    start = "none" if offset is not None else "earliest" if from_beginning else "latest"
    async with connection(bootstrap) as client:
        contact = Contact(client)
        if group is not None:
            await _say_if_unknown(client, topic)
        async with Consumer(
            *topics, group=group, bootstrap=client, auto_offset_reset=start, client_id="ottla-cli"
        ) as consumer:
            if partition is not None:
                await consumer.assign([(topic, partition)])
            if partition is not None and offset is not None:
                consumer.seek(topic, partition, offset)
            while left is None or left > 0:
                records = await consumer.poll(max_records=_AT_ONCE if left is None else min(left, _AT_ONCE))
                if not records:
                    await contact.look()
                out.write(b"".join(map(line_of, records)))
                out.flush()
                if left is not None:
                    left -= len(records)
                if _reader_is_gone():
                    raise BrokenPipeError(errno.EPIPE, "nobody reads the output any more")


async def _say_if_unknown(client: "Client", topic: str) -> None:
    """A group may name a topic before there is one; more often it is a typing error."""
    from ottla import UnknownTopic
    from ottla.cli.output import tell

    try:
        await client.topic(topic)
    except UnknownTopic:
        tell(f"There is no topic {topic}: waiting until there is one, Ctrl-C ends.")


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe that nobody reads: without a next record no write would ever tell."""
    if sys.platform != "linux" or not stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        return False
    pipe = select.poll()
    pipe.register(sys.stdout, 0)
    return any(events & select.POLLERR for _, events in pipe.poll(0))

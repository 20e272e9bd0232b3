"""`ottla produce`: a record a line, from a file or standard input."""

import select
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer

from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json

if TYPE_CHECKING:
    from ottla import Delivery

_READ_BYTES: Final = 256 * 1024
# No node takes a message of this size; without a bound a file without newlines would fill the memory.
LINE_BYTES_MAX: Final = 32 * 1024 * 1024


def produce(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", show_default=False)],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Else standard input.", show_default=False)
    ] = None,
    key_separator: Annotated[
        str | None, typer.Option("--key-separator", help="What stands between key and value, \\t a tab; else no keys.")
    ] = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Append a record for each line, and wait until all in-sync replicas have them."""
    from ottla.cli.connect import run
    from ottla.cli.output import print_json, tell

    separator = None if key_separator is None else key_separator.replace("\\t", "\t").encode()
    if separator == b"":
        raise Failure("INVALID_REQUEST", "--key-separator is empty", "name at least one character")
    if file is None:
        with open(0, "rb", buffering=0, closefd=False) as source:
            records = run(_produce(bootstrap, topic, source, None, separator))
    else:
        with file.open("rb", buffering=0) as source:
            records = run(_produce(bootstrap, topic, source, file.stat().st_size, separator))
    if as_json:
        print_json({"topic": topic, "records": records})
    else:
        tell(f"{records} {'record' if records == 1 else 'records'} acknowledged.")


async def _produce(
    bootstrap: str, topic: str, source: IO[bytes], size_bytes: int | None, separator: bytes | None
) -> int:
    """Sends every line; returns how many records were acknowledged, which is all of them."""
    from ottla import Producer
    from ottla.cli.connect import connection
    from ottla.cli.output import tell
    from ottla.cli.progress import Progress

    deliveries: deque[Delivery] = deque()
    sent = acknowledged = 0
    interactive = source.isatty()
    try:
        async with connection(bootstrap) as client, Producer(client) as producer:
            with Progress("sent", size_bytes, hidden=interactive) as progress:
                async for lines, read_bytes in lines_of(source):
                    for line in lines:
                        key, value = split(line, separator, sent + 1)
                        deliveries.append(await producer.send(topic, value, key=key))
                        sent += 1
                    while deliveries and deliveries[0].done():
                        await deliveries.popleft()
                        acknowledged += 1
                    progress.advance(read_bytes)
                await producer.flush()
        return sent
    except BaseException:
        acknowledged += sum([await _is_acknowledged(delivery) for delivery in deliveries])
        if sent:
            tell(f"{acknowledged} of {sent} records were acknowledged before it ended.")
        raise


async def _is_acknowledged(delivery: "Delivery") -> bool:
    from ottla.client.errors import OttlaError

    try:
        return delivery.done() and (await delivery).offset >= 0
    except OttlaError:
        return False


def split(line: bytes, separator: bytes | None, number: int) -> tuple[bytes | None, bytes]:
    """Key and value of a line. Raises Failure with the line's number, from 1, where the separator is missing."""
    if separator is None:
        return None, line
    key, found, value = line.partition(separator)
    if not found:
        shown = line[:60].decode(errors="replace")
        raise Failure(
            "INVALID_RECORD",
            f"line {number} has no {separator.decode()!r} between key and value: {shown!r}",
            "correct the line, or leave --key-separator out; the lines before it were sent",
        )
    return key, value


async def lines_of(source: IO[bytes]) -> AsyncIterator[tuple[list[bytes], int]]:
    """Whole lines as they come, without their newlines, and how many bytes they took."""
    rest = b""
    while chunk := await _read(source):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise Failure(
                "MESSAGE_TOO_LARGE",
                f"a line has more than {LINE_BYTES_MAX} bytes",
                "check that this is text with a record a line; the lines before it were sent",
            )
        yield lines, len(chunk)
    if rest:
        yield [rest], 0


async def _read(source: IO[bytes]) -> bytes:
    """What is there, at least a byte; empty at the end. In a daemon thread: Ctrl-C must not wait for a next line.
    `source` has no buffer: Python aborts where its end finds a thread that holds the lock of one."""
    import asyncio
    import threading

    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    def settle(data: bytes, error: BaseException | None) -> None:
        if answer.cancelled():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(data)

    def read() -> None:
        data, error = b"", None
        try:
            # None: somebody has made the descriptor a non-blocking one, and nothing is there.
            while (data := source.read(_READ_BYTES)) is None:
                select.select([source], [], [])
        except OSError as failed:
            error = failed
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, data, error)

    threading.Thread(target=read, daemon=True).start()
    return await answer

"""`ottla produce`: records from lines, files or JSON."""

import contextlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final, Literal

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json, Topic

if TYPE_CHECKING:
    from ottla import Delivery
    from ottla.cli.pieces import Shape

Codec = Literal["none", "gzip", "snappy", "lz4", "zstd"]
# The topic's max.message.bytes decides what is too large, not a limit of the client.
_REQUEST_BYTES_MAX: Final = 31 * 1024 * 1024


def produce(
    topic: Topic,
    files: Annotated[list[Path] | None, typed.Argument(metavar="[FILE]...", help="Else standard input.")] = None,
    key: Annotated[str | None, typed.Option("--key", "-k", help="The key of every record.")] = None,
    key_separator: Annotated[
        str | None, typed.Option("--key-separator", help="What stands between key and value, \\t a tab; else no keys.")
    ] = None,
    headers: Annotated[
        list[str] | None, typed.Option("--header", "-H", help="Of every record; repeatable.", metavar="NAME=VALUE")
    ] = None,
    partition: Annotated[int | None, typed.Option("--partition", "-p", help="Else the key decides.", min=0)] = None,
    tombstone: Annotated[
        bool,
        typed.Option("--tombstone", help="Empty values are null; with --key alone one null is sent, nothing read."),
    ] = False,
    delimiter: Annotated[
        str, typed.Option("--delimiter", "-d", help="What ends a record, \\0 a zero byte.", metavar="TEXT")
    ] = "\\n",
    whole: Annotated[bool, typed.Option("--whole", help="Each file is one record, or all of standard input.")] = False,
    form: Annotated[
        Literal["lines", "json"],
        typed.Option("--input", help="json: lines as `ottla consume --json` writes them.", metavar="lines|json"),
    ] = "lines",
    compression: Annotated[
        Codec, typed.Option("--compression", "-z", metavar="none|gzip|snappy|lz4|zstd", help="How batches are packed.")
    ] = "none",
    acks: Annotated[
        Literal["all", "1", "0"],
        typed.Option("--acks", metavar="all|1|0", help="Who must have a record: all in sync, the leader, nobody."),
    ] = "all",
    rate: Annotated[float | None, typed.Option("--rate", help="Records a second at most.", metavar="N")] = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Append records from lines, files or JSON.

    A line is a record. Waits until all in-sync replicas have them.

    \b
    A line of --input json is an object; each field may be left out:
      {"key": "k", "value": {"any": "JSON"}, "headers": {"name": "value"},
       "partition": 0, "timestamp_ms": 1700000000000}
    Bytes that are no text: "key_base64", "value_base64".

    \b
    Examples:
      ottla produce orders lines.txt --compression zstd
      echo 'k1=hello' | ottla produce orders --key-separator = -H source=shell
      ottla produce orders --key k1 --tombstone
      ottla produce images --whole --key logo logo.png
      ottla consume orders --to-end --json | ottla produce copy --input json
    """
    from ottla.cli.connect import run
    from ottla.cli.format import unescaped
    from ottla.cli.output import counted, print_json, tell
    from ottla.cli.pieces import Shape

    separator = None if key_separator is None else unescaped(key_separator)
    end = unescaped(delimiter)
    _check(files, key, separator, end, tombstone, whole, form, rate)
    shape = Shape(
        None if key is None else key.encode(),
        separator,
        tuple(map(_header, headers or ())),
        partition,
        tombstone,
        form == "json",
    )
    only_a_tombstone = tombstone and key is not None and form == "lines" and not files
    job = _Job(topic, shape, None if whole else end, rate, codec=compression, acks=acks)
    with _sources([] if only_a_tombstone else files) as (sources, size_bytes):
        records = run(job.run(bootstrap, sources, size_bytes, [b""] if only_a_tombstone else []))
    if as_json:
        print_json({"topic": topic, "records": records})
    else:
        tell(f"{counted(records, 'record')} {'sent' if acks == '0' else 'acknowledged'}.")


def _check(
    files: list[Path] | None,
    key: str | None,
    separator: bytes | None,
    end: bytes,
    tombstone: bool,
    whole: bool,
    form: str,
    rate: float | None,
) -> None:
    """Raises Failure where options contradict each other."""
    wrong = ""
    if separator == b"":
        wrong, step = "--key-separator is empty", "name at least one character"
    elif end == b"":
        wrong, step = "--delimiter is empty", "name at least one character, or take --whole"
    elif separator is not None and key is not None:
        wrong, step = "--key and --key-separator both say what the key is", "leave one of them out"
    elif form == "json" and (separator is not None or whole):
        wrong, step = "--input json has keys and records of its own", "leave --key-separator and --whole out"
    elif whole and separator is not None:
        wrong, step = "--whole takes a file as it is", "leave --key-separator out"
    elif tombstone and key is None and separator is None and form == "lines":
        wrong, step = "a tombstone without a key deletes nothing", "name --key, or --key-separator"
    elif tombstone and key is not None and files:
        wrong, step = "--tombstone with --key sends one null", "leave the files out"
    elif rate is not None and not 0 < rate < 1e9:
        wrong, step = f"--rate {rate:g} is out of bounds", "take more than 0"
    if wrong:
        raise Failure("INVALID_REQUEST", wrong, step)


def _header(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Failure("INVALID_REQUEST", f"--header {text!r} is not NAME=VALUE", "write --header source=shell")
    return name, value.encode()


@contextlib.contextmanager
def _sources(files: list[Path] | None) -> Iterator[tuple[list[IO[bytes]], int | None]]:
    """What is read, without buffers, and its size where it is known."""
    with contextlib.ExitStack() as stack:
        if files is None:
            yield [stack.enter_context(open(0, "rb", buffering=0, closefd=False))], None
        else:
            opened = [stack.enter_context(file.open("rb", buffering=0)) for file in files]
            yield list(opened), sum(file.stat().st_size for file in files)


class _Job:
    """Sends records and counts what became of them."""

    def __init__(
        self, topic: str, shape: "Shape", end: bytes | None, rate: float | None, *, codec: Codec, acks: str
    ) -> None:
        self._topic = topic
        self._shape = shape
        self._end = end
        self._rate = rate
        self._codec = codec
        self._acks = acks
        self._deliveries: deque[Delivery] = deque()
        self._sent = self._acknowledged = 0

    async def run(self, bootstrap: str, sources: list[IO[bytes]], size_bytes: int | None, pieces: list[bytes]) -> int:
        """Sends the pieces and every piece of the sources; returns how many were acknowledged, which is all of them."""
        from ottla import Producer
        from ottla.cli.connect import connection
        from ottla.cli.output import tell

        try:
            async with (
                connection(bootstrap) as client,
                Producer(
                    client,
                    acks={"all": "all", "1": 1, "0": 0}[self._acks],  # type: ignore[arg-type]
                    compression_type=self._codec,
                    max_request_size=_REQUEST_BYTES_MAX,
                ) as self._producer,
            ):
                await self._send(pieces)
                for source in sources:
                    await self._send_all(source, size_bytes)
                await self._producer.flush()
            return self._sent
        except BaseException:
            self._acknowledged += sum([await _is_acknowledged(delivery) for delivery in self._deliveries])
            if self._sent:
                tell(f"{self._acknowledged} of {self._sent} records were acknowledged before it ended.")
            raise

    async def _send_all(self, source: IO[bytes], size_bytes: int | None) -> None:
        from ottla.cli.output import tell
        from ottla.cli.pieces import pieces_of, whole_of
        from ottla.cli.progress import Progress

        interactive = source.isatty()
        if interactive:
            tell("A record a line; Ctrl-D ends.")
        with Progress("sent", size_bytes, hidden=interactive) as progress:
            found = whole_of(source) if self._end is None else pieces_of(source, self._end)
            async for pieces, read_bytes in found:
                await self._send(pieces)
                progress.advance(read_bytes)

    async def _send(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            record = self._shape.record(piece, self._sent + 1)
            if self._rate is not None:
                await self._keep_to(self._rate)
            self._deliveries.append(
                await self._producer.send(
                    self._topic,
                    record.value,
                    key=record.key,
                    headers=record.headers,
                    partition=record.partition,
                    timestamp=record.timestamp_ms,
                )
            )
            self._sent += 1
        while self._deliveries and self._deliveries[0].done():
            await self._deliveries.popleft()
            self._acknowledged += 1

    async def _keep_to(self, rate: float) -> None:
        """Waits until the next record is due."""
        import asyncio

        now = asyncio.get_running_loop().time()
        if self._sent == 0:
            self._began = now
        due = self._began + self._sent / rate
        if due > now:
            await asyncio.sleep(due - now)


async def _is_acknowledged(delivery: "Delivery") -> bool:
    from ottla.client.errors import OttlaError

    try:
        return delivery.done() and (await delivery).offset >= 0
    except OttlaError:
        return False

"""`ottla bench`: how fast a cluster is for the records that one has in mind."""

from typing import TYPE_CHECKING, Annotated, Any, Final

from ottla.cli import complete, typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json, Topic
from ottla.cli.produce import Codec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ottla import Client
    from ottla.cli.load import Figures, Load, Meter

app = typed.Group("Measure how fast a cluster writes and reads.")

OptionalTopic = Annotated[
    str | None,
    typed.Argument(metavar="[TOPIC]", shell_complete=complete.topics, help="Else one of its own, deleted afterwards."),
]
Seconds = Annotated[float, typed.Option("--seconds", "-s", metavar="N", min=0.1, help="How long to write.")]
Records = Annotated[int, typed.Option("--records", "-n", min=0, help="So many instead; 0: by the time.")]
Size = Annotated[str, typed.Option("--size", metavar="SIZE", help="Of a record's value.")]
Keys = Annotated[int, typed.Option("--keys", min=0, help="So many different keys; 0: records have none.")]
Acks = Annotated[str, typed.Option("--acks", metavar="all|1", help="Who must have a record: all in sync, the leader.")]
Compression = Annotated[
    Codec, typed.Option("--compression", "-z", metavar="none|gzip|snappy|lz4|zstd", help="How batches are packed.")
]
BatchSize = Annotated[str | None, typed.Option("--batch-size", metavar="SIZE", help="Else the client's default.")]
Linger = Annotated[str | None, typed.Option("--linger", metavar="DURATION", help="Else the client's default.")]
Partitions = Annotated[int, typed.Option("--partitions", min=1, help="Of a topic of its own.")]
Replicas = Annotated[
    int | None, typed.Option("--replication-factor", min=1, help="Of a topic of its own; else the cluster's default.")
]
_BAR: Final = 40


@app.verb()
def produce(
    topic: OptionalTopic = None,
    seconds: Seconds = 10.0,
    records: Records = 0,
    size: Size = "1000",
    rate: Annotated[float, typed.Option("--rate", metavar="N", min=0, help="Records a second; 0: all it can.")] = 0.0,
    keys: Keys = 0,
    acks: Acks = "all",
    compression: Compression = "none",
    batch_size: BatchSize = None,
    linger: Linger = None,
    partitions: Partitions = 6,
    replication_factor: Replicas = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Write records with one client.

    A latency is the time from sending to acknowledgement.

    \b
    Examples:
      ottla bench produce
      ottla bench produce --rate 1000 --size 100
      ottla bench produce orders --records 1000000 --batch-size 512KiB
    """
    from ottla.cli import load

    wanted = _load(seconds, records, size, rate, keys, acks, compression, batch_size, linger)
    _measure(
        bootstrap,
        as_json,
        lambda client, meter: _on_a_topic(client, topic, partitions, replication_factor, load.produce, wanted, meter),
    )


@app.verb()
def consume(
    topic: Topic,
    records: Annotated[int, typed.Option("--records", "-n", min=0, help="So many; 0: all that are there.")] = 0,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Read a topic from its start with one client.

    \b
    Examples:
      ottla bench consume orders
      ottla bench consume orders --records 1000000
    """
    from ottla.cli import load

    _measure(bootstrap, as_json, lambda client, meter: load.consume(client, topic, records, meter))


@app.verb("end-to-end")
def end_to_end(
    topic: OptionalTopic = None,
    seconds: Seconds = 10.0,
    records: Records = 0,
    size: Size = "1000",
    rate: Annotated[float, typed.Option("--rate", metavar="N", min=0.1, help="Records a second.")] = 1000.0,
    keys: Keys = 0,
    acks: Acks = "all",
    compression: Compression = "none",
    batch_size: BatchSize = None,
    linger: Linger = None,
    partitions: Partitions = 6,
    replication_factor: Replicas = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Write records and read them.

    A latency is the time from sending to having the record at the reader.

    \b
    Examples:
      ottla bench end-to-end
      ottla bench end-to-end --rate 100 --size 10KiB --compression zstd
    """
    from ottla.cli import load

    wanted = _load(seconds, records, size, rate, keys, acks, compression, batch_size, linger)
    if wanted.size_bytes < load.STAMP_BYTES:
        raise Failure(
            "INVALID_REQUEST",
            f"--size {size} has no room for the time at which a record was sent",
            f"take at least {load.STAMP_BYTES} bytes",
        )
    _measure(
        bootstrap,
        as_json,
        lambda client, meter: _on_a_topic(
            client, topic, partitions, replication_factor, load.end_to_end, wanted, meter
        ),
    )


def _load(
    seconds: float,
    records: int,
    size: str,
    rate: float,
    keys: int,
    acks: str,
    compression: Codec,
    batch_size: str | None,
    linger: str | None,
) -> "Load":
    from ottla.cli.load import Load
    from ottla.cli.units import duration_ms, size_bytes

    if acks not in ("all", "1"):
        raise Failure("INVALID_REQUEST", f"--acks {acks} tells of no acknowledgement", "take all or 1")
    settings: dict[str, Any] = {"acks": "all" if acks == "all" else 1, "compression_type": compression}
    if batch_size is not None:
        settings["batch_size"] = size_bytes(batch_size)
    if linger is not None:
        settings["linger_ms"] = duration_ms(linger)
    settings["max_request_size"] = max(2**20, settings.get("batch_size", 0) + 2**16, size_bytes(size) + 2**16)
    settings["buffer_memory"] = max(2**25, settings["max_request_size"])
    return Load(seconds, records, size_bytes(size), rate, keys, settings)


async def _on_a_topic(
    client: "Client",
    name: str | None,
    partitions: int,
    replication_factor: int | None,
    work: "Callable[[Client, str, Load, Meter], Awaitable[Figures]]",
    wanted: "Load",
    meter: "Meter",
) -> "Figures":
    from ottla.cli.load import topic_of

    async with topic_of(client, name, partitions, replication_factor) as topic:
        meter.begin()
        return await work(client, topic, wanted, meter)


def _measure(bootstrap: str, as_json: bool, work: "Callable[[Client, Meter], Awaitable[Figures]]") -> None:
    """Runs a load, tells each second of it, and prints the whole."""
    from ottla.cli.connect import connection, run
    from ottla.cli.load import Meter
    from ottla.cli.output import print_json, tell

    async def measured() -> "Figures":
        async with connection(bootstrap) as client:
            return await work(client, Meter(lambda line: None if as_json else tell(_second(line))))

    figures = run(measured())
    if as_json:
        print_json(figures.answer())
    else:
        _print(figures)


def _second(line: dict[str, float]) -> str:
    text = f"{line['second']:5.0f} s  {line['records_per_s']:11,.0f} records/s  {line['mb_per_s']:8.1f} MB/s"
    if "p50_ms" in line:
        text += f"  p50 {line['p50_ms']:.2f} ms, longest {line['max_ms']:.2f} ms"
    return text


def _print(figures: "Figures") -> None:
    from ottla.cli.load import FULL_CORE
    from ottla.cli.output import print_table, tell

    answer = figures.answer()
    rows = [
        ("records", f"{answer['records']:,}"),
        ("seconds", f"{answer['seconds']:.2f}"),
        ("records/s", f"{answer['records_per_s']:,.0f}"),
        ("MB/s", f"{answer['mb_per_s']:,.1f}"),
        *((f"latency {name}", f"{value:.2f} ms") for name, value in (answer["latency_ms"] or {}).items()),
        ("CPU of this process", f"{figures.cpu_share:.0%} of a core"),
    ]
    print_table(("FIGURE", "VALUE"), rows)
    if figures.latencies_ms:
        print()
        print_table(("LATENCY", "SHARE", ""), _distribution(figures.latencies_ms))
    if figures.cpu_share > FULL_CORE:
        tell("This process used all of a core, so it may be the limit: run several at once, and add up.")


def _distribution(latencies_ms: list[float]) -> list[tuple[str, str, str]]:
    """How the latencies spread, in bounds that double."""
    bounds_ms = [0.25 * 2**power for power in range(18)]
    counts = [0] * (len(bounds_ms) + 1)
    for latency_ms in latencies_ms:
        counts[next((i for i, bound in enumerate(bounds_ms) if latency_ms <= bound), len(bounds_ms))] += 1
    used = [i for i, count in enumerate(counts) if count]
    most = max(counts)
    rows = []
    for i in range(used[0], used[-1] + 1):
        bound = f"<= {bounds_ms[i]:g} ms" if i < len(bounds_ms) else f"> {bounds_ms[-1]:g} ms"
        rows.append((bound, f"{counts[i] / len(latencies_ms):.1%}", "#" * round(_BAR * counts[i] / most)))
    return rows

"""`ottla topic export` and `ottla topic import`: a topic as a file, and back, with its offsets and times."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from ottla.cli import complete, typed
from ottla.cli.config import settings_of
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, DryRun, Json, Topic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ottla import Admin, Client
    from ottla.cli.archive import Contents, Writer
    from ottla.cli.progress import Progress
    from ottla.client.view import TopicInfo
    from ottla.v1 import admin_pb2
    from ottla.v1.admin_pb2_grpc import AdminServiceAsyncStub

_PATIENCE_MS: Final = 60_000
"""How long a call is tried again while leaders change."""
_CALL_S: Final = 30.0
_AGAIN_S: Final = 0.05
_EARLIEST: Final = -2

File = Annotated[Path, typed.Argument(metavar="FILE")]


def export_topic(name: Topic, file: File, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """Write a topic to a file: records, offsets, times, configs.

    What is committed when it begins is in it, batch by batch as the logs have it. Groups' positions are not.

    \b
    Examples:
      ottla topic export orders orders.ottla
    """
    from ottla.cli.connect import connection, run

    if file.exists():
        raise Failure("FILE_EXISTS", f"{file} exists", "name another file, or remove that one first")

    async def work() -> "Contents":
        from ottla import Admin

        async with connection(bootstrap) as client, Admin(client) as admin:
            return await _export(client, admin, name, file, hidden=as_json)

    _tell("Exported", run(work()), name, file, as_json)


async def _export(client: "Client", admin: "Admin", name: str, file: Path, *, hidden: bool) -> "Contents":
    from ottla.cli.archive import Contents, Extent, Writer
    from ottla.cli.progress import Progress
    from ottla.cli.version import installed

    topic = await admin.describe_topic(name)
    if topic.import_id:
        raise Failure("IMPORT_INCOMPLETE", f"{name} is being imported", "export it when the import is complete")
    configs = await admin.describe_topic_configs(name)
    own = {key: config.value for key, config in configs.items() if config.source == "TOPIC"}
    sizes = await admin.log_sizes([(name, partition.partition) for partition in topic.partitions])
    contents = Contents(name, topic.topic_id, own, installed(), [Extent() for _ in topic.partitions])
    total_bytes = sum(size or 0 for size in sizes.values())
    with Writer(file, contents) as writer, Progress(f"exporting {name}", total_bytes, hidden=hidden) as progress:
        for partition in topic.partitions:
            await _export_partition(client, topic, partition.partition, writer, progress)
        writer.finish()
    return contents


async def _export_partition(
    client: "Client", topic: "TopicInfo", number: int, writer: "Writer", progress: "Progress"
) -> None:
    import asyncio

    from ottla.v1 import admin_pb2, data_pb2
    from ottla.v1 import error_pb2 as pb

    where = data_pb2.TopicPartition(topic=topic.name, topic_id=topic.topic_id, partition=number)
    extent = writer.contents.partitions[number]
    offset, end = _EARLIEST, -1
    while offset != end:
        request = admin_pb2.ExportBatchesRequest(partition=where, offset=offset)
        try:
            part = await _export_batches(client, request)
        except _ottla_error() as error:
            if offset < 0 or error.code != pb.ERROR_CODE_OFFSET_OUT_OF_RANGE:
                raise
            raise Failure(
                "OFFSET_OUT_OF_RANGE",
                f"{topic.name}-{number} lost the records from offset {offset} on while it was exported: retention or a "
                "trim took them",
                "run it again; raise retention.ms for as long as it takes",
            ) from None
        if end < 0:
            if part.high_watermark < part.log_start_offset:  # a new leader has yet to know what is committed
                await asyncio.sleep(_AGAIN_S)
                continue
            end = part.high_watermark
            extent.first_offset = extent.log_start_offset = extent.end_offset = part.log_start_offset
        data = _below(part.batches, end)
        if data:
            writer.add(number, data)
            extent.first_offset = min(extent.first_offset, extent.log_start_offset)
            progress.advance(len(data))
        if not data or part.next_offset >= end:
            writer.close_gap(number, end)
            extent.end_offset = end
            return
        offset = part.next_offset


def _below(data: bytes, end: int) -> bytes:
    """The batches of a slice below an offset: what was committed later is left out."""
    from ottla.cli.archive import batches_of

    stop = 0
    for batch in batches_of(data):
        if batch.header.base_offset >= end:
            break
        stop = batch.end
    return data[:stop]


def import_topic(
    file: File,
    name: Annotated[str | None, typed.Option("--topic", help="Under another name.", metavar="TOPIC")] = None,
    replication_factor: Annotated[
        int | None,
        typed.Option("--replication-factor", "-r", help="Copies of each partition; else the cluster's default."),
    ] = None,
    configs: Annotated[
        list[str] | None,
        typed.Option(
            "--config",
            "-c",
            help="Instead of what the file says, such as retention.ms=-1.",
            metavar="K=V",
            shell_complete=complete.topic_configs,
        ),
    ] = None,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Make a topic of a file that `export` wrote.

    Records have the offsets and times that they had. The topic must not be there yet, and serves nobody before
    everything is in it; one that was interrupted goes on where it stopped.

    \b
    Examples:
      ottla topic import orders.ottla
      ottla topic import orders.ottla --topic orders-of-may --config retention.ms=-1
    """
    from ottla.cli import archive
    from ottla.cli.connect import connection, run
    from ottla.cli.progress import Progress

    settings = settings_of(configs, "--config")
    with Progress(f"checking {file.name}", file.stat().st_size, hidden=as_json) as progress:
        contents = archive.read(file, progress.advance)
    target = name or contents.topic

    async def work() -> None:
        from ottla import Admin

        async with connection(bootstrap) as client, Admin(client) as admin:
            topic_id = await _begin(
                client, admin, target, contents, {**contents.configs, **settings}, replication_factor, dry_run
            )
            if not dry_run:
                await _bring(client, target, topic_id, file, contents, hidden=as_json)
                await _warn_of_retention(admin, target, contents)

    run(work())
    _tell("Would import" if dry_run else "Imported", contents, target, file, as_json)


async def _begin(
    client: "Client",
    admin: "Admin",
    name: str,
    contents: "Contents",
    configs: dict[str, str],
    replication_factor: int | None,
    dry_run: bool,
) -> bytes:
    """The id of the topic, which is made, or was by an earlier run with the same file."""
    from ottla import TopicAlreadyExists
    from ottla.v1 import admin_pb2

    importing = admin_pb2.TopicImport(
        import_id=contents.import_id,
        first_offsets=[extent.first_offset for extent in contents.partitions],
        producer_ids_end=contents.producer_ids_end,
    )
    topic = admin_pb2.NewTopic(
        name=name,
        num_partitions=len(contents.partitions),
        replication_factor=replication_factor,
        configs=configs,
        importing=importing,
    )
    request = admin_pb2.CreateTopicsRequest(topics=[topic], validate_only=dry_run)
    try:
        made = await client.until_done(
            _call(lambda stub, timeout: stub.CreateTopics(request, timeout=timeout)),
            _PATIENCE_MS,
            lambda answer: [result.error for result in answer.topics],
            repeatable=False,
        )
    except TopicAlreadyExists:
        there = await admin.describe_topic(name)
        if there.import_id != contents.import_id:
            other = "another import fills it" if there.import_id else "an import makes its topic itself"
            raise Failure(
                "TOPIC_ALREADY_EXISTS",
                f"topic {name!r} exists: {other}",
                "name another one with --topic, or delete it first",
            ) from None
        return there.topic_id
    topic_id: bytes = made.topics[0].topic_id
    return topic_id


async def _bring(
    client: "Client", name: str, topic_id: bytes, file: Path, contents: "Contents", *, hidden: bool
) -> None:
    """Appends what is not there yet, then opens the topic once every partition is seen to end where the file's does."""
    from ottla.cli import archive
    from ottla.cli.progress import Progress
    from ottla.v1 import admin_pb2, data_pb2

    def request(number: int, at: int, batches: bytes = b"") -> "admin_pb2.ImportBatchesRequest":
        return admin_pb2.ImportBatchesRequest(
            partition=data_pb2.TopicPartition(topic=name, topic_id=topic_id, partition=number),
            import_id=contents.import_id,
            log_end_offset=at,
            source_topic_id=contents.topic_id,
            batches=batches,
            log_start_offset=contents.partitions[number].log_start_offset,
        )

    numbers = range(len(contents.partitions))
    ends = {number: (await _import_batches(client, request(number, 0))).log_end_offset for number in numbers}
    total_bytes = sum(extent.bytes for extent in contents.partitions)
    with Progress(f"importing {name}", total_bytes, hidden=hidden) as progress:
        for number, data in archive.slices(file, contents):
            left = _from(data, ends[number])
            if left:
                ends[number] = await _append(client, request, number, ends[number], left)
            progress.advance(len(data))
    for number, extent in enumerate(contents.partitions):
        done = await _import_batches(client, request(number, ends[number]))
        if (done.log_end_offset, done.log_start_offset) != (extent.end_offset, extent.log_start_offset):
            raise Failure(
                "IMPORT_INCOMPLETE",
                f"{name}-{number} has offsets {done.log_start_offset} to {done.log_end_offset}, the file "
                f"{extent.log_start_offset} to {extent.end_offset}; the topic stays closed",
                f"run the import again; if it stays so, `ottla topic delete {name}` and begin anew",
            )
    complete = admin_pb2.CompleteImportRequest(topic_id=topic_id, import_id=contents.import_id)
    await _asked(client, lambda stub, timeout: stub.CompleteImport(complete, timeout=timeout))


async def _append(
    client: "Client", request: "Callable[..., admin_pb2.ImportBatchesRequest]", number: int, at: int, data: bytes
) -> int:
    """Appends batches where the log ends; returns where it ends then. What became of a call without an answer is found
    out."""
    from ottla.cli.archive import batches_of
    from ottla.v1 import error_pb2 as pb

    end = max(batch.header.next_offset for batch in batches_of(data))
    while at < end:
        try:
            at = (await _import_batches(client, request(number, at, _from(data, at)))).log_end_offset
        except _ottla_error() as error:
            if error.code != pb.ERROR_CODE_OFFSET_OUT_OF_RANGE:
                raise
            there = (await _import_batches(client, request(number, at))).log_end_offset
            if there == at or there > end:
                raise
            at = there
    return at


def _from(data: bytes, offset: int) -> bytes:
    """The batches of a slice from an offset on."""
    from ottla.cli.archive import batches_of

    for batch in batches_of(data):
        if batch.header.base_offset >= offset:
            return data[batch.start :]
    return b""


async def _export_batches(
    client: "Client", request: "admin_pb2.ExportBatchesRequest"
) -> "admin_pb2.ExportBatchesResponse":
    answer: admin_pb2.ExportBatchesResponse = await _asked(
        client, lambda stub, timeout: stub.ExportBatches(request, timeout=timeout)
    )
    return answer


async def _import_batches(
    client: "Client", request: "admin_pb2.ImportBatchesRequest"
) -> "admin_pb2.ImportBatchesResponse":
    answer: admin_pb2.ImportBatchesResponse = await _asked(
        client, lambda stub, timeout: stub.ImportBatches(request, timeout=timeout)
    )
    return answer


async def _asked(client: "Client", ask: "Callable[[AdminServiceAsyncStub, float], Awaitable[Any]]") -> Any:
    """The answer to a call that may be repeated; raises what the server says in it."""
    return await client.until_done(_call(ask), _PATIENCE_MS, lambda answer: [answer.error])


def _call(ask: "Callable[[AdminServiceAsyncStub, float], Awaitable[Any]]") -> "Callable[[Any], Awaitable[Any]]":
    from ottla.v1.admin_pb2_grpc import AdminServiceStub

    return lambda channel: ask(AdminServiceStub(channel), _CALL_S)


def _ottla_error() -> type[Any]:
    from ottla import OttlaError

    return OttlaError


async def _warn_of_retention(admin: "Admin", name: str, contents: "Contents") -> None:
    """What came with its old times may be too old for the topic."""
    import time

    from ottla.cli.output import tell

    configs = await admin.describe_topic_configs(name, "cleanup.policy", "retention.ms")
    kept_ms = int(configs["retention.ms"].value)
    if "delete" not in configs["cleanup.policy"].value or kept_ms < 0:
        return
    oldest_ms = min((newest for newest in contents.newest_ms if newest >= 0), default=None)
    if oldest_ms is not None and oldest_ms < time.time_ns() // 1_000_000 - kept_ms:
        tell(
            f"Retention deletes what is older than retention.ms={kept_ms}, imported or not. To keep it: "
            f"ottla topic alter {name} --config retention.ms=-1"
        )


def _tell(deed: str, contents: "Contents", name: str, file: Path, as_json: bool) -> None:
    from ottla.cli.output import counted, print_json
    from ottla.cli.units import shown_bytes

    records = sum(extent.records for extent in contents.partitions)
    size = sum(extent.bytes for extent in contents.partitions)
    if as_json:
        partitions = [
            {
                "partition": number,
                "start_offset": extent.log_start_offset,
                "end_offset": extent.end_offset,
                "batches": extent.batches,
                "records": extent.records,
                "bytes": extent.bytes,
            }
            for number, extent in enumerate(contents.partitions)
        ]
        dry = deed.startswith("Would")
        print_json({"topic": name, "file": str(file), "dry_run": dry, "records": records, "partitions": partitions})
        return
    way = "to" if deed == "Exported" else "from"
    held = f"{counted(len(contents.partitions), 'partition')}, {counted(records, 'record')}, {shown_bytes(size)}"
    print(f"{deed} {name} {way} {file}: {held}.")

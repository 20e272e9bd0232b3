"""What the options of `ottla produce` put into a topic of real nodes."""

import json
import time
from pathlib import Path

import pytest

from tests.ottla.cli.conftest import Here

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cli-cluster")]


def test_every_option_is_in_the_records(here: Here, tmp_path: Path) -> None:
    """One topic, so that the whole takes two seconds."""
    here.lines("topic", "create", "sent", "--partitions", "3")
    lines = tmp_path / "lines"
    lines.write_bytes(b"a=1|b=|c=x\ny")
    ways = (
        (str(lines), "--key-separator", "=", "--delimiter", "|", "--tombstone", "-H", "h=1", "-H", "h=2", "-p", "2"),
        (str(lines), "--whole", "--key", "file", "--compression", "zstd", "-p", "1", "--acks", "1"),
        ("--key", "gone", "--tombstone", "-p", "1"),
    )
    for way in ways:
        here.lines("produce", "sent", *way)
    read = [json.loads(line) for line in here.lines("consume", "sent", "-e", "--json")]
    two = [(r["key"], r["value"]) for r in read if r["partition"] == 2]
    assert two == [("a", "1"), ("b", None), ("c", "x\ny")]
    assert all(
        r["headers"] == [{"key": "h", "value": "1"}, {"key": "h", "value": "2"}] for r in read if r["key"] == "a"
    )
    assert [(r["key"], r["value"]) for r in read if r["partition"] == 1] == [("file", "a=1|b=|c=x\ny"), ("gone", None)]

    # What was read as JSON goes in as it was, with its times.
    copy = tmp_path / "copy.jsonl"
    copy.write_text("".join(json.dumps(r) + "\n" for r in read))
    here.lines("topic", "create", "copied", "--partitions", "3")
    assert here.answer("produce", "copied", str(copy), "--input", "json") == {"topic": "copied", "records": 5}
    again = [json.loads(line) for line in here.lines("consume", "copied", "-e", "--json")]
    order = sorted([{**r, "topic": ""} for r in read], key=lambda r: (r["partition"], r["offset"]))
    assert sorted([{**r, "topic": ""} for r in again], key=lambda r: (r["partition"], r["offset"])) == order

    began = time.monotonic()
    assert here("produce", "copied", str(lines), "--rate", "10", "-d", "|", "--acks", "0")[2] == "3 records sent.\n"
    assert time.monotonic() - began > 0.2


def test_a_large_file_as_one_record(here: Here, tmp_path: Path) -> None:
    """It is the topic that says how large a record may be."""
    file = tmp_path / "large"
    file.write_bytes(b"x" * 3_000_000)
    here.lines("topic", "create", "large", "--partitions", "1", "--config", "max.message.bytes=4MiB")
    here.lines("produce", "large", "--whole", str(file))
    assert here.lines("consume", "large", "-e", "-f", "{value:size}") == ["3000000"]
    here.lines("topic", "create", "small", "--partitions", "1")
    assert here.refused("produce", "small", "--whole", str(file))["code"] == "MESSAGE_TOO_LARGE"

"""`ottla consume` against real nodes: which records it prints, and when it leaves."""

import asyncio
import json
import signal
import subprocess
import sys

import pytest

from ottla import Admin, Producer
from ottla.cli.local import LocalCluster
from tests.ottla.cli.conftest import Here, environment

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cli-cluster")]
BASE_MS = 1_700_000_000_000


@pytest.fixture(scope="module", autouse=True)
def records(cluster: LocalCluster) -> None:
    """`read-a` with 0 to 11 over three partitions, a second apart, and `read-b` with one."""

    async def fill() -> None:
        async with Admin(cluster.bootstrap) as admin, Producer(cluster.bootstrap) as producer:
            # The records are years old.
            await admin.create_topic("read-a", partitions=3, configs={"retention.ms": "-1"})
            await admin.create_topic("read-b", partitions=1)
            for i in range(12):
                number, time_ms = b"%d" % i, BASE_MS + i * 1000
                await producer.send("read-a", number, headers=[("n", number)], partition=i % 3, timestamp=time_ms)
            await producer.send("read-b", b'{"n": 1}', key=b"\xff")

    asyncio.run(fill())


def test_to_the_end_and_leave(here: Here) -> None:
    assert sorted(here.lines("consume", "read-a", "--to-end"), key=int) == [str(i) for i in range(12)]
    both = here.lines("consume", "read-a", "read-b", "--to-end", "--format", "{topic}")
    assert (both.count("read-a"), both.count("read-b")) == (12, 1)
    assert len(here.lines("consume", "--regex", "read-.", "--to-end")) == 13
    code, out, err = here("consume", "--regex", "nothing-.*", "--to-end")
    assert (code, out, err) == (0, b"", "No topic matches nothing-.*.\n")


def test_times(here: Here) -> None:
    since, until = str(BASE_MS + 4000), str(BASE_MS + 7000)
    assert sorted(here.lines("consume", "read-a", "--from", since, "--until", until)) == ["4", "5", "6"]
    assert here.lines("consume", "read-a", "--from", "1h", "--until", "now") == []
    assert len(here.lines("consume", "read-a", "--until", until)) == 7


def test_the_newest(here: Here) -> None:
    assert here.lines("consume", "read-a", "--last", "5") == ["7", "8", "9", "10", "11"]
    assert here.lines("consume", "read-a", "-p", "2", "--last", "2", "-f", "{offset}={header:n}") == ["2=8", "3=11"]
    assert len(here.lines("consume", "read-a", "--last", "500")) == 12


def test_ranges_of_offsets(here: Here) -> None:
    one = ("consume", "read-a", "--partition", "1")
    assert here.lines(*one, "--offset", "1:3") == ["4", "7"]
    assert here.lines(*one, "--offset", ":2") == ["1", "4"]
    assert here.lines(*one, "--offset", "2:") == ["7", "10"]
    assert here.lines(*one, "--offset", "3:3000") == ["10"]
    error = here.refused(*one, "--offset", "70:80")
    assert error["code"] == "OFFSET_OUT_OF_RANGE"
    assert "read-a-1 has offsets 0 to 4" in error["message"]
    assert sorted(here.lines("consume", "read-a", "-p", "0", "-p", "1", "-e", "-n", "8"), key=int)[0] == "0"


def test_formats(here: Here) -> None:
    assert here.lines("consume", "read-b", "-e", "-f", "{key:hex} {value:.n}") == ["ff 1"]
    code, out, _ = here("consume", "read-b", "-e", "-d", "\\0", "-f", "{key}")
    assert (code, out) == (0, b"\xff\0")
    assert json.loads(here.lines("consume", "read-b", "-e", "--json")[0])["key_base64"] == "/w=="


def test_a_group_to_its_end(here: Here) -> None:
    read = ("consume", "read-a", "--group", "drain", "--from-beginning", "--to-end")
    assert len(here.lines(*read)) == 12
    assert here.lines(*read) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_follows_says_what_it_waits_for_and_ends_in_order(
    cluster: LocalCluster, number: signal.Signals, code: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "ottla.cli", "consume", "read-a", "--last", "1", "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(cluster.bootstrap),
    ) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        assert reader.stdout.readline() == "11\n"
        assert reader.stderr.readline() == "Waiting for records in read-a (3 partitions), Ctrl-C ends.\n"
        reader.send_signal(number)
        assert reader.communicate(timeout=10) == ("", "")
    assert reader.returncode == code

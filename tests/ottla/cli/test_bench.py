"""`ottla bench` against real nodes, and how its figures are told."""

import pytest

from ottla.cli.bench import _distribution
from ottla.cli.load import Figures
from tests.ottla.cli.conftest import Here

cluster = pytest.mark.cluster
group = pytest.mark.xdist_group("cli-cluster")


@cluster
@group
def test_what_was_written_is_counted_and_a_topic_of_its_own_goes(here: Here) -> None:
    before = here.lines("topic", "list")
    figures = here.answer("bench", "produce", "-n", "3000", "--size", "200", "--partitions", "2", "--keys", "7")
    assert figures["records"] == 3000
    assert figures["mb_per_s"] == pytest.approx(figures["records_per_s"] * 200 / 1e6, rel=0.01)
    latencies = list(figures["latency_ms"].values())
    assert latencies == sorted(latencies)
    assert 0 < latencies[-1] <= figures["seconds"] * 1000
    assert here.lines("topic", "list") == before


@cluster
@group
def test_a_topic_is_filled_at_a_rate_and_read_from_its_start(here: Here) -> None:
    here.lines("topic", "create", "benched", "--partitions", "2")
    assert "is empty" in here.refused("bench", "consume", "benched")["message"]
    figures = here.answer("bench", "produce", "benched", "--rate", "1000", "--seconds", "1.3", "--acks", "1")
    assert 1000 < figures["records"] <= 1300
    assert [line["second"] for line in figures["each_second"]] == [1.0]
    assert here.answer("bench", "consume", "benched")["records"] == figures["records"]
    assert here.answer("bench", "consume", "benched", "-n", "500")["records"] >= 500


@cluster
@group
def test_each_record_comes_out_at_the_other_end(here: Here) -> None:
    """Also beside records of others, old and new."""
    here.lines("topic", "create", "through", "--partitions", "3")
    here.answer("bench", "produce", "through", "-n", "1000", "--size", "16")
    code, out, err = here("bench", "end-to-end", "through", "--rate", "500", "-n", "600", "--size", "64", "-z", "lz4")
    assert code == 0, err
    lines = out.decode().splitlines()
    assert lines[1].split() == ["records", "600"]
    assert err.splitlines()[0].split()[:2] == ["1", "s"]
    assert any(line.startswith("<= ") and line.endswith("#") for line in lines)


@cluster
@group
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("end-to-end", "--size", "8"), "no room"),
        (("produce", "--size", "much"), "not a size"),
        (("produce", "--acks", "0"), "no acknowledgement"),
        (("produce", "missing"), "no topic 'missing'"),
        (("produce", "-n", "10", "--size", "3MiB"), "max.message.bytes"),
        (("produce", "--replication-factor", "9"), "replication factor"),
    ],
)
def test_what_cannot_be_measured(here: Here, arguments: tuple[str, ...], words: str) -> None:
    before = here.lines("topic", "list")
    assert words in here.refused("bench", *arguments)["message"]
    assert here.lines("topic", "list") == before


def test_percentiles_and_their_spread() -> None:
    figures = Figures(records=1000, size_bytes=10**6, seconds=2.0, latencies_ms=[float(n) for n in range(1, 1001)])
    assert figures.answer()["latency_ms"] == {"p50": 501, "p90": 901, "p99": 991, "p99.9": 1000, "max": 1000}
    assert (figures.answer()["records_per_s"], figures.answer()["mb_per_s"]) == (500, 0.5)
    rows = _distribution([0.1, 0.9, 0.9, 5e5])
    assert [(bound, share) for bound, share, _ in rows if share != "0.0%"] == [
        ("<= 0.25 ms", "25.0%"),
        ("<= 1 ms", "50.0%"),
        ("> 32768 ms", "25.0%"),
    ]
    assert [len(bar) for _, share, bar in rows if share != "0.0%"] == [20, 40, 20]

"""The comparison of two checkouts: what it makes of the rounds' outcomes."""

from bench.against import AT_REST, Outcome, cases, compare, name, table
from bench.load import KIB, Case

BATCHES = Case("ottla", "batches", 1000, 16 * KIB)


def outcome(mb_per_s: float, nodes: float, client: float) -> Outcome:
    return {"mb_per_s": mb_per_s, "cpu_ms_per_mb": {"servers": nodes, "client": client}, "p50_ms": 1.0, "p99_ms": 2.0}


def test_the_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_the_medians() -> None:
    other = [outcome(mb_per_s, 10, 1) for mb_per_s in (100, 10, 50)]
    this = [outcome(mb_per_s, 20, 1) for mb_per_s in (90, 11, 50)]
    throughput, nodes, client = compare(BATCHES, other, this)
    assert (throughput.other, throughput.this, throughput.ratio) == (50, 50, 1.0)
    assert (round(throughput.ratio_low, 2), round(throughput.ratio_high, 2)) == (0.95, 1.05)
    assert (nodes.other, nodes.this, nodes.ratio, client.ratio) == (10, 20, 2.0, 1.0)


def test_one_round_is_its_own_spread() -> None:
    [imports, memory] = compare(None, [{"imports_ms": 100, "rss_mb": 50}], [{"imports_ms": 150, "rss_mb": 50}])
    assert (imports.ratio_low, imports.ratio, imports.ratio_high) == (1.5, 1.5, 1.5)
    assert (memory.case, memory.ratio) == ("at rest", 1.0)


def test_every_case_has_a_name_of_its_own_and_its_lines() -> None:
    names = [name(case) for case in [*cases(), None]]
    assert len(set(names)) == len(names)
    latency = next(case for case in cases() if case.kind == "latency")
    lines = compare(latency, [outcome(1, 1, 1)], [outcome(1, 1, 1)])
    assert [line.figure for line in lines][:2] == ["p50", "p99"]
    assert len(table(lines).splitlines()) == len(lines) + 2
    assert [figure.name for figure in AT_REST] == ["imports", "memory of a node"]

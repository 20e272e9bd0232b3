"""What faults cost, the plots, the page, and what the nodes' logs give away."""

import pytest

from ottla.verify.checker import Anomaly, Report, check
from ottla.verify.costs import buckets, costs, percentile, summaries
from ottla.verify.history import Operation
from ottla.verify.nemesis import FAULTS, Fault
from ottla.verify.report import facts, page
from ottla.verify.run import Outcome, Plan, kinds_of
from ottla.verify.traces import flaws_in
from ottla.verify.workload import name_in, value_of

MS = 1_000_000


def send(number: int, partition: int, start_ms: int, took_ms: int = 2) -> Operation:
    entry = (f"t-{partition}", number, f"v{number}")
    return Operation("w", "send", start_ms * MS, (start_ms + took_ms) * MS, "ok", [entry])


def fault(start_ms: int, healed_ms: int, whole_ms: int, kind: str = "kill", leads: tuple[int, ...] = (0,)) -> Fault:
    return Fault(kind, [1], list(leads), False, start_ms * MS, healed_ms * MS, whole_ms * MS, "kill -9 node 1")


# Partition 0 is silent from 102 to 402 ms, partition 1 from 152 to 202.
HISTORY = [
    *(send(n, 0, n * 10) for n in range(11)),
    send(11, 0, 400),
    send(12, 0, 410),
    *(send(n, 1, n * 50) for n in range(9)),
]


def test_a_pause_is_told_by_who_led_the_partition() -> None:
    [cost] = costs(HISTORY, [fault(105, 200, 405)])
    assert (cost.pause_ms, cost.led_ms, cost.followed_ms) == (300, 300, 50)
    assert cost.whole_s == pytest.approx(0.205)


def test_a_partition_that_never_comes_back_pauses_until_the_end_of_the_fault() -> None:
    [cost] = costs([send(1, 0, 0)], [fault(10, 20, 5000)])
    assert cost.pause_ms == 4998


def test_faults_are_summed_up_by_kind() -> None:
    faults = [fault(105, 200, 405), fault(150, 190, 200), fault(150, 160, 170, "pause")]
    kill, pause = summaries(faults, costs(HISTORY, faults))
    assert (kill.kind, kill.count, kill.worst_ms) == ("kill", 2, 300)
    assert (pause.kind, pause.count) == ("pause", 1)


def test_slices_of_time_hold_what_ended_in_them() -> None:
    first, second = buckets(HISTORY, 0, 200 * MS, 2)
    assert first.acknowledged == 12 / 0.1
    assert (first.p50_ms, first.max_ms) == (2, 2)
    assert second.acknowledged == 3 / 0.1


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.99, 4), (1.0, 4), (0.01, 1)])
def test_percentiles_are_values_that_were_seen(share: float, value: float) -> None:
    assert percentile([4, 1, 3, 2], share) == value


def outcome(faults: list[Fault], report: Report, problems: list[str]) -> Outcome:
    made = Outcome(Plan(60, list(FAULTS), 7, 500, 200, 6, 4.5), "local", 3, 0, 60_000 * MS)
    made.operations, made.report, made.problems, made.faults = HISTORY, report, problems, faults
    made.costs = costs(HISTORY, faults)
    made.summaries = summaries(faults, made.costs)
    return made


def test_a_good_run_says_pass_and_a_bad_one_what_is_broken() -> None:
    good = outcome([fault(105, 200, 405)], check(HISTORY, final_read=False), [])
    assert good.ok
    assert "PASS" in page(good)
    assert facts(good)["faults"][0]["pause_ms"] == 300
    bad = outcome([], Report([Anomaly("lost-write", "t-0", "<v1> & more")], acknowledged=5), ["replicas differ"])
    assert not bad.ok
    text = page(bad)
    assert "FAIL: 2 broken promises, seed 7." in text
    assert "&lt;v1&gt; &amp; more" in text
    assert "replicas differ" in text


def test_nothing_acknowledged_is_no_pass() -> None:
    assert not outcome([], Report(), []).ok


def test_the_page_of_a_very_long_run_stays_small() -> None:
    faults = [fault(i, i + 10, i + 20) for i in range(2000)]
    report = Report([Anomaly("duplicate", "t-0", "x" * 500)] * 5000, acknowledged=1)
    assert len(page(outcome(faults, report, ["y" * 500] * 500))) < 200_000


def test_two_leaders_of_one_epoch_are_seen_in_text_and_json_logs() -> None:
    text = "2026 level=info event=leading partition=t-0 epoch=4 log_end=9 on=1"
    other = '{"event": "leading", "partition": "t-0", "epoch": 4, "on": 2}'
    assert flaws_in({1: [text, text], 2: [other.replace("4", "5")]}) == []
    [flaw] = flaws_in({1: [text], 2: [other]})
    assert "2 leaders in epoch 4" in flaw


def test_exceptions_and_broken_invariants_are_flaws() -> None:
    found = flaws_in({3: ["level=error event=request_failed rpc=Fetch", "event=x error='InvariantError: no'", "noise"]})
    assert len(found) == 2


def test_a_changed_value_is_nobody_s() -> None:
    value = value_of("w1-0000007", 100)
    assert len(value) == 100
    assert name_in(value) == "w1-0000007"
    assert name_in(value[:-1] + b"?").startswith("damaged:")
    assert name_in(None).startswith("damaged:")


def test_kinds_of_faults() -> None:
    assert kinds_of("kill, pause,kill") == ["kill", "pause"]
    assert kinds_of("none") == []
    assert kinds_of("all") == list(FAULTS)
    with pytest.raises(ValueError, match="meteor"):
        kinds_of("kill,meteor")

"""The checker itself, on planted histories: each anomaly once, beside it near misses that must not be blamed."""

import io
import random

import pytest

from ottla.verify.checker import Report, check, longest_gap_ms
from ottla.verify.history import Entry, HistoryWriter, Operation, read_history


class Story:
    """Builds a history; time goes on by one step per operation."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def _add(self, op: Operation) -> "Story":
        op.start_ns = len(self.operations) * 10
        op.end_ns = op.start_ns + 5
        self.operations.append(op)
        return self

    def send(self, value: str, offset: int | None, outcome: str = "ok", who: str = "w") -> "Story":
        return self._add(Operation(who, "send", 0, outcome=outcome, entries=[("t-0", offset, value)]))  # type: ignore[arg-type]

    def sends(self, *pairs: tuple[str, int]) -> "Story":
        return self._add(Operation("w", "send", 0, outcome="ok", entries=[("t-0", o, v) for v, o in pairs]))

    def poll(self, *pairs: tuple[str, int], who: str = "r", outcome: str = "ok", moved: bool = False) -> "Story":
        entries: list[Entry] = [("t-0", o, v) for v, o in pairs]
        return self._add(
            Operation(who, "poll", 0, outcome=outcome, entries=entries, moved=["t-0"] if moved else [])  # type: ignore[arg-type]
        )

    def final(self, *pairs: tuple[str, int]) -> "Story":
        return self.poll(*pairs, who="final-1")

    def marked(self, mark: int, *pairs: tuple[str, int], kind: str = "poll", who: str = "r") -> "Story":
        entries: list[Entry] = [("t-0", o, v) for v, o in pairs]
        return self._add(Operation(who, kind, 0, outcome="ok", entries=entries, marks={"t-0": mark}))  # type: ignore[arg-type]

    def assign(self, *kept: str, who: str = "r") -> "Story":
        return self._add(Operation(who, "assign", 0, outcome="ok", keys=list(kept)))

    def check(self, *, final_read: bool = False) -> Report:
        return check(self.operations, final_read=final_read)


def three() -> Story:
    return Story().send("a", 0).send("b", 1).send("c", 2)


PLANTED: dict[str, Story] = {
    "inconsistent-offsets": three()
    .poll(("a", 0), ("b", 1), who="r")
    .poll(("a", 0), ("x", 1), who="s")
    .send("x", None, "unknown"),
    "wrong-offset": Story().send("a", 0).send("b", 1, who="v").send("x", 1, who="u").poll(("a", 0), ("b", 1)),
    "duplicate": Story().send("a", 0).send("b", 1).poll(("a", 0), ("b", 1), ("a", 2)),
    "aborted-read": Story().send("a", None, "fail").poll(("a", 0)),
    "lost-write": three().poll(("a", 0), ("c", 2)),
    "poll-skip": three().poll(("a", 0)).poll(("c", 2)).poll(("a", 0), ("b", 1), ("c", 2), who="s"),
    "nonmonotonic-poll": three().poll(("a", 0), ("b", 1)).poll(("b", 1), ("c", 2)),
    "int-poll-skip": three().poll(("a", 0), ("c", 2)).poll(("b", 1), who="s"),
    "int-nonmonotonic-poll": three().poll(("a", 0), ("b", 1), ("a", 0), ("b", 1), ("c", 2)),
    "nonmonotonic-send": Story().send("a", 1).send("b", 0).poll(("b", 0), ("a", 1)),
    "int-nonmonotonic-send": Story().sends(("a", 1), ("b", 0)).poll(("b", 0), ("a", 1)),
    "mark-went-back": three().marked(3, kind="ends").marked(2, kind="ends"),
    "above-mark": three().marked(1, ("a", 0), ("b", 1)),
}

AT_THE_END: dict[str, Story] = {
    "unseen": three().poll(("a", 0), ("b", 1)),
    "vanished": three().poll(("a", 0), ("b", 1), ("c", 2)).final(("a", 0), ("b", 1)),
}

NEAR_MISSES: dict[str, Story] = {
    "an unknown send is read later": Story().send("a", None, "unknown").poll(("a", 0)),
    "an unknown send is never seen": Story().send("a", None, "unknown").send("b", 0, who="v").poll(("b", 0)),
    "an unknown send claims an offset that another has": Story()
    .send("a", 0, "unknown")
    .send("b", 0, who="v")
    .poll(("b", 0)),
    "a gap from a marker or compaction": Story().send("a", 0).send("b", 5).poll(("a", 0), ("b", 5)),
    "a rebalance between two polls": three().poll(("a", 0)).poll(("c", 2), moved=True).poll(("b", 1), who="s"),
    "a reader starts in the middle": three().poll(("b", 1), ("c", 2)).poll(("a", 0), who="s"),
    "an assign forgets the position": three().poll(("a", 0), ("b", 1), ("c", 2)).assign().poll(("a", 0)),
    "a failed poll does not move the position": three()
    .poll(("a", 0), outcome="fail")
    .poll(("a", 0), ("b", 1), ("c", 2)),
    "acknowledged beyond what was read": three().poll(("a", 0), ("b", 1)),
    "a failed send leaves no trace": Story().send("x", None, "fail").send("a", 0).poll(("a", 0)),
    "two writers interleave": Story().send("a", 1, who="v").send("b", 0, who="u").poll(("b", 0), ("a", 1)),
    "another process is told an older mark": three().marked(3, kind="ends").marked(2, kind="ends", who="s"),
    "a record right below the mark": three().marked(2, ("a", 0), ("b", 1)),
    "a send that was not acknowledged by all": Story().send("a", 0).poll(("a", 0)),
    "an unknown send that nobody saw has no place": Story().send("a", None, "unknown").send("b", 1).poll(("b", 1)),
    "two readers at their own pace": three().poll(("a", 0)).poll(("a", 0), ("b", 1), who="s").poll(("b", 1), ("c", 2)),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_anomaly_is_found(kind: str) -> None:
    assert kind in {anomaly.kind for anomaly in PLANTED[kind].check().anomalies}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_a_near_miss_is_not_blamed(name: str) -> None:
    assert NEAR_MISSES[name].check().anomalies == []


@pytest.mark.parametrize("kind", AT_THE_END)
def test_what_only_the_end_shows_needs_a_final_read(kind: str) -> None:
    assert AT_THE_END[kind].check().ok
    assert kind in {anomaly.kind for anomaly in AT_THE_END[kind].check(final_read=True).anomalies}


def test_a_final_read_of_everything_is_no_anomaly() -> None:
    story = three().send("x", None, "unknown").poll(("a", 0)).final(("a", 0), ("b", 1), ("c", 2))
    assert story.check(final_read=True).ok


def test_an_acknowledgement_above_the_mark_that_came_with_it() -> None:
    story = Story().marked(1, ("a", 1), kind="send", who="w")
    assert {a.kind for a in story.check().anomalies} == {"above-mark"}


def test_a_reader_that_is_told_of_a_truncation() -> None:
    story = three().poll(("a", 0), outcome="fail")
    story.operations[-1].error = "TRUNCATED: the log differs from offset 0 on"
    assert [a.kind for a in story.check().anomalies] == ["told-truncated"]


def test_a_record_that_only_a_failed_poll_saw_and_that_is_passed_over_later_is_lost() -> None:
    story = Story().send("a", 0).send("b", None, "unknown").send("c", 2)
    story.poll(("b", 1), outcome="fail", who="s").poll(("a", 0)).poll(("c", 2))
    assert "lost-write" in {a.kind for a in story.check().anomalies}


def test_sends_under_way_together_keep_the_order_of_their_starts() -> None:
    lines = [
        '{"time_ns":1,"process":"w","type":"invoke","op":"send","entries":[["t-0",null,"a"]],"number":0}',
        '{"time_ns":2,"process":"w","type":"invoke","op":"send","entries":[["t-0",null,"b"]],"number":1}',
        '{"time_ns":3,"process":"w","type":"ok","op":"send","entries":[["t-0",0,"b"]],"number":1}',
        '{"time_ns":4,"process":"w","type":"ok","op":"send","entries":[["t-0",1,"a"]],"number":0}',
    ]
    report = check(read_history(lines), final_read=False)
    assert [a.kind for a in report.anomalies] == ["nonmonotonic-send"]


def test_a_long_correct_history_has_no_anomaly_and_counts_match() -> None:
    rng = random.Random(7)
    story = Story()
    log: list[str] = []
    position = {"r": 0, "s": 0}
    for i in range(2000):
        if rng.random() < 0.5:
            stored = rng.random() < 0.9
            outcome = "ok" if stored and rng.random() < 0.9 else "unknown"
            story.send(f"v{i}", len(log) if outcome == "ok" else None, outcome)
            if stored:
                log.append(f"v{i}")
        else:
            who = rng.choice("rs")
            end = min(len(log), position[who] + rng.randint(0, 5))
            story.poll(*((log[o], o) for o in range(position[who], end)), who=who)
            position[who] = end
    story.poll(*((v, o) for o, v in enumerate(log)), who="final")
    report = story.check(final_read=True)
    assert report.ok, report.anomalies[:3]
    assert report.read == len(log)
    assert report.unknown_seen <= report.unknown


def test_a_history_survives_its_file() -> None:
    file = io.StringIO()
    writer = HistoryWriter(file)
    for op in three().poll(("a", 0), ("b", 1)).assign("t-0").operations:
        writer.invoke(op)
        writer.complete(op)
    writer.invoke(Operation("late", "send", 999, entries=[("t-0", None, "z")]))
    again = list(read_history(file.getvalue().splitlines()))
    assert [(o.process, o.kind, o.outcome, o.entries) for o in again[:5]] == [
        (o.process, o.kind, o.outcome, o.entries) for o in three().poll(("a", 0), ("b", 1)).assign("t-0").operations
    ]
    assert (again[5].outcome, again[5].entries) == ("unknown", [("t-0", None, "z")])


@pytest.mark.parametrize("line", ["{", '{"type":"ok"}', '{"process":"p","type":"ok","op":"send","time_ns":1}'])
def test_a_broken_history_names_the_line(line: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        list(read_history([line]))


def test_the_longest_gap_counts_silence_at_both_ends() -> None:
    story = three()
    assert longest_gap_ms(story.operations, start_ns=0, end_ns=2_000_000) == pytest.approx(1.999975)

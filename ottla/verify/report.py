"""What a run ends with, as JSON and as one page of HTML that needs nothing else."""

import html
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, Final

from ottla.verify.costs import Cost, buckets, percentile
from ottla.verify.nemesis import FAULTS, Fault
from ottla.verify.plots import Band, Line, lanes, plot
from ottla.verify.run import BOTH, GRPC, KAFKA, Outcome

_SLICES: Final = 320
_ROWS_MAX: Final = 100
_TEXT_MAX: Final = 250

_LANES: Final = {GRPC: "gRPC", KAFKA: "Kafka's protocol", BOTH: "gRPC and Kafka's protocol"}

_STYLE: Final = """
:root{--ink:#1c2430;--soft:#5b6676;--line:#d8dde4;--page:#fff;--card:#f5f7f9;--blue:#1f6fd6;--amber:#b45f06;--red:#c62f2f;
--green:#1a7f4b;--shade:#c62f2f18;--mend:#e3b341}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#9aa5b4;--line:#343c47;--page:#14181e;
--card:#1d232b;--blue:#6aa9ff;--amber:#f0a04b;--red:#ff7b72;--green:#56d391;--shade:#ff7b7224;--mend:#8a6d1d}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);margin:0 auto;padding:24px}
body{max-width:1000px}
h1{font-size:22px;margin:0}h2{font-size:17px;margin:28px 0 8px}p{margin:6px 0}
.verdict{border-left:6px solid var(--green);background:var(--card);padding:12px 16px;margin:14px 0;font-size:17px}
.verdict.bad{border-color:var(--red)}.soft,.unit,.tick{color:var(--soft);fill:var(--soft)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:10px;margin:14px 0}
dl div{background:var(--card);padding:8px 12px}dt{color:var(--soft);font-size:13px}dd{margin:0;font-size:20px}
figure{margin:18px 0}figcaption{margin-bottom:2px}.unit{font-size:13px}svg{width:100%;display:block}
.tick{font-size:11px}.grid{stroke:var(--line);stroke-width:1}.line{fill:none;stroke-width:1.6;stroke-linejoin:round}
.a{stroke:var(--blue)}.b{stroke:var(--amber)}.c{stroke:var(--red)}.d{stroke:var(--green)}.shade{fill:var(--shade)}
rect.fault{fill:var(--red)}rect.mend{fill:var(--mend)}
.legend{float:right;font-size:13px;color:var(--soft)}.legend span{margin-left:14px}
.legend i{display:inline-block;width:14px;height:3px;vertical-align:middle;margin-right:5px}
i.a{background:var(--blue)}i.b{background:var(--amber)}i.c{background:var(--red)}i.d{background:var(--green)}
i.fault{background:var(--red);height:9px}i.mend{background:var(--mend);height:9px}
table{border-collapse:collapse;width:100%;font-size:14px}td,th{text-align:left;padding:4px 10px 4px 0;
border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-weight:500}
td.n,th.n{text-align:right}code{background:var(--card);padding:1px 5px}.wide{overflow-x:auto}
"""


def facts(outcome: Outcome) -> dict[str, Any]:
    """Everything but the history, for programs."""
    plan, report = outcome.plan, outcome.report
    return {
        "ok": outcome.ok,
        "target": outcome.target,
        "nodes": outcome.nodes,
        "lane": plan.lane,
        "seed": plan.seed,
        "seconds": round((outcome.end_ns - outcome.start_ns) / 1e9, 1),
        "rate": plan.rate,
        "record_bytes": plan.record_bytes,
        "sent": outcome.counts.sent,
        "acknowledged": report.acknowledged,
        "unknown": report.unknown,
        "unknown_stored": report.unknown_seen,
        "failed": outcome.counts.failed,
        "read": report.read,
        "operations": len(outcome.operations),
        "checked_s": round(outcome.checked_s, 2),
        "replicas_compared": outcome.replicas_compared,
        "anomalies": [{"kind": a.kind, "partition": a.key, "detail": a.detail} for a in report.anomalies[:1000]],
        "problems": outcome.problems,
        "faults": [
            {
                "kind": fault.kind,
                "what": fault.detail,
                "nodes": fault.nodes,
                "controller": fault.controller,
                "led": fault.leads,
                "at_s": round((fault.start_ns - outcome.start_ns) / 1e9, 3),
                "held_s": round((fault.healed_ns - fault.start_ns) / 1e9, 3),
                "pause_ms": round(cost.pause_ms, 1),
                "pause_of_led_ms": _rounded(cost.led_ms),
                "pause_of_others_ms": _rounded(cost.followed_ms),
                "p99_ms": _rounded(cost.p99_ms),
                "in_sync_after_s": round(cost.whole_s, 2),
            }
            for fault, cost in zip(outcome.faults, outcome.costs, strict=True)
        ],
        "latency_ms": {
            "calm": _latencies(outcome, calm=True),
            "all": _latencies(outcome, calm=False),
        },
    }


def _latencies(outcome: Outcome, *, calm: bool) -> dict[str, float | None]:
    """Of acknowledged sends; `calm`: of those that no fault touched."""
    spans = [(fault.start_ns, fault.whole_ns) for fault in outcome.faults] if calm else []
    took = sorted(
        (op.end_ns - op.start_ns) / 1e6
        for op in outcome.operations
        if op.kind == "send"
        and op.outcome == "ok"
        and op.end_ns is not None
        and not any(op.end_ns > first and op.start_ns < last for first, last in spans)
    )
    return {name: _rounded(percentile(took, share)) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def page(outcome: Outcome) -> str:
    """One HTML page, below 200 KB however long the run was."""
    seconds = max(1.0, (outcome.end_ns - outcome.start_ns) / 1e9)
    bands = [
        band for fault, cost in zip(outcome.faults, outcome.costs, strict=True) for band in _bands(outcome, fault, cost)
    ]
    shades = list({(band.start_s, band.label): band for band in bands}.values())[-_ROWS_MAX:]
    slices = buckets(outcome.operations, outcome.start_ns, outcome.end_ns, _SLICES)
    body = [
        f"<h1>ottla verify</h1><p class=soft>{html.escape(_setting(outcome))}</p>",
        f'<div class="verdict{"" if outcome.ok else " bad"}">{html.escape(verdict(outcome))}</div>',
        _numbers(outcome),
        lanes([f"node {i + 1}" for i in range(outcome.nodes)], seconds, bands[-2 * _ROWS_MAX :]),
        plot(
            "Throughput",
            "records per second",
            seconds,
            [
                Line("acknowledged", "a", [s.acknowledged for s in slices]),
                Line("read, all readers", "d", [s.read for s in slices]),
                Line("failed or unknown", "c", [s.failed or None for s in slices]),
            ],
            shades,
            log=False,
        ),
        plot(
            "Latency of acknowledged sends",
            "ms, logarithmic, by the time of the acknowledgement",
            seconds,
            [
                Line("longest", "c", [s.max_ms for s in slices]),
                Line("99 %", "b", [s.p99_ms for s in slices]),
                Line("median", "a", [s.p50_ms for s in slices]),
            ],
            shades,
            log=True,
        ),
        *_findings(outcome),
        "<h2>What faults cost</h2>",
        "<p class=soft>Pause: the longest time that any partition went without an acknowledgement, from the fault "
        "until every replica was in sync again.</p>",
        _table(
            ("fault", "times", "of the controller", "pause, median", "99 %", "longest", "in sync again, at most"),
            (
                (
                    s.kind,
                    s.count,
                    s.of_controllers,
                    *(f"{ms:.0f} ms" for ms in (s.median_ms, s.p99_ms, s.worst_ms)),
                    f"{s.whole_s:.1f} s",
                )
                for s in outcome.summaries
            ),
        ),
        "<h2>One by one</h2>",
        _table(
            ("at", "what", "controller", "pause", "in sync after"),
            (
                (
                    f"{(fault.start_ns - outcome.start_ns) / 1e9:.1f} s",
                    fault.detail,
                    "yes" if fault.controller else "",
                    f"{cost.pause_ms:.0f} ms",
                    f"{cost.whole_s:.1f} s",
                )
                for fault, cost in list(zip(outcome.faults, outcome.costs, strict=True))[:_ROWS_MAX]
            ),
        ),
        "<h2>How it was judged</h2>",
        "<p>Every send and every read of every client is an operation with a start, an end and an outcome: done, "
        "certainly not done, or unknown. A send of unknown outcome may be stored or not; an acknowledged one must be, "
        "once, at its offset, in the order of its producer, and nobody may have read anything that is not there at the "
        "end. No client may see a high watermark go back. At the end all of the log is read once more, and all "
        "replicas are compared byte by byte.</p>",
        f"<p>Again: <code>{html.escape(command(outcome))}</code></p>",
        "<p class=soft>Faults: " + "; ".join(f"{k}: {html.escape(FAULTS[k])}" for k in outcome.plan.kinds) + ".</p>",
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>ottla verify: {'pass' if outcome.ok else 'FAIL'}</title><style>{_STYLE}</style>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def command(outcome: Outcome) -> str:
    """What runs the same again."""
    plan = outcome.plan
    return (
        f"ottla verify --target {outcome.target} --nodes {outcome.nodes} --seconds {plan.seconds:g} "
        f"--faults {','.join(plan.kinds) or 'none'} --seed {plan.seed} --rate {plan.rate:g} "
        f"--record-bytes {plan.record_bytes} --partitions {plan.partitions} --hold {plan.hold_s:g}"
    )


def verdict(outcome: Outcome) -> str:
    """The last line."""
    if outcome.ok:
        return "PASS: every acknowledged record is there, once and in order, in every replica."
    if not outcome.report.acknowledged:
        return "FAIL: nothing was acknowledged, so nothing could be checked."
    broken = sum(outcome.anomalies.values()) + len(outcome.problems)
    return f"FAIL: {broken} broken {'promise' if broken == 1 else 'promises'}, seed {outcome.plan.seed}."


def _setting(outcome: Outcome) -> str:
    plan = outcome.plan
    kind = {"local": "processes", "compose": "containers"}[outcome.target]
    return (
        f"{outcome.nodes} nodes as {kind}, {plan.partitions} partitions, {min(3, outcome.nodes)} replicas; "
        f"{plan.rate:g} records of {plan.record_bytes} bytes per second, acks=all, 2 producers, 2 readers, "
        f"by {_LANES[plan.lane]}; seed {plan.seed}; Ottla {version('ottla')}, Python {platform.python_version()}, "
        f"{platform.system()}"
    )


def _numbers(outcome: Outcome) -> str:
    report = outcome.report
    items: list[tuple[str, object]] = [
        ("acknowledged", report.acknowledged),
        ("lost", outcome.anomalies["lost-write"] + outcome.anomalies["unseen"] + outcome.anomalies["vanished"]),
        ("stored twice", outcome.anomalies["duplicate"]),
        ("unknown outcome", report.unknown),
        ("of them stored", report.unknown_seen),
        ("faults", len(outcome.faults)),
        ("operations checked", len(outcome.operations)),
        ("replicas compared", outcome.replicas_compared),
    ]
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value:,}</dd></div>" for name, value in items) + "</dl>"


def _findings(outcome: Outcome) -> Iterable[str]:
    if outcome.ok:
        return
    yield "<h2>What is broken</h2>"
    rows = [(problem[:_TEXT_MAX], "", "") for problem in outcome.problems[:_ROWS_MAX]]
    rows += [(a.kind, a.key, a.detail[:_TEXT_MAX]) for a in outcome.report.anomalies[:_ROWS_MAX]]
    yield _table(("what", "partition", "facts"), rows)
    if (left := len(outcome.report.anomalies) - _ROWS_MAX) > 0:
        yield f"<p>And {left:,} more; the history has all of them.</p>"


def _bands(outcome: Outcome, fault: Fault, cost: Cost) -> Iterable[Band]:
    label = f"{fault.detail}: pause {cost.pause_ms:.0f} ms"
    times = [(at - outcome.start_ns) / 1e9 for at in (fault.start_ns, fault.healed_ns, fault.whole_ns)]
    return (Band(node - 1, label, *times) for node in fault.nodes)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{cells}</tr>{body}</table></div>'

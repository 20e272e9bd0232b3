"""`ottla verify`: breaks a cluster of its own under load and judges whether it kept its promises."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import Json

if TYPE_CHECKING:
    from ottla.verify.run import Outcome, Plan
    from ottla.verify.target import Target


def verify(
    nodes: Annotated[int, typed.Option("--nodes", help="How many nodes: 1, or 3 to 7.")] = 3,
    seconds: Annotated[float, typed.Option("--seconds", help="For how long things break.", metavar="N")] = 60,
    faults: Annotated[
        str, typed.Option("--faults", help="Which, comma-separated; `list` explains them.", metavar="KIND,...|all|none")
    ] = "all",
    target: Annotated[
        str, typed.Option("--target", help="Processes, or containers.", metavar="local|compose")
    ] = "local",
    report: Annotated[
        Path | None, typed.Option("--report", help="Write a page with plots.", metavar="FILE.html")
    ] = None,
    history: Annotated[
        Path | None, typed.Option("--history", help="Keep what clients did and saw.", metavar="FILE.jsonl")
    ] = None,
    rate: Annotated[float, typed.Option("--rate", help="Records per second.", metavar="N")] = 500,
    record_bytes: Annotated[int, typed.Option("--record-bytes", help="Size of a value.", metavar="N")] = 200,
    partitions: Annotated[int, typed.Option("--partitions", help="Of the topic that is written to.")] = 6,
    hold: Annotated[
        float, typed.Option("--hold", help="How long a pause, a cut or a full disk lasts.", metavar="S")
    ] = 4.5,
    lane: Annotated[
        str,
        typed.Option("--lane", help="By which door clients write and read.", metavar="grpc|kafka|both"),
    ] = "grpc",
    seed: Annotated[int | None, typed.Option("--seed", help="Repeats an order of faults and victims.")] = None,
    directory: Annotated[
        Path | None, typed.Option("--dir", help="Keep the nodes' data and logs here.", metavar="DIR")
    ] = None,
    compose_file: Annotated[
        Path, typed.Option("--compose-file", help="The nodes of `--target compose`.", metavar="FILE")
    ] = Path("deploy/compose.yaml"),
    as_json: Json = False,
) -> None:
    """Break a cluster under load, and check that nothing was lost.

    Starts nodes of its own, writes and reads, kills, freezes, cuts off, fills disks; waits after each fault until the
    cluster is whole, reads everything at the end, and judges the history of all clients. Exit code 0: every promise was
    kept. 1: one was broken, or the run could not be carried out.

    \b
    Examples:
      ottla verify --seconds 30 --report report.html
      ottla verify --faults kill,pause --seed 7
      ottla verify --lane both
      ottla verify --faults list
    """
    if faults == "list":
        _print_faults(as_json)
        return
    from ottla.cli.local import end_as_with_ctrl_c

    plan = _plan(nodes, seconds, faults, rate, record_bytes, partitions, hold, seed, lane)
    end_as_with_ctrl_c()
    try:
        with _scratch(directory) as (scratch, keep):
            outcome = _run(_target(target, nodes, scratch, compose_file, plan), plan, scratch, as_json)
            _keep(outcome, scratch, report, history)
            (_print_json if as_json else _print_words)(outcome, report)
            if not outcome.ok:
                keep()
                raise click.exceptions.Exit(1)
    except KeyboardInterrupt:
        print("Stopped; nothing of it runs any more.", file=sys.stderr)
        raise click.exceptions.Exit(130) from None


def _plan(
    nodes: int,
    seconds: float,
    faults: str,
    rate: float,
    size: int,
    partitions: int,
    hold: float,
    seed: int | None,
    lane: str,
) -> "Plan":
    import random

    from ottla.verify.run import GRPC, LANES, Plan, kinds_of

    def refuse(what: str, next_step: str) -> Failure:
        return Failure("INVALID_CONFIG", what, next_step)

    if nodes != 1 and not 3 <= nodes <= 7:
        raise refuse(f"--nodes {nodes} makes no quorum that outlives a fault", "take 1, or 3 to 7")
    if not 1 <= seconds <= 86_400:
        raise refuse(f"--seconds {seconds:g} is out of bounds", "take 1 to 86400")
    if not 1 <= rate <= 50_000:
        raise refuse(f"--rate {rate:g} is out of bounds", "take 1 to 50000")
    if not 32 <= size <= 100_000:
        raise refuse(f"--record-bytes {size} is out of bounds", "take 32 to 100000")
    if not 1 <= partitions <= 100:
        raise refuse(f"--partitions {partitions} is out of bounds", "take 1 to 100")
    if not 0.1 <= hold <= 600:
        raise refuse(f"--hold {hold:g} is out of bounds", "take 0.1 to 600 seconds")
    try:
        kinds = kinds_of(faults)
    except ValueError as error:
        raise refuse(f"--faults: {error}", "`ottla verify --faults list` explains them") from None
    if lane not in LANES:
        raise refuse(f"--lane {lane} is not known", f"take {', '.join(LANES)}")
    if lane != GRPC:
        from ottla.verify.kafka_door import library

        library()  # says what to install before anything starts
    chosen = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    return Plan(seconds, kinds, chosen, rate, size, partitions, hold, lane)


@contextmanager
def _scratch(directory: Path | None) -> Iterator[tuple[Path, Any]]:
    """Where the nodes live. Goes away with a good run, unless the user named it."""
    import shutil
    import tempfile

    if directory is not None:
        if directory.exists() and any(directory.iterdir()):
            raise Failure("INVALID_CONFIG", f"--dir {directory} is not empty", "name one that is, or does not exist")
        directory.mkdir(parents=True, exist_ok=True)
        yield directory, lambda: None
        return
    kept: list[Path] = []
    made = Path(tempfile.mkdtemp(prefix="ottla-verify-"))
    try:
        yield made, lambda: kept.append(made)
    finally:
        if kept:
            print(f"The nodes' data and logs and the history are in {made}.", file=sys.stderr)
        else:
            shutil.rmtree(made, ignore_errors=True)


def _target(kind: str, nodes: int, scratch: Path, compose_file: Path, plan: "Plan") -> "Target":
    if kind == "local":
        from ottla.verify.local import LocalTarget

        proxied = bool({"cut", "one-way", "link"} & set(plan.kinds))
        return LocalTarget(nodes, scratch, proxied=proxied, kafka=plan.lane != "grpc")
    if kind == "compose":
        from ottla.verify.compose import ComposeTarget

        return ComposeTarget(compose_file, scratch)
    raise Failure("INVALID_CONFIG", f"--target {kind} is not known", "take local or compose")


def _run(target: "Target", plan: "Plan", scratch: Path, as_json: bool) -> "Outcome":
    """Starts, runs and closes. Whatever happens, no process and no container is left."""
    from dataclasses import replace

    from ottla.cli.connect import run as run_async
    from ottla.verify import run as verifying
    from ottla.verify.screen import Screen

    try:
        kinds, left_out = verifying.possible(plan.kinds, target, len(target.nodes))
        plan = replace(plan, kinds=kinds)
        with Screen(plan.seconds) as screen, (scratch / "history.jsonl").open("w") as file:
            screen.say(
                f"{len(target.nodes)} {target.name} nodes, seed {plan.seed}; faults: {', '.join(kinds) or 'none'}"
            )
            for kind, why in left_out.items():
                screen.say(f"left out: {kind}, for {why}")
            target.start()
            screen.say(f"the nodes are ready; their logs: {target.logs}")
            return run_async(verifying.run(target, plan, file, screen.say, screen.show))
    finally:
        target.close()


def _keep(outcome: "Outcome", scratch: Path, report: Path | None, history: Path | None) -> None:
    import shutil

    if report is not None:
        from ottla.verify.report import page

        report.write_text(page(outcome), encoding="utf-8")
    if history is not None:
        shutil.copyfile(scratch / "history.jsonl", history)


def _print_words(outcome: "Outcome", report: Path | None) -> None:
    from ottla.cli.output import print_table
    from ottla.verify.report import verdict

    if outcome.summaries:
        rows = [
            (
                s.kind,
                s.count,
                s.of_controllers,
                *(f"{ms:.0f} ms" for ms in (s.median_ms, s.p99_ms, s.worst_ms)),
                f"{s.whole_s:.1f} s",
            )
            for s in outcome.summaries
        ]
        head = ("FAULT", "TIMES", "CONTROLLER", "PAUSE MEDIAN", "P99", "WORST", "IN SYNC AGAIN")
        print_table(head, rows)
        print()
    counts, found = outcome.counts, outcome.report
    print(f"sent          {counts.sent:>9,}")
    print(f"acknowledged  {found.acknowledged:>9,} by all in-sync replicas")
    print(f"unknown       {found.unknown:>9,} of which {found.unknown_seen} turned out to be stored")
    print(f"failed        {counts.failed:>9,} certainly not stored")
    print(f"read          {found.read:>9,} different records, {counts.read:,} in all")
    print(f"checked       {len(outcome.operations):>9,} operations in {outcome.checked_s:.1f} s")
    print(f"replicas      {outcome.replicas_compared:>9,} compared byte by byte")
    for kind, count in sorted(outcome.anomalies.items()):
        first = next(a for a in found.anomalies if a.kind == kind)
        print(f"ANOMALY       {kind}: {count}, first in {first.key}: {first.detail}")
    for problem in outcome.problems[:20]:
        print(f"PROBLEM       {problem}")
    if report is not None:
        print(f"report        {report}")
    print(verdict(outcome))


def _print_json(outcome: "Outcome", report: Path | None) -> None:
    from ottla.cli.output import print_json
    from ottla.verify.report import facts

    print_json(facts(outcome))


def _print_faults(as_json: bool) -> None:
    from ottla.cli.output import print_json, print_table
    from ottla.verify.nemesis import FAULTS

    if as_json:
        print_json(FAULTS)
    else:
        print_table(("FAULT", "WHAT IT IS"), list(FAULTS.items()))

"""Runs the conformance table (`cases.toml`) against the example programs, through their command lines."""

import os
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ottla.protocol.partitioner import partition_for_key
from ottla.v1 import group_pb2, group_pb2_grpc
from tests.cluster.harness import ROOT, LocalCluster

HERE: Final = Path(__file__).parent
CASES: Final[dict[str, dict[str, Any]]] = {
    case["name"]: case for case in tomllib.loads((HERE / "cases.toml").read_text())["case"]
}
PROGRAMS: Final[dict[str, dict[str, Any]]] = tomllib.loads((HERE / "programs.toml").read_text())
PATIENCE_S: Final = 60.0
READY_S: Final = 120.0
BUILDERS: Final = 2
STAMPS: Final = ROOT / "build" / "languages"
OFFSETS_TOPIC: Final = "__consumer_offsets"
TALKS_TO: Final = 1
"""The one node whose address the programs know."""


class NotInstalled(Exception):
    """What this machine lacks for a language."""


def missing(language: str) -> list[str]:
    """Executables and libraries that this machine lacks for a language."""
    program = PROGRAMS[language]
    lacks = [name for name in program["needs"] if shutil.which(name) is None]
    if not lacks:
        lacks = [what for what, look in program.get("finds", {}).items() if _run(language, look).returncode != 0]
    return lacks


def build(language: str) -> None:
    """Generates the stubs and builds the program. Raises NotInstalled, or AssertionError with the tools' output."""
    if lacks := missing(language):
        raise NotInstalled(f"{', '.join(lacks)} not found (deploy/install-toolchains gets it on Debian)")
    command = PROGRAMS[language].get("build")
    if command is not None and not is_built(language):
        built = _run(language, command)
        assert built.returncode == 0, f"{language} does not build:\n{built.stdout}{built.stderr}"
        STAMPS.mkdir(parents=True, exist_ok=True)
        (STAMPS / PROGRAMS[language]["folder"]).touch()


def is_built(language: str) -> bool:
    """Whether it was built since its sources and the contract were last changed."""
    folder = PROGRAMS[language]["folder"]
    stamp = STAMPS / folder
    listing = ["git", "ls-files", "-z", "proto", f"examples/{folder}"]
    sources = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    newest = max((ROOT / name).stat().st_mtime for name in sources if name)
    return stamp.exists() and stamp.stat().st_mtime > newest


def build_all(languages: Sequence[str]) -> dict[str, Future[None]]:
    """Builds before the first case runs: compilers take every core, and cases wait for time-outs."""
    with ThreadPoolExecutor(BUILDERS) as pool:
        return {language: pool.submit(build, language) for language in languages}


def next_of(language: str, usable: Sequence[str]) -> str:
    """Who shares a group with this language: the next one that is here, so that every two neighbours meet."""
    return usable[(usable.index(language) + 1) % len(usable)]


def _run(language: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_filled(part, language) for part in command],
        cwd=ROOT / "examples" / PROGRAMS[language]["folder"],
        capture_output=True,
        text=True,
        check=False,
    )


def _filled(part: str, language: str) -> str:
    return part.format(folder=ROOT / "examples" / PROGRAMS[language]["folder"], python=sys.executable)


def command_of(language: str) -> list[str]:
    return [_filled(part, language) for part in PROGRAMS[language]["run"]]


class Started:
    """A program that goes on running; what it prints is gathered as it comes."""

    def __init__(self, command: Sequence[str]) -> None:
        self.lines: list[str] = []
        self.errors = ""
        self.fed = 0
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._readers = [threading.Thread(target=self._gather), threading.Thread(target=self._gather_errors)]
        for reader in self._readers:
            reader.start()

    def _gather(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip("\n") for line in self.process.stdout)

    def _gather_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    def feed(self, count: int) -> None:
        assert self.process.stdin is not None
        for _ in range(count):
            self.process.stdin.write(f"key-{self.fed % 7}\tvalue-{self.fed}\n")
            self.process.stdin.flush()
            self.fed += 1

    def end(self, *, kill: bool) -> int:
        if kill:
            self.process.kill()
        elif self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code


def environment() -> Mapping[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "RUBYOPT": "-W0"}


@dataclass
class Run:
    """One case in one language."""

    cluster: LocalCluster
    language: str
    other: str
    topic: str
    started: dict[str, Started] = field(default_factory=dict)
    produced: int = 0
    group: str = ""

    def carry_out(self, case: Mapping[str, Any]) -> None:
        self.cluster.create_topic(self.topic, case.get("partitions", 1), 3)
        self.group = f"{self.topic}-group"
        while case.get("coordinated_elsewhere") and self._coordinator() == TALKS_TO:
            self.group += "-"
        try:
            for step in case["steps"]:
                self._step(step)
        finally:
            for program in self.started.values():
                program.end(kill=True)

    def _step(self, step: Mapping[str, Any]) -> None:
        match step:
            case {"smallest": lines}:
                self._run_smallest(lines)
            case {"start": name, "run": arguments}:
                language = self.other if step.get("other") else self.language
                self.started[name] = Started(self._command(language, arguments))
            case {"run": arguments}:
                self._run_to_end(arguments, step)
            case {"sleep": seconds}:
                time.sleep(seconds)
            case {"produce": count}:
                lines = [f"key-{i}\tvalue-{i}" for i in range(self.produced, self.produced + count)]
                self.produced += count
                self._run_to_end(["produce", "{topic}"], {"stdin": lines, "lines": count})
            case {"feed": name, "count": count}:
                program = self.started[name]
                program.feed(count)
                self._until(lambda: len(program.lines) >= program.fed, f"{program.fed} acknowledgements of {name}")
            case {"kill": name}:
                self.started[name].end(kill=True)
            case {"kill_leader": partition}:
                self._kill_leader(partition)
            case {"stop_coordinator": True}:
                self._stop_coordinator()
            case {"read": names, "lines": count}:
                self._until(lambda: len(self._read(names)) >= count, f"{count} lines of {names}")
                assert len(self._read(names)) == count
                if step.get("each"):
                    assert all(self.started[name].lines for name in names)
            case {"owners": counts}:
                self._until(lambda: self._owners() == counts, f"members that own {counts}")
            case {"finish": names}:
                for name in names:
                    assert self.started[name].end(kill=False) == 0, self.started[name].errors
                    if "stdout" in step:
                        assert self.started[name].lines == step["stdout"]
            case {"acknowledged": name}:
                self._check_acknowledged(self.started[name])
            case _:
                raise ValueError(f"not a step: {step}")

    def _command(self, language: str, arguments: Sequence[str]) -> list[str]:
        filled = [a.format(topic=self.topic, group=self.group) for a in arguments]
        return [*command_of(language), "--address", self.cluster[TALKS_TO].address(), *filled]

    def _run_smallest(self, lines: Sequence[str]) -> None:
        command = [_filled(part, self.language) for part in PROGRAMS[self.language]["smallest"]]
        done = subprocess.run(
            [*command, self.cluster[TALKS_TO].address(), self.topic],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == lines

    def _run_to_end(self, arguments: Sequence[str], step: Mapping[str, Any]) -> None:
        lines = step.get("stdin", [])
        if repeat := step.get("stdin_repeat"):
            lines = [repeat[0] + repeat[1] * repeat[2]]
        done = subprocess.run(
            self._command(self.language, arguments),
            cwd=ROOT,
            env=environment(),
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if "fails" in step:
            assert done.returncode != 0
            assert step["fails"] in done.stderr
            return
        assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"
        printed = done.stdout.splitlines()
        if repeat := step.get("stdout_repeat"):
            assert printed == [repeat[0] + repeat[1] * repeat[2]], f"{len(done.stdout)} characters printed"
        if "lines" in step:
            assert len(printed) == step["lines"], f"{printed[:20]} {done.stderr}"
        if "stdout" in step:
            wanted = [self._partitions(line) for line in step["stdout"]]
            assert len(printed) == len(wanted), printed
            for got, want in zip(printed, wanted, strict=True):
                assert got.startswith(want.removesuffix("*")) if want.endswith("*") else got == want

    def _partitions(self, line: str) -> str:
        """`{p:KEY}` is the partition that murmur2 gives the key among six."""
        if not line.startswith("{p:"):
            return line
        key, _, rest = line.removeprefix("{p:").partition("}")
        return f"{partition_for_key(key.encode(), 6)}{rest}"

    def _read(self, names: Sequence[str]) -> set[str]:
        return {line for name in names for line in list(self.started[name].lines)}

    def _owners(self) -> list[int]:
        request = group_pb2.DescribeGroupsRequest(group_ids=[self.group])
        with self.cluster.channel(TALKS_TO) as channel:
            described = group_pb2_grpc.GroupServiceStub(channel).DescribeGroups(request, timeout=10).groups[0]
        return sorted(len(member.owned) for member in described.members if described.state == "stable")

    def _coordinator(self) -> int:
        """The node that leads the group's partition of the offsets topic, which is made with the first group."""
        partitions = self.cluster.metadata(TALKS_TO, OFFSETS_TOPIC).topics[0].partitions
        return partitions[partition_for_key(self.group.encode(), len(partitions))].leader_id

    def _stop_coordinator(self) -> None:
        """A controlled stop of the group's coordinator, which is not the program's own node, and a start."""
        node = self.cluster[self._coordinator()]
        node.stop()
        node.start()

    def _kill_leader(self, number: int) -> None:
        partition = self.cluster.metadata(TALKS_TO, self.topic).topics[0].partitions[number]
        if partition.leader_id == TALKS_TO:
            # The program's node must live: its partition moves with a controlled stop and start first.
            self.cluster[TALKS_TO].stop()
            self.cluster[TALKS_TO].start()
            self.cluster.wait_ready(timeout_s=READY_S)
            partition = self.cluster.metadata(TALKS_TO, self.topic).topics[0].partitions[number]
        victim = partition.leader_id
        assert victim != TALKS_TO
        self.cluster[victim].kill()
        self.cluster[victim].start()

    def _check_acknowledged(self, program: Started) -> None:
        program.end(kill=False)
        assert len(program.lines) == program.fed, f"{len(program.lines)} of {program.fed}: {program.errors}"
        offsets = {int(line.split("\t")[1]) for line in program.lines}
        read = subprocess.run(
            self._command(self.language, ["consume", "{topic}", "0", "0", str(max(offsets) + 1)]),
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        found = [line.split("\t") for line in read.stdout.splitlines()]
        assert offsets <= {int(offset) for offset, _, _ in found}
        assert {f"value-{i}" for i in range(program.fed)} <= {value for _, _, value in found}

    def _until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            states = {n: (p.process.poll(), len(p.lines), p.errors[-500:]) for n, p in self.started.items()}
            assert time.monotonic() < deadline, f"no {what} in time: {states}"
            time.sleep(0.05)


def main() -> None:
    """Builds what can be built here, so that the cases need not wait for it."""
    for language, built in build_all(list(PROGRAMS)).items():
        print(f"{language}: {built.exception() or 'built'}", flush=True)


if __name__ == "__main__":
    main()

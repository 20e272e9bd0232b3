"""What is measured of which system. One case runs in a client process of its own: `python -m bench.cases FILE`."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import load
from bench.load import KIB, Case
from bench.process import Running, free_ports, python, run, spawn, stop

WINDOWS = {16 * KIB: 16, 128 * KIB: 16, 1024 * KIB: 4}
NATS_RECORD_WINDOW = 1000


@dataclass
class Outcome:
    """What one run of a case gave. CPU in milliseconds for each megabyte (10^6 bytes) of records, by role."""

    mb_per_s: float
    records_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_mb: dict[str, float]


def outcome(case: Case, measured: load.Measured) -> Outcome:
    """Counts a measurement in records."""
    records = measured.batches * case.records_per_batch
    megabytes = records * case.record_bytes / 1e6
    if not megabytes:
        raise RuntimeError(f"{case}: nothing was acknowledged")
    ordered = sorted(measured.latencies_ms)
    return Outcome(
        mb_per_s=megabytes / measured.seconds,
        records_per_s=records / measured.seconds,
        p50_ms=ordered[len(ordered) // 2],
        p99_ms=ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
        cpu_ms_per_mb={role: seconds * 1000 / megabytes for role, seconds in measured.cpu_s.items()},
    )


def start_pipeline(module: str, followers: int, directory: Path) -> Running:
    """Starts a leader and its followers of one of the ceilings."""
    [port] = free_ports(1)
    log = directory / "log"
    processes = [spawn(python(module, "leader", port, followers, directory / "leader"), log)]
    processes += [
        spawn(python(module, "follower", port, number, directory / f"follower-{number}"), log)
        for number in range(followers)
    ]
    roles = {"leader": [processes[0].pid], "followers": [process.pid for process in processes[1:]]}
    return Running([port], roles, processes)


async def start(system: str, directory: Path) -> Running:
    """Starts a system with fresh files below `directory`."""
    if system == "grpc":
        return start_pipeline("bench.grpc_pipeline", 2, directory)
    if system == "grpc-ack":
        return start_pipeline("bench.grpc_pipeline", 0, directory)
    if system == "tcp":
        return start_pipeline("bench.tcp_pipeline", 2, directory)
    if system == "nats":
        from bench import nats_jetstream

        ports, processes = nats_jetstream.start(directory)
        running = Running(ports, {}, processes)
        try:
            leader = await nats_jetstream.create_stream(ports)
        except BaseException:
            stop(processes)
            raise
        # The client dials the stream's leader first, as a client that knows its way would.
        running.ports = [ports[leader], *ports[:leader], *ports[leader + 1 :]]
        running.roles = {
            "leader": [processes[leader].pid],
            "followers": [process.pid for number, process in enumerate(processes) if number != leader],
        }
        return running
    from bench import ottla_cluster

    return await ottla_cluster.start(directory)


async def open_link(case: Case, ports: list[int]) -> load.Link:
    if case.system in ("grpc", "grpc-ack"):
        from bench.grpc_pipeline import GrpcLink

        return GrpcLink(ports[0])
    if case.system == "tcp":
        from bench.tcp_pipeline import TcpLink

        return await TcpLink.open(ports[0])
    if case.system == "nats":
        from bench.nats_jetstream import NatsEndToEnd, NatsLink, NatsPublish

        links = {"end_to_end": NatsEndToEnd, "publish": NatsPublish}
        return await links.get(case.kind, NatsLink).open(ports)
    if case.kind == "end_to_end":
        from bench.ottla_client import EndToEnd

        return await EndToEnd.open(ports)
    from bench.ottla_cluster import OttlaLink

    return await OttlaLink.open(ports, aside=1 if case.system == "ottla-forwarded" else 0)


def batches(case: Case) -> list[bytes]:
    """A few batches of incompressible records, sent in turn."""
    values = [[os.urandom(case.record_bytes) for _ in range(case.records_per_batch)] for _ in range(8)]
    if case.system.startswith("ottla") and case.kind != "end_to_end":
        from bench.ottla_cluster import requests

        return requests(values)
    return [b"".join(each) for each in values]


async def measure(
    case: Case, ports: list[int], roles: Mapping[str, Sequence[int]], warm_s: float, seconds: float
) -> Outcome:
    """Runs one case against a started system."""
    if case.system == "ottla" and case.kind == "records":
        from bench.ottla_client import produce_records

        return outcome(case, await produce_records(ports, case.record_bytes, case.batch_bytes, roles, warm_s, seconds))
    link = await open_link(case, ports)
    if case.kind in ("latency", "end_to_end"):
        return outcome(case, await load.latency(link, batches(case), roles, warm_s, seconds))
    window = WINDOWS[case.batch_bytes] if case.kind == "batches" else NATS_RECORD_WINDOW
    return outcome(case, await load.throughput(link, batches(case), window, roles, warm_s, seconds))


def run_case(case: Case, running: Running, directory: Path, warm_s: float, seconds: float) -> Outcome:
    """Runs one case in a client process of its own."""
    order = {"case": asdict(case), "ports": running.ports, "roles": running.roles, "warm_s": warm_s, "seconds": seconds}
    (directory / "order.json").write_text(json.dumps(order))
    client = spawn(python("bench.cases", directory / "order.json"), directory / "log", stdout=subprocess.PIPE)
    try:
        answer, _ = client.communicate(timeout=warm_s + seconds + 60)
    finally:
        if client.poll() is None:
            client.kill()
            client.wait()
    if client.returncode != 0:
        raise RuntimeError(
            f"{case}: the client ended with {client.returncode}:\n{(directory / 'log').read_text()[-4000:]}"
        )
    return Outcome(**json.loads(answer))


async def client_main(order: dict[str, Any]) -> None:
    found = await measure(Case(**order["case"]), order["ports"], order["roles"], order["warm_s"], order["seconds"])
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    run(client_main(json.loads(Path(sys.argv[1]).read_text())))

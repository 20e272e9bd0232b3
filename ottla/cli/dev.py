"""`ottla dev`: a cluster on this machine, for trying things out."""

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Json

if TYPE_CHECKING:
    from ottla.cli.local import LocalCluster

_START_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.2
PROFILE: Final = "dev-secure"
_CLIENT: Final = "admin"
_DAYS: Final = 365
# Whoever tries things out wants to see keys spread, and clients of Kafka expect topics to be made by their names.
_SETTINGS: Final = {"num.partitions": 3, "auto.create.topics.enable": True}


def dev(
    nodes: Annotated[int, typed.Option("--nodes", help="How many nodes, each a process of its own.")] = 1,
    data_dir: Annotated[
        Path, typed.Option("--data-dir", help="Where configs, logs and data go.", metavar="DIR")
    ] = Path("ottla-data"),
    base_port: Annotated[
        int | None,
        typed.Option(
            "--base-port",
            help="Node i serves gRPC on this port plus i - 1; 9192, or what DIR had.",
            metavar="PORT",
        ),
    ] = None,
    kafka_port: Annotated[
        int | None,
        typed.Option(
            "--kafka-port",
            help="Node i serves clients of Apache Kafka on this port plus i - 1, 0: nowhere; 100 below gRPC's, or "
            "what DIR had.",
            metavar="PORT",
        ),
    ] = None,
    secure: Annotated[
        bool, typed.Option("--secure", help="With TLS: makes certificates, and a profile for the commands.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start a cluster on this machine and run it until Ctrl-C.

    \b
    Examples:
      ottla dev --nodes 3
      ottla dev --base-port 19092 --data-dir /tmp/try
      ottla dev --nodes 3 --kafka-port 0
      ottla dev --secure
    """
    from ottla.cli.local import LocalCluster, end_as_with_ctrl_c
    from ottla.cli.output import tell

    end_as_with_ctrl_c()
    try:
        certificates = _certificates(data_dir / "secure", nodes) if secure else None
        with LocalCluster(
            nodes, data_dir, base_port, _SETTINGS, certificates=certificates, kafka_port=kafka_port
        ) as cluster:
            started = time.monotonic()
            before = cluster.port_before()
            cluster.start()
            now = cluster.nodes[0].port
            if before not in (None, now):
                tell(
                    f"{data_dir} holds a cluster that ran at base port {before}: it moves to {now} with all its "
                    f"topics. Clients that know it by its old addresses need the new ones."
                )
            tell(f"Starting {nodes} {'node' if nodes == 1 else 'nodes'}, data in {data_dir} ...")
            cluster.wait_ready(_START_S)
            with contextlib.suppress(OSError):  # nobody reads it: no reason to end
                command = "ottla" if certificates is None else _name_it(cluster, certificates)
                _print_json(cluster, certificates) if as_json else _print_words(
                    cluster, time.monotonic() - started, command
                )
            _watch(cluster)
    except KeyboardInterrupt:
        tell("Stopped.")


def _certificates(directory: Path, nodes: int) -> Path:
    """Makes what is missing or not good any more."""
    from ottla.secure.issue import Authority, asked_client, asked_node
    from ottla.secure.judge import examine, utc_now
    from ottla.secure.names import CertificateError, Files

    try:
        has_ca = (directory / "ca").is_dir()
        authority = Authority.open(directory) if has_ca else Authority.make(directory, None, replace=False)
        for asked in [*(asked_node(i, []) for i in range(1, nodes + 1)), asked_client(_CLIENT)]:
            holder = examine(Files.within(authority.home(asked)), utc_now())
            if holder.wrong or holder.warnings:
                authority.issue(asked, _DAYS, replace=True)
    except CertificateError as error:
        raise Failure("INVALID_CERTIFICATE", error.message, error.next_step) from None
    return directory


def _name_it(cluster: "LocalCluster", certificates: Path) -> str:
    """A profile for it, in use at once where there is none in use. Returns how commands begin."""
    from ottla.cli.profiles import Profiles, files_in, who_wins

    profiles = Profiles()
    profiles.bootstraps[PROFILE] = cluster.bootstrap
    profiles.tls[PROFILE] = files_in(certificates / _CLIENT)
    profiles.in_use = profiles.in_use or PROFILE
    profiles.save()
    in_use = profiles.in_use == PROFILE and who_wins() is None
    return "ottla" if in_use else f"ottla --profile {PROFILE}"


def _print_words(cluster: "LocalCluster", seconds: float, command: str) -> None:
    for node in cluster.nodes:
        print(f"node {node.node_id}: {node.address}, process {node.process.pid if node.process else '-'}")
        print(f"  config {node.config}, log {node.log}")
        print(f"  start it again by hand: {node.command}")
    first = cluster.nodes[0].address
    at = "" if first == DEFAULT_BOOTSTRAP or cluster.is_secure else f" --bootstrap {first}"
    if cluster.is_secure:
        print(f"With TLS: profile {PROFILE} has the addresses and the certificate for the commands.")
    print(
        f"Ready after {seconds:.1f} s. Try, in another terminal:\n"
        f"  {command} topic create hello --partitions 3{at}\n"
        f"  echo 'hello, world' | {command} produce hello{at}\n"
        f"  {command} consume hello --from-beginning --max-messages 1{at}\n"
        f"{_for_kafka(cluster)}"
        "Ctrl-C stops everything.",
        flush=True,
    )


def _for_kafka(cluster: "LocalCluster") -> str:
    if cluster.kafka_bootstrap is None:
        return ""
    tls = " security.protocol=SSL" if cluster.is_secure else ""
    return f"kafka clients: bootstrap.servers={cluster.kafka_bootstrap}{tls}\n"


def _print_json(cluster: "LocalCluster", certificates: Path | None) -> None:
    import json

    nodes = [
        {
            "node_id": node.node_id,
            "address": node.address,
            "kafka_address": node.kafka_address,
            "pid": node.process.pid if node.process else None,
            "config": str(node.config),
            "log": str(node.log),
            "command": node.command,
        }
        for node in cluster.nodes
    ]
    about: dict[str, object] = {"bootstrap": cluster.bootstrap, "nodes": nodes}
    if cluster.kafka_bootstrap is not None:
        about["kafka_bootstrap"] = cluster.kafka_bootstrap
    if certificates is not None:
        about |= {"profile": PROFILE, "tls": str((certificates / _CLIENT).resolve())}
    print(json.dumps(about), flush=True)


def _watch(cluster: "LocalCluster") -> None:
    """Until Ctrl-C. A node that ends is told and left alone: to kill one and start it by hand is what this is for."""
    from ottla.cli.output import tell

    told: set[int] = set()
    while True:
        for node in cluster.nodes:
            if node.node_id not in told and not node.running:
                told.add(node.node_id)
                tell(f"node {node.node_id} ended, see {node.log}; start it again: {node.command}")
        time.sleep(_LOOK_EVERY_S)

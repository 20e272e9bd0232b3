"""`ottla dev`: a cluster on this machine, for trying things out."""

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ottla.cli.options import DEFAULT_BOOTSTRAP, Json

if TYPE_CHECKING:
    from ottla.cli.local import LocalCluster

_START_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.2
# Whoever tries things out wants to see keys spread.
_SETTINGS: Final = {"num.partitions": 3}


def dev(
    nodes: Annotated[int, typer.Option("--nodes", help="How many nodes, each a process of its own.")] = 1,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", help="Where configs, logs and data go.", metavar="DIR")
    ] = Path("ottla-data"),
    base_port: Annotated[
        int, typer.Option("--base-port", help="Node i serves clients on this port plus i - 1.", metavar="PORT")
    ] = 9092,
    as_json: Json = False,
) -> None:
    """Start a cluster on this machine and run it until Ctrl-C.

    \b
    Examples:
      ottla dev --nodes 3
      ottla dev --base-port 19092 --data-dir /tmp/try
    """
    from ottla.cli.local import LocalCluster, end_as_with_ctrl_c
    from ottla.cli.output import tell

    end_as_with_ctrl_c()
    try:
        with LocalCluster(nodes, data_dir, base_port, _SETTINGS) as cluster:
            started = time.monotonic()
            before = cluster.port_before()
            cluster.start()
            if before not in (None, base_port):
                tell(
                    f"{data_dir} holds a cluster that ran at base port {before}: it moves to {base_port} with all its "
                    f"topics. Clients that know it by its old addresses need the new ones."
                )
            tell(f"Starting {nodes} {'node' if nodes == 1 else 'nodes'}, data in {data_dir} ...")
            cluster.wait_ready(_START_S)
            with contextlib.suppress(OSError):  # nobody reads it: no reason to end
                _print_json(cluster) if as_json else _print_words(cluster, time.monotonic() - started)
            _watch(cluster)
    except KeyboardInterrupt:
        tell("Stopped.")


def _print_words(cluster: "LocalCluster", seconds: float) -> None:
    for node in cluster.nodes:
        print(f"node {node.node_id}: {node.address}, process {node.process.pid if node.process else '-'}")
        print(f"  config {node.config}, log {node.log}")
        print(f"  start it again by hand: {node.command}")
    first = cluster.nodes[0].address
    at = "" if first == DEFAULT_BOOTSTRAP else f" --bootstrap {first}"
    print(
        f"Ready after {seconds:.1f} s. Try, in another terminal:\n"
        f"  ottla topic create hello --partitions 3{at}\n"
        f"  echo 'hello, world' | ottla produce hello{at}\n"
        f"  ottla consume hello --from-beginning --max-messages 1{at}\n"
        "Ctrl-C stops everything.",
        flush=True,
    )


def _print_json(cluster: "LocalCluster") -> None:
    import json

    nodes = [
        {
            "node_id": node.node_id,
            "address": node.address,
            "pid": node.process.pid if node.process else None,
            "config": str(node.config),
            "log": str(node.log),
            "command": node.command,
        }
        for node in cluster.nodes
    ]
    print(json.dumps({"bootstrap": cluster.bootstrap, "nodes": nodes}), flush=True)


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

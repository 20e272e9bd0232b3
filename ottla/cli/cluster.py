"""`ottla cluster`: nodes, partitions in need, and the metadata quorum."""

from typing import TYPE_CHECKING

import typer

from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.v1 import cluster_pb2

app = typer.Typer(help="Show how the cluster does.", rich_markup_mode=None, no_args_is_help=True)


@app.command()
def status(bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """Show the nodes, and how many partitions lack a leader or replicas."""
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, print_table

    async def ask(admin: "Admin") -> "cluster_pb2.Metadata":
        return await admin.metadata()

    metadata = with_admin(bootstrap, ask)
    partitions = [partition for topic in metadata.topics for partition in topic.partitions]
    offline = sum(not partition.HasField("leader_id") for partition in partitions)
    under_replicated = sum(len(partition.isr) < len(partition.replicas) for partition in partitions)
    leads = {broker.node_id: 0 for broker in metadata.brokers}
    holds = dict(leads)
    for partition in partitions:
        if partition.HasField("leader_id"):
            leads[partition.leader_id] = leads.get(partition.leader_id, 0) + 1
        for node in partition.replicas:
            holds[node] = holds.get(node, 0) + 1
    controller = metadata.controller_id if metadata.HasField("controller_id") else None
    if as_json:
        print_json(
            {
                "cluster_id": metadata.cluster_id,
                "controller": controller,
                "metadata_index": metadata.metadata_index,
                "metadata_age_ms": metadata.age_ms,
                "topics": len(metadata.topics),
                "partitions": len(partitions),
                "offline_partitions": offline,
                "under_replicated_partitions": under_replicated,
                "brokers": [
                    {
                        "node_id": broker.node_id,
                        "address": broker.address,
                        "rack": broker.rack or None,
                        "state": _state(broker),
                        "leads": leads[broker.node_id],
                        "replicas": holds[broker.node_id],
                    }
                    for broker in metadata.brokers
                ],
            }
        )
        return
    print(f"cluster {metadata.cluster_id}, as node {metadata.node_id} sees it ({metadata.age_ms} ms old)")
    print(f"controller: {'none' if controller is None else f'node {controller}'}")
    print(
        f"{len(metadata.topics)} topics, {len(partitions)} partitions: {offline} without a leader, "
        f"{under_replicated} with too few replicas in sync"
    )
    rows = [
        (broker.node_id, broker.address, _state(broker), leads[broker.node_id], holds[broker.node_id])
        for broker in metadata.brokers
    ]
    print_table(("NODE", "ADDRESS", "STATE", "LEADS", "REPLICAS"), rows)


@app.command()
def quorum(bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """Show the Raft quorum that keeps the metadata; any node answers, also without a leader."""
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, print_table

    async def ask(admin: "Admin") -> "cluster_pb2.DescribeQuorumResponse":
        return await admin.describe_quorum()

    answer = with_admin(bootstrap, ask)
    leader = answer.leader_id if answer.HasField("leader_id") else None
    members = [("voter", node) for node in answer.voters] + [("observer", node) for node in answer.observers]
    if as_json:
        print_json(
            {
                "leader": leader,
                "leader_epoch": answer.leader_epoch,
                "leaderless_ms": answer.leaderless_ms,
                "commit_index": answer.commit_index,
                "last_index": answer.last_index,
                "answered_by": answer.node_id,
                "members": [
                    {
                        "node_id": node.node_id,
                        "role": role,
                        "directory_id": node.directory_id.hex(),
                        "address": node.address,
                        "match_index": node.match_index if node.HasField("match_index") else None,
                        "lag_records": node.lag_records if node.HasField("lag_records") else None,
                        "lag_ms": node.lag_ms if node.HasField("lag_ms") else None,
                    }
                    for role, node in members
                ],
            }
        )
        return
    if leader is None:
        print(f"no leader for {answer.leaderless_ms / 1000:.1f} s, says node {answer.node_id}")
    else:
        print(f"leader: node {leader}, epoch {answer.leader_epoch}, says node {answer.node_id}")
    print(f"committed up to {answer.commit_index}, log ends at {answer.last_index}")
    rows = [
        (
            node.node_id,
            role,
            node.address or "-",
            node.match_index if node.HasField("match_index") else "?",
            node.lag_records if node.HasField("lag_records") else "?",
            node.lag_ms if node.HasField("lag_ms") else "?",
            node.directory_id.hex(),
        )
        for role, node in members
    ]
    print_table(("NODE", "ROLE", "ADDRESS", "SYNCED TO", "LAG", "LAG MS", "DIRECTORY"), rows)


def _state(broker: "cluster_pb2.Broker") -> str:
    if broker.in_controlled_shutdown:
        return "stopping"
    return "fenced" if broker.fenced else "up"

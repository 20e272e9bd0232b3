"""`ottla cluster`: nodes, partitions in need, and the metadata quorum."""

import time
from collections import Counter
from typing import TYPE_CHECKING

from ottla.cli import balance, events, features, health, typed, voter
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json
from ottla.cli.watch import Watch

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.client.quorum_admin import Quorum
    from ottla.client.view import BrokerInfo, ClusterView

app = typed.Group("Show how the cluster does.")
app.add_command(voter.app, "voter")
app.verb()(voter.transfer)
app.verb()(health.health)
app.verb()(balance.balance)
app.verb()(events.events)
app.verb()(features.features)
app.verb()(features.finalize)


@app.verb()
def status(watch: Watch = None, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """Show the nodes and the partitions in need.

    \b
    Examples:
      ottla cluster status
      ottla cluster status --watch 1s
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.watch import watched

    async def show(admin: "Admin") -> None:
        _print_status(await admin.describe_cluster(), as_json, in_a_line=watch is not None)

    with_admin(bootstrap, lambda admin: watched(watch, lambda: show(admin)))


def _print_status(view: "ClusterView", as_json: bool, *, in_a_line: bool) -> None:
    from ottla.cli.output import Cell, counted, print_json, print_table, styled

    brokers = [view.brokers[node_id] for node_id in sorted(view.brokers)]
    partitions = [partition for topic in view.topics.values() for partition in topic.partitions]
    offline = sum(partition.leader_id is None for partition in partitions)
    under_replicated = sum(bool(partition.out_of_sync) for partition in partitions)
    leads = Counter(partition.leader_id for partition in partitions)
    holds = Counter(node_id for partition in partitions for node_id in partition.replicas)
    if as_json:
        print_json(
            {
                "cluster_id": view.cluster_id,
                "controller": view.controller_id,
                "metadata_index": view.metadata_index,
                "topics": len(view.topics),
                "partitions": len(partitions),
                "offline_partitions": offline,
                "under_replicated_partitions": under_replicated,
                "brokers": [
                    {
                        "node_id": broker.node_id,
                        "address": broker.address,
                        "kafka_addresses": list(broker.kafka_addresses),
                        "rack": broker.rack or None,
                        "state": _state(broker),
                        "leads": leads[broker.node_id],
                        "replicas": holds[broker.node_id],
                    }
                    for broker in brokers
                ],
            },
            in_a_line=in_a_line,
        )
        return
    print(f"cluster {view.cluster_id}")
    print(f"controller: {'none' if view.controller_id is None else f'node {view.controller_id}'}")
    lead = f"{offline} without a leader"
    sync = f"{under_replicated} with a replica that is not in sync"
    print(
        f"{counted(len(view.topics), 'topic')}, {counted(len(partitions), 'partition')}: "
        f"{styled(lead, 'bad') if offline else lead}, {styled(sync, 'warn') if under_replicated else sync}"
    )
    rows = [
        (
            broker.node_id,
            broker.address,
            ", ".join(broker.kafka_addresses) or "-",
            Cell(_state(broker), "good" if _state(broker) == "up" else "warn"),
            leads[broker.node_id],
            holds[broker.node_id],
        )
        for broker in brokers
    ]
    print_table(("NODE", "ADDRESS", "KAFKA", "STATE", "LEADS", "REPLICAS"), rows)


@app.verb()
def quorum(bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """Show the Raft quorum that keeps the metadata. Any node answers, also without a leader.

    \b
    Examples:
      ottla cluster quorum
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, print_table

    async def ask(admin: "Admin") -> "Quorum":
        return await admin.describe_quorum()

    answer = with_admin(bootstrap, ask)
    members = [("voter", node) for node in answer.voters] + [("observer", node) for node in answer.observers]
    if as_json:
        print_json(
            {
                "leader": answer.leader_id,
                "leader_epoch": answer.leader_epoch,
                "leaderless_ms": answer.leaderless_ms,
                "high_watermark": answer.commit_index,
                "log_end": answer.last_index,
                "answered_by": answer.node_id,
                "members": [
                    {
                        "node_id": node.node_id,
                        "role": role,
                        "directory_id": node.directory_id.hex(),
                        "address": node.address,
                        "match_index": node.match_index,
                        "lag_records": node.lag_records,
                        "lag_ms": node.lag_ms,
                    }
                    for role, node in members
                ],
            }
        )
        return
    if answer.leader_id is None:
        since = time.strftime("%H:%M:%S", time.localtime(time.time() - answer.leaderless_ms / 1000))
        print(f"no leader since {since}, for {answer.leaderless_ms / 1000:.1f} s; last epoch {answer.leader_epoch}")
    else:
        print(f"leader: node {answer.leader_id}, epoch {answer.leader_epoch}")
    print(f"high watermark {answer.commit_index}, log end {answer.last_index} (node {answer.node_id} answered)")
    rows = [
        (
            node.node_id,
            role,
            node.address or "-",
            # Only the leader knows how far the others are.
            *("?" if value is None else value for value in (node.match_index, node.lag_records, node.lag_ms)),
            node.directory_id.hex(),
        )
        for role, node in members
    ]
    print_table(("NODE", "ROLE", "ADDRESS", "SYNCED TO", "LAG", "LAG MS", "DIRECTORY"), rows)


def _state(broker: "BrokerInfo") -> str:
    if broker.in_controlled_shutdown:
        return "stopping"
    if broker.draining:
        return "fenced, draining" if broker.fenced else "draining"
    return "fenced" if broker.fenced else "up"

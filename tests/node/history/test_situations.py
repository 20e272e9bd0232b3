"""Situations, as the controller decides them: the answer names what the script did (the table of docs/why.md)."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from node.controller.state.draining import begin
from node.controller.state.heal import heal
from node.controller.state.leaders import balance, elect_leaders
from node.history.causes import CODES
from node.history.explain import Answer, Facts, of_node, of_partition
from node.history.group_answer import CODES as GROUP_CODES
from node.history.store import History
from node.metadata.apply import apply
from node.metadata.events import Noting, unknown_before
from node.metadata.image import Image
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.internal.v1 import metadata_pb2 as records
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import data_pb2 as data
from tests.node.controller.support import Cluster, Newer
from tests.node.controller.test_moves import cluster_of, move

DOCS: Final = Path(__file__).parents[3] / "docs/why.md"


def history_of(cluster: Cluster, since: int = 0) -> History:
    """What a node remembers that followed the log; `since`: it began with a snapshot at that entry."""
    history, image = History(), Image.EMPTY
    for index, term, entry in cluster.entries:
        changes = records.MetadataRecords.FromString(entry)
        noting = Noting(index, 1_000 * index)
        image, _ = apply(image, changes, index, term, noting)
        if index == since:
            history.add([unknown_before(index)])
        elif index > since:
            history.add(noting.events)
    return history


def why(cluster: Cluster, subject: int | str = "t", *, since: int = 0, controller: int | None = 1) -> Answer:
    facts = Facts(cluster.image, history_of(cluster, since), controller, {})
    if isinstance(subject, int):
        return of_node(facts, subject)
    topic = cluster.topic(subject)
    return of_partition(facts, topic, topic.partitions[0])


def three(**configs: str) -> Cluster:
    cluster = Newer(3)
    cluster.assign("t", [1, 2, 3], **configs)
    return cluster


def failed_log(cluster: Cluster, node_id: int) -> None:
    of = rpc.PartitionId(topic_id=cluster.topic().topic_id, partition=0)
    cluster.beat(node_id, offline_partitions=[of])


def elect(cluster: Cluster, kind: admin.ElectionType.ValueType) -> None:
    request = admin.ElectLeadersRequest(type=kind, partitions=[data.TopicPartition(topic="t", partition=0)])
    assert not cluster.do(elect_leaders, request).partitions[0].HasField("error")


def the_last_of_its_isr_dies() -> Answer:
    cluster = three(min_insync_replicas="1")
    cluster.alter([1, 2], reason="node 3 was not caught up for 10012 ms, and is 40 records behind")
    cluster.alter([1], reason="node 2 was not caught up for 10012 ms, and is 7 records behind")
    cluster.dead(1)
    return why(cluster)


def its_only_replica_dies() -> Answer:
    cluster = Newer(3)
    cluster.assign("t", [2])
    cluster.dead(2)
    return why(cluster)


def a_leader_dies() -> Answer:
    cluster = three()
    cluster.dead(1)
    cluster.start(1)
    cluster.alter([1, 2, 3])
    return why(cluster)


def a_follower_dies() -> Answer:
    cluster = three()
    cluster.dead(3)
    return why(cluster)


def a_follower_is_silent() -> Answer:
    cluster = three()
    cluster.wait(4_000, 1, 2)
    return why(cluster)


def a_data_loop_hangs() -> Answer:
    cluster = three()
    cluster.beat(3, data_loop_age_ms=5_000)
    return why(cluster)


def a_node_is_stopped() -> Answer:
    cluster = three()
    cluster.stop(3)
    return why(cluster)


def a_follower_is_slow() -> Answer:
    cluster = three()
    cluster.alter([1, 2], reason="node 3 was not caught up for 10012 ms, and is 40 records behind")
    return why(cluster)


def too_few_are_in_sync() -> Answer:
    cluster = three(min_insync_replicas="2")
    cluster.dead(2)
    cluster.dead(3)
    return why(cluster)


def a_disk_is_full() -> Answer:
    cluster = three()
    cluster.beat(3, disk_full=True)
    return why(cluster)


def a_log_fails() -> Answer:
    cluster = three()
    failed_log(cluster, 3)
    return why(cluster)


def a_disk_is_replaced() -> Answer:
    cluster = Newer(1)
    cluster.assign("t", [1])
    cluster.dead(1)
    cluster.start(2)
    cluster.start(1, directory_id=b"another disk 16b")
    return why(cluster)


def a_machine_crashes() -> Answer:
    cluster = three()
    cluster.start(3, unclean_stop=True)
    return why(cluster)


def a_log_is_deleted() -> Answer:
    cluster = three()
    of = rpc.PartitionId(topic_id=cluster.topic().topic_id, partition=0)
    cluster.register(3, lost_partitions=[of])
    cluster.beat(3)
    return why(cluster)


def somebody_elects_uncleanly() -> Answer:
    cluster = three(min_insync_replicas="1")
    cluster.alter([1])
    cluster.dead(1)
    elect(cluster, admin.ELECTION_TYPE_UNCLEAN)
    cluster.alter([2], recovered=True)
    cluster.start(1)
    cluster.alter([1, 2, 3])
    return why(cluster)


def somebody_elects_the_preferred() -> Answer:
    cluster = three()
    cluster.dead(1)
    cluster.start(1)
    cluster.alter([1, 2, 3])
    elect(cluster, admin.ELECTION_TYPE_PREFERRED)
    return why(cluster)


def leadership_goes_back() -> Answer:
    cluster = three()
    cluster.dead(1)
    cluster.start(1)
    cluster.alter([1, 2, 3])
    cluster.do(balance)
    cluster.now_ms += 6_000
    cluster.do(balance)
    return why(cluster)


def somebody_moves_it() -> Answer:
    cluster = cluster_of(nodes=4)
    cluster.assign("t", [1, 2, 3])
    move(cluster, 1, 2, 4)
    return why(cluster)


def healing_rebuilds_it() -> Answer:
    cluster = cluster_of(nodes=4)
    cluster.assign("t", [1, 2, 3])
    cluster.dead(3)
    cluster.do(heal)
    cluster.now_ms += 15 * 60_000
    for node_id in (1, 2, 4):
        cluster.beat(node_id)
    cluster.do(heal)
    return why(cluster)


def a_node_is_drained() -> Answer:
    cluster = cluster_of(nodes=4)
    cluster.assign("t", [1, 2, 3])
    cluster.do(begin, 1)
    cluster.do(balance)
    return why(cluster)


def a_node_is_down() -> Answer:
    cluster = three()
    cluster.dead(2)
    return why(cluster, 2)


def a_node_is_back() -> Answer:
    cluster = three()
    cluster.wait(4_000, 1, 2)
    cluster.start(3)
    return why(cluster, 3)


def nobody_decides() -> Answer:
    cluster = three()
    cluster.dead(3)
    return why(cluster, controller=None)


def it_is_older_than_the_memory() -> Answer:
    cluster = three()
    cluster.alter([1, 2])
    return why(cluster, since=cluster.index)


SITUATIONS: Final[tuple[tuple[Callable[[], Answer], str, str, str], ...]] = (
    (
        the_last_of_its_isr_dies,
        "no-leader",
        "node-died",
        "node 1 died while it led, and nodes 2 and 3 were not in sync",
    ),
    (its_only_replica_dies, "no-leader", "node-died", "node 2 died while it led, and there is no other replica"),
    (a_leader_dies, "not-preferred", "node-died", "node 2 leads t-0"),
    (a_follower_dies, "under-replicated", "node-died", "node 3 of t-0 is not in sync: node 3 died"),
    (a_follower_is_silent, "under-replicated", "node-silent", "node 3 was not heard for"),
    (a_data_loop_hangs, "under-replicated", "node-hung", "the data loop of node 3 hung"),
    (a_node_is_stopped, "under-replicated", "node-stopped", "node 3 was stopped"),
    (a_follower_is_slow, "under-replicated", "slow-replica", "node 3 was not caught up for 10012 ms"),
    (too_few_are_in_sync, "writes-refused", "node-died", "2 replicas must be in sync, 1 is"),
    (a_disk_is_full, "under-replicated", "disk-full", "the disk of node 3 is full"),
    (a_log_fails, "under-replicated", "log-failed", "the log failed on node 3"),
    (a_disk_is_replaced, "unclean", "disk-replaced", "node 1 came back with another disk"),
    (a_machine_crashes, "under-replicated", "machine-crashed", "the machine of node 3 crashed"),
    (a_log_is_deleted, "under-replicated", "log-deleted", "node 3 started without its log of it"),
    (somebody_elects_uncleanly, "unclean", "operator", "acknowledged records may be lost: UNCLEAN election of 2"),
    (somebody_elects_the_preferred, "ok", "operator", "an operator asked for it"),
    (leadership_goes_back, "ok", "preferred-back", "the preferred replica is in sync again"),
    (somebody_moves_it, "moving", "operator-moved", "it waits until node 4 is in sync"),
    (healing_rebuilds_it, "under-replicated", "node-died", "It moves to 1, 2 and 4: node 3 is gone for long: 900 s"),
    (a_node_is_drained, "not-preferred", "drained", "node 1 is drained"),
    (a_node_is_down, "fenced", "node-died", "node 2 is fenced: node 2 died"),
    (a_node_is_back, "up", "node-silent", "Before, node 3 was not heard for"),
    (nobody_decides, "under-replicated", "node-died", "There is no active controller"),
    (it_is_older_than_the_memory, "under-replicated", "unknown", "why is not known here: it is older than metadata"),
)


@pytest.mark.parametrize(("script", "state", "cause", "says"), SITUATIONS, ids=lambda v: getattr(v, "__name__", None))
def test_the_answer_names_what_happened(script: Callable[[], Answer], state: str, cause: str, says: str) -> None:
    answer = script()
    assert (answer.state, answer.cause) == (state, cause), answer
    assert says in answer.text, answer.text
    assert (answer.since_ms > 0) == (cause != "unknown"), answer
    assert answer.healthy or answer.next_steps or cause == "unknown", answer
    assert [event.id for event in answer.evidence] == sorted(event.id for event in answer.evidence)


def test_the_page_has_every_situation_and_every_kind_of_cause() -> None:
    page = DOCS.read_text()
    for _, state, cause, _ in SITUATIONS:
        assert f"`{state}` | `{cause}`" in page, (state, cause)
    assert [code for code in (*CODES, *GROUP_CODES) if f"`{code}`" not in page] == []

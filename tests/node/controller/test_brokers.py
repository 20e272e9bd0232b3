"""Registration, heartbeats, leases, controlled shutdown, a new controller."""

import pytest

from node.controller.state import brokers
from node.controller.state.draft import ControllerSettings
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.internal.v1.metadata_pb2 import Endpoint
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.controller.support import CLUSTER, Cluster, directory


def refusal(error: pytest.ExceptionInfo[ApiError]) -> tuple[str, str]:
    return error.value.name, error.value.message


def test_a_broker_starts_fenced_and_is_unfenced_once_it_has_applied_its_registration() -> None:
    cluster = Cluster(nodes=0)
    epoch = cluster.register(1)
    assert cluster.image.brokers[1].fenced
    behind = cluster.beat(1, metadata_index=epoch - 1)
    assert (behind.fenced, behind.caught_up) == (True, False)
    there = cluster.beat(1, metadata_index=epoch)
    assert (there.fenced, there.caught_up) == (False, True)
    assert cluster.live() == [1]


def test_a_broker_that_wants_to_stay_fenced_stays_so() -> None:
    cluster = Cluster(nodes=0)
    cluster.register(1)
    assert cluster.beat(1, want_fence=True).fenced
    cluster.beat(1)
    assert cluster.beat(1, want_fence=True).fenced
    assert cluster.live() == []


def test_a_repeated_registration_of_one_start_changes_nothing() -> None:
    cluster = Cluster()
    request = cluster.registration(2)
    first = cluster.do(brokers.register, request, CLUSTER)
    cluster.epochs[2] = first.broker_epoch
    cluster.beat(2)
    again = cluster.do(brokers.register, request, CLUSTER)
    assert again.broker_epoch == first.broker_epoch
    assert 2 in cluster.live()


def test_a_restart_with_the_same_directory_replaces_the_old_incarnation_at_once() -> None:
    cluster = Cluster()
    old = cluster.epochs[2]
    assert cluster.register(2) > old
    assert cluster.image.brokers[2].fenced
    with pytest.raises(ApiError) as error:
        cluster.beat(2, broker_epoch=old)
    assert refusal(error)[0] == "STALE_BROKER_EPOCH"


def test_the_same_node_id_with_another_directory_is_refused_while_the_first_lives() -> None:
    cluster = Cluster()
    with pytest.raises(ApiError) as error:
        cluster.register(2, directory_id=directory(2, disk=1))
    name, message = refusal(error)
    assert name == "DUPLICATE_BROKER_REGISTRATION"
    assert directory(2).hex() in message
    assert directory(2, 1).hex() in message
    assert not error.value.retriable
    cluster.wait(3000, 1, 3)
    assert cluster.register(2, directory_id=directory(2, disk=1)) == cluster.index


def test_another_directory_is_taken_at_once_where_the_first_process_is_known_to_be_dead() -> None:
    cluster = Cluster()
    topic = cluster.create()
    cluster.dead(2)
    cluster.register(2, directory_id=directory(2, disk=1))
    partition = cluster.partition()
    assert partition.directories[partition.replicas.index(2)] == directory(2, 1)
    assert topic.partitions[0].directories != partition.directories


def test_two_starts_in_one_entry_are_not_mixed_up() -> None:
    cluster = Cluster()

    def both(draft: brokers.Draft) -> None:
        brokers.register(draft, cluster.registration(2), CLUSTER)
        with pytest.raises(ApiError) as error:
            brokers.register(draft, cluster.registration(2), CLUSTER)
        assert error.value.retriable

    cluster.do(both)


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"cluster_id": b"x" * 16}, "INCONSISTENT_CLUSTER_ID", (b"x" * 16).hex()),
        ({"cluster_id": b""}, "INCONSISTENT_CLUSTER_ID", CLUSTER.hex()),
        ({"node_id": 0}, "INVALID_REQUEST", "1 or more"),
        ({"node_id": -(2**31)}, "INVALID_REQUEST", "1 or more"),
        ({"directory_id": b"x"}, "INVALID_REQUEST", "16 are needed"),
        ({"incarnation_id": b""}, "INVALID_REQUEST", "incarnation_id has 0 bytes"),
        ({"client_address": ""}, "INVALID_REQUEST", "client_address"),
        ({"control_address": "x" * 10**6}, "INVALID_REQUEST", "control_address"),
        ({"replication_address": "host:port"}, "INVALID_REQUEST", "replication_address"),
        ({"endpoints": [Endpoint(name="kafka", host="h", port=70_000)]}, "INVALID_REQUEST", "endpoint 'kafka' at 'h'"),
        ({"endpoints": [Endpoint(name="kafka", host="h" * 400, port=1)]}, "INVALID_REQUEST", "no name, host and port"),
        ({"endpoints": [Endpoint(name=f"{n}", host="h", port=1) for n in range(17)]}, "INVALID_REQUEST", "16 are"),
        ({"min_metadata_version": 2, "max_metadata_version": 3}, "UNSUPPORTED_VERSION", "metadata.version 1"),
    ],
)
def test_a_registration_that_cannot_be_right_is_refused(fields: dict[str, object], code: str, says: str) -> None:
    cluster = Cluster()
    before = cluster.index
    request = cluster.registration(9)
    request.MergeFrom(rpc.RegisterBrokerRequest(endpoints=fields.pop("endpoints", ())))  # type: ignore[arg-type]
    for name, value in fields.items():
        setattr(request, name, value)
    with pytest.raises(ApiError) as error:
        cluster.do(brokers.register, request, CLUSTER)
    assert refusal(error)[0] == code
    assert says in refusal(error)[1]
    assert len(refusal(error)[1]) < 1000
    assert cluster.index == before


def test_an_unknown_broker_is_told_to_register() -> None:
    cluster = Cluster()
    cluster.epochs[9] = 3
    with pytest.raises(ApiError) as error:
        cluster.beat(9)
    assert refusal(error)[0] == "BROKER_ID_NOT_REGISTERED"


def test_a_silent_broker_is_fenced_when_its_lease_runs_out_and_not_before() -> None:
    cluster = Cluster()
    cluster.wait(2999, 1, 2)
    assert cluster.live() == [1, 2, 3]
    cluster.wait(1, 1, 2)
    assert cluster.live() == [1, 2]
    assert "no heartbeat for 3000 ms" in cluster.last_records()[0].broker_change.cause


def test_a_fenced_broker_comes_back_with_its_next_heartbeat() -> None:
    cluster = Cluster()
    cluster.wait(3000, 1, 2)
    assert cluster.live() == [1, 2]
    assert not cluster.beat(3).fenced
    assert cluster.live() == [1, 2, 3]


def test_the_session_timeout_is_a_setting() -> None:
    cluster = Cluster(settings=ControllerSettings(session_timeout_ms=1000))
    cluster.wait(1000, 1, 2)
    assert cluster.live() == [1, 2]


def test_a_wedged_data_loop_does_not_look_alive() -> None:
    cluster = Cluster()
    cluster.create()
    assert not cluster.beat(2, data_loop_age_ms=2999).fenced
    assert cluster.beat(2, data_loop_age_ms=3000).fenced
    assert 2 not in cluster.partition().isr
    assert cluster.beat(2, data_loop_age_ms=9000).fenced
    assert not cluster.beat(2, data_loop_age_ms=3).fenced


def test_a_dead_process_is_fenced_without_waiting_for_its_lease() -> None:
    cluster = Cluster()
    cluster.create(partitions=6)
    cluster.dead(1)
    assert cluster.live() == [2, 3]
    assert all(p.leader in (2, 3) and 1 not in p.isr for p in cluster.topic().partitions)
    cluster.dead(7)  # nobody knows it: nothing happens


def test_controlled_shutdown_moves_leaders_leaves_the_isr_then_lets_the_broker_stop() -> None:
    cluster = Cluster()
    cluster.create(partitions=6)
    first = cluster.beat(1, want_shutdown=True)
    assert not first.should_shutdown
    assert all(p.leader != 1 and 1 not in p.isr for p in cluster.topic().partitions)
    assert not cluster.image.brokers[1].fenced
    assert not cluster.beat(1, want_shutdown=True).should_shutdown, "the new leaders do not know yet"
    cluster.beat(2)
    assert not cluster.beat(1, want_shutdown=True).should_shutdown
    cluster.beat(3)
    assert cluster.beat(1, want_shutdown=True).should_shutdown
    assert "stopping" in cluster.last_records()[0].broker_change.cause


def test_a_stopping_broker_gets_nothing_new() -> None:
    cluster = Cluster()
    cluster.create()
    cluster.beat(1, want_shutdown=True)
    assert cluster.create("later", partitions=4, factor=2).partitions[0].replicas in ((2, 3), (3, 2))
    result = cluster.alter([2, 3, 1])
    assert result.error.code == pb.ERROR_CODE_INELIGIBLE_REPLICA
    assert "1 is stopping" in result.error.message


def test_the_last_broker_may_stop_too() -> None:
    cluster = Cluster(nodes=1)
    cluster.create(factor=1)
    cluster.beat(1, want_shutdown=True)
    assert cluster.beat(1, want_shutdown=True).should_shutdown
    partition = cluster.partition()
    assert (partition.leader, partition.isr, partition.elr) == (-1, (), (1,))
    cluster.start(1)
    assert (cluster.partition().leader, cluster.partition().isr) == (1, (1,))


def test_a_fenced_broker_may_stop_at_once() -> None:
    cluster = Cluster()
    cluster.dead(3)
    assert cluster.beat(3, want_shutdown=True).should_shutdown


def test_a_shutdown_survives_a_change_of_the_controller() -> None:
    cluster = Cluster()
    cluster.create()
    cluster.beat(1, want_shutdown=True)
    cluster.take_over()
    assert not cluster.beat(1, want_shutdown=True).should_shutdown, "the new controller has not heard from the others"
    cluster.beat(2)
    cluster.beat(3)
    assert cluster.beat(1, want_shutdown=True).should_shutdown


def test_a_new_controllers_leases_start_at_the_last_contact_but_leave_time_to_find_it() -> None:
    cluster = Cluster()
    now = cluster.now_ms
    cluster.take_over({1: now, 2: now - 500, 3: now - 60_000}, own=1)
    assert cluster.live() == [1, 2, 3]
    cluster.wait(1000, 1, 2)
    assert cluster.live() == [1, 2], "3 was silent for a minute: two heartbeats' time is all it gets"


def test_a_failed_log_takes_that_partition_away_and_nothing_else() -> None:
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3], [1, 3, 2])
    topic = cluster.topic()
    cluster.beat(1, offline_partitions=[rpc.PartitionId(topic_id=topic.topic_id, partition=0)])
    assert (cluster.partition(n=0).leader, cluster.partition(n=0).isr) == (2, (2, 3))
    assert (cluster.partition(n=1).leader, cluster.partition(n=1).isr) == (1, (1, 3, 2))
    assert cluster.live() == [1, 2, 3]
    result = cluster.alter([1, 2, 3], n=0)
    assert result.error.code == pb.ERROR_CODE_INELIGIBLE_REPLICA


def test_a_failed_directory_takes_all_of_its_partitions_away_and_gets_no_new_ones() -> None:
    cluster = Cluster()
    cluster.create(partitions=6)
    cluster.beat(2, offline_directories=[directory(2)])
    assert all(p.leader != 2 and 2 not in p.isr for p in cluster.topic().partitions)
    assert cluster.live() == [1, 2, 3]
    assert all(2 not in p.replicas for p in cluster.create("later", partitions=4, factor=2).partitions)


def test_producer_ids_start_at_1_and_never_come_twice() -> None:
    cluster = Cluster()

    def take(node_id: int) -> tuple[int, int]:
        answer = cluster.do(
            brokers.allocate_producer_ids,
            rpc.AllocateProducerIdsRequest(node_id=node_id, broker_epoch=cluster.epochs[node_id]),
        )
        return answer.first_producer_id, answer.count

    assert [take(1), take(2)] == [(1, 1000), (1001, 1000)]
    cluster.take_over()
    assert take(3) == (2001, 1000)
    with pytest.raises(ApiError) as error:
        cluster.do(brokers.allocate_producer_ids, rpc.AllocateProducerIdsRequest(node_id=1, broker_epoch=1))
    assert refusal(error)[0] == "STALE_BROKER_EPOCH"


def test_every_change_says_why() -> None:
    cluster = Cluster()
    cluster.create(partitions=3)
    cluster.dead(2)
    cluster.start(2, unclean_stop=True)
    cluster.alter(list(cluster.partition().replicas))
    for _, _, data in cluster.entries:
        for record in brokers.records.MetadataRecords.FromString(data).records:
            kind = record.WhichOneof("record")
            if kind in ("broker_change", "partition_change"):
                assert getattr(record, kind).cause

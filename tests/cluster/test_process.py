"""The process itself: exit codes, signals, memory, what it says where it cannot start."""

import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from ottla.v1 import admin_pb2, admin_pb2_grpc, data_pb2
from ottla.v1 import error_pb2 as pb
from tests.cluster.harness import LocalCluster, Node, data_stub, eventually
from tests.cluster.test_data import batch, produce

pytestmark = pytest.mark.cluster


@pytest.fixture
def solo(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path, nodes=1) as cluster:
        cluster[1].by_command = True
        yield cluster


def ended(node: Node, timeout_s: float = 15.0) -> int:
    assert node.process is not None
    return node.process.wait(timeout_s)


def test_wrong_settings_end_with_2_and_a_line_each(solo: LocalCluster) -> None:
    solo[1].settings = {**solo[1].settings, "broker.session.timeout.ms": "soon", "nod.id": 1}
    solo.start()
    assert ended(solo[1]) == 2
    assert solo[1].log() == "ottla: nod.id (flag --set) is not a setting; did you mean node.id?\n"


@pytest.mark.parametrize("listener", ["public", "control", "replication", "http"])
def test_a_taken_port_ends_with_1_and_names_the_listener(solo: LocalCluster, listener: str) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of earlier nodes may linger there
        host, port = solo[1].address(listener).split(":")
        taken.bind((host, int(port)))
        taken.listen()
        solo.start()
        assert ended(solo[1]) == 1
    last = solo[1].log().splitlines()
    assert any("event=node_gives_up" in line and f"the {listener} listener cannot have" in line for line in last), last
    assert "Traceback" not in solo[1].log()


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    with LocalCluster(tmp_path) as cluster:
        cluster.start().wait_ready()
        cluster[2].pause()
        cluster[3].pause()
        cluster[1].signal(15)
        time.sleep(0.5)
        assert cluster[1].running, "nobody is there to hand over to, but that takes a moment to know"
        started = time.monotonic()
        cluster[1].signal(15)
        assert ended(cluster[1], 5) == 128 + 15
        assert time.monotonic() - started < 2, "the first one alone takes as long as a hand-over may"


def test_idle_memory_and_what_refused_messages_leave(solo: LocalCluster) -> None:
    solo.start().wait_ready()
    solo.create_topic("many", 100, 1)
    assert solo[1].process is not None
    process = psutil.Process(solo[1].process.pid)
    idle = process.memory_info().rss
    assert idle < 100 * 2**20
    with grpc.insecure_channel(solo[1].address(), options=[("grpc.max_send_message_length", -1)]) as channel:
        part = data_pb2.ProducePartition(topic="many", batch=batch(b"x" * 20_000_000))
        for _ in range(8):
            result = data_stub(channel).Produce(data_pb2.ProduceRequest(partitions=[part]), timeout=10).partitions[0]
            assert result.error.code == pb.ERROR_CODE_MESSAGE_TOO_LARGE
    eventually(lambda: process.memory_info().rss <= 1.5 * idle, True, 10)


def test_a_restart_is_ready_soon_and_has_its_topics(solo: LocalCluster) -> None:
    solo.start().wait_ready()
    solo.create_topic("kept", 2, 1)
    assert produce(solo, 1, "kept", 1, b"x").base_offset == 0
    assert solo[1].stop() == 0, solo.tail(1)
    solo.start().wait_ready()
    assert produce(solo, 1, "kept", 1, b"y").base_offset == 1
    eventually(lambda: "event=ready" in solo[1].log().rsplit("event=starting", 1)[1], True)


def test_topics_are_created_by_name_where_that_is_on(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, 1, {"auto.create.topics.enable": "true", "num.partitions": 3}) as cluster:
        cluster.start().wait_ready()
        first = produce(cluster, 1, "made-up", 0, b"x")
        assert first.error.code == pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION
        assert first.error.retriable
        eventually(lambda: produce(cluster, 1, "made-up", 2, b"x").error.code, pb.ERROR_CODE_NONE)
        assert produce(cluster, 1, "../no", 0, b"x").error.code == pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION
        assert [topic.name for topic in cluster.metadata(1).topics] == ["made-up"]


def test_a_frozen_controller_does_not_hold_admin_calls(tmp_path: Path) -> None:
    with LocalCluster(tmp_path) as cluster:
        cluster.start().wait_ready()
        frozen = cluster.controller()
        others = [i for i in cluster.nodes if i != frozen]
        cluster[frozen].pause()
        started = time.monotonic()
        with cluster.channel(others[0]) as channel:
            request = admin_pb2.CreateTopicsRequest(
                topics=[admin_pb2.NewTopic(name="t", num_partitions=1, replication_factor=2)]
            )
            refusals = set()
            for _ in range(200):
                try:
                    result = admin_pb2_grpc.AdminServiceStub(channel).CreateTopics(request, timeout=15).topics[0]
                except grpc.RpcError as error:
                    refusals.add(error.code())
                else:
                    if not result.HasField("error") or result.error.code == pb.ERROR_CODE_TOPIC_ALREADY_EXISTS:
                        break
                time.sleep(0.1)
        assert refusals <= {grpc.StatusCode.UNAVAILABLE}
        assert time.monotonic() - started < 8
        cluster.leader("t", via=others[1])


def test_metrics_and_health_over_http(solo: LocalCluster) -> None:
    solo.start().wait_ready()
    solo.create_topic("t", 2, 1)
    produce(solo, 1, "t", 0, b"x" * 1000)
    assert solo[1].http("/healthz") == (200, "ok\n")

    def scrape() -> dict[str, str]:
        status, text = solo[1].http("/metrics")
        assert status == 200
        return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

    # A loop's lag is sampled at intervals: a second sample shows that the sampling goes on.
    lag_samples = 'ottla_event_loop_lag_seconds_count{loop="data"}'
    eventually(lambda: float(scrape()[lag_samples]) > 1, True)
    found = scrape()
    assert float(found["ottla_active_controller"]) == 1
    assert float(found["ottla_delayed_produce_requests"]) == 0
    assert float(found["ottla_isr_shrinks_total"]) == 0
    assert float(found["ottla_leader_partitions"]) == 2
    assert float(found["ottla_offline_partitions"]) == 0
    assert float(found["ottla_under_replicated_partitions"]) == 0
    assert float(found["ottla_under_min_isr_partitions"]) == 0
    assert float(found["ottla_produced_bytes_total"]) > 1000
    assert float(found['ottla_request_seconds_count{rpc="Produce"}']) == 1
    assert float(found['ottla_broker_lease_age_seconds{node="1"}']) < 2


def test_the_log_s_reader_may_go(solo: LocalCluster) -> None:
    """A log shipper that restarts, `| head`: the lines are lost and counted, the node serves on."""
    reading, writing = os.pipe()
    with subprocess.Popen(solo[1].command, stderr=writing, stdout=writing) as process:
        os.close(writing)
        eventually(lambda: solo[1].http("/readyz")[0], 200, 30)
        os.close(reading)
        solo.create_topic("after", 1, 1)
        assert produce(solo, 1, "after", 0, b"x").base_offset == 0
        eventually(lambda: "\nottla_log_lines_lost_total 0.0\n" not in solo[1].http("/metrics")[1], True)
        process.terminate()
        assert process.wait(20) == 0


def test_a_closed_terminal_stops_a_node_cleanly(solo: LocalCluster) -> None:
    solo.start().wait_ready()
    solo[1].signal(signal.SIGHUP)
    solo[1].signal(signal.SIGHUP)
    assert ended(solo[1]) == 0
    assert "event=stopped clean=true" in solo[1].log()


def test_a_node_starts_without_standard_streams(solo: LocalCluster) -> None:
    command = shlex.join(solo[1].command)
    with subprocess.Popen(["bash", "-c", f"exec {command} <&- >&- 2>&-"]) as process:
        eventually(lambda: solo[1].http("/readyz")[0], 200, 30)
        solo.create_topic("mute", 1, 1)
        assert produce(solo, 1, "mute", 0, b"x").base_offset == 0
        process.terminate()
        assert process.wait(20) == 0


def stored(solo: LocalCluster, value: bytes) -> int | None:
    """The offset that the value got; None where it was not taken."""
    try:
        result = produce(solo, 1, "small", 99, value)
    except grpc.RpcError:
        return None
    return None if result.HasField("error") else result.base_offset


def test_a_node_of_few_descriptors_says_what_it_carries_and_refuses_the_rest(solo: LocalCluster) -> None:
    solo[1].directory.mkdir(parents=True, exist_ok=True)
    limited = ["bash", "-c", f"ulimit -n 256; exec {shlex.join(solo[1].command)}"]

    def serves(process: "subprocess.Popen[bytes]") -> None:
        eventually(lambda: solo[1].http("/readyz")[0], 200, 30)
        assert process.poll() is None

    with solo[1].log_path.open("ab") as output, subprocess.Popen(limited, stdout=output, stderr=output) as process:
        serves(process)
        assert "event=capacity descriptors=256 replicas=108 client_connections=36" in solo[1].log()
        solo.create_topic("small", 100, 1)
        assert stored(solo, b"w") == 0
        with solo.channel(1) as channel:
            wide = admin_pb2.NewTopic(name="wide", num_partitions=9)
            request = admin_pb2.CreateTopicsRequest(topics=[wide], timeout_ms=5000)
            answer = admin_pb2_grpc.AdminServiceStub(channel).CreateTopics(request, timeout=10).topics[0]
        assert answer.error.code == pb.ERROR_CODE_POLICY_VIOLATION
        assert "broker 1 has 100 partitions and would get 9 more, its file descriptors are enough for 108" in (
            answer.error.message
        )
        # Connections that say nothing take no more than their share, and leave it to others after a while.
        host, port = solo[1].address().split(":")
        held = [socket.create_connection((host, int(port)), 5) for _ in range(300)]
        eventually(lambda: stored(solo, b"x"), 1, 20)
        for connection in held:
            connection.close()
        process.terminate()
        assert process.wait(20) == 0
    assert "level=error" not in solo[1].log()
    # With fewer than its logs need it carries what it can, says what is missing, and has it all when they are back.
    limited[2] = limited[2].replace("256", "144")
    with solo[1].log_path.open("ab") as output, subprocess.Popen(limited, stdout=output, stderr=output) as process:
        serves(process)
        assert "raise `ulimit -n`" in solo[1].log()
        process.terminate()
        process.wait(20)
    solo.start().wait_ready()
    eventually(lambda: stored(solo, b"y"), 2, 20)


def test_with_too_few_descriptors_a_node_says_so_and_ends(solo: LocalCluster) -> None:
    command = f"ulimit -n 64; exec {shlex.join(solo[1].command)}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert b"event=too_few_descriptors descriptors=64" in ran.stderr


def test_the_clock_hook_reaches_the_times_that_records_get(solo: LocalCluster) -> None:
    solo[1].flags = ["--test-hooks"]
    solo.start().wait_ready()
    solo.create_topic("late", 1, 1, message_timestamp_type="LogAppendTime")
    solo[1].hook("clock_ms=7200000")
    with solo.channel(1) as channel:
        record = data_pb2.SendRecord(value=b"x")
        sent = data_stub(channel).Send(data_pb2.SendRequest(topic="late", records=[record]), timeout=10)
        assert not sent.results[0].HasField("error")
        position = data_pb2.FetchPartition(topic="late", partition=0, offset=0)
        fetched = data_stub(channel).Fetch(data_pb2.FetchRequest(partitions=[position]), timeout=10)
    written_ms = fetched.partitions[0].batches[0].max_timestamp
    assert abs(written_ms - (time.time() + 7200) * 1000) < 60_000

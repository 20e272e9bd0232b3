"""The follower's side of a stream, without the stream: which answer belongs to which position."""

import errno
from pathlib import Path
from typing import Any, ClassVar

import pytest

from node.broker.fetcher import Fetcher
from node.broker.pace import MovePace
from node.broker.partition import Partition
from node.broker.settings import BrokerSettings
from node.metadata.image import Image
from node.transport import PLAIN
from ottla.internal.v1.replication_pb2 import ReplicaFetchResult
from ottla.protocol.errors import ApiError
from storage.errors import OffsetsOutOfOrder
from tests.node.broker.test_partition import NOW_MS, TOPIC, Host, append, lead, make, state


class Broker:
    node_id = 1
    settings = BrokerSettings()
    disk_full = False
    transport = PLAIN
    image = Image.EMPTY
    defaults: ClassVar[dict[str, str]] = {}

    def wall_ms(self) -> int:
        return NOW_MS

    def may_fetch(self, partition: Partition) -> bool:
        return True


def follower(path: Path) -> Partition:
    made = make(Host(), path)
    made.follow(state(leader=2))
    return made


def slice_of(leader: Partition, start: int, end: int) -> bytes:
    return leader.log.read(start, 2**20, end, min_one=True).data


async def test_an_answer_from_before_the_log_was_cut_and_opened_again_leaves_no_hole(tmp_path: Path) -> None:
    """Damage is cut, in the same leader epoch: the answer to the old position was taken for that to the new one, and
    what lay between the two was missing for good; this replica led later, and its readers skipped it."""
    leader = make(Host(), tmp_path / "leader")
    lead(leader)
    for value in (b"0", b"1", b"2"):
        append(leader, value)
    fetcher: Any = Fetcher(Broker(), 2, MovePace(Broker()))  # type: ignore[arg-type]
    whole = follower(tmp_path / "whole")
    whole.append_from_leader(slice_of(leader, 0, 2), NOW_MS)
    fetcher.add(whole)
    (asked,) = fetcher._request().partitions
    assert asked.fetch_offset == 2
    reopened = follower(tmp_path / "reopened")
    reopened.append_from_leader(slice_of(leader, 0, 1), NOW_MS)
    fetcher.add(reopened)
    (asked_again,) = fetcher._request().partitions
    assert (asked_again.fetch_offset, asked_again.progress_only) == (1, False)

    def take(position: int, start: int) -> None:
        fetcher._take(ReplicaFetchResult(topic_id=TOPIC, position=position), slice_of(leader, start, 3))

    take(asked.position, 2)
    assert reopened.log.log_end_offset == 1
    take(asked_again.position, 1)
    assert reopened.log.log_end_offset == 3
    assert [batch.header.base_offset for batch in reopened.log.scan(0, 3)] == [0, 1, 2]


def test_a_log_that_cannot_be_read_for_a_follower_leads_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = make(Host(), tmp_path / "leader")
    lead(leader)
    append(leader, b"0")

    def broken(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(leader.log, "read", broken)
    with pytest.raises(ApiError, match="Input/output error"):
        leader.read_for_follower(0, 1000, min_one=True)
    assert leader.offline is not None


def test_no_batch_of_an_epoch_beyond_the_leaders_is_taken(tmp_path: Path) -> None:
    """Taken, it would be in the way of every leader until an epoch that high, of this replica too as the next one."""
    forger = make(Host(), tmp_path / "forger")
    lead(forger, epoch=2**31 - 1)
    append(forger, b"forged")
    partition = make(Host(), tmp_path / "own")
    partition.follow(state(leader=2, epoch=3))
    with pytest.raises(OffsetsOutOfOrder, match="its leader leads 3"):
        partition.append_from_leader(slice_of(forger, 0, 1), NOW_MS)
    assert (partition.log.log_end_offset, partition.log.epochs.latest_epoch) == (0, None)
    lead(partition, epoch=4)
    assert append(partition, b"a").base_offset == 0


def test_a_log_with_an_epoch_that_nobody_was_given_leads_nothing(tmp_path: Path) -> None:
    """An append in a lower epoch than the log's would stop the node: this partition alone is offline until another
    node leads it and cuts that off."""
    partition = make(Host(), tmp_path / "own")
    lead(partition, epoch=9)
    append(partition, b"forged")
    partition.follow(state(leader=2, epoch=3))
    lead(partition, epoch=4)
    assert partition.leader is None
    assert partition.damaged
    assert partition.offline == "its log has epoch 9, this partition is in epoch 4"

"""Look-ups by time at every log start."""

from pathlib import Path
from typing import Any

from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.v1.record_pb2 import Record, Records
from tests.node.broker.host import Host
from tests.node.broker.test_partition import NOW_MS, fetched, for_time, lead, make


def test_what_lies_below_the_log_start_is_never_found(tmp_path: Path) -> None:
    partition = make(Host(), tmp_path / "own")
    lead(partition)
    for deltas in ((900, 5, 7), (3, 800, 1), (4, 4)):
        payload = Records(records=[Record(value=b"v", timestamp_delta=d) for d in deltas]).SerializeToString()
        sent = RecordBatchView(records=payload, base_timestamp=NOW_MS)
        partition.append(sent, acks=1, current_leader_epoch=None, now_ms=NOW_MS)
    fetched(partition, 8)
    found = {}
    for log_start in range(9):
        partition.delete_records(log_start)
        found[log_start] = [for_time(partition, NOW_MS + at) for at in (0, 6, 10, 850)] + [for_time(partition, -3)]
    times = [NOW_MS + delta for delta in (900, 5, 7, 3, 800, 1, 4, 4)]
    for log_start, answers in found.items():
        left = list(enumerate(times))[log_start:]
        wanted: list[Any] = [
            next(((o, t) for o, t in left if t >= NOW_MS + at), (None, None)) for at in (0, 6, 10, 850)
        ]
        wanted.append(next(((o, t) for o, t in left if t == max(times[log_start:])), (None, None)))
        assert answers == wanted, log_start
    partition.log.close(clean=False)

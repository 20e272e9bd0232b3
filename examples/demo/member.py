"""One consumer of the demo's group, as a process of its own: `python -m examples.demo.member BOOTSTRAP TOPIC GROUP`.

It says on standard output, a line of JSON each, what it owns (`owns`) and what it has processed (`done`: partition,
first and last offset, how many).
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Final

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from ottla import Consumer, RebalanceListener, TopicPartition

COMMIT_MS: Final = 500
_AT_ONCE: Final = 500


class Says(RebalanceListener):
    """Tells the demo about every move."""

    def __init__(self) -> None:
        self._owned: set[int] = set()

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._owned |= {where.partition for where in partitions}
        say({"owns": sorted(self._owned)})

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self._owned -= {where.partition for where in partitions}
        say({"owns": sorted(self._owned)})

    on_lost = on_revoked


def say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


async def run(bootstrap: str, topic: str, group: str) -> None:
    async with Consumer(
        topic, group=group, bootstrap=bootstrap, auto_commit_interval_ms=COMMIT_MS, rebalance_listener=Says()
    ) as consumer:
        while True:
            records = await consumer.poll(max_records=_AT_ONCE, timeout_ms=500)
            for partition, part in groupby(records, key=lambda record: record.partition):
                offsets = [record.offset for record in part]
                say({"done": [partition, offsets[0], offsets[-1], len(offsets)]})


if __name__ == "__main__":
    try:
        asyncio.run(run(*sys.argv[1:]))
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(0)

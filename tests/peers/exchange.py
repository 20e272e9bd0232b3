"""The list of exchanges: functions of one side and a version, run in every version that both brokers serve."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.peers.side import Side
from tests.peers.wire import APIS

# What Apache Kafka 4 has no more; Ottla serves it for clients that are older.
DROPPED: Final = {
    "Produce": 3, "OffsetCommit": 2, "CreateTopics": 2, "DeleteTopics": 1, "DescribeConfigs": 1, "DescribeLogDirs": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Exchange:
    api: str
    run: Callable[[Side, int], None]
    version: int

    @property
    def name(self) -> str:
        return f"{self.run.__name__}-{self.version}"


EXCHANGES: Final[list[Exchange]] = []


def served(api: str) -> range:
    versions = APIS[api].versions
    return range(max(versions.low, DROPPED.get(api, 0)), versions.high + 1)


def exchange(api: str, low: int = 0, high: int = 99) -> Callable[[Callable[[Side, int], None]], None]:
    def add(run: Callable[[Side, int], None]) -> None:
        EXCHANGES.extend(Exchange(api, run, version) for version in served(api) if low <= version <= high)

    return add

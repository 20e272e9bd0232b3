"""What can be done to a cluster under test, whatever it runs on. The two kinds are local.py and compose.py."""

from collections.abc import Collection, Sequence
from typing import Literal, Protocol

from ottla.verify.links import Link

Disk = Literal["", "full", "slow"]


class Target(Protocol):
    """A cluster of this run's own. Everything blocks; faults are injected from threads. Raises Failure, OSError."""

    name: str

    @property
    def nodes(self) -> Sequence[int]:
        """The ids of its nodes."""

    @property
    def bootstrap(self) -> str:
        """Where clients reach them, all of them."""

    @property
    def kafka_bootstrap(self) -> str:
        """Where clients of Kafka reach them, if they are served."""

    @property
    def logs(self) -> str:
        """Where the nodes' logs are, for whoever looks into a failed run."""

    def start(self) -> None:
        """Starts all nodes and returns when they are ready. Raises Failure."""

    def close(self) -> None:
        """Leaves nothing behind that runs."""

    def kill(self, node: int) -> None:
        """kill -9; returns when the process is gone."""

    def terminate(self, node: int) -> int:
        """A controlled stop; the exit code."""

    def start_node(self, node: int) -> None: ...
    def pause(self, node: int) -> None: ...
    def resume(self, node: int) -> None: ...

    def cut(self, links: Collection[Link]) -> None:
        """Exactly these directions between nodes are cut from now on."""

    def disk(self, node: int, state: Disk) -> None:
        """From now on writes fail for want of space, or syncs are slow; "" = as it should be."""

    def wipe(self, node: int) -> None:
        """Takes away all the data of a node that does not run."""

    def running(self, node: int) -> bool: ...

    def digests(self, topic_id: bytes) -> dict[int, dict[int, str]]:
        """For each node and each of its logs of the topic, by partition, a hash of all its bytes."""

    def missing(self, fault: str) -> str:
        """Why a kind of fault cannot be had here; "" where it can."""

    def flaws(self) -> list[str]:
        """What the nodes' own logs say of broken rules: two leaders of one epoch, invariants, unexpected errors."""

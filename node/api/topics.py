"""Topics and configs, as the active controller is asked for them, wherever it is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from ottla.protocol.errors import ApiError


class NewTopic(NamedTuple):
    """Counts of None are the cluster's defaults. `assignments`: the replicas of each partition, in place of counts."""

    name: str
    partitions: int | None = None
    replication_factor: int | None = None
    assignments: Sequence[tuple[int, Sequence[int]]] = ()
    configs: Mapping[str, str] = {}


class Created(NamedTuple):
    error: ApiError | None
    topic_id: bytes = b""
    partitions: int = -1
    replication_factor: int = -1


class Deleted(NamedTuple):
    error: ApiError | None
    name: str = ""
    topic_id: bytes = b""


class ConfigLevel(NamedTuple):
    """A config's value at one level; `source` has Kafka's numbers."""

    name: str
    value: str
    source: int


class Config(NamedTuple):
    """The value in force; `levels` begin with it."""

    name: str
    value: str
    source: int
    read_only: bool
    levels: Sequence[ConfigLevel]
    documentation: str


class Described(NamedTuple):
    error: ApiError | None
    configs: Sequence[Config] = ()


class GrownTopic(NamedTuple):
    """`total_count`: partitions it should have in all. `assignments`: the replicas of each new one, or none."""

    name: str
    total_count: int
    assignments: Sequence[tuple[int, Sequence[int]]] = ()


SET, DELETE, APPEND, SUBTRACT = 1, 2, 3, 4
"""What to do with a config; the last two are of lists."""


class ConfigChange(NamedTuple):
    key: str
    value: str
    operation: int


class Changes(NamedTuple):
    """Of one resource, made all or none. `kind` has Kafka's numbers of types."""

    kind: int
    name: str
    changes: Sequence[ConfigChange]


class Elected(NamedTuple):
    topic: str
    partition: int
    error: ApiError | None


class Move(NamedTuple):
    """Where a partition is to go; `replicas` None: its move is called off."""

    topic: str
    partition: int
    replicas: Sequence[int] | None


class TopicsApi(Protocol):
    """Results in the order of the questions. Raises ApiError where no controller could be asked."""

    async def create(
        self, topics: Sequence[NewTopic], timeout_ms: int, *, validate_only: bool
    ) -> Sequence[Created]: ...

    async def delete(self, topics: Sequence[tuple[str, bytes]], timeout_ms: int) -> Sequence[Deleted]: ...

    async def describe(self, resources: Sequence[tuple[int, str]]) -> Sequence[Described]:
        """Configs of (type, name), with Kafka's numbers of types."""
        ...

    async def alter(self, resources: Sequence[Changes], *, validate_only: bool) -> Sequence[ApiError | None]:
        """Changes configs, key by key."""
        ...

    async def grow(
        self, topics: Sequence[GrownTopic], timeout_ms: int, *, validate_only: bool
    ) -> Sequence[ApiError | None]: ...

    async def elect(
        self, partitions: Sequence[tuple[str, int]], timeout_ms: int, *, unclean: bool
    ) -> Sequence[Elected]:
        """Has leaders elected; without partitions everywhere, and then what needed no election is left out."""
        ...

    async def reassign(self, moves: Sequence[Move], timeout_ms: int) -> Sequence[ApiError | None]:
        """Begins moves of partitions, and calls them off."""
        ...

    async def unregister(self, node_id: int, timeout_ms: int) -> ApiError | None:
        """Takes an empty node off the register, for good."""
        ...

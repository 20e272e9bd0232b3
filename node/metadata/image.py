"""The cluster at one index of the metadata log, as immutable values that threads may share.

An `Image` answers questions; it is never changed. `node.metadata.apply` makes the next one from records.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Final, NamedTuple, Protocol

from node.metadata.acls import Acls
from node.metadata.quotas import Quotas
from ottla.protocol.acls import Acl
from ottla.protocol.quotas import Entity
from ottla.protocol.scram import Credential

NO_LEADER: Final = -1
METADATA_VERSION: Final = "metadata.version"
FIRST_METADATA_VERSION: Final = 1
"""Of a new cluster, whatever its build supports: what comes later is used from `FinalizeFeature` on."""
USERS_METADATA_VERSION: Final = 2
"""From which level on there may be users in the log."""
SECURITY_METADATA_VERSION: Final = 3
"""From which level on there may be ACLs and keys of sessions in the log."""
QUOTAS_METADATA_VERSION: Final = 4
"""From which level on there may be quotas of clients in the log."""
REASSIGNMENT_METADATA_VERSION: Final = 5
"""From which level on partitions may move to other replicas."""
KAFKA_METADATA_VERSION: Final = 6
"""From which level on batches of Kafka's clients are stored as they come."""
IMPORT_METADATA_VERSION: Final = 7
"""From which level on there may be topics that an import fills."""
GONE_SINCE_METADATA_VERSION: Final = 8
"""From which level on the log keeps since when a broker is fenced."""
FEATURES: Final = {METADATA_VERSION: (1, 8)}
"""Per feature the levels that this build can work with; in a level of 0 a feature is not used."""
DRAINING: Final = "broker.draining"
"""The config of a broker that nothing new is given to."""
UNREGISTERED: Final = "unregistered.directories"
"""Kept as if it were a config of a node that has left the cluster: the data directories that must not come back."""
FIRST_PRODUCER_ID: Final = 1
"""0 means "no producer" in a batch."""


class UnsupportedFeature(RuntimeError):
    """The cluster was finalized at a level of a feature that this build does not know: it must not take part."""


class Endpoint(NamedTuple):
    """A listener beside the three that every broker has, for clients of Kafka. `name`: see `KafkaListener`."""

    name: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """host:port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Broker:
    """A registered broker; `broker_epoch` is the index of its registration, so a newer start has a larger one."""

    node_id: int
    directory_id: bytes
    incarnation_id: bytes
    broker_epoch: int
    client_address: str
    replication_address: str
    control_address: str
    rack: str = ""
    fenced: bool = True
    in_controlled_shutdown: bool = False
    unclean_stop: bool = False
    version: str = ""
    min_metadata_version: int = FIRST_METADATA_VERSION
    max_metadata_version: int = FIRST_METADATA_VERSION
    max_partitions: int = 0
    endpoints: tuple[Endpoint, ...] = ()
    fenced_since_ms: int = 0
    """By the cluster's clock; 0 = it is not fenced, or nobody wrote down yet since when."""

    def endpoint(self, name: str) -> Endpoint | None:
        return next((each for each in self.endpoints if each.name == name), None)

    @property
    def live(self) -> bool:
        """Whether it may lead and be in an ISR (KIP-841: neither fenced nor on its way out)."""
        return not self.fenced and not self.in_controlled_shutdown


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition's committed state. `replicas[0]` is the preferred leader; `leader` is -1 where there is none.

    While it moves, `target` has what its replicas become, and `adding` those of `replicas`, its last ones, that the
    move added to the ones there were: what is promised goes by the latter until it is complete (invariants.md 1, 32).
    """

    topic_id: bytes
    partition: int
    replicas: tuple[int, ...]
    directories: tuple[bytes, ...]
    isr: tuple[int, ...]
    elr: tuple[int, ...] = ()
    last_known_elr: tuple[int, ...] = ()
    leader: int = NO_LEADER
    leader_epoch: int = 0
    partition_epoch: int = 0
    recovering: bool = False
    last_known_leader: int = NO_LEADER
    adding: tuple[int, ...] = ()
    target: tuple[int, ...] = ()

    @property
    def original(self) -> tuple[int, ...]:
        """The replicas without those that a move adds."""
        return self.replicas[: len(self.replicas) - len(self.adding)]

    @property
    def joining(self) -> tuple[int, ...]:
        """Those that a move adds, and that stay."""
        return tuple(n for n in self.adding if n in self.target)

    @property
    def cancelled(self) -> bool:
        """Whether its move was called off, and goes back to where it began."""
        return set(self.target) == set(self.original)

    @property
    def leaving(self) -> tuple[int, ...]:
        """Who goes when the move is complete."""
        return tuple(n for n in self.replicas if n not in self.target) if self.target else ()

    @property
    def replication_factor(self) -> int:
        """How many replicas were asked for: those that a move adds count once it is complete."""
        return len(self.replicas) - len(self.adding)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: identity is the id, which is never used again; partitions are numbered from 0 without gaps."""

    topic_id: bytes
    name: str
    internal: bool = False
    partitions: tuple[Partition, ...] = ()
    configs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    import_id: bytes = b""
    """The import that is to fill it before it serves anybody; empty: it is open."""
    first_offsets: tuple[int, ...] = ()
    """By partition, where its log begins, while it is imported."""

    def first_offset(self, number: int) -> int:
        """Where a new log of the partition begins."""
        return self.first_offsets[number] if number < len(self.first_offsets) else 0

    @property
    def replication_factor(self) -> int:
        return self.partitions[0].replication_factor


@dataclass(frozen=True, slots=True)
class SessionKey:
    """Signs tokens of sessions. It is not shown."""

    id: int
    key: bytes = field(repr=False)


Users = Mapping[str, Mapping[int, Credential]]
"""By name, the credentials of each mechanism (Kafka's numbers)."""


class MetadataView(Protocol):
    """What both an `Image` and an image in the making can be asked."""

    @property
    def brokers(self) -> Mapping[int, Broker]: ...
    @property
    def names(self) -> Mapping[str, bytes]: ...
    @property
    def broker_configs(self) -> Mapping[str, Mapping[str, str]]: ...
    @property
    def features(self) -> Mapping[str, int]: ...
    @property
    def next_producer_id(self) -> int: ...
    @property
    def users(self) -> Users: ...
    @property
    def secret(self) -> bytes: ...
    @property
    def acl_entries(self) -> Mapping[Acl, None]: ...
    @property
    def session_keys(self) -> tuple[SessionKey, ...]: ...
    @property
    def quota_entries(self) -> Mapping[Entity, Mapping[str, float]]: ...
    def topic(self, topic_id: bytes) -> Topic | None: ...
    def topic_named(self, name: str) -> Topic | None: ...
    def partition(self, topic_id: bytes, partition: int) -> Partition | None: ...
    def all_topics(self) -> Iterator[Topic]: ...


def is_draining(view: MetadataView, node_id: int) -> bool:
    """Whether a broker is being emptied: it gets no new replicas, and no leaderships where others can have them."""
    return view.broker_configs.get(str(node_id), {}).get(DRAINING, "").lower() == "true"


def moving(topic: Topic, wanted: Container[tuple[bytes, int]] | None = None) -> list[Partition]:
    """The partitions of a topic whose moves are under way, by number; `wanted`: only those."""
    return [
        partition
        for partition in topic.partitions
        if partition.target and (wanted is None or (topic.topic_id, partition.partition) in wanted)
    ]


@dataclass(frozen=True, slots=True)
class Image:
    """Everything the metadata log says up to and including `index`, whose term is `term`.

    `broker_configs` maps a broker id in decimal, or "" for all brokers, to its dynamic configs. `secret` is what all
    nodes know and nobody else, empty as long as there never was a user. `session_keys`: the one that signs is the last,
    the one before still verifies.
    """

    index: int = 0
    term: int = 0
    brokers: Mapping[int, Broker] = field(default_factory=lambda: MappingProxyType({}))
    topics: Mapping[bytes, Topic] = field(default_factory=lambda: MappingProxyType({}))
    names: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    broker_configs: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    features: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    next_producer_id: int = FIRST_PRODUCER_ID
    users: Users = field(default_factory=lambda: MappingProxyType({}))
    secret: bytes = field(default=b"", repr=False)
    acls: Acls = field(default_factory=lambda: Acls.EMPTY)
    session_keys: tuple[SessionKey, ...] = ()
    quotas: Quotas = field(default_factory=lambda: Quotas.EMPTY)

    EMPTY: ClassVar["Image"]

    @property
    def acl_entries(self) -> Mapping[Acl, None]:
        return self.acls.entries

    @property
    def quota_entries(self) -> Mapping[Entity, Mapping[str, float]]:
        return self.quotas.entries

    def topic(self, topic_id: bytes) -> Topic | None:
        return self.topics.get(topic_id)

    def topic_named(self, name: str) -> Topic | None:
        topic_id = self.names.get(name)
        return None if topic_id is None else self.topics[topic_id]

    def partition(self, topic_id: bytes, partition: int) -> Partition | None:
        """None for an unknown topic and for a number outside of the topic, negative ones too."""
        topic = self.topics.get(topic_id)
        if topic is None or not 0 <= partition < len(topic.partitions):
            return None
        return topic.partitions[partition]

    def all_topics(self) -> Iterator[Topic]:
        return iter(self.topics.values())

    def live_brokers(self) -> tuple[Broker, ...]:
        """Neither fenced nor in controlled shutdown, by id."""
        return tuple(broker for _, broker in sorted(self.brokers.items()) if broker.live)


Image.EMPTY = Image()


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed from one image to the next. `snapshot` marks a jump: everything may have changed."""

    created_topics: frozenset[bytes] = frozenset()
    deleted_topics: Mapping[bytes, Topic] = field(default_factory=lambda: MappingProxyType({}))
    changed_partitions: frozenset[tuple[bytes, int]] = frozenset()
    changed_brokers: frozenset[int] = frozenset()
    changed_config_topics: frozenset[bytes] = frozenset()
    broker_configs_changed: bool = False
    users_changed: bool = False
    acls_changed: bool = False
    session_keys_changed: bool = False
    quotas_changed: bool = False
    snapshot: bool = False

    @property
    def empty(self) -> bool:
        return not (
            self.created_topics
            or self.deleted_topics
            or self.changed_partitions
            or self.changed_brokers
            or self.changed_config_topics
            or self.broker_configs_changed
            or self.users_changed
            or self.acls_changed
            or self.session_keys_changed
            or self.quotas_changed
            or self.snapshot
        )

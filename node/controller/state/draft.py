"""What every decision works on: the log entry in the making, the soft state, the settings and the time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from node.metadata.acls import Rules as AccessRules
from node.metadata.apply import Builder
from node.metadata.image import Broker, Image, Partition, Topic, is_draining
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol import configs
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

PartitionKey = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """The controller's own settings; times in ms. `static` has broker-level configs from the node's file."""

    session_timeout_ms: int = 3000
    heartbeat_interval_ms: int = 500
    max_partitions_per_node: int = 4000
    rebalance_delay_ms: int = 5000
    rebalance_moves_max: int = 20
    static: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    access: AccessRules = AccessRules()  # noqa: RUF009 (immutable)


@dataclass(slots=True)
class Contact:
    """What the controller last heard from one incarnation of a broker."""

    broker_epoch: int
    contact_ms: int
    metadata_index: int = 0
    data_loop_age_ms: int = 0
    offline: frozenset[PartitionKey] = frozenset()
    directory_offline: bool = False
    disk_full: bool = False
    wall_offset_ms: int | None = None
    """Its wall clock less this controller's monotonic one: comparable with those of the other brokers."""


class LogEnd(NamedTuple):
    """Where a replica's log ends. The larger one is the more complete log (as in a Raft vote)."""

    last_epoch: int
    log_end_offset: int


class LogEndReport(NamedTuple):
    """A log end holds for one incarnation, and until the partition has its next leader."""

    broker_epoch: int
    leader_epoch: int
    log_end: LogEnd


@dataclass(slots=True)
class SoftState:
    """What a controller knows without the log; a new one starts over from contact times and dead verdicts."""

    contacts: dict[int, Contact] = field(default_factory=dict)
    log_ends: dict[PartitionKey, dict[int, LogEndReport]] = field(default_factory=dict)
    shutdown_index: dict[int, int] = field(default_factory=dict)
    """By node: the entry that moved its leaderships; it may stop when every live broker has applied it."""
    preferred_since_ms: dict[PartitionKey, int] = field(default_factory=dict)
    """Since when a partition's preferred replica is in sync without leading."""
    gone_since_ms: dict[int, int] = field(default_factory=dict)
    """Since when a broker is fenced, as far as this controller has seen, or has read in the metadata."""
    gone_known: set[int] = field(default_factory=set)
    """Of these the metadata says since when."""
    heals: dict[PartitionKey, dict[int, int]] = field(default_factory=dict)
    """Partitions that move because brokers are gone: whose replica is rebuilt where."""
    left_alone: dict[PartitionKey, set[int]] = field(default_factory=dict)
    """Brokers that are gone, and whose replicas somebody does not want to have rebuilt."""
    last_tick_ms: int | None = None
    session_key_due_ms: int | None = None
    """When the next key for sessions is to be drawn."""
    leaderless: tuple[int, frozenset[PartitionKey]] = (-1, frozenset())
    """Partitions without a leader, as of an image's index."""


class Rules(NamedTuple):
    """The configs of a topic that decide about its ISR and leaders."""

    min_isr: int | None
    """None: the default, which follows a partition's replication factor."""
    flush_ack: bool
    unclean_election: bool

    def enough(self, replication_factor: int) -> int:
        """How many in-sync replicas make the high watermark of such a partition move."""
        return configs.enough_in_sync(self.min_isr, replication_factor)


class Draft:
    """One log entry in the making. `view` is the state at log end, with every record added so far."""

    def __init__(
        self,
        image: Image,
        next_index: int,
        soft: SoftState,
        settings: ControllerSettings,
        now_ms: int,
        new_id: Callable[[], bytes],
    ) -> None:
        self.view: Final = Builder(image)
        self.base: Final = image
        self.next_index: Final = next_index
        self.soft: Final = soft
        self.settings: Final = settings
        self.now_ms: Final = now_ms
        self.new_id: Final = new_id
        self.records: Final[list[records.MetadataRecord]] = []
        self._rules: dict[bytes, Rules] = {}

    def add(self, record: records.MetadataRecord) -> None:
        """Adds one record; what is read from `view` afterwards includes it."""
        self.view.apply(record)
        self.records.append(record)
        if record.WhichOneof("record") == "config":
            self._rules.clear()

    def scratch(self) -> "Draft":
        """A draft that starts from this one's state and goes nowhere, for `validate_only`."""
        image, _ = self.view.build(self.next_index, self.base.term)
        return Draft(image, self.next_index + 1, self.soft, self.settings, self.now_ms, self.new_id)

    def build(self, term: int) -> Image:
        """The state at log end once this draft is appended. The draft is used up."""
        return self.view.build(self.next_index, term)[0]

    def rules(self, topic: Topic) -> Rules:
        """The topic's rules, cluster-wide: the controller decides for all brokers."""
        rules = self._rules.get(topic.topic_id)
        if rules is None:
            defaults = configs.broker_defaults(self.view.broker_configs, self.settings.static)

            def value(name: str) -> configs.Value:
                key = configs.TOPIC_KEYS[name]
                return key.parse(configs.value_text(key, topic.configs, defaults, topic.replication_factor))

            rules = Rules(
                min_isr=configs.min_isr_set(topic.configs, defaults),
                flush_ack=value("flush") == "ack",
                unclean_election=value("unclean.leader.election.enable") is True,
            )
            self._rules[topic.topic_id] = rules
        return rules

    def cluster_config(self, name: str) -> configs.Value:
        """A cluster-wide broker config in force."""
        key = configs.BROKER_KEYS[name]
        values = configs.broker_defaults(self.view.broker_configs, self.settings.static)
        return key.parse(values.get(name, key.default or ""))

    def clock_offset_ms(self) -> int | None:
        """What the cluster's wall clock has more than `now_ms`: of the registered brokers' clocks the middle one, of
        two in the middle the earlier. None until most of them were heard of."""
        contacts = (self.soft.contacts.get(node_id) for node_id in self.view.brokers)
        known = sorted(c.wall_offset_ms for c in contacts if c is not None and c.wall_offset_ms is not None)
        return None if 2 * len(known) <= len(self.view.brokers) else known[(len(known) - 1) // 2]

    def live_brokers(self) -> list[Broker]:
        """Neither fenced nor stopping, with a log directory that works, by id."""
        return [broker for _, broker in sorted(self.view.brokers.items()) if broker.live and not self._no_disk(broker)]

    def takers(self) -> list[Broker]:
        """Live brokers that new replicas may go to: those that are not being drained."""
        return [broker for broker in self.live_brokers() if not self.draining(broker.node_id)]

    def draining(self, node_id: int) -> bool:
        return is_draining(self.view, node_id)

    def eligible(self, node_id: int, partition: Partition) -> bool:
        """Whether a replica may lead or be in the ISR: its broker is live and its log there did not fail."""
        return self.why_not_eligible(node_id, partition) is None

    def why_not_eligible(self, node_id: int, partition: Partition) -> str | None:
        broker = self.view.brokers.get(node_id)
        if broker is None:
            return "not registered"
        if broker.fenced:
            return "fenced"
        if broker.in_controlled_shutdown:
            return "stopping"
        if self._no_disk(broker):
            return "without its log directory"
        contact = self.soft.contacts.get(node_id)
        if contact is not None and (partition.topic_id, partition.partition) in contact.offline:
            return "without its log of this partition"
        return None

    def has_room(self, node_id: int) -> bool:
        """Whether a broker's disk takes more from producers, as far as it has said."""
        contact = self.soft.contacts.get(node_id)
        return contact is None or not contact.disk_full

    def _no_disk(self, broker: Broker) -> bool:
        contact = self.soft.contacts.get(broker.node_id)
        return contact is not None and contact.directory_offline

    def log_end(self, node_id: int, partition: Partition) -> LogEnd | None:
        """What the present incarnation of a broker reported about its log of a partition."""
        report = self.soft.log_ends.get((partition.topic_id, partition.partition), {}).get(node_id)
        broker = self.view.brokers.get(node_id)
        if report is None or broker is None or report.broker_epoch != broker.broker_epoch:
            return None
        return report.log_end if report.leader_epoch == partition.leader_epoch else None

    def registered(self, node_id: int, broker_epoch: int) -> Broker:
        """The broker, if this is its present incarnation. Raises BROKER_ID_NOT_REGISTERED or STALE_BROKER_EPOCH."""
        broker = self.view.brokers.get(node_id)
        if broker is None:
            raise ApiError(pb.ERROR_CODE_BROKER_ID_NOT_REGISTERED, f"broker {node_id} is not registered")
        if broker.broker_epoch != broker_epoch:
            raise ApiError(
                pb.ERROR_CODE_STALE_BROKER_EPOCH,
                f"broker {node_id} is at epoch {broker.broker_epoch}, the request is of epoch {broker_epoch}",
            )
        return broker

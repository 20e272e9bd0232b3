"""Records to the next image. One log entry is applied as a whole: `apply` returns a new image or raises.

Records come from a committed log, so a contradiction is a bug of ours: `InvariantError`, never a guess.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, Literal

from google.protobuf.message import DecodeError

from node.metadata.image import (
    FEATURES,
    FIRST_METADATA_VERSION,
    Broker,
    Delta,
    Endpoint,
    Image,
    Partition,
    SessionKey,
    Topic,
    UnsupportedFeature,
    Users,
)
from node.metadata.quotas import Quotas
from ottla.internal.v1 import metadata_pb2 as pb
from ottla.protocol.acls import Acl
from ottla.protocol.invariant import InvariantError
from ottla.protocol.quotas import Entity, order
from ottla.protocol.scram import Credential

TOPIC_CONFIG: Final = 2
BROKER_CONFIG: Final = 4
"""Resource types of `ConfigRecord`, Kafka's numbers."""


class Builder:
    """An image in the making: reads see every record applied so far. Untouched parts are shared with the base."""

    def __init__(self, base: Image) -> None:
        self._base = base
        self._brokers = dict(base.brokers)
        self._topics = dict(base.topics)
        self._names = dict(base.names)
        self._broker_configs = dict(base.broker_configs)
        self._features = dict(base.features)
        self._next_producer_id = base.next_producer_id
        # Thousands perhaps, that change seldom: copied with the first change.
        self._users: Users = base.users
        self._changed_users: dict[str, Mapping[int, Credential]] | None = None
        self._secret = base.secret
        self._acls: Mapping[Acl, None] = base.acl_entries
        self._changed_acls: dict[Acl, None] | None = None
        self._touched_acls: list[Acl] = []
        self._session_keys = base.session_keys
        self._quotas: Mapping[Entity, Mapping[str, float]] = base.quota_entries
        self._changed_quotas: dict[Entity, Mapping[str, float]] | None = None
        # Partitions of topics that are being changed, as lists: one change must not copy the whole topic.
        self._open: dict[bytes, list[Partition]] = {}
        self._created: set[bytes] = set()
        self._deleted: dict[bytes, Topic] = {}
        self._changed_partitions: set[tuple[bytes, int]] = set()
        self._changed_brokers: set[int] = set()
        self._changed_config_topics: set[bytes] = set()
        self._broker_configs_changed = False

    @property
    def brokers(self) -> Mapping[int, Broker]:
        return self._brokers

    @property
    def names(self) -> Mapping[str, bytes]:
        return self._names

    @property
    def broker_configs(self) -> Mapping[str, Mapping[str, str]]:
        return self._broker_configs

    @property
    def features(self) -> Mapping[str, int]:
        return self._features

    @property
    def next_producer_id(self) -> int:
        return self._next_producer_id

    @property
    def users(self) -> Users:
        return self._users

    @property
    def secret(self) -> bytes:
        return self._secret

    @property
    def acl_entries(self) -> Mapping[Acl, None]:
        return self._acls

    @property
    def session_keys(self) -> tuple[SessionKey, ...]:
        return self._session_keys

    @property
    def quota_entries(self) -> Mapping[Entity, Mapping[str, float]]:
        return self._quotas

    @property
    def changed_partitions(self) -> frozenset[tuple[bytes, int]]:
        return frozenset(self._changed_partitions)

    @property
    def changed_brokers(self) -> frozenset[int]:
        return frozenset(self._changed_brokers)

    def topic(self, topic_id: bytes) -> Topic | None:
        topic = self._topics.get(topic_id)
        if topic is not None and topic_id in self._open:
            topic = replace(topic, partitions=tuple(self._open.pop(topic_id)))
            self._topics[topic_id] = topic
        return topic

    def topic_named(self, name: str) -> Topic | None:
        topic_id = self._names.get(name)
        return None if topic_id is None else self.topic(topic_id)

    def partition(self, topic_id: bytes, partition: int) -> Partition | None:
        partitions: Sequence[Partition] | None = self._open.get(topic_id)
        if partitions is None:
            topic = self._topics.get(topic_id)
            if topic is None:
                return None
            partitions = topic.partitions
        if not 0 <= partition < len(partitions):
            return None
        return partitions[partition]

    def all_topics(self) -> Iterator[Topic]:
        for topic_id in list(self._topics):
            topic = self.topic(topic_id)
            if topic is not None:
                yield topic

    def apply(self, record: pb.MetadataRecord) -> None:
        """Applies one record. Raises InvariantError where it contradicts what is there, UnsupportedFeature."""
        kind = record.WhichOneof("record")
        if kind is None:
            raise InvariantError("a metadata record of a kind that this build does not know: it must not be skipped")
        _APPLY[kind](self, getattr(record, kind))

    def build(self, index: int, term: int) -> tuple[Image, Delta]:
        """The image after everything applied, and what differs from the base. The builder is used up."""
        for topic_id in list(self._open):
            self.topic(topic_id)
        image = Image(
            index=index,
            term=term,
            brokers=MappingProxyType(self._brokers),
            topics=MappingProxyType(self._topics),
            names=MappingProxyType(self._names),
            broker_configs=MappingProxyType(self._broker_configs),
            features=MappingProxyType(self._features),
            next_producer_id=self._next_producer_id,
            users=self._users if self._changed_users is None else MappingProxyType(self._changed_users),
            secret=self._secret,
            acls=self._base.acls
            if self._changed_acls is None
            else self._base.acls.changed(self._changed_acls, self._touched_acls),
            session_keys=self._session_keys,
            quotas=self._base.quotas
            if self._changed_quotas is None
            else Quotas(MappingProxyType(self._changed_quotas)),
        )
        delta = Delta(
            created_topics=frozenset(self._created),
            deleted_topics=MappingProxyType(self._deleted),
            changed_partitions=frozenset(self._changed_partitions),
            changed_brokers=frozenset(self._changed_brokers),
            changed_config_topics=frozenset(self._changed_config_topics),
            broker_configs_changed=self._broker_configs_changed,
            users_changed=self._changed_users is not None,
            acls_changed=self._changed_acls is not None,
            session_keys_changed=self._session_keys is not self._base.session_keys,
            quotas_changed=self._changed_quotas is not None,
        )
        return image, delta

    def _set_partition(self, partition: Partition) -> None:
        topic = self._topics.get(partition.topic_id)
        if topic is None:
            raise InvariantError(f"partition {partition.partition} of unknown topic {partition.topic_id.hex()}")
        partitions = self._open.setdefault(partition.topic_id, list(topic.partitions))
        if partition.partition == len(partitions):
            partitions.append(partition)
        elif 0 <= partition.partition < len(partitions):
            partitions[partition.partition] = partition
        else:
            raise InvariantError(f"topic {topic.name} has {len(partitions)} partitions, got {partition.partition}")
        self._changed_partitions.add((partition.topic_id, partition.partition))

    def _register_broker(self, record: pb.RegisterBrokerRecord) -> None:
        before = self._brokers.get(record.node_id)
        if before is not None and record.broker_epoch <= before.broker_epoch:
            raise InvariantError(
                f"broker {record.node_id} registered with epoch {record.broker_epoch} after {before.broker_epoch}"
            )
        self._brokers[record.node_id] = Broker(
            node_id=record.node_id,
            directory_id=record.directory_id,
            incarnation_id=record.incarnation_id,
            broker_epoch=record.broker_epoch,
            client_address=record.client_address,
            replication_address=record.replication_address,
            control_address=record.control_address,
            rack=record.rack,
            unclean_stop=record.unclean_stop,
            version=record.version,
            min_metadata_version=record.min_metadata_version or FIRST_METADATA_VERSION,
            max_metadata_version=record.max_metadata_version or FIRST_METADATA_VERSION,
            max_partitions=record.max_partitions,
            endpoints=tuple(Endpoint(each.name, each.host, each.port) for each in record.endpoints),
            fenced_since_ms=record.fenced_since_ms,
        )
        self._changed_brokers.add(record.node_id)
        if before is not None and before.directory_id != record.directory_id:
            self._move_replicas(record.node_id, record.directory_id)

    def _move_replicas(self, node_id: int, directory_id: bytes) -> None:
        """A broker that came back with another disk: its replicas are in the new directory from now on."""
        for topic in list(self.all_topics()):
            for partition in topic.partitions:
                if node_id in partition.replicas:
                    directories = list(partition.directories)
                    directories[partition.replicas.index(node_id)] = directory_id
                    self._set_partition(replace(partition, directories=tuple(directories)))

    def _change_broker(self, record: pb.BrokerChangeRecord) -> None:
        broker = self._registered(record.node_id, record.broker_epoch)
        if record.HasField("fenced"):
            since_ms = broker.fenced_since_ms if broker.fenced and record.fenced else 0
            broker = replace(broker, fenced=record.fenced, fenced_since_ms=since_ms)
        if record.HasField("fenced_since_ms"):
            broker = replace(broker, fenced_since_ms=record.fenced_since_ms)
        if record.HasField("in_controlled_shutdown"):
            broker = replace(broker, in_controlled_shutdown=record.in_controlled_shutdown)
        self._brokers[record.node_id] = broker
        self._changed_brokers.add(record.node_id)

    def _unregister_broker(self, record: pb.UnregisterBrokerRecord) -> None:
        self._registered(record.node_id, record.broker_epoch)
        del self._brokers[record.node_id]
        self._changed_brokers.add(record.node_id)

    def _registered(self, node_id: int, broker_epoch: int) -> Broker:
        broker = self._brokers.get(node_id)
        if broker is None or broker.broker_epoch != broker_epoch:
            have = "not registered" if broker is None else f"at epoch {broker.broker_epoch}"
            raise InvariantError(f"a change of broker {node_id} epoch {broker_epoch}, which is {have}")
        return broker

    def _add_topic(self, record: pb.TopicRecord) -> None:
        if record.topic_id in self._topics or record.name in self._names or record.topic_id in self._deleted:
            raise InvariantError(f"topic {record.name} ({record.topic_id.hex()}) was created twice")
        self._topics[record.topic_id] = Topic(
            record.topic_id,
            record.name,
            record.internal,
            import_id=record.import_id,
            first_offsets=tuple(record.first_offsets),
        )
        self._names[record.name] = record.topic_id
        self._created.add(record.topic_id)

    def _open_topic(self, record: pb.ImportCompletedRecord) -> None:
        topic = self.topic(record.topic_id)
        if topic is None or not topic.import_id:
            raise InvariantError(f"the import of topic {record.topic_id.hex()}, which is none's, was completed")
        self._topics[topic.topic_id] = replace(topic, import_id=b"", first_offsets=())
        self._changed_config_topics.add(topic.topic_id)

    def _remove_topic(self, record: pb.RemoveTopicRecord) -> None:
        topic = self.topic(record.topic_id)
        if topic is None:
            raise InvariantError(f"topic {record.topic_id.hex()} was deleted twice, or never created")
        del self._topics[record.topic_id]
        del self._names[topic.name]
        self._changed_partitions.difference_update((record.topic_id, n) for n in range(len(topic.partitions)))
        self._changed_config_topics.discard(record.topic_id)
        if record.topic_id in self._created:
            self._created.discard(record.topic_id)
        else:
            self._deleted[record.topic_id] = topic

    def _add_partition(self, record: pb.PartitionRecord) -> None:
        self._set_partition(
            Partition(
                topic_id=record.topic_id,
                partition=record.partition,
                replicas=tuple(record.replicas),
                directories=tuple(record.directories),
                isr=tuple(record.isr),
                elr=tuple(record.elr),
                last_known_elr=tuple(record.last_known_elr),
                leader=record.leader,
                leader_epoch=record.leader_epoch,
                partition_epoch=record.partition_epoch,
                recovering=record.recovering,
                last_known_leader=record.last_known_leader,
                adding=tuple(record.adding_replicas),
                target=tuple(record.target_replicas),
            )
        )

    def _change_partition(self, record: pb.PartitionChangeRecord) -> None:
        before = self.partition(record.topic_id, record.partition)
        if before is None:
            raise InvariantError(f"a change of unknown partition {record.topic_id.hex()}-{record.partition}")
        changes: dict[str, Any] = {"partition_epoch": before.partition_epoch + 1}
        if record.HasField("replicas"):
            replicas = tuple(record.replicas.ids)
            known = dict(zip(before.replicas, before.directories, strict=True))
            added = {n: self._brokers[n].directory_id for n in replicas if n not in known}
            changes.update(replicas=replicas, directories=tuple((known | added)[n] for n in replicas))
            if len(replicas) != len(before.replicas):
                # The default of min.insync.replicas follows the replication factor.
                self._changed_config_topics.add(record.topic_id)
        if record.HasField("leader"):
            changes.update(leader=record.leader, leader_epoch=before.leader_epoch + 1)
        lists: tuple[Literal["isr", "elr", "last_known_elr"], ...] = ("isr", "elr", "last_known_elr")
        for name in lists:
            if record.HasField(name):
                changes[name] = tuple(getattr(record, name).ids)
        if record.HasField("adding_replicas"):
            changes["adding"] = tuple(record.adding_replicas.ids)
        if record.HasField("target_replicas"):
            changes["target"] = tuple(record.target_replicas.ids)
        if record.HasField("recovering"):
            changes["recovering"] = record.recovering
        if record.HasField("last_known_leader"):
            changes["last_known_leader"] = record.last_known_leader
        self._set_partition(replace(before, **changes))

    def _set_config(self, record: pb.ConfigRecord) -> None:
        value = record.value if record.HasField("value") else None
        if record.resource_type == TOPIC_CONFIG:
            topic = self.topic(bytes.fromhex(record.resource_name))
            if topic is None:
                raise InvariantError(f"a config of unknown topic {record.resource_name}")
            self._topics[topic.topic_id] = replace(topic, configs=_with(topic.configs, record.key, value))
            self._changed_config_topics.add(topic.topic_id)
        elif record.resource_type == BROKER_CONFIG:
            configs = _with(self._broker_configs.get(record.resource_name, {}), record.key, value)
            if configs:
                self._broker_configs[record.resource_name] = configs
            else:
                self._broker_configs.pop(record.resource_name, None)
            self._broker_configs_changed = True
        else:
            raise InvariantError(f"a config of resource type {record.resource_type}")

    def _take_producer_ids(self, record: pb.ProducerIdsRecord) -> None:
        if record.next_producer_id < self._next_producer_id:
            raise InvariantError(f"producer ids went back from {self._next_producer_id} to {record.next_producer_id}")
        self._next_producer_id = record.next_producer_id

    def _set_feature(self, record: pb.FeatureLevelRecord) -> None:
        lowest, highest = FEATURES.get(record.name, (0, 0))
        if not lowest <= record.level <= highest and record.level:
            supported = f"{lowest} to {highest}" if highest else "none"
            raise UnsupportedFeature(
                f"the cluster is at {record.name} {record.level}, this build supports {supported}: "
                f"start the node with a build that supports {record.name} {record.level}"
            )
        self._features[record.name] = record.level

    def _set_credential(self, record: pb.UserScramCredentialRecord) -> None:
        users = self._own_users()
        kept = Credential(record.iterations, record.salt, record.stored_key, record.server_key)
        users[record.user] = MappingProxyType({**users.get(record.user, {}), record.mechanism: kept})

    def _remove_credential(self, record: pb.RemoveUserScramCredentialRecord) -> None:
        users = self._own_users()
        left = dict(users.get(record.user, {}))
        if left.pop(record.mechanism, None) is None:
            raise InvariantError(f"credential {record.mechanism} of user {record.user!r} was removed, and is not there")
        if left:
            users[record.user] = MappingProxyType(left)
        else:
            del users[record.user]

    def _own_users(self) -> dict[str, Mapping[int, Credential]]:
        if self._changed_users is None:
            self._users = self._changed_users = dict(self._users)
        return self._changed_users

    def _add_acl(self, record: pb.AclRecord) -> None:
        acl = acl_of(record)
        self._own_acls(acl)[acl] = None

    def _remove_acl(self, record: pb.RemoveAclRecord) -> None:
        acl = acl_of(record.acl)
        if acl not in self._acls:
            raise InvariantError(f"an ACL was removed that is not there: {acl}")
        del self._own_acls(acl)[acl]

    def _own_acls(self, touched: Acl) -> dict[Acl, None]:
        if self._changed_acls is None:
            self._acls = self._changed_acls = dict(self._acls)
        self._touched_acls.append(touched)
        return self._changed_acls

    def _set_secret(self, record: pb.ClusterSecretRecord) -> None:
        if self._secret:
            raise InvariantError("the cluster's secret was drawn twice")
        self._secret = record.secret

    def _add_session_key(self, record: pb.SessionKeyRecord) -> None:
        if self._session_keys and record.id <= self._session_keys[-1].id:
            raise InvariantError(f"session key {record.id} was drawn after {self._session_keys[-1].id}")
        self._session_keys = (*self._session_keys[-1:], SessionKey(record.id, record.key))

    def _set_quota(self, record: pb.ClientQuotaRecord) -> None:
        entity = tuple((each.type, each.name if each.HasField("name") else None) for each in record.entity)
        if self._changed_quotas is None:
            self._quotas = self._changed_quotas = dict(self._quotas)
        values = dict(self._changed_quotas.get(entity, {}))
        if record.HasField("value"):
            values[record.key] = record.value
        elif values.pop(record.key, None) is None:
            raise InvariantError(f"{record.key} of {entity} was removed, and is not there")
        if values:
            self._changed_quotas[entity] = MappingProxyType(values)
        else:
            del self._changed_quotas[entity]


_APPLY: Final[dict[str, Callable[..., None]]] = {
    "register_broker": Builder._register_broker,
    "broker_change": Builder._change_broker,
    "unregister_broker": Builder._unregister_broker,
    "topic": Builder._add_topic,
    "import_completed": Builder._open_topic,
    "remove_topic": Builder._remove_topic,
    "partition": Builder._add_partition,
    "partition_change": Builder._change_partition,
    "config": Builder._set_config,
    "producer_ids": Builder._take_producer_ids,
    "feature_level": Builder._set_feature,
    "user_scram_credential": Builder._set_credential,
    "remove_user_scram_credential": Builder._remove_credential,
    "cluster_secret": Builder._set_secret,
    "acl": Builder._add_acl,
    "remove_acl": Builder._remove_acl,
    "session_key": Builder._add_session_key,
    "client_quota": Builder._set_quota,
}


def _with(configs: Mapping[str, str], key: str, value: str | None) -> Mapping[str, str]:
    changed = {k: v for k, v in configs.items() if k != key}
    if value is not None:
        changed[key] = value
    return MappingProxyType(changed)


Watcher = Callable[[Builder, pb.MetadataRecord], None]
"""Is shown each record of an entry before it is applied."""


def apply(
    image: Image, records: pb.MetadataRecords, index: int, term: int, watcher: Watcher | None = None
) -> tuple[Image, Delta]:
    """The image after one log entry (`index` inclusive) and what changed. Raises InvariantError, changing
    nothing."""
    if index <= image.index:
        raise InvariantError(f"metadata entry {index} applied to an image at {image.index}")
    builder = Builder(image)
    for record in records.records:
        if watcher is not None:
            watcher(builder, record)
        builder.apply(record)
    return builder.build(index, term)


def is_readable(data: bytes) -> bool:
    """Whether `data` is an entry of the metadata log whose records this build knows."""
    try:
        records = pb.MetadataRecords.FromString(data).records
    except DecodeError:
        return False
    return all(record.WhichOneof("record") is not None for record in records)


def unloadable(data: bytes) -> str:
    """Why `data` is no snapshot that this build can take: built from nothing, it contradicts itself. Empty if it is."""
    try:
        from_snapshot(data, 1, 1)
    except (DecodeError, InvariantError, UnsupportedFeature, LookupError, ValueError) as error:
        return str(error) or type(error).__name__
    return ""


def image_to_records(image: Image) -> Iterator[pb.MetadataRecord]:
    """The records that build this image from nothing: a snapshot. Order is fixed, so equal images give equal bytes."""
    for name, level in sorted(image.features.items()):
        yield pb.MetadataRecord(feature_level=pb.FeatureLevelRecord(name=name, level=level))
    for node_id, broker in sorted(image.brokers.items()):
        yield pb.MetadataRecord(register_broker=_register_record(broker))
        if not broker.fenced or broker.in_controlled_shutdown:
            yield pb.MetadataRecord(
                broker_change=pb.BrokerChangeRecord(
                    node_id=node_id,
                    broker_epoch=broker.broker_epoch,
                    fenced=broker.fenced,
                    in_controlled_shutdown=broker.in_controlled_shutdown,
                    cause="snapshot",
                )
            )
    for topic_id, topic in sorted(image.topics.items()):
        record = pb.TopicRecord(
            topic_id=topic_id,
            name=topic.name,
            internal=topic.internal,
            import_id=topic.import_id,
            first_offsets=topic.first_offsets,
        )
        yield pb.MetadataRecord(topic=record)
        for partition in topic.partitions:
            yield pb.MetadataRecord(partition=partition_record(partition))
        yield from (_config_record(TOPIC_CONFIG, topic_id.hex(), *item) for item in sorted(topic.configs.items()))
    for name, configs in sorted(image.broker_configs.items()):
        yield from (_config_record(BROKER_CONFIG, name, *item) for item in sorted(configs.items()))
    yield pb.MetadataRecord(producer_ids=pb.ProducerIdsRecord(next_producer_id=image.next_producer_id))
    if image.secret:
        yield pb.MetadataRecord(cluster_secret=pb.ClusterSecretRecord(secret=image.secret))
    for each in image.session_keys:
        yield pb.MetadataRecord(session_key=pb.SessionKeyRecord(id=each.id, key=each.key))
    for user, credentials in sorted(image.users.items()):
        for mechanism, kept in sorted(credentials.items()):
            yield pb.MetadataRecord(user_scram_credential=credential_record(user, mechanism, kept))
    for acl in sorted(image.acl_entries):
        yield pb.MetadataRecord(acl=acl_record(acl))
    for entity, values in sorted(image.quota_entries.items(), key=lambda item: order(item[0])):
        for key, value in sorted(values.items()):
            yield pb.MetadataRecord(client_quota=quota_record(entity, key, value))


def snapshot_bytes(image: Image) -> bytes:
    """`image` as the bytes of a snapshot; `from_snapshot` reads them."""
    return pb.MetadataRecords(records=image_to_records(image)).SerializeToString(deterministic=True)


def from_snapshot(data: bytes, index: int, term: int) -> Image:
    """The image a snapshot holds. Raises `google.protobuf.message.DecodeError` or InvariantError on other bytes."""
    builder = Builder(Image.EMPTY)
    for record in pb.MetadataRecords.FromString(data).records:
        builder.apply(record)
    return builder.build(index, term)[0]


def snapshot_delta(before: Image, after: Image) -> Delta:
    """What a jump from one image to a later one changed: names every topic that is gone and all that is there."""
    return Delta(
        created_topics=frozenset(after.topics.keys() - before.topics.keys()),
        deleted_topics=MappingProxyType({i: t for i, t in before.topics.items() if i not in after.topics}),
        changed_partitions=frozenset(
            (topic_id, p.partition)
            for topic_id, topic in after.topics.items()
            for p in topic.partitions
            if before.partition(topic_id, p.partition) != p
        ),
        changed_brokers=frozenset(
            n for n in before.brokers.keys() | after.brokers.keys() if before.brokers.get(n) != after.brokers.get(n)
        ),
        changed_config_topics=frozenset(
            topic_id
            for topic_id, topic in after.topics.items()
            if topic_id not in before.topics or before.topics[topic_id].configs != topic.configs
        ),
        broker_configs_changed=before.broker_configs != after.broker_configs,
        users_changed=before.users != after.users,
        acls_changed=before.acls != after.acls,
        session_keys_changed=before.session_keys != after.session_keys,
        quotas_changed=before.quotas != after.quotas,
        snapshot=True,
    )


def partition_record(partition: Partition) -> pb.PartitionRecord:
    """A partition's whole state as a record."""
    return pb.PartitionRecord(
        topic_id=partition.topic_id,
        partition=partition.partition,
        replicas=partition.replicas,
        directories=partition.directories,
        isr=partition.isr,
        elr=partition.elr,
        last_known_elr=partition.last_known_elr,
        leader=partition.leader,
        leader_epoch=partition.leader_epoch,
        partition_epoch=partition.partition_epoch,
        recovering=partition.recovering,
        last_known_leader=partition.last_known_leader,
        adding_replicas=partition.adding,
        target_replicas=partition.target,
    )


def credential_record(user: str, mechanism: int, kept: Credential) -> pb.UserScramCredentialRecord:
    """A user's credential as a record."""
    return pb.UserScramCredentialRecord(
        user=user,
        mechanism=mechanism,
        iterations=kept.iterations,
        salt=kept.salt,
        stored_key=kept.stored_key,
        server_key=kept.server_key,
    )


def acl_record(acl: Acl) -> pb.AclRecord:
    """An ACL as a record."""
    return pb.AclRecord(
        resource_type=acl.resource,
        pattern_type=acl.pattern,
        resource_name=acl.name,
        principal=acl.principal,
        host=acl.host,
        operation=acl.operation,
        permission=acl.permission,
    )


def acl_of(record: pb.AclRecord) -> Acl:
    """The ACL that a record has."""
    return Acl(
        record.resource_type,
        record.pattern_type,
        record.resource_name,
        record.principal,
        record.host,
        record.operation,
        record.permission,
    )


def quota_record(entity: Entity, key: str, value: float | None) -> pb.ClientQuotaRecord:
    """A quota as a record; None: it is removed."""
    parts = [pb.QuotaEntityPart(type=kind, name=name) for kind, name in entity]
    return pb.ClientQuotaRecord(entity=parts, key=key, value=value)


def _register_record(broker: Broker) -> pb.RegisterBrokerRecord:
    return pb.RegisterBrokerRecord(
        node_id=broker.node_id,
        directory_id=broker.directory_id,
        incarnation_id=broker.incarnation_id,
        broker_epoch=broker.broker_epoch,
        client_address=broker.client_address,
        replication_address=broker.replication_address,
        control_address=broker.control_address,
        rack=broker.rack,
        unclean_stop=broker.unclean_stop,
        version=broker.version,
        min_metadata_version=broker.min_metadata_version,
        max_metadata_version=broker.max_metadata_version,
        max_partitions=broker.max_partitions,
        fenced_since_ms=broker.fenced_since_ms,
        endpoints=[pb.Endpoint(name=name, host=host, port=port) for name, host, port in broker.endpoints],
    )


def _config_record(resource_type: int, name: str, key: str, value: str) -> pb.MetadataRecord:
    return pb.MetadataRecord(
        config=pb.ConfigRecord(resource_type=resource_type, resource_name=name, key=key, value=value)
    )

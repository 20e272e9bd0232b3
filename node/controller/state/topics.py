"""Topics: create, delete, grow. Each topic of a request succeeds or fails by itself."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from node import limits
from node.controller.state import imports, placement
from node.controller.state.draft import Draft
from node.controller.state.elections import reconsider
from node.controller.state.placement import Load
from node.controller.state.repair import INTERNAL_REPLICATION_FACTOR
from node.metadata.apply import TOPIC_CONFIG, partition_record
from node.metadata.image import Partition, Topic
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol import configs, names
from ottla.protocol.errors import ApiError
from ottla.protocol.invariant import InvariantError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb

PARTITIONS_PER_REQUEST_MAX: Final = limits.PARTITIONS_PER_REQUEST_MAX
"""One request is one log entry, and an entry has a size."""


def create_topics(draft: Draft, request: admin.CreateTopicsRequest) -> admin.CreateTopicsResponse:
    """Creates topics with all of their partitions and configs."""
    if request.validate_only:
        draft = draft.scratch()
    twice = {name for name, count in Counter(topic.name for topic in request.topics).items() if count > 1}
    load = Load.of(draft.view)
    taken = {names.collision_key(name): name for name in draft.view.names}
    budget = PARTITIONS_PER_REQUEST_MAX
    response = admin.CreateTopicsResponse()
    for wish in request.topics:
        result = response.topics.add(name=wish.name[: names.TOPIC_NAME_MAX])
        try:
            if wish.name in twice:
                raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"topic {wish.name[:100]!r} is named twice")
            _check_name(wish.name, taken)
            topic = _create(draft, wish, load, budget, internal=False)
        except ApiError as error:
            result.error.CopyFrom(error.to_proto())
            continue
        budget -= len(topic.partitions)
        taken[names.collision_key(topic.name)] = topic.name
        result.topic_id = b"" if request.validate_only else topic.topic_id
        result.num_partitions = len(topic.partitions)
        result.replication_factor = topic.replication_factor
    return response


def ensure_internal_topic(draft: Draft, request: rpc.EnsureInternalTopicRequest) -> rpc.EnsureInternalTopicResponse:
    """Creates an internal topic where it is missing, with min(3, live brokers) replicas and `flush=ack`."""
    name = request.topic.name
    names.check_topic_name(name)
    if not names.belongs_to_the_cluster(name):
        raise ApiError(
            pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION, f"{name!r} is no internal name: it does not belong to the cluster"
        )
    if name in draft.view.names:
        return rpc.EnsureInternalTopicResponse()
    wish = admin.NewTopic(
        name=name,
        num_partitions=request.topic.num_partitions or 1,
        replication_factor=min(INTERNAL_REPLICATION_FACTOR, len(draft.takers())),
        configs={"flush": "ack", **request.topic.configs},
    )
    _create(draft, wish, Load.of(draft.view), PARTITIONS_PER_REQUEST_MAX, internal=True)
    return rpc.EnsureInternalTopicResponse()


def delete_topics(draft: Draft, request: admin.DeleteTopicsRequest) -> admin.DeleteTopicsResponse:
    """Deletes topics by name, id or both. Brokers drop the data when they learn of it; dead ones when they are back."""
    if request.validate_only:
        draft = draft.scratch()
    response = admin.DeleteTopicsResponse()
    for ref in request.topics:
        result = response.topics.add(name=ref.name[: names.TOPIC_NAME_MAX], topic_id=ref.topic_id[:16])
        try:
            topic = _find(draft, ref)
            if topic.internal:
                raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"{topic.name} belongs to the cluster itself")
        except ApiError as error:
            result.error.CopyFrom(error.to_proto())
            continue
        result.name, result.topic_id = topic.name, topic.topic_id
        draft.add(records.MetadataRecord(remove_topic=records.RemoveTopicRecord(topic_id=topic.topic_id)))
    return response


def create_partitions(draft: Draft, request: admin.CreatePartitionsRequest) -> admin.CreatePartitionsResponse:
    """Gives topics more partitions; never fewer, which would break the order of keys."""
    if request.validate_only:
        draft = draft.scratch()
    twice = {name for name, count in Counter(topic.name for topic in request.topics).items() if count > 1}
    load = Load.of(draft.view)
    budget = PARTITIONS_PER_REQUEST_MAX
    response = admin.CreatePartitionsResponse()
    for wish in request.topics:
        result = response.topics.add(name=wish.name[: names.TOPIC_NAME_MAX])
        try:
            if wish.name in twice:
                raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"topic {wish.name[:100]!r} is named twice")
            budget -= _grow(draft, wish, load, budget)
        except ApiError as error:
            result.error.CopyFrom(error.to_proto())
    return response


def _check_name(name: str, taken: dict[str, str]) -> None:
    names.check_topic_name(name)
    if names.belongs_to_the_cluster(name):
        raise ApiError(
            pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION,
            f"topic name {name!r} is reserved: {', '.join(sorted(names.OWN_TOPICS))} and what begins with "
            f"{names.OWN_PREFIX} belong to the cluster itself",
        )
    other = taken.get(names.collision_key(name))
    if other == name:
        raise ApiError(pb.ERROR_CODE_TOPIC_ALREADY_EXISTS, f"topic {name!r} exists")
    if other is not None:
        raise ApiError(
            pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION,
            f"topic name {name!r} collides with {other!r}: '.' and '_' are the same in metric names",
        )


def _create(draft: Draft, wish: admin.NewTopic, load: Load, budget: int, internal: bool) -> Topic:
    """Checks everything, then adds one topic. The initial ISR is all replicas: only live brokers are assigned."""
    _check_configs(draft, wish)
    if wish.assignments:
        if wish.num_partitions > 0 or wish.replication_factor > 0:
            raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"{wish.name}: give either assignments or numbers, not both")
        _check_budget(len(wish.assignments), budget)
        placed = placement.check_assignments(draft, wish.assignments, 0, None)
        placement.check_partition_limit(draft, load, placed)
        for replicas in placed:
            load.add(replicas)
    else:
        placed = _place_new(draft, wish, load, budget)
    topic_id = draft.new_id()
    record = records.TopicRecord(topic_id=topic_id, name=wish.name, internal=internal)
    if wish.HasField("importing"):
        imports.check_new(draft, wish, len(placed))
        record.import_id = wish.importing.import_id
        record.first_offsets.extend(wish.importing.first_offsets)
    draft.add(records.MetadataRecord(topic=record))
    imports.reserve_producer_ids(draft, wish.importing.producer_ids_end)
    _add_partitions(draft, topic_id, placed, 0)
    for key, value in sorted(wish.configs.items()):
        config = records.ConfigRecord(resource_type=TOPIC_CONFIG, resource_name=topic_id.hex(), key=key, value=value)
        draft.add(records.MetadataRecord(config=config))
    topic = draft.view.topic(topic_id)
    if topic is None:
        raise InvariantError(f"topic {topic_id.hex()} is gone after its creation")
    for partition in list(topic.partitions):
        if not all(map(draft.has_room, partition.replicas)):
            reconsider(draft, partition, "it was created where a disk is full")
    return topic


def _place_new(draft: Draft, wish: admin.NewTopic, load: Load, budget: int) -> list[tuple[int, ...]]:
    takers = draft.takers()
    count = wish.num_partitions if wish.HasField("num_partitions") else _int(draft.cluster_config("num.partitions"))
    if count == -1:
        count = _int(draft.cluster_config("num.partitions"))
    if count < 1:
        raise ApiError(pb.ERROR_CODE_INVALID_PARTITIONS, f"{wish.name}: {count} partitions, at least 1 is needed")
    _check_budget(count, budget)
    factor = wish.replication_factor if wish.HasField("replication_factor") else -1
    if factor == -1:
        factor = _int(draft.cluster_config("default.replication.factor"))
    if factor == -1:
        factor = max(1, min(3, len(takers)))
    _check_factor(draft, wish.name, factor)
    placement.check_racks(takers)
    trial = Load(load.leaders.copy(), load.replicas.copy())
    placed = placement.place(takers, count, factor, trial)
    placement.check_partition_limit(draft, load, placed)
    for replicas in placed:
        load.add(replicas)
    return placed


def _grow(draft: Draft, wish: admin.GrowTopic, load: Load, budget: int) -> int:
    topic = draft.view.topic_named(wish.name)
    if topic is None:
        raise ApiError(pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {wish.name[:100]!r}")
    if topic.internal:
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"{topic.name} belongs to the cluster itself")
    if topic.import_id:
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST, f"{topic.name} is being imported, with as many partitions as there were"
        )
    have = len(topic.partitions)
    if wish.total_count <= have:
        raise ApiError(
            pb.ERROR_CODE_INVALID_PARTITIONS,
            f"{topic.name} has {have} partitions, {wish.total_count} are wanted: the number can only grow",
        )
    more = wish.total_count - have
    _check_budget(more, budget)
    factor = topic.replication_factor
    if wish.assignments:
        if len(wish.assignments) != more:
            raise ApiError(
                pb.ERROR_CODE_INVALID_REPLICA_ASSIGNMENT,
                f"{topic.name} gets {more} new partitions, {len(wish.assignments)} are assigned",
            )
        placed = placement.check_assignments(draft, wish.assignments, have, factor)
    else:
        takers = draft.takers()
        _check_factor(draft, topic.name, factor)
        placement.check_racks(takers)
        trial = Load(load.leaders.copy(), load.replicas.copy())
        placed = placement.place(takers, more, factor, trial, first_partition=have)
    placement.check_partition_limit(draft, load, placed)
    for replicas in placed:
        load.add(replicas)
    _add_partitions(draft, topic.topic_id, placed, have)
    return more


def _add_partitions(draft: Draft, topic_id: bytes, placed: Sequence[tuple[int, ...]], first: int) -> None:
    for number, replicas in enumerate(placed, first):
        partition = Partition(
            topic_id=topic_id,
            partition=number,
            replicas=replicas,
            directories=tuple(draft.view.brokers[n].directory_id for n in replicas),
            isr=replicas,
            leader=replicas[0],
        )
        draft.add(records.MetadataRecord(partition=partition_record(partition)))


def _check_configs(draft: Draft, wish: admin.NewTopic) -> None:
    for name, value in wish.configs.items():
        configs.topic_key(name).parse(value)
    defaults = configs.broker_defaults(draft.view.broker_configs, draft.settings.static)
    check_together(wish.configs, defaults, wish.configs)


def check_together(topic: Mapping[str, str], defaults: Mapping[str, str], changed: Collection[str]) -> None:
    """Refuses configs that are each allowed and contradict each other, where one of them is `changed`, by the name that
    it has for a topic or for a broker: what has come to contradict each other otherwise holds up no other change."""
    keys = [configs.TOPIC_KEYS[name] for name in ("min.compaction.lag.ms", "max.compaction.lag.ms")]
    if not any(key.name in changed or key.broker_name in changed for key in keys):
        return
    low, high = (_int(key.parse(configs.value_text(key, topic, defaults, 1))) for key in keys)
    if low > high:
        raise ApiError(
            pb.ERROR_CODE_INVALID_CONFIG, f"min.compaction.lag.ms {low} is greater than max.compaction.lag.ms {high}"
        )


def _check_budget(count: int, budget: int) -> None:
    if count > budget:
        raise ApiError(
            pb.ERROR_CODE_POLICY_VIOLATION,
            f"{count} partitions, {budget} are left of the {PARTITIONS_PER_REQUEST_MAX} that one request may create",
        )


def _check_factor(draft: Draft, name: str, factor: int) -> None:
    live = [broker.node_id for broker in draft.live_brokers()]
    drained = [node_id for node_id in live if draft.draining(node_id)]
    if not 1 <= factor <= len(live) - len(drained):
        but = f", of which {', '.join(map(str, drained))} are drained and get nothing new" if drained else ""
        raise ApiError(
            pb.ERROR_CODE_INVALID_REPLICATION_FACTOR,
            f"{name}: replication factor {factor}, {len(live)} brokers are live{but}",
        )


def _find(draft: Draft, ref: admin.TopicRef) -> Topic:
    by_name = draft.view.topic_named(ref.name) if ref.name else None
    if not ref.topic_id:
        if by_name is None:
            raise ApiError(pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {ref.name[:100]!r}")
        return by_name
    topic = draft.view.topic(ref.topic_id)
    if topic is None or (ref.name and topic.name != ref.name):
        named = f" of name {ref.name[:100]!r}" if ref.name else ""
        raise ApiError(pb.ERROR_CODE_UNKNOWN_TOPIC_ID, f"there is no topic {ref.topic_id[:16].hex()}{named}")
    return topic


def _int(value: configs.Value) -> int:
    return int(value)  # type: ignore[arg-type]  # an int by the table

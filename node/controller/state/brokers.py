"""Brokers come, stay and go: registration, heartbeats, leases, fencing, controlled shutdown, a controller's start."""

from collections.abc import Collection, Mapping
from typing import Final

from node.controller.state.draft import Contact, Draft, LogEnd, LogEndReport, PartitionKey
from node.controller.state.elections import reconsider, reconsider_all
from node.controller.state.features import level_of
from node.controller.state.unregister import check_directory
from node.metadata.image import FIRST_METADATA_VERSION, METADATA_VERSION, NO_LEADER, Broker
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

PRODUCER_ID_BLOCK: Final = 1000
ENDPOINTS_MAX: Final = 16
WANT_LOG_ENDS_MAX: Final = 500
"""Partitions asked about in one heartbeat; the others follow with the next one."""
_TICK_GAP_MS: Final = 500
"""Ticks come several times a second: what a gap has beyond this, this node slept, not the brokers."""


def take_over(draft: Draft, last_contact_ms: Mapping[int, int | None], dead: Collection[int], own_id: int) -> None:
    """A new controller's first entry. Leases start at the last contact on any channel, raft included, so that a broker
    that died together with the old controller is fenced too (KAFKA-18138); but nobody is fenced before it had the time
    of two heartbeats to find the new controller."""
    settings = draft.settings
    earliest_ms = draft.now_ms - settings.session_timeout_ms + 2 * settings.heartbeat_interval_ms
    for node_id, broker in draft.view.brokers.items():
        seen_ms = draft.now_ms if node_id == own_id else last_contact_ms.get(node_id)
        contact_ms = draft.now_ms if seen_ms is None else min(draft.now_ms, max(seen_ms, earliest_ms))
        draft.soft.contacts[node_id] = Contact(broker.broker_epoch, contact_ms)
        if broker.in_controlled_shutdown:
            draft.soft.shutdown_index[node_id] = draft.base.index
    if METADATA_VERSION not in draft.view.features:
        level = records.FeatureLevelRecord(name=METADATA_VERSION, level=FIRST_METADATA_VERSION)
        draft.add(records.MetadataRecord(feature_level=level))
    for node_id in sorted(dead):
        declare_dead(draft, node_id)


def register(draft: Draft, request: rpc.RegisterBrokerRequest, cluster_id: bytes) -> rpc.RegisterBrokerResponse:
    """Registers a start of a broker: fenced, with a broker epoch that no earlier start had.

    The same directory replaces the old incarnation at once, for the directory's lock proves that one dead. Another
    directory is refused while the first lives (DUPLICATE_BROKER_REGISTRATION).
    """
    _check_registration(draft, request, cluster_id)
    before = draft.view.brokers.get(request.node_id)
    if before is not None:
        if before.incarnation_id == request.incarnation_id:
            return rpc.RegisterBrokerResponse(broker_epoch=before.broker_epoch)
        if before.broker_epoch == draft.next_index:
            raise _duplicate(request, "another start of it was registered this very moment", retriable=True)
        if (
            before.directory_id != request.directory_id
            and _lease_age_ms(draft, before) < draft.settings.session_timeout_ms
        ):
            raise _duplicate(
                request,
                f"broker {request.node_id} lives at {before.client_address} with directory {before.directory_id.hex()},"
                f" this one has directory {request.directory_id.hex()}",
            )
    draft.add(
        records.MetadataRecord(
            register_broker=records.RegisterBrokerRecord(
                node_id=request.node_id,
                directory_id=request.directory_id,
                incarnation_id=request.incarnation_id,
                broker_epoch=draft.next_index,
                client_address=request.client_address,
                replication_address=request.replication_address,
                control_address=request.control_address,
                rack=request.rack,
                unclean_stop=request.unclean_stop,
                version=request.version,
                min_metadata_version=request.min_metadata_version,
                max_metadata_version=request.max_metadata_version,
                max_partitions=max(0, request.max_partitions),
                endpoints=request.endpoints,
                fenced_since_ms=0 if before is None else before.fenced_since_ms,
            )
        )
    )
    draft.soft.contacts[request.node_id] = Contact(draft.next_index, draft.now_ms)
    draft.soft.shutdown_index.pop(request.node_id, None)
    wiped = before is not None and before.directory_id != request.directory_id
    cause = f"broker {request.node_id} started again"
    if wiped:
        cause += " with another directory"
    elif request.unclean_stop:
        cause += " after a stop that may have lost what was not synced"
    # First, so that its cause is the one that is kept of these.
    for lost in request.lost_partitions:
        partition = draft.view.partition(lost.topic_id, lost.partition)
        if partition is not None and request.node_id in partition.replicas:
            gone = f"broker {request.node_id} started again without its log of it"
            reconsider(draft, partition, gone, lost=(request.node_id,), wiped=(request.node_id,))
    reconsider_all(draft, request.node_id, cause, lost_by_flush=request.unclean_stop, wiped=wiped)
    return rpc.RegisterBrokerResponse(broker_epoch=draft.next_index)


def heartbeat(draft: Draft, request: rpc.HeartbeatRequest, contact_ms: int) -> rpc.HeartbeatResponse:
    """One sign of life, heard at `contact_ms` (before any queueing): may unfence, fence or start a controlled shutdown.

    Raises BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH.
    """
    broker = draft.registered(request.node_id, request.broker_epoch)
    contact = _note_contact(draft, request, contact_ms)
    _take_log_ends(draft, request)
    wedged = request.data_loop_age_ms >= draft.settings.session_timeout_ms
    caught_up = request.metadata_index >= broker.broker_epoch
    if wedged and not broker.fenced:
        _fence(draft, broker, f"its data loop has not turned for {request.data_loop_age_ms} ms")
    elif request.want_fence and not broker.fenced:
        _fence(draft, broker, "it asked for it")
    elif request.want_shutdown and not broker.in_controlled_shutdown and not broker.fenced:
        _start_shutdown(draft, broker)
    elif broker.fenced and caught_up and not (wedged or request.want_fence or request.want_shutdown):
        _unfence(draft, broker)
    broker = draft.view.brokers[request.node_id]
    return rpc.HeartbeatResponse(
        clock_ahead_ms=_clock_ahead_ms(draft, contact),
        fenced=broker.fenced,
        caught_up=caught_up,
        should_shutdown=request.want_shutdown and _may_stop(draft, broker),
        want_log_ends=[
            rpc.PartitionId(topic_id=topic_id, partition=n)
            for topic_id, n in _wanted_log_ends(draft, request.node_id, contact)
        ],
    )


def _clock_ahead_ms(draft: Draft, contact: Contact) -> int | None:
    """How far a broker's wall clock is ahead of the cluster's. An earlier one of two in the middle deletes nothing too
    early."""
    cluster_ms = draft.clock_offset_ms()
    if contact.wall_offset_ms is None or cluster_ms is None:
        return None
    return contact.wall_offset_ms - cluster_ms


def tick(draft: Draft) -> None:
    """Fences the brokers whose lease ran out. Call it several times a second."""
    soft = draft.soft
    slept_ms = 0 if soft.last_tick_ms is None else draft.now_ms - soft.last_tick_ms - _TICK_GAP_MS
    if slept_ms > 0:
        # A stopped or starved controller has not listened: the silence is its own (KAFKA-15019).
        for contact in soft.contacts.values():
            contact.contact_ms = min(draft.now_ms, contact.contact_ms + slept_ms)
    soft.last_tick_ms = draft.now_ms
    for broker in list(draft.view.brokers.values()):
        if not broker.fenced:
            silent_ms = _lease_age_ms(draft, broker)
            if silent_ms >= draft.settings.session_timeout_ms:
                _fence(draft, broker, f"no heartbeat for {silent_ms} ms")


def declare_dead(draft: Draft, node_id: int) -> None:
    """Its process was seen to be gone (protocol.md section 5): no lease to wait for."""
    broker = draft.view.brokers.get(node_id)
    if broker is None:
        return
    contact = draft.soft.contacts.get(node_id)
    if contact is not None:
        contact.contact_ms = draft.now_ms - draft.settings.session_timeout_ms
    if not broker.fenced:
        _fence(draft, broker, "its process is gone")


def allocate_producer_ids(draft: Draft, request: rpc.AllocateProducerIdsRequest) -> rpc.AllocateProducerIdsResponse:
    """Hands out a block of ids that nobody had before. Raises BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH."""
    draft.registered(request.node_id, request.broker_epoch)
    first = draft.view.next_producer_id
    draft.add(
        records.MetadataRecord(
            producer_ids=records.ProducerIdsRecord(
                node_id=request.node_id,
                broker_epoch=request.broker_epoch,
                next_producer_id=first + PRODUCER_ID_BLOCK,
            )
        )
    )
    return rpc.AllocateProducerIdsResponse(first_producer_id=first, count=PRODUCER_ID_BLOCK)


def _check_registration(draft: Draft, request: rpc.RegisterBrokerRequest, cluster_id: bytes) -> None:
    if request.cluster_id != cluster_id:
        raise ApiError(
            pb.ERROR_CODE_INCONSISTENT_CLUSTER_ID,
            f"broker {request.node_id} belongs to cluster {request.cluster_id.hex()}, this is {cluster_id.hex()}",
        )
    if request.node_id < 1:
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"node id {request.node_id}: 1 or more is allowed")
    for name in ("directory_id", "incarnation_id"):
        if len(getattr(request, name)) != 16:
            raise ApiError(
                pb.ERROR_CODE_INVALID_REQUEST, f"{name} has {len(getattr(request, name))} bytes, 16 are needed"
            )
    for name in ("client_address", "replication_address", "control_address"):
        address = getattr(request, name)
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or len(address) > 300:
            raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"{name} {address[:300]!r} is no host:port")
    if len(request.endpoints) > ENDPOINTS_MAX:
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST, f"{len(request.endpoints)} endpoints: {ENDPOINTS_MAX} are allowed at most"
        )
    for each in request.endpoints:
        if not each.name or not each.host or not 0 < each.port < 65536 or len(each.name) + len(each.host) > 300:
            raise ApiError(
                pb.ERROR_CODE_INVALID_REQUEST,
                f"endpoint {each.name[:50]!r} at {each.host[:250]!r} port {each.port} is no name, host and port",
            )
    check_directory(draft, request.node_id, request.directory_id)
    level = level_of(draft)
    if not request.min_metadata_version <= level <= request.max_metadata_version:
        raise ApiError(
            pb.ERROR_CODE_UNSUPPORTED_VERSION,
            f"the cluster is at {METADATA_VERSION} {level}, broker {request.node_id} supports "
            f"{request.min_metadata_version} to {request.max_metadata_version}: start the node with a build that "
            f"supports {METADATA_VERSION} {level}",
        )


def _duplicate(request: rpc.RegisterBrokerRequest, why: str, retriable: bool = False) -> ApiError:
    return ApiError(
        pb.ERROR_CODE_DUPLICATE_BROKER_REGISTRATION,
        f"node id {request.node_id} is taken: {why}",
        retriable_override=retriable,
        retry_after_ms=100 if retriable else 0,
    )


def _note_contact(draft: Draft, request: rpc.HeartbeatRequest, contact_ms: int) -> Contact:
    contact = draft.soft.contacts.get(request.node_id)
    if contact is None or contact.broker_epoch != request.broker_epoch:
        contact = draft.soft.contacts[request.node_id] = Contact(request.broker_epoch, contact_ms)
    contact.contact_ms = max(contact.contact_ms, contact_ms)
    contact.metadata_index = max(contact.metadata_index, request.metadata_index)
    contact.data_loop_age_ms = request.data_loop_age_ms
    offline = frozenset((p.topic_id, p.partition) for p in request.offline_partitions)
    directory_offline = draft.view.brokers[request.node_id].directory_id in request.offline_directories
    contact.wall_offset_ms = request.wall_ms - contact_ms if request.HasField("wall_ms") else None
    if request.disk_full != contact.disk_full:
        contact.disk_full = request.disk_full
        has = "is full" if request.disk_full else "has room again, so that fuller ones may leave"
        reconsider_all(draft, request.node_id, f"the disk of broker {request.node_id} {has}")
    if (offline, directory_offline) != (contact.offline, contact.directory_offline):
        _take_offline(draft, request.node_id, contact, offline, directory_offline)
    return contact


def _take_offline(
    draft: Draft, node_id: int, contact: Contact, offline: frozenset[PartitionKey], directory_offline: bool
) -> None:
    """A failed log leaves the ISR at once, and counts as one that may have lost data; the broker lives on."""
    newly_failed = offline - contact.offline
    contact.offline = offline
    if directory_offline and not contact.directory_offline:
        newly_failed = frozenset((t.topic_id, p.partition) for t in draft.view.all_topics() for p in t.partitions)
    contact.directory_offline = directory_offline
    for topic_id, n in sorted(newly_failed):
        partition = draft.view.partition(topic_id, n)
        if partition is not None and node_id in partition.replicas:
            reconsider(draft, partition, f"the log of it failed on broker {node_id}", lost=(node_id,))


def _take_log_ends(draft: Draft, request: rpc.HeartbeatRequest) -> None:
    for report in request.log_ends:
        partition = draft.view.partition(report.topic_id, report.partition)
        if partition is None or partition.leader != NO_LEADER or request.node_id not in partition.replicas:
            continue
        reports = draft.soft.log_ends.setdefault((report.topic_id, report.partition), {})
        end = LogEnd(report.last_epoch, report.log_end_offset)
        reports[request.node_id] = LogEndReport(request.broker_epoch, report.leader_epoch, end)
        reconsider(draft, partition, f"broker {request.node_id} said where its log ends")


def _wanted_log_ends(draft: Draft, node_id: int, contact: Contact) -> list[PartitionKey]:
    wanted = []
    for key in sorted(_leaderless(draft) - contact.offline):
        partition = draft.view.partition(*key)
        if partition is not None and node_id in partition.replicas and draft.log_end(node_id, partition) is None:
            wanted.append(key)
    return wanted[:WANT_LOG_ENDS_MAX]


def _leaderless(draft: Draft) -> frozenset[PartitionKey]:
    """Found once per image: heartbeats are frequent, such partitions are rare."""
    index, found = draft.soft.leaderless
    if index != draft.base.index:
        found = frozenset(
            (topic.topic_id, partition.partition)
            for topic in draft.base.all_topics()
            for partition in topic.partitions
            if partition.leader == NO_LEADER
        )
        draft.soft.leaderless = (draft.base.index, found)
        for key in draft.soft.log_ends.keys() - found:
            del draft.soft.log_ends[key]
    return found


def _lease_age_ms(draft: Draft, broker: Broker) -> int:
    contact = draft.soft.contacts.get(broker.node_id)
    if contact is None or contact.broker_epoch != broker.broker_epoch:
        contact = draft.soft.contacts[broker.node_id] = Contact(broker.broker_epoch, draft.now_ms)
    return draft.now_ms - contact.contact_ms


def _fence(draft: Draft, broker: Broker, why: str) -> None:
    cause = f"broker {broker.node_id} fenced: {why}"
    change = records.BrokerChangeRecord(
        node_id=broker.node_id, broker_epoch=broker.broker_epoch, fenced=True, cause=cause
    )
    draft.add(records.MetadataRecord(broker_change=change))
    reconsider_all(draft, broker.node_id, cause)


def _unfence(draft: Draft, broker: Broker) -> None:
    cause = f"broker {broker.node_id} is back"
    change = records.BrokerChangeRecord(
        node_id=broker.node_id,
        broker_epoch=broker.broker_epoch,
        fenced=False,
        in_controlled_shutdown=False,
        cause=cause,
    )
    draft.add(records.MetadataRecord(broker_change=change))
    reconsider_all(draft, broker.node_id, cause)


def _start_shutdown(draft: Draft, broker: Broker) -> None:
    cause = f"broker {broker.node_id} is stopping"
    change = records.BrokerChangeRecord(
        node_id=broker.node_id, broker_epoch=broker.broker_epoch, in_controlled_shutdown=True, cause=cause
    )
    draft.add(records.MetadataRecord(broker_change=change))
    reconsider_all(draft, broker.node_id, cause)
    draft.soft.shutdown_index[broker.node_id] = draft.next_index


def _may_stop(draft: Draft, broker: Broker) -> bool:
    """Once the new leaders know that they lead. A fenced broker leads nothing and is in no ISR."""
    if broker.fenced:
        return True
    moved_at = draft.soft.shutdown_index.get(broker.node_id)
    if moved_at is None:
        return False
    others = [b for b in draft.live_brokers() if b.node_id != broker.node_id]
    contacts = draft.soft.contacts
    return all(b.node_id in contacts and contacts[b.node_id].metadata_index >= moved_at for b in others)

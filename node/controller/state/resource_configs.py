"""Configs of topics and brokers: changed key by key (KIP-339), shown with where each value comes from."""

from collections import Counter
from collections.abc import Mapping

from node.controller.state.draft import Draft
from node.controller.state.elections import reconsider
from node.controller.state.topics import check_together
from node.metadata.apply import BROKER_CONFIG, TOPIC_CONFIG
from node.metadata.image import Topic
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol import configs
from ottla.protocol.configs import BROKER_KEYS, TOPIC_KEYS, ConfigKey, did_you_mean
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb

_DECIDES_ABOUT_LEADERS = {"min.insync.replicas", "unclean.leader.election.enable"}


def alter_configs(draft: Draft, request: admin.AlterConfigsRequest) -> admin.AlterConfigsResponse:
    """Changes configs; each resource's changes are made all or none."""
    if request.validate_only:
        draft = draft.scratch()
    asked = Counter((change.resource.type, change.resource.name) for change in request.resources)
    response = admin.AlterConfigsResponse()
    for change in request.resources:
        result = response.resources.add()
        result.resource.type = change.resource.type
        result.resource.name = change.resource.name[:300]
        try:
            if asked[(change.resource.type, change.resource.name)] > 1:
                raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"{change.resource.name[:300]!r} is named twice")
            if change.resource.type == admin.CONFIG_RESOURCE_TYPE_TOPIC:
                _alter_topic(draft, change)
            else:
                _alter_broker(draft, change)
        except ApiError as error:
            result.error.CopyFrom(error.to_proto())
    return response


def describe_configs(draft: Draft, request: admin.DescribeConfigsRequest) -> admin.DescribeConfigsResponse:
    """Shows configs in force. Values from files are those of the controller's own node."""
    keys = frozenset(request.keys)
    response = admin.DescribeConfigsResponse()
    for resource in request.resources:
        result = response.resources.add()
        result.resource.type = resource.type
        result.resource.name = resource.name[:300]
        try:
            if resource.type == admin.CONFIG_RESOURCE_TYPE_TOPIC:
                entries = _describe_topic(draft, _topic(draft, resource.name))
            else:
                entries = _describe_broker(draft, _broker_name(draft, resource))
        except ApiError as error:
            result.error.CopyFrom(error.to_proto())
            continue
        result.entries.extend(entry for entry in entries if not keys or entry.key in keys)
    return response


def _alter_topic(draft: Draft, change: admin.ResourceConfigChanges) -> None:
    topic = _topic(draft, change.resource.name)
    if topic.internal:
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"{topic.name} belongs to the cluster itself")
    defaults = configs.broker_defaults(draft.view.broker_configs, draft.settings.static)
    wanted = dict(topic.configs)
    for item in _once_each(change):
        key = configs.topic_key(item.key)
        current = configs.value_text(key, wanted, defaults, topic.replication_factor)
        _apply_change(wanted, key, item, current)
    check_together(wanted, defaults, {item.key for item in change.changes})
    _add_records(draft, TOPIC_CONFIG, topic.topic_id.hex(), topic.configs, wanted)
    if any(item.key in _DECIDES_ABOUT_LEADERS for item in change.changes):
        _reconsider_topic(draft, topic.topic_id, f"a config of {topic.name} changed")


def _alter_broker(draft: Draft, change: admin.ResourceConfigChanges) -> None:
    name = _broker_name(draft, change.resource)
    current = draft.view.broker_configs.get(name, {})
    wanted = dict(current)
    for item in _once_each(change):
        key = BROKER_KEYS.get(item.key)
        if key is None:
            known = item.key in draft.settings.static
            what = "is read from the node's file at its start" if known else "is unknown"
            what += "" if known else did_you_mean(item.key, BROKER_KEYS)
            raise ApiError(pb.ERROR_CODE_INVALID_CONFIG, f"broker config {item.key[:100]!r} {what}")
        if key.cluster_wide and name:
            raise ApiError(
                pb.ERROR_CODE_INVALID_CONFIG, f"{item.key} is the same for all brokers: leave the broker's id empty"
            )
        if key.of_one and not name:
            raise ApiError(pb.ERROR_CODE_INVALID_CONFIG, f"{item.key} is said of one broker: name its id")
        text = wanted.get(item.key, draft.settings.static.get(item.key, key.default or ""))
        _apply_change(wanted, key, item, text, name=item.key)
    dynamic = {**draft.view.broker_configs, name: wanted}
    defaults = configs.broker_defaults(dynamic, draft.settings.static, int(name) if name else None)
    check_together({}, defaults, {item.key for item in change.changes})
    _add_records(draft, BROKER_CONFIG, name, current, wanted)
    if any(item.key in _DECIDES_ABOUT_LEADERS for item in change.changes):
        for topic in list(draft.view.all_topics()):
            _reconsider_topic(draft, topic.topic_id, "a config of all brokers changed")


def _reconsider_topic(draft: Draft, topic_id: bytes, cause: str) -> None:
    """A lower min ISR lets the high watermark pass eligible replicas outside of the ISR: they lose their place in the
    same entry. An allowed unclean election takes place at once."""
    topic = draft.view.topic(topic_id)
    for partition in topic.partitions if topic is not None else ():
        reconsider(draft, partition, cause)


def _once_each(change: admin.ResourceConfigChanges) -> list[admin.ConfigChange]:
    twice = [key for key, count in Counter(item.key for item in change.changes).items() if count > 1]
    if twice:
        raise ApiError(pb.ERROR_CODE_INVALID_CONFIG, f"config {twice[0][:100]!r} is changed twice")
    return list(change.changes)


def _apply_change(
    wanted: dict[str, str], key: ConfigKey, item: admin.ConfigChange, current: str, name: str = ""
) -> None:
    name = name or key.name
    match item.operation:
        case admin.CONFIG_OPERATION_NONE | admin.CONFIG_OPERATION_SET:
            key.parse(item.value)
            wanted[name] = item.value
        case admin.CONFIG_OPERATION_DELETE:
            wanted.pop(name, None)
        case admin.CONFIG_OPERATION_APPEND | admin.CONFIG_OPERATION_SUBTRACT:
            if key.kind != "list":
                raise ApiError(pb.ERROR_CODE_INVALID_CONFIG, f"{name} is no list: items can't be added or taken out")
            items = [part.strip() for part in current.split(",") if part.strip()]
            change = [part.strip() for part in item.value.split(",") if part.strip()]
            key.parse(",".join(change))
            if item.operation == admin.CONFIG_OPERATION_APPEND:
                items += [part for part in change if part not in items]
            else:
                items = [part for part in items if part not in change]
            wanted[name] = ",".join(items)
        case _:
            raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"{name}: there is no operation {item.operation}")


def _add_records(
    draft: Draft, resource_type: int, name: str, before: Mapping[str, str], wanted: Mapping[str, str]
) -> None:
    for key in sorted(before.keys() | wanted.keys()):
        if before.get(key) != wanted.get(key):
            config = records.ConfigRecord(
                resource_type=resource_type, resource_name=name, key=key, value=wanted.get(key)
            )
            draft.add(records.MetadataRecord(config=config))


def _topic(draft: Draft, name: str) -> Topic:
    topic = draft.view.topic_named(name)
    if topic is None:
        raise ApiError(pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name[:100]!r}")
    return topic


def _broker_name(draft: Draft, resource: admin.ConfigResource) -> str:
    if resource.type != admin.CONFIG_RESOURCE_TYPE_BROKER:
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST, f"config resource type {resource.type}: topic or broker is allowed"
        )
    known = {str(node_id) for node_id in draft.view.brokers}
    if resource.name and resource.name not in known:
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST, f"there is no broker {resource.name[:100]!r}, brokers are {sorted(known)}"
        )
    return resource.name


def _describe_topic(draft: Draft, topic: Topic) -> list[admin.ConfigEntry]:
    entries = []
    for key in TOPIC_KEYS.values():
        levels = _levels(draft, key, None)
        if key.name in topic.configs:
            own = admin.ConfigSynonym(key=key.name, value=topic.configs[key.name], source=admin.CONFIG_SOURCE_TOPIC)
            levels.insert(0, own)
        if key.default is None:
            value = str(configs.default_min_insync_replicas(topic.replication_factor))
            levels.append(admin.ConfigSynonym(key=key.name, value=value, source=admin.CONFIG_SOURCE_DEFAULT))
        entries.append(_entry(key.name, key.doc, levels))
    return entries


def _describe_broker(draft: Draft, name: str) -> list[admin.ConfigEntry]:
    entries = []
    for key_name, key in BROKER_KEYS.items():
        levels = _levels(draft, key, name)
        if levels and not (key.of_one and not name):
            entries.append(_entry(key_name, key.doc, levels))
    for key_name, value in sorted(draft.settings.static.items()):
        if key_name not in BROKER_KEYS:
            level = admin.ConfigSynonym(key=key_name, value=value, source=admin.CONFIG_SOURCE_STATIC_BROKER)
            entries.append(_entry(key_name, "Read from the node's settings at its start.", [level], read_only=True))
    return entries


def _levels(draft: Draft, key: ConfigKey, broker: str | None) -> list[admin.ConfigSynonym]:
    """The broker-level values of a key, the one in force first; `broker` None or "" = what holds for all."""
    name = key.broker_name or key.name
    dynamic = draft.view.broker_configs
    found = [
        (dynamic.get(broker or "", {}).get(name) if broker else None, admin.CONFIG_SOURCE_DYNAMIC_BROKER),
        (dynamic.get("", {}).get(name), admin.CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER),
        (draft.settings.static.get(name), admin.CONFIG_SOURCE_STATIC_BROKER),
        (key.default, admin.CONFIG_SOURCE_DEFAULT),
    ]
    return [admin.ConfigSynonym(key=name, value=v, source=source) for v, source in found if v is not None]


def _entry(key: str, doc: str, levels: list[admin.ConfigSynonym], read_only: bool = False) -> admin.ConfigEntry:
    return admin.ConfigEntry(
        key=key,
        value=levels[0].value,
        source=levels[0].source,
        read_only=read_only,
        synonyms=levels,
        documentation=doc,
    )

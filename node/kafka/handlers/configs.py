"""DescribeConfigs, AlterConfigs and IncrementalAlterConfigs, which any node passes on to the controller."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from node import limits, turns
from node.api.in_flight import InFlight
from node.api.topics import (
    APPEND,
    DELETE,
    SET,
    SUBTRACT,
    Changes,
    Config,
    ConfigChange,
    ConfigLevel,
    Described,
    TopicsApi,
)
from node.kafka import topic_configs
from node.kafka.codec import Encoded, write_body
from node.kafka.connection import Call
from node.kafka.messages import APIS, alter_configs, incremental_alter_configs
from node.kafka.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from node.kafka.wire import INT32, Message, write_uvarint
from ottla.protocol.configs import BROKER_KEYS, TOPIC_KEYS
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

DESCRIBE_CONFIGS: Final = 32
DESCRIBE_LOW, DESCRIBE_HIGH = 0, 4
ALTER_LOW, ALTER_HIGH = 0, 2
INCREMENTAL_LOW, INCREMENTAL_HIGH = 0, 1
TOPIC: Final = 2
BROKER: Final = 4
TOPIC_SOURCE, BROKER_SOURCE, ALL_BROKERS_SOURCE, STATIC_SOURCE = 1, 2, 3, 4
_SET, _DELETE = 0, 1
_OPERATIONS: Final = {_SET: SET, _DELETE: DELETE, 2: APPEND, 3: SUBTRACT}
AT_ONCE: Final = 10
"""Resources whose configs are asked for, and written, in one turn of the loop."""
ANSWER_MAX_BYTES: Final = 8 * limits.MIB
LITTLE_BYTES: Final = limits.MIB // 4
"""Of an answer while there is no room for a large one."""

THROTTLES: Final = frozenset({
    "leader.replication.throttled.rate", "follower.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
})  # fmt: skip
"""Of a broker in Kafka. There are none here, so that nothing is to be done where kafka-reassign-partitions deletes
them."""

At = tuple[int, str]
"""Type and name of a resource."""


def _no_configs(kind: int) -> ApiError:
    return ApiError(
        pb.ERROR_CODE_INVALID_REQUEST,
        f"resource type {kind}: only topics ({TOPIC}) and brokers ({BROKER}) have configs",
    )


class DescribeConfigsHandler:
    """`own`: settings of this node that clients look for among those of a broker."""

    def __init__(self, api: TopicsApi, in_flight: InFlight, node_id: int, own: Mapping[str, str]) -> None:
        self._api = api
        self._in_flight = in_flight
        self._own = {(BROKER, str(node_id)): [_setting(name, value) for name, value in own.items()]}

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DescribeConfigsRequest)
        most = ANSWER_MAX_BYTES if self._in_flight.fits(ANSWER_MAX_BYTES) else LITTLE_BYTES
        elements: list[bytes] = []
        size = 0
        call.on_sent = lambda: self._in_flight.give(size)
        for start in range(0, len(request.resources), AT_ONCE):
            some = request.resources[start : start + AT_ONCE]
            found = await self._found(some, full=size > most)
            new = [
                _element(call.version, _described(each, found[each.resource_type, each.resource_name], request))
                for each in some
            ]
            added = sum(map(len, new))
            self._in_flight.take(added)
            size += added
            elements += new
            await turns.give_way()
        return Encoded(_body(call.version, elements))

    async def _found(self, resources: Sequence[DescribeConfigsResource], *, full: bool) -> dict[At, Described]:
        if full:
            error = ApiError(
                pb.ERROR_CODE_INVALID_REQUEST,
                "the configs before are as many bytes as an answer may have now: ask for fewer at once",
            )
            return {(each.resource_type, each.resource_name): Described(error) for each in resources}
        found = await described_by(self._api, [(each.resource_type, each.resource_name) for each in resources])
        return {at: self._completed(at, each) for at, each in found.items()}

    def _completed(self, at: At, described: Described) -> Described:
        if described.error is not None:
            return described
        if at == (BROKER, ""):  # what was set for all of them, and no more
            dynamic = [each for each in described.configs if each.source == ALL_BROKERS_SOURCE]
            return Described(None, [each._replace(levels=each.levels[:1]) for each in dynamic])
        more = topic_configs.SHOWN if at[0] == TOPIC else self._own.get(at, ())
        return Described(None, [*described.configs, *more])


async def described_by(api: TopicsApi, wanted: Sequence[At]) -> dict[At, Described]:
    """Each resource once, with what is wrong with it."""
    found = {at: Described(_no_configs(at[0])) for at in wanted}
    known = [at for at in found if at[0] in (TOPIC, BROKER)]
    if known:
        try:
            found.update(zip(known, await api.describe(known), strict=True))
        except ApiError as error:
            found.update((at, Described(error)) for at in known)
    return found


def _setting(name: str, value: str) -> Config:
    levels = [ConfigLevel(name, value, STATIC_SOURCE)]
    return Config(name, value, STATIC_SOURCE, True, levels, "Read from the node's settings at its start.")


def _element(version: int, result: DescribeConfigsResult) -> bytes:
    """A result as it stands in an answer, which is written in parts: many topics are many bytes."""
    body = write_body(DESCRIBE_CONFIGS, version, DescribeConfigsResponse(results=[result]))
    return body[5:-1] if version >= APIS[DESCRIBE_CONFIGS].flexible else body[8:]


def _body(version: int, elements: list[bytes]) -> list[bytes]:
    throttle_ms = INT32.pack(0)
    if version >= APIS[DESCRIBE_CONFIGS].flexible:
        return [throttle_ms, write_uvarint(len(elements) + 1), *elements, b"\0"]
    return [throttle_ms, INT32.pack(len(elements)), *elements]


def _described(
    resource: DescribeConfigsResource, found: Described, request: DescribeConfigsRequest
) -> DescribeConfigsResult:
    wanted = frozenset(resource.configuration_keys or ())
    return DescribeConfigsResult(
        error_code=0 if found.error is None else found.error.code,
        error_message=None if found.error is None else found.error.message,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        configs=[_config(each, request) for each in found.configs if not wanted or each.name in wanted],
    )


def _config(config: Config, request: DescribeConfigsRequest) -> DescribeConfigsResourceResult:
    levels = config.levels if request.include_synonyms else ()
    key = TOPIC_KEYS.get(config.name) or BROKER_KEYS.get(config.name) or topic_configs.PASSED_OVER.get(config.name)
    return DescribeConfigsResourceResult(
        name=config.name,
        value=config.value,
        read_only=config.read_only,
        config_source=config.source,
        is_default=config.source == topic_configs.DEFAULT_SOURCE,
        synonyms=[DescribeConfigsSynonym(name=n, value=v, source=s) for n, v, s in levels],
        config_type=0 if key is None else topic_configs.kind_of(key),
        documentation=config.documentation if request.include_documentation else None,
    )


class AlterConfigsHandler:
    def __init__(self, api: TopicsApi) -> None:
        self._api = api

    async def incremental(self, request: Message, call: Call) -> Message:
        assert isinstance(request, incremental_alter_configs.IncrementalAlterConfigsRequest)
        wanted = [
            _Wanted(
                each.resource_type, each.resource_name, [(c.name, c.config_operation, c.value) for c in each.configs]
            )
            for each in request.resources
        ]
        errors = await self._altered(wanted, validate_only=request.validate_only, replace=False)
        return incremental_alter_configs.IncrementalAlterConfigsResponse(
            responses=[
                incremental_alter_configs.AlterConfigsResourceResponse(*_told(error), each.kind, each.name)
                for each, error in zip(wanted, errors, strict=True)
            ]
        )

    async def replacing(self, request: Message, call: Call) -> Message:
        """What is not named goes back to its default: what was set is asked for first."""
        assert isinstance(request, alter_configs.AlterConfigsRequest)
        wanted = [
            _Wanted(each.resource_type, each.resource_name, [(c.name, _SET, c.value) for c in each.configs])
            for each in request.resources
        ]
        errors = await self._altered(wanted, validate_only=request.validate_only, replace=True)
        return alter_configs.AlterConfigsResponse(
            responses=[
                alter_configs.AlterConfigsResourceResponse(*_told(error), each.kind, each.name)
                for each, error in zip(wanted, errors, strict=True)
            ]
        )

    async def _altered(
        self, wanted: "Sequence[_Wanted]", *, validate_only: bool, replace: bool
    ) -> list[ApiError | None]:
        named = Counter((each.kind, each.name) for each in wanted)
        errors: list[ApiError | None] = []
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            for each in some:
                each.check(named[each.kind, each.name])
            if replace:
                await self._complete([each for each in some if each.error is None])
            await self._alter([each for each in some if each.error is None], validate_only=validate_only)
            errors += [each.error for each in some]
            await turns.give_way()
        return errors

    async def _complete(self, wanted: "Sequence[_Wanted]") -> None:
        found = await described_by(self._api, [(each.kind, each.name) for each in wanted])
        for each in wanted:
            each.replace(found[each.kind, each.name])

    async def _alter(self, wanted: "Sequence[_Wanted]", *, validate_only: bool) -> None:
        if not wanted:
            return
        resources = [Changes(each.kind, each.name, each.changes) for each in wanted]
        try:
            errors = await self._api.alter(resources, validate_only=validate_only)
        except ApiError as error:
            errors = [error] * len(wanted)
        for each, refusal in zip(wanted, errors, strict=True):
            each.error = refusal


class _Wanted:
    """What is to be changed of a resource, and what is wrong with that."""

    def __init__(self, kind: int, name: str, configs: Sequence[tuple[str, int, str | None]]) -> None:
        self.kind = kind
        self.name = name
        self.error: ApiError | None = None
        self.changes: list[ConfigChange] = []
        self._configs = configs

    def check(self, named: int) -> None:
        """Kafka's rules of requests; of configs the controller knows more."""
        try:
            if self.kind not in (TOPIC, BROKER):
                raise _no_configs(self.kind)
            if named > 1:
                raise _invalid(f"{self.name[:300]!r} is named {named} times")
            twice = [name for name, count in Counter(name for name, _, _ in self._configs).items() if count > 1]
            if twice:
                raise _invalid(f"config {twice[0][:100]!r} is named more than once")
            changes = [_change(*config) for config in self._configs]
            self.changes = [each for each in changes if not self._passed_over(each)]
        except ApiError as error:
            self.error = error

    def _passed_over(self, change: ConfigChange) -> bool:
        if self.kind == BROKER:
            return change.operation == DELETE and change.key in THROTTLES
        if self.kind != TOPIC or change.key not in topic_configs.PASSED_OVER:
            return False
        if change.operation != DELETE:
            topic_configs.check(change.key, change.value)
        return True

    def replace(self, described: Described) -> None:
        """What was set on it and is not named is to go."""
        self.error = described.error
        source = TOPIC_SOURCE if self.kind == TOPIC else BROKER_SOURCE if self.name else ALL_BROKERS_SOURCE
        kept = {change.key for change in self.changes}
        set_now = [config.name for config in described.configs if config.source == source]
        self.changes += [ConfigChange(name, "", DELETE) for name in set_now if name not in kept]


def _change(name: str, operation: int, value: str | None) -> ConfigChange:
    if operation not in _OPERATIONS:
        raise _invalid(f"config {name[:100]!r}: there is no operation {operation}")
    if value is None and operation != _DELETE:
        raise _invalid(f"config {name[:100]!r} has no value")
    return ConfigChange(name, value or "", _OPERATIONS[operation])


def _invalid(message: str) -> ApiError:
    return ApiError(pb.ERROR_CODE_INVALID_REQUEST, message)


def _told(error: ApiError | None) -> tuple[int, str | None]:
    return (0, None) if error is None else (error.code, error.message)

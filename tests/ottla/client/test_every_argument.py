"""Every parameter of every public class and method of the client is given what makes no sense, and must name it.

The parameters are taken from the signatures: a new one without a line in WRONG fails the test.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

import ottla
import ottla.sync
from ottla.client.producer_queue import Leader
from ottla.v1 import error_pb2 as pb
from tests.ottla.client.batches import TOPIC_ID
from tests.ottla.client.test_positions import Member

NOWHERE = "127.0.0.1:1"
HUGE = 10**5000
"""More digits than Python turns into text."""


class Unspeakable:
    """Nobody can say what it is."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


ANYTHING: tuple[Any, ...] = (object(), Unspeakable(), {"a": 1}, {1, 2}, math.nan, 1j, lambda: 1)
NO_NUMBER = (*ANYTHING, "7", b"7", 1.0, 1.5, math.inf, -math.inf, True, False, [], "", None)
NO_TEXT = (*ANYTHING, 7, 0, 1.5, b"text", True, [], ["text"], ("a",), None, "\ud800", "ok\udfff")
NO_LABEL = (*NO_TEXT, "a\nb", "\x1b[31m", "a\x00", "\u202e", "x" * 256, "x" * 1_000_000)
NO_NAME = (*NO_LABEL, "")
NO_TOPIC = (*NO_TEXT, "", ".", "..", "a b", "a/b", "a\n", "é", "x" * 250, "x" * 1_000_000)
NO_USER = (*NO_TEXT, "", "a\nb", " alice", "x" * 256, "\u00e4" * 128)
NO_FLAG = (*ANYTHING, 0, 1, "yes", "", b"", [], None)
NO_LIST = (*ANYTHING, 7, 1.5, True, "text", b"text", None)
NO_PLACE = (
    *ANYTHING,
    "t",
    7,
    (),
    ("t",),
    ("t", 0, 0),
    ["t", 0],
    ("t", "0"),
    ("t", 1.0),
    ("t", True),
    (b"t", 0),
    ("", 0),
)
NO_MAPPING = (object(), Unspeakable(), 7, "text", b"text", [("a", "b")], True, math.nan, None)
NO_ADDRESS = (
    *(*ANYTHING, 7, 1.5, True, b"h:1", [], [7], [None], [b"h:1"], ["h:1", "h"], ["a:1,b:2"], [["h:1"]]),
    *(
        "",
        "h",
        ":1",
        "h:",
        "h:0",
        "h:-1",
        "h:65536",
        "h:x",
        "h:1.5",
        "h:1,",
        "h\n:1",
        "a b:1",
        "\ud800:1",
        "h:" + "9" * 5000,
    ),
    *("http://h:1", "u@h:1", "h:\u0661"),
)


def whole(low: int, high: int = 2**31 - 1) -> tuple[Any, ...]:
    return (*NO_NUMBER, low - 1, high + 1, -HUGE, HUGE)


def mapped(bad_keys: Sequence[Any], good_key: Any, bad_values: Sequence[Any]) -> tuple[Any, ...]:
    keys = [{key: "1"} for key in bad_keys if key.__hash__ is not None]
    return (*NO_MAPPING, *keys, *({good_key: value} for value in bad_values))


class Given(NamedTuple):
    """`good` passes every check; `wrong` must not. `said`: what the error names, if not the parameter."""

    good: Any
    wrong: Sequence[Any]
    said: str = ""


ASSIGNMENTS = Given({0: [1]}, (*mapped((*NO_NUMBER, -1, HUGE), 0, (*NO_LIST, [1.5], ["1"], [None], [-1], [HUGE])),))
CONFIGS = Given({"retention.ms": "1"}, mapped(NO_NAME, "a", [*ANYTHING, 7, True, b"1", [], "\ud800"]))
HEADERS = Given(
    [],
    (
        object(),
        7,
        "ab",
        b"ab",
        {"a": b"b"},
        True,
        ["ab"],
        [("a",)],
        [(b"a", b"b")],
        [(None, b"b")],
        [7],
        [("\ud800", b"b")],
        [("a", 7)],
        [("a", "\ud800")],
        [("a", 1.5)],
        None,
    ),
)
NO_BYTES = (*ANYTHING, 7, 1.5, True, [], "\ud800", ("a",))
NO_FUNCTION = (object(), Unspeakable(), 7, 1.5, True, "f", b"f", [], {"a": 1})
LISTENER = (*ANYTHING, 7, "l", True, ottla.RebalanceListener, ottla.sync.RebalanceListener, SimpleNamespace())

WRONG: Mapping[str, Given] = {
    # settings
    "bootstrap": Given(NOWHERE, NO_ADDRESS),
    "client_id": Given("c", NO_LABEL),
    "tls": Given(
        None,
        (*NO_TEXT, "", "no/such/directory", "\x00", ottla.Tls, ottla.Tls("no.crt"), ottla.Tls(7), ottla.Tls("a", "b")),
    ),
    "connect_timeout_ms": Given(1, whole(1)),
    "acks": Given("all", (*ANYTHING, "1", "All", b"all", 2, -2, 1.0, True, False, [], None, HUGE)),
    "linger_ms": Given(0, tuple(value for value in whole(0) if value is not None)),
    "batch_size": Given(1, whole(1)),
    "buffer_memory": Given(2**21, whole(1)),
    "max_block_ms": Given(0, whole(0)),
    "max_request_size": Given(2**20, (*whole(1), 31 * 2**20 + 1)),
    "compression_type": Given("none", (*NO_TEXT, "", "GZIP", "brotli")),
    "request_timeout_ms": Given(1, whole(1)),
    "delivery_timeout_ms": Given(120_000, whole(1)),
    "retry_backoff_ms": Given(1, whole(1)),
    "retry_backoff_max_ms": Given(1000, whole(1)),
    "topics": Given("t", NO_TOPIC),
    "group": Given("g", NO_NAME),
    "auto_offset_reset": Given(
        "earliest", (*NO_TEXT, "", "Earliest", "by_duration:", "by_duration:P" + "9" * 5000 + "D")
    ),
    "fetch_min_bytes": Given(1, whole(1)),
    "fetch_max_wait_ms": Given(0, whole(0)),
    "fetch_max_bytes": Given(1, whole(1)),
    "max_partition_fetch_bytes": Given(1, whole(1)),
    "enable_auto_commit": Given(True, NO_FLAG),
    "auto_commit_interval_ms": Given(1, whole(1)),
    "session_timeout_ms": Given(1, whole(1)),
    "group_instance_id": Given("i", NO_LABEL),
    "topic_regex": Given("t.*", NO_TEXT),
    "assignor": Given("range", (*NO_TEXT, "", "Range", "sticky")),
    "rebalance_listener": Given(None, LISTENER),
    "key_serializer": Given(None, NO_FUNCTION),
    "value_serializer": Given(None, NO_FUNCTION),
    "key_deserializer": Given(None, NO_FUNCTION),
    "value_deserializer": Given(None, NO_FUNCTION),
    # calls
    "topic": Given("t", NO_TOPIC),
    "value": Given(b"v", NO_BYTES),
    "key": Given(b"k", NO_BYTES),
    "headers": Given([], HEADERS.wrong, "header"),
    "partition": Given(0, whole(-(2**31) + 1)),
    "timestamp": Given(1, whole(1, 2**63 - 1)),
    "timeout_s": Given(1.0, (*ANYTHING, "7", b"7", True, False, [], -1, -0.5, -math.inf, -HUGE)),
    "partitions": Given([("t", 0)], (*NO_LIST, *([place] for place in NO_PLACE)), "partition|topic|places"),
    "offset": Given(0, whole(0, 2**63 - 1)),
    "timestamp_ms": Given(0, whole(0, 2**63 - 1)),
    "max_records": Given(1, whole(1, 2**63 - 1)),
    "timeout_ms": Given(0, whole(0, 2**63 - 1)),
    "positions": Given(
        {("t", 0): 1},
        mapped([p for p in NO_PLACE if not isinstance(p, (set, dict, list))], ("t", 0), whole(0, 2**63 - 1)),
        "positions|partition|topic|offset",
    ),
    "name": Given("t", NO_TOPIC, "topic"),
    "replication_factor": Given(1, whole(0)),
    "configs": CONFIGS,
    "changes": CONFIGS,
    "assignments": ASSIGNMENTS,
    "sizes": Given(
        {("t", 0): 1},
        mapped([p for p in NO_PLACE if not isinstance(p, (set, dict, list))], ("t", 0), whole(0, 2**63 - 1)),
        "sizes?|partition|topic",
    ),
    "validate_only": Given(True, NO_FLAG),
    "total_count": Given(1, whole(0)),
    "internal": Given(True, NO_FLAG),
    "exists_ok": Given(True, NO_FLAG),
    "missing_ok": Given(True, NO_FLAG),
    "node_id": Given(1, whole(0)),
    "limit": Given(100, whole(1, 1000)),
    "before_id": Given(None, tuple(value for value in whole(0, 2**63 - 1) if value is not None)),
    "keys": Given("retention.ms", NO_NAME, "config key"),
    "wanted": Given(
        {("t", 0): -1},
        mapped([p for p in NO_PLACE if not isinstance(p, (set, dict, list))], ("t", 0), whole(-2, 2**63 - 1)),
        "wanted|partition|topic|timestamp",
    ),
    "before_offset": Given(-1, whole(-1, 2**63 - 1)),
    "unclean": Given(True, NO_FLAG),
    "state": Given("stable", NO_TEXT),
    "group_id": Given("g", NO_NAME),
    "shift_by": Given(1, whole(-(2**63) + 1, 2**63 - 1)),
    "directory_id": Given(b"d", (*ANYTHING, "d", 7, 1.5, True, [], None, bytearray(b"d"))),
    "level": Given(1, whole(1)),
    "password": Given("secret", (*NO_TEXT, "", "a\0b", "x" * 1025)),
    "user": Given("alice", NO_USER),
    "password_file": Given(__file__, (*NO_TEXT, "", "no/such/file", "\x00", __file__)),
    "iterations": Given(4096, whole(4096, 16_384)),
    "principal": Given("User:alice", NO_TEXT),
    "resource_name": Given("orders", NO_TEXT, "resource.name"),
    "resource_type": Given("topic", (*NO_TEXT, "", "topics", "TOPIC", "any")),
    "pattern_type": Given("literal", (*NO_TEXT, "", "any", "regex")),
    "operation": Given("read", (*NO_TEXT, "", "any", "reads")),
    "permission": Given("allow", (*NO_TEXT, "", "any", "maybe")),
    "host": Given("10.0.0.1", NO_TEXT),
    "values": Given(
        {"producer_byte_rate": 1.0},
        (
            *NO_MAPPING,
            {},
            {"rate": 1.0},
            {7: 1.0},
            *(
                {"producer_byte_rate": value}
                for value in (object(), "1", b"1", True, 0, -1, 1.5, math.nan, math.inf, HUGE)
            ),
        ),
        "values|rate",
    ),
    "ip": Given("10.0.0.1", NO_NAME),
    "acls": Given([ottla.Acl("User:a", "read", "topic", "t")], (*NO_LIST, [], ["User:a"], [None], b"acl")),
}
ELSEWHERE: Mapping[str, Given] = {
    "Admin.create_topic.partitions": Given(1, whole(0)),
    "Admin.finalize_feature.name": Given("metadata.version", NO_NAME),
    "Admin.create_user.name": Given("alice", NO_USER),
    "Admin.change_password.name": Given("alice", NO_USER),
    "Admin.remove_user.name": Given("alice", NO_USER),
    **{
        f"Admin.{method}_quotas.{of}": Given("a", NO_NAME)
        for method in ("list", "alter")
        for of in ("user", "client_id")
    },
    "Admin.test_acl.principal": Given("User:alice", (*NO_NAME, "alice", ":a", "User:"), "principal"),
    "Admin.test_acl.resource_name": Given("orders", NO_NAME, "resource.name"),
    "Admin.test_acl.host": Given("10.0.0.1", (*NO_TEXT, "here", "10.0.0.0/8", "a\nb")),
    "Admin.reset_offsets.timestamp_ms": Given(0, whole(-2, 2**63 - 1)),
    "Admin.delete_records.partition": Given(0, whole(0)),
    "Admin.elect_leader.partition": Given(0, whole(0)),
    "Admin.move_partition.partition": Given(0, whole(0)),
    "Admin.move_partition.replicas": Given([1], (1, "1", b"1", {1}, {1: 2}, [1.5], ["1"], [-1], [None])),
    "Consumer.committed.partition": Given(0, whole(0)),
}
NONE_MEANS_NONE = frozenset({"value", "key"})
LEFT_OUT = frozenset({"reset_offsets.offset", "reset_offsets.shift_by", "reset_offsets.timestamp_ms"})
"""One of them at a time."""
SETTINGS_WITH_GROUP = frozenset({"group_instance_id", "topic_regex", "rebalance_listener"})
LIFE = frozenset({"start", "close", "inherited"})
INSIDE = frozenset({"check", "on_view", "channel", "home", "address_for", "on_any_node", "until_done"})
"""Of Client, for producers, consumers and admins."""

CLASSES = [
    ottla.Client,
    ottla.Producer,
    ottla.Consumer,
    ottla.Admin,
    ottla.sync.Producer,
    ottla.sync.Consumer,
    ottla.sync.Admin,
    ottla.sync.Delivery,
]


def public_calls() -> Iterator[tuple[type, str]]:
    for kind in CLASSES:
        if kind is not ottla.sync.Delivery:
            yield kind, "__init__"
        for name, _ in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_") and name not in LIFE | INSIDE:
                yield kind, name


def cases() -> Iterator[Any]:
    for kind, name in public_calls():
        parameters = list(inspect.signature(getattr(kind, name)).parameters.values())[1:]
        for parameter in parameters:
            label = f"{kind.__name__}.{name}.{parameter.name}"
            yield pytest.param(kind, name, parameter, id=f"{kind.__module__.removeprefix('ottla.')}-{label}")


def given_for(kind: type, name: str, parameter: str) -> Given | None:
    return ELSEWHERE.get(f"{kind.__name__}.{name}.{parameter}") or WRONG.get(parameter)


def arguments_of(kind: type, name: str, chosen: inspect.Parameter, value: Any) -> tuple[list[Any], dict[str, Any]]:
    """Good values for whatever must be given, and this one for the chosen parameter."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for parameter in list(inspect.signature(getattr(kind, name)).parameters.values())[1:]:
        known = given_for(kind, name, parameter.name)
        assert known is not None
        is_chosen = parameter.name == chosen.name
        if parameter.kind is parameter.VAR_POSITIONAL:
            args.append(value if is_chosen else known.good)
        elif is_chosen:
            kwargs[parameter.name] = value
        elif parameter.default is parameter.empty:
            kwargs[parameter.name] = known.good
    if name == "alter_quotas" and chosen.name not in ("user", "client_id", "ip"):
        kwargs["user"] = "alice"
    if name == "reset_offsets" and chosen.name not in ("offset", "shift_by", "timestamp_ms"):
        kwargs["offset"] = 0
    if name == "__init__" and chosen.name in ("password", "password_file"):
        kwargs["user"] = "alice"
    if name == "__init__" and chosen.name == "user":
        kwargs["password"] = "secret"
    if chosen.name in SETTINGS_WITH_GROUP and name == "__init__":
        kwargs["group"] = "g"
    if args and kwargs and name != "__init__":  # what stands before a `*` parameter can't be named
        named = inspect.signature(getattr(kind, name)).parameters.values()
        first = [p.name for p in named if p.name in kwargs and p.kind is p.POSITIONAL_OR_KEYWORD]
        args = [kwargs.pop(p) for p in first] + args
    return args, kwargs


async def target_of(kind: type, name: str) -> Any:
    """An object that has connected to nothing, ready to be called."""
    if kind is ottla.Producer:
        made = ottla.Producer(NOWHERE)
        made._life = "open"
        made._state.start_epoch(1, 0)
        made._state.on_metadata("t", TOPIC_ID, [Leader(1, 0)], 0)
        return made
    if kind is ottla.Consumer and name == "committed":
        return ottla.Consumer("t", group="g", bootstrap=NOWHERE)
    if kind is ottla.Consumer:
        member = Member()
        await member.gain()
        return member.consumer
    return kind(NOWHERE)


def on_call(kind: type, name: str) -> tuple[type, str]:
    """Blocking methods are their asyncio twins' (`test_the_blocking_ones_are_their_twins`)."""
    if kind.__module__ == "ottla.sync" and name != "__init__" and kind is not ottla.sync.Delivery:
        return getattr(ottla, kind.__name__), name
    return kind, name


def is_refused_well(error: ottla.ConfigError, said: str, parameter: str) -> bool:
    return (
        error.code in (pb.ERROR_CODE_INVALID_CONFIG, pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION)
        and re.search(said or parameter, error.message) is not None
        and len(error.message) < 600
        and error.message.isprintable()
    )


@pytest.mark.parametrize(("kind", "name", "parameter"), list(cases()))
async def test_what_makes_no_sense_is_named(kind: type, name: str, parameter: inspect.Parameter) -> None:
    known = given_for(kind, name, parameter.name)
    assert known is not None, f"{kind.__name__}.{name} takes {parameter.name}: say above what it must not be"
    takes_none = parameter.default is None or "None" in str(parameter.annotation)
    kind, name = on_call(kind, name)
    wrong_answers = []
    for value in known.wrong:
        if value is None and takes_none:
            continue
        args, kwargs = arguments_of(kind, name, parameter, value)
        try:
            if name == "__init__":
                kind(*args, **kwargs)
            elif kind is ottla.sync.Delivery:
                ottla.sync.Delivery(SimpleNamespace(), SimpleNamespace(done=lambda: True)).result(*args, **kwargs)  # type: ignore[arg-type]
            else:
                answer = getattr(await target_of(kind, name), name)(*args, **kwargs)
                if inspect.isawaitable(answer):
                    await answer
        except ottla.ConfigError as error:
            if not is_refused_well(error, known.said, parameter.name):
                wrong_answers.append((_brief(value), error.message))
        except Exception as error:
            wrong_answers.append((_brief(value), repr(error)))
        else:
            wrong_answers.append((_brief(value), "taken"))
    assert wrong_answers == []


def _brief(value: Any) -> str:
    try:
        return repr(value)[:80]
    except Exception:
        return type(value).__name__


@pytest.mark.parametrize("name", ["Producer", "Consumer", "Admin"])
def test_the_blocking_ones_are_their_twins(name: str) -> None:
    """Every method is there, with the same parameters, and a setting that one has the other has."""
    ours, theirs = getattr(ottla.sync, name), getattr(ottla, name)
    for method, member in inspect.getmembers(theirs, inspect.isfunction):
        if method.startswith("_") and method != "__init__":
            continue
        if method in LIFE:
            continue
        there = inspect.signature(member).parameters
        here = inspect.signature(getattr(ours, method)).parameters
        assert list(here) == list(there), method
        for parameter in there.values():
            assert here[parameter.name].default == parameter.default, (method, parameter.name)


def test_nothing_is_said_of_what_is_not_there() -> None:
    taken = {
        (kind.__name__, name, p)
        for kind, name in public_calls()
        for p in inspect.signature(getattr(kind, name)).parameters
    }
    assert {name for name in WRONG if not any(p == name for _, _, p in taken)} == set()
    assert {name for name in ELSEWHERE if tuple(name.split(".")) not in taken} == set()


def check(call: Callable[[], object]) -> None:
    with pytest.raises(ottla.ConfigError):
        call()


async def test_a_blocking_object_has_connections_of_its_own() -> None:
    for kind in (ottla.sync.Producer, ottla.sync.Admin):
        check(lambda kind=kind: kind(ottla.Client(NOWHERE)))  # type: ignore[misc]
    check(lambda: ottla.sync.Consumer("t", bootstrap=ottla.Client(NOWHERE)))  # type: ignore[arg-type]

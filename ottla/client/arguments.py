"""What a caller hands in, checked whole before anything changes. Everything here raises ConfigError, which names the
argument, what it is, and what it must be."""

import operator
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Final, TypeVar

from ottla.client.errors import ConfigError
from ottla.client.records import TopicPartition
from ottla.protocol.errors import ApiError
from ottla.protocol.names import ID_MAX, check_topic_name

INT32_MAX: Final = 2**31 - 1
INT64_MAX: Final = 2**63 - 1
_SHOWN_MAX: Final = 100
_HOST: Final = re.compile(r"[^\s\x00-\x1f\x7f/@,]+")
T = TypeVar("T")

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = _SHOWN_MAX


def shown(value: object) -> str:
    """What was given, for an error: short, and never an error of its own (a number of 5 000 digits has no text)."""
    try:
        return _brief.repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def whole(what: str, value: object, low: int, high: int) -> int:
    """A whole number in a range; a float is none, and neither is a truth value."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(
            f"{what} {shown(value)} is no int but {type(value).__name__}; {low} to {high} are allowed. Next: convert it"
        ) from None
    if not low <= number <= high:
        raise ConfigError(f"{what} {shown(number)} is not between {low} and {high}")
    return number


def seconds(what: str, value: object) -> float:
    """A time to wait. One that is longer than a program lives is as good as any other."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value < 0:
        raise ConfigError(
            f"{what} {shown(value)} is no number of seconds; 0 and more are allowed, and None for no limit"
        )
    return float(min(value, INT32_MAX))


def text(what: str, value: object) -> str:
    """Text that can be sent."""
    if not isinstance(value, str):
        raise ConfigError(f"{what} {shown(value)} is no str but {type(value).__name__}")
    utf8(what, value)
    return value


def utf8(what: str, value: str) -> bytes:
    """Text as UTF-8."""
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what} {shown(value)} can't be sent as UTF-8: {error.reason}. Next: pass bytes") from None


def topic_name(value: object, what: str = "topic") -> str:
    """What may be the name of a topic; whether one exists is the cluster's to say."""
    name = text(what, value)
    try:
        check_topic_name(name)
    except ApiError as error:
        raise ConfigError(f"{what} {shown(name)}: {error.message}", error.code) from None
    return name


def timestamp(what: str, value: object) -> int:
    """A time of a record."""
    number = whole(what, value, -INT64_MAX - 1, INT64_MAX)
    if number < 1:
        raise ConfigError(f"{what} {number} is not a time in ms after 1970. Next: leave it out for now")
    return number


def partition(value: object) -> int:
    """A partition's number; whether there is one is the topic's to say."""
    return whole("partition", value, -INT32_MAX, INT32_MAX)


def where(value: object) -> TopicPartition:
    """A topic and a partition."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise ConfigError(f"{shown(value)} is no (topic, partition), such as ('events', 0)")
    return TopicPartition(topic_name(value[0]), partition(value[1]))


def place(value: object) -> TopicPartition:
    """A topic and a partition that may exist."""
    tp = where(value)
    return TopicPartition(tp.topic, whole("partition", tp.partition, 0, INT32_MAX))


def places(what: str, values: object, check: Callable[[object], TopicPartition] = place) -> list[TopicPartition]:
    """Several of them."""
    return [check(value) for value in _each(what, values, "(topic, partition)")]


def offset(value: object) -> int:
    """A position."""
    number = whole("offset", value, -INT64_MAX - 1, INT64_MAX)
    if number < 0:
        raise ConfigError(f"offset {number} is negative. Next: use seek_to_beginning or seek_to_end")
    return number


def header_pairs(headers: object) -> Iterable[tuple[object, object]]:
    """Headers as pairs; a mapping or a text would be taken apart in a way that nobody means."""
    if isinstance(headers, (str, bytes, bytearray, Mapping)) or not isinstance(headers, Iterable):
        hint = ". Next: pass list(headers.items())" if isinstance(headers, Mapping) else ""
        raise ConfigError(f"headers are no sequence of (name, value) but {type(headers).__name__}{hint}")
    for pair in headers:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ConfigError(f"header {shown(pair)} is no (name, value)")
        yield pair[0], pair[1]


def flag(what: str, value: object) -> bool:
    """True or False; other values would pass for one of them."""
    if not isinstance(value, bool):
        raise ConfigError(f"{what} {shown(value)} is neither True nor False")
    return value


def name(what: str, value: object) -> str:
    """A name that logs and terminals show: printable, and not empty."""
    if not label(what, value):
        raise ConfigError(f"{what} '' is empty. Next: name one")
    return str(value)


def label(what: str, value: object) -> str:
    """A name that may be left out. The cluster's rule for what clients call themselves."""
    given = text(what, value)
    if len(given) > ID_MAX or not given.isprintable():
        raise ConfigError(f"{what} {shown(given)}: up to {ID_MAX} printable characters are allowed")
    return given


def function(what: str, value: object) -> None:
    """Something that can be called, or None."""
    if value is not None and not callable(value):
        raise ConfigError(f"{what} {shown(value)} is no function but {type(value).__name__}")


def topics(values: Iterable[object]) -> tuple[str, ...]:
    """Names of topics that stand one by one; a list of them, or the address of a node, is what others take first."""
    found = []
    for value in values:
        if isinstance(value, (list, tuple, set, frozenset)):
            raise ConfigError(f"topics {shown(value)} is no str but {type(value).__name__}. Next: name them one by one")
        if isinstance(value, str) and _is_address(value):
            raise ConfigError(f"topics {shown(value)} is an address, not a topic. Next: say bootstrap={shown(value)}")
        found.append(topic_name(value, "topics"))
    return tuple(found)


def one_of(what: str, value: object, *allowed: str) -> str:
    """One of some words."""
    if not isinstance(value, str) or value not in allowed:
        raise ConfigError(f"{what} {shown(value)} is none of {', '.join(allowed)}")
    return value


def instance_of(what: str, value: object, kind: type[T]) -> T:
    """An object of a class; the class itself is none."""
    if not isinstance(value, kind):
        raise ConfigError(f"{what} {shown(value)} is no {kind.__module__.partition('.client')[0]}.{kind.__name__}")
    return value


def addresses(what: str, value: object) -> list[str]:
    """host:port of some nodes, from a list or a text with commas."""
    each = value.split(",") if isinstance(value, str) else _each(what, value, "host:port")
    found = [text(what, address).strip() for address in each]
    for address in found:
        if not _is_address(address):
            raise ConfigError(f"{what} address {shown(address)} is not host:port, such as 127.0.0.1:9192")
    if not found:
        raise ConfigError(f"{what} is an empty list. Next: name a node as host:port, such as 127.0.0.1:9192")
    return found


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536
    return is_port and _HOST.fullmatch(host) is not None


def texts(what: str, values: object, *, or_none: bool = False) -> dict[str, str | None]:
    """A mapping of texts to texts, where None may be a value if so said."""
    found: dict[str, str | None] = {}
    for key, value in mapping(what, values):
        each = name(f"{what} key", key)
        if value is None and or_none:
            found[each] = None
        elif isinstance(value, str):
            found[each] = text(f"{what}[{each!r}]", value)
        else:
            raise ConfigError(
                f"{what}[{each!r}] {shown(value)} is no str but {type(value).__name__}. Next: write it as text"
            )
    return found


def node_id(value: object) -> int:
    """A node's id; whether there is one is the cluster's to say."""
    return whole("node_id", value, 0, INT32_MAX)


def mapping(what: str, value: object) -> Iterable[tuple[object, object]]:
    """The items of a mapping."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} {shown(value)} is no mapping but {type(value).__name__}")
    return value.items()


def assignments(value: object) -> dict[int, list[int]]:
    """The nodes of each partition."""
    found = {}
    for number, nodes in mapping("assignments", value):
        each = whole("assignments key", number, 0, INT32_MAX)
        found[each] = node_ids(f"assignments[{each}]", nodes)
    return found


def node_ids(what: str, value: object) -> list[int]:
    """The nodes of a partition."""
    if isinstance(value, Set):
        raise ConfigError(f"{what} {shown(value)} has no order; the first node is to lead. Next: pass a list")
    return [whole(what, node, 0, INT32_MAX) for node in _each(what, value, "node id")]


def binary(what: str, value: object) -> bytes:
    """Bytes."""
    if not isinstance(value, bytes):
        raise ConfigError(f"{what} {shown(value)} is no bytes but {type(value).__name__}")
    return value


def _each(what: str, values: object, item: str) -> list[object]:
    """The items of a list, which is gone through once; a text or a mapping would be taken apart."""
    if isinstance(values, (str, bytes, bytearray, Mapping)) or not isinstance(values, Iterable):
        raise ConfigError(f"{what} {shown(values)} is no list of {item} but {type(values).__name__}")
    return list(values)

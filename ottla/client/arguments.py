"""What a caller hands in, checked whole before anything changes. Everything here raises ConfigError, which names the
argument, what it is, and what it must be."""

import operator
from collections.abc import Iterable, Mapping
from typing import Final

from ottla.client.errors import ConfigError
from ottla.client.records import TopicPartition

INT32_MAX: Final = 2**31 - 1
INT64_MAX: Final = 2**63 - 1


def whole(what: str, value: object, low: int, high: int) -> int:
    """A whole number in a range; a float is none, and neither is a truth value."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(f"{what} {value!r} is no int but {type(value).__name__}. Next: convert it") from None
    if not low <= number <= high:
        raise ConfigError(f"{what} {number} is not between {low} and {high}")
    return number


def text(what: str, value: object) -> str:
    """Text that can be sent."""
    if not isinstance(value, str):
        raise ConfigError(f"{what} {value!r} is no str but {type(value).__name__}")
    utf8(what, value)
    return value


def utf8(what: str, value: str) -> bytes:
    """Text as UTF-8."""
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what} {value[:100]!r} can't be sent as UTF-8: {error.reason}. Next: pass bytes") from None


def topic_name(value: object) -> str:
    """What may be the name of a topic; whether one exists is the cluster's to say."""
    name = text("topic", value)
    if not name:
        raise ConfigError("topic '' is empty. Next: name one")
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
        raise ConfigError(f"{value!r} is no (topic, partition), such as ('events', 0)")
    return TopicPartition(topic_name(value[0]), partition(value[1]))


def place(value: object) -> TopicPartition:
    """A topic and a partition that may exist."""
    tp = where(value)
    return TopicPartition(tp.topic, whole("partition", tp.partition, 0, INT32_MAX))


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
            raise ConfigError(f"header {pair!r} is no (name, value)")
        yield pair[0], pair[1]


def flag(what: str, value: object) -> bool:
    """True or False; other values would pass for one of them."""
    if not isinstance(value, bool):
        raise ConfigError(f"{what} {value!r} is neither True nor False")
    return value


def name(what: str, value: object) -> str:
    """Text that is not empty."""
    if not text(what, value):
        raise ConfigError(f"{what} '' is empty. Next: name one")
    return str(value)


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
                f"{what}[{each!r}] {value!r} is no str but {type(value).__name__}. Next: write it as text"
            )
    return found


def node_id(value: object) -> int:
    """A node's id; whether there is one is the cluster's to say."""
    return whole("node_id", value, 0, INT32_MAX)


def mapping(what: str, value: object) -> Iterable[tuple[object, object]]:
    """The items of a mapping."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} {value!r} is no mapping but {type(value).__name__}")
    return value.items()


def assignments(value: object) -> dict[int, list[int]]:
    """The nodes of each partition."""
    found = {}
    for number, nodes in mapping("assignments", value):
        each = whole("assignments key", number, 0, INT32_MAX)
        if isinstance(nodes, (str, bytes, Mapping)) or not isinstance(nodes, Iterable):
            raise ConfigError(f"assignments[{each}] {nodes!r} is no list of node ids but {type(nodes).__name__}")
        found[each] = [whole(f"assignments[{each}]", node, 0, INT32_MAX) for node in nodes]
    return found


def binary(what: str, value: object) -> bytes:
    """Bytes."""
    if not isinstance(value, bytes):
        raise ConfigError(f"{what} {value!r} is no bytes but {type(value).__name__}")
    return value

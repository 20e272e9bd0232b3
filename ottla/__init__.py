"""Ottla: a replicated log broker. Public names are loaded when they are first used, so `import ottla` is cheap."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.client.admin import Admin as Admin
    from ottla.client.connection import Client as Client
    from ottla.client.consumer import Consumer as Consumer
    from ottla.client.errors import BufferFull as BufferFull
    from ottla.client.errors import Closed as Closed
    from ottla.client.errors import ConfigError as ConfigError
    from ottla.client.errors import ConnectionFailed as ConnectionFailed
    from ottla.client.errors import CorruptRecords as CorruptRecords
    from ottla.client.errors import DeliveryFailed as DeliveryFailed
    from ottla.client.errors import LogTruncation as LogTruncation
    from ottla.client.errors import OffsetOutOfRange as OffsetOutOfRange
    from ottla.client.errors import OttlaError as OttlaError
    from ottla.client.errors import RecordTooLarge as RecordTooLarge
    from ottla.client.errors import RequestTimedOut as RequestTimedOut
    from ottla.client.errors import UnknownTopic as UnknownTopic
    from ottla.client.errors import UnsupportedCodec as UnsupportedCodec
    from ottla.client.producer import Producer as Producer
    from ottla.client.producer_batch import Delivery as Delivery
    from ottla.client.rebalance import RebalanceListener as RebalanceListener
    from ottla.client.records import ConsumerRecord as ConsumerRecord
    from ottla.client.records import RecordMetadata as RecordMetadata
    from ottla.client.records import TopicPartition as TopicPartition
    from ottla.client.tls import Tls as Tls

_WHERE = {
    "admin": ("Admin",),
    "connection": ("Client",),
    "consumer": ("Consumer",),
    "errors": (
        "BufferFull",
        "Closed",
        "ConfigError",
        "ConnectionFailed",
        "CorruptRecords",
        "DeliveryFailed",
        "LogTruncation",
        "OffsetOutOfRange",
        "OttlaError",
        "RecordTooLarge",
        "RequestTimedOut",
        "UnknownTopic",
        "UnsupportedCodec",
    ),
    "producer": ("Producer",),
    "producer_batch": ("Delivery",),
    "rebalance": ("RebalanceListener",),
    "records": ("ConsumerRecord", "RecordMetadata", "TopicPartition"),
    "tls": ("Tls",),
}
_MODULES = {name: f"ottla.client.{module}" for module, names in _WHERE.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'ottla' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])

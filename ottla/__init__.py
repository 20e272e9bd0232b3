"""Ottla: a replicated log broker. Public names are loaded when they are first used, so `import ottla` is cheap."""

from importlib import import_module

# Type checkers take it for typing's, which would be most of what this import costs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    __version__: str
    from ottla.client.acl_admin import Acl as Acl
    from ottla.client.acl_admin import AclTest as AclTest
    from ottla.client.admin import Admin as Admin
    from ottla.client.admin import ConfigValue as ConfigValue
    from ottla.client.admin import CreatedTopic as CreatedTopic
    from ottla.client.connection import Client as Client
    from ottla.client.consumer import Consumer as Consumer
    from ottla.client.errors import AuthenticationFailed as AuthenticationFailed
    from ottla.client.errors import BufferFull as BufferFull
    from ottla.client.errors import Closed as Closed
    from ottla.client.errors import ConfigError as ConfigError
    from ottla.client.errors import ConnectionFailed as ConnectionFailed
    from ottla.client.errors import CorruptRecords as CorruptRecords
    from ottla.client.errors import DeliveryFailed as DeliveryFailed
    from ottla.client.errors import DeserializationFailed as DeserializationFailed
    from ottla.client.errors import GroupNotEmpty as GroupNotEmpty
    from ottla.client.errors import InvalidRecord as InvalidRecord
    from ottla.client.errors import LeaderNotAvailable as LeaderNotAvailable
    from ottla.client.errors import LogTruncation as LogTruncation
    from ottla.client.errors import MemberFenced as MemberFenced
    from ottla.client.errors import NotAuthorized as NotAuthorized
    from ottla.client.errors import NotEnoughReplicas as NotEnoughReplicas
    from ottla.client.errors import OffsetOutOfRange as OffsetOutOfRange
    from ottla.client.errors import OttlaError as OttlaError
    from ottla.client.errors import PolicyViolation as PolicyViolation
    from ottla.client.errors import RecordTooLarge as RecordTooLarge
    from ottla.client.errors import RequestTimedOut as RequestTimedOut
    from ottla.client.errors import SchemaRegistryError as SchemaRegistryError
    from ottla.client.errors import Throttled as Throttled
    from ottla.client.errors import TopicAlreadyExists as TopicAlreadyExists
    from ottla.client.errors import UnknownGroup as UnknownGroup
    from ottla.client.errors import UnknownTopic as UnknownTopic
    from ottla.client.errors import UnknownUser as UnknownUser
    from ottla.client.errors import UnsupportedCodec as UnsupportedCodec
    from ottla.client.errors import UnsupportedVersion as UnsupportedVersion
    from ottla.client.errors import UserAlreadyExists as UserAlreadyExists
    from ottla.client.errors import WrongCluster as WrongCluster
    from ottla.client.feature_admin import Feature as Feature
    from ottla.client.feature_admin import FinalizedFeature as FinalizedFeature
    from ottla.client.feature_admin import SupportedLevels as SupportedLevels
    from ottla.client.group_admin import GroupDescription as GroupDescription
    from ottla.client.group_admin import GroupLag as GroupLag
    from ottla.client.group_admin import GroupMember as GroupMember
    from ottla.client.group_admin import GroupSummary as GroupSummary
    from ottla.client.group_admin import MovedPosition as MovedPosition
    from ottla.client.metrics import ConsumerMetrics as ConsumerMetrics
    from ottla.client.metrics import ProducerMetrics as ProducerMetrics
    from ottla.client.producer import Producer as Producer
    from ottla.client.producer_batch import Delivery as Delivery
    from ottla.client.quorum_admin import Quorum as Quorum
    from ottla.client.quorum_admin import QuorumMember as QuorumMember
    from ottla.client.quota_admin import Quota as Quota
    from ottla.client.rebalance import RebalanceListener as RebalanceListener
    from ottla.client.records import ConsumerRecord as ConsumerRecord
    from ottla.client.records import RecordMetadata as RecordMetadata
    from ottla.client.records import TopicPartition as TopicPartition
    from ottla.client.tls import Tls as Tls
    from ottla.client.user_admin import User as User
    from ottla.client.view import BrokerInfo as BrokerInfo
    from ottla.client.view import ClusterView as ClusterView
    from ottla.client.view import PartitionInfo as PartitionInfo
    from ottla.client.view import TopicInfo as TopicInfo
    from ottla.client.why_admin import Event as Event
    from ottla.client.why_admin import Explanation as Explanation

_WHERE = {
    "acl_admin": ("Acl", "AclTest"),
    "admin": ("Admin", "ConfigValue", "CreatedTopic"),
    "connection": ("Client",),
    "consumer": ("Consumer",),
    "errors": (
        "AuthenticationFailed",
        "BufferFull",
        "Closed",
        "ConfigError",
        "ConnectionFailed",
        "CorruptRecords",
        "DeliveryFailed",
        "DeserializationFailed",
        "GroupNotEmpty",
        "InvalidRecord",
        "LeaderNotAvailable",
        "LogTruncation",
        "MemberFenced",
        "NotAuthorized",
        "NotEnoughReplicas",
        "OffsetOutOfRange",
        "OttlaError",
        "PolicyViolation",
        "RecordTooLarge",
        "RequestTimedOut",
        "SchemaRegistryError",
        "Throttled",
        "TopicAlreadyExists",
        "UnknownGroup",
        "UnknownTopic",
        "UnknownUser",
        "UnsupportedCodec",
        "UnsupportedVersion",
        "UserAlreadyExists",
        "WrongCluster",
    ),
    "feature_admin": ("Feature", "FinalizedFeature", "SupportedLevels"),
    "group_admin": ("GroupDescription", "GroupLag", "GroupMember", "GroupSummary", "MovedPosition"),
    "metrics": ("ConsumerMetrics", "ProducerMetrics"),
    "producer": ("Producer",),
    "producer_batch": ("Delivery",),
    "quorum_admin": ("Quorum", "QuorumMember"),
    "quota_admin": ("Quota",),
    "rebalance": ("RebalanceListener",),
    "records": ("ConsumerRecord", "RecordMetadata", "TopicPartition"),
    "tls": ("Tls",),
    "user_admin": ("User",),
    "view": ("BrokerInfo", "ClusterView", "PartitionInfo", "TopicInfo"),
    "why_admin": ("Event", "Explanation"),
}
_MODULES = {name: f"ottla.client.{module}" for module, names in _WHERE.items() for name in names}


def __getattr__(name: str) -> object:
    if name == "__version__":
        value: object = import_module("importlib.metadata").version("ottla")
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'ottla' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, "__version__"])

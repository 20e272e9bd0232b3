"""Where Ottla answers otherwise than Apache Kafka, and why: docs/kafka.md lists this."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final


@dataclass(frozen=True)
class Explained:
    exchange: str
    """A pattern of its names, which end in `-VERSION`."""
    place: str
    """A pattern of a step and a field in it."""
    what: str
    reason: str
    says: str = "*"
    """A pattern of what Ottla says there."""

    def covers(self, exchange: str, place: str, ottla: object) -> bool:
        asked = (exchange, self.exchange), (place, self.place), (str(ottla), self.says)
        return all(fnmatchcase(text, pattern) for text, pattern in asked)


BY_ID = "Metadata by id in versions 10 and 11"
EARLY = "an empty group id"
EMPTY = "is refused with 24 by all; Kafka takes it in FindCoordinator, for positions and in descriptions"
BOUNDS = "OFFSET_OUT_OF_RANGE"
DRY = "CreateTopics that only looks"
EXPLAINED: Final[tuple[Explained, ...]] = (
    Explained("*", "*error_message", "error messages", "are in every refusal; Kafka leaves many empty", "a text"),
    Explained(
        "api_versions_of_bad_software-*",
        "ApiVersions*",
        "a client's software name",
        "may be anything: Kafka refuses what is not letters, digits, - and . with 42",
    ),
    Explained("metadata_by_id-1[01]", "Metadata*", BY_ID, "works; Kafka refuses it with 42 before version 12"),
    Explained(
        "find_coordinator-*",
        "FindCoordinator 0 [[]*",
        "FindCoordinator's error message",
        "is empty where nothing failed; Kafka says NONE",
        "no text",
    ),
    Explained(
        "find_coordinator-*",
        "FindCoordinator 0 [[]''].*",
        EARLY,
        EMPTY,
    ),
    Explained(
        "produce_*-*", "*.log_start_offset", "a refused Produce", "tells the log start offset; Kafka says -1", "0"
    ),
    Explained(
        "produce_as_an_idempotent_producer-*",
        "Produce again.*.log_append_time_ms",
        "a batch that is there already",
        "is answered like the first time, without a log append time; Kafka tells the batch's own",
        "-1",
    ),
    Explained(
        "produce_as_an_idempotent_producer-*",
        "Produce an older epoch.*.error_code",
        "a producer id without an epoch",
        "makes an invalid batch (87); Kafka says 47",
        "87",
    ),
    Explained("fetch_out_of_range-*", "Fetch *.partitions.0.*", BOUNDS, "carries the bounds; Kafka says -1"),
    Explained("delete_records-*", "Fetch what is gone.*", BOUNDS, "carries the bounds; Kafka says -1"),
    Explained(
        "offset_for_leader_epoch-*",
        "OffsetForLeaderEpoch to come.*",
        "OffsetForLeaderEpoch of an epoch to come",
        "tells the end of the newest epoch, so that clients go on from there; Kafka says -1, after which they reset",
    ),
    Explained("create_topics-*", "CreateTopics only looked at.*", DRY, "makes no topic id, and tells no configs"),
    Explained(
        "describe_configs-*",
        "DescribeConfigs a bad name.*.error_code",
        "DescribeConfigs of a bad name",
        "says that there is no such topic (3); Kafka says 17",
        "3",
    ),
    Explained(
        "describe_configs_with_synonyms-*",
        "*.log.retention.ms",
        "synonyms of `retention.ms`",
        "have its default under `log.retention.ms`; Kafka's default is in hours, under no such name",
    ),
    Explained(
        "incremental_alter_configs-*",
        "* no such operation.*",
        "an operation that IncrementalAlterConfigs has not",
        "is refused with 42; Kafka says -1",
        "42",
    ),
    Explained(
        "describe_configs_names_all-*", "DescribeConfigs.flush", "`flush`", "is a config of topics that Kafka has not"
    ),
    Explained("offset_*", "Offset* no name.*", EARLY, EMPTY),
    Explained("describe_groups-*", "DescribeGroups no name.*", EARLY, EMPTY),
    Explained("delete_groups-*", "DeleteGroups no name.*", EARLY, EMPTY),
    Explained(
        "offset_delete_of_the_last-*",
        "OffsetDelete again*",
        "a group whose last position is deleted",
        "is gone at once (69); Kafka keeps it until its next cleaning",
    ),
    Explained(
        "consumer_group_heartbeat_is_refused-*",
        "* at once.error_code",
        "a heartbeat (KIP-848) to a group that is not there",
        "is answered with 25; Kafka says 69, which ends clients",
        "25",
    ),
    Explained(
        "describe_configs_of_many-*",
        "DescribeConfigs.results.*",
        "a resource of an unknown kind among others",
        "is refused alone; Kafka's DescribeConfigs refuses all of them with 42",
    ),
)

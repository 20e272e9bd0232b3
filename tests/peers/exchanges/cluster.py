"""ApiVersions, Metadata, DescribeCluster, DescribeTopicPartitions, DescribeQuorum, DescribeLogDirs, FindCoordinator."""

from typing import Any

from tests.peers.exchange import exchange
from tests.peers.side import Side
from tests.peers.wire import Tree

NOBODY = b"\0" * 6 + b"\x40\0" + b"\x80" + b"\xaa" * 7


def topics(answer: Tree) -> Any:
    return answer["topics"]


@exchange("ApiVersions")
def api_versions(s: Side, v: int) -> None:
    s.ask(
        "ApiVersions", v, client_software_name="peer", client_software_version="1",
        keep=lambda a: (
            a["error_code"],
            [key for key in a["api_keys"] if key["api_key"] == 18],
            [key["min_version"] for key in a["api_keys"] if key["api_key"] == 0],
            sorted(a),
        ),
    )  # fmt: skip


@exchange("ApiVersions", 3)
def api_versions_of_bad_software(s: Side, v: int) -> None:
    for name in ("", "-bad", "bad name", "ok.name-1", "a" * 300):
        s.ask(
            "ApiVersions", v, name or "none", name[:10], client_software_name=name, client_software_version="1",
            keep=lambda a: (a["error_code"], len(a["api_keys"]) > 0),
        )  # fmt: skip


@exchange("Metadata")
def metadata(s: Side, v: int) -> None:
    t = s.topic(partitions=2)
    s.ask("Metadata", v, topics=[{"name": t}], allow_auto_topic_creation=False)


@exchange("Metadata", 1)
def metadata_of_no_topics(s: Side, v: int) -> None:
    s.ask("Metadata", v, topics=[])


@exchange("Metadata", 4)
def metadata_of_the_unknown(s: Side, v: int) -> None:
    s.ask("Metadata", v, topics=[{"name": s.name("no")}], allow_auto_topic_creation=False, keep=topics)


@exchange("Metadata", 4)
def metadata_of_bad_names(s: Side, v: int) -> None:
    for name in (".", "..", "bad/name", "bad name", "\u00fcmlaut", "x" * 250):
        for create in (False, True):
            s.ask(
                "Metadata", v, "", f"{name[:10]} {create}", topics, topics=[{"name": name}],
                allow_auto_topic_creation=create,
            )  # fmt: skip


@exchange("Metadata", 1)
def metadata_of_all(s: Side, v: int) -> None:
    a, b = s.topic("a"), s.topic("b", 3)
    s.ask("Metadata", v, topics=None, keep=lambda x: [each for each in x["topics"] if each["name"] in (a, b)])


@exchange("Metadata", 8)
def metadata_with_operations(s: Side, v: int) -> None:
    t = s.topic()
    asked = {"include_cluster_authorized_operations": True, "include_topic_authorized_operations": True}
    s.ask("Metadata", v, topics=[{"name": t}, {"name": s.name("no")}], allow_auto_topic_creation=False, **asked)


@exchange("Metadata", 10)
def metadata_by_id(s: Side, v: int) -> None:
    t = s.topic()
    for label, name, topic_id in (("id", None, s.ids[t]), ("unknown", None, NOBODY), ("id and name", t, s.ids[t])):
        s.ask("Metadata", v, label, label, topics=[{"name": name, "topic_id": topic_id}], keep=lambda a: a)


@exchange("Metadata")
def metadata_creates(s: Side, v: int) -> None:
    asked = {"topics": [{"name": s.name("auto")}], "allow_auto_topic_creation": True}
    s.until(lambda a: a["topics"][0]["error_code"] == 0, "Metadata", v, **asked)
    s.served(s.name("auto"))
    s.ask("Metadata", v, keep=topics, **asked)


@exchange("DescribeCluster")
def describe_cluster(s: Side, v: int) -> None:
    for operations in (False, True):
        s.ask("DescribeCluster", v, label=str(operations), include_cluster_authorized_operations=operations)


@exchange("DescribeCluster", 1)
def describe_cluster_of_other_endpoints(s: Side, v: int) -> None:
    for kind in (0, 2, 3):
        s.ask("DescribeCluster", v, label=str(kind), endpoint_type=kind)


@exchange("DescribeTopicPartitions")
def describe_topic_partitions(s: Side, v: int) -> None:
    a, b = s.topic("a", 3), s.topic("b", 2)
    for label, names in (("one", [a]), ("two", [b, a]), ("unknown", [s.name("no"), a]), ("twice", [a, a])):
        s.ask("DescribeTopicPartitions", v, label=label, topics=[{"name": each} for each in names])


@exchange("DescribeTopicPartitions")
def describe_topic_partitions_in_pages(s: Side, v: int) -> None:
    both = [{"name": s.topic("b", 3)}, {"name": s.topic("a", 3)}]
    for limit, cursor in ((2, None), (2, ("a", 2)), (3, ("b", 0)), (4, ("a", 9)), (0, None), (1, ("z", 0))):
        place = cursor and {"topic_name": s.name(cursor[0]), "partition_index": cursor[1]}
        s.ask(
            "DescribeTopicPartitions", v, "", f"{limit} from {cursor}", topics=both, response_partition_limit=limit,
            cursor=place,
        )  # fmt: skip


def quorum(answer: Tree) -> Any:
    """Which offsets and directories it is made of is a broker's own."""
    for topic in answer["topics"]:
        for part in topic["partitions"]:
            part["high_watermark"] = part["high_watermark"] > 0
            for each in part["current_voters"]:
                each.pop("replica_directory_id", None)
    for node in answer.get("nodes", ()):
        node["listeners"] = len(node["listeners"])
    return answer


@exchange("DescribeQuorum")
def describe_quorum(s: Side, v: int) -> None:
    for name, number in (("__cluster_metadata", 0), ("__cluster_metadata", 1), ("other", 0)):
        parts = [{"partition_index": number}]
        s.ask("DescribeQuorum", v, name, f"{name} {number}", quorum, topics=[{"topic_name": name, "partitions": parts}])


@exchange("DescribeLogDirs")
def describe_log_dirs(s: Side, v: int) -> None:
    t = s.topic(partitions=2)
    s.put(t, [b"x"])
    s.ask("DescribeLogDirs", v, label="known", topics=[{"topic": t, "partitions": [0, 1]}])
    s.ask("DescribeLogDirs", v, label="unknown", topics=[{"topic": s.name("no"), "partitions": [0]}])
    s.ask("DescribeLogDirs", v, label="no such partition", topics=[{"topic": t, "partitions": [7]}])
    s.ask("DescribeLogDirs", v, label="none", topics=[])


@exchange("FindCoordinator")
def find_coordinator(s: Side, v: int) -> None:
    for kind, keys in ((0, ["g"]), (0, ["g", "h"]), (0, [""]), (9, ["g"]), (0, [])):
        s.ask("FindCoordinator", v, f"{kind} {keys}", f"{kind} {keys}", key=(keys or ["g"])[0], key_type=kind,
              coordinator_keys=keys)  # fmt: skip

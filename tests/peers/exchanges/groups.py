"""Groups of the classic protocol and of KIP-848: their members, their positions, and what is told of them."""

from typing import Any

from tests.peers.exchange import exchange
from tests.peers.exchanges.cluster import NOBODY
from tests.peers.side import Side
from tests.peers.wire import Tree

GENERATION = "generation_id_or_member_epoch"


def parts(answer: Tree) -> Any:
    return answer["topics"]


def committing(s: Side, group: str, topic: str, offset: int = 5, partition: int = 0, **more: Any) -> Tree:
    part = {"partition_index": partition, "committed_offset": offset, "committed_metadata": more.pop("metadata", "m")}
    named = {"name": topic, "topic_id": s.ids.get(topic, NOBODY), "partitions": [part]}
    return {"group_id": group, "member_id": "", "topics": [named]} | more


def fetching(s: Side, v: int, group: str, topic: str | None, *numbers: int, **more: Any) -> Tree:
    if topic is None:
        named = None
    else:
        named = [{"name": topic, "partition_indexes": list(numbers)}]
        if v >= 10:
            named = [{"topic_id": s.ids.get(topic, NOBODY), "partition_indexes": list(numbers)}]
    return {"groups": [{"group_id": group, "topics": named} | more]} if v >= 8 else {"group_id": group, "topics": named}


@exchange("OffsetCommit")
def offset_commit(s: Side, v: int) -> None:
    t, g = s.topic(partitions=2), s.name("g")
    s.ask("OffsetCommit", v, label="from outside", **committing(s, g, t))
    s.ask("OffsetCommit", v, label="again", **committing(s, g, t, 3, metadata=""))
    s.ask("OffsetCommit", v, label="no such partition", **committing(s, g, t, partition=9))
    s.ask("OffsetCommit", v, label="no such topic", **committing(s, g, s.name("no")))
    s.ask("OffsetCommit", v, label="long metadata", **committing(s, g, t, metadata="x" * 5000))
    s.ask("OffsetCommit", v, label="an unknown member", **committing(s, g, t, member_id="nobody") | {GENERATION: 3})
    s.ask("OffsetFetch", 5, label="what is kept", **fetching(s, 5, g, t, 0, 1))


@exchange("OffsetCommit")
def offset_commit_to_no_group(s: Side, v: int) -> None:
    t = s.topic()
    s.ask("OffsetCommit", v, label="a generation", **committing(s, s.name("none"), t) | {GENERATION: 3})
    s.ask("OffsetCommit", v, label="a member", **committing(s, s.name("none"), t, member_id="x") | {GENERATION: 3})
    s.ask("OffsetCommit", v, label="no name", **committing(s, "", t))


@exchange("OffsetCommit")
def offset_commit_of_a_member(s: Side, v: int) -> None:
    t, g = s.topic(), s.name("g")
    made = member(s, g)
    known = {"member_id": made["member_id"], GENERATION: made["generation_id"]}
    s.ask("OffsetCommit", v, label="of it", **committing(s, g, t) | known)
    s.ask("OffsetCommit", v, label="former generation", **committing(s, g, t) | known | {GENERATION: 0})
    s.ask("OffsetCommit", v, label="unknown member", **committing(s, g, t) | known | {"member_id": "nobody"})
    s.ask("OffsetCommit", v, label="from outside", **committing(s, g, t))


@exchange("OffsetFetch")
def offset_fetch(s: Side, v: int) -> None:
    t, g = s.topic(partitions=2), s.name("g")
    s.quiet("OffsetCommit", 8, **committing(s, g, t, 7))
    s.ask("OffsetFetch", v, label="known and not", **fetching(s, v, g, t, 0, 1, 9))
    s.ask("OffsetFetch", v, label="no such topic", **fetching(s, v, g, s.name("no"), 0))
    s.ask("OffsetFetch", v, label="no such group", **fetching(s, v, s.name("none"), t, 0))
    s.ask("OffsetFetch", v, label="no name", **fetching(s, v, "", t, 0))
    if v >= 2:
        s.ask("OffsetFetch", v, label="all", **fetching(s, v, g, None))
        s.ask("OffsetFetch", v, label="all of no group", **fetching(s, v, s.name("none"), None))


@exchange("OffsetFetch", 9)
def offset_fetch_of_a_member(s: Side, v: int) -> None:
    t, g = s.topic(), s.name("g")
    s.quiet("OffsetCommit", 8, **committing(s, g, t, 7))
    s.ask("OffsetFetch", v, label="none of it", **fetching(s, v, g, t, 0, member_id="nobody", member_epoch=4))
    s.ask("OffsetFetch", v, label="no group", **fetching(s, v, s.name("no"), t, 0, member_id="nobody", member_epoch=4))


@exchange("OffsetDelete")
def offset_delete(s: Side, v: int) -> None:
    t, g = s.topic(partitions=3), s.name("g")
    for number in (0, 2):
        s.quiet("OffsetCommit", 8, **committing(s, g, t, 7, number))
    for label, group, topic, number in (
        ("it", g, t, 0), ("again", g, t, 0), ("never there", g, t, 1), ("no such partition", g, t, 9),
        ("no such topic", g, s.name("no"), 0), ("no such group", s.name("none"), t, 0), ("no name", "", t, 0),
    ):  # fmt: skip
        named = [{"name": topic, "partitions": [{"partition_index": number}]}]
        s.ask("OffsetDelete", v, label=label, group_id=group, topics=named)
    s.ask("OffsetFetch", 5, label="what is kept", **fetching(s, 5, g, t, 0, 1, 2))


@exchange("OffsetDelete")
def offset_delete_of_the_last(s: Side, v: int) -> None:
    t, g = s.topic(), s.name("g")
    s.quiet("OffsetCommit", 8, **committing(s, g, t, 7))
    named = [{"name": t, "partitions": [{"partition_index": 0}]}]
    s.ask("OffsetDelete", v, label="it", group_id=g, topics=named)
    s.ask("OffsetDelete", v, label="again", group_id=g, topics=named)


def joining(group: str, **more: Any) -> Tree:
    protocols = [{"name": "range", "metadata": b"meta"}]
    return {
        "group_id": group, "session_timeout_ms": 10_000, "rebalance_timeout_ms": 10_000, "member_id": "",
        "protocol_type": "consumer", "protocols": protocols,
    } | more  # fmt: skip


def member(s: Side, group: str, **more: Any) -> Tree:
    """A group of one member that has its assignment."""
    made = s.quiet("JoinGroup", 3, **joining(group, **more))
    given = [{"member_id": made["member_id"], "assignment": b"given"}]
    known = {"generation_id": made["generation_id"], "member_id": made["member_id"], "assignments": given}
    assert s.quiet("SyncGroup", 2, group_id=group, **known)["error_code"] == 0
    return made


@exchange("JoinGroup")
def join_group(s: Side, v: int) -> None:
    g = s.name("g")
    made = s.ask("JoinGroup", v, label="first", **joining(g))
    s.ask("JoinGroup", v, label="with its id", **joining(g, member_id=made["member_id"]))
    s.ask("JoinGroup", v, "2", "an unknown id", **joining(g, member_id="nobody"))
    s.ask("JoinGroup", v, "2", "another type", **joining(g, protocol_type="connect"))
    s.ask("JoinGroup", v, "2", "another protocol", **joining(g, protocols=[{"name": "other", "metadata": b""}]))
    s.ask("JoinGroup", v, "2", "no protocol", **joining(s.name("h"), protocols=[]))
    s.ask("JoinGroup", v, "2", "no type", **joining(s.name("h"), protocol_type=""))
    s.ask("JoinGroup", v, "2", "too short a session", **joining(s.name("h"), session_timeout_ms=5))
    s.ask("JoinGroup", v, "2", "too long a session", **joining(s.name("h"), session_timeout_ms=1 << 30))
    s.ask("JoinGroup", v, "2", "no name", **joining(""))
    s.ask("JoinGroup", v, "2", "an unknown id of no group", **joining(s.name("i"), member_id="nobody"))


@exchange("JoinGroup", 5)
def join_group_as_a_static_member(s: Side, v: int) -> None:
    g = s.name("g")
    one = s.ask("JoinGroup", v, label="first", **joining(g, group_instance_id="one"))
    given = [{"member_id": one["member_id"], "assignment": b"given"}]
    mine = {"group_id": g, "generation_id": one["generation_id"], "member_id": one["member_id"]}
    s.ask("SyncGroup", 3, label="its share", **mine, assignments=given)
    again = s.ask("JoinGroup", v, "2", "again", **joining(g, group_instance_id="one"))
    known = {"group_id": g, "generation_id": again["generation_id"]}
    s.ask("Heartbeat", 3, label="the former", **known, member_id=one["member_id"], group_instance_id="one")
    s.ask("Heartbeat", 3, label="the new", **known, member_id=again["member_id"], group_instance_id="one")


@exchange("SyncGroup")
def sync_group(s: Side, v: int) -> None:
    g = s.name("g")
    made = s.quiet("JoinGroup", 3, **joining(g))
    given = [{"member_id": made["member_id"], "assignment": b"given"}]
    known = {"group_id": g, "generation_id": made["generation_id"], "member_id": made["member_id"]}
    more = {"protocol_type": "consumer", "protocol_name": "range"} if v >= 5 else {}
    s.ask("SyncGroup", v, label="an unknown member", **known | {"member_id": "nobody"} | more)
    s.ask("SyncGroup", v, label="another generation", **known | {"generation_id": 7} | more)
    s.ask("SyncGroup", v, label="no such group", **known | {"group_id": s.name("none")} | more)
    s.ask("SyncGroup", v, label="no name", **known | {"group_id": ""} | more)
    if v >= 5:
        s.ask("SyncGroup", v, label="another protocol", **known | more | {"protocol_name": "other"})
        s.ask("SyncGroup", v, label="no protocol", **known)
    s.ask("SyncGroup", v, label="the leader", **known, **more, assignments=given)
    s.ask("SyncGroup", v, label="again", **known, **more)


@exchange("Heartbeat")
def heartbeat(s: Side, v: int) -> None:
    g = s.name("g")
    made = member(s, g)
    known = {"group_id": g, "generation_id": made["generation_id"], "member_id": made["member_id"]}
    s.ask("Heartbeat", v, label="good", **known)
    for label, other in (
        ("another generation", {"generation_id": 9}), ("no generation", {"generation_id": -1}),
        ("an unknown member", {"member_id": "nobody"}), ("no member", {"member_id": ""}),
        ("no such group", {"group_id": s.name("none")}), ("no name", {"group_id": ""}),
    ):  # fmt: skip
        s.ask("Heartbeat", v, label=label, **known | other)
    s.send("JoinGroup", 3, "second", **joining(g))
    s.until(lambda a: a["error_code"] == 27, "Heartbeat", v, **known)
    s.ask("Heartbeat", v, label="in a rebalance", **known)
    s.quiet("JoinGroup", 3, **joining(g, member_id=made["member_id"]))
    s.note("the second joined", s.receive("second"), lambda a: (a["error_code"], a["generation_id"], a["members"]))


def leaving(v: int, group: str, *members: str) -> Tree:
    named = {"members": [{"member_id": each} for each in members]} if v >= 3 else {"member_id": members[0]}
    return {"group_id": group} | named


@exchange("LeaveGroup")
def leave_group(s: Side, v: int) -> None:
    g = s.name("g")
    made = member(s, g)
    s.ask("LeaveGroup", v, label="an unknown member", **leaving(v, g, "nobody"))
    s.ask("LeaveGroup", v, label="no such group", **leaving(v, s.name("none"), "nobody"))
    s.ask("LeaveGroup", v, label="no name", **leaving(v, "", "nobody"))
    s.ask("LeaveGroup", v, label="it", **leaving(v, g, made["member_id"]))
    s.ask("LeaveGroup", v, label="again", **leaving(v, g, made["member_id"]))
    if v >= 3:
        s.ask("LeaveGroup", v, label="nobody at all", **leaving(v, g))


@exchange("DescribeGroups")
def describe_groups(s: Side, v: int) -> None:
    g, t = s.name("g"), s.topic()
    member(s, g)
    s.quiet("OffsetCommit", 8, **committing(s, s.name("empty"), t))
    for label, names in (
        ("stable", [g]), ("no members", [s.name("empty")]), ("unknown", [s.name("none")]), ("no name", [""]),
        ("none", []),
    ):  # fmt: skip
        s.ask("DescribeGroups", v, label=label, groups=names, include_authorized_operations=True)
    s.ask("DescribeGroups", v, label="without operations", groups=[g])


@exchange("ListGroups")
def list_groups(s: Side, v: int) -> None:
    g, t = s.name("g"), s.topic()
    member(s, g)
    s.quiet("OffsetCommit", 8, **committing(s, s.name("empty"), t))
    asked: list[Tree] = [{}]
    if v >= 4:
        asked += [{"states_filter": [state]} for state in ("Stable", "stable", "Empty", "NoSuch")]
    if v >= 5:
        asked += [{"types_filter": [kind]} for kind in ("classic", "Classic", "consumer", "nosuch")]
    for each in asked:
        s.ask(
            "ListGroups", v, label=str(each), **each,
            keep=lambda a: (a["error_code"], [x for x in a["groups"] if x["group_id"].startswith(s.prefix)]),
        )  # fmt: skip


@exchange("DeleteGroups")
def delete_groups(s: Side, v: int) -> None:
    g, t = s.name("g"), s.topic()
    member(s, g)
    s.quiet("OffsetCommit", 8, **committing(s, s.name("empty"), t))
    for label, names in (
        ("with a member", [g]), ("empty", [s.name("empty")]), ("again", [s.name("empty")]), ("no name", [""]),
        ("none", []), ("two", [g, s.name("none")]), ("twice", [g, g]),
    ):  # fmt: skip
        s.ask("DeleteGroups", v, label=label, groups_names=names)


def beat(s: Side, v: int, label: str, *, keep: Any = None, **body: Any) -> Tree:
    return s.ask("ConsumerGroupHeartbeat", v, label=label, keep=keep or beaten, **body)


def beaten(answer: Tree) -> Any:
    """How often to beat is a setting; what a member has is compared by itself."""
    return {key: each for key, each in answer.items() if key not in ("heartbeat_interval_ms", "assignment")}


def new_member(s: Side, v: int, group: str, topic: str, name: str = "AAAAAAAAAAAAAAAAAAAAAA") -> Tree:
    return {
        "group_id": group, "member_id": name if v >= 1 else "", "member_epoch": 0, "rebalance_timeout_ms": 10_000,
        "subscribed_topic_names": [topic], "topic_partitions": [],
    }  # fmt: skip


@exchange("ConsumerGroupHeartbeat")
def consumer_group_heartbeat(s: Side, v: int) -> None:
    t, g = s.topic(partitions=2), s.name("g")
    made = beat(s, v, "joins", **new_member(s, v, g, t), keep=lambda a: (a["error_code"], a["member_epoch"] > 0))
    known = {"group_id": g, "member_id": made["member_id"]}
    s.until(lambda a: a["assignment"] is not None, "ConsumerGroupHeartbeat", v, **known, member_epoch=0,
            rebalance_timeout_ms=10_000, subscribed_topic_names=[t], topic_partitions=[])  # fmt: skip
    beat(s, v, "an unknown member", group_id=g, member_id="nobody", member_epoch=1)
    beat(s, v, "an epoch to come", **known, member_epoch=99)
    beat(s, v, "leaves", **known, member_epoch=-1)
    beat(s, v, "is gone", **known, member_epoch=1)


@exchange("ConsumerGroupHeartbeat")
def consumer_group_heartbeat_is_refused(s: Side, v: int) -> None:
    t = s.topic()
    good = new_member(s, v, s.name("g"), t)
    for label, other in (
        ("no group", {"group_id": ""}), ("no time", {"rebalance_timeout_ms": -1}),
        ("no topics", {"subscribed_topic_names": None}),
        ("partitions at once", {"topic_partitions": [{"topic_id": s.ids[t], "partitions": [0]}]}),
        ("no such assignor", {"server_assignor": "nosuch"}), ("an empty instance", {"instance_id": ""}),
        ("a negative epoch", {"member_epoch": -5}), ("leaves at once", {"member_epoch": -1}),
        ("an epoch at once", {"member_epoch": 3, "member_id": "nobody"}),
    ):  # fmt: skip
        beat(s, v, label, **good | other)
    if v >= 1:
        beat(s, v, "a bad expression", **good | {"subscribed_topic_names": None, "subscribed_topic_regex": "("})


@exchange("ConsumerGroupDescribe")
def consumer_group_describe(s: Side, v: int) -> None:
    t, g, classic = s.topic(), s.name("g"), s.name("classic")
    member(s, classic)
    asked = new_member(s, 1, g, t)
    s.until(lambda a: a["assignment"] is not None, "ConsumerGroupHeartbeat", 1, **asked)
    for label, names in (
        ("it", [g]),
        ("classic", [classic]),
        ("unknown", [s.name("none")]),
        ("no name", [""]),
        ("none", []),
    ):
        s.ask("ConsumerGroupDescribe", v, label=label, group_ids=names, include_authorized_operations=True)

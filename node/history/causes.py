"""The kinds of causes. A cause is a sentence of whoever decided a change, kept in the metadata log since its first
version; this table says which kind it is, so it knows what older builds wrote, too. What it does not know is shown as
it is, as `unknown`. A test has the controller say each of them.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from node.metadata.events import Event
from ottla.v1 import cluster_pb2

UNKNOWN: Final = "unknown"


class Cause(NamedTuple):
    """`code` is one of docs/why.md; `node_id`: who is to blame, where a node is; `text`: a clause for an answer."""

    code: str
    node_id: int | None
    text: str


_TABLE: Final = (
    # The first that is found counts: what was lost stands before that a node started.
    ("log-deleted", r"broker (\d+) started again without its log of it", "node {} started without its log of it"),
    ("disk-replaced", r"broker (\d+) started again with another directory", "node {} came back with another disk"),
    (
        "machine-crashed",
        r"broker (\d+) started again after a stop that may have lost",
        "the machine of node {} crashed, which may have lost what was not synced",
    ),
    ("node-restarted", r"broker (\d+) started again", "node {} started again"),
    ("node-died", r"broker (\d+) fenced: its process is gone", "node {} died"),
    ("node-silent", r"broker (\d+) fenced: no heartbeat for (\d+) ms", "node {} was not heard for {} ms"),
    ("node-hung", r"broker (\d+) fenced: its data loop has not turned", "the data loop of node {} hung"),
    ("node-asked", r"broker (\d+) fenced: it asked for it", "node {} asked to be fenced"),
    ("node-stopped", r"broker (\d+) is stopping", "node {} was stopped"),
    ("node-back", r"broker (\d+) is back", "node {} is back"),
    ("log-failed", r"the log of it failed on broker (\d+)", "the log failed on node {}"),
    ("disk-full", r"the disk of broker (\d+) is full", "the disk of node {} is full"),
    ("disk-has-room", r"the disk of broker (\d+) has room again", "the disk of node {} has room again"),
    ("drained", r"broker (\d+) is drained", "node {} is drained"),
    ("healed", r"node (\d+)[\d, ]* is gone for (\d+) s: its replica is rebuilt", "node {} is gone for long: {} s"),
    ("heal-called-off", r"what was gone is in sync again", "what was gone is in sync again"),
    ("called-off", r"an operator called its move off", "an operator called its move off"),
    ("operator-moved", r"an operator moves it to ([\d, ]+)", "an operator moves it to {}"),
    ("operator", r"an operator asked for it", "an operator asked for it"),
    ("preferred-back", r"preferred replica in sync for", "the preferred replica is in sync again"),
    ("log-ends-known", r"broker (\d+) said where its log ends", "the log ends of those that are back are known"),
    ("grown", r" was made when \d+ brokers were live", "the topic was made when too few nodes were up"),
    ("made", r"the partition was made", "the partition was made"),
)
_PATTERNS: Final = tuple((code, re.compile(pattern), text) for code, pattern, text in _TABLE)
_ASKED: Final = re.compile(r"leader (\d+) asked for ISR [\d, ]*(?:: (.*))?")
_LATE: Final = re.compile(r"node (\d+) ")
CODES: Final = (*(code for code, _, _ in _TABLE), "slow-replica", "caught-up", UNKNOWN)
_OF_NODES: Final = frozenset(
    code for code, pattern, _ in _TABLE if "(" in pattern and code not in ("log-ends-known", "operator-moved")
)


def cause_of(event: Event) -> Cause:
    """What kind of cause an event has."""
    asked = _ASKED.match(event.cause)
    if asked is not None:
        return _asked(event, asked)
    for code, pattern, text in _PATTERNS:
        found = pattern.search(event.cause)
        if found is not None:
            node_id = int(found[1]) if code in _OF_NODES and found.groups() else None
            return Cause(code, node_id, text.format(*found.groups()))
    code = _KINDS.get(event.kind, UNKNOWN)
    return Cause(code, event.node_id, event.cause)


_KINDS: Final = {
    cluster_pb2.EVENT_KIND_NODE_STARTED: "node-restarted",
    cluster_pb2.EVENT_KIND_NODE_UNREGISTERED: "operator",
    cluster_pb2.EVENT_KIND_CONFIG: "operator",
    cluster_pb2.EVENT_KIND_FEATURE: "operator",
    cluster_pb2.EVENT_KIND_TOPIC_CREATED: "operator",
    cluster_pb2.EVENT_KIND_TOPIC_DELETED: "operator",
}


def _asked(event: Event, asked: "re.Match[str]") -> Cause:
    """A leader judges its followers: who leaves was late, who joins has caught up."""
    left = [n for n in event.isr_before if n not in event.isr]
    if not left:
        joined = [n for n in event.isr if n not in event.isr_before]
        return Cause("caught-up", joined[0] if joined else None, f"{_nodes(joined)} caught up")
    said = asked[2] or f"the leader, node {asked[1]}, found {_nodes(left)} behind"
    late = _LATE.match(said)
    return Cause("slow-replica", int(late[1]) if late else left[0], said)


def _nodes(ids: Sequence[int]) -> str:
    return f"node{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"


def blames(event: Event, node_id: int) -> bool:
    """Whether an event is about a node, or happened because of it."""
    return (
        event.node_id == node_id or node_id in (event.leader_before, event.leader) or cause_of(event).node_id == node_id
    )

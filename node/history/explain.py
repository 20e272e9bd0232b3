"""Why a partition or a node is as it is: an answer from the metadata and what is remembered of its changes. Pure.

The state is the metadata's, so it is never wrong; the cause is that of the change that brought it about. Where that is
older than this node's memory, the answer says that it is not known.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from node.history.causes import UNKNOWN, Cause, cause_of
from node.history.store import History
from node.metadata.events import Event
from node.metadata.image import NO_LEADER, Image, Partition, Topic, is_draining
from ottla.protocol.configs import broker_defaults, enough_in_sync, min_isr_set
from ottla.v1 import cluster_pb2

LEADER: Final = cluster_pb2.EVENT_KIND_LEADER
OF_REPLICAS: Final = cluster_pb2.EVENT_KIND_REPLICAS
STARTED: Final = cluster_pb2.EVENT_KIND_NODE_STARTED
BACK: Final = cluster_pb2.EVENT_KIND_NODE_BACK
FENCED: Final = cluster_pb2.EVENT_KIND_NODE_FENCED
STOPPING: Final = cluster_pb2.EVENT_KIND_NODE_STOPPING
_NAMED: Final = 5


class Answer(NamedTuple):
    """Why something is as it is. `cause` is a code of docs/why.md; `since_ms` 0 = not known; `evidence` in order."""

    subject: str
    state: str
    healthy: bool
    cause: str
    text: str
    since_ms: int = 0
    next_steps: tuple[str, ...] = ()
    evidence: tuple[Event, ...] = ()


class Facts(NamedTuple):
    """What an answer is made of. `controller` None: none is known; `static`: configs of brokers from this node's
    file."""

    image: Image
    history: History
    controller: int | None
    static: Mapping[str, str]


class _Missing(NamedTuple):
    """A replica that is not in sync: the cause, as a clause, and what is to be done."""

    node_id: int
    cause: Cause
    next_step: str
    events: tuple[Event, ...]


def of_partition(facts: Facts, topic: Topic, partition: Partition) -> Answer:
    """Why a partition is led, and in sync, as it is."""
    events = facts.history.of_partition(topic.topic_id, partition.partition, facts.image.index)
    if partition.leader == NO_LEADER:
        return _leaderless(facts, topic, partition, events)
    missing = [_missing(facts, partition, n, events) for n in partition.original if n not in partition.isr]
    set_, defaults = topic.configs, broker_defaults(facts.image.broker_configs, facts.static)
    enough = enough_in_sync(min_isr_set(set_, defaults), partition.replication_factor)
    if missing:
        return _out_of_sync(facts, topic, partition, missing, enough, _move_of(partition, events))
    if partition.target:
        return _moving(facts, topic, partition, events)
    return _led(facts, topic, partition, events)


def urgency(answer: Answer) -> int:
    """Smaller is more urgent."""
    order = ("no-leader", "writes-refused", "under-replicated", "moving", "unclean", "not-preferred", "ok")
    return order.index(answer.state) if answer.state in order else len(order)


def _leaderless(facts: Facts, topic: Topic, partition: Partition, events: Sequence[Event]) -> Answer:
    lost = next(
        (e for e in events if e.kind == LEADER and e.leader == NO_LEADER and e.leader_before != NO_LEADER), None
    )
    waits = partition.elr or partition.last_known_elr
    name = _name(topic, partition)
    has = "has" if len(waits) == 1 else "have"
    eligible = f"{_nodes(waits)} {has} all that was acknowledged" if partition.elr else f"{_nodes(waits)} led last"
    steps = [_bring_back(facts, waits, all_of_them=not partition.elr)]
    steps.append(
        f"or give up what only {_nodes(waits)} {has}: `ottla topic elect {topic.name} --partition "
        f"{partition.partition} --unclean` says first how many records that may be"
    )
    evidence = [] if lost is None else [lost]
    text = f"nobody leads {name}"
    cause = Cause(UNKNOWN, None, "")
    if lost is None:
        text += f", and why is not known here: {_forgotten(facts)}"
    else:
        cause = cause_of(lost)
        text += f": {cause.text} while it led"
        others = [n for n in partition.replicas if n not in lost.isr_before]
        if others:
            text += f", and {_nodes(others)} {'were' if len(others) > 1 else 'was'} not in sync then"
            for each in (_missing(facts, partition, n, events) for n in others):
                evidence += each.events
                if each.cause.code != UNKNOWN and each.node_id != cause.node_id:
                    text += f" ({each.cause.text})"
        elif len(partition.replicas) == 1:
            text += ", and there is no other replica"
        elif len(lost.isr_before) > 1:
            text += f", and nobody of its ISR {_list(lost.isr_before)} was left"
    text += f"; {eligible}"
    for n in waits:
        if (last := _last_of_node(facts, n)) is not None:
            evidence.append(last)
            if cause_of(last) != cause:
                text += f"; {_now(facts, n, last)}"
    text, steps = _without_controller(facts, text, steps)
    return Answer(
        name,
        "no-leader",
        False,
        cause.code,
        text,
        0 if lost is None else lost.time_ms,
        tuple(steps),
        _ordered(evidence),
    )


def _out_of_sync(
    facts: Facts, topic: Topic, partition: Partition, missing: Sequence[_Missing], enough: int, moved: Event | None
) -> Answer:
    name = _name(topic, partition)
    refuses = len(partition.isr) < enough
    state = "writes-refused" if refuses else "under-replicated"
    text = f"{_nodes([m.node_id for m in missing])} of {name} {'are' if len(missing) > 1 else 'is'} not in sync: "
    text += "; ".join(dict.fromkeys(m.cause.text for m in missing))
    if refuses:
        text += (
            f". Writes with acks=all are refused (NOT_ENOUGH_REPLICAS): {enough} replicas must be in sync, "
            f"{_list(partition.isr)} {'is' if len(partition.isr) == 1 else 'are'}"
        )
    known = next((m for m in missing if m.cause.code != UNKNOWN), missing[0])
    evidence = [event for m in missing for event in m.events]
    if moved is not None:
        text += f". It moves to {_list(partition.target)}: {cause_of(moved).text}"
        evidence.append(moved)
    steps = list(dict.fromkeys(m.next_step for m in missing if m.next_step))
    text, steps = _without_controller(facts, text, steps)
    since_ms = known.events[0].time_ms if known.events else 0
    return Answer(name, state, False, known.cause.code, text, since_ms, tuple(steps), _ordered(evidence))


def _missing(facts: Facts, partition: Partition, node_id: int, events: Sequence[Event]) -> _Missing:
    """Why a replica is not in sync: what its node is, and else the change that put it out."""
    broker = facts.image.brokers.get(node_id)
    left = next((e for e in events if node_id in e.isr_before and node_id not in e.isr), None)
    if broker is None:
        text = f"node {node_id} is not registered"
        return _Missing(node_id, Cause("unregistered", node_id, text), f"start node {node_id}", ())
    last = _last_of_node(facts, node_id)
    if not broker.live:
        step = f"start node {node_id}"
        if last is None:
            text = f"node {node_id} is {'fenced' if broker.fenced else 'stopping'}, and why is not known here"
            return _Missing(node_id, Cause(UNKNOWN, node_id, f"{text}: {_forgotten(facts)}"), step, ())
        cause = cause_of(last)
        if cause.code == "node-hung" or cause.code == "node-silent":
            step = f"look at node {node_id} and its network: its process may run; restart it if it does not recover"
        return _Missing(node_id, cause, step, (last,))
    if left is None:
        text = f"node {node_id} is up and not in sync, and why is not known here: {_forgotten(facts)}"
        return _Missing(node_id, Cause(UNKNOWN, node_id, text), "", ())
    cause = cause_of(left)
    if cause.node_id not in (None, node_id):
        cause = cause._replace(node_id=node_id)
    step = _STEPS.get(cause.code, "").format(node_id)
    back = last if last is not None and last.kind in (BACK, STARTED) and last.id > left.id else None
    if back is not None:
        cause = cause._replace(text=f"{cause.text}; node {node_id} is back and catches up")
        step = f"wait until node {node_id} has caught up"
    return _Missing(node_id, cause, step, (left, back) if back is not None else (left,))


_STEPS: Final = {
    "slow-replica": "look at the disk, the load and the network of node {}: it comes back by itself when it keeps pace",
    "disk-full": "make room on the disk of node {}: it comes back by itself then",
    "log-failed": "look at the disk of node {} and its log, then restart it",
}


def _move_of(partition: Partition, events: Sequence[Event]) -> Event | None:
    """What began the move that is under way."""
    return next((event for event in events if event.kind == OF_REPLICAS), None) if partition.target else None


def _moving(facts: Facts, topic: Topic, partition: Partition, events: Sequence[Event]) -> Answer:
    name = _name(topic, partition)
    began = _move_of(partition, events)
    waits = [n for n in partition.target if n not in partition.isr]
    text = f"{name} moves to {_list(partition.target)}: "
    text += f"why is not known here: {_forgotten(facts)}" if began is None else cause_of(began).text
    if waits:
        text += f"; it waits until {_nodes(waits)} {'are' if len(waits) > 1 else 'is'} in sync"
    steps = (
        f"`ottla partition list --watch 2s` shows how far it is, `ottla partition cancel {topic.name}` calls it off",
    )
    code = UNKNOWN if began is None else cause_of(began).code
    return Answer(
        name,
        "moving",
        True,
        code,
        text,
        0 if began is None else began.time_ms,
        steps,
        () if began is None else (began,),
    )


def _led(facts: Facts, topic: Topic, partition: Partition, events: Sequence[Event]) -> Answer:
    """All replicas are in sync: why this one leads."""
    name = _name(topic, partition)
    elected = next((e for e in events if e.kind == LEADER and e.leader == partition.leader), None)
    preferred = partition.replicas[0]
    state = "ok" if partition.leader == preferred else "not-preferred"
    text = f"node {partition.leader} leads {name}, and all of {_list(partition.replicas)} are in sync"
    if elected is None:
        return Answer(name, state, True, UNKNOWN, f"{text}; since when and why is older than what is remembered here")
    cause, unclean = cause_of(elected), _unclean(elected)
    evidence: tuple[Event, ...] = (elected,)
    started = _started(facts, partition.leader, elected)
    if cause.code == "node-back" and started is not None and "another directory" in started.cause:
        cause = Cause("disk-replaced", partition.leader, f"node {partition.leader} came back with another disk")
        unclean, evidence = True, (started, elected)
    text += f". It leads in epoch {elected.leader_epoch}: {cause.text}"
    steps: tuple[str, ...] = ()
    if unclean:
        state = "unclean"
        text += f". The election was unclean, acknowledged records may be lost: {elected.cause.rpartition('; ')[2]}"
        steps = ("compare what producers were told with what is there; set unclean.leader.election.enable=false",)
    elif state == "not-preferred":
        steps = (f"leadership goes back to node {preferred} by itself, or `ottla topic elect {topic.name}` does it",)
    return Answer(name, state, not partition.recovering, cause.code, text, elected.time_ms, steps, evidence)


def _started(facts: Facts, node_id: int, before: Event) -> Event | None:
    events = facts.history.of_node(node_id, facts.image.index)
    return next((event for event in events if event.kind == STARTED and event.id < before.id), None)


def _unclean(event: Event) -> bool:
    return "UNCLEAN election" in event.cause or "has the most complete log" in event.cause


def of_node(facts: Facts, node_id: int) -> Answer:
    """Why a node is up, fenced, stopping, drained or gone."""
    subject, broker = f"node {node_id}", facts.image.brokers.get(node_id)
    events = facts.history.of_node(node_id, facts.image.index)
    last = events[0] if events else None
    if broker is None:
        text = f"node {node_id} is not registered"
        if last is None:
            text += f"; nothing is remembered of it here: {_forgotten(facts)}"
            steps = (f"start node {node_id}: it registers by itself, and its log says why where it does not",)
            return Answer(subject, "not-registered", False, UNKNOWN, text, 0, steps)
        text += ": an operator unregistered it, and its data directory does not come back"
        return Answer(subject, "not-registered", True, "operator", text, last.time_ms, (), (last,))
    if broker.live:
        return _up(facts, node_id, events)
    state = "fenced" if broker.fenced else "stopping"
    gone = _went(events)
    since_ms = (0 if gone is None else gone.time_ms) or broker.fenced_since_ms
    if gone is None and last is None:
        text = f"node {node_id} is {state}, and why is not known here: {_forgotten(facts)}"
        return Answer(subject, state, False, UNKNOWN, text, since_ms, (f"start node {node_id}",))
    cause = cause_of(gone or last)  # type: ignore[arg-type]
    text = f"node {node_id} is {state}: {cause.text}"
    step = f"start node {node_id}"
    if last is not None and last.kind == STARTED:
        text += f"; {last.cause}, and it has yet to catch up with the metadata, or asks to stay fenced"
        step = f"look at the log of node {node_id}: it says what it waits for"
    elif cause.code in ("node-silent", "node-hung"):
        step = f"look at node {node_id} and its network: its process may run; restart it if it does not recover"
    text, after = _without_controller(facts, text, [step])
    return Answer(subject, state, False, cause.code, text, since_ms, tuple(after), _ordered([gone, last]))


def _up(facts: Facts, node_id: int, events: Sequence[Event]) -> Answer:
    led = sum(p.leader == node_id for topic in facts.image.topics.values() for p in topic.partitions)
    text = f"node {node_id} is up and leads {led} partition{'s' if led != 1 else ''}"
    state = "up"
    if is_draining(facts.image, node_id):
        state, text = "draining", f"{text}; it is drained and gets nothing new"
    code, evidence = UNKNOWN, tuple(events[:1])
    if not events:
        text += f"; since when is not known here: {_forgotten(facts)}"
    elif (before := _went(events[1:])) is not None:
        code, evidence = cause_of(before).code, (before, events[0])
        text += f". Before, {cause_of(before).text}"
    else:
        code = cause_of(events[0]).code
    text, steps = _without_controller(facts, text, [])
    since_ms = events[0].time_ms if events else 0
    return Answer(f"node {node_id}", state, facts.controller is not None, code, text, since_ms, tuple(steps), evidence)


def _last_of_node(facts: Facts, node_id: int) -> Event | None:
    """What became of a node last; of one that started since and is still fenced, why it was."""
    events = facts.history.of_node(node_id, facts.image.index)
    broker = facts.image.brokers.get(node_id)
    if broker is not None and not broker.live:
        return _went(events) or (events[0] if events else None)
    return events[0] if events else None


def _went(events: Sequence[Event]) -> Event | None:
    """Why a node went: that it was stopped, and not that it was gone then."""
    went = [event for event in events if event.kind not in (STARTED, BACK)]
    at = events.index(went[0]) if went else 0
    if went and went[0].kind == FENCED and events[at + 1 : at + 2] and events[at + 1].kind == STOPPING:
        return events[at + 1]
    return went[0] if went else None


def _now(facts: Facts, node_id: int, last: Event) -> str:
    broker = facts.image.brokers.get(node_id)
    return f"node {node_id} is up" if broker is not None and broker.live else cause_of(last).text


def _bring_back(facts: Facts, waits: Sequence[int], *, all_of_them: bool) -> str:
    down = [n for n in waits if (b := facts.image.brokers.get(n)) is None or not b.live]
    if not down:
        return f"{_nodes(waits)} {'are' if len(waits) > 1 else 'is'} up: the next election comes by itself"
    if all_of_them and len(down) > 1:
        return f"start all of {_nodes(down)}: none of them may lead before it is known which log is the longest"
    return f"start node {' or '.join(map(str, down))}"


def _without_controller(facts: Facts, text: str, steps: list[str]) -> tuple[str, list[str]]:
    """Where nobody decides, nothing else helps."""
    if facts.controller is not None:
        return text, steps
    text += ". There is no active controller at present, so nothing changes, and this may be out of date"
    return text, ["start nodes until a majority of the voters is up: `ottla cluster quorum` shows them", *steps]


def _forgotten(facts: Facts) -> str:
    since = facts.history.unknown_before
    if since is not None:
        return f"it is older than metadata entry {since.entry}, where this node's memory begins"
    return "this node remembers no such change"


def _ordered(events: Sequence[Event | None]) -> tuple[Event, ...]:
    by_id = {event.id: event for event in events if event is not None}
    return tuple(event for _, event in sorted(by_id.items()))


def _name(topic: Topic, partition: Partition) -> str:
    return f"{topic.name}-{partition.partition}"


def _nodes(ids: Sequence[int]) -> str:
    return f"node{'s' if len(ids) > 1 else ''} {_list(ids)}"


def _list(ids: Sequence[int]) -> str:
    ids = list(ids)
    return f"{', '.join(map(str, ids[:-1]))} and {ids[-1]}" if len(ids) > 1 else ", ".join(map(str, ids))

"""`ottla why`: why a topic, a node or a group is as it is."""

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import click

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.client.why_admin import Event, Explanation

_KINDS: Final = ("topic", "node", "group")
_SHOWN: Final = 10


def why(
    subject: Annotated[list[str], typed.Argument(metavar="TOPIC[:PARTITION] | node NODE | group GROUP", required=True)],
    every: Annotated[
        bool, typed.Option("--all", help="Of a topic: each of its partitions, not only those in need.")
    ] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Say why a topic, node or group is as it is. Since when, what can be done, and the events that
    the answer is based on; what nobody remembers is said to be unknown.

    \b
    Examples:
      ottla why orders
      ottla why orders:3
      ottla why node 2
      ottla why group readers
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json

    kind, name = _subject(subject)

    async def ask(admin: "Admin") -> "tuple[list[Explanation], dict[str, int | None]]":
        answers = await _asked(admin, kind, name)
        risks = {}
        for answer in answers[:_SHOWN]:
            if answer.state == "no-leader":
                risks[answer.subject] = await _at_risk(admin, answer.subject)
        return answers, risks

    answers, risks = with_admin(bootstrap, ask)
    if as_json:
        print_json([{**as_object(answer), **_risk(risks, answer)} for answer in answers])
        return
    shown = [answer for answer in answers if every or answer.state != "ok"] or answers[:1]
    for answer in shown if every else shown[:_SHOWN]:
        _print(answer, _risk(risks, answer))
    if len(shown) > _SHOWN and not every:
        print(f"and {len(shown) - _SHOWN} more partitions in need: --all shows them")
    elif len(answers) > len(shown):
        rest = len(answers) - len(shown)
        print(
            f"{'1 other partition is' if rest == 1 else f'{rest} other partitions are'} led by who is to, and in sync"
        )


def _subject(words: list[str]) -> tuple[str, str]:
    """What is asked about: ("node", "2") or ("topic", "orders")."""
    if len(words) == 1:
        return "topic", words[0]
    if len(words) == 2 and words[0] in _KINDS:
        if words[0] == "node" and not words[1].isdecimal():
            raise click.BadParameter(f"{words[1]!r} is no node's id", param_hint="'NODE'")
        return words[0], words[1]
    raise click.BadParameter("name a topic, or write `node 2` or `group readers`", param_hint="'SUBJECT'")


async def _asked(admin: "Admin", kind: str, name: str) -> "list[Explanation]":
    from ottla import UnknownTopic

    if kind == "node":
        return [await admin.explain_node(int(name))]
    if kind == "group":
        return [await admin.explain_group(name)]
    for mark in (":", "-"):
        topic, found, number = name.rpartition(mark)
        if not (found and topic and number.isdecimal()) or (mark == "-" and await _exists(admin, name)):
            continue
        return await admin.explain_topic(topic, int(number))
    try:
        return await admin.explain_topic(name)
    except UnknownTopic as error:
        raise Failure(
            error.name, error.message.partition(". Next: ")[0], "`ottla topic list` shows the topics there are"
        ) from None


async def _exists(admin: "Admin", name: str) -> bool:
    from ottla import UnknownTopic

    try:
        await admin.describe_topic(name)
    except UnknownTopic:
        return False
    return True


async def _at_risk(admin: "Admin", subject: str) -> int | None:
    """How many records an unclean election loses at most; None where nobody knows, or this user may not ask."""
    from ottla import OttlaError
    from ottla.v1 import admin_pb2, data_pb2
    from ottla.v1.admin_pb2_grpc import AdminServiceStub

    topic, _, number = subject.rpartition("-")
    request = admin_pb2.ElectLeadersRequest(
        type=admin_pb2.ELECTION_TYPE_UNCLEAN,
        partitions=[data_pb2.TopicPartition(topic=topic, partition=int(number))],
        validate_only=True,
    )
    try:
        answer = await admin._client.on_any_node(
            lambda channel: AdminServiceStub(channel).ElectLeaders(request, timeout=2), 2_000
        )
    except OttlaError:
        return None
    (result,) = answer.partitions
    return result.records_at_risk if not result.error.code and result.records_at_risk >= 0 else None


def _risk(risks: "dict[str, int | None]", answer: "Explanation") -> dict[str, int | None]:
    return {"records_at_risk": risks[answer.subject]} if answer.subject in risks else {}


def _print(answer: "Explanation", risk: dict[str, int | None]) -> None:
    from ottla.cli.output import printable, styled

    style = styled(answer.state, "good" if answer.state in ("ok", "up") else "warn" if answer.healthy else "bad")
    since = f" since {at(answer.since_ms)}" if answer.since_ms else ""
    print(f"{printable(answer.subject)}: {style}{since}, cause: {answer.cause}")
    print(f"  {printable(answer.text)}.")
    if (lost := risk.get("records_at_risk")) is not None:
        print(f"  An unclean election loses at most {lost} records now.")
    for step in answer.next_steps:
        print(f"  next: {printable(step)}")
    for event in answer.evidence:
        print(f"  {at(event.time_ms)}  {printable(said(event))}")


def at(time_ms: int) -> str:
    """A time as people of this machine read it; `?` where it is not known."""
    if not time_ms:
        return "?"
    when = time.localtime(time_ms / 1000)
    day = "" if time.localtime()[:3] == when[:3] else time.strftime("%Y-%m-%d ", when)
    return f"{day}{time.strftime('%H:%M:%S', when)}.{time_ms % 1000:03}"


def said(event: "Event") -> str:
    """An event in a line."""
    if event.partition is not None:
        what = f"{event.topic}-{event.partition}: "
        if event.kind == "leader":
            what += f"leader {_or_none(event.leader_before)} -> {_or_none(event.leader)}, "
        isr = f"ISR {_ids(event.isr_before)} -> {_ids(event.isr)}" if event.isr != event.isr_before else ""
        what += isr or f"replicas {_ids(event.replicas)}"
    elif event.group_id:
        what = f"{event.group_id}: {event.kind.replace('_', ' ')}{f' {event.member_id}' if event.member_id else ''}"
    else:
        node = f"node {event.node_id}: " if event.node_id is not None else ""
        what = f"{node}{event.kind.replace('_', ' ')}{f' {event.topic}' if event.topic else ''}"
    return f"{what}: {event.cause}" if event.cause else what


def _or_none(leader: int | None) -> str:
    return "none" if leader is None else str(leader)


def _ids(ids: tuple[int, ...]) -> str:
    return ",".join(map(str, ids)) or "none"


def as_object(answer: Any) -> dict[str, Any]:
    """An answer, or an event, for programs."""
    from dataclasses import asdict

    return asdict(answer)

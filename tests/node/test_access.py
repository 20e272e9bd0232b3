"""Whether who asks may: by the principal of the call and the ACLs of the moment, remembered until those change."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog.testing

from node import principal
from node.api.access import OFF, Access
from node.audit import REFUSED_A_SECOND, Refusals
from node.metadata.acls import Acls, Rules
from node.principal import acting_as
from ottla.protocol.acls import (
    ALLOW,
    CLUSTER,
    CLUSTER_NAME,
    DENY,
    DESCRIBE,
    GROUP,
    IDEMPOTENT_WRITE,
    LITERAL,
    PREFIXED,
    READ,
    TOPIC,
    WRITE,
    Acl,
)
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

ALICE, BOB = principal.user("alice"), principal.user("bob")
RULES = Rules(True, frozenset({"User:root"}))


def allow(operation: int = READ, name: str = "a", **fields: Any) -> Acl:
    return Acl(TOPIC, LITERAL, name, "User:alice", "*", operation, ALLOW)._replace(**fields)


class Rig:
    def __init__(self, *entries: Acl) -> None:
        self.acls = Acls.EMPTY
        self.now_s = 0.0
        self.access = Access(lambda: self.acls, RULES, Refusals(lambda: self.now_s))
        self.set(*entries)

    def set(self, *entries: Acl) -> None:
        self.acls = Acls.EMPTY.changed(dict.fromkeys(entries), entries)
        self.access.changed()


def test_it_goes_by_who_asks() -> None:
    rig = Rig(allow())
    may = rig.access.may
    assert not may(READ, TOPIC, "a")  # nobody
    for who, expected in ((ALICE, True), (BOB, False), (principal.user("root"), True), (principal.node(2), True)):
        with acting_as(who):
            assert may(READ, TOPIC, "a") is expected
            assert may(READ, TOPIC, "a") is expected
    with acting_as(ALICE):
        assert not may(WRITE, TOPIC, "a")
        assert not may(READ, TOPIC, "b")
        assert not may(READ, GROUP, "a")
    assert OFF.may(WRITE, TOPIC, "a")
    OFF.check_cluster(DESCRIBE)


def test_other_acls_count_at_once() -> None:
    rig = Rig(allow())
    with acting_as(ALICE):
        assert rig.access.may(READ, TOPIC, "a")
        rig.set()
        assert not rig.access.may(READ, TOPIC, "a")
        rig.set(allow(name="*"))
        assert rig.access.may(READ, TOPIC, "a")


def test_where_somebody_is() -> None:
    rig = Rig(allow(host="10.0.0.1"), allow(WRITE))
    for address, expected in (("10.0.0.1", True), ("::ffff:10.0.0.1", True), ("10.0.0.2", False), ("", False)):
        with acting_as(ALICE, address):
            assert rig.access.may(READ, TOPIC, "a") is expected
            assert rig.access.may(WRITE, TOPIC, "a")


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:10.0.0.1:5000", "10.0.0.1"), ("ipv6:%5B::1%5D:5000", "::1"), ("ipv6:[fe80::1]:1", "fe80::1"), ("", "")],
)
def test_addresses_of_grpc(peer: str, address: str) -> None:
    assert principal._host_in(peer) == address


def test_a_refusal_says_who_what_and_on_what() -> None:
    rig = Rig()
    codes = []
    with acting_as(ALICE), structlog.testing.capture_logs() as logs:
        for kind, name in ((TOPIC, "a"), (GROUP, "g"), (CLUSTER, CLUSTER_NAME)):
            with pytest.raises(ApiError, match="User:alice may not read") as error:
                rig.access.check(READ, kind, name)
            codes.append(error.value.name)
    assert codes == [f"{kind}_AUTHORIZATION_FAILED" for kind in ("TOPIC", "GROUP", "CLUSTER")]
    assert [(line["event"], line["principal"], line["resource"]) for line in logs] == [
        ("access_denied", "User:alice", kind) for kind in ("topic", "group", "cluster")
    ]


def test_who_names_a_topic_by_its_id_does_not_hear_its_name() -> None:
    rig = Rig(allow(WRITE, "mine"))
    with acting_as(ALICE):
        for name, shown in (("hidden", "topic with the id 0707"), ("mine", "topic 'mine'")):
            with structlog.testing.capture_logs() as lines, pytest.raises(ApiError) as error:
                rig.access.check_topic_of(b"\7" * 16, READ, name)
            assert error.value.code == pb.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED
            assert f"may not read {shown}" in error.value.message
            assert lines[0]["name"] == name, "the node's log says which"
        rig.access.check_topic_of(b"\7" * 16, WRITE, "mine")


def test_lines_about_denials_are_few_and_counted() -> None:
    rig = Rig()

    def denied(who: principal.Principal, times: int) -> int:
        with acting_as(who), structlog.testing.capture_logs() as logs:
            for _ in range(times):
                rig.access.denied(READ, TOPIC, "a")
        return len(logs)

    assert denied(ALICE, 500) == REFUSED_A_SECOND
    assert denied(BOB, 3) == 3
    rig.now_s = 1.0
    with structlog.testing.capture_logs() as logs, acting_as(ALICE):
        rig.access.denied(READ, TOPIC, "a")
    assert logs[0]["denials_left_out_before"] == 500 - REFUSED_A_SECOND
    assert denied(BOB, 1) == 1


def test_a_producer_id_is_for_whoever_may_write_somewhere() -> None:
    def may(*entries: Acl) -> bool:
        with acting_as(ALICE):
            try:
                Rig(*entries).access.check_any(WRITE, TOPIC, IDEMPOTENT_WRITE)
            except ApiError:
                return False
        return True

    assert not may()
    assert not may(allow(READ))
    assert may(allow(WRITE))
    assert may(allow(WRITE, "x", pattern=PREFIXED))
    assert not may(allow(WRITE), allow(WRITE, "*", permission=DENY))
    assert may(Acl(CLUSTER, LITERAL, CLUSTER_NAME, "User:alice", "*", IDEMPOTENT_WRITE, ALLOW))


def test_operations_are_those_that_are_allowed() -> None:
    with acting_as(ALICE):
        assert Rig(allow(READ)).access.operations(TOPIC, "a", 0x0DF8) == 1 << READ | 1 << DESCRIBE
        assert OFF.operations(TOPIC, "a", 0x0DF8) == 0x0DF8


async def test_who_watches_hears_that_a_right_is_gone() -> None:
    rig = Rig(allow(READ), allow(READ, principal="User:bob"))
    heard: list[str] = []

    async def stream(who: principal.Principal) -> Any:
        with acting_as(who):
            return rig.access.watch([(READ, TOPIC, "a")], lambda error: heard.append(error.message))

    ends = [await asyncio.create_task(stream(who)) for who in (ALICE, BOB)]
    rig.set(allow(READ), allow(READ, principal="User:bob"), allow(WRITE))
    assert heard == []
    rig.set(allow(READ))
    assert len(heard) == 1
    assert "User:bob may not read" in heard[0]
    for end in ends:
        end()
    rig.set()
    assert len(heard) == 1


async def test_who_waits_is_woken_by_other_acls_alone() -> None:
    rig = Rig(allow())
    since, loop = rig.acls, asyncio.get_running_loop()
    waits = [loop.create_future() for _ in range(3)]
    woken = [asyncio.create_task(rig.access.or_changed(wait, since)) for wait in waits[:2]]
    waits[0].set_result(None)
    await woken[0]
    assert not waits[1].done()
    rig.set()
    await woken[1]
    await rig.access.or_changed(waits[2], since)  # they had changed before it waited
    assert not rig.access._watching
    off = loop.create_future()
    off.set_result(None)
    await OFF.or_changed(off, since)


def test_what_is_remembered_is_bounded_and_each_principals_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.api.access.MEMO_MAX", 10)
    rig = Rig(allow(name="t7"), Acl(TOPIC, LITERAL, "t8", "User:bob", "*", READ, ALLOW))
    for _ in range(3):
        for number in range(40):
            for who, own in ((ALICE, 7), (BOB, 8)):
                with acting_as(who):
                    assert rig.access.may(READ, TOPIC, f"t{number}") is (number == own)
            with acting_as(principal.node(1)):
                assert rig.access.may(READ, TOPIC, f"t{number}")
            assert sum(map(len, rig.access._memo.values())) <= 11


def test_an_audit_refuses_nothing_and_says_once_what_would_be_refused() -> None:
    rig = Rig(allow())
    rig.access = access = Access(lambda: rig.acls, RULES._replace(audits=True), Refusals(lambda: rig.now_s))

    def told(ask: Callable[[], object]) -> list[str]:
        with acting_as(ALICE), structlog.testing.capture_logs() as logs:
            ask()
        return [f"{line['event']} {line['operation']} {line['name']}" for line in logs]

    assert told(lambda: access.check(READ, TOPIC, "a")) == []
    assert told(lambda: access.check(WRITE, TOPIC, "a")) == ["access_would_be_denied write a"]
    assert told(lambda: access.check(WRITE, TOPIC, "a")) == []
    assert told(lambda: access.check_any(WRITE, TOPIC, IDEMPOTENT_WRITE)) == [
        "access_would_be_denied idempotent-write kafka-cluster"
    ]
    # What is left out of a list is no refusal, and nothing is left out.
    assert told(lambda: access.may(DESCRIBE, TOPIC, "b") or pytest.fail("left out")) == []
    # More in one second than are written are written later.
    names = [f"t-{i}" for i in range(2 * REFUSED_A_SECOND)]
    rig.now_s = 1.0
    written = told(lambda: [access.check(READ, TOPIC, name) for name in names])
    rig.now_s = 2.0
    written += told(lambda: [access.check(READ, TOPIC, name) for name in names])
    assert len(written) == len(set(written)) == len(names)
    rig.set()
    assert told(lambda: access.check(WRITE, TOPIC, "a")) == [], "ten a second"
    rig.now_s = 3.0
    assert told(lambda: access.check(WRITE, TOPIC, "a")) == ["access_would_be_denied write a"], (
        "other ACLs, another time"
    )

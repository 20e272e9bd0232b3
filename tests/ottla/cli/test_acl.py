"""`ottla acl` against real nodes, which keep ACLs without going by them, and what its presets are."""

from typing import Any

import pytest

from ottla import Acl
from ottla.cli.acl import _new
from ottla.cli.failure import Failure
from tests.ottla.cli.conftest import Here, Ottla


@pytest.mark.cluster
@pytest.mark.xdist_group("cli-cluster")
def test_acls_come_and_go(here: Here, ottla: Ottla) -> None:
    if here.answer("cluster", "features")[0]["level"] < 3:
        refused = here.refused("acl", "add", "User:alice", "--producer", "--topic", "t")
        assert refused["next"].startswith("run `ottla cluster finalize`")
        here.lines("cluster", "finalize")
    assert here.answer("acl", "list") == []
    here.lines("acl", "add", "User:alice", "--producer", "--topic", "orders", "--dry-run")
    assert here.answer("acl", "list") == []
    added = here.answer("acl", "add", "User:alice", "--consumer", "--topic", "ord", "--group", "g", "--prefixed")
    assert [(each["operation"], each["resource_type"], each["pattern_type"]) for each in added] == [
        ("read", "topic", "prefixed"),
        ("read", "group", "prefixed"),
    ]
    here.lines("acl", "add", "User:bob", "--operation", "alter", "--cluster", "--deny")
    assert [each["principal"] for each in here.answer("acl", "list", "--topic", "orders")] == ["User:alice"]
    assert here.answer("acl", "list", "--topic", "other") == []
    done = ottla("acl", "test", "User:bob", "alter", "--cluster")
    assert (done.returncode, done.stdout) == (0, "yes: there is no access control\n")
    assert here.refused("acl", "remove", "--yes")["code"] == "INVALID_REQUEST"
    assert here.refused("acl", "add", "alice", "--operation", "read", "--topic", "t")["message"].startswith("principal")
    assert len(here.answer("acl", "remove", "--principal", "User:alice", "--yes")) == 2
    assert len(here.answer("acl", "remove", "--cluster", "--yes")) == 1
    assert here.answer("acl", "list") == []


def new(**fields: Any) -> list[Acl]:
    nothing: dict[str, Any] = {
        "operation": None,
        "producer": False,
        "consumer": False,
        "topic": None,
        "group": None,
        "cluster": False,
        "prefixed": False,
        "deny": False,
        "host": "*",
    }
    return _new("User:alice", **(nothing | fields))


def test_presets() -> None:
    assert new(producer=True, topic="t") == [Acl("User:alice", "write", "topic", "t")]
    assert new(consumer=True, topic="t", group="g", prefixed=True, host="10.0.0.1") == [
        Acl("User:alice", "read", "topic", "t", "prefixed", host="10.0.0.1"),
        Acl("User:alice", "read", "group", "g", "prefixed", host="10.0.0.1"),
    ]
    assert new(operation="all", topic="*", prefixed=True)[0].pattern_type == "literal"
    assert new(operation="alter", cluster=True, deny=True) == [
        Acl("User:alice", "alter", "cluster", "kafka-cluster", permission="deny")
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"topic": "t"},
        {"operation": "read"},
        {"operation": "read", "topic": "t", "group": "g"},
        {"operation": "read", "producer": True, "topic": "t"},
        {"producer": True, "consumer": True, "topic": "t", "group": "g"},
        {"producer": True},
        {"producer": True, "topic": "t", "group": "g"},
        {"consumer": True, "topic": "t"},
        {"consumer": True, "topic": "t", "group": "g", "cluster": True},
    ],
)
def test_what_is_not_clear_is_told(fields: dict[str, Any]) -> None:
    with pytest.raises(Failure):
        new(**fields)

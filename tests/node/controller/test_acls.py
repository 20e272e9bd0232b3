"""ACLs in the metadata log: added and removed by their content, bounded, from a level on, and kept by snapshots."""

from typing import Any

import pytest

from node import limits
from node.controller.state import acls as decisions
from node.controller.state.features import finalize_feature
from node.metadata.acls import Rules
from node.metadata.apply import from_snapshot, snapshot_bytes
from node.metadata.image import METADATA_VERSION, Image
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from tests.node.controller.support import Cluster

READ, WRITE = admin.ACL_OPERATION_READ, admin.ACL_OPERATION_WRITE


def acl(name: str = "orders", who: str = "User:alice", operation: int = READ, **fields: Any) -> admin.Acl:
    values = {
        "resource_type": admin.ACL_RESOURCE_TYPE_TOPIC,
        "pattern_type": admin.ACL_PATTERN_TYPE_LITERAL,
        "resource_name": name,
        "principal": who,
        "host": "*",
        "operation": operation,
        "permission": admin.ACL_PERMISSION_ALLOW,
    }
    return admin.Acl(**(values | fields))


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(nodes=0)
    for node_id in (1, 2, 3):
        made.start(node_id, max_metadata_version=3)
    made.do(finalize_feature, admin.FinalizeFeatureRequest(name=METADATA_VERSION))
    return made


def create(cluster: Cluster, *acls: admin.Acl) -> list[str]:
    """The name of each ACL's error, or whether it was there."""
    results = cluster.do(decisions.create_acls, admin.CreateAclsRequest(acls=acls)).results
    assert len(results) == len(acls)
    return [
        ApiError.from_proto(each.error).name if each.HasField("error") else "there" if each.existed else "new"
        for each in results
    ]


def delete(cluster: Cluster, *filters: admin.AclFilter) -> list[list[str] | str]:
    results = cluster.do(decisions.delete_acls, admin.DeleteAclsRequest(filters=filters)).results
    return [
        ApiError.from_proto(each.error).name if each.HasField("error") else [a.resource_name for a in each.acls]
        for each in results
    ]


def listed(cluster: Cluster, **fields: Any) -> list[str]:
    request = admin.DescribeAclsRequest(filter=admin.AclFilter(**fields))
    return [each.resource_name for each in cluster.do(decisions.describe_acls, request).acls]


def test_acls_are_added_listed_and_removed(cluster: Cluster) -> None:
    assert listed(cluster) == []
    assert create(cluster, acl("b"), acl("a"), acl("b")) == ["new", "new", "there"]
    index = cluster.image.index
    assert create(cluster, acl("a")) == ["there"]
    assert cluster.image.index == index  # nothing changed: no entry
    assert listed(cluster) == ["a", "b"]
    assert listed(cluster, resource_name="b") == ["b"]
    assert listed(cluster, principal="User:bob") == []
    assert delete(cluster, admin.AclFilter(resource_name="b"), admin.AclFilter(principal="User:bob")) == [["b"], []]
    assert listed(cluster) == ["a"]
    # What two filters fit is the first one's.
    assert delete(cluster, admin.AclFilter(), admin.AclFilter()) == [["a"], []]
    assert len(cluster.image.acls) == 0


def test_a_bad_one_does_not_keep_the_others(cluster: Cluster) -> None:
    assert create(cluster, acl("a"), acl(""), acl("b", who="alice"), acl("c")) == [
        "new",
        "INVALID_REQUEST",
        "INVALID_REQUEST",
        "new",
    ]
    assert delete(cluster, admin.AclFilter(operation=99), admin.AclFilter(resource_name="a")) == [  # type: ignore[arg-type]
        "INVALID_REQUEST",
        ["a"],
    ]
    with pytest.raises(ApiError, match="operation 99"):
        listed(cluster, operation=99)


def test_only_checking_changes_nothing(cluster: Cluster) -> None:
    cluster.do(decisions.create_acls, admin.CreateAclsRequest(acls=[acl("a")], validate_only=True))
    assert listed(cluster) == []
    create(cluster, acl("a"))
    answer = cluster.do(decisions.delete_acls, admin.DeleteAclsRequest(filters=[admin.AclFilter()], validate_only=True))
    assert [each.resource_name for each in answer.results[0].acls] == ["a"]
    assert listed(cluster) == ["a"]


def test_they_are_bounded(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACLS_MAX", 3)
    assert create(cluster, acl("a"), acl("b")) == ["new", "new"]
    assert create(cluster, acl("c"), acl("a"), acl("d"), acl("")) == [
        "POLICY_VIOLATION",
        "there",
        "POLICY_VIOLATION",
        "INVALID_REQUEST",
    ]
    assert listed(cluster) == ["a", "b"]
    assert create(cluster, acl("c")) == ["new"]
    monkeypatch.setattr(limits, "ACLS_ANSWER_MAX_BYTES", 60)
    with pytest.raises(ApiError, match="MESSAGE_TOO_LARGE"):
        listed(cluster)
    assert listed(cluster, resource_name="a") == ["a"]
    assert delete(cluster, admin.AclFilter(resource_name="a"), admin.AclFilter()) == [["a"], "MESSAGE_TOO_LARGE"]
    monkeypatch.undo()
    assert listed(cluster) == ["b", "c"]


def test_there_are_none_before_their_level() -> None:
    made = Cluster(nodes=0)
    made.start(1, max_metadata_version=2)
    made.do(finalize_feature, admin.FinalizeFeatureRequest(name=METADATA_VERSION))
    with pytest.raises(ApiError, match=r"metadata.version 3 on, the cluster is at 2"):
        create(made, acl("a"))
    assert listed(made) == []


def test_a_snapshot_has_them(cluster: Cluster) -> None:
    create(cluster, acl("b", operation=WRITE), acl("a", host="10.0.0.1"))
    image = from_snapshot(snapshot_bytes(cluster.image), cluster.image.index, cluster.image.term)
    assert image.acls == cluster.image.acls
    assert snapshot_bytes(image) == snapshot_bytes(cluster.image)
    assert len(Image.EMPTY.acls) == 0


def test_which_acl_decides(cluster: Cluster) -> None:
    cluster.settings = cluster.settings.__class__(access=Rules(True, frozenset({"User:root"})))
    create(cluster, acl("a"), acl("a", who="User:*", permission=admin.ACL_PERMISSION_DENY, host="10.0.0.1"))

    def tested(who: str = "User:alice", operation: int = READ, name: str = "a", host: str = "") -> tuple[bool, str]:
        answer = cluster.do(
            decisions.test_acl,
            admin.TestAclRequest(
                principal=who,
                host=host,
                operation=operation,  # type: ignore[arg-type]
                resource_type=admin.ACL_RESOURCE_TYPE_TOPIC,
                resource_name=name,
            ),
        )
        return answer.allowed, answer.reason

    assert tested() == (True, "allow User:alice from * read on topic 'a'")
    assert tested(operation=admin.ACL_OPERATION_DESCRIBE)[0]
    assert tested(host="10.0.0.1") == (False, "deny User:* from 10.0.0.1 read on topic 'a'")
    assert tested(operation=WRITE) == (False, "no ACL allows it")
    assert tested(name="b") == (False, "no ACL is about it")
    assert tested("User:root") == (True, "a super user")
    for wrong in ({"operation": admin.ACL_OPERATION_ALL}, {"who": "alice"}, {"name": ""}, {"host": "here"}):
        with pytest.raises(ApiError, match="INVALID_REQUEST"):
            tested(**wrong)  # type: ignore[arg-type]

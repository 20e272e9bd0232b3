"""Users in the metadata log: what is allowed, one user's changes as a whole, and from which level on."""

from typing import Any

import pytest

from node import limits
from node.controller.state.features import finalize_feature
from node.controller.state.users import alter_users, describe_users
from node.metadata.apply import snapshot_bytes
from node.metadata.image import METADATA_VERSION, Image
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol import scram
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from tests.node.controller.support import Cluster


def credential(mechanism: int = 1, password: str = "pencil", **fields: Any) -> admin.NewScramCredential:
    chosen = scram.MECHANISMS.get(mechanism, scram.SHA_256)
    values = {
        "mechanism": mechanism,
        "iterations": 4096,
        "salt": b"saltsalt",
        "salted_password": scram.salted_password(chosen, password, b"saltsalt", 4096),
    }
    return admin.NewScramCredential(**(values | fields))


def user(name: str = "alice", *credentials: admin.NewScramCredential, **fields: Any) -> admin.UserScramChanges:
    return admin.UserScramChanges(name=name, credentials=credentials, **fields)


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(nodes=0)
    for node_id in (1, 2, 3):
        made.start(node_id, max_metadata_version=2)
    made.do(finalize_feature, admin.FinalizeFeatureRequest(name=METADATA_VERSION))
    return made


def alter(cluster: Cluster, *users: admin.UserScramChanges, **fields: Any) -> list[str]:
    """The name of each user's error, or nothing."""
    request = admin.AlterUserScramCredentialsRequest(users=users, **fields)
    results = cluster.do(alter_users, request).users
    assert [result.name for result in results] == [each.name[:300] for each in users]
    return [ApiError.from_proto(r.error).name if r.HasField("error") else "" for r in results]


def listed(cluster: Cluster, *names: str) -> dict[str, dict[int, int] | str]:
    answer = cluster.do(describe_users, admin.DescribeUserScramCredentialsRequest(users=names))
    return {
        each.name: ApiError.from_proto(each.error).name
        if each.HasField("error")
        else {one.mechanism: one.iterations for one in each.credentials}
        for each in answer.users
    }


def test_a_user_is_made_changed_and_removed(cluster: Cluster) -> None:
    assert listed(cluster) == {}
    assert alter(cluster, user("alice", credential(1), credential(2), exists=False), user("bob", credential(2))) == [
        "",
        "",
    ]
    assert listed(cluster) == {"alice": {1: 4096, 2: 4096}, "bob": {2: 4096}}
    kept = cluster.image.users["alice"][1]
    assert scram.is_password(scram.SHA_256, kept, "pencil")
    # A new password leaves none of the old one: both mechanisms' credentials go.
    assert alter(cluster, user("alice", credential(2, "pen"), exists=True, remove_all=True)) == [""]
    assert listed(cluster, "alice", "carol") == {"alice": {2: 4096}, "carol": "RESOURCE_NOT_FOUND"}
    assert alter(cluster, user("alice", remove_all=True), user("bob", removals=[2])) == ["", ""]
    assert listed(cluster) == {}
    assert len(cluster.image.secret) == 32


def test_the_secret_is_drawn_once(cluster: Cluster) -> None:
    alter(cluster, user("alice", credential()))
    secret = cluster.image.secret
    alter(cluster, user("alice", remove_all=True))
    alter(cluster, user("bob", credential()))
    assert cluster.image.secret == secret
    assert secret[:16] != secret[16:]


def test_nothing_secret_is_in_an_answer(cluster: Cluster) -> None:
    alter(cluster, user("alice", credential()))
    kept = cluster.image.users["alice"][1]
    answer = cluster.do(describe_users, admin.DescribeUserScramCredentialsRequest()).SerializeToString()
    assert not any(each in answer for each in (kept.salt, kept.stored_key, kept.server_key, cluster.image.secret))


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (user("", credential()), "UNACCEPTABLE_CREDENTIAL"),
        (user("x" * 256, credential()), "UNACCEPTABLE_CREDENTIAL"),
        (user("ä" * 128, credential()), "UNACCEPTABLE_CREDENTIAL"),
        (user("a\nb", credential()), "UNACCEPTABLE_CREDENTIAL"),
        (user(" alice", credential()), "UNACCEPTABLE_CREDENTIAL"),
        (user("bob", credential(iterations=4095)), "UNACCEPTABLE_CREDENTIAL"),
        (user("bob", credential(iterations=2**31 - 1)), "UNACCEPTABLE_CREDENTIAL"),
        (user("bob", credential(iterations=-1)), "UNACCEPTABLE_CREDENTIAL"),
        (user("bob", credential(salt=b"x" * 7)), "UNACCEPTABLE_CREDENTIAL"),
        (user("bob", credential(salt=b"x" * 129)), "UNACCEPTABLE_CREDENTIAL"),
        (user("bob", credential(salted_password=b"")), "UNACCEPTABLE_CREDENTIAL"),
        (user("bob", credential(2, salted_password=bytes(32))), "UNACCEPTABLE_CREDENTIAL"),
        (user("bob", credential(mechanism=0)), "UNSUPPORTED_SASL_MECHANISM"),
        (user("bob", credential(mechanism=3)), "UNSUPPORTED_SASL_MECHANISM"),
        (user("bob", credential(1), credential(1)), "DUPLICATE_RESOURCE"),
        (user("alice", removals=[1, 1]), "DUPLICATE_RESOURCE"),
        (user("alice", credential(), exists=False), "DUPLICATE_RESOURCE"),
        (user("bob", credential(), exists=True), "RESOURCE_NOT_FOUND"),
        (user("bob", remove_all=True), "RESOURCE_NOT_FOUND"),
        (user("bob", removals=[1]), "RESOURCE_NOT_FOUND"),
        (user("alice", removals=[2]), "RESOURCE_NOT_FOUND"),
        (user("alice", removals=[7]), "UNSUPPORTED_SASL_MECHANISM"),
        (user("bob"), "INVALID_REQUEST"),
        # The first is fine by itself: all or none.
        (user("alice", credential(2), credential(1, iterations=1)), "UNACCEPTABLE_CREDENTIAL"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_changes_nothing_and_fails_alone(
    cluster: Cluster, wrong: admin.UserScramChanges, code: str
) -> None:
    alter(cluster, user("alice", credential()))
    before = dict(cluster.image.users)
    assert alter(cluster, wrong, user("carol", credential())) == [code, ""]
    assert {name: kept for name, kept in cluster.image.users.items() if name != "carol"} == before


def test_a_user_is_named_once(cluster: Cluster) -> None:
    assert alter(cluster, user("bob", credential()), user("bob", remove_all=True), user("c", credential())) == [
        "DUPLICATE_RESOURCE",
        "DUPLICATE_RESOURCE",
        "",
    ]


def test_a_check_changes_nothing(cluster: Cluster) -> None:
    index = cluster.index
    assert alter(cluster, user("bob", credential()), validate_only=True) == [""]
    assert alter(cluster, user("bob", credential(iterations=1)), validate_only=True) == ["UNACCEPTABLE_CREDENTIAL"]
    assert cluster.index == index


def test_the_number_of_users_is_bounded(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "USERS_MAX", 2)
    one = credential()
    assert alter(cluster, user("a", one), user("b", one), user("c", one), user("a", credential(2))) == [
        "DUPLICATE_RESOURCE",
        "",
        "",
        "DUPLICATE_RESOURCE",
    ]
    assert alter(cluster, user("d", one), user("b", credential(2))) == ["POLICY_VIOLATION", ""]
    assert alter(cluster, user("b", remove_all=True), user("d", one)) == ["", ""]


def test_an_older_build_never_gets_to_see_such_a_record() -> None:
    cluster = Cluster()
    with pytest.raises(ApiError) as error:
        alter(cluster, user("alice", credential()))
    assert error.value.name == "UNSUPPORTED_VERSION"
    assert "metadata.version 2" in error.value.message
    assert "ottla cluster finalize" in error.value.to_proto().message
    assert listed(cluster) == {}


def test_a_log_without_users_is_read_as_it_was() -> None:
    """A snapshot of the time before: not a byte differs."""
    record = records.MetadataRecord(producer_ids=records.ProducerIdsRecord(next_producer_id=1))
    assert snapshot_bytes(Image.EMPTY) == records.MetadataRecords(records=[record]).SerializeToString()

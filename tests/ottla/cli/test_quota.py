"""`ottla quota` against real nodes."""

import pytest

from tests.ottla.cli.conftest import Here


@pytest.mark.cluster
@pytest.mark.xdist_group("cli-cluster")
def test_quotas_come_and_go(here: Here) -> None:
    if here.answer("cluster", "features")[0]["level"] < 4:
        refused = here.refused("quota", "set", "--user", "alice", "--produce", "1MiB")
        assert refused["next"].startswith("run `ottla cluster finalize`")
        here.lines("cluster", "finalize")
    assert here.answer("quota", "list") == []
    assert here.answer("quota", "set", "--user", "alice", "--produce", "1MiB", "--dry-run") == []
    here.lines("quota", "set", "--user", "alice", "--produce", "1MiB", "--fetch", "2000")
    here.lines("quota", "set", "--user", "alice", "--client-id", "*", "--mutations", "0.5")
    here.lines("quota", "set", "--ip", "10.0.0.1", "--connections", "3")
    found = here.answer("quota", "list", "--user", "alice")
    assert [(each["client_id"], each["values"]) for each in found] == [
        ("*", {"controller_mutation_rate": 0.5}),
        (None, {"consumer_byte_rate": 2000, "producer_byte_rate": 1 << 20}),
    ]
    assert len(here.answer("quota", "list")) == 3
    left = here.answer("quota", "remove", "--user", "alice", "--fetch")
    assert [each["values"] for each in left] == [{"producer_byte_rate": 1 << 20}]
    for wrong in (
        ("set", "--user", "alice"),
        ("set", "--produce", "1"),
        ("set", "--user", "alice", "--produce", "0"),
        ("set", "--user", "alice", "--connections", "1"),
        ("set", "--ip", "here", "--connections", "1"),
        ("set", "--ip", "10.0.0.1", "--user", "alice", "--produce", "1"),
        ("remove",),
    ):
        assert here.refused("quota", *wrong)["code"] in ("INVALID_REQUEST", "INVALID_CONFIG"), wrong
    for entity in (("--user", "alice"), ("--user", "alice", "--client-id", "*"), ("--ip", "10.0.0.1")):
        assert here.answer("quota", "remove", *entity) == []
    assert here.answer("quota", "list") == []

"""The audit log: what is in it, what never is, and how large it may become."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import audit, principal
from node.controller.access import RIGHTS
from node.controller.changes import READS, audited
from node.log import lines_lost
from node.principal import acting_as
from ottla.protocol.acls import DESCRIBE, DESCRIBE_CONFIGS
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb

ALICE = principal.user("alice")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "audit.json"
    audit.configure(str(path), 1 << 16, 7)
    yield path
    audit.configure("", 0, 0)


def lines(path: Path) -> list[dict[str, Any]]:
    audit.flush()
    return [json.loads(line) for line in path.read_text().splitlines()]


async def changed(name: str, request: Any, answer: Any) -> None:
    async def handler(_request: Any, _context: Any) -> Any:
        if isinstance(answer, ApiError):
            raise answer
        return answer

    with acting_as(ALICE, "10.0.0.1", "tool"):
        try:
            await audited({name: handler})[name](request, None)
        except ApiError:
            assert isinstance(answer, ApiError)


async def test_a_change_says_who_what_and_what_became_of_it(file: Path) -> None:
    request = admin.CreateTopicsRequest(
        topics=[admin.NewTopic(name="orders", num_partitions=3, configs={"flush": "ack"})], timeout_ms=5
    )
    taken = pb.Error(code=pb.ERROR_CODE_TOPIC_ALREADY_EXISTS)
    await changed("CreateTopics", request, admin.CreateTopicsResponse(topics=[admin.CreateTopicResult(name="orders")]))
    await changed(
        "CreateTopics",
        request,
        admin.CreateTopicsResponse(topics=[admin.CreateTopicResult(name="orders", error=taken)]),
    )
    denied = ApiError(pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED, "no")
    await changed("AddVoter", admin.AddVoterRequest(node_id=2, directory_id=b"\1" * 16), denied)
    first, second, third = lines(file)
    assert first["timestamp"].startswith("20")
    who = {"principal": "User:alice", "host": "10.0.0.1", "client_id": "tool", "on": 7, "event": "change"}
    assert first.items() >= (who | {"call": "CreateTopics", "outcome": "ok"}).items()
    assert first["what"]["topics"][0].items() >= {"name": "orders", "num_partitions": 3}.items()
    assert second["outcome"] == "TOPIC_ALREADY_EXISTS"
    assert (third["outcome"], third["what"]) == (
        "CLUSTER_AUTHORIZATION_FAILED",
        {"node_id": 2, "directory_id": "01" * 16},
    )


async def test_what_changes_nothing_here_leaves_no_line(file: Path) -> None:
    empty = admin.CreateTopicsResponse()
    await changed("CreateTopics", admin.CreateTopicsRequest(validate_only=True), empty)
    await changed("CreateTopics", admin.CreateTopicsRequest(), ApiError(pb.ERROR_CODE_NOT_CONTROLLER, "elsewhere"))
    await changed("DescribeAcls", admin.DescribeAclsRequest(), admin.DescribeAclsResponse())
    assert lines(file) == []


def test_each_method_that_only_needs_to_describe_is_the_one_that_leaves_none() -> None:
    describing = {name for name, right in RIGHTS.items() if right in (DESCRIBE, DESCRIBE_CONFIGS)} | {"DescribeConfigs"}
    assert describing == READS


async def test_nothing_secret_is_in_it(file: Path) -> None:
    """Every field that there is, of every request, is filled with what must not be seen."""
    for method in admin.DESCRIPTOR.services_by_name["AdminService"].methods:
        if method.name in READS:
            continue
        request = getattr(admin, method.input_type.name)()
        fill(request)
        await changed(method.name, request, getattr(admin, method.output_type.name)())
    text = json.dumps(lines(file))
    assert "AlterUserScramCredentials" in text
    assert "secret" not in text
    assert b"secret".hex() not in text


def fill(message: Any) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.name in ("validate_only", *audit._IDS):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)["key"] = "secret"
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            fill(inner.add() if field.is_repeated else inner)
        elif field.type == field.TYPE_BYTES:
            getattr(message, field.name).append(b"secret") if field.is_repeated else setattr(
                message, field.name, b"secret"
            )
        elif field.type == field.TYPE_STRING and field.name == "value" and not field.is_repeated:
            message.value = "secret"


def test_a_flood_of_refusals_is_a_few_lines(file: Path) -> None:
    now_s = 0.0
    refusals = audit.Refusals(lambda: now_s)
    for _ in range(1000):
        refusals.tell("access_denied", "User:a")
    assert len(lines(file)) == audit.REFUSED_A_SECOND
    now_s = 1.0
    for i in range(1000):
        refusals.tell("access_denied", f"User:{i}")
    refusals.tell("access_denied", "User:a")
    assert len(lines(file)) == audit.REFUSED_A_SECOND + audit.ALL_REFUSED_A_SECOND
    now_s = 2.0
    refusals.tell("access_denied", "User:b")
    assert lines(file)[-1]["principal"] == "User:b"


def test_the_file_is_bounded_and_none_of_its_lines_is_torn(file: Path) -> None:
    for i in range(3000):
        audit.tell("change", number=i, text="x" * 100)
    audit.flush()
    before = file.with_name("audit.json.1")
    assert file.stat().st_size <= 1 << 16
    assert before.stat().st_size <= 1 << 16
    numbers = [line["number"] for line in (*lines(before), *lines(file))]
    assert numbers == list(range(numbers[0], 3000)), "the newest are there, in order"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_goes_on_is_added_to(file: Path) -> None:
    audit.tell("change", number=1)
    audit.flush()
    audit.configure(str(file), 1 << 16, 7)
    audit.tell("change", number=2)
    assert [line["number"] for line in lines(file)] == [1, 2]


def test_a_disk_that_is_full_holds_nobody_up(tmp_path: Path) -> None:
    path = Path("/dev/full")
    if not path.exists():
        pytest.skip("there is no such device")
    before = lines_lost()
    audit.configure(str(path), 1 << 16, 7)
    try:
        audit.tell("change")
        audit.flush()
        assert lines_lost() - before >= 1
    finally:
        audit.configure("", 0, 0)

"""A file that says where a group is to go."""

import pytest

from ottla.cli.failure import Failure
from ottla.cli.reset import read_plan


def test_plans() -> None:
    assert read_plan(b'"a",0,5\r\n\n a, 1 ,7\n', "f") == {("a", 0): 5, ("a", 1): 7}
    moves = b'{"partitions": [{"topic": "a", "partition": 0, "new_offset": 5}]}'
    assert read_plan(moves, "f") == {("a", 0): 5}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff\xfe", "utf-8"),
        (b"{" * 10, "JSONDecodeError"),
        (b'{"partitions": ' + b"[" * 100_000, "RecursionError"),
        (b"a,0,1\na,0,2\n", "a, 0 is there twice"),
        (b"a,0,-1", "a, 0, -1"),
        (b"a,0," + b"9" * 5000, "ValueError"),
        (b'{"partitions": [{"topic": ["a"], "partition": 0, "new_offset": 5}]}', "TypeError"),
    ],
)
def test_what_is_no_plan(data: bytes, why: str) -> None:
    with pytest.raises(Failure, match=why) as failed:
        read_plan(data, "f")
    assert len(failed.value.message) < 300


def test_a_plan_that_moves_nothing() -> None:
    with pytest.raises(Failure, match="moves nothing"):
        read_plan(b"", "f")

"""The contract and the table of errors belong together."""

from ottla.protocol.errors import RULES
from ottla.v1.error_pb2 import ErrorCode


def test_every_error_code_has_its_rule() -> None:
    assert set(ErrorCode.values()) - {0} == set(RULES)


def test_every_rule_says_what_to_do() -> None:
    for code, rule in RULES.items():
        assert rule.next_step.strip(), code
        assert not rule.next_step.endswith("."), "the sentence is finished where it is shown"

"""The contract is a product: options for every language, a table of errors that is whole, codes that the page knows."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from ottla.protocol.errors import RULES, name_of
from ottla.v1 import admin_pb2, cluster_pb2, data_pb2, error_pb2, group_pb2, login_pb2, record_pb2
from ottla.v1.error_pb2 import ErrorCode

PUBLIC = (admin_pb2, cluster_pb2, data_pb2, error_pb2, group_pb2, login_pb2, record_pb2)


def test_these_are_all_public_files(repository: Path) -> None:
    found = {str(path.relative_to(repository / "proto")) for path in (repository / "proto/ottla/v1").glob("*.proto")}
    assert found == {module.DESCRIPTOR.name for module in PUBLIC}


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: str(module.DESCRIPTOR.name))
def test_every_public_file_has_a_place_in_go_and_java(module: ModuleType) -> None:
    options = module.DESCRIPTOR.GetOptions()
    assert options.go_package
    assert options.java_package
    assert options.java_multiple_files


def test_the_page_for_porters_names_only_codes_that_there_are(repository: Path) -> None:
    page = (repository / "docs/contract.md").read_text()
    table = page[page.index("## Errors") : page.index("## Producing, the simple way")]
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", table))
    assert len(named) > 30
    assert named - {name_of(code) for code in RULES} == set()


def test_every_error_code_has_its_rule() -> None:
    assert set(ErrorCode.values()) - {0} == set(RULES)


def test_every_rule_says_what_to_do() -> None:
    for code, rule in RULES.items():
        assert rule.next_step.strip(), code
        assert not rule.next_step.endswith("."), "the sentence is finished where it is shown"

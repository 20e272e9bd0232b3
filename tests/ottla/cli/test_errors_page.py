"""docs/errors.md says what the contract and the rule table say, for every code."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from ottla.protocol.errors import RULES
from ottla.v1.error_pb2 import ErrorCode

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def errors_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("errors_page", ROOT / "docs/errors_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_code_has_a_comment_and_a_rule(errors_page: ModuleType) -> None:
    numbers = {number for number in ErrorCode.values() if number != 0}
    assert set(errors_page.codes()) == numbers
    assert set(RULES) == numbers
    assert all(when.endswith(".") for _, when in errors_page.codes().values())


def test_the_page_is_fresh(errors_page: ModuleType) -> None:
    assert (ROOT / "docs/errors.md").read_text() == errors_page.page(), "run: python docs/errors_page.py"

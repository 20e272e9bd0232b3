"""docs/errors.md and docs/configuration.md say what the code says, for every error code and every setting."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from node.config import keys
from ottla.protocol.configs import BROKER_KEYS, TOPIC_KEYS
from ottla.protocol.errors import RULES
from ottla.v1.error_pb2 import ErrorCode

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs/pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_code_has_a_comment_and_a_rule(pages: ModuleType) -> None:
    numbers = {number for number in ErrorCode.values() if number != 0}
    assert set(pages.codes()) == numbers
    assert set(RULES) == numbers
    assert all(when.endswith(".") for _, when in pages.codes().values())


def test_every_setting_is_on_the_page(pages: ModuleType) -> None:
    page = pages.configuration_page()
    missing = [name for name in (*keys(), *BROKER_KEYS, *TOPIC_KEYS) if f"| `{name}` |" not in page]
    assert missing == []


@pytest.mark.parametrize("name", ["errors.md", "configuration.md"])
def test_the_page_is_fresh(pages: ModuleType, name: str) -> None:
    path = ROOT / "docs" / name
    assert path.read_text() == pages.PAGES[path](), "run: python docs/pages.py"

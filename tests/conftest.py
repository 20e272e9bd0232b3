"""What holds for every test."""

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real processes share the machine badly: under xdist, all tests that start some run one after another."""
    for item in items:
        if item.get_closest_marker("cluster") or item.get_closest_marker("docker"):
            item.add_marker(pytest.mark.xdist_group("processes"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return Path(__file__).resolve().parent.parent

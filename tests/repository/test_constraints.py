"""The image and CI install exact versions of everything that the wheel needs."""

import re
import tomllib
from pathlib import Path


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    # The image may have what nodes with TLS need.
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["server"], *extras["secure"]]
    pinned = {
        normal(line.partition("==")[0])
        for line in (repository / "deploy/constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert wanted
    names = {normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in wanted}  # type: ignore[index]
    assert names - pinned == set()

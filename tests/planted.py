"""Bugs planted in a running test: a function is compiled again with one line changed, and what shows it must fail."""

import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest


class Bug(NamedTuple):
    """In `target` (module:name), `old` becomes `new`; `caught_by` must fail then."""

    what: str
    target: str
    old: str
    new: str
    caught_by: Callable[[], object]


def plant(bug: Bug, monkeypatch: pytest.MonkeyPatch, importers: Iterable[ModuleType] = ()) -> None:
    """Until the end of the test. `importers` have the function under its own name, too."""
    module_name, _, path = bug.target.partition(":")
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(original))
    assert source.count(bug.old) == 1, f"{bug.target} does not hold {bug.old!r} once: plant this bug elsewhere"
    scope: dict[str, Any] = {}
    exec(compile(source.replace(bug.old, bug.new), bug.target, "exec"), original.__globals__, scope)
    for holder in (owner, *importers):
        if getattr(holder, name, None) is original:
            monkeypatch.setattr(holder, name, scope[name])


def listed(section: str) -> list[str]:
    """The bugs that docs/testing.md names under `## Planted bugs: SECTION`."""
    page = (Path(__file__).parents[1] / "docs" / "testing.md").read_text()
    lines = page.partition(f"## Planted bugs: {section}")[2].partition("\n## ")[0].splitlines()
    return [line[2:] for line in lines if line.startswith("- ")]

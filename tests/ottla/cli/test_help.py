"""Help must be quick: nothing of the network, the screen or the settings is imported for it."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from ottla.cli.main import VERBS, app

WITHOUT_CLUSTER = ("dev", "node", "verify", "log dump", "completion", "version")


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every group and command with what one types for it."""
    command = command or app
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


ALL = dict(commands())
LEAVES = {path: command for path, command in ALL.items() if not hasattr(command, "commands")}
HELP = "import sys; sys.argv = ['ottla', '--help']; from ottla.cli.main import main\ntry:\n    main()\nfinally:\n    "
BARE = "import sys, inspect, pathlib, click\ntry:\n    click.Group('bare')(['--help'])\nfinally:\n    "
MODULES = "print(*sys.modules, file=sys.stderr)"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_help_imports_the_commands_and_click_and_nothing_else() -> None:
    """So that it takes little more time than click itself does."""
    done = run(HELP + MODULES)
    assert "Usage: ottla" in done.stdout
    imported = set(done.stderr.split()) - set(run(BARE + MODULES).stderr.split())
    others = [name for name in imported if name != "ottla" and not name.startswith(("ottla.cli", "click."))]
    assert others == []


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output


@pytest.mark.parametrize("command", [path for path in ALL if path], ids=" ".join)
def test_the_line_in_the_list_is_whole(command: tuple[str, ...]) -> None:
    """What is too long for 80 columns would be cut."""
    line = ALL[command].get_short_help_str(80 - 6 - 12)
    assert not line.endswith("...")
    assert VERBS.get(command[0]) == line or len(command) > 1


@pytest.mark.parametrize("command", LEAVES, ids=" ".join)
def test_every_command_shows_how_it_is_used(command: tuple[str, ...]) -> None:
    output = CliRunner().invoke(app, [*command, "--help"]).output
    assert f"  ottla {' '.join(command)}" in output.partition("\n  Example")[2]
    if not " ".join(command).startswith((*WITHOUT_CLUSTER, "profile", "secure")):
        assert "--bootstrap" in output
        assert "OTTLA_BOOTSTRAP" in output
        assert "127.0.0.1:9192" in output
    if command not in (("node",), ("completion",)):
        assert "--json" in output


def test_version_is_the_package_s() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.output.startswith("ottla 0.")

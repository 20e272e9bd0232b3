"""Help must be quick: nothing of the network, the screen or the settings is imported for it."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ottla.cli.main import app

GROUPS: tuple[list[str], ...] = ([], ["topic"], ["group"], ["cluster"], ["cluster", "voter"], ["config"], ["log"])
COMMANDS: tuple[list[str], ...] = (
    ["dev"],
    ["node"],
    ["produce"],
    ["consume"],
    ["verify"],
    *(["topic", verb] for verb in ("create", "list", "describe", "alter", "elect", "delete")),
    *(["group", verb] for verb in ("list", "describe", "reset", "delete")),
    *(["cluster", verb] for verb in ("status", "quorum", "transfer", "features", "finalize")),
    *(["cluster", "voter", verb] for verb in ("add", "remove")),
    ["config", "describe"],
    ["log", "dump"],
)
WITHOUT_CLUSTER: tuple[list[str], ...] = (["dev"], ["node"], ["verify"], ["log", "dump"])
HELP = "import sys; sys.argv = ['ottla', '--help']; from ottla.cli.main import main\ntry:\n    main()\nfinally:\n    "
MODULES = "print(*sys.modules, file=sys.stderr)"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_help_imports_the_commands_and_typer_and_nothing_else() -> None:
    """So that it takes little more time than typer itself does."""
    done = run(HELP + MODULES)
    assert "Usage: ottla" in done.stdout
    imported = set(done.stderr.split()) - set(run(f"import sys, typer; {MODULES}").stderr.split())
    others = [name for name in imported if name != "ottla" and not name.startswith(("ottla.cli", "typer."))]
    assert others == []


@pytest.mark.parametrize("command", [*GROUPS, *COMMANDS], ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output
    # The frames of rich help would mean that one sub-command lacks rich_markup_mode=None.
    assert "╭" not in done.output


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in WITHOUT_CLUSTER], ids=" ".join)
def test_every_command_that_asks_the_cluster_takes_bootstrap_and_json(command: list[str]) -> None:
    output = CliRunner().invoke(app, [*command, "--help"]).output
    assert "--bootstrap" in output
    assert "OTTLA_BOOTSTRAP" in output
    assert "127.0.0.1:9092" in output
    assert "--json" in output


def test_version_is_the_package_s() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.output.startswith("ottla 0.")

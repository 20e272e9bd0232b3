"""Help must be quick: nothing of the network, the screen or the settings is imported for it."""

import resource
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
FORBIDDEN = "asyncio grpc google pydantic rich"


def cpu_seconds(*codes: str) -> list[float]:
    """For each code the best of a few runs in turn, in CPU time: the machine's other work only ever adds."""
    best = [float("inf")] * len(codes)
    for _ in range(7):
        for number, code in enumerate(codes):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            best[number] = min(best[number], used)
    return best


def test_help_imports_nothing_that_it_does_not_need() -> None:
    code = HELP + f"print(*[name for name in '{FORBIDDEN}'.split() if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: ottla" in done.stdout
    assert done.stderr.strip() == ""


def test_help_takes_little_more_than_typer_itself() -> None:
    own, typer_alone = cpu_seconds(HELP + "pass", "import typer")
    assert own <= 1.5 * typer_alone


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

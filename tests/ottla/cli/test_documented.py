"""Every `ottla` command line in the documents is one that the command takes, with the options that it names."""

import re
import shlex
from pathlib import Path

import click
import pytest

from ottla.cli.main import app

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "deploy/README.md", *sorted((ROOT / "docs").glob("*.md"))]
# In a block, indented or fenced; a prompt may stand before it, and another command that it reads from.
LINE = re.compile(r"^(?: {4}|\$ )?(?:[^#`|\n]*\| )?(ottla .*)$", re.MULTILINE)
# In a sentence: not always whole, and with words such as `a|b` for what can stand there.
INLINE = re.compile(r"`(ottla [a-z-][^`|\[{]*)`")
# Another command behind it, a redirection, a comment.
REST = re.compile(r"\s(?:\||>|#|&).*|\s*;.*")


def commands(page: str) -> list[str]:
    lines = LINE.findall(page.replace("\\\n", " "))
    return [REST.sub("", line) for line in lines]


def mentioned(page: str) -> list[str]:
    return [" ".join(line.split()) for line in INLINE.findall(page)]


def parse(command: click.Command, arguments: list[str], parent: click.Context | None = None) -> None:
    """Raises click.UsageError as the call would, and calls nothing."""
    context = command.make_context(command.name or "", arguments, parent)
    given = [*context._protected_args, *context.args]
    if isinstance(command, click.Group) and (given or not command.invoke_without_command):
        _, below, rest = command.resolve_command(context, given)
        assert below is not None
        parse(below, rest, context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_command_takes_what_the_page_shows(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    text = page.read_text()
    whole = commands(text)
    for line in [*whole, *mentioned(text)]:
        try:
            parse(app, shlex.split(line)[1:])
        except click.exceptions.Exit:
            continue  # --help, --version
        except click.UsageError as error:
            unknown = isinstance(error, click.NoSuchOption | click.exceptions.NoSuchCommand)
            if line in whole or unknown:
                pytest.fail(f"{line}: {error.format_message()}")


def test_lines_are_found() -> None:
    readme, security, cli = ((ROOT / name).read_text() for name in ("README.md", "docs/security.md", "docs/cli.md"))
    assert {"ottla produce hello", "ottla dev --nodes 3"} <= set(commands(readme))
    assert "ottla user passwd alice" in commands(security)
    assert "ottla consume --json" in mentioned(cli)


@pytest.mark.parametrize("line", ["ottla topc list", "ottla topic list --bootstarp a:1", "ottla consume"])
def test_a_mistake_is_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(app, shlex.split(line)[1:])

"""Each page that code, tests or pages cite is there, and has the section and the number that is cited."""

import re
import subprocess
from pathlib import Path

import pytest

# `protocol.md section 5`, `protocol.md sections 5 and 8`, `protocol.md 10`, `invariants.md 2.3, 40`, `invariants.md 3`
CITED = re.compile(
    r"\b(protocol|invariants)\.md(?:,? (?:sections? )?(\d+(?:\.\d+)?)(?:, (\d+)|(?: and|,) (\d+(?:\.\d+)?))?)?"
)
NAMED = re.compile(r"\bdocs/([a-z-]+\.md)\b")
LINKED = re.compile(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)")


def tracked(repository: Path) -> dict[str, str]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, check=True).stdout.decode()
    texts = [name for name in names.split("\0") if name.endswith((".py", ".proto", ".md", ".toml"))]
    return {name: (repository / name).read_text() for name in texts if (repository / name).is_file()}


def missing(page: str, section: str, number: str | None) -> str | None:
    """What of a citation is not in the page's text, or None."""
    if not re.search(rf"^###? {re.escape(section)}\.? ", page, re.MULTILINE):
        return f"section {section}"
    if number is not None and not re.search(rf"^(?:\| )?{number}(?:\. | \|)", page, re.MULTILINE):
        return f"number {number}"
    return None


def test_cited_sections_and_numbers_exist(repository: Path) -> None:
    pages = {name: (repository / "docs" / f"{name}.md").read_text() for name in ("protocol", "invariants")}
    wrong = [
        f"{file}: {match.group(0)!r} cites {gap}, which docs/{match.group(1)}.md does not have"
        for file, text in tracked(repository).items()
        for match in CITED.finditer(text)
        if match.group(2) is not None
        for gap in (missing(pages[match.group(1)], match.group(2), match.group(3)),)
        if gap is not None
    ]
    assert not wrong


def test_cited_pages_exist(repository: Path) -> None:
    wrong = [
        f"{file}: {named}"
        for file, text in tracked(repository).items()
        for named in NAMED.findall(text)
        if not (repository / "docs" / named).is_file()
    ]
    wrong += [
        f"{file}: {linked}"
        for file, text in tracked(repository).items()
        if file.endswith(".md")
        for linked in LINKED.findall(text)
        if not (repository / file).parent.joinpath(linked).is_file()
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("section", "number", "gap"),
    [("2.1", None, None), ("2.1", "3", None), ("9", None, "section 9"), ("2.1", "77", "number 77")],
)
def test_what_is_missing_is_seen(section: str, number: str | None, gap: str | None) -> None:
    page = "# Title\n\n### 2.1 Consensus\n\n| # | where |\n| --- | --- |\n| 3 | there |\n"
    assert missing(page, section, number) == gap

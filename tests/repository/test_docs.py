"""What the pages link to is there, and the site has them all. `make docs` builds it, and finds the rest."""

import re
from pathlib import Path

import pytest

LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "deploy/README.md", ROOT / "examples/README.md"])


def anchors(page: Path) -> set[str]:
    titles = [re.sub(r"[^\w\s-]", "", title.lower()) for title in HEADING.findall(page.read_text())]
    return {re.sub(r"[-\s]+", "-", title.strip()) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(CODE.sub("", page.read_text())):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{target}#{anchor}"


def test_the_site_has_every_page(repository: Path) -> None:
    listed = set(re.findall(r": ([\w/-]+\.md)$", (repository / "mkdocs.yml").read_text(), re.MULTILINE))
    there = {str(page.relative_to(repository / "docs")) for page in (repository / "docs").glob("*.md")}
    assert listed == there | {"decisions/README.md"}

"""What the tutorial tells a newcomer to type works as it stands there, in its order."""

import re
from pathlib import Path

import pytest

from ottla.cli.local import LocalCluster
from tests.ottla.cli.test_readme import ROOT, run

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cli-cluster")]

PAGES = ("tutorial.md", "faq.md")
SAID = [
    "anna almonds",
    "all are stored",
    "customer-2",
    "Nothing was changed",
    "healthy",
    "[b'before', b'after']",
]


def test_every_block_in_its_order(cluster: LocalCluster) -> None:
    page = (ROOT / "docs/tutorial.md").read_text()
    blocks = re.findall(r"^```(python|sh)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == len(SAID)
    for (language, block), said in zip(blocks, SAID, strict=True):
        done = run(language, block.replace("127.0.0.1:9192", cluster.nodes[0].address), cluster)
        assert done.returncode == 0, (block, done.stderr)
        assert said in done.stdout, block


@pytest.mark.parametrize("name", PAGES)
def test_every_page_that_it_links_is_there(name: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "docs" / name).read_text())
    assert links
    assert [link for link in links if not Path(ROOT / "docs" / link).exists()] == []

"""docs/kafka.md lists what tests/peers/explained.py explains."""

from pathlib import Path

from tests.peers.explained import EXPLAINED

HEADING = "## Answers that differ from Apache Kafka's\n"


def test_the_page_lists_what_is_explained(repository: Path) -> None:
    _, _, rest = (repository / "docs/kafka.md").read_text().partition(HEADING)
    rows = [line for line in rest.split("\n## ")[0].splitlines() if line.startswith("| ") and line != "| | |"]
    assert rows == list(dict.fromkeys(f"| {each.what} | {each.reason} |" for each in EXPLAINED))

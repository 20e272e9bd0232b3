"""The contract, by programs in six languages made from stock stubs. `make languages` also writes docs/languages.md."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import ROOT, LocalCluster
from tests.languages import conformance

pytestmark = [pytest.mark.languages, pytest.mark.timeout(600)]
RESULTS: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("languages")) as nodes:
        nodes.start().wait_ready()
        yield nodes
    if os.environ.get("OTTLA_WRITE_DOCS"):
        write_page(ROOT / "docs" / "languages.md")


@pytest.fixture(scope="module", params=conformance.PROGRAMS)
def language(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    lacks = conformance.missing(name)
    if lacks:
        for case in conformance.CASES:
            RESULTS[name, case] = f"not run: {', '.join(lacks)} missing"
        pytest.skip(f"{name}: {', '.join(lacks)} not installed")
    conformance.build(name)
    return name


@pytest.mark.parametrize("case", conformance.CASES)
def test_conformance(cluster: LocalCluster, language: str, case: str) -> None:
    RESULTS[language, case] = "fails"
    place = list(conformance.CASES).index(case)
    topic = f"{conformance.PROGRAMS[language]['folder']}-{place}"
    cluster.wait_ready()
    conformance.Run(cluster, language, topic).carry_out(conformance.CASES[case])
    RESULTS[language, case] = "passes"


def write_page(path: Path) -> None:
    """The table language x case of this run."""
    languages = list(conformance.PROGRAMS)
    lines = [
        "# Languages",
        "",
        "Written by `make languages` from its last run: small programs on stock stubs (`examples/`), each knowing one",
        "address of a three-node cluster, against the conformance table `tests/languages/cases.toml`.",
        "",
        "| case | " + " | ".join(languages) + " |",
        "|---" * (len(languages) + 1) + "|",
    ]
    lines.extend(
        f"| {case} | " + " | ".join(RESULTS.get((name, case), "not run") for name in languages) + " |"
        for case in conformance.CASES
    )
    path.write_text("\n".join(lines) + "\n")

"""The contract, by seven languages on stock stubs. `make languages` also writes docs/languages.md."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.cluster.harness import ROOT, LocalCluster
from tests.languages import conformance

pytestmark = [pytest.mark.languages, pytest.mark.timeout(900)]
RESULTS: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("languages")) as nodes:
        nodes.start().wait_ready(timeout_s=conformance.READY_S)
        yield nodes
    if os.environ.get("OTTLA_WRITE_DOCS"):
        write_page(ROOT / "docs" / "languages.md")


@pytest.fixture(scope="module")
def built(request: pytest.FixtureRequest) -> Mapping[str, Future[None]]:
    """The programs that this run asks for."""
    asked = {item.callspec.params.get("language") for item in request.session.items if hasattr(item, "callspec")}
    return conformance.build_all([name for name in conformance.PROGRAMS if name in asked])


@pytest.fixture(scope="module", params=conformance.PROGRAMS)
def language(request: pytest.FixtureRequest, built: Mapping[str, Future[None]]) -> str:
    name: str = request.param
    try:
        built[name].result()
    except conformance.NotInstalled as reason:
        for case in conformance.CASES:
            RESULTS[name, case] = "not run"
        pytest.skip(f"{name}: {reason}")
    return name


@pytest.mark.parametrize("case", conformance.CASES)
def test_conformance(language: str, built: Mapping[str, Future[None]], cluster: LocalCluster, case: str) -> None:
    RESULTS[language, case] = "fails"
    place = list(conformance.CASES).index(case)
    topic = f"{conformance.PROGRAMS[language]['folder']}-{place}"
    cluster.wait_ready(timeout_s=conformance.READY_S)
    other = conformance.next_of(language, [name for name, ready in built.items() if ready.exception() is None])
    conformance.Run(cluster, language, other, topic).carry_out(conformance.CASES[case])
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

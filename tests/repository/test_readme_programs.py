"""The README shows the smallest program of each language as it is: `make languages` builds and runs those files."""

import re
from pathlib import Path

import pytest

SHOWN = {
    "go": "examples/go/smallest/main.go",
    "java": "examples/java/Smallest.java",
    "cpp": "examples/cpp/smallest.cc",
    "rust": "examples/rust/src/bin/smallest.rs",
    "ruby": "examples/ruby/smallest.rb",
    "js": "examples/node/smallest.js",
}
CLIENTS = {
    "C++": "examples/cpp/client.cc",
    "Go": "examples/go/main.go",
    "Java": "examples/java/Client.java",
    "Node.js": "examples/node/client.js",
    "Python": "examples/python-stubs/client.py",
    "Ruby": "examples/ruby/client.rb",
    "Rust": "examples/rust/src/main.rs",
}


@pytest.mark.parametrize("language", SHOWN)
def test_the_readme_shows_the_program_that_is_run(repository: Path, language: str) -> None:
    blocks = re.findall(
        rf"^```{language}\n(.*?)^```$", (repository / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert blocks == [(repository / SHOWN[language]).read_text()], "copy the file into the README"


@pytest.mark.parametrize("language", CLIENTS)
def test_a_whole_client_takes_less_than_300_lines(repository: Path, language: str) -> None:
    lines = (repository / CLIENTS[language]).read_text().splitlines()
    assert len(lines) < 300
    assert max(map(len, lines)) <= 120

"""What a tracked file may hold, and how long it may be."""

import re
import subprocess
from pathlib import Path

import pytest

# A path of somebody's own machine: a home or work directory written out in full. (/root/.cache is the image's own.)
MACHINE_PATH = re.compile(rb"(?<![\w.~$}])/(?:work|farm|root(?!/\.cache)|home/[a-z]\w*|Users/\w+)/")
THIRD_PARTY = re.compile(r"(?:^|/)(?:LICENSE$|.*_pb2(?:_grpc)?\.pyi?$)")
# As long as the protocol is wide.
GENERATED = "node/kafka/messages/"
# 100 to 350 is the aim and 500 the length to think at; a file of this many holds more than one idea.
TOO_MANY_LINES = 700


@pytest.fixture(scope="module")
def tracked(repository: Path) -> dict[str, bytes]:
    """Every file that git knows, or would take in, with its content."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git work tree")
    names = [name for name in listed.stdout.decode().split("\0") if name and not THIRD_PARTY.search(name)]
    return {name: path.read_bytes() for name in names if (path := repository / name).is_file()}


def test_no_path_of_one_machine(tracked: dict[str, bytes]) -> None:
    found = [
        f"{name}:{number}"
        for name, content in tracked.items()
        if not name.startswith("tests/repository/")
        for number, line in enumerate(content.splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'data_dir = "/home/ann/ottla"', True),
        (b"cd /root/src && make", True),
        (b"RUN --mount=type=cache,target=/root/.cache/pip", False),
        (b"$HOME/src/ottla", False),
    ],
)
def test_the_search_for_machine_paths(line: bytes, found: bool) -> None:
    assert bool(MACHINE_PATH.search(line)) is found


def test_modules_stay_short(tracked: dict[str, bytes]) -> None:
    long = {name: content.count(b"\n") for name, content in tracked.items() if name.endswith(".py")}
    long = {name: lines for name, lines in long.items() if lines > TOO_MANY_LINES and not name.startswith(GENERATED)}
    assert not long, "is each of these still one idea?"


def test_no_half_finished_work(tracked: dict[str, bytes]) -> None:
    marks = re.compile(rb"\b(?:TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")
    found = [
        name
        for name, content in tracked.items()
        if name.endswith((".py", ".proto", "Makefile")) and not name.startswith("tests/repository/")
        if marks.search(content)
    ]
    assert not found

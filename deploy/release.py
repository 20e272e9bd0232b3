"""`make release`: builds what is published, checks it, and tries it as its users will.

It uploads nothing: docs/releasing.md. The files come from the last commit, the wheel from the source distribution.
Then, in fresh environments without the repository: a client alone, a server, and the one writing to the other and
reading again.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ottla.cli.local import free_base_port

ROOT: Final = Path(__file__).resolve().parent.parent
DIST: Final = ROOT / "dist"
CLIENT_PACKAGES_MAX: Final = 12
PORTS: Final = range(12_000, 31_000, 10)
OWN: Final = {"node", "raft", "storage"}
# What a build needs, and what whoever gets the sources must get with them.
HELPERS: Final = ("ottla/protocol/_walk.c", "ottla/protocol/_kafka.c", "ottla/client/_decode.c")
IN_SDIST: Final = ("LICENSE", "README.md", "pyproject.toml", "setup.py", *HELPERS, "node/main.py")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ottla-release-") as name:
        scratch = Path(name)
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        wheel = build(scratch / "source", version)
        client = try_client(scratch / "client", wheel, version)
        try_server(scratch / "server", wheel, client)
    say(f"dist/ has what can be published as {version}: docs/releasing.md tells how")


def say(text: str) -> None:
    print(f"release: {text}", flush=True)


def check(holds: bool, text: str) -> None:
    if not holds:
        sys.exit(f"release: not as it should be: {text}")


def run(*command: str | Path, **more: object) -> str:
    """What it prints; where it fails, this ends with that."""
    done = subprocess.run([str(each) for each in command], text=True, stdout=subprocess.PIPE, check=False, **more)  # type: ignore[call-overload]
    check(done.returncode == 0, f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout}")
    return str(done.stdout)


def build(source: Path, version: str) -> Path:
    if run("git", "status", "--porcelain", cwd=ROOT):
        say("what is not committed is left out")
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST, source)
    files = sorted(DIST.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *files)
    (sdist,), (wheel,) = ([file for file in files if file.suffix == suffix] for suffix in (".gz", ".whl"))
    with tarfile.open(sdist) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames()}
    check(set(IN_SDIST) <= inside, f"{sdist.name} lacks {set(IN_SDIST) - inside}")
    with zipfile.ZipFile(wheel) as packed_wheel:
        tops = {name.partition("/")[0] for name in packed_wheel.namelist()}
    check(tops == {"ottla", f"ottla-{version}.dist-info"}, f"{wheel.name} has {tops} at its top")
    say(f"built {sdist.name} and {wheel.name}")
    return wheel


def fresh(directory: Path, requirement: str) -> Path:
    """The programs of a new environment with that in it."""
    venv.create(directory, with_pip=True)
    run(directory / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement)
    return directory / "bin"


def try_client(directory: Path, wheel: Path, version: str) -> Path:
    client = fresh(directory, str(wheel))
    listed = json.loads(run(client / "python", "-m", "pip", "list", "--format=json", "--disable-pip-version-check"))
    packages = {each["name"] for each in listed} - {"pip", "setuptools"}
    check(len(packages) <= CLIENT_PACKAGES_MAX, f"a client has {len(packages)} packages: {sorted(packages)}")
    check(run(client / "ottla", "--version") == f"ottla {version}\n", "ottla --version")
    found = f"from importlib.util import find_spec; print(*filter(find_spec, {OWN}))"
    seen = run(client / "python", "-P", "-c", found)
    check(not seen.split(), f"a client's programs can import {seen}")
    refused = subprocess.run([client / "ottla", "dev"], cwd=directory, text=True, stderr=subprocess.PIPE, check=False)
    check("pip install 'ottla[server]'" in refused.stderr, f"ottla dev with the client alone: {refused.stderr}")
    say(f"a client has {len(packages)} packages, and says what a node needs")
    return client


def try_server(directory: Path, wheel: Path, client: Path) -> None:
    server = fresh(directory, f"{wheel}[server]")
    for name in OWN:  # files that whoever starts it may have
        (directory / f"{name}.py").write_text("raise SystemExit('not ours')")
    with cluster(server, directory) as bootstrap:
        ottla: list[str | Path] = [client / "ottla", "--bootstrap", bootstrap]
        run(*ottla, "topic", "create", "hello", "--partitions", "3")
        run(*ottla, "produce", "hello", "--compression", "zstd", input="hello, world\n", stderr=subprocess.DEVNULL)
        read = run(*ottla, "consume", "hello", "--to-end")
        check(read == "hello, world\n", f"what was read is {read!r}")
    say("a client wrote to the server's nodes, and read it")


@contextlib.contextmanager
def cluster(server: Path, directory: Path) -> Iterator[str]:
    """`ottla dev` with three nodes; gives what clients need to reach them."""
    port = str(free_base_port(3, PORTS))
    command: list[str | Path] = [server / "ottla", "dev", "--nodes", "3", "--json", "--base-port", port]
    started = subprocess.Popen(
        command, cwd=directory, env={**os.environ, "PYTHONPATH": "."}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert started.stdout is not None
        ready = started.stdout.readline()
        check(bool(ready), "ottla dev ended")
        yield json.loads(ready)["bootstrap"]
    finally:
        started.terminate()
        code = started.wait(30)
    check(code == 0, f"ottla dev ended with {code}")


if __name__ == "__main__":
    main()

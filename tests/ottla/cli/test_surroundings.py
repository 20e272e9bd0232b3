"""What a shell, a terminal, cron or a company's proxy do to a command: none of it ends in a stack trace or silence."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ottla.cli.local import LocalCluster
from tests.cluster.harness import free_base_port
from tests.ottla.cli.conftest import Ottla, environment

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cli-cluster")]
Shell = Callable[[str], "subprocess.CompletedProcess[str]"]
OTTLA = f"{sys.executable} -m ottla.cli"
NO_PROXY = "http://127.0.0.1:9"  # the port where nobody is


@pytest.fixture
def shell(cluster: LocalCluster) -> Shell:
    def run(command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-c", command.replace("ottla", OTTLA, 1)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment(cluster.bootstrap),
        )

    return run


def test_closed_streams(ottla: Ottla, shell: Shell) -> None:
    assert ottla("topic", "create", "closed-streams", "--partitions", "1").returncode == 0
    assert shell("ottla produce closed-streams 2>&- < <(echo x)").returncode == 0
    empty = shell("ottla produce closed-streams <&-")
    assert (empty.returncode, empty.stderr) == (0, "0 records acknowledged.\n")
    unread = shell("ottla consume closed-streams --from-beginning --max-messages 1 >&-")
    assert unread.returncode == 1
    assert "standard output is closed" in unread.stderr
    read = shell("ottla consume closed-streams --from-beginning --max-messages 1 <&- 2>&-")
    assert (read.returncode, read.stdout) == (0, "x\n")


def test_a_stderr_that_nobody_reads_changes_nothing(ottla: Ottla, shell: Shell) -> None:
    assert ottla("topic", "create", "unread-stderr", "--partitions", "1").returncode == 0
    ran = shell("ottla produce unread-stderr 2> >(exec 0<&-) < <(sleep 1; echo x); echo $?")
    assert ran.stdout == "0\n"


def test_grpcs_own_log_is_silenced_before_anything_imports_it() -> None:
    program = (
        "import os, sys; import ottla.cli.main as main; assert 'grpc' not in sys.modules;"
        "main.app = lambda **_: print(os.environ['GRPC_VERBOSITY']); main.main()"
    )
    for given, set_to in (({}, "NONE"), ({"GRPC_VERBOSITY": "debug"}, "debug")):
        environ = {name: value for name, value in environment("").items() if name != "GRPC_VERBOSITY"} | given
        done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False)
        assert done.stdout == f"{set_to}\n", done.stderr


def test_names_that_a_terminal_cannot_show_are_escaped(ottla: Ottla, shell: Shell) -> None:
    made = shell("PYTHONIOENCODING=ascii ottla group describe $'gr\\xc3\\xbc\\xc3\\x9fe' --json")
    assert "gr\\u00fc\\u00dfe" in made.stderr
    wrong = shell("ottla group describe $'\\xff'")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: INVALID_REQUEST: '\\udcff' is not UTF-8")


def test_proxies_for_the_web_are_not_for_nodes(cluster: LocalCluster, tmp_path: Path) -> None:
    env = {
        **environment(cluster.bootstrap),
        **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NO_PROXY),
    }
    command = [sys.executable, "-m", "ottla.cli"]
    listed = subprocess.run([*command, "topic", "list"], env=env, capture_output=True, timeout=60, check=False)
    assert listed.returncode == 0, listed.stderr
    with subprocess.Popen(
        [*command, "dev", "--nodes", "2", "--data-dir", tmp_path, "--base-port", str(free_base_port(2))],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    ) as dev:
        assert dev.stdout is not None
        assert any(line.startswith("Ready") for line in dev.stdout)
        dev.terminate()
        assert dev.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_cluster_in_the_background_of_a_script_can_be_stopped(tmp_path: Path, number: signal.Signals) -> None:
    """Shells start what is followed by `&` with SIGINT ignored."""
    dev_command = [
        sys.executable,
        "-m",
        "ottla.cli",
        "dev",
        "--data-dir",
        tmp_path,
        "--base-port",
        f"{free_base_port(1)}",
    ]
    with subprocess.Popen(
        # Not by `preexec_fn`: what runs between fork and exec, beside gRPC's threads, can be the child's end.
        ["sh", "-c", """trap '' INT; exec "$@" """, "sh", *dev_command],
        stdout=subprocess.PIPE,
        text=True,
    ) as dev:
        assert dev.stdout is not None
        assert any(line.startswith("Ready") for line in dev.stdout)
        dev.send_signal(number)
        if number == signal.SIGHUP:
            dev.send_signal(number)  # a terminal that is closed sends more than one
        assert dev.wait(10) == 0
    assert "event=stopped clean=true" in (tmp_path / "node-1.log").read_text()


def test_ctrl_c_at_a_prompt_ends_produce(cluster: LocalCluster, ottla: Ottla) -> None:
    assert ottla("topic", "create", "typed", "--partitions", "1").returncode == 0
    terminal, end = pty.openpty()
    typed = subprocess.Popen(
        [sys.executable, "-m", "ottla.cli", "produce", "typed"],
        stdin=end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(cluster.bootstrap),
    )
    os.write(terminal, b"one\n")
    deadline = time.monotonic() + 20
    while ottla("consume", "typed", "--from-beginning", "--max-messages", "1").stdout != "one\n":
        assert time.monotonic() < deadline
    typed.send_signal(signal.SIGINT)
    _, said = typed.communicate(timeout=20)
    assert typed.returncode == 130, said
    assert b"Traceback" not in said
    assert b"Fatal" not in said
    os.close(terminal)
    os.close(end)


def test_what_is_waited_for_is_said(cluster: LocalCluster, shell: Shell) -> None:
    nobody = free_base_port(1)
    down = shell(f"ottla consume t --bootstrap 127.0.0.1:{nobody}")
    assert down.returncode == 1
    assert down.stderr.startswith(f"No node answers yet at 127.0.0.1:{nobody}: trying for 4 s.\nerror: ")
    mistyped = shell("timeout -s INT 10 ottla consume no-such-topic --group g")
    assert mistyped.stderr.startswith("There is no topic no-such-topic: waiting until there is one, Ctrl-C ends.\n")

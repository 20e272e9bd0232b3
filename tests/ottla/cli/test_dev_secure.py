"""`ottla dev --secure`: one command, and those of the README work as they are."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster.harness import free_base_port


def test_from_nothing_to_a_record_that_was_read(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTTLA_")}
    environ["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    command = [sys.executable, "-m", "ottla.cli"]

    def ottla(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*command, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False, env=environ
        )

    port, data = free_base_port(1), tmp_path / "data"
    for turn in range(2):
        dev = subprocess.Popen(
            [*command, "dev", "--secure", "--base-port", str(port), "--data-dir", str(data), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environ,
        )
        try:
            assert dev.stdout is not None
            told = json.loads(dev.stdout.readline())
            assert told["profile"] == "dev-secure"
            certificate = (data / "secure" / "node-1" / "tls.crt").read_bytes()
            if turn == 0:
                first = certificate
                assert ottla("topic", "create", "hello", "--partitions", "3").returncode == 0
                assert ottla("produce", "hello", stdin="hello, world\n").returncode == 0
            assert certificate == first, "those that are good are kept"
            assert ottla("consume", "hello", "--to-end", "--from-beginning").stdout == "hello, world\n"
            plain = ottla("topic", "list", "--bootstrap", told["bootstrap"], "--json")
            assert plain.returncode == 1
            assert "wants TLS" in json.loads(plain.stderr.splitlines()[-1])["error"]["message"]
        finally:
            dev.send_signal(signal.SIGTERM)
            dev.wait(20)

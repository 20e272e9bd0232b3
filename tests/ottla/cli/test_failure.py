"""A command that fails says why and what to do, in one way, and never with a stack trace."""

import json

import pytest
from click.testing import CliRunner

from ottla.cli.failure import Commands, Failure
from ottla.cli.main import app as ottla
from ottla.cli.options import Json
from ottla.protocol.errors import RULES, ApiError
from ottla.v1 import error_pb2 as pb

run = CliRunner().invoke


def failing(error: BaseException) -> Commands:
    app = Commands("Fails.")

    @app.verb()
    def fail(as_json: Json = False) -> None:
        raise error

    return app


def test_a_foreseen_failure() -> None:
    done = run(failing(Failure("PORT_TAKEN", "port 9192 is in use", "choose another")), ["fail"])
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr == "error: PORT_TAKEN: port 9192 is in use\nnext: choose another\n"


def test_the_same_as_json() -> None:
    done = run(failing(Failure("PORT_TAKEN", "in use", "choose another")), ["fail", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stderr) == {"error": {"code": "PORT_TAKEN", "message": "in use", "next": "choose another"}}


@pytest.mark.parametrize("code", sorted(RULES))
def test_every_error_of_a_node_has_code_cause_and_next_step(code: int) -> None:
    """As it comes over the wire, and as the client makes it itself."""
    made = ApiError(code, "the cause with its facts", leader=2, address="127.0.0.1:9193")
    for error in (made, ApiError.from_proto(made.to_proto())):
        done = run(failing(error), ["fail"])
        assert done.exit_code == 1
        first, second = done.stderr.splitlines()
        assert first == f"error: {error.name}: the cause with its facts (leader: node 2 at 127.0.0.1:9193)"
        assert second == f"next: {RULES[code].next_step}"


def test_a_code_of_a_newer_node_is_shown_as_its_number() -> None:
    done = run(failing(ApiError.from_proto(pb.Error(code=999, message="news"))), ["fail"])  # type: ignore[arg-type]
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ERROR_999: news\nnext: ")


def test_a_bug_is_called_one_without_a_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(failing(ZeroDivisionError("oops")), ["fail"])
    assert done.exit_code == 1
    assert "INTERNAL_ERROR: ZeroDivisionError: oops" in done.stderr
    assert "Traceback" not in done.output
    monkeypatch.setenv("OTTLA_DEBUG", "1")
    assert isinstance(run(failing(ZeroDivisionError("oops")), ["fail"]).exception, ZeroDivisionError)


def test_ctrl_c_is_exit_code_130() -> None:
    assert run(failing(KeyboardInterrupt()), ["fail"]).exit_code == 130


def test_a_file_that_is_not_there() -> None:
    done = run(ottla, ["produce", "t", "/nowhere/lines.txt"])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: OS_ERROR: /nowhere/lines.txt: No such file or directory\nnext: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["topic", "create"],
        ["topic", "create", "t", "--partitions", "many"],
        ["consume", "t", "--max-messages", "0"],
        *(["consume", "t", "--partition", "0", "--offset", text] for text in ("-1", ":", "a:b", "1:2:3")),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    done = run(ottla, arguments)
    assert done.exit_code == 2
    assert "Usage:" in done.stderr
    done = run(ottla, [*arguments, "--json"])
    assert (done.exit_code, done.stdout) == (2, "")
    error = json.loads(done.stderr)["error"]
    assert error["code"] == "USAGE"
    assert "--help" in error["next"]


def test_what_is_mistyped_names_what_was_meant() -> None:
    assert "'version'?" in run(ottla, ["versoin"]).stderr
    assert "Did you mean 'create'?" in run(ottla, ["topic", "creat"]).stderr
    assert "--max-messages" in run(ottla, ["consume", "t", "--max-mesages", "1"]).stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["topic", "create", "t", "--config", "retention.ms"], "INVALID_CONFIG"),
        (["topic", "create", "t", "--config", "=5"], "INVALID_CONFIG"),
        (["topic", "alter", "t"], "INVALID_REQUEST"),
        (["config", "describe"], "INVALID_REQUEST"),
        (["config", "describe", "--topic", "t", "--broker", "1"], "INVALID_REQUEST"),
        (["consume", "t", "--offset", "3"], "INVALID_REQUEST"),
        (["consume", "t", "--offset", "3", "--partition", "0", "--from-beginning"], "INVALID_REQUEST"),
        (["consume", "t", "--format", "{nope}"], "INVALID_FORMAT"),
        (["produce", "t", "--key-separator", ""], "INVALID_REQUEST"),
        (["produce", "t", "--delimiter", ""], "INVALID_REQUEST"),
        (["produce", "t", "--key", "k", "--key-separator", "="], "INVALID_REQUEST"),
        (["produce", "t", "--tombstone"], "INVALID_REQUEST"),
        (["produce", "t", "--whole", "--input", "json"], "INVALID_REQUEST"),
        (["produce", "t", "--header", "h"], "INVALID_REQUEST"),
        (["produce", "t", "--rate", "0"], "INVALID_REQUEST"),
        (["consume", "t", "--group", "g", "--last", "3"], "INVALID_REQUEST"),
        (["consume", "t", "--follow", "--to-end"], "INVALID_REQUEST"),
        (["--bootstrap", "a:1", "--profile", "p", "topic", "list"], "INVALID_REQUEST"),
        (["topic", "create", "t", "--config", "retention.ms=7x"], "INVALID_REQUEST"),
        (["node", "--config", "/nowhere.toml"], "INVALID_CONFIG"),
        (["group", "reset", "g"], "INVALID_REQUEST"),
        (["group", "reset", "g", "--to-latest", "--shift-by", "1"], "INVALID_REQUEST"),
        (["dev", "--nodes", "0"], "INVALID_CONFIG"),
        (["dev", "--base-port", "70000"], "INVALID_CONFIG"),
        (["dev", "--kafka-port", "70000"], "INVALID_CONFIG"),
        (["dev", "--kafka-port", "-1"], "INVALID_CONFIG"),
        (["dev", "--nodes", "3", "--kafka-port", "9294"], "INVALID_CONFIG"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_asked(arguments: list[str], code: str) -> None:
    done = run(ottla, arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {code}: ")
    assert "\nnext: " in done.stderr

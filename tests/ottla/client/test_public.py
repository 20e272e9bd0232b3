"""What `import ottla` promises: cheap, complete, and errors that say what to do next."""

import ast
import copy
import pickle
import subprocess
import sys
from pathlib import Path

import ottla
from ottla.client import errors
from ottla.v1 import error_pb2 as pb

CLIENT = Path(errors.__file__).parent


def test_importing_ottla_loads_neither_grpc_nor_protobuf() -> None:
    code = "import ottla, sys; print([m for m in sys.modules if m.split('.')[0] in ('grpc', 'google', 'asyncio')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CLIENT.parents[1]
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    for name in ottla._MODULES:
        assert getattr(ottla, name).__module__.startswith("ottla.client"), name
        assert name in dir(ottla)
    errors_in_the_tree = {name for name in vars(errors) if isinstance(getattr(errors, name), type)} - {"ApiError"}
    assert errors_in_the_tree <= set(ottla._MODULES)


def test_errors_say_what_to_do_next() -> None:
    """Every message made in the client has a next step; a ConfigError's may be the allowed values."""
    without = []
    for path in sorted(CLIENT.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
                continue
            kind = getattr(errors, node.func.id, None)
            if not (isinstance(kind, type) and issubclass(kind, errors.OttlaError)) or kind is errors.ConfigError:
                continue
            text = ast.unparse(node.args[0])
            if (
                isinstance(node.args[0], (ast.Constant, ast.JoinedStr))
                and "Next: " not in text
                and "_AGAIN" not in text
            ):
                without.append(f"{path.name}:{node.lineno}")
    assert without == []


def test_errors_survive_copying_and_pickling() -> None:
    error = errors.DeliveryFailed("why", pb.ERROR_CODE_REQUEST_TIMED_OUT, maybe_written=True)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(twin), twin.message, twin.code, twin.maybe_written) == (type(error), "why", 7, True)
    assert str(error) == "REQUEST_TIMED_OUT: why"


def test_a_servers_word_on_retrying_counts() -> None:
    known = errors.from_server(pb.Error(code=pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION, message="m", retriable=False))
    assert isinstance(known, errors.UnknownTopic)
    assert not known.retriable
    later = errors.from_server(pb.Error(code=999, message="from a newer server", retriable=True))  # type: ignore[arg-type]
    assert later.retriable
    assert later.name == "ERROR_999"

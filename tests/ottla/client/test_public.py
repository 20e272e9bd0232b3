"""What `import ottla` promises: cheap, complete, and errors that say what to do next."""

import ast
import copy
import inspect
import pickle
import re
import subprocess
import sys
from importlib.metadata import version
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
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind)]
    errors_in_the_tree = {kind.__name__ for kind in kinds if kind.__module__ == errors.__name__}
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


def test_a_servers_refusal_is_of_the_class_that_one_catches() -> None:
    """Each class of the table is there for its codes, takes the server's word, and survives pickling."""
    for kind, codes in errors._CODES.items():
        for code in codes:
            error = errors.from_server(pb.Error(code=code, message="why", retriable=True))  # type: ignore[arg-type]
            assert type(error) is kind
            assert (error.code, error.message, error.retriable) == (code, "why", True)
            assert type(pickle.loads(pickle.dumps(error))) is kind
        assert kind.default_code in codes
    assert len(errors._BY_CODE) == sum(map(len, errors._CODES.values()))


def test_a_failed_delivery_is_of_the_class_of_its_reason_too() -> None:
    error = errors.DeliveryFailed("why", pb.ERROR_CODE_NOT_ENOUGH_REPLICAS, maybe_written=False)
    assert isinstance(error, errors.NotEnoughReplicas)
    assert type(error).__name__ == "DeliveryFailed"
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert (twin.message, twin.maybe_written, twin.record_errors) == ("why", False, ())
    plain = errors.DeliveryFailed("why", pb.ERROR_CODE_NETWORK_EXCEPTION, maybe_written=True)
    assert type(plain) is errors.DeliveryFailed


def test_the_page_lists_every_setting_with_its_default() -> None:
    """docs/python-client.md: the producer's table is the first one, the consumer's the second."""
    page = (CLIENT.parents[1] / "docs/python-client.md").read_text()
    tables = page.split("| setting | default | meaning |")[1:]
    for kind, table in zip((ottla.Producer, ottla.Consumer), tables, strict=True):
        listed = {}
        for row in re.findall(r"^\| (`.+?) \| (.+?) \|", table, re.MULTILINE):
            listed |= dict.fromkeys(re.findall(r"`(\w+)`", row[0]), row[1].strip("`").replace(" ", "").replace('"', ""))
        parameters = inspect.signature(kind).parameters.values()
        assert listed == {p.name: str(p.default) for p in parameters if p.name not in ("bootstrap", "topics")}


def test_the_page_lists_every_metric() -> None:
    page = (CLIENT.parents[1] / "docs/observability-client.md").read_text()
    for kind in (ottla.ProducerMetrics, ottla.ConsumerMetrics):
        table = page.split(f"| `{kind.__name__}` | meaning |")[1].partition("\n\n")[0]
        assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.+?) \|", table, re.MULTILINE)))) == {
            *kind._fields,
            *(name for name, value in vars(kind).items() if isinstance(value, property)),
        }


def test_the_version_is_the_packages() -> None:
    assert ottla.__version__ == version("ottla")
    assert "__version__" in dir(ottla)

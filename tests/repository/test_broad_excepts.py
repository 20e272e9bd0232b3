"""No handler swallows a broken invariant: what catches everything hands it to `node.fail_stop`, or raises it on."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSES_ON = {"stop_if_broken", "fatal", "unexpected"}
BROAD = {"Exception", "BaseException"}
EXEMPT = {("node/main.py", "_run_planes"), ("node/metadata/apply.py", "unloadable")}
"""The first ends the node whatever it caught: it hands a broken invariant over a line later. The second tries out what
a peer sent, on nothing of this node's.
"""


def test_every_broad_except_passes_a_broken_invariant_on(repository: Path) -> None:
    found = [
        f"{path.relative_to(repository)}:{line}"
        for folder in ("node", "raft", "storage")
        for path in sorted((repository / folder).rglob("*.py"))
        for line in swallowing(path.read_text(), str(path.relative_to(repository)))
    ]
    assert not found, "begin the handler with node.fail_stop.stop_if_broken(error)"


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("try:\n    f()\nexcept Exception:\n    pass", [3]),
        ("try:\n    f()\nexcept:\n    pass", [3]),
        ("try:\n    f()\nexcept (OSError, Exception) as e:\n    log(e)", [3]),
        ("try:\n    f()\nexcept AssertionError:\n    pass", [3]),
        ("try:\n    f()\nexcept* Exception as e:\n    log(e)", [3]),
        ("with contextlib.suppress(Exception):\n    f()", [1]),
        ("with suppress(OSError, BaseException):\n    f()", [1]),
        ("try:\n    f()\nexcept Exception as e:\n    stop_if_broken(e)\n    log(e)", []),
        ("try:\n    f()\nexcept Exception as e:\n    log(unexpected('Fetch', e))", []),
        ("try:\n    f()\nexcept BaseException:\n    undo()\n    raise", []),
        ("try:\n    f()\nexcept OSError:\n    pass", []),
    ],
)
def test_the_rule_itself(code: str, lines: list[int]) -> None:
    assert list(swallowing(code, "x.py")) == lines


def swallowing(code: str, name: str) -> Iterator[int]:
    tree = ast.parse(code)
    exempt = {
        inner
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and (name, function.name) in EXEMPT
        for inner in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node not in exempt:
            if is_broad(node.type) and not passes_on(node):
                yield node.lineno
        elif isinstance(node, ast.Call) and name_of(node.func) == "suppress" and any(map(is_broad, node.args)):
            yield node.lineno


def is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(map(is_broad, caught.elts))
    return caught is None or name_of(caught) in BROAD | {"AssertionError", "InvariantError"}


def passes_on(handler: ast.ExceptHandler) -> bool:
    return any(
        isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and name_of(node.func) in PASSES_ON)
        for statement in handler.body
        for node in ast.walk(statement)
    )


def name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")

"""The optional helpers in C, compiled from the sources of this tree, whether or not they are installed."""

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

FLAGS = ("-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-shared", "-fPIC")


def compiled(source: Path, name: str, directory: Path) -> ModuleType:
    """The module `name`; skips the test where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    target = directory / f"{source.stem}.so"
    flags = [*FLAGS, *(("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ())]
    include = sysconfig.get_path("include")
    subprocess.run([compiler, *flags, f"-I{include}", str(source), "-o", str(target)], check=True)
    spec = importlib.util.spec_from_file_location(name, target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

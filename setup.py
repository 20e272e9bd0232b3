"""Where the packages go, and what is compiled; all else is in pyproject.toml.

In a wheel the server's packages are inside of `ottla`, so that their general names are at the top of nobody's
installation (ottla/server.py finds them). Where developers work on them (`pip install -e`) they stay what they are in
the repository.
"""

import sys

from setuptools import Extension, find_packages, setup

SERVER = ("node", "raft", "storage")
INSIDE = "ottla._server"
# What walks over the records of each produced batch, Ottla's and Kafka's, and what makes records of a fetched one.
# Optional: without a compiler Python does the same, slower.
HELPERS = [
    Extension(name.replace("/", "."), [f"{name}.c"], optional=True)
    for name in ("ottla/protocol/_walk", "ottla/protocol/_kafka", "ottla/client/_decode")
]

server = find_packages(include=[f"{name}*" for name in SERVER])
editable = "editable_wheel" in sys.argv
setup(
    packages=find_packages(include=["ottla*"]) + (server if editable else [f"{INSIDE}.{name}" for name in server]),
    ext_modules=HELPERS,
    package_dir={} if editable else {f"{INSIDE}.{name}": name for name in SERVER},
)

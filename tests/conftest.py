"""What holds for every test."""

import gc
import signal
from pathlib import Path

import grpc.aio
import pytest
from hypothesis import HealthCheck, settings


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return Path(__file__).resolve().parent.parent


# grpc.aio ends its poller thread with the last object that uses it, whenever the garbage collector comes to that, and
# the collector can then wait for that thread for ever. One reference for the whole run keeps it.
grpc.aio.init_grpc_aio()


# Who starts the tests in the background of a script or under nohup has them ignore what a terminal sends, and every
# process that they start with them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Thousands of tests are a quarter of a million objects, which each full collection would walk for 0.3 s."""
    gc.collect()
    gc.freeze()


# How long an example takes says how busy the machine is, and nothing about what is tested.
settings.register_profile("ottla", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ottla")

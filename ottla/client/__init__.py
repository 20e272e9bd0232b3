"""The asyncio client. Its public names are in `ottla`; the blocking versions are in `ottla.sync`."""

import os
import sys

# gRPC's own support of forks never comes to act while its asyncio side is at work; all the same it brings some of its
# threads back in the child, and they crash it (ottla/client/life.py says what a child can do).
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
if "grpc._cython.cygrpc" in sys.modules:
    sys.modules["grpc._cython.cygrpc"].reset_grpc_config_vars()  # it has looked at its environment already

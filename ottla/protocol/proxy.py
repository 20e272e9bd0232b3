"""How channels of nodes and clients treat the proxies that the environment names."""

import os
from typing import Final

PROXY_OPTION: Final = ("grpc.enable_http_proxy", int(bool(os.environ.get("grpc_proxy"))))  # noqa: SIM112
"""`http_proxy` and `https_proxy` are for the web: gRPC would tunnel even loopback through them, and a proxy for the web
reaches no node. Whoever means gRPC says so with `grpc_proxy`."""

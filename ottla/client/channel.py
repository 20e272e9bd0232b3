"""Channels whose calls say for which cluster they are, so that a node of another one refuses them."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from grpc import aio

CLUSTER_ID_KEY: Final = "ottla-cluster-id"
CLIENT_ID_KEY: Final = "ottla-client-id"
"""For quotas of what has no field for it."""


class ClusterChannel:
    """A channel as the stubs use it. `metadata` goes with every call: what it holds when the call begins."""

    def __init__(self, channel: aio.Channel, metadata: Sequence[tuple[str, str]]) -> None:
        self.get_state = channel.get_state
        self.close = channel.close
        self.unary_unary = _with(metadata, channel.unary_unary)
        self.unary_stream = _with(metadata, channel.unary_stream)
        self.stream_stream = _with(metadata, channel.stream_stream)


def _with(metadata: Sequence[tuple[str, str]], method: Callable[..., Any]) -> Callable[..., Any]:
    def make(*args: Any, **kwargs: Any) -> Callable[..., Any]:
        begin = method(*args, **kwargs)
        return lambda *args, **kwargs: begin(*args, metadata=tuple(metadata), **kwargs)

    return make

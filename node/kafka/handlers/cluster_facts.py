"""The cluster as clients of Kafka are told of it: nodes are those that listen for them, errors those of the request's
version."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

import structlog

from node import limits, principal
from node.api.view import ClusterView
from node.fail_stop import stop_if_broken
from node.kafka.addresses import Addresses
from node.kafka.connection import Call
from node.kafka.produce import Endpoint, Leader
from node.kafka.wire import Message
from node.metadata.image import NO_LEADER, Broker
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

log = structlog.get_logger("kafka")

NOT_ASKED: Final = -(2**31)


def unexpected(api: str, error: Exception) -> ApiError:
    """A bug of ours, as a client may see it: the details go to the node's log. A broken invariant ends the node."""
    stop_if_broken(error)
    log.error("kafka_request_failed", api=api, exc_info=error)
    return ApiError(pb.ERROR_CODE_UNKNOWN_SERVER_ERROR, f"{api} failed with {type(error).__name__}")


class ClusterFacts:
    """Shared by the handlers of a node."""

    def __init__(self, view: ClusterView, addresses: Addresses) -> None:
        self.view = view
        self._addresses = addresses

    def nodes(self, call: Call) -> list[tuple[Broker, Endpoint]]:
        """Nodes that live and listen for clients of Kafka, by id, where the client of this call finds them."""
        return self._seen(self.view.image.live_brokers(), call)

    def fenced(self, call: Call) -> list[tuple[Broker, Endpoint]]:
        """Nodes that would listen for clients of Kafka, and are down or were not heard from."""
        brokers = sorted(self.view.image.brokers.items())
        return self._seen((broker for _, broker in brokers if broker.fenced), call)

    def _seen(self, brokers: Iterable[Broker], call: Call) -> list[tuple[Broker, Endpoint]]:
        return [(broker, at) for broker in brokers if (at := self._endpoint(broker, call)) is not None]

    def _endpoint(self, broker: Broker, call: Call) -> Endpoint | None:
        at = self._addresses.seen(broker, call.connection.reach)
        return None if at is None else Endpoint(broker.node_id, *at, broker.rack or None)

    def controller(self, call: Call) -> int:
        """The node to tell clients of: what is asked of a controller, each node passes on to it. -1: none is there."""
        ids = [broker.node_id for broker, _ in self.nodes(call)]
        leader = self.view.quorum.leader_id
        return leader if leader in ids else next(iter(ids), NO_LEADER)

    @property
    def cluster_id(self) -> str:
        return self.view.quorum.cluster_id.hex()

    def is_unknown(self, topic_id: bytes) -> bool:
        """Whether it is an id, and no topic's."""
        return bool(topic_id) and self.view.image.topic(topic_id) is None

    def serves(self, node_id: int) -> bool:
        """Whether clients of Kafka can go to that node."""
        broker = self.view.image.brokers.get(node_id)
        return broker is not None and not broker.fenced and bool(broker.endpoints)

    def endpoint(self, node_id: int, call: Call) -> Endpoint | None:
        broker = self.view.image.brokers.get(node_id)
        return None if broker is None or broker.fenced else self._endpoint(broker, call)

    def leader_of(self, error: ApiError) -> Leader | None:
        """Who leads instead, where the error says so and clients can go there (KIP-951)."""
        if error.code != pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER or error.leader is None:
            return None
        return Leader(error.leader, -1 if error.epoch is None else error.epoch)

    def endpoints_of(self, leaders: set[int], call: Call) -> list[Endpoint]:
        return [at for node_id in sorted(leaders) if (at := self.endpoint(node_id, call)) is not None]


Later = Callable[[Message, Call], Coroutine[Any, Any, Message]]


def wait_ms(timeout_ms: int) -> int:
    """How long a request may wait, of what its client says."""
    return max(1, min(timeout_ms, limits.WAIT_MAX_MS))


def later(api: str, handler: Later) -> Callable[[Message, Call], None]:
    """A handler whose answer takes a while: a task of its own, which ends with the connection."""

    def begin(message: Message, call: Call) -> None:
        run(api, call, handler(message, call))

    return begin


def one_by_one(api: str, handler: Later) -> Callable[[Message, Call], None]:
    """As `later`, but of one connection one at a time: it begins when the answers before it have left. What takes
    much is no more for who sends much at once."""

    def begin(message: Message, call: Call) -> None:
        call.when_first(lambda: run(api, call, as_client(message, call)))

    async def as_client(message: Message, call: Call) -> Message:
        principal.calls_itself(call.client_id or "")
        return await handler(message, call)

    return begin


def run(api: str, call: Call, work: Coroutine[Any, Any, Message | None]) -> None:
    """Answers with what `work` returns; a bug ends the connection."""

    async def answer() -> None:
        try:
            message = await work
        except Exception as error:
            stop_if_broken(error)
            call.connection.bug(call, error)
            return
        if message is not None:
            call.answer(message)

    task = asyncio.get_running_loop().create_task(answer(), name=f"kafka-{api}")
    task.add_done_callback(lambda _: work.close())  # which it has not begun where it was cancelled before
    call.on_close = task.cancel

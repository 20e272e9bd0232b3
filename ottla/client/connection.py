"""A client's connections: who is in the cluster, which node to talk to, one channel for each.

One node is *home*: it streams the metadata, with a tick at least every 500 ms, and forwards whatever can't go to a
leader directly. 1.5 s without a word from it, or 3 s in which it has not heard from the quorum while another node has,
and that one is home (protocol.md sections 5 and 8).
"""

import asyncio
import logging
import os
import re
import time
import warnings
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, Self, TypeVar, cast
from weakref import WeakSet

import grpc
from grpc import aio

from ottla.client import arguments, life
from ottla.client.channel import CLIENT_ID_KEY, CLUSTER_ID_KEY, ClusterChannel
from ottla.client.errors import (
    AuthenticationFailed,
    Closed,
    ConfigError,
    ConnectionFailed,
    OttlaError,
    UnknownTopic,
    from_call,
    from_server,
    refusal_in,
)
from ottla.client.login import PASSWORD_FILE_VARIABLE, USER_VARIABLE, Token, login_of
from ottla.client.streams import at_rest, listen
from ottla.client.tasks import Ending, Tasks
from ottla.client.tls import PathText, Tls, tls_of
from ottla.client.view import ClusterView, TopicInfo, updated, view_of
from ottla.protocol.proxy import PROXY_OPTION
from ottla.secure.diagnosis import Cause, diagnose
from ottla.v1 import error_pb2 as pb
from ottla.v1.cluster_pb2 import GetMetadataRequest, Metadata, MetadataEvent
from ottla.v1.cluster_pb2_grpc import ClusterServiceStub

log = logging.getLogger("ottla.client")

DEFAULT_BOOTSTRAP: Final = "127.0.0.1:9192"
SILENCE_MAX_S: Final = 1.5
AGE_MAX_MS: Final = 3_000
"""The default of broker.session.timeout.ms: what a node heard of before may have another leader by now."""
DIRECT_WAIT_S: Final = 1.0
DIRECT_RETRY_S: Final = 60.0
TOPIC_WAIT_S: Final = 1.0
REFUSED_S: Final = 5.0
"""Between two logins, where they are refused."""
RENEW_LOOK_S: Final = 1.0
_REST_S: Final = 0.5
_LOOK_S: Final = 0.005
_REPEAT_S: Final = 0.05
MESSAGE_MAX_BYTES: Final = 64 * 1024 * 1024

CHANNEL_OPTIONS: Final = (
    PROXY_OPTION,
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
    # Found dead 13 s after it fell silent. ping_timeout_ms governs, not keepalive_timeout_ms alone.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    # A node that restarts is back within a second; gRPC's own back-off grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    # What gRPC calls this is how long a connection attempt may take: a busy peer needs more than a moment.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

_NOT_BEGUN: Final = frozenset(
    {
        pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
        pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER,
        pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS,
        pb.ERROR_CODE_COORDINATOR_NOT_AVAILABLE,
        pb.ERROR_CODE_NOT_COORDINATOR,
        pb.ERROR_CODE_NOT_CONTROLLER,
        pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED,
    }
)
"""Said before anything was done: by a node that has not what it takes, or no room."""

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_KAFKAS_PORT: Final = re.compile(rb"this port speaks Kafka's protocol(?:; gRPC is at (\S+))?")

T = TypeVar("T")


def bootstrap_addresses(bootstrap: str | Sequence[str] | None) -> list[str]:
    """host:port of some nodes, from a list or a comma-separated text; else from OTTLA_BOOTSTRAP, else this machine."""
    given = bootstrap if bootstrap is not None else os.environ.get("OTTLA_BOOTSTRAP", DEFAULT_BOOTSTRAP)
    return arguments.addresses("bootstrap" if bootstrap is not None else "OTTLA_BOOTSTRAP", given)


class Client:
    """Connections to one cluster, to be shared by producers, consumers and admins of one event loop.

    Use it as `async with Client("host:9192") as client`. Entering waits until a node has answered.
    """

    _state = "new"

    def __init__(
        self,
        bootstrap: str | Sequence[str] | None = None,
        *,
        client_id: str = "ottla-python",
        connect_timeout_ms: int = 10_000,
        tls: Tls | PathText | None = None,
        user: str | None = None,
        password: str | None = None,
        password_file: PathText | None = None,
    ) -> None:
        """`tls`: the directory with this client's certificate, or its files; by default what OTTLA_TLS_DIR or
        OTTLA_TLS_CA, OTTLA_TLS_CERT and OTTLA_TLS_KEY name. Without any there is no TLS. `user` logs in, with the
        password or the one in the file; by default what OTTLA_USER and OTTLA_PASSWORD_FILE say."""
        self.client_id = arguments.label("client_id", client_id)
        self.view = ClusterView()
        self._bootstrap = bootstrap_addresses(bootstrap)
        self._connect_timeout_s = (
            arguments.whole("connect_timeout_ms", connect_timeout_ms, 1, arguments.INT32_MAX) / 1000
        )
        self._tls = tls_of(tls)
        self._login = login_of(user, password, password_file)
        self._token: Token | None = None
        self._refused: OttlaError | None = None
        """Why nobody lets this client in; it tries again now and then, for passwords may be changed."""
        self._channels: dict[str, aio.Channel] = {}
        self._call_metadata: list[tuple[str, str]] = []
        self._home: str | None = None
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[ClusterView], None]] = []
        self._sharers: list[Callable[[Closed], None]] = []
        self._unreachable: dict[tuple[int, str, int], float] = {}
        self._last_errors: dict[str, str] = {}
        self._tasks = Tasks(self._failed)
        self._ending = Ending()
        self._broken: BaseException | None = None
        self._age_ms = 0
        self._fresher: str | None = None
        """A node that heard of the quorum later than the home node: to be home next."""
        self._is_asking = False
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connects. Raises ConnectionFailed if no node answers within connect_timeout_ms."""
        if self._state != "new":
            raise Closed(f"this client is {self._state} and can't be started. Next: make a new one")
        life.opened(self)
        self._loop = asyncio.get_running_loop()
        self._state = "open"
        _started.add(self)
        self._tasks.start(self._watch(), "ottla-metadata")
        if self._login is not None:
            self._tasks.start(self._stay_logged_in(), "ottla-login")
        try:
            await self.home(self._connect_timeout_s)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Ends all connections. Whoever calls it again waits for that, too."""
        if self._state == "inherited" or not life.can_close(self._loop, "client"):
            return
        self._state = "closed"
        self._changed.set()
        for on_closed in list(self._sharers):
            on_closed(life.refusal("client", self._state))
        await self._ending.run(self._disconnect)

    async def _disconnect(self) -> None:
        await self._tasks.stop()
        if self._loop is asyncio.get_running_loop():
            await asyncio.gather(*(channel.close() for channel in self._channels.values()))
            if not any(each._loop is self._loop and each._state == "open" for each in _started):
                await at_rest(_REST_S)
        self._channels.clear()
        life.closed(self)

    def inherited(self) -> None:
        """For `life`: this process is a forked child."""
        self._state = "inherited"

    def __del__(self) -> None:
        if self._state == "open":
            warnings.warn(
                f"Unclosed client of {self._bootstrap}. Next: close it", ResourceWarning, stacklevel=2, source=self
            )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def _failed(self, error: BaseException) -> None:
        """The metadata task ended: whoever asks for a node must hear it."""
        log.error("the metadata task ended", exc_info=None if isinstance(error, Closed) else error)
        self._broken = error
        self._home = None
        self._changed.set()

    # -- metadata --------------------------------------------------------------------------------------------------

    def on_view(
        self, listener: Callable[[ClusterView], None], on_closed: Callable[[Closed], None]
    ) -> Callable[[], None]:
        """Calls `listener` with every new view, now with the present one, and `on_closed` when this client is closed:
        whoever shares it could wait for ever. Answers how to stop that."""
        self._listeners.append(listener)
        self._sharers.append(on_closed)
        listener(self.view)

        def stop() -> None:
            self._listeners.remove(listener)
            self._sharers.remove(on_closed)

        return stop

    async def topic(self, name: str, partition: int = 0) -> TopicInfo:
        """A topic by name, that has the partition. One that is not known is waited for, for up to a second: it may have
        just been created. Raises UnknownTopic, with what the server says (names that are close), ConfigError."""
        arguments.topic_name(name)
        partition = arguments.partition(partition)
        give_up = time.monotonic() + TOPIC_WAIT_S
        while (known := self.view.topics.get(name)) is None or not 0 <= partition < len(known.partitions):
            late = time.monotonic() >= give_up
            if known is not None and (late or partition < 0):
                raise UnknownTopic(
                    f"topic {name} has no partition {partition}, only 0 to {len(known.partitions) - 1}. "
                    "Next: choose one of those"
                )
            if known is None:
                answer = await self.on_any_node(partial(_get_topic, name), 10_000)
                error = answer.topics[0].error if answer.topics else pb.Error()
                if error.code != pb.ERROR_CODE_NONE and (late or not error.retriable):
                    raise from_server(error)
                if late and time.monotonic() >= give_up + TOPIC_WAIT_S:
                    raise UnknownTopic(f"topic {name} did not appear in the metadata in time. Next: try again")
            if self.view.topics.get(name) is known:
                await self._wait_for_change(0.1)
        return known

    async def _wait_for_change(self, timeout_s: float) -> bool:
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _watch(self) -> None:
        failures = 0
        while True:
            fresher, self._fresher = self._fresher, None
            for address in self._candidates() if fresher is None else [fresher, *self._candidates()]:
                before = self.view
                try:
                    await self._follow(address)
                except aio.AioRpcError as error:
                    self._last_errors[address] = f"{error.code().name}: {error.details()}"
                    self._look_for_refusal(error, address)
                except Closed:
                    raise
                except OttlaError as error:  # of the login
                    self._last_errors[address] = error.message
                    self._refuse(error)
                except asyncio.CancelledError:
                    task = asyncio.current_task()
                    if task is None or task.cancelling():
                        raise
                    self._last_errors[address] = "the connection was closed"
                except TimeoutError:
                    self._last_errors[address] = f"no word for {SILENCE_MAX_S} s"
                if self._home == address:
                    self._home = None
                    log.info("lost node %s: %s", address, self._last_errors.get(address, "it ended the stream"))
                if self.view is not before:
                    failures = 0
                if self._fresher is not None:
                    break
            if self._fresher is not None:
                continue
            await asyncio.sleep(min(0.02 * 2 ** min(failures, 10), 1.0) if self._refused is None else REFUSED_S)
            failures += 1

    def _candidates(self) -> list[str]:
        known = [b.address for b in self.view.brokers.values() if not b.fenced]
        return list(dict.fromkeys([*self._bootstrap, *known]))

    async def _ask_others(self, home: str) -> None:
        """The home node has not heard from the quorum for a session time-out: a leader that is cut off stays what it
        was for those who ask it alone. Looks for a node that knows more, at every tick while nobody does."""
        addresses = [*self._bootstrap, *(b.address for b in self.view.brokers.values())]
        others = [address for address in dict.fromkeys(addresses) if address != home]
        try:
            answers = await asyncio.gather(*map(self._age_of, others))
            ages = {address: age for address, age in zip(others, answers, strict=True) if age is not None}
            if self._home == home and ages and min(ages.values()) < min(AGE_MAX_MS, self._age_ms):
                self._fresher = min(ages, key=lambda address: ages[address])
                log.info(
                    "node %s has not heard from the quorum for %d ms; asking %s", home, self._age_ms, self._fresher
                )
        finally:
            self._is_asking = False

    async def _age_of(self, address: str) -> int | None:
        try:
            stub = ClusterServiceStub(self.channel(address))
            metadata = await stub.GetMetadata(GetMetadataRequest(brokers_only=True), timeout=DIRECT_WAIT_S)
        except aio.AioRpcError:
            return None
        return metadata.age_ms if metadata.cluster_id == self.view.cluster_id else None

    async def _follow(self, address: str) -> None:
        """Follows the metadata as one node sees it, until it falls silent or ends the stream."""
        view: ClusterView | None = None

        def take(event: MetadataEvent) -> bool:
            nonlocal view
            is_first = view is None
            if view is None:
                view = view_of(event.metadata)
                ours = self.view.cluster_id
                if not view.cluster_id or view.cluster_id != (ours or view.cluster_id):
                    # Not formed yet, or not ours: its empty metadata would read as "every topic was deleted".
                    wanted = f", this client's is {ours}" if ours else ""
                    self._last_errors[address] = f"its cluster id is {view.cluster_id or 'not known yet'}{wanted}"
                    return False
                self._home = address
                self._refused = None
                self._last_errors.pop(address, None)
                self._changed.set()
            self._age_ms = max(event.age_ms, event.metadata.age_ms)
            if self._age_ms >= AGE_MAX_MS and self._fresher is None and not self._is_asking:
                self._is_asking = True
                self._tasks.start(self._ask_others(address), "ottla-fresher")
            if self._fresher is not None:
                self._last_errors[address] = f"it has not heard from the quorum for {self._age_ms} ms"
                return False
            if is_first:
                pass
            elif event.HasField("metadata") or event.deleted_topics:
                view = updated(view, event)
            else:
                return True
            self._take(view)
            return True

        await self._log_in(address)
        call = ClusterServiceStub(self.channel(address)).WatchMetadata(GetMetadataRequest())
        await listen(call, take, SILENCE_MAX_S)

    def _take(self, view: ClusterView) -> None:
        """A new view, unless it is of a node that lags behind what is known already: that one catches up."""
        if view.metadata_index < self.view.metadata_index:
            return
        self.view = view
        self._say_with_calls()
        self._changed.set()
        for listener in list(self._listeners):
            listener(view)

    # -- login -----------------------------------------------------------------------------------------------------

    async def _log_in(self, address: str) -> None:
        """Gets a token where there is none, or it is time for another one. Raises OttlaError, AioRpcError."""
        if self._login is None or (self._token is not None and time.monotonic() < self._token.renew_s):
            return
        self._token = await self._login(self.channel(address), address, encrypted=self._tls is not None)
        self._refused = None
        self._say_with_calls()

    async def _stay_logged_in(self) -> None:
        while True:
            await asyncio.sleep(RENEW_LOOK_S)
            if self._home is None or self._token is None:
                continue  # whoever looks for a home node logs in
            try:
                await self._log_in(self._home)
            except (OttlaError, aio.AioRpcError) as error:
                log.warning("no new token: %s", error)
                await asyncio.sleep(REFUSED_S)

    def _look_for_refusal(self, error: aio.AioRpcError, address: str) -> None:
        """A token that a node does not take is forgotten; who has no user cannot log in."""
        refusal = refusal_in(error)
        if refusal is None or refusal.code != pb.ERROR_CODE_SASL_AUTHENTICATION_FAILED:
            return
        if self._login is None:
            self._refuse(
                AuthenticationFailed(
                    f"{address} wants users to log in, and this client has none. Next: give it user and password_file, "
                    f"or set {USER_VARIABLE} and {PASSWORD_FILE_VARIABLE}"
                )
            )
        self._token = None

    def _refuse(self, error: OttlaError) -> None:
        self._refused = error
        self._home = None
        self._changed.set()

    def _say_with_calls(self) -> None:
        said = [(CLUSTER_ID_KEY, self.view.cluster_id)] if self.view.cluster_id else []
        if self.client_id.isascii():
            said.append((CLIENT_ID_KEY, self.client_id))
        if self._token is not None:
            said.append(("authorization", f"Bearer {self._token.text}"))
        self._call_metadata[:] = said

    # -- nodes -----------------------------------------------------------------------------------------------------

    def channel(self, address: str) -> aio.Channel:
        """The one channel to an address."""
        if self._state in ("closed", "inherited"):
            raise life.refusal("client", self._state)
        channel = self._channels.get(address)
        if channel is not None and self._tls is not None and self._tls.is_stale(channel):
            self._tasks.start(channel.close(), "ottla-former-channel")
            channel = None
        if channel is None:
            made = (
                aio.insecure_channel(address, options=CHANNEL_OPTIONS)
                if self._tls is None
                else self._tls.channel(address, CHANNEL_OPTIONS)
            )
            channel = self._channels[address] = cast(aio.Channel, ClusterChannel(made, self._call_metadata))
            if self._tls is not None:
                self._tls.keep(channel)
        return channel

    async def home(self, timeout_s: float = SILENCE_MAX_S * 2) -> str:
        """The address of the node that serves this client. Raises ConnectionFailed if there is none in time."""
        self.check()
        give_up = time.monotonic() + timeout_s
        while self._home is None:
            if isinstance(self._broken, Closed):
                raise life.refusal("client", "broken", self._broken.message)
            if self._broken is not None:
                raise OttlaError(
                    f"this client stopped because of an internal error: {self._broken!r}. Next: make a new one, and "
                    "report this"
                )
            if self._refused is not None:
                raise type(self._refused)(self._refused.message)
            left = give_up - time.monotonic()
            if left <= 0:
                causes = await self._causes()
                said = {a: self._last_errors.get(a, "no answer yet") for a in self._candidates()}
                tried = "; ".join(causes[a].message if a in causes else f"{a}: {text}" for a, text in said.items())
                steps = dict.fromkeys(cause.next_step for cause in causes.values())
                raise ConnectionFailed(
                    f"no node answered within {timeout_s:g} s ({tried}). "
                    f"Next: {'; '.join(steps) or 'check the addresses, and that a node runs'}"
                )
            await self._wait_for_change(left)
            self.check()
        return self._home

    async def _causes(self) -> dict[str, Cause]:
        """What is wrong with certificates, by address, where that is why a node does not answer."""
        suspects = [a for a in self._candidates() if _may_be_tls(self._last_errors.get(a, ""), self._tls is not None)]
        shown = None if self._tls is None else self._tls.shown
        found = await asyncio.gather(*(asyncio.to_thread(diagnose, address, shown) for address in suspects))
        causes = {address: cause for address, cause in zip(suspects, found, strict=True) if cause is not None}
        if self._tls is None:
            asked = await asyncio.gather(*map(_kafkas_port, self._candidates()))
            causes |= {cause.address: cause.why for cause in asked if cause is not None}
        return causes

    def check(self) -> None:
        """Raises Closed if nothing would happen here: it was closed, or it belongs to another process or loop."""
        if self._state != "open":
            raise life.refusal("client", self._state)
        if self._loop is not None and not life.is_running(self._loop, "client"):
            raise life.refusal("client", "broken", "its event loop was closed. Next: close clients before that")

    async def address_for(self, node_id: int) -> str:
        """Where to send what is for a leader: its own address if that answers within a second, else home, which
        forwards. A leader that could not be reached is tried again when it restarts, or after a minute."""
        broker = self.view.brokers.get(node_id)
        if broker is None or broker.fenced:
            return await self.home()
        if broker.address == self._home:
            return broker.address
        key = (node_id, broker.address, broker.broker_epoch)
        if self._unreachable.get(key, 0.0) > time.monotonic():
            return await self.home()
        channel = self.channel(broker.address)
        if not await _is_ready(channel, DIRECT_WAIT_S):
            self._unreachable[key] = time.monotonic() + DIRECT_RETRY_S
            log.info("node %d at %s is out of reach; going through another node", node_id, broker.address)
            return await self.home()
        return broker.address

    async def on_any_node(
        self, call: Callable[[aio.Channel], Awaitable[T]], timeout_ms: int, *, repeatable: bool = True
    ) -> T:
        """Runs a unary call on the home node; where that is lost and the call may be repeated, on the next one, for up
        to `timeout_ms`. Raises OttlaError."""
        give_up = time.monotonic() + timeout_ms / 1000
        while True:
            address = await self.home(max(0.1, give_up - time.monotonic()))
            try:
                return await call(self.channel(address))
            except aio.AioRpcError as error:
                pause_s = _pause_before_repeating(error, repeatable)
                if pause_s is None or time.monotonic() + pause_s >= give_up:
                    raise self._failure_of(error, address, repeatable) from None
            await asyncio.sleep(pause_s)

    async def until_done(
        self,
        call: Callable[[aio.Channel], Awaitable[T]],
        timeout_ms: int,
        errors: Callable[[T], Sequence[pb.Error]],
        *,
        repeatable: bool = True,
    ) -> T:
        """Like `on_any_node`, and asks again while one of an answer's `errors` passes by itself: who leads or
        coordinates may be changing. A call that must not be repeated is only where each of them says that its item was
        not begun. Raises OttlaError with the first that is left."""
        give_up = time.monotonic() + timeout_ms / 1000
        while True:
            answer = await self.on_any_node(call, timeout_ms, repeatable=repeatable)
            found = errors(answer)
            error = next((error for error in found if error.code), None)
            if error is None:
                return answer
            pause_s = max(error.retry_after_ms / 1000, _REPEAT_S)
            may_repeat = error.retriable and (repeatable or all(each.code in _NOT_BEGUN for each in found))
            if not may_repeat or time.monotonic() + pause_s >= give_up:
                raise from_server(error)
            await asyncio.sleep(pause_s)

    def _failure_of(self, error: aio.AioRpcError, address: str, repeatable: bool) -> OttlaError:
        failure = from_call(error, address)
        if refusal_in(error) is None and not repeatable and isinstance(failure, ConnectionFailed):
            failure.message += "; whether the change was made is unknown: look before you repeat it"
        return failure


_started: "WeakSet[Client]" = WeakSet()


def client_for(
    bootstrap: "str | Sequence[str] | Client | None",
    tls: Tls | PathText | None,
    *,
    user: str | None,
    password: str | None,
    password_file: PathText | None,
    client_id: str = "ottla-python",
) -> Client:
    """The client that was given to share, or a new one. Raises ConfigError."""
    if not isinstance(bootstrap, Client):
        return Client(
            bootstrap, client_id=client_id, tls=tls, user=user, password=password, password_file=password_file
        )
    for what, given in (("tls", tls), ("user", user), ("password", password), ("password_file", password_file)):
        if given is not None:
            raise ConfigError(f"{what} is given beside a client that has its own. Next: give it to the client")
    return bootstrap


class _Elsewhere(NamedTuple):
    address: str
    why: Cause


async def _kafkas_port(address: str) -> _Elsewhere | None:
    """Whether a node says that its port is Kafka's: gRPC itself only tries again and again what is closed so."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(DIRECT_WAIT_S):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                writer.write(_PREFACE)
                said = _KAFKAS_PORT.search(await reader.read(1024))
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return None
    if said is None:
        return None
    there = said[1].decode(errors="replace") if said[1] else "100 above by default"
    cause = Cause(
        "KAFKAS_PORT", f"{address} is the port for clients of Kafka, gRPC is at {there}", "give gRPC's address"
    )
    return _Elsewhere(address, cause)


def _may_be_tls(error: str, has_tls: bool) -> bool:
    """A port where nobody listens is no question of certificates, nor is one without TLS that takes no connection."""
    refused = "refused" in error.lower()
    return not refused and (has_tls or "Socket closed" in error or "reset" in error)


def _pause_before_repeating(error: aio.AioRpcError, repeatable: bool) -> float | None:
    """How long to wait before a call is made again; None: it must not be. What a node has no room for it has not begun,
    so that may be repeated whatever it is."""
    refusal = refusal_in(error)
    if refusal is None:
        gone = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        return _REPEAT_S if gone and repeatable else None
    if refusal.retriable and (repeatable or refusal.code == pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED):
        return max(refusal.retry_after_ms / 1000, _REPEAT_S)
    return None


async def _is_ready(channel: aio.Channel, timeout_s: float) -> bool:
    """Whether it connects in time. It is looked at again and again: to wait for a change leaves something behind in
    gRPC that outlives the event loop."""
    give_up = time.monotonic() + timeout_s
    while channel.get_state(try_to_connect=True) is not grpc.ChannelConnectivity.READY:
        if time.monotonic() >= give_up:
            return False
        await asyncio.sleep(_LOOK_S)
    return True


async def _get_topic(name: str, channel: aio.Channel) -> Metadata:
    return await ClusterServiceStub(channel).GetMetadata(GetMetadataRequest(topics=[name]), timeout=5)

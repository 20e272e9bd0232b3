"""The node's metrics, in Prometheus' text format. Counters are bumped on the loop that owns them; gauges are read by
`/metrics` from a snapshot that the data loop makes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from node.log import lines_lost
from node.process import BusyMeter
from ottla.protocol.errors import name_of
from ottla.v1 import error_pb2

BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """What is counted, and the registry that renders it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.busy = BusyMeter()
        self.requests = Counter("ottla_requests", "Requests answered, by RPC.", ["rpc"], registry=self.registry)
        self.request_seconds = Histogram(
            "ottla_request_seconds",
            "Time from a unary request to its answer, waits included.",
            ["rpc"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.errors = Counter(
            "ottla_request_errors",
            "Requests or their parts that were refused.",
            ["rpc", "error"],
            registry=self.registry,
        )
        self.open_streams = Gauge("ottla_open_streams", "Open client streams, by RPC.", ["rpc"], registry=self.registry)
        self.produced_bytes = Counter("ottla_produced_bytes", "Payload bytes received.", registry=self.registry)
        self.fetched_bytes = Counter("ottla_fetched_bytes", "Bytes of batches sent to readers.", registry=self.registry)
        self.forwarded = Counter(
            "ottla_forwarded_requests", "Calls passed on to another node.", ["rpc"], registry=self.registry
        )
        self.isr_shrinks = Counter(
            "ottla_isr_shrinks", "Replicas that left the ISR of a partition led here.", registry=self.registry
        )
        self.isr_expands = Counter("ottla_isr_expands", "Replicas that came back into it.", registry=self.registry)
        self.damage = Counter(
            "ottla_damage_found",
            "Segments with bad batches found on the disk; the node's log names file and offset.",
            registry=self.registry,
        )
        self._refusals: dict[tuple[str, int], Counter] = {}
        self.registry.register(_LinesLost())
        self.groups_unlisted = Gauge(
            "ottla_group_lag_unlisted_groups",
            "Groups coordinated here whose lag is not among these metrics, for there are too many: ask DescribeGroups.",
            registry=self.registry,
        )
        self.loop_lag_seconds = Histogram(
            "ottla_event_loop_lag_seconds",
            "How late a timer of the loop fires.",
            ["loop"],
            buckets=LAG_BUCKETS_S,
            registry=self.registry,
        )

    def served(self, rpc: str) -> None:
        """Called for each RPC of the node. Its counters are there from the start: to Prometheus the first step of one
        that begins with 1 is none. Of errors that holds for what is a bug; others are too many."""
        self.requests.labels(rpc=rpc)
        self.forwarded.labels(rpc=rpc)
        self.errors.labels(rpc=rpc, error=name_of(error_pb2.ERROR_CODE_UNKNOWN_SERVER_ERROR))

    def refused(self, rpc: str, code: int) -> None:
        counter = self._refusals.get((rpc, code))
        if counter is None:  # to look for it costs 5 us, and a request may be refused for each of 20 000 partitions
            counter = self._refusals[rpc, code] = self.errors.labels(rpc=rpc, error=name_of(code))
        counter.inc()

    def damage_found(self) -> None:
        self.damage.inc()

    def add_gauges(self, read: Callable[[], Mapping[str, tuple[str, float | dict[str, float]]]]) -> None:
        """Renders what `read` returns: name -> (help, value, or values by node id)."""
        self.registry.register(_Gauges(read))

    def add_group_lags(self, read: Callable[[], Iterable[tuple[str, str, int, tuple[int, int, int]]]]) -> None:
        """Renders what `read` returns: group, topic, partition, (high watermark, lag in records, lag in ms)."""
        self.registry.register(_GroupLags(read))

    def render(self) -> bytes:
        return generate_latest(self.registry)


class _LinesLost(Collector):
    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            "ottla_log_lines_lost",
            "Lines of the node's logs that could not be written: nobody reads, or the disk is full.",
            value=lines_lost(),
        )


class _Gauges(Collector):
    def __init__(self, read: Callable[[], Mapping[str, tuple[str, float | dict[str, float]]]]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, (text, value) in self._read().items():
            if isinstance(value, dict):
                family = GaugeMetricFamily(name, text, labels=["node"])
                for node, number in value.items():
                    family.add_metric([node], number)
            else:
                family = GaugeMetricFamily(name, text, value=value)
            yield family


class _GroupLags(Collector):
    def __init__(self, read: Callable[[], Iterable[tuple[str, str, int, tuple[int, int, int]]]]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        names = ["group", "topic", "partition"]
        behind = GaugeMetricFamily(
            "ottla_group_lag_records", "By group coordinated here: records between position and end.", labels=names
        )
        late = GaugeMetricFamily(
            "ottla_group_lag_seconds", "By group coordinated here: age of the first unread record.", labels=names
        )
        for group, topic, partition, (_, records, ms) in self._read():
            behind.add_metric([group, topic, str(partition)], records)
            late.add_metric([group, topic, str(partition)], ms / 1000)
        yield behind
        yield late

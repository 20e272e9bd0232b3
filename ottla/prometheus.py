"""Metrics of producers and consumers for prometheus_client (`pip install 'ottla[prometheus]'`).

    from prometheus_client import REGISTRY, start_http_server
    REGISTRY.register(ClientCollector(orders=producer, billing=consumer))
    start_http_server(8000)

What a name means is in docs/observability-client.md; the nodes' own metrics are at their /metrics.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from ottla.client.errors import ConfigError
from ottla.client.metrics import LATENCY_BOUNDS_MS, ConsumerMetrics, ProducerMetrics

if TYPE_CHECKING:
    import ottla
    import ottla.sync

    Observed = ottla.Producer | ottla.Consumer | ottla.sync.Producer | ottla.sync.Consumer

__all__ = ["ClientCollector"]

_PRODUCER_COUNTERS: Final = {
    "records_acknowledged": "Records that the cluster has acknowledged.",
    "bytes_acknowledged": "Their encoded size, before compression.",
    "batches_acknowledged": "The batches that they were in.",
    "retries": "Attempts to send a batch after its first.",
    "buffer_waits": "Calls of send that found the buffer full.",
}
_PRODUCER_GAUGES: Final = {
    "buffered_records": "Records that wait to be acknowledged.",
    "buffered_bytes": "What they take of buffer_memory.",
}
_CONSUMER_COUNTERS: Final = {
    "records_consumed": "Records that were handed out.",
    "bytes_fetched": "Bytes of batches that leaders sent, as they are stored.",
    "fetches": "Answers of leaders about a partition that had batches.",
    "deserialization_failures": "Records met that could not be deserialized.",
    "commits": "Commits of positions that the group has stored.",
    "commits_failed": "Commits that failed; their positions are in a later one.",
    "rebalances": "Assignments of the group that were carried out.",
}


class ClientCollector:
    """Tells the metrics of producers and consumers, each under its name in this process, as label `client`.

    It reads counters, asks nobody and may be asked from any thread, also after what it observes was closed. Raises
    ConfigError where prometheus_client is not installed.
    """

    def __init__(self, **clients: "Observed") -> None:
        for name, client in clients.items():
            if not callable(getattr(client, "metrics", None)):
                raise ConfigError(f"{name} is neither a producer nor a consumer but {type(client).__name__}")
        _core()
        self._clients = clients

    def collect(self) -> Iterator[Any]:
        """The families, for a registry of prometheus_client."""
        core = _core()
        told = {name: client.metrics() for name, client in self._clients.items()}
        producers = {name: said for name, said in told.items() if isinstance(said, ProducerMetrics)}
        consumers = {name: said for name, said in told.items() if isinstance(said, ConsumerMetrics)}
        for of, kind, made in (
            (_PRODUCER_COUNTERS, "producer", core.CounterMetricFamily),
            (_PRODUCER_GAUGES, "producer", core.GaugeMetricFamily),
            (_CONSUMER_COUNTERS, "consumer", core.CounterMetricFamily),
            ({"buffered_bytes": "What was read ahead."}, "consumer", core.GaugeMetricFamily),
        ):
            those: dict[str, Any] = dict(producers if kind == "producer" else consumers)
            for field, text in of.items():
                family = made(f"ottla_{kind}_{field}", text, labels=["client"])
                for name, said in those.items():
                    family.add_metric([name], getattr(said, field))
                if those:
                    yield family
        if producers:
            yield from self._of_producers(core, producers)
        if consumers:
            yield self._lag(core, consumers)

    @staticmethod
    def _of_producers(core: Any, producers: dict[str, ProducerMetrics]) -> Iterator[Any]:
        failed = core.CounterMetricFamily(
            "ottla_producer_records_failed",
            "Records that failed, by the name of the error.",
            labels=["client", "error"],
        )
        latency = core.HistogramMetricFamily(
            "ottla_producer_acknowledge_seconds",
            "From the first record of a batch to its acknowledgement, for each record.",
            labels=["client"],
        )
        bounds = [*(str(bound / 1000) for bound in LATENCY_BOUNDS_MS), "+Inf"]
        for name, said in producers.items():
            for error, count in said.failures.items():
                failed.add_metric([name, error], count)
            buckets = list(zip(bounds, accumulate(said.latency_records), strict=True))
            latency.add_metric([name], buckets=buckets, sum_value=said.latency_ms_sum / 1000)
        yield failed
        yield latency

    @staticmethod
    def _lag(core: Any, consumers: dict[str, ConsumerMetrics]) -> Any:
        family = core.GaugeMetricFamily(
            "ottla_consumer_lag_records",
            "Records between the position and the end of a partition, as of the last answer of its leader.",
            labels=["client", "topic", "partition"],
        )
        for name, said in consumers.items():
            for (topic, partition), lag in said.lag.items():
                if lag is not None:
                    family.add_metric([name, topic, str(partition)], lag)
        return family


def _core() -> Any:
    try:
        from prometheus_client import core
    except ImportError:
        raise ConfigError(
            "prometheus_client, for which metrics are told, is not installed. Next: `pip install 'ottla[prometheus]'`"
        ) from None
    return core

"""Counters are there before anything is counted: to Prometheus a series that is born at 1 never rose."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from node.metrics import Metrics
from node.services import listener
from ottla.v1 import data_pb2

DATA = data_pb2.DESCRIPTOR.services_by_name["DataService"]


async def _handler(*_: object) -> None:
    return None


async def test_every_counter_is_there_at_0() -> None:
    metrics = Metrics()
    server = listener.make_server(2**20)
    listener.add_service(server, DATA, dict.fromkeys([method.name for method in DATA.methods], _handler), metrics)
    found = {
        family.name: [sample.value for sample in family.samples if sample.name.endswith("_total")]
        for family in text_string_to_metric_families(metrics.render().decode())
        if family.type == "counter"
    }
    assert "ottla_damage_found" in found
    assert all(values and not any(values) for values in found.values()), found
    assert len(found["ottla_requests"]) == len(found["ottla_forwarded_requests"]) == len(DATA.methods)


def test_every_counter_that_an_alert_names_is_there_at_0(repository: Path) -> None:
    alerts = (repository / "deploy/prometheus/alerts.yml").read_text()
    named = set(re.findall(r"\bottla_[a-z_]+_total\b", alerts))
    assert named
    lines = Metrics().render().decode().splitlines()
    assert [name for name in named if f"{name} 0.0" not in lines] == []

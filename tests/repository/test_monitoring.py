"""The alerts and the dashboard ask for metrics that the nodes have."""

import json
import re
from pathlib import Path

METRIC = re.compile(r"\bottla_[a-z_]+\b")


def test_every_metric_asked_for_exists(repository: Path) -> None:
    served = {name for path in (repository / "node").rglob("*.py") for name in METRIC.findall(path.read_text())}
    asked = {
        re.sub(r"_(?:total|bucket|sum|count)$", "", name)
        for path in ("prometheus/alerts.yml", "grafana/dashboards/ottla.json")
        for name in METRIC.findall((repository / "deploy" / path).read_text())
    }
    assert asked
    assert asked - served == set()


def test_panels_do_not_overlap(repository: Path) -> None:
    dashboard = json.loads((repository / "deploy/grafana/dashboards/ottla.json").read_text())
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {"prometheus"}

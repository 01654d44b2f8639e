"""The queries of infra/monitoring, as Prometheus gets them."""

import json
from collections.abc import Iterator
from typing import Any

import yaml

from tests.infra.tools import INFRA


def rules() -> list[dict[str, Any]]:
    """All recording and alert rules."""
    groups = yaml.safe_load((INFRA / "monitoring/rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Panel title and query, with Grafana's variables filled in as it would."""
    dashboard = json.loads((INFRA / "monitoring/dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in (("$output", ".*"), ("$__rate_interval", "1m"), ("$__range", "6h")):
                expression = expression.replace(name, value)
            yield panel["title"], expression

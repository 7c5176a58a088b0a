"""Alerts, dashboard and scrape rules: what they ask for is in the server's own /metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import promql_parser
import pytest
import yaml

from server.config import Limits
from tests.harness.redis_server import RedisServer
from tests.harness.server_process import REPOSITORY, ServerProcess

FOLDER = REPOSITORY / "deploy" / "monitoring"
OF_PROMETHEUS = {"up"}
"""Made by Prometheus itself for each address that it scrapes."""


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in /metrics of a node with a bus, counters by code included before they have counted."""
    folder = tmp_path_factory.mktemp("node")
    with (
        RedisServer(folder) as redis,
        ServerProcess(folder / "data", "--bus", redis.url) as node,
        urlopen(f"{node.url}/metrics", timeout=60) as response,
    ):
        text = response.read().decode()
    return set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return board


def queries() -> dict[str, str]:
    """Every expression, by where it is."""
    alerts = {rule["alert"]: rule["expr"] for rule in rules()}
    panels = {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "5m")
        for panel in dashboard()["panels"]
        for target in panel["targets"]
    }
    return alerts | panels


def names(query: str) -> set[str]:
    """The metrics in the query. Raises `ValueError` when it is no PromQL."""
    found: set[str | None] = set()

    def visit(expr: promql_parser.Expr) -> None:
        if isinstance(expr, promql_parser.VectorSelector):
            found.add(expr.name)

    promql_parser.walk(promql_parser.parse(query), visit)
    assert None not in found, "a selector of labels alone"
    return {name for name in found if name}


@pytest.mark.parametrize(("where", "query"), queries().items(), ids=queries())
def test_what_is_asked_for_is_measured(metrics: set[str], where: str, query: str) -> None:
    asked = names(query)
    assert asked
    assert asked <= metrics | OF_PROMETHEUS


def test_a_query_that_does_not_parse_is_noticed_and_every_name_in_one_that_does() -> None:
    assert names("sum(rate(a[5m])) / on() b > 0.5 * c") == {"a", "b", "c"}
    with pytest.raises(ValueError, match="unclosed"):
        names("sum(rate(a[5m])")


def test_what_the_manual_recommends_has_an_alert() -> None:
    manual = (REPOSITORY / "docs" / "operations.md").read_text().partition("## Watching it")[2].partition("\n## ")[0]
    worth = manual.partition("Worth an alert:")[2].partition("\n\n")[0]
    recommended = {name for name in re.findall(r"`(\w+)`", worth) if re.match(r"ebbtide_|process_", name)}
    assert len(recommended) >= 5
    assert recommended <= {name for rule in rules() for name in names(rule["expr"])}


def test_every_alert_says_how_bad_it_is_and_what_it_means() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]


def test_the_alert_on_pending_bytes_knows_the_default_of_the_limit() -> None:
    (rule,) = (rule for rule in rules() if "ebbtide_pending_bytes" in rule["expr"])
    assert rule["expr"] == f"ebbtide_pending_bytes > 0.75 * {Limits().max_pending_bytes >> 20} * 1024 * 1024"


def test_the_autoscaler_is_served_a_metric_that_is_measured(metrics: set[str]) -> None:
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    (sockets,) = (
        metric["pods"]["metric"]["name"]
        for metric in yaml.safe_load((REPOSITORY / "deploy/kubernetes/base/scaling.yaml").read_text())["spec"]["metrics"]
        if metric["type"] == "Pods"
    )
    assert re.fullmatch(rule["name"]["matches"], sockets)
    assert rule["name"]["as"] == sockets
    assert names(rule["seriesQuery"]) == {sockets}
    assert sockets in metrics
    # What the rule maps to a pod has to be set where pods are scraped.
    labels = set(re.findall(r'(\w+)!=""', rule["seriesQuery"]))
    (job,) = yaml.safe_load((FOLDER / "scrape-kubernetes.yaml").read_text())["scrape_configs"]
    assert labels == {each["target_label"] for each in job["relabel_configs"] if "target_label" in each}
    assert labels == rule["resources"]["overrides"].keys()


def test_what_is_scraped_is_what_runs() -> None:
    def job(path: Path) -> dict[str, Any]:
        (found,) = yaml.safe_load(path.read_text())["scrape_configs"]
        return dict(found)

    compose, cluster = (job(FOLDER / f"scrape-{name}.yaml") for name in ("compose", "kubernetes"))
    # The alerts ask for this job.
    assert compose["job_name"] == cluster["job_name"] == "ebbtide"
    services = yaml.safe_load((REPOSITORY / "deploy/compose.yaml").read_text())["services"]
    assert {target.partition(":")[0] for target in compose["static_configs"][0]["targets"]} <= services.keys()
    kept = {each["source_labels"][0]: each["regex"] for each in cluster["relabel_configs"] if each.get("action") == "keep"}
    pod = yaml.safe_load((REPOSITORY / "deploy/kubernetes/base/deployment.yaml").read_text())["spec"]["template"]
    assert kept == {
        "__meta_kubernetes_pod_label_app_kubernetes_io_name": pod["metadata"]["labels"]["app.kubernetes.io/name"],
        "__meta_kubernetes_pod_container_port_name": pod["spec"]["containers"][0]["ports"][0]["name"],
    }


def test_the_dashboard_has_a_place_and_a_source_for_each_panel() -> None:
    panels = dashboard()["panels"]
    (variable,) = dashboard()["templating"]["list"]
    places = [(x, y) for panel in panels for x, y in cells(panel["gridPos"])]
    assert len(places) == len(set(places)), "two panels overlap"
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["datasource"]["uid"] == f"${{{variable['name']}}}" for panel in panels)


def cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        assert x < 24, "Grafana's grid has 24 columns"
        for y in range(place["y"], place["y"] + place["h"]):
            yield x, y

from __future__ import annotations

from dataclasses import fields

from prometheus_client.parser import text_string_to_metric_families

from server.figures import Figure
from server.metrics import CONTENT_TYPE, Counters, Metrics


def scraped(metrics: Metrics) -> dict[str, tuple[str, str, float]]:
    """Type, help and value by sample name, as Prometheus' own parser reads them."""
    return {
        sample.name: (family.type, family.documentation, sample.value)
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def by_code(metrics: Metrics, name: str) -> dict[str, float]:
    """The values of a metric by its one label."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {each.labels["code"]: each.value for family in families for each in family.samples if each.name == name}


def test_counters_are_read_when_somebody_asks() -> None:
    counters = Counters()
    metrics = Metrics(counters)
    assert scraped(metrics)["ebbtide_frames_received_total"][2] == 0
    counters.frames_received += 3
    assert scraped(metrics)["ebbtide_frames_received_total"] == ("counter", "WebSocket messages from clients.", 3)


def test_every_counter_is_shown_with_its_help() -> None:
    counters = Counters()
    counters.sockets_closed["4401"] += 1
    counters.documents_denied["forbidden"] += 1
    counters.requests_refused["forbidden"] += 1
    shown = scraped(Metrics(counters))
    for each in fields(Counters):
        kind, help_, _ = shown[f"ebbtide_{each.name}_total"]
        assert (kind, help_) == ("counter", each.metadata["help"])


def test_levels_and_totals_are_read_through_what_was_registered() -> None:
    metrics = Metrics(Counters())
    level = [1]
    metrics.gauge("rooms", "Open documents.", lambda: level[0])
    metrics.total("commits", "Transactions.", lambda: 10 * level[0])
    level[0] = 2
    shown = scraped(metrics)
    assert shown["ebbtide_rooms"] == ("gauge", "Open documents.", 2)
    assert shown["ebbtide_commits_total"] == ("counter", "Transactions.", 20)


def test_figures_that_a_part_says_of_itself_are_shown_by_their_kind() -> None:
    metrics = Metrics(Counters())
    metrics.show([Figure("open", "Whether it is open.", lambda: True), Figure("dropped", "Lost.", lambda: 3, total=True)])
    shown = scraped(metrics)
    assert shown["ebbtide_open"] == ("gauge", "Whether it is open.", 1)
    assert shown["ebbtide_dropped_total"] == ("counter", "Lost.", 3)


def test_refusals_are_told_apart_by_their_code() -> None:
    counters = Counters()
    metrics = Metrics(counters)
    assert by_code(metrics, "ebbtide_sockets_closed_total") == {}
    counters.sockets_closed["4401"] += 2
    counters.sockets_closed["4403"] += 1
    assert by_code(metrics, "ebbtide_sockets_closed_total") == {"4401": 2, "4403": 1}


def test_two_servers_in_a_process_do_not_mix() -> None:
    one, other = Counters(), Counters()
    metrics = Metrics(one), Metrics(other)
    one.pushes = 5
    assert [scraped(each)["ebbtide_pushes_total"][2] for each in metrics] == [5, 0]


def test_the_content_type_names_the_format() -> None:
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")

"""The dashboards, a line a panel: title, unit, and queries with the legend of their series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

WINDOW: Final = "1m"
"""Of rates: Ray hands values on every 10 s."""
COLUMNS: Final = 2
HEIGHT: Final = 8
GRID: Final = 24


class Panel(NamedTuple):
    """``queries``: PromQL -> legend. ``unit``: Grafana's."""

    title: str
    unit: str
    queries: Mapping[str, str]


def _rate(metric: str, by: str = "", where: str = "") -> str:
    summed = f"sum by ({by}) " if by else "sum"
    return f"{summed}(rate(ray_sugar_{metric}{where}[{WINDOW}]))"


def _quantile(share: float, metric: str, by: str = "") -> str:
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({share}, sum by ({labels}) (rate(ray_sugar_{metric}_bucket[{WINDOW}])))"


DASHBOARDS: Final[Mapping[str, tuple[str, Sequence[Panel]]]] = {
    "overview": ("Sugar: platform", (
        Panel("API ready, actors and servers down", "short", {
            "min(ray_sugar_api_ready)": "ready", "count(ray_sugar_actor_up) - sum(ray_sugar_actor_up)": "actors down",
            "count(ray_sugar_server_up) - sum(ray_sugar_server_up)": "servers down",
        }),
        Panel("Replicas by state", "short", {"ray_sugar_replicas": "{{state}}"}),
        Panel("Requests by status", "reqps", {_rate("http_requests_total", "status"): "{{status}}"}),
        Panel("Requests by route", "reqps", {f"topk(10, {_rate('http_requests_total', 'route')})": "{{route}}"}),
        Panel("Latency of all routes", "s", {
            _quantile(0.5, "http_request_seconds"): "p50", _quantile(0.99, "http_request_seconds"): "p99",
        }),
        Panel("p99 by route", "s", {f"topk(10, {_quantile(0.99, 'http_request_seconds', 'route')})": "{{route}}"}),
        Panel("Requests in flight", "short", {"sum by (replica) (ray_sugar_http_requests_in_flight)": "{{replica}}"}),
        Panel("Memory of actors", "bytes", {"ray_sugar_actor_memory_bytes": "{{actor}}"}),
        Panel("Memory of servers", "bytes", {"ray_sugar_server_memory_bytes": "{{server}}"}),
        Panel("Restarts and replacements in an hour", "short", {
            "increase(ray_sugar_server_restarts_total[1h])": "{{server}}",
            "increase(ray_sugar_actor_replaced_total[1h])": "{{actor}}",
        }),
        Panel("Waiting for moderators", "short", {"max by (of) (ray_sugar_moderation)": "{{of}}"}),
    )),
    "shards": ("Sugar: shards and cards", (
        Panel("Commands a call: the batch size", "short", {
            f"{_rate('actor_commands_total', 'actor')} / {_rate('actor_calls_total', 'actor')}": "{{actor}}",
        }),
        Panel("Commands", "reqps", {_rate("actor_commands_total", "actor"): "{{actor}}"}),
        Panel("Entries in memory", "short", {"ray_sugar_shard_entries": "{{actor}} {{service}}"}),
        Panel("Memory", "bytes", {"ray_sugar_actor_memory_bytes": "{{actor}}"}),
        Panel("Events appended", "short", {_rate("shard_appended_total", "service"): "{{service}}"}),
        Panel("Turns", "short", {_rate("shard_turns_total", "service"): "{{service}}"}),
        Panel("Last restore", "s", {"ray_sugar_actor_restore_seconds": "{{actor}}"}),
        Panel("Late appends and likes not delivered", "short", {
            "sum by (actor) (ray_sugar_shard_unsettled)": "{{actor}} unsettled", "ray_sugar_swipes_undelivered": "{{actor}} undelivered",
        }),
        Panel("Decks", "reqps", {_rate("card_queries_total", "actor"): "{{actor}}"}),
        Panel("A deck's stages", "s", {
            f"{_rate('card_stage_seconds_total', 'stage')} / scalar({_rate('card_queries_total')})": "{{stage}}",
        }),
        Panel("Model that ranks", "short", {"count by (version) (ray_sugar_ranking_model)": "{{version}}"}),
        Panel("Models that cannot be loaded", "short", {"ray_sugar_ranking_models_refused": "{{actor}}"}),
        Panel("Inequality of exposure", "percentunit", {"ray_sugar_exposure_gini": "{{model}}"}),
    )),
    "data-flow": ("Sugar: data flow", (
        Panel("Records behind", "short", {"sum by (consumer) (ray_sugar_consumer_lag_records)": "{{consumer}}"}),
        Panel("Records behind by topic", "short", {"topk(10, sum by (topic) (ray_sugar_consumer_lag_records))": "{{topic}}"}),
        Panel("Records consumed", "short", {_rate("consumer_records_total", "consumer"): "{{consumer}}"}),
        Panel("Records a commit", "short", {
            f"{_rate('consumer_records_total', 'consumer')} / {_rate('consumer_commits_total', 'consumer')}": "{{consumer}}",
        }),
        Panel("Time to commit", "s", {
            _quantile(0.5, "consumer_commit_seconds"): "p50", _quantile(0.99, "consumer_commit_seconds"): "p99",
        }),
        Panel("Consumers that do not run", "short", {"count by (consumer) (ray_sugar_consumer_up) - sum by (consumer) (ray_sugar_consumer_up)": "{{consumer}}"}),
        Panel("Dead letters that wait", "short", {"sum(ray_sugar_dead_letters)": "all", "topk(10, ray_sugar_dead_letters)": "{{topic}}"}),
        Panel("Topics stopped by dead letters", "short", {"sum by (writer, consumer) (ray_sugar_consumer_topics_stopped)": "{{writer}} {{consumer}}"}),
        Panel("Events stored", "short", {f"topk(10, {_rate('events_stored_total', 'type')})": "{{type}}"}),
        Panel("Work of replicas on Redis", "short", {
            _rate("replica_work_total", "work, of", '{work=~"redis_.*|write_through|warm_calls"}'): "{{work}} {{of}}",
        }),
    )),
    "realtime": ("Sugar: realtime", (
        Panel("Sockets", "short", {"ray_sugar_sockets": "{{gateway}}", "sum(ray_sugar_sockets)": "all"}),
        Panel("People, channels, slow sockets", "short", {"sum by (of) (ray_sugar_gateway_state)": "{{of}}"}),
        Panel("Frames", "short", {_rate("gateway_work_total", "of", '{of=~"frames|heard|told"}'): "{{of}}"}),
        Panel("Closed as too slow, cut for a flood, refused", "short", {_rate("gateway_work_total", "gateway, of", '{of=~"overflowed|flooded|refused"}'): "{{gateway}} {{of}}"}),
        Panel("Memory", "bytes", {'ray_sugar_actor_memory_bytes{actor=~"gateway-.*"}': "{{actor}}"}),
        Panel("Messages stored", "short", {_rate("events_stored_total", "type", '{type=~"message_.*"}'): "{{type}}"}),
        Panel("Pushes", "short", {"sum by (provider, of) (ray_sugar_push)": "{{provider}} {{of}}"}),
    )),
    "payments": ("Sugar: payments", (
        Panel("Payments by outcome", "short", {
            _rate("events_stored_total", "type", '{type=~"payment_(requested|succeeded|failed|abandoned)|invoice_.*"}'): "{{type}}",
        }),
        Panel("Refunds and disputes in a day", "short", {
            'sum by (type) (increase(ray_sugar_events_stored_total{type=~"refunded|dispute_.*"}[1d]))': "{{type}}",
        }),
        Panel("Webhooks", "short", {_rate("outcomes_total", "of", '{consumer="payments"}'): "{{of}}"}),
        Panel("Looking for lost webhooks", "short", {_rate("outcomes_total", "of", '{consumer="payment_polling"}'): "{{of}}"}),
        Panel("Webhooks behind", "short", {'sum(ray_sugar_consumer_lag_records{consumer="payments"})': "records"}),
        Panel("Payouts", "short", {_rate("events_stored_total", "type", '{type=~"payout_.*"}'): "{{type}}"}),
        Panel("To be made by hand", "short", {"max by (of) (ray_sugar_by_hand)": "{{of}}"}),
        Panel("The oldest of them", "s", {"max by (of) (ray_sugar_by_hand_oldest_seconds)": "{{of}}"}),
    )),
}


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, Grafana's document) of each dashboard."""
    for name, (title, panels) in DASHBOARDS.items():
        yield name, {
            "uid": f"sugar-{name}", "title": title, "tags": ["sugar"], "timezone": "browser", "schemaVersion": 39, "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "templating": {"list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]},
            "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
        }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    width = GRID // COLUMNS
    return {
        "id": number + 1, "type": "timeseries", "title": panel.title, "datasource": source,
        "gridPos": {"h": HEIGHT, "w": width, "x": number % COLUMNS * width, "y": number // COLUMNS * HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": source, "expr": query, "legendFormat": legend}
            for place, (query, legend) in enumerate(panel.queries.items())
        ],
    }

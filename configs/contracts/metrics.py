"""Every figure that the platform exports: its name, its labels and what it says.

Ray puts ``ray_`` before the names (``exported``). All of them are gauges there, counters too: their values are absolute,
so ``rate()`` works as always and a restarted process begins at 0.
"""

from __future__ import annotations

from typing import Final, NamedTuple

PREFIX: Final = "ray_"
BUCKET: Final = "le"


class Metric(NamedTuple):
    """``labels`` are the same in every sample."""

    name: str
    labels: tuple[str, ...]
    help: str


class Sample(NamedTuple):
    """One value now; ``values`` stand in the order of the metric's labels."""

    metric: Metric
    values: tuple[str, ...]
    value: float


def exported(name: str) -> str:
    """The name under which Prometheus finds a metric."""
    return PREFIX + name


# Replicas of the API.
REQUESTS: Final = Metric("sugar_http_requests_total", ("replica", "route", "status"), "Requests answered.")
REQUEST_SECONDS: Final = Metric("sugar_http_request_seconds_bucket", ("replica", "route", "le"), "Requests by latency.")
REQUEST_SECONDS_SUM: Final = Metric("sugar_http_request_seconds_sum", ("replica", "route"), "Time spent in requests.")
IN_FLIGHT: Final = Metric("sugar_http_requests_in_flight", ("replica",), "Requests being answered.")
REPLICA_TOTALS: Final = Metric(
    "sugar_replica_work_total", ("replica", "work", "of"), "What a replica did beside answering: reads, warmings, calls."
)
REPLICA_NOW: Final = Metric("sugar_replica_state", ("replica", "what", "of"), "What a replica holds now.")
# Actors: shards, writers, loader, gateways.
ACTOR_UP: Final = Metric("sugar_actor_up", ("actor",), "1: answers and is ready.")
ACTOR_REPLACED: Final = Metric("sugar_actor_replaced_total", ("actor",), "Times the keeper replaced it.")
ACTOR_RESTORE: Final = Metric("sugar_actor_restore_seconds", ("actor",), "What its last restore took.")
ACTOR_MEMORY: Final = Metric("sugar_actor_memory_bytes", ("actor",), "Resident memory.")
ACTOR_CALLS: Final = Metric("sugar_actor_calls_total", ("actor",), "Calls taken; commands over calls is the batch size.")
ACTOR_COMMANDS: Final = Metric("sugar_actor_commands_total", ("actor",), "Commands taken.")
SHARD_ENTRIES: Final = Metric("sugar_shard_entries", ("actor", "service"), "Keys in memory.")
SHARD_APPENDED: Final = Metric("sugar_shard_appended_total", ("actor", "service"), "Events appended.")
SHARD_TURNS: Final = Metric("sugar_shard_turns_total", ("actor", "service"), "Turns; appended over turns is the append's size.")
SHARD_UNSETTLED: Final = Metric("sugar_shard_unsettled", ("actor", "service"), "1: an append is late and new work is refused.")
UNDELIVERED: Final = Metric("sugar_swipes_undelivered", ("actor",), "Likes that their pair's authority has not taken yet.")
CARD_QUERIES: Final = Metric("sugar_card_queries_total", ("actor",), "Decks generated.")
CARD_STAGE: Final = Metric("sugar_card_stage_seconds_total", ("actor", "stage"), "CPU time of each stage of a deck.")
MODEL: Final = Metric("sugar_ranking_model", ("actor", "version"), "1: the model that ranks by default.")
MODELS_REFUSED: Final = Metric("sugar_ranking_models_refused", ("actor",), "Models that this actor cannot load.")
GINI: Final = Metric("sugar_exposure_gini", ("model",), "Inequality of exposure in the newest responses: 0 even, 1 one person has all.")
SOCKETS: Final = Metric("sugar_sockets", ("gateway",), "Open sockets.")
GATEWAY_NOW: Final = Metric("sugar_gateway_state", ("gateway", "of"), "What a gateway holds: people, channels, slow sockets.")
GATEWAY_WORK: Final = Metric("sugar_gateway_work_total", ("gateway", "of"), "What a gateway has done: frames, told, overflowed, flooded, refused.")
# Writers.
CONSUMED: Final = Metric("sugar_consumer_records_total", ("writer", "consumer"), "Records consumed; over commits it is a commit's size.")
COMMITS: Final = Metric("sugar_consumer_commits_total", ("writer", "consumer"), "Batches committed.")
COMMIT_SECONDS: Final = Metric("sugar_consumer_commit_seconds_bucket", ("writer", "consumer", "le"), "Batches by time to commit.")
COMMIT_SECONDS_SUM: Final = Metric("sugar_consumer_commit_seconds_sum", ("writer", "consumer"), "Time spent in commits.")
CONSUMER_UP: Final = Metric("sugar_consumer_up", ("writer", "consumer"), "1: it reads and commits.")
TOPICS_STOPPED: Final = Metric("sugar_consumer_topics_stopped", ("writer", "consumer"), "Topics read no further: too many dead letters.")
STORED: Final = Metric("sugar_events_stored_total", ("writer", "type"), "Events stored by type; a payment fact's type is its outcome.")
OUTCOMES: Final = Metric("sugar_outcomes_total", ("writer", "consumer", "of"), "What became of mails, media, webhooks, payments looked for.")
PUSH: Final = Metric("sugar_push", ("writer", "provider", "of"), "Pushes by what became of them; of stopped, 1: keys refused.")
# The platform.
LAG: Final = Metric("sugar_consumer_lag_records", ("consumer", "topic"), "Records appended and not consumed.")
DEAD_LETTERS: Final = Metric("sugar_dead_letters", ("topic",), "Dead letters that wait.")
MODERATION: Final = Metric("sugar_moderation", ("of",), "Reports and appeals that wait; overdue ones are an alarm.")
BY_HAND: Final = Metric("sugar_by_hand", ("of",), "Payouts that staff has to make, and refunds that a bank sent back.")
BY_HAND_OLDEST: Final = Metric("sugar_by_hand_oldest_seconds", ("of",), "Since when the oldest of them waits.")
API_READY: Final = Metric("sugar_api_ready", (), "1: /ready answers 200.")
REPLICAS: Final = Metric("sugar_replicas", ("state",), "API replicas by state.")
SERVER_UP: Final = Metric("sugar_server_up", ("server",), "1: the process that the supervisor started runs.")
SERVER_RESTARTS: Final = Metric("sugar_server_restarts_total", ("server",), "Times the supervisor restarted it.")
SERVER_MEMORY: Final = Metric("sugar_server_memory_bytes", ("server",), "Resident memory, its children's included.")

METRICS: Final = (
    REQUESTS, REQUEST_SECONDS, REQUEST_SECONDS_SUM, IN_FLIGHT, REPLICA_TOTALS, REPLICA_NOW,
    ACTOR_UP, ACTOR_REPLACED, ACTOR_RESTORE, ACTOR_MEMORY, ACTOR_CALLS, ACTOR_COMMANDS, SHARD_ENTRIES, SHARD_APPENDED,
    SHARD_TURNS, SHARD_UNSETTLED, UNDELIVERED, CARD_QUERIES, CARD_STAGE, MODEL, MODELS_REFUSED, GINI, SOCKETS, GATEWAY_NOW,
    GATEWAY_WORK,
    CONSUMED, COMMITS, COMMIT_SECONDS, COMMIT_SECONDS_SUM, CONSUMER_UP, TOPICS_STOPPED, STORED, OUTCOMES, PUSH,
    LAG, DEAD_LETTERS, MODERATION, BY_HAND, BY_HAND_OLDEST, API_READY, REPLICAS, SERVER_UP, SERVER_RESTARTS, SERVER_MEMORY,
)

"""The figures of the whole platform as the runtime knows them: from the answers to its probes, state and report.

Actors only count; nothing of this runs in them. Replicas export their own (serve_apps/metrics.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from cluster.launch.report import READY, ActorReport, Report
from cluster.launch.state import ServerStatus
from configs.contracts import metrics
from configs.contracts.metrics import Sample
from writers.loads.log import ROWS

GATEWAY_STATE: Final = ("people", "nameless", "channels", "watched", "slow")
GATEWAY_WORK: Final = ("frames", "heard", "told", "overflowed", "flooded", "refused")
APART: Final = frozenset({"services", "gateway", "stored"})
"""What an actor says of itself that is neither a consumer nor work in the background."""
NO_OUTCOMES: Final = frozenset({"records", "commits", "epoch"})
"""Numbers that every consumer says of itself and that have metrics of their own."""


def platform_samples(report: Report, servers: Iterable[ServerStatus]) -> Iterator[Sample]:
    """Every figure of the platform but the replicas'."""
    for actor in report.actors:
        yield from _actor(actor)
    for consumer, topics in report.lag.items():
        for topic, records in topics.items():
            yield Sample(metrics.LAG, (consumer, topic), records)
    none = dict.fromkeys(report.lag.get(ROWS, {}), 0)
    for topic, waiting in (none | report.dead_letters).items():
        yield Sample(metrics.DEAD_LETTERS, (topic,), waiting)
    for of, count in report.moderation.items():
        yield Sample(metrics.MODERATION, (of,), count)
    for of, waits in report.by_hand.items():
        yield Sample(metrics.BY_HAND, (of,), waits["waiting"])
        yield Sample(metrics.BY_HAND_OLDEST, (of,), waits["oldest_s"])
    for model, gini in report.exposure_gini.items():
        yield Sample(metrics.GINI, (model,), gini)
    yield Sample(metrics.API_READY, (), report.api == READY)
    states = Counter(replica.state.rpartition(".")[2].lower() for replica in report.replicas)
    for state in {"running", *states}:
        yield Sample(metrics.REPLICAS, (state,), states[state])
    for server in servers:
        yield Sample(metrics.SERVER_UP, (server.name,), server.runs)
        yield Sample(metrics.SERVER_RESTARTS, (server.name,), server.restarts)
        yield Sample(metrics.SERVER_MEMORY, (server.name,), server.memory_mib << 20)


def _actor(actor: ActorReport) -> Iterator[Sample]:
    name, said = actor.name, actor.figures
    yield Sample(metrics.ACTOR_UP, (name,), actor.answers and actor.ready)
    yield Sample(metrics.ACTOR_REPLACED, (name,), actor.replaced)
    if not actor.answers:
        return  # what it last said is not what it holds
    for key, metric in (
        ("restore_s", metrics.ACTOR_RESTORE), ("memory_bytes", metrics.ACTOR_MEMORY), ("calls", metrics.ACTOR_CALLS),
        ("commands", metrics.ACTOR_COMMANDS),
    ):
        if key in said:
            yield Sample(metric, (name,), said[key])
    for service, facts in said.get("services", {}).items():
        yield from _service(name, service, facts)
    gateway = said.get("gateway")
    if gateway:
        yield Sample(metrics.SOCKETS, (name,), gateway["sockets"])
        yield from (Sample(metrics.GATEWAY_NOW, (name, of), gateway[of]) for of in GATEWAY_STATE)
        yield from (Sample(metrics.GATEWAY_WORK, (name, of), gateway[of]) for of in GATEWAY_WORK)
    for consumer, facts in said.items():
        if not isinstance(facts, Mapping) or consumer in APART:
            continue
        yield from _consumer(name, consumer, facts) if "commits" in facts else _outcomes(name, consumer, facts)
    for kind, count in said.get("stored", {}).items():
        yield Sample(metrics.STORED, (name, kind), count)


def _service(actor: str, service: str, facts: Mapping[str, Any]) -> Iterator[Sample]:
    for key, metric in (
        ("entries", metrics.SHARD_ENTRIES), ("appended", metrics.SHARD_APPENDED), ("turns", metrics.SHARD_TURNS),
        ("unsettled", metrics.SHARD_UNSETTLED),
    ):
        if key in facts:
            yield Sample(metric, (actor, service), facts[key])
    if service == "swipes":
        # Its two logs: what people swiped, and what became of pairs; ``entries`` above are the people.
        for part in ("swipes", "pairs"):
            yield from _service(actor, f"swipes.{part}", facts[part])
        yield Sample(metrics.UNDELIVERED, (actor,), facts["undelivered"])
    if service == "cards":
        yield Sample(metrics.CARD_QUERIES, (actor,), facts["queries"])
        yield from (Sample(metrics.CARD_STAGE, (actor, stage), spent) for stage, spent in facts["stage_seconds"].items())
        yield Sample(metrics.MODEL, (actor, facts["model_version"]), 1)
        yield Sample(metrics.MODELS_REFUSED, (actor,), len(facts["ranking"]["refused"]))


def _consumer(writer: str, consumer: str, facts: Mapping[str, Any]) -> Iterator[Sample]:
    of = (writer, consumer)
    yield Sample(metrics.CONSUMED, of, facts["records"])
    yield Sample(metrics.COMMITS, of, facts["commits"])
    yield Sample(metrics.CONSUMER_UP, of, facts["state"] == "running")
    yield Sample(metrics.TOPICS_STOPPED, of, len(facts["stopped"]))
    timed = facts["commit_seconds"]
    yield Sample(metrics.COMMIT_SECONDS_SUM, of, timed["sum"])
    yield from (Sample(metrics.COMMIT_SECONDS, (*of, bound), count) for bound, count in timed["buckets"].items())
    if consumer.startswith("push_"):
        yield from _push(writer, consumer.removeprefix("push_"), facts)
    else:
        yield from _outcomes(writer, consumer, facts)


def _outcomes(writer: str, consumer: str, facts: Mapping[str, Any]) -> Iterator[Sample]:
    for what, count in facts.items():
        if isinstance(count, int) and what not in NO_OUTCOMES:
            yield Sample(metrics.OUTCOMES, (writer, consumer, what), count)


def _push(writer: str, provider: str, facts: Mapping[str, Any]) -> Iterator[Sample]:
    """``of``: an outcome, why something was not pushed, or ``stopped`` (1: its keys are refused)."""
    for counts in (facts["delivered"], facts["skipped"]):
        yield from (Sample(metrics.PUSH, (writer, provider, what), count) for what, count in counts.items())
    yield Sample(metrics.PUSH, (writer, provider, "stopped"), bool(facts["refused"]))


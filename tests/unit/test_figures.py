"""What is exported of each process: every metric of the contract, with its labels, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from cluster.launch.figures import platform_samples
from cluster.launch.report import ActorReport, ReplicaReport, Report
from cluster.launch.scrape import Requests, requests_of
from cluster.launch.state import ServerStatus
from configs.contracts import metrics
from configs.contracts.metrics import METRICS, Sample
from configs.counting import Durations
from serve_apps.exporting import Exporting
from serve_apps.metrics import BOUNDS_S, ReplicaMetrics


def consumer(**more: Any) -> dict[str, Any]:
    durations = Durations()
    durations.add(0.03)
    return {
        "state": "running", "epoch": 3, "records": 40, "commits": 2, "stopped": [], "commit_seconds": durations.describe(), **more,
    }


def actor(name: str, **figures: Any) -> ActorReport:
    return ActorReport(name=name, answers=True, ready=True, pid=7, figures={"memory_bytes": 1 << 20} | figures)


LOG = {"entries": 5, "appended": 9, "turns": 4, "unsettled": False}
REPORT = Report(
    actors=[
        actor("swipes-0", restore_s=0.5, calls=3, commands=12, services={
            "swipes": {"entries": 5, "swipes": LOG, "pairs": LOG, "undelivered": 1, "outboxes": [0]},
        }),
        actor("cards-0", services={"cards": {
            "entries": 2, "queries": 4, "stage_seconds": {"filter": 0.1, "rank": 0.3}, "model_version": "m1",
            "ranking": {"refused": {"m2": "broken"}},
        }}),
        actor("gateway-0", gateway=dict.fromkeys(
            ("sockets", "people", "nameless", "channels", "watched", "refused", "heard", "told", "frames", "overflowed", "flooded", "slow"), 1,
        )),
        actor(
            "writer-0", rows=consumer(), payments=consumer(applied=2), stored={"swipe_recorded": 8}, payment_polling={"looks": 1},
            push_apns=consumer(delivered={"sent": 2}, skipped={"quiet": 1}, refused="InvalidProviderToken"),
            push_outbox=consumer(delivered={}, skipped={}, refused=""),
        ),
        ActorReport(name="identity-0", answers=False, figures={"memory_bytes": 5}),
    ],
    replicas=[ReplicaReport(deployment="api", replica="r", state="ReplicaState.RUNNING")],
    api="ready", lag={"rows": {"matching.swipe": 7, "user.updated": 0}}, dead_letters={"matching.swipe": 1},
    moderation={"waiting": 2, "overdue": 0},
    by_hand={"payouts": {"waiting": 3, "oldest_s": 90}, "refunds": {"waiting": 0, "oldest_s": 0}}, exposure_gini={"m1": 0.4},
)
SERVERS = [ServerStatus(name="postgres", pid=1, runs=True, restarts=2, memory_mib=3)]


def replica(name: str = "abc") -> list[Sample]:
    made = ReplicaMetrics(lambda: {("sugar_actor_calls", "swipes"): 3}, lambda: {("sugar_revocations_fresh", "poll"): 1})
    for status, seconds in ((200, 0.002), (200, 0.3), (503, 60.0)):
        made.requests.add("swipe", status, seconds)
    return list(made.samples(name))


def value(samples: list[Sample], metric: metrics.Metric, *values: str) -> float:
    [found] = [sample.value for sample in samples if sample.metric == metric and sample.values == values]
    return found


def test_every_metric_of_the_contract_is_exported_with_its_labels_and_no_other() -> None:
    samples = [*platform_samples(REPORT, SERVERS), *replica()]
    assert {sample.metric for sample in samples} == set(METRICS)
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for sample in samples:
        assert len(sample.values) == len(sample.metric.labels), sample
    assert len({(sample.metric.name, sample.values) for sample in samples}) == len(samples), "one series has two values"


def test_an_actor_that_is_silent_is_down_and_its_last_words_are_not_repeated() -> None:
    said = [sample for sample in platform_samples(REPORT, SERVERS) if sample.values[:1] == ("identity-0",)]
    assert {sample.metric for sample in said} == {metrics.ACTOR_UP, metrics.ACTOR_REPLACED}
    assert value(said, metrics.ACTOR_UP, "identity-0") == 0


def test_push_figures_name_each_provider_and_whether_it_stopped() -> None:
    pushes = {sample.values[1:]: sample.value for sample in platform_samples(REPORT, SERVERS) if sample.metric == metrics.PUSH}
    assert pushes == {("apns", "sent"): 2, ("apns", "quiet"): 1, ("apns", "stopped"): 1, ("outbox", "stopped"): 0}


def test_what_is_to_be_done_by_hand_is_counted_and_has_an_age_and_nothing_to_do_is_zero() -> None:
    samples = list(platform_samples(REPORT, SERVERS))
    found = {of: (value(samples, metrics.BY_HAND, of), value(samples, metrics.BY_HAND_OLDEST, of)) for of in ("payouts", "refunds")}
    assert found == {"payouts": (3, 90), "refunds": (0, 0)}


def test_topics_without_dead_letters_say_zero_so_that_the_first_one_is_seen_as_an_increase() -> None:
    samples = list(platform_samples(REPORT, SERVERS))
    assert value(samples, metrics.DEAD_LETTERS, "user.updated") == 0
    assert value(samples, metrics.DEAD_LETTERS, "matching.swipe") == 1


def test_requests_are_counted_by_status_and_timed_by_route_in_buckets_that_add_up() -> None:
    samples = replica()
    assert value(samples, metrics.REQUESTS, "abc", "swipe", "200") == 2
    assert value(samples, metrics.REQUESTS, "abc", "swipe", "503") == 1
    buckets = [value(samples, metrics.REQUEST_SECONDS, "abc", "swipe", bound) for bound in (*map(str, BOUNDS_S), "+Inf")]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[-2], buckets[-1]) == (0, 2, 3)
    assert round(value(samples, metrics.REQUEST_SECONDS_SUM, "abc", "swipe"), 3) == 60.302


async def test_a_replica_hands_its_figures_on_until_it_is_closed_whatever_fails_once() -> None:
    handed: list[list[Sample]] = []

    def publish(samples: Iterable[Sample]) -> None:
        handed.append(list(samples))
        if len(handed) == 1:
            raise ValueError("a label is wrong")

    exporting = Exporting(replica, publish, every_s=0.01)
    exporting.start()
    async with asyncio.timeout(30):
        while len(handed) < 3:
            await asyncio.sleep(0.01)
    await exporting.close()
    before = len(handed)
    await asyncio.sleep(0.05)
    assert len(handed) == before
    assert handed[-1] == replica()


def test_durations_fall_into_the_bucket_of_their_upper_bound() -> None:
    durations = Durations((0.1, 1.0))
    for seconds in (0.1, 0.5, 3.0):
        durations.add(seconds)
    assert durations.describe() == {"sum": 3.6, "buckets": {"0.1": 1, "1.0": 2, "+Inf": 3}}


def test_status_sums_the_requests_of_all_replicas_out_of_a_scrape() -> None:
    def labels(sample: Sample) -> str:
        return ",".join(f'{label}="{value}"' for label, value in zip(sample.metric.labels, sample.values, strict=True))

    text = "\n".join(
        f"ray_{sample.metric.name}{{{labels(sample)}}} {float(sample.value)}" for name in ("a", "b") for sample in replica(name)
    )
    assert requests_of("# TYPE x gauge\nray_other{a=\"b\"} 1\n" + text) == Requests(by_status={"200": 4, "503": 2}, in_flight=0, p99_s=None)
    assert requests_of("") == Requests()

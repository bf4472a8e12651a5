"""Measures rankers on one core: ``python -m recommender.measure``. Prints a table, writes JSON.

Each kind scores a viewer's candidates from features that are there already; processor time of one thread, so that a busy
machine does not disturb it. With ``--factor-people`` the factor model is fitted to that many people too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from recommender import boosting, factors, logistic
from recommender.baseline import Baseline
from recommender.exposure import Exposed
from recommender.features import FEATURES
from recommender.ranking import Floats, Ranker
from recommender.reciprocal import HARMONIC, Reciprocal

SWIPES_A_PERSON = 60
TRAINING = 20_000
LEARNED = tuple(name for name in FEATURES if "affinity" not in name and "price" not in name)


def made_up(size: int, rng: np.random.Generator, shared: bool) -> dict[str, Floats]:
    """Features (size,) around their neutral values; with ``shared`` those of the viewer are (), as when serving."""
    return {
        name: rng.normal(feature.neutral, 1 + abs(feature.neutral) / 2, () if shared and name.startswith("viewer_") else size)
        .astype(np.float32) for name, feature in FEATURES.items()
    }


def rankers(rng: np.random.Generator) -> dict[str, Ranker]:
    """One of each kind, trained on made-up likes."""
    given = made_up(TRAINING, rng, shared=False)
    log_odds = -0.02 * given["distance_km"] + given["age_fit"] + 2 * given["like_rate_received"] * given["is_woman"]
    likes = rng.random(TRAINING) < 1 / (1 + np.exp(-log_odds))
    line, trees = logistic.fit(given, likes, LEARNED), boosting.fit(given, likes, LEARNED)
    return {
        "baseline": Baseline(), f"logistic, {len(line.features)} features": line,
        f"boosted, {len(trees.features)} features, {len(trees.pairs)} pairs": trees,
        "product of two logistic": Reciprocal(line, line), "harmonic mean of two boosted": Reciprocal(trees, trees, HARMONIC),
        "the same with exposure prices": Exposed(Reciprocal(trees, trees, HARMONIC)),
    }


def scoring_ms(ranker: Ranker, size: int, rounds: int, rng: np.random.Generator) -> tuple[float, float]:
    """(p50, p99) processor milliseconds of ranking the 100 best of ``size``."""
    given, ids = made_up(size, rng, shared=True), np.arange(size)
    spent = np.empty(rounds)
    for number in range(rounds):
        began = time.thread_time_ns()
        ranker.rank(ids, given, 100)
        spent[number] = (time.thread_time_ns() - began) / 1e6
    p50, p99 = np.percentile(spent, (50, 99))
    return float(p50), float(p99)


def factor_seconds(people: int, rng: np.random.Generator) -> float:
    """Processor seconds of fitting 16 factors to 60 swipes a person."""
    swipers = np.repeat(np.arange(people), SWIPES_A_PERSON)
    swiped = rng.integers(0, people, swipers.size)
    _, first = np.unique(swipers * people + swiped, return_index=True)
    began = time.thread_time()
    factors.fit(swipers[first], swiped[first], rng.random(first.size) < 0.3, people)
    return time.thread_time() - began


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m recommender.measure", description=__doc__)
    parser.add_argument("--candidates", type=int, nargs="+", default=[2_000, 13_000], help="candidates of one viewer")
    parser.add_argument("--rounds", type=int, default=200, help="rankings of each kind and size")
    parser.add_argument("--factor-people", type=int, default=0, help="fit the factor model to so many people (0: do not)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("bench-results"), help="directory of the JSON file")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    table = Table(title="Ranking one viewer's candidates, processor ms (p50 / p99)")
    table.add_column("ranker")
    results: dict[str, object] = {"ranking_ms": {}}
    for size in options.candidates:
        table.add_column(f"{size:,}", justify="right")
    with threadpool_limits(1):
        for name, ranker in rankers(rng).items():
            found = [scoring_ms(ranker, size, options.rounds, rng) for size in options.candidates]
            table.add_row(name, *(f"{p50:.2f} / {p99:.2f}" for p50, p99 in found))
            results["ranking_ms"] |= {name: dict(zip(map(str, options.candidates), found, strict=True))}  # type: ignore[operator]
        console = Console(width=110)
        console.print(table)
        if options.factor_people:
            seconds = results["factors_s"] = factor_seconds(options.factor_people, rng)
            console.print(f"16 factors of {options.factor_people:,} people, {SWIPES_A_PERSON} swipes each: {seconds:.1f} s")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "rankers.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

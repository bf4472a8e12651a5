"""The tables: every gate of the market as plain figures, for a command, a check or a notebook."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recommender.congestion.blend import blended, solve_blend
from recommender.congestion.equilibrium import solve
from recommender.congestion.rounds import meeting_scores
from recommender.simulation import congested, dealing, policies, served, serving
from recommender.simulation.attention import judged
from recommender.simulation.days import Policy, Result, Rules, simulated
from recommender.simulation.experiments import estimates, regional
from recommender.simulation.intervals import paired_ratio
from recommender.simulation.markets import MARKETS, estimated

Report = dict[str, Any]
Advance = Callable[[str], None]
"""Called with a label after each step."""

NOISES: Final = (0.0, 0.5)
FATIGUES: Final[Mapping[str, float]] = {"standard": 0.9, "half": 0.95, "double": 0.8}
"""Factor a match: a loss of 10 %, of half of it, of twice."""
SERVED: Final = "served"
"""The policy that gates judge: what the platform does (``simulation.serving``)."""
DAYS: Final = ("random order", "circulant", "de-meaned sum", "product", "meetings", "priced, likes first", *serving.POLICIES)
COLD: Final = ("random order", "popularity", "product", "random order, likes first", "popularity, likes first",
               "priced, likes first", *serving.POLICIES)
REPEATS: Final = 3
GATE_MARKET, GATE_GINI, GATE_SOLVE_S, GATE_DAYS, GATE_COLD = 3.0, 0.10, 0.5, 1.27, 1.3


def _silent(label: str) -> None:
    """No progress."""


def policy(name: str, seed: int) -> Policy:
    """A policy of many days for one simulation. Raises KeyError: no such name."""
    if name in dealing.BASELINES:
        return dealing.BASELINES[name](seed)
    if name in congested.POLICIES:
        return congested.POLICIES[name]()
    if name in serving.POLICIES:
        return serving.POLICIES[name]()
    return {
        "random order, likes first": congested.answering(congested.random_order(seed)),
        "popularity, likes first": congested.answering(congested.popularity),
    }[name]


def markets(seeds: Iterable[int] = range(10), people: int = 3000, names: Sequence[str] = ("standard",),
            noises: Sequence[float] = (0.0,), advance: Advance = _silent) -> Report:
    """Expected matches and exposure Gini of every policy in whole markets ranked by estimates.

    ``rows``: one a market, noise and seed, with the least processor seconds of three; ``gates`` of the standard market without noise.
    """
    rows = []
    for name in names:
        for noise in noises:
            for seed in seeds:
                truth = MARKETS[name](people, seed)
                believed = estimated(truth, noise, seed + 10_000)
                found: Report = {}
                for title, ranking in policies.BASELINES.items():
                    found[title] = _outcome(judged(truth, *ranking(believed, seed)))
                    advance(f"{name} {seed} {title}")
                joint = believed.left * believed.right.T
                surplus, scores, solve_s, total_s = _solved(joint)
                found["equilibrium"] = _outcome(judged(truth, surplus, surplus.T))
                found["meetings"] = _outcome(judged(truth, scores, scores.T))
                advance(f"{name} {seed} meetings")
                rows.append({
                    "market": name, "noise": noise, "seed": seed, "people": people,
                    "solve_s": solve_s, "total_s": total_s, "policies": found,
                })
    return {"rows": rows, "gates": _market_gates(rows)}


def _solved(joint: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], float, float]:
    """Surplus, meeting scores, and the processor seconds to the one and to the other, the least of three.

    Of all threads: on a machine that does nothing else it takes no longer, and on a busy one waiting does not count.
    """
    spent = []
    for _ in range(REPEATS):
        began = time.process_time()
        surplus = solve(joint).surplus(joint)
        solved = time.process_time()
        scores = meeting_scores(surplus)
        spent.append((solved - began, time.process_time() - began))
    return surplus, scores, min(one for one, _ in spent), min(both for _, both in spent)


def _outcome(outcome: Any) -> dict[str, float]:
    return {"matches": outcome.matches, "gini_left": outcome.gini_left, "gini_right": outcome.gini_right}


def _market_gates(rows: Sequence[Report]) -> Report:
    ruled = [row for row in rows if row["market"] == "standard" and row["noise"] == 0]
    if not ruled:
        return {}
    ours, sums, products = (
        [row["policies"][name]["matches"] for row in ruled] for name in ("meetings", "de-meaned sum", "product")
    )
    gini = max(max(row["policies"]["meetings"][side] for side in ("gini_left", "gini_right")) for row in ruled)
    full = all(row["people"] >= 3000 for row in ruled)
    return {
        # The fewer people, the smaller the part of the lists that crowding can spoil.
        **({"times the product, least seed": _gate(float(np.min(np.divide(ours, products))), GATE_MARKET)} if full else {}),
        "times the de-meaned sum, least seed": _gate(float(np.min(np.divide(ours, sums))), 1.0),
        "exposure Gini, either side, worst seed": _gate(gini, GATE_GINI, most=True),
        "processor seconds to solve and place, worst seed": _gate(max(row["total_s"] for row in ruled), GATE_SOLVE_S, most=True),
    }


def _gate(value: float, bound: float, most: bool = False) -> Report:
    return {"value": value, "bound": bound, "kind": "at most" if most else "at least",
            "passed": value <= bound if most else value >= bound}


def served_path(seeds: Iterable[int] = range(10), people: int = 3000, candidates: int = served.CANDIDATES,
                names: Sequence[str] = tuple(MARKETS), noises: Sequence[float] = NOISES,
                advance: Advance = _silent) -> Report:
    """The served path: near candidates, prices of the period before; ``rows`` one a market and noise, seeds together."""
    rows = []
    for name in names:
        for noise in noises:
            found: dict[str, list[served.ServedOutcome]] = {}
            for seed in seeds:
                before, now = served.two_periods(MARKETS[name](people, seed), noise, seed, candidates)
                scores = {title: score(before, now, seed) for title, score in served.BASELINES.items()}
                scores["priced"] = priced_decks(before, now)
                for title, given in scores.items():
                    found.setdefault(title, []).append(served.judged_decks(now, given))
                advance(f"served {name} {seed}")
            matches = {title: [one.matches for one in outcomes] for title, outcomes in found.items()}
            rows.append({
                "market": name, "noise": noise, "people": people, "candidates": candidates,
                "policies": {
                    title: {"matches": float(np.mean(matches[title])), "gini": float(np.mean([one.gini for one in outcomes]))}
                    for title, outcomes in found.items()
                },
                "to_product": paired_ratio(matches["priced"], matches["product"]),
                "to_demeaned_sum": paired_ratio(matches["priced"], matches["de-meaned sum"]),
            })
    return {"rows": rows}


def priced_decks(before: served.Decks, now: served.Decks) -> NDArray[np.float32]:
    """Scores of now (p, k) by the prices of the period before."""
    starts = np.arange(0, before.candidates.size + 1, before.candidates.shape[1])
    prices = solve_blend(starts, before.candidates.ravel(), before.likes.ravel(), before.liked.ravel())
    return prices.scores(now.candidates, blended(now.likes, now.liked))


def days(seeds: Iterable[int] = range(20), rules: Rules | None = None, fatigues: Mapping[str, float] = FATIGUES,
         names: Sequence[str] = DAYS, advance: Advance = _silent, workers: int = 1) -> Report:
    """A simulated month under every policy: matches, and the paired ratio to the product, with each fatigue.

    With more than one worker, seeds run in processes of their own; the figures are the same.
    """
    plain = rules or Rules()
    rows: list[Report] = []
    for title, fatigue in fatigues.items():
        ruled = replace(plain, fatigue=fatigue)
        lived: dict[str, list[Result]] = {}
        wanted = [(name, ruled, seed) for seed in seeds for name in dict.fromkeys((*names, "product"))]
        for (name, _, seed), result in zip(wanted, _all_lived(wanted, workers), strict=True):
            lived.setdefault(name, []).append(result)
            advance(f"{title} fatigue {seed} {name}")
        product = [result.matches for result in lived["product"]]
        for name, results in lived.items():
            rows.append({
                "fatigue": title, "factor": fatigue, "policy": name,
                "matches": float(np.mean([result.matches for result in results])),
                "gini": float(np.mean([(result.gini_left + result.gini_right) / 2 for result in results])),
                "unmatched": float(np.mean([result.unmatched for result in results])),
                "to_product": paired_ratio([result.matches for result in results], product),
            })
    ours = [row["to_product"]["low"] for row in rows if row["policy"] == SERVED]
    return {
        "people": plain.people, "days": plain.days, "cards": plain.cards, "noise": plain.noise, "rows": rows,
        "gates": {"served to product, lower bound, worst fatigue": _gate(min(ours), GATE_DAYS)} if ours else {},
    }


def _all_lived(wanted: Sequence[tuple[str, Rules, int]], workers: int) -> Iterator[Result]:
    """The results in order."""
    if workers == 1:
        yield from map(_lived, wanted)
        return
    # Forked children would inherit the locks of the BLAS threads.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_lived, wanted)


def _lived(one: tuple[str, Rules, int]) -> Result:
    name, rules, seed = one
    return simulated(policy(name, seed), rules, seed)


def cold_start(seeds: Iterable[int] = range(10), rules: Rules | None = None, names: Sequence[str] = COLD,
               advance: Advance = _silent) -> Report:
    """What people without history get from their first 100 cards, a tenth of each side being such."""
    plain = rules or Rules(people=500)
    ruled = plain if plain.newcomers > 0 else replace(plain, newcomers=0.1)
    first: dict[str, list[float]] = {}
    others: dict[str, list[float]] = {}
    for seed in seeds:
        for name in dict.fromkeys((*names, "popularity", "random order", SERVED)):
            result = simulated(policy(name, seed), ruled, seed)
            first.setdefault(name, []).append(float(result.first_matches[result.newcomer].mean()))
            others.setdefault(name, []).append(float(result.first_matches[~result.newcomer].mean()))
            advance(f"cold start {seed} {name}")
    rows: list[Report] = [
        {
            "policy": name, "newcomers": float(np.mean(mine)), "others": float(np.mean(others[name])),
            "to_popularity": paired_ratio(mine, first["popularity"]), "to_random": paired_ratio(mine, first["random order"]),
        }
        for name, mine in first.items()
    ]
    ours = next(row for row in rows if row["policy"] == SERVED)
    return {
        "people": ruled.people, "newcomers": ruled.newcomers, "cards": 100, "rows": rows,
        "gates": {
            "served to popularity, lower bound": _gate(ours["to_popularity"]["low"], GATE_COLD),
            "served to random order, lower bound": _gate(ours["to_random"]["low"], 1.0),
        },
    }


def experiments(seeds: Iterable[int] = range(5), rules: Rules | None = None, advance: Advance = _silent,
                treatments: Sequence[str] = ("served, likes not put forward", "meetings", SERVED)) -> Report:
    """Treatment against the product: the true gain beside what each kind of split reads."""
    ruled = replace(rules or Rules(people=500, days=14, cards=3), market=regional)
    rows = []
    for name in treatments:
        read: dict[str, list[float]] = {}
        for seed in seeds:
            for kind, gain in estimates(
                lambda name=name, seed=seed: policy(name, seed), lambda seed=seed: policy("product", seed), ruled, seed,  # type: ignore[misc]
            ).items():
                read.setdefault(kind, []).append(gain)
            advance(f"experiment {seed} {name}")
        rows.append({
            "treatment": name,
            **{kind: {"mean": float(np.mean(gains)), "deviation": float(np.std(gains)), "seeds": gains}
               for kind, gains in read.items()},
        })
    return {"people": ruled.people, "days": ruled.days, "cards": ruled.cards, "rows": rows}

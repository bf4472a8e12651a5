"""Measures deck queries on one core: ``python -m actors.cards.measure --people 20000``.

Everybody is within the viewer's radius. Prints p50 and p99 of whole queries, with the viewer's cell remembered and new,
and where a query's time goes: processor time of the one thread, so that a busy machine does not disturb it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from actors.cards.client import merged
from actors.cards.commands import DeckQuery
from actors.cards.state import Cards
from configs.contracts.ids import key64, new_id
from configs.contracts.loading import PeopleRows
from configs.contracts.people import cell_number, haversine_km, snap
from recommender import candidates
from recommender.baseline import Baseline

CENTRE = (48.8566, 2.3522)


def crowd(people: int, radius_km: float, rng: np.random.Generator, now: datetime) -> PeopleRows:
    """People spread evenly over a disc, half of each role, with ages and preferences of an adult population."""
    places: list[tuple[float, float, str]] = []
    while len(places) < people:
        north, east = (radius_km * 1.05 * (2 * rng.random(2) - 1)).tolist()
        latitude = CENTRE[0] + north / 111.2
        longitude = CENTRE[1] + east / (111.2 * np.cos(np.radians(CENTRE[0])))
        snapped = snap(latitude, longitude)
        if haversine_km(*snap(*CENTRE)[:2], *snapped[:2]) <= radius_km:
            places.append(snapped)
    ages = np.clip(rng.gamma(3.0, 4.5, people) + 18, 18, 80)
    middle = ages + rng.normal(0, 4, people)
    width = rng.integers(4, 14, people)
    roles = rng.integers(0, 2, people).astype(np.uint8)
    today = candidates.day_number(now.date())
    return PeopleRows(
        user_ids=[new_id() for _ in range(people)],
        latitudes=np.array([place[0] for place in places]),
        longitudes=np.array([place[1] for place in places]),
        cells=np.array([cell_number(place[2]) for place in places], dtype=np.uint64),
        birth_days=(today - ages * 365.2425).astype(np.int32),
        roles=roles,
        genders=np.where(roles == 0, 1, 2).astype(np.uint8),
        age_min=np.clip(middle - width, 18, 98).astype(np.uint8),
        age_max=np.clip(middle + width, 19, 99).astype(np.uint8),
        max_distance_km=rng.choice([25, 50, 100, 200], people).astype(np.uint16),
        role_masks=(2 - roles).astype(np.uint8),
        gender_masks=np.zeros(people, dtype=np.uint8),
        discoverable=rng.random(people) < 0.97,
        verified=rng.random(people) < 0.4,
        last_active_s=(now.timestamp() - rng.exponential(4 * 86_400, people)).astype(np.int64),
        versions=np.arange(people, dtype=np.uint64),
        match_versions=np.arange(people, dtype=np.uint64),
    )


def timed(call: Callable[[], Any], rounds: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Processor milliseconds of each call, (rounds,)."""
    spent = np.empty(rounds)
    for number in range(rounds):
        began = time.thread_time_ns()
        call()
        spent[number] = (time.thread_time_ns() - began) / 1e6
    return spent


def _line(name: str, spent: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    p50, p99 = np.percentile(spent, (50, 99))
    return f"{name:<42}{p50:>9.3f}{p99:>9.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m actors.cards.measure", description=__doc__)
    parser.add_argument("--people", type=int, default=20_000, help="people within the radius")
    parser.add_argument("--radius-km", type=int, default=50, help="the viewer's radius")
    parser.add_argument("--seen", type=int, default=300, help="people the viewer has swiped")
    parser.add_argument("--rounds", type=int, default=500, help="queries of each kind")
    options = parser.parse_args()
    rng, now = np.random.default_rng(1), datetime.now(UTC)
    cards = Cards(Baseline())
    rows = crowd(options.people, options.radius_km, rng, now)
    began = time.thread_time()
    cards.load(rows)
    cards.settle()
    loading = time.thread_time() - began
    seen = rng.choice(options.people, min(options.seen, options.people), replace=False).tolist()
    viewer = DeckQuery(
        viewer_id=new_id(), latitude=CENTRE[0], longitude=CENTRE[1], birth_date=date(1990, 5, 4).isoformat(),
        role="sugar_daddy", gender="man", age_min=24, age_max=38, max_distance_km=options.radius_km,
        roles=("sugar_baby",), seen=np.sort(np.array([key64(rows.user_ids[i]) for i in seen], "<u8")).tobytes(),
    )
    widest = DeckQuery(
        viewer_id=new_id(), latitude=CENTRE[0], longitude=CENTRE[1], birth_date="1990-05-04", role="sugar_daddy",
        gender="man", age_min=18, age_max=99, max_distance_km=options.radius_km, roles=("sugar_baby", "sugar_daddy"),
        seen=viewer.seen,
    )
    cards.shortlist(viewer, now)
    found, distances = cards.eligible(viewer, now)
    features = cards.features(viewer, found, distances, now)
    ids = np.arange(found.size)

    def anew() -> None:
        cards.nearby.forget()
        cards.shortlist(viewer, now)

    shortlist = cards.shortlist(viewer, now)
    lines = [
        f"{options.people} people within {options.radius_km} km in {cards.describe()['cells']} cells, "
        f"{found.size} accepted both ways, {len(seen)} seen; {cards.nbytes / options.people:.0f} column bytes a person; "
        f"loaded in {loading:.2f} s",
        f"{'processor milliseconds':<42}{'p50':>9}{'p99':>9}",
        _line("whole query, remembered cell", timed(lambda: cards.shortlist(viewer, now), options.rounds)),
        _line("whole query, new cell", timed(anew, options.rounds)),
        _line("whole query, viewer accepts everybody", timed(lambda: cards.shortlist(widest, now), options.rounds)),
        _line("  eligible (gather, both sides' filters)", timed(lambda: cards.eligible(viewer, now), options.rounds)),
        _line("  features", timed(lambda: cards.features(viewer, found, distances, now), options.rounds)),
        _line("  rank", timed(lambda: cards.ranker.rank(ids, features, 351), options.rounds)),
        _line("merge and name in the client", timed(lambda: merged([shortlist], 50), options.rounds)),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

"""Measures deck queries on one core: ``python -m actors.cards.measure --people 1000 13000 40000 --seen 50000``.

Everybody is within the viewer's radius: a small town, a dense city, a crowd of which only a part is scored. Whole queries (filters of both sides, the seen people, the
ranker, the best 100) for many different viewers, by the baseline and by a reciprocal model with history features;
what the seen people add to a query, told as a card actor is told them; what people whose like waits add; bytes a person. Times are processor time of the
one thread, so that a busy machine does not disturb them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.cards.client import merged
from actors.cards.commands import DeckQuery
from actors.cards.crowds import disc, history, reciprocal
from actors.cards.state import Cards
from configs.contracts.ids import key64
from configs.contracts.loading import PeopleRows
from configs.contracts.ranking import WAITING_LIKE
from recommender.baseline import Baseline
from recommender.ranking import Ranker
from recommender.waiting import LIKES_MOST

SIZE = 100
P99_MS = 5.0
SEEN_SHARE = 0.05
BYTES_A_PERSON = 200
Spent = NDArray[np.float64]


def timed(calls: Sequence[Callable[[], Any]]) -> Spent:
    """Processor milliseconds of each call, (calls,)."""
    spent = np.empty(len(calls))
    for number, call in enumerate(calls):
        began = time.thread_time_ns()
        call()
        spent[number] = (time.thread_time_ns() - began) / 1e6
    return spent


def viewers(rows: PeopleRows, count: int, radius_km: int, rng: np.random.Generator) -> list[DeckQuery]:
    """Queries of people out of the crowd, with their own preferences."""
    found = []
    for number in rng.choice(len(rows.user_ids), count).tolist():
        baby = rows.roles[number] == 0
        found.append(DeckQuery(
            viewer_id=rows.user_ids[number], latitude=rows.latitudes[number], longitude=rows.longitudes[number],
            birth_date=(date(1970, 1, 1) + timedelta(days=int(rows.birth_days[number]))).isoformat(),
            role="sugar_baby" if baby else "sugar_daddy", gender="woman" if baby else "man",
            age_min=int(rows.age_min[number]), age_max=int(rows.age_max[number]), max_distance_km=radius_km,
            roles=("sugar_daddy" if baby else "sugar_baby",), size=SIZE,
        ))
    return found


def seen_keys(rows: PeopleRows, count: int, rng: np.random.Generator) -> bytes:
    """``count`` people whom somebody has swiped: a fifth of this crowd, the others from elsewhere."""
    here = rng.choice(len(rows.user_ids), min(count, len(rows.user_ids)) // 5, replace=False).tolist()
    keys = np.array([key64(rows.user_ids[number]) for number in here], np.uint64)
    others = rng.integers(1 << 63, (1 << 64) - 1, count - keys.size, np.uint64)
    return np.unique(np.concatenate((keys, others))).astype("<u8").tobytes()


def measured(people: int, radius_km: int, seen: int, rounds: int, seed: int = 1) -> dict[str, Any]:
    """Figures by name; milliseconds as (p50, p99); ``seen share`` is signed: noise makes a small one negative."""
    rng, now = np.random.default_rng(seed), datetime.now(UTC)
    rows = disc(people, radius_km, rng, now)
    cards = Cards(Baseline())
    began = time.thread_time()
    cards.load(rows)
    cards.settle()
    figures: dict[str, Any] = {"people": people, "load_s": round(time.thread_time() - began, 3)}
    cards.use(history(rows, rng))
    asked = viewers(rows, rounds, radius_km, rng)
    keys = seen_keys(rows, seen, rng)
    figures["accepted both ways"] = int(np.median([cards.eligible(query, now)[0].size for query in asked[:50]]))
    rankers: dict[str, Ranker] = {"baseline": Baseline(), "reciprocal, history, prices": reciprocal()}
    for name, ranker in rankers.items():
        cards.ranker = ranker
        figures[name] = _with_and_without(cards, asked, keys, now) | _with_likes(cards, asked, rows, rng, now)
    figures["new cell"] = _percentiles(timed([partial(_anew, cards, query, now) for query in asked]))
    shortlists = [cards.shortlist(query, now) for query in asked[:50]]
    figures["merge and name in the client"] = _percentiles(timed([partial(merged, [s], SIZE) for s in shortlists]))
    figures["bytes a person"] = round(cards.nbytes / people, 1)
    return figures


def _with_and_without(cards: Cards, asked: Sequence[DeckQuery], keys: bytes, now: datetime) -> dict[str, Any]:
    """The same queries without and with seen people, in turns; whose set is kept by the actor from the query before."""
    whole = [msgspec.structs.replace(query, seen=keys, seen_token=1 << 32) for query in asked]
    later = [msgspec.structs.replace(query, seen=keys[:8], seen_token=1 << 32 | 1, seen_base=1 << 32) for query in asked]
    without, with_seen, first = (np.empty(len(asked)) for _ in range(3))
    for place, (query, all_keys, changes) in enumerate(zip(asked, whole, later, strict=True)):
        cards.shortlist(query, now)
        (first[place],) = timed([partial(cards.shortlist, all_keys, now)])
        cards.shortlist(changes, now)
        # In turns, the least of several each: what another process did to the caches meanwhile is left out.
        turns = timed([partial(cards.shortlist, q, at) for at in _moments(now) for q in (query, changes)])
        without[place], with_seen[place] = turns[0::2].min(), turns[1::2].min()
    return {
        "without seen": _percentiles(without),
        "with seen": _percentiles(with_seen),
        "with seen, told whole": _percentiles(first),
        "seen share": round(float((with_seen - without).sum() / with_seen.sum()), 4),
    }


def _with_likes(
    cards: Cards, asked: Sequence[DeckQuery], rows: PeopleRows, rng: np.random.Generator, now: datetime
) -> dict[str, Any]:
    """The same queries without and with as many waiting likes of people within the radius as count, in turns."""
    without, with_likes = np.empty(len(asked)), np.empty(len(asked))
    for place, query in enumerate(asked):
        liking = rng.choice(len(rows.user_ids), min(LIKES_MOST, len(rows.user_ids)), replace=False).tolist()
        liked = msgspec.structs.replace(
            query, waiting=np.array([key64(rows.user_ids[number]) for number in liking], "<u8").tobytes(),
            waiting_boost=WAITING_LIKE,
        )
        turns = timed([partial(cards.shortlist, q, at) for at in _moments(now) for q in (query, liked)])
        without[place], with_likes[place] = turns[0::2].min(), turns[1::2].min()
    return {
        f"with {LIKES_MOST} waiting likes": _percentiles(with_likes),
        "likes share": round(float((with_likes - without).sum() / with_likes.sum()), 4),
    }


def _moments(now: datetime) -> list[datetime]:
    """Five, two minutes apart: a deck that holds everybody is answered for a minute as it was."""
    return [now + timedelta(minutes=2 * turn) for turn in range(1, 6)]


def _anew(cards: Cards, query: DeckQuery, now: datetime) -> None:
    cards.nearby.forget()
    cards.shortlist(query, now)


def _percentiles(spent: Spent) -> tuple[float, float]:
    p50, p99 = np.percentile(spent, (50, 99))
    return round(float(p50), 3), round(float(p99), 3)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m actors.cards.measure", description=__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=[13_000], help="people within the radius; several are measured in turn")
    parser.add_argument("--radius-km", type=int, default=50, help="the viewers' radius")
    parser.add_argument("--seen", type=int, default=50_000, help="people the viewer has swiped")
    parser.add_argument("--rounds", type=int, default=300, help="viewers")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same people")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="directory of the JSON")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found = {
        str(people): measured(people, options.radius_km, options.seen, options.rounds, options.seed) for people in options.people
    }
    for figures in found.values():
        sys.stdout.write("\n".join(_lines(figures, options.radius_km, options.seen)) + "\n")
    (options.out / "cards.json").write_text(json.dumps(found, indent=1))


def _lines(figures: dict[str, Any], radius_km: int, seen: int) -> list[str]:
    lines = [
        f"{figures['people']} people within {radius_km} km, {figures['accepted both ways']} accepted both ways (median), "
        f"{seen} seen, best {SIZE}",
        f"{'processor milliseconds':<50}{'p50':>9}{'p99':>9}",
    ]
    for name in ("baseline", "reciprocal, history, prices"):
        lines += [f"{name + ', ' + kind:<50}{value[0]:>9.3f}{value[1]:>9.3f}"
                  for kind, value in figures[name].items() if isinstance(value, tuple)]
        lines.append(f"{'  share of the seen people':<50}{figures[name]['seen share']:>9.1%}  (gate {SEEN_SHARE:.0%})")
        lines.append(f"{'  share of the waiting likes':<50}{figures[name]['likes share']:>9.1%}")
    lines += [f"{name:<50}{figures[name][0]:>9.3f}{figures[name][1]:>9.3f}" for name in ("new cell", "merge and name in the client")]
    lines.append(f"p99 gate {P99_MS} ms; {figures['bytes a person']} bytes a person beside model vectors (gate {BYTES_A_PERSON})")
    return lines


if __name__ == "__main__":
    main()

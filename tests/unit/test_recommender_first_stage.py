"""Bounded scoring keeps the top of the ranking, for models of profiles and of history alike."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import msgspec
import numpy as np
import pytest

from actors.cards.commands import DeckQuery
from actors.cards.crowds import disc, history, reciprocal
from actors.cards.narrowing import AUDITED_EVERY, LEARNED_FROM, Narrowing
from actors.cards.state import SCORED, Cards
from configs.contracts.loading import PeopleRows
from configs.settings import Ranking
from recommender import boosting
from recommender.baseline import Baseline
from recommender.features import FEATURES
from recommender.first_stage import INPUTS, fit, sample
from recommender.ranking import Features, Floats, Ranker, Scored

NOW = datetime(2026, 11, 23, tzinfo=UTC)
PEOPLE = 40_000
VIEWERS = 24


@pytest.fixture(scope="module")
def city() -> PeopleRows:
    return disc(PEOPLE, 50, np.random.default_rng(3), NOW)


def filled(rows: PeopleRows, ranker: Ranker, scored: int = SCORED) -> Cards:
    cards = Cards(ranker, scored=scored)
    cards.load(rows)
    cards.settle()
    cards.use(history(rows, np.random.default_rng(5)))
    return cards


def viewer(rows: PeopleRows, number: int, **changes: int) -> DeckQuery:
    baby = rows.roles[number] == 0
    return DeckQuery(
        viewer_id=rows.user_ids[number], latitude=rows.latitudes[number], longitude=rows.longitudes[number],
        birth_date=(date(1970, 1, 1) + timedelta(days=int(rows.birth_days[number]))).isoformat(),
        role="sugar_baby" if baby else "sugar_daddy", gender="woman" if baby else "man",
        age_min=int(rows.age_min[number]), age_max=int(rows.age_max[number]), max_distance_km=50,
        roles=("sugar_daddy" if baby else "sugar_baby",), **changes,
    )


def boosted(rows: PeopleRows) -> Ranker:
    """Trees on a truth with steps and interactions, which no linear guess can follow exactly."""
    cards, rng = filled(rows, Baseline()), np.random.default_rng(7)
    names = ["distance_km", "days_since_active", "age_fit", "viewer_age_fit", "like_rate_received", "like_rate_sent",
             "older_years", "is_verified"]
    parts, labels = [], []
    for number in rng.choice(PEOPLE, 8).tolist():
        query = viewer(rows, number)
        found, distances = cards.eligible(query, NOW)
        chosen = rng.choice(found.size, min(found.size, 1_000), replace=False)
        values = cards.features(query, found[chosen], distances[chosen], NOW, names)
        values = {name: np.broadcast_to(value, chosen.shape) for name, value in values.items()}
        odds = (
            -1.2 + 5 * values["like_rate_received"] - 0.03 * values["distance_km"] + 1.5 * values["age_fit"]
            - 0.4 * np.log1p(values["days_since_active"]) - 0.8 * (values["older_years"] > 8)
            + 0.8 * values["is_verified"] * (values["age_fit"] > -0.2)
        )
        parts.append(values)
        labels.append(rng.random(chosen.size) < 1 / (1 + np.exp(-odds)))
    together = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return boosting.fit(together, np.concatenate(labels), names, trees=60)


@pytest.mark.parametrize("model", ["baseline", "reciprocal", "boosted"])
def test_the_default_bound_keeps_98_in_100_of_the_uncapped_top_50(city: PeopleRows, model: str) -> None:
    ranker = {"baseline": Baseline, "reciprocal": reciprocal, "boosted": lambda: boosted(city)}[model]()
    assert Ranking().scored == SCORED
    bounded, whole = filled(city, ranker), filled(city, ranker, scored=PEOPLE)
    chosen = np.random.default_rng(9).permutation(PEOPLE)
    crowded = [
        query for query in (viewer(city, number) for number in chosen[:200].tolist())
        if whole.eligible(query, NOW)[0].size > 1.2 * SCORED
    ]
    for query in crowded[:LEARNED_FROM]:
        assert bounded.shortlist(query, NOW) == whole.shortlist(query, NOW), "until it is learned everybody is scored"
    kept = []
    for query in crowded[LEARNED_FROM : LEARNED_FROM + VIEWERS]:
        wanted, got = whole.shortlist(query, NOW).ids, bounded.shortlist(query, NOW).ids
        kept.append(len(_ids(wanted) & _ids(got)) / len(_ids(wanted)))
    assert len(kept) == VIEWERS
    assert np.mean(kept) >= 0.98
    assert bounded.describe()["narrowing"].keys() == {ranker.version}


def _ids(packed: bytes) -> set[bytes]:
    return {packed[start : start + 16] for start in range(0, len(packed), 16)}


def test_those_seen_take_nobody_s_place_among_the_scored(city: PeopleRows) -> None:
    """Whoever has seen the best thousands still gets the best of the others."""
    bounded, whole = filled(city, Baseline(), scored=500), filled(city, Baseline(), scored=PEOPLE)
    for number in range(60):
        bounded.shortlist(viewer(city, number), NOW)
    query = viewer(city, int(np.flatnonzero(city.roles == 1)[0]))
    best = whole.shortlist(viewer(city, int(np.flatnonzero(city.roles == 1)[0]), size=1_500), NOW)
    keys = np.sort(np.frombuffer(best.ids, ">u8").reshape(-1, 2)[:, 1].astype("<u8"))
    assert keys.size > 500
    for seen in (keys, keys[::2]):
        asked = msgspec.structs.replace(query, seen=np.ascontiguousarray(seen).tobytes())
        wanted, got = _ids(whole.shortlist(asked, NOW).ids), _ids(bounded.shortlist(asked, NOW).ids)
        assert len(wanted & got) >= 49


class Turned(Scored):
    """Its taste changes when told, as when what its features mean has changed."""

    version = "turned"
    features = ("distance_km", "log_days_since_active")
    sign = -1.0

    def score(self, features: Features) -> Floats:
        return np.asarray(features["distance_km"] * np.float32(self.sign), np.float32)


def test_a_first_stage_that_no_longer_keeps_the_top_is_learned_anew() -> None:
    rng, ranker = np.random.default_rng(1), Turned()
    narrowing = Narrowing(300)

    def features(names: Iterable[str]) -> Features:
        return {name: rng_values[name] for name in names}

    def query() -> np.ndarray:
        return narrowing.chosen(ranker, 3_000, features)

    rng_values = {name: np.asarray(FEATURES[name].neutral, np.float32) for name in INPUTS}
    rng_values["distance_km"] = rng.uniform(0, 100, 3_000).astype(np.float32)
    rng_values["log_days_since_active"] = rng.uniform(0, 4, 3_000).astype(np.float32)
    for _ in range(LEARNED_FROM + 1):
        chosen = query()
    assert set(np.argsort(rng_values["distance_km"])[:300].tolist()) == set(chosen.tolist())
    ranker.sign = 1.0
    for _ in range(AUDITED_EVERY + LEARNED_FROM):
        chosen = query()
    assert set(np.argsort(-rng_values["distance_km"])[:300].tolist()) == set(chosen.tolist())


def test_a_linear_model_is_guessed_exactly_from_little() -> None:
    rng = np.random.default_rng(2)
    values = {name: np.asarray(FEATURES[name].neutral, np.float32) for name in INPUTS}
    values["distance_km"] = rng.uniform(0, 50, 1_000).astype(np.float32)
    values["like_rate_received"] = rng.uniform(0.01, 0.9, 1_000).astype(np.float32)
    scores = np.log(values["like_rate_received"]) - values["distance_km"] / 40
    stage = fit([sample(values, scores.astype(np.float32))])
    assert set(stage.names) == {"distance_km", "like_rate_received"}
    assert stage.best(values, 1_000, 50).tolist() == sorted(np.argsort(-scores)[:50].tolist())
    assert stage.best(values, 1_000, 5_000).tolist() == list(range(1_000))
    with pytest.raises(ValueError, match="nothing to learn"):
        fit([])

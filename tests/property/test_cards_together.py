"""Queries that are ranked in one pass are answered as each would be alone."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.cards.commands import DeckQuery, Shortlist
from actors.cards.crowds import disc, history, reciprocal
from actors.cards.measure import seen_keys, viewers
from actors.cards.state import Cards
from configs.contracts.errors import PlatformError
from configs.contracts.ids import key64
from recommender.baseline import Baseline

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
PEOPLE = 1_500


@pytest.fixture(scope="module")
def crowd() -> tuple[Cards, list[DeckQuery]]:
    """A crowd of whom not everybody is scored, and viewers out of it: plain ones, with seen people, with likers, nowhere."""
    rng = np.random.default_rng(3)
    rows = disc(PEOPLE, 30, rng, NOW)
    cards = Cards(Baseline(), scored=200)
    cards.load(rows)
    cards.settle()
    cards.use(history(rows, rng))
    model = reciprocal()
    cards.models = {model.version: model}
    asked = []
    for number, query in enumerate(viewers(rows, 24, 30, rng)):
        if number % 3 == 1:
            query = msgspec.structs.replace(query, seen=seen_keys(rows, 300, rng), size=20)
        if number % 4 == 2:
            likers = np.array([key64(name) for name in rng.choice(rows.user_ids, 40)], "<u8")
            query = msgspec.structs.replace(query, waiting=likers.tobytes(), waiting_boost=4.0)
        if number % 5 == 3:
            query = msgspec.structs.replace(query, model_version=model.version, with_features=number % 2 == 0)
        if number % 8 == 7:
            query = msgspec.structs.replace(query, latitude=float("nan"))
        if number % 6 == 5:
            query = msgspec.structs.replace(query, max_distance_km=3, widest_km=30)
        asked.append(query)
    for _ in range(2):  # until its first stage is learned, and who is asked for again is known
        for query in asked:
            told(cards, [query])
    return cards, asked


def told(cards: Cards, queries: list[DeckQuery]) -> list[Shortlist | str]:
    return [answer if isinstance(answer, Shortlist) else answer.message for answer in cards.shortlists(queries, NOW)]


@given(st.lists(st.integers(0, 23), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_together_as_alone(crowd: tuple[Cards, list[DeckQuery]], places: list[int]) -> None:
    cards, asked = crowd
    queries = [asked[place] for place in places]
    together = told(cards, queries)
    alone = [told(cards, [query])[0] for query in queries]
    for one, other in zip(together, alone, strict=True):
        if isinstance(one, str) or isinstance(other, str):
            assert one == other
            continue
        assert one.ids == other.ids
        assert np.allclose(np.frombuffer(one.scores, "<f4"), np.frombuffer(other.scores, "<f4"), rtol=0, atol=1e-5)
        assert np.allclose(np.frombuffer(one.features, "<f4"), np.frombuffer(other.features, "<f4"), rtol=1e-6)
        rest = {"scores": b"", "features": b""}
        assert msgspec.structs.replace(one, **rest) == msgspec.structs.replace(other, **rest)


def test_a_query_that_cannot_be_answered_stops_no_other(crowd: tuple[Cards, list[DeckQuery]]) -> None:
    cards, asked = crowd
    nowhere = msgspec.structs.replace(asked[0], latitude=float("nan"))
    first, refused, last = cards.shortlists([asked[0], nowhere, asked[1]], NOW)
    assert isinstance(refused, PlatformError)
    assert isinstance(first, Shortlist)
    assert isinstance(last, Shortlist)
    with pytest.raises(PlatformError):
        cards.shortlist(nowhere, NOW)
    assert cards.shortlists([], NOW) == []

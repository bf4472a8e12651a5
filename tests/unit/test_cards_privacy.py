"""Whoever asks from chosen points cannot learn a position better than the grid holds it."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import h3
import numpy as np
import pytest

from actors.cards.client import merged
from actors.cards.commands import DeckQuery
from actors.cards.state import Cards
from configs.contracts.events import Event, LocationChanged, UserCreated
from configs.contracts.ids import derived_id
from configs.contracts.people import GRID_RESOLUTION, haversine_km, snap
from recommender.baseline import Baseline

NOW = datetime(2026, 2, 1, tzinfo=UTC)
VICTIM = derived_id("privacy", "victim")
HALF_CELL_KM = h3.average_hexagon_edge_length(GRID_RESOLUTION, unit="km") * 3**0.5 / 2
"""From the centre of an average cell to the middle of its edge: about 3.2 km."""


def cards_with_victim_at(latitude: float, longitude: float) -> Cards:
    """As the route would record it: only the snapped point is in the event."""
    lat, lng, cell = snap(latitude, longitude)
    cards = Cards(Baseline())
    cards.apply(Event("1", NOW, VICTIM, UserCreated(user_id=VICTIM, role="sugar_baby", display_name="v", birth_date="1998-01-01")), 1)
    cards.apply(Event("2", NOW, VICTIM, LocationChanged(user_id=VICTIM, latitude=lat, longitude=lng, cell=cell)), 2)
    return cards


def answer(cards: Cards, latitude: float, longitude: float, radius_km: int) -> tuple[float, float] | None:
    """(distance, score) that an attacker standing there is told; None: not shown."""
    query = DeckQuery(
        viewer_id=derived_id("privacy", "attacker"), latitude=latitude, longitude=longitude, birth_date="1990-01-01",
        role="sugar_daddy", gender=None, age_min=18, age_max=99, max_distance_km=radius_km, roles=("sugar_baby",),
    )
    entries = merged([cards.shortlist(query, NOW)], 50).entries
    return (entries[0].distance_km, entries[0].score) if entries else None


def points_in(cell: str, count: int, rng: random.Random) -> list[tuple[float, float]]:
    boundary = h3.cell_to_boundary(cell)
    lats, lngs = [p[0] for p in boundary], [p[1] for p in boundary]
    points: list[tuple[float, float]] = []
    while len(points) < count:
        point = rng.uniform(min(lats), max(lats)), rng.uniform(min(lngs), max(lngs))
        if h3.latlng_to_cell(*point, GRID_RESOLUTION) == cell:
            points.append(point)
    return points


def test_moving_inside_a_cell_changes_no_answer_for_either_side() -> None:
    rng = random.Random(1)
    cell = snap(48.8566, 2.3522)[2]
    asked = [(48.9, 2.2), (48.7, 2.6), (48.85, 2.35), (48.62, 2.1)]
    victims = [
        [answer(cards_with_victim_at(*point), *place, radius) for place in asked for radius in (5, 20, 50)]
        for point in points_in(cell, 12, rng)
    ]
    assert all(told == victims[0] for told in victims)
    assert any(told is not None for told in victims[0])
    cards = cards_with_victim_at(48.9, 2.5)
    viewers = {answer(cards, *point, radius) for point in points_in(cell, 40, rng) for radius in (15,)}
    assert len(viewers) == 1


def true_points() -> list[tuple[float, float]]:
    """Corners of a cell, pulled a little inwards: where the grid says least about the true place."""
    cell = snap(48.8566, 2.3522)[2]
    lat, lng = h3.cell_to_latlng(cell)
    return [(lat + 0.97 * (a - lat), lng + 0.97 * (b - lng)) for a, b in h3.cell_to_boundary(cell)]


@pytest.mark.parametrize("true", true_points())
def test_trilateration_from_many_points_stays_at_least_half_a_cell_away(true: tuple[float, float]) -> None:
    """The attacker fits the place that explains all distances best, to the metre, and finds the cell's centre."""
    cards = cards_with_victim_at(*true)
    rng = np.random.default_rng(7)
    asked = [(true[0] + north, true[1] + east) for north, east in rng.uniform(-0.3, 0.3, (60, 2)).tolist()]
    told = [(snap(*place)[:2], found[0]) for place in asked if (found := answer(cards, *place, 100))]
    assert len(told) == 60

    def misfit(lat: float, lng: float) -> float:
        return sum((haversine_km(*place, lat, lng) - km) ** 2 for place, km in told)

    guess, step = (true[0] + 0.1, true[1] - 0.1), 0.1
    while step > 1e-6:
        around = [(guess[0] + i * step, guess[1] + j * step) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        better = min(around, key=lambda place: misfit(*place))
        guess, step = better, step if better != guess else step / 2
    assert haversine_km(*guess, *snap(*true)[:2]) < 0.05, "the attack itself must work, or this test proves nothing"
    assert haversine_km(*guess, *true) > HALF_CELL_KM


def test_walking_towards_the_edge_of_the_radius_tells_only_the_cell() -> None:
    """Bisecting the point where somebody appears in the deck meets cell borders, never the person."""
    edges = set()
    for true in true_points()[:3]:
        cards = cards_with_victim_at(*true)
        inside, outside = 48.86, 50.5
        assert answer(cards, inside, 2.35, 40)
        assert answer(cards, outside, 2.35, 40) is None
        while outside - inside > 1e-7:
            middle = (inside + outside) / 2
            if answer(cards, middle, 2.35, 40):
                inside = middle
            else:
                outside = middle
        assert snap(inside, 2.35) != snap(outside, 2.35)
        edges.add(inside)
    assert len(edges) == 1

"""Made-up crowds for measuring: a disc around one point, or a world with one metropolis. The same seed, the same people."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import h3
import numpy as np
from numpy.typing import NDArray

from actors.cards.identities import split_ids
from configs.contracts.loading import PackedIds, PeopleRows
from configs.contracts.people import GRID_RESOLUTION, haversine_km, snap
from recommender import candidates, people_table
from recommender.cities import CITIES
from recommender.exposure import Exposed
from recommender.features import FEATURES
from recommender.logistic import Logistic
from recommender.people_table import PeopleTable
from recommender.ranking import Ranker
from recommender.reciprocal import Reciprocal

Floats = NDArray[np.float64]

CENTRE: Final = (48.8566, 2.3522)
"""Of every disc and of the metropolis."""
KM_A_DEGREE: Final = 111.195
METROPOLIS_SHARE: Final = 0.1
RURAL_SHARE: Final = 0.15
"""People spread evenly over the inhabited latitudes, a guess; the rest lives in the other cities."""


def disc(people: int, radius_km: float, rng: np.random.Generator, now: datetime) -> PeopleRows:
    """People spread evenly over a disc, all of them within the radius once their positions are snapped."""
    here = snap(*CENTRE)[:2]
    latitudes, longitudes = np.zeros(0), np.zeros(0)
    while latitudes.size < people:
        north, east = radius_km * 1.05 * (2 * rng.random((2, people)) - 1)
        lat = CENTRE[0] + north / KM_A_DEGREE
        lng = CENTRE[1] + east / (KM_A_DEGREE * np.cos(np.radians(CENTRE[0])))
        snapped_lat, snapped_lng, _ = snapped(lat, lng)
        inside = candidates.distances_km(*here, snapped_lat, snapped_lng) <= radius_km
        latitudes, longitudes = np.append(latitudes, lat[inside]), np.append(longitudes, lng[inside])
    return rows_at(latitudes[:people], longitudes[:people], rng, now)


def world(people: int, rng: np.random.Generator) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """(latitudes, longitudes, who lives in the metropolis) of raw points: a tenth in one metropolis.

    Around each city the density falls exponentially with the distance (Clark, 1951).
    """
    others = [city for city in CITIES if haversine_km(city.latitude, city.longitude, *CENTRE) > 200]
    weights = np.array([city.people_m for city in others])
    kind = rng.random(people)
    metropolis = kind < METROPOLIS_SHARE
    rural = kind > 1 - RURAL_SHARE
    home = rng.choice(len(others), people, p=weights / weights.sum())
    centre_lat = np.where(metropolis, CENTRE[0], np.array([city.latitude for city in others])[home])
    centre_lng = np.where(metropolis, CENTRE[1], np.array([city.longitude for city in others])[home])
    size = np.where(metropolis, 11.0, weights[home])
    radius = np.minimum(rng.gamma(2.0, 2.0 * np.sqrt(size)), 60.0) / KM_A_DEGREE
    angle = rng.random(people) * 2 * np.pi
    latitudes = np.where(rural, rng.uniform(-50, 65, people), centre_lat + radius * np.cos(angle))
    longitudes = np.where(
        rural, rng.uniform(-180, 180, people), centre_lng + radius * np.sin(angle) / np.cos(np.radians(centre_lat))
    )
    return latitudes, longitudes, metropolis


def snapped(latitudes: Floats, longitudes: Floats) -> tuple[Floats, Floats, NDArray[np.uint64]]:
    """``people.snap`` for columns: latitudes, longitudes and cells, each (n,)."""
    names = [
        h3.latlng_to_cell(latitude, longitude, GRID_RESOLUTION)
        for latitude, longitude in zip(latitudes.tolist(), longitudes.tolist(), strict=True)
    ]
    cells, which = np.unique(np.array([int(name, 16) for name in names], dtype=np.uint64), return_inverse=True)
    centres = np.array([h3.cell_to_latlng(f"{cell:x}") for cell in cells.tolist()]).reshape(-1, 2).round(5)
    return centres[which, 0], centres[which, 1], cells[which]


def rows_at(latitudes: Floats, longitudes: Floats, rng: np.random.Generator, now: datetime) -> PeopleRows:
    """People at raw points, half of each role, with ages and preferences of an adult population."""
    people = latitudes.size
    snapped_lat, snapped_lng, cells = snapped(latitudes, longitudes)
    ages = np.clip(rng.gamma(3.0, 4.5, people) + 18, 18, 80)
    middle = ages + rng.normal(0, 4, people)
    width = rng.integers(4, 14, people)
    roles = rng.integers(0, 2, people).astype(np.uint8)
    today = candidates.day_number(now.date())
    return PeopleRows(
        user_ids=PackedIds(rng.bytes(16 * people)),
        latitudes=snapped_lat,
        longitudes=snapped_lng,
        cells=cells,
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
        versions=np.ones(people, dtype=np.uint64),
        match_versions=np.ones(people, dtype=np.uint64),
    )


def history(rows: PeopleRows, rng: np.random.Generator) -> PeopleTable:
    """What people have swiped and received, few swipes for most, and exposure prices that grow with popularity."""
    high, low = split_ids(PackedIds.of(rows.user_ids).packed)
    received, sent = (rng.poisson(rng.exponential(120, high.size)) for _ in range(2))
    popularity = rng.beta(1.5, 4, high.size)
    return people_table.build(np.stack([high, low], axis=1), {
        "likes_received": rng.binomial(received, popularity), "swipes_received": received,
        "likes_sent": rng.binomial(sent, rng.beta(1.5, 3, high.size)), "swipes_sent": sent,
        "log_price": -np.log1p(3 * popularity * rng.exponential(0.6, high.size)),
    }, version="made up")


def reciprocal() -> Ranker:
    """A model of both directions with history features and prices, its weights made up."""
    likes = {
        "distance_km": -0.02, "log_days_since_active": -0.3, "age_fit": 1.0, "like_rate_received": 4.0,
        "viewer_like_rate_sent": 3.0, "is_verified": 0.3, "older_years": -0.03,
    }
    liked = {
        "distance_km": -0.02, "age_fit": 1.2, "like_rate_received": 4.0, "viewer_like_rate_sent": 3.5,
        "viewer_log_swipes_sent": 0.2,
    }
    def model(weights: dict[str, float]) -> Logistic:
        centre = np.array([FEATURES[name].neutral for name in weights])
        return Logistic(tuple(weights), np.array(list(weights.values())), centre, -1.0)

    return Exposed(Reciprocal(model(likes), model(liked)))

"""A made-up population around real cities, for demonstrations, load and simulation. The same seed, the same people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from configs.contracts.events import Gender, Role
from recommender import demographics
from recommender.candidates import latest_birth
from recommender.cities import CITIES, City, city
from recommender.demographics import AGE_BANDS, AGE_STEP, JOBS, OKCUPID, OLDEST, ORIENTATIONS, YOUNGEST, Demographics

PEOPLE_A_CITY: Final = 150
"""A small population stays in few cities, so that everybody finds somebody near."""
KM_A_DEGREE: Final = 111.195
RADII_KM: Final = {10: 0.08, 25: 0.22, 50: 0.40, 100: 0.20, 200: 0.10}
NON_BINARY, UNSTATED, BOTH_ROLES, HIDES_DISTANCE = 0.02, 0.05, 0.08, 0.1

WOMEN: Final = (
    "Emma Olivia Sophie Mia Lena Clara Julia Anna Laura Marie Chloe Camille Lucia Elena Sara Giulia Nora Ingrid Freya "
    "Zoe Alice Grace Ruby Isla Amelia Hannah Leah Naomi Maya Priya Aisha Yuki Mei Ines Carmen Paula Katarzyna Eva "
    "Tereza Alba Valentina Isabella Victoria Natalie Rachel Jasmine Bianca Serena Daphne Iris"
)
MEN: Final = (
    "James Oliver Lucas Paul Felix Max Jonas David Thomas Pierre Hugo Mateo Diego Marco Luca Erik Lars Anders Henry "
    "George Charles Edward William Jack Daniel Michael Robert Richard Steven Mark Andrew Victor Julian Sebastian "
    "Alexander Omar Karim Raj Kenji Wei Tiago Rui Piotr Jan Martin Stefan Adrian Nathan Samuel Theo"
)
NEUTRAL: Final = "Alex Sam Robin Charlie Jamie Quinn Rowan Sasha Kim Noa Eli River"
NAMES: Final[Mapping[str, Sequence[str]]] = {
    "woman": WOMEN.split(), "man": MEN.split(), "non_binary": NEUTRAL.split(),
}
LIKES: Final = (
    "long walks", "good coffee", "jazz bars", "trail running", "cooking for friends", "old films", "sailing",
    "contemporary art", "weekend trips", "yoga", "live music", "board games", "tennis", "photography", "skiing",
    "wine tastings", "bookshops", "dogs", "cats", "surfing", "theatre", "gardening", "climbing", "street food",
)
OPENINGS: Final = (
    "{job}, into {one} and {two}.", "{job} on weekdays, {one} on weekends.", "{job}. Ask me about {one}.",
    "{one} and {two}. {job}.", "New in town. {job}, happy with {one} and {two}.",
)


@dataclass(frozen=True, slots=True)
class Population:
    """Columns of n people in one order. Positions are raw points: snap them before they are stored anywhere."""

    display_names: Sequence[str]
    birth_dates: Sequence[date]
    roles: Sequence[Role]
    genders: Sequence[Gender | None]
    bios: Sequence[str]
    cities: Sequence[str]
    latitudes: NDArray[np.float64]
    longitudes: NDArray[np.float64]
    age_min: NDArray[np.int64]
    age_max: NDArray[np.int64]
    max_distance_km: NDArray[np.int64]
    accepted_roles: Sequence[tuple[Role, ...]]
    accepted_genders: Sequence[tuple[Gender, ...]]
    """Empty: any."""
    hide_distance: NDArray[np.bool_]
    active_days_ago: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.roles)


def generate(users: int, near: str | None = None, seed: int = 0, *, today: date,
             profiles: Iterable[str] | None = None) -> Population:
    """``users`` people: around one city, or around as many of the table as they fill with 150 each.

    Distance from the centre decays exponentially in density (Clark, 1951); sexes, ages, orientations and occupations
    follow ``demographics.OKCUPID``, or the CSV whose lines are given as ``profiles``. Older men mostly are
    sugar_daddy, younger women mostly sugar_baby, with the exceptions that real sites have.
    Raises LookupError: no such city. ValueError: profiles that cannot be used.
    """
    rng = np.random.default_rng(seed)
    shares = OKCUPID if profiles is None else demographics.read(profiles)
    men = rng.random(users) < shares.men
    ages = _ages(rng, shares, men)
    daddies = rng.random(users) < _sigmoid((ages - 33) / 5 + np.where(men, 1.2, -2.0))
    genders = _genders(rng, men)
    homes = _homes(rng, users, near)
    latitudes, longitudes = _scatter(rng, homes)
    younger, older = _age_preferences(rng, ages, daddies)
    return Population(
        display_names=[_name(rng, gender) for gender in genders],
        birth_dates=[
            latest_birth(today, age) - timedelta(days=shift)
            for age, shift in zip(ages.tolist(), rng.integers(0, 365, users).tolist(), strict=True)
        ],
        roles=["sugar_daddy" if daddy else "sugar_baby" for daddy in daddies.tolist()],
        genders=[None if hidden else gender for gender, hidden in zip(genders, rng.random(users) < UNSTATED, strict=True)],
        bios=_bios(rng, shares, ages),
        cities=[home.name for home in homes],
        latitudes=latitudes,
        longitudes=longitudes,
        age_min=younger,
        age_max=older,
        max_distance_km=rng.choice(list(RADII_KM), users, p=list(RADII_KM.values())),
        accepted_roles=_accepted_roles(daddies, rng.random(users) < BOTH_ROLES),
        accepted_genders=_accepted_genders(rng, shares, men),
        hide_distance=rng.random(users) < HIDES_DISTANCE,
        active_days_ago=rng.exponential(np.where(rng.random(users) < 0.7, 1.5, 30.0)),
    )


def _normalised(weights: Iterable[float]) -> NDArray[np.float64]:
    values = np.array(list(weights), dtype=np.float64)
    return np.asarray(values / values.sum())


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x)))


def _ages(rng: np.random.Generator, shares: Demographics, men: NDArray[np.bool_]) -> NDArray[np.int64]:
    drawn = {
        sex: rng.choice(len(weights), men.size, p=_normalised(weights)) for sex, weights in shares.ages.items()
    }
    bins = np.where(men, drawn["m"], drawn["f"])
    return np.asarray(np.minimum(YOUNGEST + AGE_STEP * bins + rng.integers(0, AGE_STEP, men.size), OLDEST))


def _genders(rng: np.random.Generator, men: NDArray[np.bool_]) -> list[Gender]:
    other = rng.random(men.size) < NON_BINARY
    return [
        "non_binary" if neither else "man" if man else "woman"
        for man, neither in zip(men.tolist(), other.tolist(), strict=True)
    ]


def _homes(rng: np.random.Generator, users: int, near: str | None) -> list[City]:
    if near is not None:
        return [city(near)] * users
    chosen = CITIES[: min(max(users // PEOPLE_A_CITY, 1), len(CITIES))]
    # The square root keeps small cities from being empty.
    weights = _normalised(place.people_m**0.5 for place in chosen)
    return [chosen[index] for index in rng.choice(len(chosen), users, p=weights).tolist()]


def _scatter(rng: np.random.Generator, homes: Sequence[City]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A density falling as exp(-r / s) has radii of a gamma distribution with shape 2; s grows with the city."""
    scale_km = np.array([2.0 * home.people_m**0.5 for home in homes])
    radius = np.minimum(rng.gamma(2.0, scale_km), 60.0) / KM_A_DEGREE
    angle = rng.random(len(homes)) * 2 * np.pi
    latitudes = np.array([home.latitude for home in homes]) + radius * np.cos(angle)
    longitudes = np.array([home.longitude for home in homes]) + radius * np.sin(angle) / np.cos(np.radians(latitudes))
    return np.asarray(latitudes), np.asarray(longitudes)


def _age_preferences(rng: np.random.Generator, ages: NDArray[np.int64],
                     daddies: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    younger = np.where(daddies, ages * 0.5 + rng.normal(4, 3, ages.size), ages - rng.exponential(2.0, ages.size))
    older = np.where(daddies, ages + rng.normal(1, 4, ages.size), ages + rng.normal(18, 7, ages.size))
    low = np.clip(np.round(younger), 18, 90).astype(np.int64)
    high = np.clip(np.round(older), 18, 99).astype(np.int64)
    return low, np.maximum(high, np.minimum(low + 6, 99))


def _accepted_roles(daddies: NDArray[np.bool_], both: NDArray[np.bool_]) -> list[tuple[Role, ...]]:
    return [
        ("sugar_baby", "sugar_daddy") if any_role else ("sugar_baby",) if daddy else ("sugar_daddy",)
        for daddy, any_role in zip(daddies.tolist(), both.tolist(), strict=True)
    ]


def _accepted_genders(rng: np.random.Generator, shares: Demographics,
                      men: NDArray[np.bool_]) -> list[tuple[Gender, ...]]:
    drawn = {
        sex: rng.choice(len(ORIENTATIONS), men.size, p=_normalised(weights))
        for sex, weights in shares.orientations.items()
    }
    accepted: Mapping[tuple[bool, str], tuple[Gender, ...]] = {
        (True, "straight"): ("woman",), (True, "gay"): ("man",), (True, "bisexual"): (),
        (False, "straight"): ("man",), (False, "gay"): ("woman",), (False, "bisexual"): (),
    }
    return [
        accepted[(man, ORIENTATIONS[kind])]
        for man, kind in zip(men.tolist(), np.where(men, drawn["m"], drawn["f"]).tolist(), strict=True)
    ]


def _name(rng: np.random.Generator, gender: Gender) -> str:
    names = NAMES[gender]
    return names[int(rng.integers(len(names)))]


def _bios(rng: np.random.Generator, shares: Demographics, ages: NDArray[np.int64]) -> list[str]:
    jobs = [(list(band), _normalised(band.values())) for band in shares.jobs]
    bios = []
    for age in ages.tolist():
        if rng.random() < 0.15:
            bios.append("")
            continue
        names, weights = jobs[next(band for band, end in enumerate(AGE_BANDS) if age < end)]
        job = JOBS[names[int(rng.choice(len(names), p=weights))]]
        first, second = rng.choice(len(LIKES), 2, replace=False).tolist()
        opening = OPENINGS[int(rng.integers(len(OPENINGS)))]
        text = opening.format(job=job[0].upper() + job[1:], one=LIKES[first], two=LIKES[second])
        bios.append(text[0].upper() + text[1:])
    return bios

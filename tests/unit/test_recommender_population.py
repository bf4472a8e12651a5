"""The made-up population is reproducible, lawful and shaped like real sites."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import fields
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from configs.contracts.people import age_years, haversine_km, snap
from recommender.cities import CITIES, city
from recommender.demographics import OKCUPID, read
from recommender.population import Population, generate

TODAY = date(2024, 2, 29)
PROFILES = Path(__file__).parents[3] / "shared/data/okcupid_profiles.csv.gz"


@pytest.fixture(scope="module")
def people() -> Population:
    return generate(4_000, None, 11, today=TODAY)


def columns(population: Population) -> list[list[object]]:
    return [list(getattr(population, field.name)) for field in fields(population)]


def test_the_same_seed_makes_the_same_people_and_another_seed_others(people: Population) -> None:
    assert columns(generate(4_000, None, 11, today=TODAY)) == columns(people)
    assert generate(4_000, None, 12, today=TODAY).display_names != people.display_names


def test_everybody_would_be_accepted_by_the_api(people: Population) -> None:
    assert {len(column) for column in columns(people)} == {4_000}
    for birth in people.birth_dates:
        assert 18 <= age_years(birth, TODAY) <= 69
    assert ((people.age_min >= 18) & (people.age_min < people.age_max) & (people.age_max <= 99)).all()
    assert ((people.max_distance_km >= 1) & (people.max_distance_km <= 500)).all()
    assert all(1 <= len(name) <= 100 for name in people.display_names)
    assert all(len(bio) <= 200 for bio in people.bios)
    for latitude, longitude in zip(people.latitudes.tolist(), people.longitudes.tolist(), strict=True):
        snap(latitude, longitude)


def test_ages_follow_the_statistics_of_each_sex(people: Population) -> None:
    ages = np.array([age_years(birth, TODAY) for birth in people.birth_dates])
    assert 28 <= np.median(ages) <= 32
    assert 0.01 < (ages >= 55).mean() < 0.07
    daddies = np.array([role == "sugar_daddy" for role in people.roles])
    assert 0.35 < daddies.mean() < 0.6
    assert ages[daddies].mean() > ages[~daddies].mean() + 5
    by_role = Counter(zip(people.roles, people.genders, strict=True))
    assert by_role["sugar_daddy", "man"] > 3 * by_role["sugar_daddy", "woman"]
    assert by_role["sugar_baby", "woman"] > by_role["sugar_baby", "man"]


def test_everybody_lives_around_their_city_and_most_near_its_centre(people: Population) -> None:
    distances = [
        haversine_km(city(name).latitude, city(name).longitude, lat, lng)
        for name, lat, lng in zip(people.cities, people.latitudes.tolist(), people.longitudes.tolist(), strict=True)
    ]
    assert max(distances) < 62
    assert np.median(distances) < 20
    assert min(Counter(people.cities).values()) >= 30


def test_near_puts_everybody_in_one_city_and_unknown_cities_name_the_known() -> None:
    assert set(generate(50, "paris", 1, today=TODAY).cities) == {"Paris"}
    with pytest.raises(LookupError, match="Paris"):
        generate(1, "Atlantis", 1, today=TODAY)


def test_most_people_find_somebody_whom_both_sides_accept(people: Population) -> None:
    """A demonstration in which decks are empty shows nothing."""
    from datetime import UTC, datetime

    from actors.cards.commands import DeckQuery
    from actors.cards.state import Cards
    from configs.contracts.events import Event, LocationChanged, PreferencesChanged, ProfileChanged, UserCreated
    from configs.contracts.ids import derived_id
    from recommender.baseline import Baseline

    now = datetime(2024, 2, 29, 12, tzinfo=UTC)
    cards = Cards(Baseline())
    ids = [derived_id("population", str(i)) for i in range(2_000)]
    two_thousand = generate(2_000, None, 11, today=TODAY)
    places = [snap(a, b) for a, b in zip(two_thousand.latitudes.tolist(), two_thousand.longitudes.tolist(), strict=True)]
    for i, user_id in enumerate(ids):
        lat, lng, cell = places[i]
        for version, payload in enumerate((
            UserCreated(user_id=user_id, role=two_thousand.roles[i], display_name="x", birth_date=two_thousand.birth_dates[i].isoformat()),
            ProfileChanged(user_id=user_id, gender=two_thousand.genders[i]),
            PreferencesChanged(
                user_id=user_id, age_min=int(two_thousand.age_min[i]), age_max=int(two_thousand.age_max[i]),
                max_distance_km=int(two_thousand.max_distance_km[i]), roles=two_thousand.accepted_roles[i],
                genders=two_thousand.accepted_genders[i],
            ),
            LocationChanged(user_id=user_id, latitude=lat, longitude=lng, cell=cell),
        )):
            cards.apply(Event("e", now, user_id, payload), version)
    found = []
    for i, user_id in enumerate(ids):
        query = DeckQuery(
            viewer_id=user_id, latitude=places[i][0], longitude=places[i][1],
            birth_date=two_thousand.birth_dates[i].isoformat(), role=two_thousand.roles[i], gender=two_thousand.genders[i],
            age_min=int(two_thousand.age_min[i]), age_max=int(two_thousand.age_max[i]),
            max_distance_km=int(two_thousand.max_distance_km[i]), roles=two_thousand.accepted_roles[i],
            genders=two_thousand.accepted_genders[i],
        )
        found.append(len(cards.shortlist(query, now).ids) // 16)
    assert np.median(found) >= 3
    assert (np.array(found) > 0).mean() > 0.7


def test_cities_are_forty_different_places() -> None:
    assert len({place.name for place in CITIES}) == len(CITIES) == 40
    for i, one in enumerate(CITIES):
        for other in CITIES[:i]:
            assert haversine_km(one.latitude, one.longitude, other.latitude, other.longitude) > 50, (one, other)


def test_profiles_without_the_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="no column 'sex'"):
        generate(10, None, 1, today=TODAY, profiles=["a,b", "1,2"])
    with pytest.raises(ValueError, match="both sexes"):
        generate(10, None, 1, today=TODAY, profiles=["sex,age,orientation,job", "m,30,straight,student"])


@pytest.mark.skipif(not PROFILES.exists(), reason=f"needs {PROFILES}")
def test_the_constants_are_those_of_the_profiles() -> None:
    with gzip.open(PROFILES, "rt") as lines:
        found = read(lines)
    assert found.men == pytest.approx(OKCUPID.men, abs=0.002)
    for sex in "mf":
        baked = np.array(OKCUPID.ages[sex]) / sum(OKCUPID.ages[sex])
        assert np.abs(baked - np.array(found.ages[sex])).max() < 0.002
        assert OKCUPID.orientations[sex] == pytest.approx(found.orientations[sex], abs=0.002)
    for baked_jobs, jobs in zip(OKCUPID.jobs, found.jobs, strict=True):
        assert all(abs(jobs[job] - share) < 0.002 for job, share in baked_jobs.items())

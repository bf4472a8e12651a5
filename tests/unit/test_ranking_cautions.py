"""A model that serves without the people table it reads, or with prices made for another model, is said so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.connections.artifacts import LocalArtifacts
from cluster.launch.ranking.cautions import cautions, told
from configs.contracts.ranking import BASELINE, Arm, Experiment, RankingConfiguration
from recommender import artifacts, people_table
from recommender.datasets.pricing import priced_as
from recommender.exposure import Exposed
from recommender.features import FEATURES
from recommender.logistic import Logistic
from recommender.people_table import read_from_table
from recommender.ranking import Ranker
from recommender.recency import Recent

TABLE = "people-1"


def line(name: str, weight: float = -1.0) -> Logistic:
    return Logistic((name,), np.array([weight]), np.array([FEATURES[name].neutral]), 0.0)


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifacts:
    return LocalArtifacts(tmp_path / "root")


def stored(store: LocalArtifacts, ranker: Ranker, tmp_path: Path) -> str:
    artifacts.save(ranker, tmp_path / ranker.version)
    store.publish("models", ranker.version, tmp_path / ranker.version)
    return ranker.version


def tabled(store: LocalArtifacts, tmp_path: Path, priced_for: Ranker | None) -> None:
    facts = {} if priced_for is None else {"priced_for": priced_for.version, "priced_as": priced_as(priced_for)}
    table = people_table.build(np.array([[0, 1]], np.uint64), {"log_price": np.zeros(1)}, version=TABLE)
    people_table.save(table, tmp_path / TABLE, facts)
    store.publish("people", TABLE, tmp_path / TABLE)


def test_a_model_that_reads_a_table_when_there_is_none_is_told(store: LocalArtifacts, tmp_path: Path) -> None:
    history, plain = stored(store, line("like_rate_received"), tmp_path), stored(store, line("distance_km"), tmp_path)
    (said,) = cautions(store, RankingConfiguration(1, history))
    assert said.startswith(f"{history} reads like_rate_received from a people table, and none is in force")
    assert cautions(store, RankingConfiguration(1, plain)) == []
    arms = (Arm("old", BASELINE, 0.5), Arm("new", history, 0.5))
    assert cautions(store, RankingConfiguration(1, BASELINE, Experiment("e", "user", arms))) == [said]
    tabled(store, tmp_path, None)
    assert cautions(store, RankingConfiguration(1, history, people_table=TABLE)) == []


def test_prices_of_another_model_are_told(store: LocalArtifacts, tmp_path: Path) -> None:
    mine, other = Exposed(line("distance_km"), 1.0, 0.1), Exposed(line("distance_km", -2.0), 1.0, 0.1)
    tabled(store, tmp_path, mine)
    for ranker in (mine, other):
        stored(store, ranker, tmp_path)
    assert cautions(store, RankingConfiguration(1, mine.version, people_table=TABLE)) == []
    (said,) = cautions(store, RankingConfiguration(1, other.version, people_table=TABLE))
    assert f"those of {TABLE} were made for {mine.version}; run `sugar ranking refresh --for {other.version}`" in said


def test_a_table_of_before_prices_had_names_fits_nobody_who_reads_them(store: LocalArtifacts, tmp_path: Path) -> None:
    tabled(store, tmp_path, None)
    version = stored(store, Exposed(line("distance_km"), 1.0), tmp_path)
    assert "no model it names" in cautions(store, RankingConfiguration(1, version, people_table=TABLE))[0]


def test_another_strength_and_recency_have_the_same_prices(store: LocalArtifacts, tmp_path: Path) -> None:
    mine = Exposed(line("distance_km"), 1.0, 0.1)
    tabled(store, tmp_path, mine)
    arms = tuple(
        Arm(f"a{place}", stored(store, ranker, tmp_path), 0.5)
        for place, ranker in enumerate((Exposed(line("distance_km"), 0.5, 0.1), Recent(mine)))
    )
    assert cautions(store, RankingConfiguration(1, BASELINE, Experiment("e", "user", arms), TABLE)) == []
    assert priced_as(Exposed(line("distance_km"), 1.0, 0.2)) != priced_as(mine)


def test_what_cannot_be_read_is_said_and_stops_nothing(store: LocalArtifacts) -> None:
    assert "cannot be told" in told(store, RankingConfiguration(1, "gone"))[0]


def test_every_feature_is_known_to_come_from_a_table_or_not() -> None:
    assert read_from_table(("age_years", "like_rate_sent", "log_price", "viewer_affinity", "viewer_log_swipes_received", "days_since_active")) == [
        "like_rate_sent", "log_price", "viewer_affinity", "viewer_log_swipes_received"
    ]
    assert set(read_from_table(FEATURES)) == {
        name for name in FEATURES if any(part in name for part in ("like_rate", "log_swipes", "affinity", "log_price"))
    }

"""A card shard serves by the newest configuration that it can use, and says what it refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.cards.models import Models, require_usable
from actors.cards.state import Cards
from cluster.connections.artifacts import LocalArtifacts
from configs.contracts.errors import ArtifactCorrupt, ArtifactExists, ArtifactMissing
from configs.contracts.ranking import BASELINE, Arm, Experiment, RankingConfiguration
from recommender import artifacts, people_table
from recommender.baseline import Baseline
from recommender.features import FEATURES
from recommender.logistic import Logistic
from recommender.ranking import Features, Floats


def model(weight: float) -> Logistic:
    return Logistic(("distance_km",), np.array([weight]), np.array([FEATURES["distance_km"].neutral]), 0.0)


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifacts:
    return LocalArtifacts(tmp_path / "store")


@pytest.fixture
def stored(store: LocalArtifacts, tmp_path: Path) -> list[str]:
    """Three versions in the store."""
    versions = []
    for number in range(3):
        ranker = model(-0.1 * (number + 1))
        artifacts.save(ranker, tmp_path / f"model-{number}")
        store.publish("models", ranker.version, tmp_path / f"model-{number}")
        versions.append(ranker.version)
    return versions


def damage(store: LocalArtifacts, version: str) -> None:
    arrays = store.fetch("models", version) / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[::-1])


@pytest.fixture
def cards() -> Cards:
    return Cards(Baseline())


async def heard(models: Models, *configurations: RankingConfiguration) -> None:
    for configuration in configurations:
        models.hear(configuration)
    await models.settle()


async def test_a_configuration_names_the_default_and_the_arms(store: LocalArtifacts, stored: list[str], cards: Cards) -> None:
    models = Models(store)
    models.serve(cards)
    arms = Experiment("e", "user", (Arm("a", stored[1], 0.5), Arm("b", BASELINE, 0.5)))
    await heard(models, RankingConfiguration(4, stored[0], arms))
    assert cards.ranker.version == stored[0]
    assert cards.models[stored[1]].version == stored[1]
    assert cards.models[BASELINE].version == cards.models[Baseline().version].version
    assert cards.configuration == 4
    assert models.describe()["refused"] == {}


async def test_an_older_or_unusable_configuration_changes_nothing(store: LocalArtifacts, stored: list[str], cards: Cards) -> None:
    models = Models(store)
    models.serve(cards)
    await heard(models, RankingConfiguration(4, stored[0]), RankingConfiguration(3, stored[1]), RankingConfiguration(9, "../x"))
    assert (cards.ranker.version, cards.configuration) == (stored[0], 4)


async def test_a_refused_default_leaves_the_old_one_serving_and_heals_when_it_can(
    store: LocalArtifacts, stored: list[str], cards: Cards, tmp_path: Path
) -> None:
    models = Models(store)
    models.serve(cards)
    await heard(models, RankingConfiguration(1, stored[0]))
    whole = (store.fetch("models", stored[1]) / "arrays.npz").read_bytes()
    damage(store, stored[1])
    await heard(models, RankingConfiguration(2, stored[1]))
    assert cards.ranker.version == stored[0]
    assert cards.configuration == 2, "decks made meanwhile are not made again for ever"
    assert list(models.refused) == [stored[1]]
    (store.fetch("models", stored[1]) / "arrays.npz").write_bytes(whole)
    await models.settle()
    assert (cards.ranker.version, models.refused) == (stored[1], {})


async def test_missing_versions_and_tables_are_refused(store: LocalArtifacts, cards: Cards) -> None:
    models = Models(store)
    models.serve(cards)
    await heard(models, RankingConfiguration(1, "never-made", people_table="nor-this"))
    assert set(models.refused) == {"never-made", "nor-this"}
    assert cards.ranker.version == Baseline().version


async def test_a_people_table_is_taken_and_given_back(store: LocalArtifacts, cards: Cards, tmp_path: Path) -> None:
    table = people_table.build(np.array([[1, 2]], np.uint64), {"likes_sent": np.array([3.0]), "swipes_sent": np.array([4.0])}, version="t1")
    people_table.save(table, tmp_path / "t1")
    store.publish("people", "t1", tmp_path / "t1")
    models = Models(store)
    models.serve(cards)
    await heard(models, RankingConfiguration(1, people_table="t1"))
    assert (cards.table.version, len(cards.table)) == ("t1", 1)
    await heard(models, RankingConfiguration(2))
    assert len(cards.table) == 0


async def test_models_of_long_ago_are_forgotten(store: LocalArtifacts, cards: Cards, tmp_path: Path) -> None:
    models = Models(store)
    models.serve(cards)
    for number in range(1, 12):
        ranker = model(-float(number))
        artifacts.save(ranker, tmp_path / f"m{number}")
        store.publish("models", ranker.version, tmp_path / f"m{number}")
        await heard(models, RankingConfiguration(number, ranker.version))
    assert len(models.describe()["loaded"]) <= 7
    assert cards.ranker.version == ranker.version


async def test_a_shard_that_starts_later_serves_what_is_loaded(store: LocalArtifacts, stored: list[str]) -> None:
    models = Models(store)
    await heard(models, RankingConfiguration(2, stored[2]))
    cards = Cards(models.baseline)
    models.serve(cards)
    assert (cards.ranker.version, cards.configuration) == (stored[2], 2)


class Broken(Baseline):
    """Scores that are no numbers, as weights of NaN would give."""

    def score(self, features: Features) -> Floats:
        return np.full(3, np.nan, np.float32)


def test_a_model_whose_scores_are_no_numbers_is_refused() -> None:
    with pytest.raises(ArtifactCorrupt, match="not finite"):
        require_usable(Broken())
    require_usable(model(1e30))


def test_weights_that_are_no_numbers_cannot_even_be_read(store: LocalArtifacts, stored: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finite"):
        model(float("nan"))


def test_versions_are_written_once_and_names_do_not_leave_the_store(store: LocalArtifacts, stored: list[str], tmp_path: Path) -> None:
    with pytest.raises(ArtifactExists):
        store.publish("models", stored[0], tmp_path / "model-0")
    assert set(store.versions("models")) == set(stored)
    for name in ("../models", "", "a/b", ".hidden", "x" * 100):
        with pytest.raises(ArtifactMissing):
            store.fetch("models", name)
    store.remove("models", stored[0])
    store.remove("models", stored[0])
    assert set(store.versions("models")) == set(stored[1:])
    assert store.versions("people") == []

"""An artifact gives back the ranker that was saved, or says why not; it never gives back another one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from configs.contracts.errors import ArtifactCorrupt, ArtifactExists, FeaturesDiffer
from recommender import artifacts, people_table
from recommender.baseline import Baseline
from recommender.features import FEATURES, Pairs, compute


def test_metadata_and_features_are_in_the_manifest(tmp_path: Path) -> None:
    artifacts.save(Baseline(), tmp_path / "v1", {"metrics": {"like_auc": np.float64(0.6)}, "code_version": "abc"})
    manifest = artifacts.read_manifest(tmp_path / "v1")
    assert manifest["metrics"] == {"like_auc": 0.6}
    assert manifest["code_version"] == "abc"
    assert set(manifest["features"]) == set(Baseline().features)
    assert (manifest["kind"], manifest["version"]) == ("baseline", Baseline().version)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v1"]


def test_a_version_is_written_once(tmp_path: Path) -> None:
    artifacts.save(Baseline(), tmp_path / "v1")
    with pytest.raises(ArtifactExists):
        artifacts.save(Baseline(distance_scale_km=1), tmp_path / "v1")
    assert artifacts.load(tmp_path / "v1").version == Baseline().version
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["manifest.json", "arrays.npz"])
@pytest.mark.parametrize("damage", ["remove", "truncate", "garble", "empty"])
def test_a_damaged_artifact_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    artifacts.save(Baseline(), tmp_path / "v1")
    path = tmp_path / "v1" / name
    whole = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes({"truncate": whole[: len(whole) // 2], "garble": whole[::-1], "empty": b""}[damage])
    with pytest.raises(ArtifactCorrupt):
        artifacts.load(tmp_path / "v1")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2}, {"kind": "x", "model": {"kind": "x", "parameters": {}, "parts": {}}}, {"version": "other"},
        {"model": {"kind": "baseline", "parameters": {"shoe_size": 43}, "parts": {}}}, {"model": None}, {"files": {}},
        {"model": {"kind": "baseline", "parameters": {"recency_floor": -1.0}, "parts": {}}},
        {"files": {"../arrays.npz": "0"}}, {"features": {}}, {"files": []},
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    artifacts.save(Baseline(), tmp_path / "v1")
    path = tmp_path / "v1" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactCorrupt):
        artifacts.load(tmp_path / "v1")


def test_a_model_of_other_features_is_refused_with_the_difference(tmp_path: Path) -> None:
    artifacts.save(Baseline(), tmp_path / "v1")
    path = tmp_path / "v1" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["features"]["distance_km"] = "0" * 16
    manifest["features"]["shoe_size"] = "0" * 16
    path.write_text(json.dumps(manifest))
    with pytest.raises(FeaturesDiffer) as refused:
        artifacts.load(tmp_path / "v1")
    assert refused.value.details == {"unknown": ["shoe_size"], "changed": ["distance_km"]}


def test_arrays_of_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        people_table.save(
            people_table.PeopleTable(np.zeros(1, np.uint64), np.zeros(1, np.uint64), {"log_price": np.array([{}, {}])}),
            tmp_path / "v1",
        )
    assert list(tmp_path.iterdir()) == []


def some_table(n: int = 500) -> tuple[np.ndarray, people_table.PeopleTable]:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 2**64, (n, 2), dtype=np.uint64)
    ids[: n // 4, 1] = ids[n // 4 : n // 2, 1][: n // 4]  # low halves shared by two people
    table = people_table.build(
        ids,
        {
            "likes_sent": np.full(n, 2.0), "swipes_sent": np.full(n, 10.0), "log_price": np.arange(n),
            "taste": rng.normal(size=(n, 4)), "appeal": rng.normal(size=(n, 4)) + 1,
        },
        version="t1",
    )
    return ids, table


def test_each_person_finds_their_own_row_and_strangers_the_neutral_one(tmp_path: Path) -> None:
    ids, table = some_table()
    people_table.save(table, tmp_path / "t1", {"data": {"from": "2026-01-01"}})
    read = people_table.load(tmp_path / "t1")
    assert read.version == "t1"
    assert read.priors == table.priors
    assert read.priors.like_rate_sent == pytest.approx(0.2)
    order = np.random.default_rng(1).permutation(len(ids))
    places = read.places(ids[order, 0], ids[order, 1])
    assert read.columns["log_price"][places].tolist() == order.tolist()
    strangers = ids ^ np.uint64(1)
    assert not read.places(strangers[:, 0], strangers[:, 1]).any()
    assert read.columns["likes_sent"][people_table.NOBODY] == 0
    assert np.allclose(read.columns["appeal"][people_table.NOBODY], read.columns["appeal"][1:].mean(axis=0), atol=1e-5)
    assert read.place((int(ids[7, 0]) << 64) + int(ids[7, 1])) == places[order == 7]


def test_an_empty_table_and_one_person_work(tmp_path: Path) -> None:
    people_table.save(people_table.EMPTY, tmp_path / "none")
    empty = people_table.load(tmp_path / "none")
    assert empty.place(17) == people_table.NOBODY
    nobody, three = (
        {name: column[places] for name, column in empty.columns.items()} for places in (people_table.NOBODY, np.zeros(3, int))
    )
    rates = compute(("like_rate_sent", "log_price"), Pairs(nobody, three, np.asarray(1.0), 0.0))
    assert rates["like_rate_sent"].tolist() == [pytest.approx(FEATURES["like_rate_sent"].neutral)] * 3
    one = people_table.build(np.array([[1, 2]], np.uint64), {"log_price": [3.0]}, version="one")
    assert one.columns["log_price"][one.place((1 << 64) + 2)] == 3


def test_tables_that_cannot_be_are_refused(tmp_path: Path) -> None:
    twice = np.ones((2, 2), np.uint64)
    for ids, given in (
        (twice, {"log_price": [0, 0]}), (twice[:1], {"shoe_size": [43]}), (twice[:1], {"log_price": [np.nan]}),
        (twice[:1], {"log_price": [1, 2]}),
    ):
        with pytest.raises(ValueError):
            people_table.build(ids, given, version="x")
    artifacts.save(Baseline(), tmp_path / "model")
    with pytest.raises(ArtifactCorrupt):
        people_table.load(tmp_path / "model")
    people_table.save(some_table()[1], tmp_path / "table")
    with pytest.raises(ArtifactCorrupt):
        artifacts.load(tmp_path / "table")

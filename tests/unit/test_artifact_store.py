"""Artifacts under an S3 prefix: written once, whole or not at all, copied when first used."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from cluster.connections.artifacts import TABLES_KEPT, ArtifactStore, LocalArtifacts, S3Artifacts, artifact_store
from configs.contracts.errors import ArtifactExists, ArtifactMissing, ConfigurationError, DependencyUnavailable
from configs.settings import load_settings
from recommender import artifacts
from recommender.features import FEATURES
from recommender.logistic import Logistic


def s3(tmp_path: Path) -> S3Artifacts:
    """The store over a file system that answers pyarrow's calls from a directory."""
    (tmp_path / "bucket").mkdir()
    store = S3Artifacts("prefix", tmp_path / "cache")
    store._file_system = SubTreeFileSystem(str(tmp_path / "bucket"), LocalFileSystem())
    for kind in ("models", "people"):
        (tmp_path / "bucket" / "prefix" / kind).mkdir(parents=True)
    return store


def saved(tmp_path: Path, weight: float) -> tuple[str, Path]:
    ranker = Logistic(("distance_km",), np.array([weight]), np.array([FEATURES["distance_km"].neutral]), 0.0)
    directory = tmp_path / f"model{weight}"
    artifacts.save(ranker, directory)
    return ranker.version, directory


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return LocalArtifacts(tmp_path / "root") if request.param == "directory" else s3(tmp_path)


def make_parents(store: ArtifactStore, kind: str, version: str) -> None:
    """A directory stands for what S3 does not need."""
    if isinstance(store, S3Artifacts):
        store._files().create_dir(f"prefix/{kind}/{version}")


def test_a_version_is_written_once_and_read_whole(store: ArtifactStore, tmp_path: Path) -> None:
    version, directory = saved(tmp_path, -1.0)
    make_parents(store, "models", version)
    with pytest.raises(ArtifactMissing):
        store.fetch("models", version)
    store.publish("models", version, directory)
    assert artifacts.load(store.fetch("models", version)).version == version
    assert store.fetch("models", version) == store.fetch("models", version)
    assert store.versions("models") == [version]
    with pytest.raises(ArtifactExists):
        store.publish("models", version, directory)
    store.remove("models", version)
    assert store.versions("models") == []


def test_names_do_not_leave_the_store(store: ArtifactStore) -> None:
    for name in ("../models", "", "a/b", ".hidden"):
        with pytest.raises(ArtifactMissing):
            store.fetch("models", name)


def test_copies_of_old_people_tables_are_removed_when_a_new_one_is_fetched(tmp_path: Path) -> None:
    store = s3(tmp_path)
    _, directory = saved(tmp_path, -3.0)
    names = [f"people-{number}" for number in range(TABLES_KEPT + 3)]
    for name in names:
        make_parents(store, "people", name)
        store.publish("people", name, directory)
        os.utime(store.fetch("people", name), (len(name), names.index(name) + 1_000))
    cache = tmp_path / "cache" / "people"
    assert sorted(path.name for path in cache.iterdir()) == names[-TABLES_KEPT:]
    again = store.fetch("people", names[0])
    assert (again / "manifest.json").exists()
    assert len(list(cache.iterdir())) == TABLES_KEPT


def test_half_an_upload_is_no_version(tmp_path: Path) -> None:
    store = s3(tmp_path)
    version, directory = saved(tmp_path, -2.0)
    make_parents(store, "models", version)
    with store._files().open_output_stream(f"prefix/models/{version}/arrays.npz") as output:
        output.write((directory / "arrays.npz").read_bytes())
    assert store.versions("models") == []
    with pytest.raises(ArtifactMissing):
        store.fetch("models", version)


def test_a_service_that_does_not_answer_is_said_so(tmp_path: Path) -> None:
    store = s3(tmp_path)
    store._file_system = SubTreeFileSystem(str(tmp_path / "gone"), LocalFileSystem())
    version, directory = saved(tmp_path, -3.0)
    with pytest.raises(DependencyUnavailable):
        store.publish("models", version, directory)


def test_the_settings_name_the_store(tmp_path: Path) -> None:
    settings = load_settings("test", data_dir=tmp_path)

    def of(place: str) -> ArtifactStore:
        return artifact_store(settings.model_copy(update={"ranking": settings.ranking.model_copy(update={"artifacts": place})}))

    assert isinstance(of(""), LocalArtifacts)
    assert isinstance(of(str(tmp_path)), LocalArtifacts)
    assert isinstance(of("s3://bucket/prefix"), S3Artifacts)
    with pytest.raises(ConfigurationError):
        of("ftp://somewhere")

"""A people table holds everybody's counts of all time, made without reading a swipe or an impression one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from actors.training.tables import table_of
from cluster.connections.artifacts import artifact_store
from cluster.launch.ranking import job
from configs.contracts.ids import new_id
from configs.contracts.people import snap
from configs.contracts.ranking import BASELINE, Arm, Experiment, RankingConfiguration
from configs.settings import Settings
from recommender import artifacts, people_table
from recommender.baseline import Baseline
from recommender.exposure import Exposed
from recommender.people_table import NOBODY
from writers.connections import Connection, open_rows
from writers.export import PEOPLE, export
from writers.loads.ranking import present

pytestmark = pytest.mark.servers


@pytest.fixture(autouse=True)
def configured(servers: Settings) -> Iterator[RankingConfiguration]:
    """The baseline serves, whatever a writer has stored of what other tests configured."""
    with open_rows(servers, "test") as conn:
        configuration = RankingConfiguration(present(conn).number + 1)
        insert(conn, configuration, "deploy")
    yield configuration
    with open_rows(servers, "test") as conn:
        conn.execute("DELETE FROM ranking_configurations WHERE number = %s", (configuration.number,))


def insert(conn: Connection, configuration: RankingConfiguration, reason: str) -> None:
    conn.execute(
        "INSERT INTO ranking_configurations (number, document, event_id, reason, configured_at, version)"
        " VALUES (%s, %s, %s, %s, now(), 1)",
        (configuration.number, msgspec.json.encode(configuration).decode(), new_id(), reason),
    )


@pytest.fixture
def couple(servers: Settings) -> Iterator[tuple[str, str]]:
    """Two people; one liked the other a year ago, and was shown them."""
    one, other = new_id(), new_id()
    latitude, longitude, cell = snap(38.7, -9.1)
    long_ago = datetime.now(UTC) - timedelta(days=365)
    with open_rows(servers, "test") as conn:
        for person, role in ((one, "sugar_baby"), (other, "sugar_daddy")):
            conn.execute(
                "INSERT INTO users (id, role, status, birth_date, latitude, longitude, cell, created_at)"
                " VALUES (%s, %s, 'active', '1990-05-05', %s, %s, %s, now())",
                (person, role, latitude, longitude, int(cell, 16)),
            )
        conn.execute(
            "INSERT INTO swipes (swiper_id, swiped_id, action, created_at, version, bucket, ever_liked)"
            " VALUES (%s, %s, 1, %s, 1, 0, true)", (one, other, long_ago),
        )
        conn.execute(
            "INSERT INTO cards_served (viewer_id, response_id, served_at, decided_at, configuration, model_version, candidate_ids,"
            " positions, scores, propensities, version) VALUES (%s, %s, %s, now(), 0, 'm', %s, '{0}', '{0}', '{1}', 1)",
            (one, new_id(), long_ago, [UUID(other)]),
        )
    yield one, other
    with open_rows(servers, "test") as conn:
        conn.execute("DELETE FROM users WHERE id IN (%s, %s)", (one, other))
        conn.execute("DELETE FROM swipes WHERE swiper_id = %s", (one,))
        conn.execute("DELETE FROM cards_served WHERE viewer_id = %s", (one,))


def test_a_table_counts_old_swipes_though_none_is_exported(
    servers: Settings, couple: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests: list[dict[str, int]] = []

    def watched(settings: Settings, out: Path, since: datetime, *, identified: bool = False) -> dict[str, int]:
        rows = export(settings, out, since, identified=identified)
        manifests.append(json.loads((out / "manifest.json").read_text())["rows"])
        return rows

    monkeypatch.setattr(job, "export", watched)
    table = people_table.load(artifact_store(servers).fetch("people", job.make_table(servers)))
    (rows,) = manifests
    assert (rows["swipes"], rows["matches"], rows["impressions"]) == (0, 0, 0)
    one, other = (table.place(UUID(person).int) for person in couple)
    assert NOBODY not in (one, other)
    assert (table.columns["likes_sent"][one], table.columns["swipes_received"][other]) == (1, 1)
    assert len(table) == rows["people"]


def test_a_table_names_the_model_that_its_prices_are_of(
    servers: Settings, configured: RankingConfiguration, couple: tuple[str, str], tmp_path: Path
) -> None:
    store = artifact_store(servers)
    asked = Exposed(Baseline(distance_scale_km=11.0), 1.0)
    arm = Exposed(Baseline(distance_scale_km=12.0), 1.0)
    for ranker in (asked, arm):
        artifacts.save(ranker, tmp_path / ranker.version)
        store.publish("models", ranker.version, tmp_path / ranker.version)

    def priced_for(version: str | None = None) -> str:
        manifest = artifacts.read_manifest(store.fetch("people", job.make_table(servers, version)))
        return str(manifest["priced_for"])

    assert priced_for() == BASELINE
    assert priced_for(asked.version) == asked.version
    tested = RankingConfiguration(
        configured.number + 1, experiment=Experiment("prices", "user", (Arm("old", BASELINE, 0.5), Arm("new", arm.version, 0.5)))
    )
    with open_rows(servers, "test") as conn:
        insert(conn, tested, "experiment")
    try:
        assert priced_for() == arm.version, "the only one that serves and reads prices"
    finally:
        with open_rows(servers, "test") as conn:
            conn.execute("DELETE FROM ranking_configurations WHERE number = %s", (tested.number,))


def test_a_table_of_nobody_can_be_made(servers: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("writers.export.PEOPLE", PEOPLE.replace("status = 'active'", "false"))
    assert export(servers, tmp_path / "out", datetime.now(UTC), identified=True)["people"] == 0
    assert len(table_of(tmp_path / "out", "people-none", Baseline())) == 0


"""`sugar bench geo` asks all engines the same and writes what it printed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.launch.bench.geo_sides import Index, PostGIS
from cluster.launch.bench.geo_world import GeoWorld, same_answer
from cluster.launch.cli import app
from configs.contracts.people import haversine_km

pytestmark = pytest.mark.servers


def test_the_engines_agree_while_people_move_and_the_table_is_kept_as_json(tmp_path: Path) -> None:
    options = ["--people", "3000", "--seconds", "0.2", "--radii", "10,160", "--no-ray", "--no-postgis", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, ["bench", "geo", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    lines = json.loads((tmp_path / "geo.json").read_text())["lines"]
    assert [(line["viewers"], line["radius_km"]) for line in lines] == [
        ("everywhere", 10), ("everywhere", 160), ("metropolis", 10), ("metropolis", 160)
    ]
    for line in lines:
        assert set(line["in_process"]) == {"card shard", "Redis"}
        assert all(timed["moves"] > 0 < timed["questions"] for timed in line["in_process"].values())


def test_an_answer_that_leaves_somebody_near_out_is_not_the_same() -> None:
    world = GeoWorld.make(2_000, 3)
    index = Index(world)
    index.move(1_500)
    (place,) = world.viewers(1, metropolis=True, seed=1)
    people = index.people(index.ask([place], 50.0)[0])
    now = world.places_after(1_500)
    assert same_answer(place, now, people, people, 50.0)
    assert not same_answer(place, now, people, np.delete(people, 3), 50.0)
    assert not same_answer(place, now, people, np.delete(people, 150), 50.0)
    assert not same_answer(place, world.places_after(0), people, Index(world).people(Index(world).ask([place], 50.0)[0]), 50.0)


@pytest.mark.skipif(
    not PostGIS.installed() and not os.environ.get("CI"), reason="PostGIS is an optional part of the comparison; CI has it"
)
def test_postgis_answers_the_same_but_for_the_swiped(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = GeoWorld.make(2_000, 3)
    index, postgis = Index(world), PostGIS(world, tmp_path_factory.mktemp("postgis"))
    try:
        for side in (index, postgis):
            side.move(1_000)
        (place,) = world.viewers(1, metropolis=True, seed=1)
        ours = set(index.people(index.ask([place], 12.0)[0]).tolist()) - set(postgis.swiped)
        theirs = set(postgis.people(postgis.ask([place], 12.0)[0]).tolist())
        assert 20 < len(ours) < 200
        now = world.places_after(1_000)
        for person in ours ^ theirs:  # the ellipsoid's distances differ from the sphere's by up to 0.5 %
            assert haversine_km(*place, now[0][person], now[1][person]) == pytest.approx(12.0, rel=0.006)
    finally:
        postgis.close()


def test_what_a_shard_costs_is_printed_beside_its_gates(tmp_path: Path) -> None:
    options = ["--people", "1000", "--rounds", "20", "--population", "5000", "--swipes", "30000", "--no-ray", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, ["bench", "shard", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "shard.json").read_text())
    assert figures["bytes a person"] < 200
    assert 12 < figures["bytes a swipe"] < 16
    assert figures["baseline"]["with seen"][0] > 0

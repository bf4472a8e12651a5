"""The gates of the market at reduced size, and the commands that print them in full."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recommender.simulation import reports
from recommender.simulation.__main__ import main
from recommender.simulation.congested import POLICIES, Priced, answering, dealt, meetings, product
from recommender.simulation.days import Lists, Rules, View, simulated
from recommender.simulation.experiments import REGIONS, Split, hashed_arms, regional, regions_of
from recommender.simulation.intervals import paired_ratio
from recommender.simulation.markets import Market
from recommender.simulation.scale import scale

MONTH = Rules(people=250, days=30, cards=5)


@pytest.fixture(scope="module")
def month() -> reports.Report:
    return reports.days(range(3), MONTH, names=("circulant", "product", "priced", "meetings", "priced, likes first"))


@pytest.mark.parametrize("fatigue", list(reports.FATIGUES))
@pytest.mark.parametrize(
    ("name", "least"), [("meetings", 1.27), ("priced, likes first", 1.27), ("priced", 1.0)]
)
def test_a_month_gives_more_matches_than_the_product(month: reports.Report, fatigue: str, name: str, least: float) -> None:
    row = next(row for row in month["rows"] if (row["fatigue"], row["policy"]) == (fatigue, name))
    assert row["to_product"]["low"] >= least
    assert row["to_product"]["pairs"] == 3


def test_meetings_win_because_of_whom_they_join_not_only_because_they_meet(month: reports.Report) -> None:
    mean = {row["policy"]: row["matches"] for row in month["rows"] if row["fatigue"] == "standard"}
    assert mean["meetings"] > 1.1 * mean["circulant"]


def test_newcomers_meet_more_people_than_under_popularity_or_random_order() -> None:
    report = reports.cold_start(range(3), Rules(people=300, newcomers=0.1))
    assert all(gate["passed"] for gate in report["gates"].values()), report["gates"]
    rows = {row["policy"]: row for row in report["rows"]}
    assert rows["priced, likes first"]["others"] > 1.1 * rows["random order, likes first"]["others"]
    assert rows["served, likes not put forward"]["newcomers"] > rows["popularity"]["newcomers"]


def test_newcomers_are_dealt_full_lists_of_people_who_are_there() -> None:
    fewest: list[int] = []

    def watched(view: View) -> tuple[Lists, Lists]:
        lists = inner(view)
        for side, given in ((view.left, lists[0]), (view.right, lists[1])):
            new = side.newcomer & side.present
            fewest.extend((given[new] >= 0).sum(axis=1).tolist())
        return lists

    inner = answering(Priced())
    simulated(watched, Rules(people=300, days=8, newcomers=0.2), 0)
    assert len(fewest) > 50
    assert min(fewest) == 20


@pytest.mark.parametrize("name", list(POLICIES))
@pytest.mark.parametrize("people", [0, 1, 3, 30])
def test_policies_live_through_small_and_exhausted_markets(name: str, people: int) -> None:
    result = simulated(POLICIES[name](), Rules(people=people, days=6, cards=7, newcomers=0.3), 0)
    assert len(result.by_day) == 6
    assert result.matches <= people * people


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_policies_bear_estimates_that_say_nothing(value: float) -> None:
    def blank(people: int, seed: int) -> Market:
        return Market(*(np.full((people, people), value, np.float32) for _ in range(2)))

    for make in POLICIES.values():
        assert simulated(make(), Rules(people=12, days=3, cards=4, noise=0.0, market=blank), 0).matches == 0


def test_waiting_likes_come_first() -> None:
    seen: list[bool] = []

    def watched(view: View) -> tuple[Lists, Lists]:
        lists = inner(view)
        waiting = view.right.liked.T & ~view.left.dealt
        for person in np.flatnonzero(waiting.any(axis=1)):
            first = lists[0][person][: min(int(waiting[person].sum()), view.cards)]
            seen.append(bool(waiting[person, first].all()))
        return lists

    inner = answering(product)
    simulated(watched, replace(MONTH, people=60, days=6), 0)
    assert len(seen) > 20
    assert all(seen)


def test_people_meet_in_their_region_or_the_next() -> None:
    market = regional(200, 0)
    where = regions_of(200)
    apart = (where[None, :] - where[:, None]) % REGIONS
    assert (market.left[(apart != 0) & (apart != 1) & (apart != REGIONS - 1)] == 0).all()
    assert (market.left[apart == 0] > 0).mean() > 0.99
    assert 0 < (market.left[apart == 1] > 0).mean() < 0.2
    assert np.array_equal(market.left > 0, market.right.T > 0)


def test_a_split_deals_each_person_by_their_arm() -> None:
    treated = hashed_arms(60, 0), hashed_arms(60, 1)
    assert 10 < treated[0].sum() < 50
    rules = replace(MONTH, people=60, days=1)
    views: list[View] = []

    def kept(view: View) -> tuple[Lists, Lists]:
        views.append(view)
        return Split(dealt(meetings), reports.policy("product", 0), lambda day: treated)(view)

    simulated(kept, rules, 0)
    mixed = Split(dealt(meetings), reports.policy("product", 0), lambda day: treated)(views[0])
    new, old = dealt(meetings)(views[0]), reports.policy("product", 0)(views[0])
    for side in (0, 1):
        assert np.array_equal(mixed[side][treated[side]], new[side][treated[side]])
        assert np.array_equal(mixed[side][~treated[side]], old[side][~treated[side]])


def test_a_split_by_user_understates_what_helps_everybody_and_regions_tell_the_truth() -> None:
    report = reports.experiments(range(2), Rules(people=400, days=10, cards=3), treatments=("priced, likes first",))
    row = report["rows"][0]
    assert row["truth"]["mean"] > 0.2
    assert row["user"]["mean"] < 0.75 * row["truth"]["mean"]
    assert abs(row["region"]["mean"] - row["truth"]["mean"]) < abs(row["user"]["mean"] - row["truth"]["mean"])


def test_ratios_of_pairs_have_intervals() -> None:
    found = paired_ratio([12, 24, 11, 21], [10, 20, 10, 20])
    assert found["ratio"] == pytest.approx(68 / 60)
    assert found["least"] <= found["low"] <= found["ratio"] <= found["high"] <= found["largest"]
    assert paired_ratio([2], [1])["low"] == 2
    for wrong in (([], []), ([1], [1, 2]), ([1], [0])):
        with pytest.raises(ValueError):
            paired_ratio(*wrong)


def test_prices_of_a_small_city_beat_the_product() -> None:
    report = scale(3000, 100, 1)
    matches = {name: found["matches"] for name, found in report["policies"].items()}
    assert matches["priced"] > 1.4 * matches["product"]
    assert matches["priced"] > matches["de-meaned sum"]
    assert report["policies"]["priced"]["gini"] < report["policies"]["product"]["gini"]


@pytest.mark.parametrize(
    "command",
    [
        ["markets", "--seeds", "1", "--people", "200", "--market", "low_rank"], ["served", "--seeds", "1", "--people", "120"],
        ["days", "--seeds", "1", "--people", "60", "--fatigue", "half", "--policy", "meetings"],
        ["cold-start", "--seeds", "1", "--people", "60"], ["experiments", "--seeds", "1", "--people", "100"],
        ["scale", "--people", "600", "--candidates", "50"],
    ],
)
def test_commands_print_their_table_and_write_the_figures(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "deep" / "figures.json"
    status = main([*command, "--json", str(path)])
    figures = json.loads(path.read_text())
    assert figures["command"] == command[0]
    assert status == int(not all(gate["passed"] for gate in figures.get("gates", {}).values()))
    assert "product" in capsys.readouterr().out


def test_more_workers_give_the_same_figures() -> None:
    rules = Rules(people=30, days=3, cards=3)
    one, two = (reports.days(range(2), rules, {"standard": 0.9}, ("meetings", "product"), workers=n) for n in (1, 2))
    assert one == two


def test_wrong_options_are_refused() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "recommender.simulation", "days", "--people", "0"], capture_output=True, text=True, check=False,
    )
    assert ran.returncode == 2
    assert "at least 1" in ran.stderr

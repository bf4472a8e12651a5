"""What an operator reads: versions with what they serve, refusals with their reasons, sums that add up."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
import typer
from rich.console import Console

from cluster.launch.ranking import commands, showing
from cluster.launch.ranking.operating import Serving, ShardState, behind, version_before
from configs.contracts.ranking import Arm, ConfigurationRefused, Experiment, RankingConfiguration
from recommender.learning import Recipe
from writers.loads.ranking import Configured


def printed(show: Any, *values: Any) -> str:
    console = Console(file=StringIO(), width=220)
    show(console, *values)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_overview_names_what_serves_and_what_was_refused_why() -> None:
    text = printed(showing.show_overview, {
        "models": [{
            "version": "m1", "kind": "logistic", "problem": "", "trained_at": "2026-11-23T12:00:00", "serves": "default",
            "metrics": {"like_auc": 0.61234, "log_loss": 0.4}, "features": [],
        }],
        "shards": [{
            "actor": "cards-0", "configuration": 4, "model_version": "m0", "people_table": "t", "people_in_table": 9,
            "refused": {"m1": "a file is not what the manifest says"},
        }],
        "changes": [{"number": 4, "at": "2026-11-23T12:00:00.000Z", "reason": "deploy", "what": "default m1"}],
    })
    for part in ("m1", "default", "0.6123", "m1: a file is not what the manifest says", "cards-0", "2026-11-23T12:00:00"):
        assert part in text


def test_an_explanation_is_shown_with_its_sum() -> None:
    text = printed(showing.show_explanation, {
        "modelVersion": "m1", "configuration": 4, "peopleTable": "t", "experiment": "spring", "arm": "new", "score": -1.5,
        "terms": {"likes.base": -1.0, "exposure": -0.5}, "features": {"distance_km": 3.0}, "distanceKm": 3.0, "eligible": False,
    })
    for part in ("arm new of spring", "exposure", "-0.50000", "-1.50000", "would not be shown"):
        assert part in text


def test_a_split_that_was_not_kept_is_said_so() -> None:
    arm = {
        "arm": "a", "version": "m1", "units": 9, "viewers": 9, "cards": 9, "seen": 9, "answered": 9, "likes": 3,
        "like_rate": 1 / 3, "like_rate_low": 0.1, "like_rate_high": 0.6,
        "as_ranked": {"cards": 9, "from_below": 1} | {
            name: {"value": 0.3456, "low": 0.2, "high": 0.5, "effective": 7.9}
            for name in ("ips", "self_normalised", "doubly_robust")
        },
    }
    figures = {
        "experiment": "spring", "split": "user", "arms": [arm], "matches": {"a": {"": 2}},
        "sample_ratio": {"units": {"a": 9}, "p": 1e-9, "suspect": True, "mixed": 1},
    }
    text = printed(showing.show_experiment, figures)
    assert "do not trust this test" in text
    assert "no card of this test" in text
    assert "0.3456 (0.2000 to 0.5000)" in text
    arm["as_ranked"]["from_below"] = 0
    assert "from below" not in printed(showing.show_experiment, figures), "nobody explored"


def test_what_nobody_answered_has_no_rate_and_is_still_a_document() -> None:
    nothing = float("nan")
    arm = {
        "arm": "a", "version": "m1", "units": 0, "viewers": 0, "cards": 0, "seen": 0, "answered": 0, "likes": 0,
        "like_rate": nothing, "like_rate_low": nothing, "like_rate_high": nothing, "as_ranked": {"cards": 0, "from_below": 0},
    }
    figures = {
        "experiment": "spring", "split": "user", "arms": [arm], "matches": {},
        "sample_ratio": {"units": {"a": 0}, "p": 1.0, "suspect": False, "mixed": 0},
    }
    assert "nan" not in printed(showing.show_experiment, figures)
    # Python reads NaN where JSON has none.
    read = json.loads(showing.document(figures), parse_constant=pytest.fail)
    assert read["arms"][0]["like_rate"] is None


def test_trials_are_shown_best_first_and_failed_ones_say_why() -> None:
    def trial(loss: float | None, **recipe: Any) -> dict[str, Any]:
        found: dict[str, Any] = {"recipe": showing.plain(Recipe(**recipe))}
        return found | ({"metrics": {"log_loss": loss}} if loss is not None else {"problem": "too few swipes"})

    text = printed(lambda console: console.print(showing.trials([trial(None), trial(0.6, exposure=0.5), trial(0.3)])))
    assert text.index("0.3000") < text.index("0.6000") < text.index("too few swipes")


def test_a_configuration_is_a_sentence() -> None:
    configuration = RankingConfiguration(
        2, "m1", Experiment("spring", "region", (Arm("a", "m1", 0.5), Arm("b", "m2", 0.5))), "people-1", 0.1
    )
    assert showing.sentence(configuration) == (
        "default m1, experiment spring by region (a = m1 for 0.5, b = m2 for 0.5), exploration 0.1, people table people-1"
    )


def test_boosts_of_waiting_likes_are_told_where_they_are_not_the_usual_ones() -> None:
    configuration = RankingConfiguration(
        2, "m1", Experiment("spring", "user", (Arm("a", "m1", 0.5), Arm("b", "m1", 0.5, 0.0))), waiting_like=2.5
    )
    assert showing.sentence(configuration) == (
        "default m1, experiment spring by user (a = m1 for 0.5, b = m1 for 0.5 with waiting likes 0), waiting likes 2.5"
    )


def test_shards_that_are_behind_or_refuse_are_named() -> None:
    shards = [
        ShardState("cards-0", 3, "m0", (), "none", 0, {}), ShardState("cards-1", 4, "m0", (), "none", 0, {"m1": "damaged"}),
    ]
    configuration = RankingConfiguration(4)
    assert behind(Serving(shards, 4), configuration) == ["cards-0 still serves configuration 3", "cards-1 refuses m1: damaged"]
    assert behind(Serving(shards[1:], 5), configuration) == ["cards-1 refuses m1: damaged"]


def test_requests_that_are_behind_or_cannot_be_asked_are_told() -> None:
    serving = [ShardState("cards-0", 4, "m0", (), "none", 0, {})]
    assert behind(Serving(serving, 3), RankingConfiguration(4)) == ["requests still have configuration 3"]
    (said,) = behind(Serving(serving, None), RankingConfiguration(4))
    assert said.startswith("Redis does not answer")


def test_arms_grids_and_dates_are_read_or_refused() -> None:
    assert commands._arm("new=reciprocal-product:abc:0.25") == Arm("new", "reciprocal-product:abc", 0.25)
    with pytest.raises(ConfigurationRefused):
        commands._arm("new=m1")
    arms = (Arm("a", "m1", 0.5), Arm("b", "m1", 0.5))
    assert commands._boosted(arms, ["b=2"]) == (arms[0], Arm("b", "m1", 0.5, 2.0))
    for wrong in ("b", "b=x", "c=1"):
        with pytest.raises(ConfigurationRefused):
            commands._boosted(arms, [wrong])
    assert commands._grid_line("l2=1,0.5,x") == ("l2", [1, 0.5, "x"])
    for wrong in ("l2", "=1", "l2="):
        with pytest.raises(typer.BadParameter):
            commands._grid_line(wrong)
    assert commands._since("2026-11-01").isoformat() == "2026-11-01T00:00:00+00:00"
    with pytest.raises(typer.BadParameter):
        commands._since("yesterday")



@pytest.mark.parametrize(("changes", "before"), [
    ([], None),
    ([("deploy", "a")], "baseline"),
    ([("deploy", "a"), ("deploy", "b")], "a"),
    ([("deploy", "a"), ("refresh", "a"), ("experiment", "a")], "baseline"),
    ([("deploy", "a"), ("deploy", "b"), ("rollback", "a")], "baseline"),
    ([("deploy", "a"), ("rollback", "baseline")], None),
    ([("deploy", "a"), ("deploy", "b"), ("rollback", "a"), ("deploy", "c")], "a"),
])
def test_rollbacks_in_a_row_lead_further_back(changes: list[tuple[str, str]], before: str | None) -> None:
    past = [
        Configured(RankingConfiguration(number, version), "event", reason, datetime.now(UTC))
        for number, (reason, version) in enumerate(changes, 1)
    ]
    assert version_before(past[::-1]) == before

"""Which model ranks whose cards is decided alike everywhere, and a configuration that cannot be used is refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import h3
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.contracts.ids import new_id
from configs.contracts.ranking import (
    INITIAL,
    REGION_RESOLUTION,
    WAITING_LIKE,
    Arm,
    ConfigurationRefused,
    Experiment,
    RankingConfiguration,
    arm_of,
    assigned,
    checked,
    read_configuration,
    unit_of,
)

HALVES = (Arm("old", "baseline", 0.5), Arm("new", "boosted-3", 0.5))


def experiment(split: Any = "user", arms: tuple[Arm, ...] = HALVES, **fields: Any) -> Experiment:
    return Experiment(fields.pop("name", "spring"), split, arms, **fields)


def configured(**fields: Any) -> RankingConfiguration:
    return RankingConfiguration(number=3, default_version="boosted-2", **fields)


def test_without_an_experiment_everybody_gets_the_default() -> None:
    assert assigned(configured(), new_id(), None, 0.0).version == "boosted-2"
    assert assigned(INITIAL, new_id(), None, 0.0).version == "baseline"


def test_arms_get_their_shares_of_users() -> None:
    arms = (Arm("a", "m1", 0.2), Arm("b", "m2", 0.3), Arm("c", "m3", 0.5))
    counts = Counter(arm_of(experiment(arms=arms), f"user-{number}").name for number in range(20_000))
    for arm in arms:
        assert counts[arm.name] == pytest.approx(20_000 * arm.share, abs=4 * 71)


def test_two_experiments_split_independently() -> None:
    users = [f"user-{number}" for number in range(4_000)]
    both = sum(arm_of(experiment(name="one"), u).name == arm_of(experiment(name="two"), u).name for u in users)
    assert both == pytest.approx(2_000, abs=4 * 32)


def test_people_of_one_region_share_an_arm_and_time_changes_nothing() -> None:
    test = experiment("region")
    region = h3.latlng_to_cell(52.5, 13.4, REGION_RESOLUTION)
    here = sorted(h3.cell_to_children(region, 6))[::50]
    regions = {unit_of(test, new_id(), cell, 0.0) for cell in here}
    assert len(regions) == 1
    found = {assigned(configured(experiment=test), new_id(), cell, at).arm for cell in here for at in (0.0, 9e9)}
    assert len(found) == 1
    assert unit_of(test, new_id(), None, 0.0) == "nowhere"


def test_in_one_period_everybody_has_one_arm_and_periods_differ() -> None:
    test = experiment("time", period_s=600)
    arms = [{assigned(configured(experiment=test), new_id(), None, 600.0 * period + at).arm for at in (0, 599)}
            for period in range(200)]
    assert all(len(found) == 1 for found in arms)
    assert 60 < sum(found == {"old"} for found in arms) < 140


@given(st.floats(0.01, 0.99), st.text(min_size=1, max_size=40))
def test_every_unit_has_an_arm(share: float, unit: str) -> None:
    arms = (Arm("a", "m1", share), Arm("b", "m2", 1 - share))
    assert arm_of(experiment(arms=arms), unit) in arms


@pytest.mark.parametrize(("broken", "says"), [
    (configured(experiment=experiment(arms=(Arm("a", "m", 0.5), Arm("b", "m", 0.6)))), "sum to 1"),
    (configured(experiment=experiment(arms=(Arm("a", "m", float("nan")), Arm("b", "m", 0.6)))), "above 0"),
    (configured(experiment=experiment(arms=(Arm("a", "m", -0.5), Arm("b", "m", 1.5)))), "above 0"),
    (configured(experiment=experiment(arms=(Arm("a", "m", 1.0),))), "2 to 16 arms"),
    (configured(experiment=experiment(arms=(Arm("a", "m", 0.5), Arm("a", "m", 0.5)))), "name of its own"),
    (configured(experiment=experiment("weather")), "no such split"),
    (configured(experiment=experiment("time", period_s=1)), "period"),
    (configured(experiment=experiment(name="../x")), "letters"),
    (RankingConfiguration(1, "../../etc"), "letters"),
    (RankingConfiguration(1, ""), "letters"),
    (RankingConfiguration(-1), "not negative"),
    (configured(people_table="a/b"), "letters"),
    (configured(exploration=float("nan")), "share"),
    (configured(exploration=0.6), "share"),
    (configured(waiting_like=-1.0), "boost"),
    (configured(waiting_like=float("nan")), "boost"),
    (configured(experiment=experiment(arms=(Arm("a", "m", 0.5, 51.0), Arm("b", "m", 0.5)))), "boost"),
])
def test_a_configuration_that_cannot_be_used_is_refused(broken: RankingConfiguration, says: str) -> None:
    with pytest.raises(ConfigurationRefused, match=says):
        checked(broken)


def test_a_configuration_survives_its_document_and_others_are_refused() -> None:
    arms = (Arm("a", "m", 0.5, 0.0), Arm("b", "m", 0.5))
    whole = configured(experiment=experiment("time", arms=arms), people_table="people-1", exploration=0.1, waiting_like=2.0)
    assert read_configuration(msgspec.json.encode(whole)) == whole
    for document in (b"", b"[]", b'{"number":"x"}', b'{"number":1,"experiment":{"name":"x"}}'):
        with pytest.raises(ConfigurationRefused):
            read_configuration(document)


def test_an_arm_may_have_a_boost_of_its_own_and_the_others_have_the_configuration_s() -> None:
    """Waiting likes are put forward unless somebody says otherwise."""
    assert assigned(RankingConfiguration(), new_id(), None, 0.0).waiting_like == WAITING_LIKE > 0
    test = experiment(arms=(Arm("off", "m", 0.5, 0.0), Arm("as usual", "m", 0.5)))
    found = {(got.arm, got.waiting_like) for got in (
        assigned(configured(experiment=test, waiting_like=3.0), new_id(), None, 0.0) for _ in range(60)
    )}
    assert found == {("off", 0.0), ("as usual", 3.0)}

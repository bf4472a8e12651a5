"""Nothing but what was known before the date is read, whole waves can be foreseen, and odd files do not matter."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from recommender import mixed
from recommender.datasets.speed_dating import attributes, cold, protocols, reading, regression, tendencies, warm
from recommender.datasets.speed_dating.__main__ import main
from recommender.datasets.speed_dating.reading import ALLOWED, INTERESTS, Dates


@pytest.fixture(autouse=True)
def one_thread() -> object:
    with threadpool_limits(1):
        yield


DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "speed_dating.csv.gz"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="../shared/data/speed_dating.csv.gz is absent")
LEAKS = ("attr", "like", "prob", "met", "match_es", "attr_o", "dec_o", "like_o", "satis_2", "attr7_2", "you_call", "order")


def invented(path: Path, waves: int = 4, a_side: int = 8, *, drop: tuple[str, ...] = (), seed: int = 0) -> Path:
    """A file of the form, in which likes follow answers: who reads much likes often, who does sports is liked."""
    rng = np.random.default_rng(seed)
    rows = []
    for wave in range(1, waves + 1):
        people = []
        for number in range(2 * a_side):
            answers = {name: int(rng.integers(1, 11)) for name in reading.PERSON}
            answers |= {"age": int(rng.integers(20, 36)), "race": int(rng.integers(1, 6)), "field_cd": int(rng.integers(1, 18))}
            people.append({"iid": wave * 100 + number, "gender": int(number >= a_side), **answers})
        likes = {}
        for one in people:
            for other in people:
                if one["gender"] != other["gender"]:
                    log_odds = 0.35 * (one["reading"] - 5.5) + 0.35 * (other["sports"] - 5.5) - 0.2
                    likes[one["iid"], other["iid"]] = int(rng.random() < 1 / (1 + np.exp(-log_odds)))
        by_id = {person["iid"]: person for person in people}
        for (one, other), like in likes.items():
            leak = {name: like * 10 + rng.integers(0, 2) for name in LEAKS}
            rows.append({
                **by_id[one], "wave": wave, "pid": other, "dec": like, "match": like * likes[other, one],
                "int_corr": round(float(rng.uniform(-1, 1)), 2),
                "samerace": int(by_id[one]["race"] == by_id[other]["race"]), **leak,
            })
    names = [name for name in rows[0] if name not in drop]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def rewritten(source: Path, target: Path, change: object) -> Path:
    whole = source.read_bytes()
    text = (gzip.decompress(whole) if source.suffix == ".gz" else whole).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    names = list(rows[0])
    change(rows, names)  # type: ignore[operator]
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return target


def shuffle_what_is_not_allowed(rows: list[dict[str, str]], names: list[str]) -> None:
    rng = np.random.default_rng(5)
    for name in names:
        if name not in ALLOWED:
            order = rng.permutation(len(rows))
            values = [rows[place][name] for place in order]
            for row, value in zip(rows, values, strict=True):
                row[name] = value


def test_likes_that_follow_answers_are_foreseen_in_a_wave_never_seen(tmp_path: Path) -> None:
    dates = reading.read(invented(tmp_path / "d.csv", waves=6))
    found = protocols.judged(dates, protocols.cold_model(dates))
    assert found.like.mean > 0.62
    assert found.match.mean > 0.6
    assert found.log_loss < 0.6931
    known = protocols.judged(dates, protocols.warm_model(dates))
    assert known.like.mean > found.like.mean


@needs_data
def test_no_column_outside_the_allow_list_changes_anything(tmp_path: Path) -> None:
    """The real file has 195 columns, 140 of them given during or after the date or scheduled."""
    shuffled = reading.read(rewritten(DATA, tmp_path / "s.csv", shuffle_what_is_not_allowed)).of_waves([5, 6, 10])
    original = reading.read(DATA).of_waves([5, 6, 10])
    for predicted in (protocols.cold_model, protocols.cold_ruler, protocols.warm_model, protocols.warm_ruler):
        assert np.array_equal(predicted(original).match, predicted(shuffled).match)


def test_what_was_said_during_the_date_is_not_among_the_allowed_columns() -> None:
    assert not set(LEAKS) & set(ALLOWED)
    assert not [name for name in ALLOWED if name.endswith(("_o", "_s", "_2", "_3")) and name not in ("dec_o",)]


@pytest.mark.parametrize("protocol", ["cold", "warm"])
def test_decisions_of_the_predicted_wave_change_no_cold_prediction_and_of_the_predicted_pair_no_warm_one(
        protocol: str, tmp_path: Path) -> None:
    dates = reading.read(invented(tmp_path / "d.csv"))
    held = dates.wave == 2 if protocol == "cold" else warm.folds(dates) == 1
    like = np.where(held, ~dates.like, dates.like)
    other = Dates(
        dates.wave, dates.actor, dates.partner, dates.reverse, like, like & like[dates.reverse], dates.pair, dates.people,
        dates.person_wave, dates.side,
    )
    if protocol == "cold":
        before, after = (cold.predict(given, [1, 3, 4], [2]).match[held] for given in (dates, other))
        assert np.array_equal(before, after)
    else:
        for predicted in (lambda given: warm.predict(given, ~held)[1], lambda given: warm.plain(given, ~held)[1]):
            assert np.array_equal(predicted(dates)[held], predicted(other)[held])


def test_both_directions_of_a_date_are_in_one_fold(tmp_path: Path) -> None:
    dates = reading.read(invented(tmp_path / "d.csv"))
    fold = warm.folds(dates)
    assert np.array_equal(fold, fold[dates.reverse])
    assert np.bincount(fold).min() > len(dates) / 5 - 6
    assert np.array_equal(dates.reverse[dates.reverse], np.arange(len(dates)))
    assert np.array_equal(dates.actor[dates.reverse], dates.partner)


def test_a_like_rate_never_counts_the_date_it_is_used_for(tmp_path: Path) -> None:
    dates = reading.read(invented(tmp_path / "d.csv", waves=1, a_side=4))
    everything = np.ones(len(dates), dtype=bool)
    rates = warm.like_rates(dates, everything)
    row = 3
    actor, partner = dates.actor[row], dates.partner[row]
    others = (dates.actor == actor) & (dates.partner != partner)
    expected = (dates.like[others].sum() + warm.SHRINKAGE * dates.like.mean()) / (others.sum() + warm.SHRINKAGE)
    assert rates[row, 0] == pytest.approx(expected)
    liked = (dates.partner == partner) & (dates.actor != actor)
    expected = (dates.like[liked].sum() + warm.SHRINKAGE * dates.like.mean()) / (liked.sum() + warm.SHRINKAGE)
    assert rates[row, 3] == pytest.approx(expected)


def blank(names_to_blank: tuple[str, ...]) -> object:
    def change(rows: list[dict[str, str]], names: list[str]) -> None:
        for row in rows:
            for name in names_to_blank:
                row[name] = ""

    return change


def nobody_is_a_woman(rows: list[dict[str, str]], names: list[str]) -> None:
    for row in rows:
        row["gender"] = ""


def one_wave_likes_everybody(rows: list[dict[str, str]], names: list[str]) -> None:
    for row in rows:
        if row["wave"] == "3":
            row["dec"] = row["match"] = "1"


def strange_categories_and_typing_errors(rows: list[dict[str, str]], names: list[str]) -> None:
    for row in rows:
        if row["wave"] == "2":
            row["race"], row["field_cd"], row["career_c"], row["age"] = "77", "88", "99", "n/a"
            row["sports"] = "1,000,000"


def partners_are_missing(rows: list[dict[str, str]], names: list[str]) -> None:
    for row in rows[::7]:
        row["pid"] = ""
    for row in rows[::11]:
        row["dec"] = ""


@pytest.mark.parametrize(
    "change",
    [blank(INTERESTS), blank(reading.PERSON), blank(("int_corr", "samerace", "match")), nobody_is_a_woman,
     one_wave_likes_everybody, strange_categories_and_typing_errors, partners_are_missing],
    ids=["no-interests", "no-answers", "no-pair-facts", "no-gender", "one-wave-likes-all", "strange", "incomplete"],
)
def test_odd_files_are_judged_all_the_same(change: object, tmp_path: Path) -> None:
    dates = reading.read(rewritten(invented(tmp_path / "d.csv", waves=3, a_side=6), tmp_path / "odd.csv", change))
    for predicted in (protocols.cold_model, protocols.cold_ruler, protocols.warm_model, protocols.warm_ruler):
        outcome = predicted(dates)
        for values in (outcome.like, outcome.match, outcome.product):
            assert np.isfinite(values).all()
            assert ((values >= 0) & (values <= 1)).all()


def test_missing_columns_count_as_missing_values_and_missing_keys_are_refused(tmp_path: Path) -> None:
    dates = reading.read(invented(tmp_path / "d.csv", drop=("sports", "race", "int_corr", "match", "gender")))
    assert np.isnan(dates.people["sports"]).all()
    assert (dates.side == 0).all()
    assert np.isfinite(protocols.cold_model(dates).match).all()
    with pytest.raises(ValueError, match="dec"):
        reading.read(invented(tmp_path / "e.csv", drop=("dec",)))
    with pytest.raises(ValueError, match="these waves"):
        dates.of_waves([99])
    (tmp_path / "none.csv").write_text("wave,iid,pid,dec\n1,1,2,1\n")
    with pytest.raises(ValueError, match="both decisions"):
        reading.read(tmp_path / "none.csv")


def test_waves_of_very_different_size_and_a_single_wave(tmp_path: Path) -> None:
    dates = reading.read(invented(tmp_path / "d.csv", waves=3, a_side=5))
    with pytest.raises(ValueError):
        protocols.cold_model(dates.of_waves([2]))
    assert np.isfinite(protocols.warm_model(dates.of_waves([2])).match).all()
    two = dates.of_waves([1, 3])
    assert np.isfinite(protocols.cold_model(two).match).all()


def test_points_sought_become_shares_whatever_they_were_given_as(tmp_path: Path) -> None:
    dates = reading.read(invented(tmp_path / "d.csv"))
    total = np.sum([dates.people[name] for name in reading.SOUGHT], axis=0)
    assert np.allclose(total, 100)


def test_standardised_answers_have_mean_0_where_they_were_standardised(tmp_path: Path) -> None:
    dates = reading.read(invented(tmp_path / "d.csv"))
    inside = dates.person_wave == 1
    assert np.allclose(attributes.within_wave(dates)[inside].mean(axis=0), 0, atol=1e-9)
    assert np.allclose(attributes.standardised(dates, inside)[inside].mean(axis=0), 0, atol=1e-9)
    assert np.abs(attributes.standardised(dates, inside)).max() <= attributes.OUTLIER


def test_regression_on_some_waves_is_the_regression_on_their_rows() -> None:
    rng = np.random.default_rng(0)
    x, wave = rng.normal(size=(300, 4)), np.repeat([1, 2, 3], 100)
    y = (x @ np.array([[1.0], [0], [-1], [2]])) + rng.normal(size=(300, 1))
    moments = regression.Moments.of(x, y, wave)
    got = moments.predict([1, 3], wave == 2, 1e-9)
    inside = wave != 2
    full = np.c_[np.ones(300), x]
    expected = full[wave == 2] @ np.linalg.lstsq(full[inside], y[inside], rcond=None)[0]
    assert np.allclose(got, expected, atol=1e-6)


def test_tendencies_are_deviations_from_wave_and_side(tmp_path: Path) -> None:
    dates = reading.read(invented(tmp_path / "d.csv"))
    sent, received = tendencies.tendencies(dates, dates.wave != 4)
    assert not sent[dates.person_wave == 4].any()
    men = (dates.person_wave == 1) & (dates.side > 0)
    assert sent[men].mean() == pytest.approx(0)
    assert received.std() > 0


def test_mixed_model_recovers_planted_effects_and_their_spread() -> None:
    rng = np.random.default_rng(0)
    groups, side = 10, 14
    effects = rng.multivariate_normal([0, 0], [[1.0, -0.5], [-0.5, 1.0]], groups * 2 * side)
    actors, partners, group, sides = [], [], [], []
    for number in range(groups):
        first = number * 2 * side
        for one in range(side):
            for other in range(side, 2 * side):
                actors += [first + one, first + other]
                partners += [first + other, first + one]
                group += [number, number]
                sides += [1.0, -1.0]
    a, b, g, s = np.array(actors), np.array(partners), np.array(group), np.array(sides)
    x = rng.normal(size=(a.size, 2))
    log_odds = 0.3 + x @ np.array([0.8, 0.0]) + effects[a, 0] + effects[b, 1]
    likes = rng.random(a.size) < 1 / (1 + np.exp(-log_odds))
    model = mixed.fit(x, np.array([0, 1]), a, b, g, s, likes, people=groups * 2 * side, group_count=groups)
    assert model.coefficients[0] == pytest.approx(0.8, abs=0.12)
    assert abs(model.coefficients[1]) < 0.1
    assert np.corrcoef(model.sent, effects[:, 0])[0, 1] > 0.7
    assert np.corrcoef(model.received, effects[:, 1])[0, 1] > 0.7
    assert 0.6 < model.variances.person[0, 0] < 1.4
    assert -0.9 < model.variances.person[0, 1] < -0.2
    assert model.variances.coefficients[0] > 10 * model.variances.coefficients[1]
    assert np.corrcoef(model.log_odds(x, a, b, g, s), log_odds)[0, 1] > 0.85
    with pytest.raises(ValueError):
        mixed.fit(x[:0], np.array([0, 1]), a[:0], b[:0], g[:0], s[:0], likes[:0], people=0, group_count=0)


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = invented(tmp_path / "d.csv")
    assert main([str(path), "--protocol", "both", "--waves", "1-2,4", "--output", str(tmp_path / "out")]) == 0
    written = json.loads((tmp_path / "out" / "speed_dating.json").read_text())
    assert written["waves"] == [1, 2, 4]
    assert set(written["cold"]["model"]["by_wave"]["like_auc"]) == {"1", "2", "4"}
    assert written["warm"]["model"]["like_auc_gain"]["low"] <= written["warm"]["model"]["like_auc_gain"]["high"]
    assert "like AUC" in capsys.readouterr().out
    assert main([str(tmp_path / "absent.csv"), "--output", str(tmp_path)]) == 2


def test_nothing_learned_beats_knowing_every_effect_and_the_command_says_so(tmp_path: Path) -> None:
    path = invented(tmp_path / "d.csv")
    assert main([str(path), "--protocol", "limits", "--draws", "1", "--output", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "speed_dating.json").read_text())["limits"]
    (oracle,), (learned,) = (found["worlds"] for found in written["warm"].values())
    assert 0.6 < learned < oracle, "the same drawn decisions, judged by what they were drawn from"
    assert set(written["cold"]) == {"3"}
    assert written["cold"]["3"] > 0.55


@needs_data
def test_the_real_dates_give_the_rulers_figures_and_better_ones() -> None:
    """All waves cold, which is quick; the bounds leave room for another library's rounding."""
    dates = reading.read(DATA)
    ruler, model = (protocols.judged(dates, run(dates)) for run in (protocols.cold_ruler, protocols.cold_model))
    assert ruler.like.mean == pytest.approx(0.637, abs=0.004)
    assert ruler.match.mean == pytest.approx(0.611, abs=0.004)
    assert ruler.product.mean == pytest.approx(0.599, abs=0.004)
    assert model.like.mean > max(ruler.like.mean, 0.64)
    assert model.match.mean > max(ruler.match.mean, 0.625)
    assert model.log_loss < min(ruler.log_loss, 0.4425)

"""Whatever lists and values are given: prices are finite, and no two meetings of a person share a place."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.congestion.equilibrium import solve
from recommender.congestion.prices import solve_lists
from recommender.congestion.rounds import mutual_places

VALUES = st.one_of(st.floats(0, 1, width=32), st.floats(width=32))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 12))
def test_prices_of_any_lists_are_finite_and_not_above_zero(data: st.DataObject, people: int) -> None:
    lists = data.draw(st.lists(st.lists(st.integers(0, people - 1), max_size=6), min_size=people, max_size=people))
    candidates = np.array([place for row in lists for place in row], np.int32)
    joint = np.array(data.draw(st.lists(VALUES, min_size=candidates.size, max_size=candidates.size)), np.float32)
    starts = np.concatenate(([0], np.cumsum([len(row) for row in lists]))).astype(np.int64)
    prices = solve_lists(starts, candidates, joint)
    assert prices.log_multipliers.shape == (people,)
    assert np.isfinite(prices.log_multipliers).all()
    assert (prices.log_multipliers <= 0).all()
    assert np.isfinite(prices.scores(candidates, joint)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.floats(1e-4, 10), st.data())
def test_equilibria_of_any_values_are_finite(n: int, m: int, temperature: float, data: st.DataObject) -> None:
    joint = np.array(data.draw(st.lists(VALUES, min_size=n * m, max_size=n * m)), np.float32).reshape(n, m)
    found = solve(joint, temperature=temperature)
    assert np.isfinite(found.surplus(joint)).all()
    assert (found.left <= 0).all()
    assert (found.right <= 0).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10), st.integers(1, 10), st.integers(1, 5), st.integers(0, 1000))
def test_no_person_has_two_meetings_at_one_place_and_none_could_be_added(n: int, m: int, places: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = np.flatnonzero(rng.random(n * m) < 0.6)
    rows, columns = edges // m, edges % m
    given_places = mutual_places(rows, columns, rng.random(edges.size), (n, m), places)
    for ends in (rows, columns):
        met = [(end, place) for end, place in zip(ends.tolist(), given_places.tolist(), strict=True) if place]
        assert len(met) == len(set(met))
    taken_rows = {(row, place) for row, place in zip(rows.tolist(), given_places.tolist(), strict=True)}
    taken_columns = {(column, place) for column, place in zip(columns.tolist(), given_places.tolist(), strict=True)}
    for row, column, place in zip(rows.tolist(), columns.tolist(), given_places.tolist(), strict=True):
        if place == 0:
            assert all((row, p) in taken_rows or (column, p) in taken_columns for p in range(1, places + 1))

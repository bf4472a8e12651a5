"""FactMap is a dictionary that keeps the newest fact, whatever the order, the size and the log's generations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.swipes import facts as module
from actors.swipes.facts import STALE, FactMap
from configs.contracts.positions import version_of

keys = st.integers(0, 40) | st.integers(0, (1 << 64) - 1)
versions = st.builds(version_of, st.integers(1, 3), st.integers(0, 50) | st.integers(0, (1 << 40) - 1))
puts = st.lists(st.tuples(keys, versions, st.integers(0, 3)), max_size=120)


@pytest.fixture(autouse=True, scope="module")
def _soon_large() -> object:
    """Lets small maps take the way of large ones."""
    before, module.INSERT_UP_TO = module.INSERT_UP_TO, 30
    yield
    module.INSERT_UP_TO = before


@given(puts, st.integers(0, 120))
def test_it_equals_a_dictionary(entries: list[tuple[int, int, int]], reload_after: int) -> None:
    facts, model = FactMap(), dict[int, int]()
    for number, (key, version, code) in enumerate(entries):
        if number == reload_after:
            ordered = sorted(model.items())
            facts = FactMap.of(
                np.array([key for key, _ in ordered], np.uint64), np.array([fact for _, fact in ordered], np.uint64)
            )
        before = model.get(key, 0)
        answer = facts.put(key, version << 2 | code)
        if version > before >> 2 or key not in model:
            assert answer == before
            model[key] = version << 2 | code
        else:
            assert answer == STALE
    assert dict(facts.items()) == model
    assert len(facts) == len(model)
    assert facts.newest() == max((fact >> 2 for fact in model.values()), default=0)
    asked = [*model, 7, 1 << 63]
    assert [facts.get(key) for key in asked] == [model.get(key, 0) for key in asked]
    assert facts.holds(np.array(asked, np.uint64)).tolist() == [model.get(key, 0) & 3 != 0 for key in asked]
    assert facts.present().tolist() == sorted(key for key, fact in model.items() if fact & 3)

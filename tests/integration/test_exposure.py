"""The inequality of exposure in rows is the recommender's own figure."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from configs.settings import Settings
from recommender.evaluation.two_sided import gini
from writers.connections import open_rows
from writers.exposure import exposure_gini

pytestmark = pytest.mark.servers


def test_the_coefficient_of_each_model_is_that_of_the_people_whom_it_showed(servers: Settings) -> None:
    assert all(0 <= found <= 1 for found in exposure_gini(servers).values())
    shown = {f"even-{uuid.uuid4()}": [2, 2, 2], f"uneven-{uuid.uuid4()}": [1, 1, 7, 1]}
    with open_rows(servers, "test") as conn:
        for model, times in shown.items():
            people = [uuid.uuid4() for _ in times]
            for response in range(max(times)):
                candidates = [person for person, count in zip(people, times, strict=True) if response < count]
                conn.execute(
                    "INSERT INTO cards_served (viewer_id, response_id, served_at, decided_at, configuration, model_version, candidate_ids,"
                    " positions, scores, propensities, version) VALUES (%s, %s, now(), now(), 0, %s, %s, %s, %s, %s, 1)",
                    (
                        uuid.uuid4(), uuid.uuid4(), model, candidates, list(range(len(candidates))),
                        [0.0] * len(candidates), [1.0] * len(candidates),
                    ),
                )
    found = exposure_gini(servers)
    for model, times in shown.items():
        assert found[model] == pytest.approx(gini(np.array(times)))

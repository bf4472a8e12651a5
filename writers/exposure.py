"""How unevenly people are shown: the Gini coefficient of the newest responses, by the model that ranked them."""

from __future__ import annotations

from typing import Final

from cluster.connections.postgres import translated
from configs.settings import Settings
from writers.connections import open_rows

RESPONSES: Final = 2_000
"""A fixed number, so that values compare: of fewer impressions a coefficient is higher. Some 40,000 cards, 0.1 s."""

GINI: Final = """
WITH newest AS (
    SELECT model_version, candidate_ids FROM cards_served ORDER BY served_at DESC LIMIT %s
), shown AS (
    SELECT model_version, candidate, count(*) AS times FROM newest, unnest(candidate_ids) AS candidate
    GROUP BY model_version, candidate
), ordered AS (
    SELECT model_version, times, row_number() OVER (PARTITION BY model_version ORDER BY times) AS place,
           count(*) OVER (PARTITION BY model_version) AS people
    FROM shown
)
SELECT model_version, (sum((2 * place - people - 1) * times) / (max(people) * sum(times)))::float8
FROM ordered GROUP BY model_version
"""


def exposure_gini(settings: Settings) -> dict[str, float]:
    """Model version -> Gini coefficient of exposure among those whom it showed. Raises DependencyUnavailable."""
    with open_rows(settings, "exposure") as conn, translated():
        return dict(conn.execute(GINI, (RESPONSES,)).fetchall())

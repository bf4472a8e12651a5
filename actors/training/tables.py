"""The people table of an export: history counts, and the exposure prices of its market under a model."""

from __future__ import annotations

from pathlib import Path

from recommender import people_table
from recommender.datasets import exported
from recommender.datasets.exported import COUNTS
from recommender.datasets.pricing import market_prices
from recommender.people_table import PeopleTable
from recommender.ranking import Ranker


def table_of(directory: Path | str, version: str, ranker: Ranker) -> PeopleTable:
    """Counts of everybody's swipes in an identified export, and ``log_price`` under the ranker's scores.

    Raises ExportUnreadable.
    """
    data = exported.read(directory)
    columns = {name: data.people[name] for name in COUNTS}
    return people_table.build(data.ids, columns | {"log_price": market_prices(data, ranker).log_prices}, version=version)

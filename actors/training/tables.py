"""The people table of an export: history counts, and exposure prices."""

from __future__ import annotations

from pathlib import Path

from recommender import people_table
from recommender.datasets import exported
from recommender.datasets.exported import COUNTS
from recommender.people_table import PeopleTable


def table_of(directory: Path | str, version: str) -> PeopleTable:
    """Counts of swipes sent and received of everybody in an identified export. Raises ExportUnreadable."""
    data = exported.read(directory)
    return people_table.build(data.ids, {name: data.people[name] for name in COUNTS}, version=version)

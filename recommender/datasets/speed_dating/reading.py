"""Reads the file: who met whom, who said yes, and only what was known before the date.

The columns are an allow-list. Everything else in the file (ratings during and after the date, schedules, follow-ups) is
never looked at, so it cannot leak.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

KEYS: Final = ("wave", "iid", "pid", "gender", "dec", "match")
QUALITIES: Final = ("attr", "sinc", "intel", "fun", "amb", "shar")
INTERESTS: Final = (
    "sports", "tvsports", "exercise", "dining", "museums", "art", "hiking", "gaming", "clubbing", "reading", "tv",
    "theater", "movies", "concerts", "music", "shopping", "yoga",
)
HABITS: Final = ("age", "imprace", "imprelig", "goal", "date", "go_out", "exphappy")
SOUGHT: Final = tuple(f"{quality}1_1" for quality in QUALITIES)
"""What one looks for in the other sex: shares of 100 points."""
SELF: Final = tuple(f"{quality}3_1" for quality in QUALITIES[:5])
"""How one rates oneself."""
CATEGORIES: Final = ("race", "field_cd", "career_c")
PERSON: Final = (*HABITS, *INTERESTS, *SOUGHT, *SELF, *CATEGORIES)
"""A person's own answers at sign-up."""
PAIR: Final = ("int_corr", "samerace")
"""Facts of both: correlation of interests, and whether they are of one race."""
ALLOWED: Final = (*KEYS, *PERSON, *PAIR)
"""Every column that is read. ``pf_o_*`` and ``age_o`` are the partner's own answers, which are read there."""


@dataclass(frozen=True)
class Dates:
    """n ordered pairs and p people, each numbered from 0."""

    wave: Ints
    """(n,): the waves' own numbers."""
    actor: Ints
    """(n,)."""
    partner: Ints
    """(n,)."""
    reverse: Ints
    """(n,): the row of the same date in which the partner decides."""
    like: NDArray[np.bool_]
    """(n,)."""
    match: NDArray[np.bool_]
    """(n,)."""
    pair: Mapping[str, Doubles]
    """``PAIR`` -> (n,), NaN where missing."""
    people: Mapping[str, Doubles]
    """``PERSON`` -> (p,), NaN where missing."""
    person_wave: Ints
    """(p,)."""
    side: Doubles
    """(p,): 1 for men, -1 for women, 0 unknown."""

    def __len__(self) -> int:
        return self.like.size

    @property
    def waves(self) -> list[int]:
        return [int(wave) for wave in np.unique(self.wave)]

    def of_waves(self, waves: Sequence[int]) -> Dates:
        """Only the dates of these waves; people keep their numbers. Raises ValueError: there are none."""
        rows = np.flatnonzero(np.isin(self.wave, waves))
        if not rows.size:
            raise ValueError("the file has none of these waves")
        place = np.full(len(self), -1, np.int64)
        place[rows] = np.arange(rows.size)
        return Dates(
            self.wave[rows], self.actor[rows], self.partner[rows], place[self.reverse[rows]], self.like[rows],
            self.match[rows], {name: values[rows] for name, values in self.pair.items()}, self.people, self.person_wave,
            self.side,
        )


def read(path: Path | str) -> Dates:
    """The dates in a CSV, gzip-compressed if its name ends so.

    A date counts when both decisions are there; a missing allowed column, or a value that is no number, is NaN.
    Raises OSError: no such file. ValueError: a key column is missing or no date is complete.
    """
    opened = gzip.open(path, "rt", encoding="utf-8") if str(path).endswith(".gz") else open(path, encoding="utf-8")  # noqa: SIM115
    with opened as file:
        rows = csv.DictReader(file)
        missing = sorted({"wave", "iid", "pid", "dec"} - set(rows.fieldnames or ()))
        if missing:
            raise ValueError(f"the dates have no column {', '.join(missing)}")
        table = [[_number(row.get(name)) for name in ALLOWED] for row in rows]
    columns = dict(zip(ALLOWED, np.array(table, np.float64).reshape(len(table), len(ALLOWED)).T, strict=True))
    return _paired(columns)


def _paired(columns: Mapping[str, Doubles]) -> Dates:
    keys = np.stack([columns[name] for name in ("wave", "iid", "pid", "dec")], axis=1)
    complete = ~np.isnan(keys).any(axis=1)
    met: dict[tuple[float, float], int] = {}
    for row in np.flatnonzero(complete).tolist():
        met.setdefault((keys[row, 1], keys[row, 2]), row)
    rows = np.array(sorted(row for (one, other), row in met.items() if (other, one) in met), np.int64)
    if not rows.size:
        raise ValueError("no date has both decisions")
    place = {row: position for position, row in enumerate(rows.tolist())}
    ids, first = np.unique(columns["iid"][rows], return_index=True)
    like = columns["dec"][rows] > 0
    reverse = np.array([place[met[keys[row, 2], keys[row, 1]]] for row in rows.tolist()], np.int64)
    people = {name: columns[name][rows][first] for name in PERSON}
    gender = columns["gender"][rows][first]
    return Dates(
        keys[rows, 0].astype(np.int64), np.searchsorted(ids, keys[rows, 1]), np.searchsorted(ids, keys[rows, 2]), reverse,
        like, like & like[reverse], {name: columns[name][rows] for name in PAIR}, _as_shares(people),
        keys[rows, 0].astype(np.int64)[first], np.where(np.isnan(gender), 0.0, np.where(gender > 0, 1.0, -1.0)),
    )


def _as_shares(people: dict[str, Doubles]) -> dict[str, Doubles]:
    """Points sought as shares of what the person gave in all: some waves gave 100 to share, others 1 to 10 for each."""
    given = np.stack([people[name] for name in SOUGHT], axis=1)
    answered = ~np.isnan(given).all(axis=1)
    total = np.where(answered, np.nansum(given, axis=1), np.nan)
    total = np.where(total > 0, total, np.nan)
    return people | {name: given[:, column] / total * 100 for column, name in enumerate(SOUGHT)}


def _number(text: Any) -> float:
    try:
        return float(str(text).replace(",", ""))
    except ValueError:
        return float("nan")

"""People and pairs as numbers for models; what is standardised is standardised by training waves or within a wave."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.speed_dating.reading import CATEGORIES, HABITS, INTERESTS, SELF, SOUGHT, Dates

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

ANSWERS: Final = (*HABITS, *INTERESTS, *SOUGHT, *SELF)
OUTLIER: Final = 3.0
"""Standard deviations to which answers are moved: incomes of one typing error should not decide."""


def standardised(dates: Dates, training: Mask) -> Doubles:
    """``ANSWERS`` (p, answers), mean 0 and deviation 1 among ``training`` people (p,), missing ones 0."""
    return np.stack([_scaled(dates.people[name], training) for name in ANSWERS], axis=1)


def within_wave(dates: Dates) -> Doubles:
    """``ANSWERS`` (p, answers), mean 0 and deviation 1 within the person's own wave, missing ones 0."""
    out = np.zeros((dates.side.size, len(ANSWERS)))
    for wave in np.unique(dates.person_wave):
        inside = dates.person_wave == wave
        for column, name in enumerate(ANSWERS):
            out[inside, column] = _scaled(dates.people[name], inside)[inside]
    return out


def categories(dates: Dates, training: Mask, names: tuple[str, ...] = CATEGORIES) -> Doubles:
    """One column (p, values) for each value that occurs among training people, less its share there; 0 if unknown."""
    columns = []
    for name in names:
        values = dates.people[name]
        for value in np.unique(values[training & ~np.isnan(values)]):
            member = values == value
            columns.append(np.where(np.isnan(values), 0.0, member - member[training].mean()))
    return np.stack(columns, axis=1) if columns else np.zeros((dates.side.size, 0))


def pairs(dates: Dates) -> Doubles:
    """(n, 8): years older and their size, interests' correlation, same race, field, career and goal, side."""
    age = dates.people["age"][dates.actor] - dates.people["age"][dates.partner]
    older = np.clip(np.where(np.isnan(age), 0.0, age), -15, 15)
    same = [
        (dates.people[name][dates.actor] == dates.people[name][dates.partner]).astype(float)
        for name in ("field_cd", "career_c", "goal")
    ]
    correlation, race = (np.where(np.isnan(dates.pair[name]), 0.0, dates.pair[name]) for name in ("int_corr", "samerace"))
    return np.stack([older, np.abs(older), correlation, race, *same, dates.side[dates.actor]], axis=1)


def _scaled(values: Doubles, reference: Mask) -> Doubles:
    known = values[reference & ~np.isnan(values)]
    if known.size < 2 or known.std() < 1e-9:
        return np.zeros(values.size)
    scaled = np.clip((values - known.mean()) / known.std(), -OUTLIER, OUTLIER)
    return np.where(np.isnan(scaled), 0.0, scaled)

"""Who is on a dating site: sexes, ages, orientations and occupations, as probabilities.

The constants are those of 59,946 OkCupid profiles (Kim and Escobedo-Land, Journal of Statistics Education 23, 2015;
revised 2021), people from 18 to 69. ``read`` computes the same from any file of that form.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

YOUNGEST, OLDEST, AGE_STEP = 18, 69, 2
ORIENTATIONS: Final = ("straight", "gay", "bisexual")
AGE_BANDS: Final = (25, 35, OLDEST + 1)
"""Occupations are told apart for people younger than each of these."""
JOBS: Final = {
    "artistic / musical / writer": "artist", "banking / financial / real estate": "works in finance",
    "clerical / administrative": "office manager", "computer / hardware / software": "software engineer",
    "construction / craftsmanship": "craftsperson", "education / academia": "teacher",
    "entertainment / media": "works in media", "executive / management": "executive",
    "hospitality / travel": "works in hospitality", "law / legal services": "lawyer",
    "medicine / health": "works in health care", "military": "served in the military",
    "political / government": "works in public service", "retired": "retired",
    "sales / marketing / biz dev": "works in marketing", "science / tech / engineering": "engineer",
    "student": "student", "transportation": "works in logistics", "unemployed": "between jobs",
}
"""Occupation in the file -> as a person would write it."""


@dataclass(frozen=True, slots=True)
class Demographics:
    """Shares; every mapping's or tuple's values add up to 1 once normalised."""

    men: float
    ages: Mapping[str, tuple[float, ...]]
    """"m" or "f" -> weight of ages 18–19, 20–21, … 68–69."""
    orientations: Mapping[str, tuple[float, ...]]
    """"m" or "f" -> weights in the order of ``ORIENTATIONS``."""
    jobs: tuple[Mapping[str, float], ...]
    """For each of ``AGE_BANDS``: occupation (a key of ``JOBS``) -> weight."""


def read(lines: Iterable[str]) -> Demographics:
    """The shares in a CSV with the columns sex (m, f), age, orientation and job.

    Rows outside the ages are left out. Raises ValueError: a column is missing or a sex does not occur.
    """
    sexes: Counter[str] = Counter()
    ages: dict[str, Counter[int]] = {"m": Counter(), "f": Counter()}
    orientations: dict[str, Counter[str]] = {"m": Counter(), "f": Counter()}
    jobs: list[Counter[str]] = [Counter() for _ in AGE_BANDS]
    try:
        for row in csv.DictReader(lines):
            sex, age = row["sex"], int(float(row["age"] or 0))
            if sex not in ages or not YOUNGEST <= age <= OLDEST:
                continue
            sexes[sex] += 1
            ages[sex][(age - YOUNGEST) // AGE_STEP] += 1
            orientations[sex][row["orientation"]] += 1
            if row["job"] in JOBS:
                jobs[next(band for band, end in enumerate(AGE_BANDS) if age < end)][row["job"]] += 1
    except KeyError as error:
        raise ValueError(f"the profiles have no column {error.args[0]!r}") from error
    if not (sexes["m"] and sexes["f"] and all(jobs)):
        raise ValueError("the profiles do not hold both sexes and occupations of all ages")
    bins = (OLDEST - YOUNGEST) // AGE_STEP + 1
    return Demographics(
        men=sexes["m"] / sexes.total(),
        ages={sex: tuple(count[index] / count.total() for index in range(bins)) for sex, count in ages.items()},
        orientations={
            sex: tuple(count[name] / count.total() for name in ORIENTATIONS) for sex, count in orientations.items()
        },
        jobs=tuple({job: count / found.total() for job, count in found.items()} for found in jobs),
    )


OKCUPID: Final = Demographics(
    men=0.598,
    ages={
        "f": (18, 41, 79, 106, 114, 104, 93, 80, 64, 50, 43, 35, 32, 23, 19, 16, 15, 12, 10, 11, 8, 9, 6, 5, 4, 1),
        "m": (15, 36, 75, 115, 128, 120, 101, 80, 60, 51, 40, 35, 30, 24, 18, 15, 12, 9, 7, 7, 6, 5, 4, 3, 2, 1),
    },
    orientations={"f": (0.851, 0.066, 0.083), "m": (0.867, 0.111, 0.022)},
    jobs=(
        {
            "student": 0.35, "artistic / musical / writer": 0.097, "sales / marketing / biz dev": 0.096,
            "science / tech / engineering": 0.08, "computer / hardware / software": 0.073, "education / academia": 0.048,
            "medicine / health": 0.042, "entertainment / media": 0.04, "banking / financial / real estate": 0.035,
            "hospitality / travel": 0.034, "construction / craftsmanship": 0.018, "clerical / administrative": 0.016,
            "executive / management": 0.014, "unemployed": 0.014, "law / legal services": 0.013, "military": 0.012,
        },
        {
            "science / tech / engineering": 0.133, "computer / hardware / software": 0.115,
            "sales / marketing / biz dev": 0.108, "artistic / musical / writer": 0.095, "student": 0.089,
            "education / academia": 0.082, "medicine / health": 0.08, "banking / financial / real estate": 0.057,
            "entertainment / media": 0.056, "executive / management": 0.044, "hospitality / travel": 0.034,
            "law / legal services": 0.034, "construction / craftsmanship": 0.019, "clerical / administrative": 0.019,
            "political / government": 0.016, "transportation": 0.007,
        },
        {
            "computer / hardware / software": 0.115, "medicine / health": 0.114, "artistic / musical / writer": 0.114,
            "education / academia": 0.096, "science / tech / engineering": 0.092, "executive / management": 0.092,
            "sales / marketing / biz dev": 0.091, "banking / financial / real estate": 0.053,
            "entertainment / media": 0.051, "law / legal services": 0.037, "construction / craftsmanship": 0.033,
            "hospitality / travel": 0.025, "political / government": 0.02, "clerical / administrative": 0.019,
            "student": 0.015, "retired": 0.013, "transportation": 0.012,
        },
    ),
)

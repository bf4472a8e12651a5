"""Who could be shown to whom in an export: mutually acceptable people near each other, as lists."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from configs.contracts.people import EARTH_RADIUS_KM
from recommender.datasets.exported import Exported
from recommender.features import DAY_S, DAYS_A_YEAR

LIST_SIZE: Final = 200
LOOKED_AT: Final = 4 * LIST_SIZE
"""Nearest people looked at for one list: about a quarter of those near fit (a guess)."""
PEOPLE_AT_ONCE: Final = 2_000


class Lists(NamedTuple):
    """Lists in CSR form: ``owners`` and ``candidates`` (e,) int32 number people, owners ascending; ``distances`` km."""

    starts: NDArray[np.int64]
    owners: NDArray[np.int32]
    candidates: NDArray[np.int32]
    distances: NDArray[np.float32]


def mutual_lists(data: Exported, size: int = LIST_SIZE) -> Lists:
    """For each person up to ``size`` of the nearest whom both sides' preferences accept. O(p log p)."""
    people = data.latitudes.size
    placed = np.flatnonzero(np.isfinite(data.latitudes) & data.discoverable)
    owners: list[NDArray[np.int32]] = []
    candidates: list[NDArray[np.int32]] = []
    distances: list[NDArray[np.float32]] = []
    if placed.size:
        points = _points(data.latitudes[placed], data.longitudes[placed])
        tree = cKDTree(points)
        for first in range(0, placed.size, PEOPLE_AT_ONCE):
            own = placed[first : first + PEOPLE_AT_ONCE]
            chords, found = tree.query(points[first : first + PEOPLE_AT_ONCE], k=min(LOOKED_AT, placed.size))
            chords, found = chords.reshape(own.size, -1), found.reshape(own.size, -1)
            km = (2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chords / 2, 1.0))).astype(np.float32)
            who, other = np.repeat(own, found.shape[1]), placed[found.ravel()]
            fits = (_accepts(data, who, other, km.ravel()) & _accepts(data, other, who, km.ravel()) & (who != other)).reshape(
                found.shape
            )
            fits &= np.cumsum(fits, axis=1) <= size
            kept = fits.ravel()
            owners.append(who[kept].astype(np.int32))
            candidates.append(other[kept].astype(np.int32))
            distances.append(km.ravel()[kept])
    owner = np.concatenate(owners) if owners else np.zeros(0, np.int32)
    starts = np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=people)))).astype(np.int64)
    return Lists(
        starts, owner, np.concatenate(candidates) if candidates else np.zeros(0, np.int32),
        np.concatenate(distances) if distances else np.zeros(0, np.float32),
    )


def _points(latitudes: NDArray[Any], longitudes: NDArray[Any]) -> NDArray[np.float64]:
    """Points on the unit sphere: the nearest by chord are the nearest by great circle."""
    lat, lng = np.radians(latitudes.astype(np.float64)), np.radians(longitudes.astype(np.float64))
    return np.stack([np.cos(lat) * np.cos(lng), np.cos(lat) * np.sin(lng), np.sin(lat)], axis=1)


def _accepts(data: Exported, who: NDArray[Any], other: NDArray[Any], km: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether ``who`` accepts ``other``: role, gender, age and distance."""
    person = data.people
    age = (data.until_s / DAY_S - person["birth_day"][other]) / DAYS_A_YEAR
    genders = data.accepts_genders[who]
    wanted = data.accepts_roles[who] >> person["role"][other].astype(np.int8) & 1
    gender = (genders == 0) | (genders >> person["gender"][other].astype(np.int8) & 1).astype(np.bool_)
    within = (km <= person["reach_km"][who]) & (age >= person["age_min"][who]) & (age < person["age_max"][who] + 1)
    return np.asarray(wanted.astype(np.bool_) & gender & within)

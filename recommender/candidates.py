"""Who may see whom, decided for many candidates at once on packed columns.

Every range test of a candidate is a field of one 64-bit word with a guard bit above it. Subtracting a word of
thresholds leaves a field's guard set exactly when the field is at least its threshold (the guard absorbs the borrow,
so fields cannot disturb each other): one subtraction, one mask and one comparison decide all of them. This is the
parallel comparison of Fredman and Willard's fusion tree (1993). Set tests are bits of one 16-bit word of flags, of
which a viewer forbids some: one mask and one comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from configs.contracts.people import (
    EARTH_RADIUS_KM,
    GENDER_CODES,
    ROLE_CODES,
    age_years,
    gender_mask,
    role_mask,
)

Words = NDArray[np.uint64]
Flags = NDArray[np.uint16]
Days = NDArray[np.int64]

EPOCH: Final = date(1970, 1, 1).toordinal()
DAY_BIAS: Final = 1 << 16
"""Added to days since 1970 so that birth days from 1790 to 2149 are not negative."""
DAY_MOST: Final = (1 << 17) - 1
AGE_MOST: Final = 127
DISTANCE_MOST_KM: Final = 511

# Field positions and widths: born after (17) · born by (17) · reaches (9) · accepts older (7) · accepts younger (7).
_BORN, _BORN_REVERSED, _REACH, _OLDEST, _YOUNGEST = 0, 18, 36, 46, 54
_DAY_BITS, _REACH_BITS, _AGE_BITS = 17, 9, 7
GUARDS: Final = np.uint64(
    1 << (_BORN + _DAY_BITS) | 1 << (_BORN_REVERSED + _DAY_BITS) | 1 << (_REACH + _REACH_BITS)
    | 1 << (_OLDEST + _AGE_BITS) | 1 << (_YOUNGEST + _AGE_BITS)
)
REACH_SHIFT: Final = np.uint64(_REACH)

# Flags: role (2) · gender (4) · refuses role (2) · refuses gender (4) · then one each.
_ROLE, _GENDER, _REFUSED_ROLE, _REFUSED_GENDER = 0, 2, 6, 8
_ALL_ROLES, _ALL_GENDERS = (1 << 2) - 1, (1 << 4) - 1
HIDDEN: Final = 1 << 12
"""Asked not to be shown, or is not active."""
UNVERIFIED: Final = 1 << 13
INCOMPLETE: Final = 1 << 14
"""Role and birth date are not known yet."""
VACANT: Final = 1 << 15
"""No candidate at all: a spare place in a column."""
NEVER_SHOWN: Final = HIDDEN | INCOMPLETE | VACANT


def role_flag(role_code: int) -> int:
    """The flag of who has this role."""
    return 1 << (_ROLE + role_code)


def day_number(day: date) -> int:
    """Days since 1970-01-01; negative before."""
    return day.toordinal() - EPOCH


@lru_cache(maxsize=1_024)
def latest_birth(today: date, age: int) -> date:
    """The last birth date of somebody who has completed ``age`` years, as ``people.age_years`` counts."""
    year = max(today.year - age, 1)
    try:
        return today.replace(year=year)
    except ValueError:
        return date(year, 2, 28)


def pack_word(birth_day: int, age_min: int, age_max: int, max_distance_km: int) -> int:
    """One candidate's word. Values out of a field's range are moved to its ends."""
    born = min(max(birth_day + DAY_BIAS, 0), DAY_MOST)
    return (
        int(GUARDS)
        | born << _BORN
        | (DAY_MOST - born) << _BORN_REVERSED
        | min(max(max_distance_km, 0), DISTANCE_MOST_KM) << _REACH
        | min(max(age_max, 0), AGE_MOST) << _OLDEST
        | (AGE_MOST - min(max(age_min, 0), AGE_MOST)) << _YOUNGEST
    )


def pack_words(birth_days: NDArray[np.int32], age_min: NDArray[np.uint8], age_max: NDArray[np.uint8],
               max_distance_km: NDArray[np.uint16]) -> Words:
    """``pack_word`` for columns, each (n,)."""
    born = np.clip(birth_days.astype(np.int64) + DAY_BIAS, 0, DAY_MOST)
    packed = (
        born << _BORN
        | (DAY_MOST - born) << _BORN_REVERSED
        | np.minimum(max_distance_km.astype(np.int64), DISTANCE_MOST_KM) << _REACH
        | np.minimum(age_max.astype(np.int64), AGE_MOST) << _OLDEST
        | (AGE_MOST - np.minimum(age_min.astype(np.int64), AGE_MOST)) << _YOUNGEST
    )
    return packed.astype(np.uint64) | GUARDS


def birth_days_of(words: Words) -> Days:
    """Days since 1970 of each word, (n,) int64."""
    return (words & np.uint64(DAY_MOST)).astype(np.int64) - DAY_BIAS


def youngest_accepted(words: Words) -> NDArray[np.float32]:
    """Youngest completed years that each candidate accepts, (n,) float32."""
    return np.float32(AGE_MOST) - (words >> np.uint64(_YOUNGEST) & np.uint64(AGE_MOST)).astype(np.float32)


def oldest_accepted(words: Words) -> NDArray[np.float32]:
    """Oldest completed years that each candidate accepts, (n,) float32."""
    return (words >> np.uint64(_OLDEST) & np.uint64(AGE_MOST)).astype(np.float32)


def reaches_of(words: Words) -> NDArray[np.float32]:
    """The largest distance each candidate accepts, (n,) float32 km."""
    return (words >> REACH_SHIFT & np.uint64(DISTANCE_MOST_KM)).astype(np.float32)


def roles_of(flags: Flags) -> NDArray[np.uint8]:
    """``people.ROLE_CODES`` of each candidate, (n,) uint8; 0 for who has none yet."""
    return (flags >> np.uint16(_ROLE + 1) & np.uint16(1)).astype(np.uint8)


def genders_of(flags: Flags) -> NDArray[np.uint8]:
    """``people.GENDER_CODES`` of each candidate, (n,) uint8."""
    one_bit = flags >> np.uint16(_GENDER) & np.uint16(_ALL_GENDERS)
    return ((one_bit > 1) + (one_bit > 2).astype(np.uint8) + (one_bit > 4)).astype(np.uint8)


def unpack_word(word: int) -> tuple[int, int, int, int]:
    """(birth day, youngest, oldest, distance km) that were packed."""
    return (
        (word & DAY_MOST) - DAY_BIAS,
        AGE_MOST - (word >> _YOUNGEST & AGE_MOST),
        word >> _OLDEST & AGE_MOST,
        word >> _REACH & DISTANCE_MOST_KM,
    )


def pack_flags(role_code: int | None, gender_code: int, roles: int, genders: int, *, discoverable: bool,
               verified: bool) -> int:
    """One candidate's flags.

    ``role_code`` None: unknown, never shown. ``roles``: accepted roles as a mask, 0 for the opposite of the own one.
    ``genders``: accepted genders as a mask, 0 for any.
    """
    own = 0 if role_code is None else 1 << role_code
    accepted = roles if roles or role_code is None else own ^ _ALL_ROLES
    return (
        own << _ROLE
        | 1 << (_GENDER + gender_code)
        | (accepted ^ _ALL_ROLES) << _REFUSED_ROLE
        | ((genders or _ALL_GENDERS) ^ _ALL_GENDERS) << _REFUSED_GENDER
        | (0 if discoverable else HIDDEN)
        | (0 if verified else UNVERIFIED)
        | (INCOMPLETE if role_code is None else 0)
    )


def pack_many_flags(role_codes: NDArray[np.uint8], gender_codes: NDArray[np.uint8], roles: NDArray[np.uint8],
                    genders: NDArray[np.uint8], *, unknown_role: int, discoverable: NDArray[np.bool_],
                    verified: NDArray[np.bool_]) -> Flags:
    """``pack_flags`` for columns, each (n,); ``unknown_role`` is the code of a role that is not known."""
    known = role_codes != unknown_role
    own = np.where(known, 1 << np.minimum(role_codes, 1).astype(np.int64), 0)
    accepted = np.where((roles == 0) & known, own ^ _ALL_ROLES, roles.astype(np.int64))
    accepted_genders = np.where(genders == 0, _ALL_GENDERS, genders.astype(np.int64))
    packed = (
        own << _ROLE
        | np.int64(1) << (gender_codes.astype(np.int64) + _GENDER)
        | (accepted ^ _ALL_ROLES) << _REFUSED_ROLE
        | (accepted_genders ^ _ALL_GENDERS) << _REFUSED_GENDER
        | np.where(discoverable, 0, HIDDEN)
        | np.where(verified, 0, UNVERIFIED)
        | np.where(known, 0, INCOMPLETE)
    )
    return packed.astype(np.uint16)


def with_role(flags: int, role_code: int) -> int:
    """The flags of somebody whose role has become known; who stored no roles accepts the opposite one."""
    refused = flags >> _REFUSED_ROLE & _ALL_ROLES
    if refused == _ALL_ROLES:
        refused = 1 << role_code
    kept = flags & ~(INCOMPLETE | _ALL_ROLES << _ROLE | _ALL_ROLES << _REFUSED_ROLE)
    return kept | 1 << (_ROLE + role_code) | refused << _REFUSED_ROLE


def with_gender(flags: int, gender_code: int) -> int:
    return flags & ~(_ALL_GENDERS << _GENDER) | 1 << (_GENDER + gender_code)


def with_roles_accepted(flags: int, roles: int) -> int:
    """``roles``: a mask; 0 means the opposite role."""
    own = flags >> _ROLE & _ALL_ROLES
    refused = (roles ^ _ALL_ROLES) if roles else (own or _ALL_ROLES)
    return flags & ~(_ALL_ROLES << _REFUSED_ROLE) | refused << _REFUSED_ROLE


def with_genders_accepted(flags: int, genders: int) -> int:
    """``genders``: a mask; 0 means any."""
    refused = (genders or _ALL_GENDERS) ^ _ALL_GENDERS
    return flags & ~(_ALL_GENDERS << _REFUSED_GENDER) | refused << _REFUSED_GENDER


@dataclass(frozen=True, slots=True)
class Viewer:
    """What the viewer is and looks for, as both sides' tests need it."""

    birth_date: date
    role: str
    gender: str | None
    age_min: int
    age_max: int
    roles: Sequence[str]
    genders: Sequence[str] = ()
    """Empty: any."""
    verified_only: bool = False

    def thresholds(self, today: date) -> int:
        """The word that a candidate's word must reach in every field; the distance is left at 0."""
        oldest = latest_birth(today, self.age_max + 1)
        youngest = latest_birth(today, self.age_min)
        after = min(max(day_number(oldest) + 1 + DAY_BIAS, 0), DAY_MOST)
        by = min(max(DAY_MOST - (day_number(youngest) + DAY_BIAS), 0), DAY_MOST)
        age = min(max(age_years(self.birth_date, today), 0), AGE_MOST)
        return after << _BORN | by << _BORN_REVERSED | age << _OLDEST | (AGE_MOST - age) << _YOUNGEST

    def forbidden(self) -> int:
        """The flags of which a candidate must have none."""
        genders = gender_mask(tuple(self.genders)) or _ALL_GENDERS
        return (
            (role_mask(tuple(self.roles)) ^ _ALL_ROLES) << _ROLE
            | (genders ^ _ALL_GENDERS) << _GENDER
            | 1 << (_REFUSED_ROLE + ROLE_CODES[self.role])
            | 1 << (_REFUSED_GENDER + GENDER_CODES[self.gender])
            | NEVER_SHOWN
            | (UNVERIFIED if self.verified_only else 0)
        )


def eligible(words: Words, flags: Flags, thresholds: Words | np.uint64, forbidden: int) -> NDArray[np.intp]:
    """Indices of the candidates (n,) that both sides accept, ascending.

    ``thresholds`` (n,): ``Viewer.thresholds`` plus, shifted by ``REACH_SHIFT``, the distance in kilometres rounded up; or
    one for all when the words have lost the distances already.
    """
    reached = words - thresholds
    reached &= GUARDS
    passed = reached == GUARDS
    passed &= (flags & np.uint16(forbidden)) == 0
    places: NDArray[np.intp] = passed.nonzero()[0]
    return places


def without(keys: Words, excluded: Words) -> NDArray[np.bool_]:
    """Which ``keys`` (n,) are not in ``excluded`` (m,), which is sorted."""
    if not excluded.size:
        return np.ones(keys.size, dtype=np.bool_)
    places = np.searchsorted(excluded, keys)
    np.minimum(places, excluded.size - 1, out=places)
    return np.asarray(excluded[places] != keys)


def distances_km(latitude: float, longitude: float, latitudes: NDArray[np.float64],
                 longitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Great-circle distances of one point to many, degrees in, (n,) float64 out (haversine)."""
    here, there = np.radians(latitude), np.radians(latitudes)
    half_lng = np.sin(np.radians(longitudes - longitude) / 2)
    a = np.sin((there - here) / 2) ** 2 + np.cos(here) * np.cos(there) * half_lng**2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(1.0, np.sqrt(a))))

"""A viewer's wishes: preferences narrowed by a request's filters, and whether a candidate still fits them."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from actors.cards.commands import DECK_SIZE, DeckQuery
from configs.contracts.events import Role
from configs.contracts.people import MAXIMUM_DISTANCE_KM, haversine_km
from configs.contracts.read_model import UserRecord
from serve_apps.fields import CURSOR_PATTERN
from serve_apps.views import Moment, roles_of

RADII_KM: Final = (5, 10, 25, 50, 100, 200, MAXIMUM_DISTANCE_KM)
"""Radii that are offered one after the other when people run out."""

Age = Annotated[int, msgspec.Meta(ge=18, le=99)]


class CardsQuery(msgspec.Struct, frozen=True, rename="camel"):
    """Filters of a cards request. They only narrow the person's own preferences."""

    max_distance_km: Annotated[int, msgspec.Meta(ge=1, le=MAXIMUM_DISTANCE_KM)] | None = None
    age_min: Age | None = None
    age_max: Age | None = None
    role: Role | None = None
    verified_only: bool = False
    online_recently: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    cursor: Annotated[str, msgspec.Meta(pattern=CURSOR_PATTERN, max_length=512)] | None = None

    @property
    def filters(self) -> str:
        """A short text that is the same for the same filters: part of the deck's key."""
        values = (self.max_distance_km, self.age_min, self.age_max, self.role, self.verified_only, self.online_recently)
        return "-".join("" if value in (None, False) else "1" if value is True else str(value) for value in values)


NO_FILTERS: Final = CardsQuery()


def narrowed(viewer: UserRecord, query: CardsQuery) -> DeckQuery | None:
    """What to ask the card shards for, without exclusions; None when nobody can fit.

    The viewer must exist and have a location.
    """
    assert viewer.role is not None
    assert viewer.latitude is not None
    assert viewer.longitude is not None
    roles = tuple(role for role in roles_of(viewer) if query.role is None or role == query.role)
    age_min = max(viewer.age_min, query.age_min or 0)
    age_max = min(viewer.age_max, query.age_max or 99)
    if not roles or age_min > age_max:
        return None
    return DeckQuery(
        viewer_id=viewer.user_id,
        latitude=viewer.latitude,
        longitude=viewer.longitude,
        birth_date=viewer.birth_date,
        role=viewer.role,
        gender=viewer.gender,
        age_min=age_min,
        age_max=age_max,
        max_distance_km=min(viewer.max_distance_km, query.max_distance_km or MAXIMUM_DISTANCE_KM),
        roles=roles,
        genders=viewer.genders,
        verified_only=query.verified_only,
        verified=viewer.verified,
        online_recently=query.online_recently,
        size=DECK_SIZE,
        widest_km=min(viewer.max_distance_km, MAXIMUM_DISTANCE_KM),
    )


def next_distance_km(wish: DeckQuery | None, beyond_km: float | None) -> int | None:
    """The radius to offer when nobody is left within the present one: the next step that holds somebody more.

    ``beyond_km``: how far away the nearest of them is; None: nobody, then the person's own limit is offered. None when
    the limit is reached, or when nobody can fit at any distance (``wish`` None).
    """
    if wish is None or wish.max_distance_km >= wish.widest_km:
        return None
    if beyond_km is None:
        return wish.widest_km
    reaching = (step for step in RADII_KM if step > wish.max_distance_km and step >= beyond_km)
    return min(next(reaching, wish.widest_km), wish.widest_km)


def fitting_distance_km(viewer: UserRecord, wish: DeckQuery, candidate: UserRecord, moment: Moment) -> float | None:
    """The distance to a candidate whose preferences or place changed since the deck was made; None: no longer a fit.

    Both must exist. The same rules as the card shards', on the newest records.
    """
    if candidate.latitude is None or candidate.longitude is None or candidate.role not in wish.roles:
        return None
    if wish.role not in roles_of(candidate):
        return None
    if not wish.age_min <= moment.age(candidate) <= wish.age_max:
        return None
    if not candidate.age_min <= moment.age(viewer) <= candidate.age_max:
        return None
    if (wish.genders and candidate.gender not in wish.genders) or (
        candidate.genders and wish.gender not in candidate.genders
    ):
        return None
    if wish.verified_only and not candidate.verified:
        return None
    distance = haversine_km(wish.latitude, wish.longitude, candidate.latitude, candidate.longitude)
    return distance if distance <= min(wish.max_distance_km, candidate.max_distance_km) else None

"""A person as they see themselves and as others see them."""

from __future__ import annotations

from configs.contracts.read_model import UserRecord
from serve_apps.media.urls import MediaUrls
from serve_apps.users.models import Own, Place, Preferences, Profile
from serve_apps.views import Moment, roles_of


def own(record: UserRecord, urls: MediaUrls) -> Own:
    """Everything of oneself, except what only the writers hold (the address)."""
    assert record.role is not None
    place = None
    if record.latitude is not None and record.longitude is not None:
        place = Place(latitude=record.latitude, longitude=record.longitude)
    return Own(
        user_id=record.user_id,
        role=record.role,
        display_name=record.display_name,
        bio=record.bio,
        gender=record.gender,
        birth_date=record.birth_date,
        age=Moment.now().age(record),
        avatar_url=urls.avatar(record.photos),
        photos=urls.photos(record.photos),
        verified=record.verified,
        location=place,
        preferences=preferences(record),
    )


def preferences(record: UserRecord) -> Preferences:
    """What the person looks for, defaults filled in."""
    return Preferences(
        age_min=record.age_min,
        age_max=record.age_max,
        max_distance_km=record.max_distance_km,
        roles=list(roles_of(record)),
        genders=list(record.genders),
        hide_distance=record.hide_distance,
        discoverable=record.discoverable,
    )


def profile(record: UserRecord, urls: MediaUrls) -> Profile:
    """What everybody may see of a person who exists."""
    assert record.role is not None
    now = Moment.now()
    return Profile(
        user_id=record.user_id,
        role=record.role,
        display_name=record.display_name,
        bio=record.bio,
        gender=record.gender,
        age=now.age(record),
        avatar_url=urls.avatar(record.photos),
        photos=urls.photos(record.photos),
        verified=record.verified,
        last_active_bucket=now.bucket(record.last_active_at),
    )

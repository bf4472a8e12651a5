"""Routes of one's own account and of other people."""

from __future__ import annotations

from fastapi import APIRouter

from actors.accounts.answers import Registered
from configs.contracts.events import LocationChanged, PreferencesChanged, ProfileChanged
from configs.contracts.people import snap
from serve_apps.auth.registration import NewAccount, registered
from serve_apps.dependencies import Dependencies
from serve_apps.fields import IdempotencyKey, UserIdPath, body_digest
from serve_apps.identity import Deps, Person, Service
from serve_apps.problems import EVERYWHERE, SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import recorded, to_the_end
from serve_apps.users.models import (
    Created,
    CreateUserBody,
    LocationBody,
    Own,
    Preferences,
    PreferencesBody,
    Profile,
    ProfileBody,
)
from serve_apps.users.profiles import own, preferences, profile

router = APIRouter(tags=["users"])

_CHANGES = errors(*SIGNED_IN, *WITH_BODY, "idempotency_conflict")


async def _own(dependencies: Dependencies, user_id: str) -> Own:
    return own(await dependencies.people.own_record(user_id), dependencies.media_urls)


@router.get("/users/me", operation_id="getMe", response_model=Own, responses=errors(*SIGNED_IN))
async def get_me(person: Person, dependencies: Deps) -> Own:
    """One's own account."""
    return await _own(dependencies, person.user_id)


@router.get(
    "/users/profile/{userId}", operation_id="getProfile", response_model=Profile, responses=errors(*SIGNED_IN, "not_found")
)
async def get_profile(user_id: UserIdPath, person: Person, dependencies: Deps) -> Profile:
    """The public profile of a person; somebody who blocks you, or whom you block, is not found."""
    if user_id == person.user_id:
        return profile(await dependencies.people.own_record(user_id), dependencies.media_urls)
    record = await dependencies.people.visible(person.user_id, user_id)
    if record is None:
        raise Refused("not_found")
    return profile(record, dependencies.media_urls)


@router.put("/users/profile", operation_id="updateProfile", response_model=Own, responses=_CHANGES)
async def update_profile(body: ProfileBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Own:
    """Changes the fields that are sent and answers the account as it is now."""
    payload = ProfileChanged(user_id=person.user_id, display_name=body.display_name, bio=body.bio, gender=body.gender)
    await to_the_end(recorded(
        dependencies, person.user_id, payload, scope="updateProfile", idempotency_key=idempotency_key,
        body_digest=body_digest(dependencies.seals.key, body),
    ))
    return await _own(dependencies, person.user_id)


@router.put(
    "/users/me/location", operation_id="updateLocation", response_model=Own,
    responses=errors(*SIGNED_IN, *WITH_BODY, "idempotency_conflict", "position_invalid"),
)
async def update_location(body: LocationBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Own:
    """Moves to the grid cell (about 6.5 km across) that holds the point; the point itself is kept nowhere."""
    latitude, longitude, cell = snap(body.latitude, body.longitude)
    payload = LocationChanged(user_id=person.user_id, latitude=latitude, longitude=longitude, cell=cell)
    await to_the_end(recorded(
        dependencies, person.user_id, payload, scope="updateLocation", idempotency_key=idempotency_key,
        body_digest=body_digest(dependencies.seals.key, cell),
    ))
    return await _own(dependencies, person.user_id)


@router.get("/users/me/preferences", operation_id="getPreferences", response_model=Preferences, responses=errors(*SIGNED_IN))
async def get_preferences(person: Person, dependencies: Deps) -> Preferences:
    """Whom the person looks for."""
    return preferences(await dependencies.people.own_record(person.user_id))


@router.put("/users/me/preferences", operation_id="updatePreferences", response_model=Preferences, responses=_CHANGES)
async def update_preferences(
    body: PreferencesBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> Preferences:
    """Changes the fields that are sent and answers the preferences as they are now."""
    record = await dependencies.people.own_record(person.user_id)
    lowest = record.age_min if body.age_min is None else body.age_min
    highest = record.age_max if body.age_max is None else body.age_max
    if lowest > highest:
        raise Refused("invalid", fields=[{"field": "body", "message": "ageMin must not be above ageMax"}])
    payload = PreferencesChanged(
        user_id=person.user_id,
        age_min=body.age_min,
        age_max=body.age_max,
        max_distance_km=body.max_distance_km,
        roles=None if body.roles is None else tuple(dict.fromkeys(body.roles)),
        genders=None if body.genders is None else tuple(dict.fromkeys(body.genders)),
        hide_distance=body.hide_distance,
        discoverable=body.discoverable,
    )
    await to_the_end(recorded(
        dependencies, person.user_id, payload, scope="updatePreferences", idempotency_key=idempotency_key,
        body_digest=body_digest(dependencies.seals.key, body),
    ))
    return preferences(await dependencies.people.own_record(person.user_id))


@router.post(
    "/users", operation_id="createUser", status_code=201, response_model=Created,
    responses=errors(*EVERYWHERE, *WITH_BODY, "unauthenticated", "underage", "address_taken", "idempotency_conflict"),
)
async def create_user(body: CreateUserBody, service: Service, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Created:
    """Registers an adult on behalf of another service (token with audience `internal`)."""
    account = await registered(dependencies, NewAccount(
        confirm=False,
        email=body.email, password=body.password, role=body.role, display_name=body.display_name,
        birth_date=body.birth_date, with_session=False,
        idempotency_key=None if idempotency_key is None else f"createUser {service} {idempotency_key}",
        body_digest=body_digest(dependencies.seals.key, body),
    ))
    assert isinstance(account, Registered)
    return Created(user_id=account.user_id)

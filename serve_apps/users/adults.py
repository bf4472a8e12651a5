"""Routes of age assurance, and of consents to be pictured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Request

from configs.contracts.adults import AGE_UNVERIFIED, Consent, is_assured_adult
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import AgeAssessed, ConsentChanged
from configs.contracts.ids import new_id
from configs.contracts.read_model import MARKER, read_versioned, relation_key
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Answer, IdempotencyKey, Success, UserIdPath, body_digest
from serve_apps.identity import Deps, Person
from serve_apps.limits import Rate
from serve_apps.pages import Limit
from serve_apps.problems import EVERYWHERE, SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import recorded, to_the_end

router = APIRouter(prefix="/users", tags=["users"])

DAY_S: Final = 86_400
CHECKS_A_DAY: Final = 10
REFERENCE: Final = b"assessment"
CONSENTS: Final = 1_000
"""Of one person to creators; past it some must be withdrawn."""
_RESULT_BODY: Final[dict[str, Any]] = {"requestBody": {"required": True, "content": {"application/json": {
    "schema": {"type": "object", "description": "the service's own; its raw bytes are what is signed"},
}}}}


class Verification(Answer):
    """``url``: where the person goes for the check, once it was begun; nothing that is shown there reaches the platform."""

    status: Literal["unverified", "pending", "verified", "failed"]
    url: str | None = None


class GivenConsent(Answer):
    creator_id: str


class GivenConsents(Answer):
    consents: list[GivenConsent]


@router.get("/me/verification", operation_id="getVerification", response_model=Verification, responses=errors(*SIGNED_IN))
async def get_verification(person: Person, dependencies: Deps) -> Verification:
    """What age assurance has found out so far."""
    return Verification(status=(await dependencies.people.own_record(person.user_id)).verification)


@router.post(
    "/me/verification", operation_id="startVerification", status_code=201, response_model=Verification,
    responses=errors(*SIGNED_IN),
)
async def start_verification(person: Person, dependencies: Deps) -> Verification:
    """Begins an age check with the age-assurance service. Only its result is ever stored, never a document."""
    record = await dependencies.people.own_record(person.user_id)
    if record.verification == "verified":
        return Verification(status="verified")
    if dependencies.assurance is None:
        raise DependencyUnavailable("no age-assurance service is configured")
    await dependencies.limits.take((Rate("verification", CHECKS_A_DAY, DAY_S), person.user_id))
    assessment_id = new_id()
    reference = dependencies.seals.seal(REFERENCE, UUID(person.user_id).bytes + UUID(assessment_id).bytes)
    started = await dependencies.assurance.begin(reference)
    await to_the_end(_assessed(dependencies, AgeAssessed(
        user_id=person.user_id, assessment_id=assessment_id, status="pending", provider=dependencies.assurance.name,
    ), "begun"))
    return Verification(status="pending", url=started.url)


@router.post(
    "/verification/result", operation_id="takeVerificationResult", response_model=Success,
    responses=errors(*EVERYWHERE, *WITH_BODY, "token_invalid"), openapi_extra=_RESULT_BODY,
)
async def take_result(request: Request, dependencies: Deps) -> Success:
    """The age-assurance service's signed answer (header `Assurance-Signature`); an assessment's first answer counts."""
    found = None
    if dependencies.assurance is not None:
        found = dependencies.assurance.result(await request.body(), request.headers.get("assurance-signature", ""))
    opened = None if found is None else dependencies.seals.open(REFERENCE, found.reference)
    if found is None or dependencies.assurance is None or opened is None or len(opened) != 32:
        raise Refused("token_invalid")
    user_id, assessment_id = str(UUID(bytes=opened[:16])), str(UUID(bytes=opened[16:]))
    await to_the_end(_assessed(dependencies, AgeAssessed(
        user_id=user_id, assessment_id=assessment_id, status=found.outcome, provider=dependencies.assurance.name,
        method=found.method[:64],
    ), "result"))
    return Success()


async def _assessed(dependencies: Dependencies, payload: AgeAssessed, step: str) -> None:
    # The key makes a repeated result no second event, and another result of the same check none at all.
    await recorded(
        dependencies, payload.user_id, payload, scope="verification", idempotency_key=f"{step}:{payload.assessment_id}",
    )


@router.put(
    "/me/consents/{userId}", operation_id="giveConsent", response_model=Success,
    responses=errors(*SIGNED_IN, AGE_UNVERIFIED, "not_found", "self_target", "idempotency_conflict", "too_many_requests"),
)
async def give_consent(
    user_id: UserIdPath, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> Success:
    """Lets a creator publish pictures of oneself; for assured adults. It can be withdrawn at any time."""
    if user_id == person.user_id:
        raise Refused("self_target")
    if not is_assured_adult(await dependencies.people.own_record(person.user_id)):
        raise Refused(AGE_UNVERIFIED)
    if await dependencies.people.visible(person.user_id, user_id) is None:
        raise Refused("not_found")
    if len(await given(dependencies, person.user_id)) >= CONSENTS:
        raise Refused("too_many_requests", retry_after_s=DAY_S)
    await _consented(dependencies, person.user_id, user_id, idempotency_key, given=True)
    return Success()


@router.delete(
    "/me/consents/{userId}", operation_id="withdrawConsent", response_model=Success,
    responses=errors(*SIGNED_IN, "not_found", "idempotency_conflict"),
)
async def withdraw_consent(
    user_id: UserIdPath, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> Success:
    """Withdraws a consent: the creator may publish no further pictures of oneself."""
    if user_id not in await given(dependencies, person.user_id):
        raise Refused("not_found")
    await _consented(dependencies, person.user_id, user_id, idempotency_key, given=False)
    return Success()


@router.get("/me/consents", operation_id="listConsents", response_model=GivenConsents, responses=errors(*SIGNED_IN))
async def list_consents(person: Person, dependencies: Deps, limit: Limit = 100) -> GivenConsents:
    """Whom one lets publish pictures of oneself; there are at most 1,000, of which the first are shown.

    Those who block one, are blocked or are not active are left out; a consent to them can be withdrawn all the same.
    """
    found = sorted(await given(dependencies, person.user_id))
    seen = await dependencies.people.unblocked(person.user_id, found)
    shown = [creator_id for creator_id in found if creator_id in seen]
    return GivenConsents(consents=[GivenConsent(creator_id=creator_id) for creator_id in shown[:limit]])


async def _consented(dependencies: Dependencies, user_id: str, creator_id: str, key: str | None, *, given: bool) -> None:
    await to_the_end(recorded(
        dependencies, user_id, ConsentChanged(user_id=user_id, creator_id=creator_id, given=given), scope="consent",
        idempotency_key=key, body_digest=body_digest(dependencies.seals.key, f"{creator_id} {given}"),
    ))


async def given(dependencies: Dependencies, user_id: str) -> set[str]:
    """The creators whom a person lets publish pictures of them."""
    key = relation_key(user_id)
    await dependencies.people.sets(user_id, ("HMGET", key, MARKER), marked=(0,))
    found: set[str] = set()
    cursor: bytes | str = "0"
    while True:
        ((cursor, fields),) = await dependencies.reads.read(("HSCAN", key, cursor, "MATCH", "c:*", "COUNT", 1_000))
        for name, value in zip(fields[::2], fields[1::2], strict=True):
            if read_versioned(value)[1] == b"1":
                found.add(name[2:].decode())
        if cursor in (b"0", "0"):
            return found


async def consents_of(dependencies: Dependencies, creator_id: str, people: Sequence[str]) -> dict[str, Consent]:
    """What these people say to a creator's publishing pictures of them, for ``contracts.adults.unconsented``."""
    if not people:
        return {}
    ((_, *values),) = await dependencies.people.sets(
        creator_id, ("HMGET", relation_key(creator_id), MARKER, *(f"cb:{person}" for person in people)), marked=(0,)
    )
    return {
        person: Consent(creator_id, person, "given" if read_versioned(value)[1] == b"1" else "withdrawn")
        for person, value in zip(people, values, strict=True) if value is not None
    }

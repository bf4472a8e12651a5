"""Routes without a sign-in: appeals, and the form for the removal of intimate images."""

from __future__ import annotations

import hashlib
from typing import Final

from fastapi import APIRouter, Request

from actors.moderation.commands import AppealDecision, Appealed, RemovalTaken, RequestRemoval
from configs.contracts.events import TargetType
from configs.contracts.ids import derived_id, normalised_address
from configs.contracts.moderation import parse_appeal_token
from serve_apps.auth.sessions import client_of
from serve_apps.dependencies import Dependencies
from serve_apps.identity import Deps
from serve_apps.limits import Rate
from serve_apps.moderation.models import AppealBody, AppealTaken, RemovalBody, RemovalReceipt
from serve_apps.problems import EVERYWHERE, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(prefix="/moderation", tags=["moderation"])

MINUTE_S: Final = 60
HOUR_S: Final = 3_600


@router.post(
    "/appeals", operation_id="appeal", status_code=201, response_model=AppealTaken,
    responses=errors(*EVERYWHERE, *WITH_BODY, "token_invalid", "not_appealable"),
)
async def appeal(body: AppealBody, request: Request, dependencies: Deps) -> AppealTaken:
    """Appeals against a decision with the token that told of it; no sign-in is needed. Another moderator decides, once."""
    limit = dependencies.settings.limits.tokens_per_address_a_minute
    await dependencies.limits.take((Rate("appeal", limit, MINUTE_S), client_of(dependencies, request)))
    parsed = next(filter(None, (parse_appeal_token(key, body.token) for key in dependencies.account_keys)), None)
    if parsed is None:
        raise Refused("token_invalid")
    decision_id, target_id, subject_id = parsed
    answer = await to_the_end(dependencies.moderation.record(AppealDecision(
        target_id=target_id, decision_id=decision_id, appellant_id=subject_id, text=body.text,
    )))
    if not isinstance(answer, Appealed):
        raise Refused("not_appealable")
    return AppealTaken(appeal_id=answer.appeal_id)


@router.post(
    "/removal-requests", operation_id="requestRemoval", status_code=201, response_model=RemovalReceipt,
    responses=errors(*EVERYWHERE, *WITH_BODY),
)
async def request_removal(body: RemovalBody, request: Request, dependencies: Deps) -> RemovalReceipt:
    """Asks for an intimate image to be removed; for anybody, without an account. Decided within 48 hours.

    The same request sent again gets the same receipt.
    """
    if (body.target_type is None) != (body.target_id is None):
        raise Refused("invalid", fields=[{"field": "body", "message": "targetType and targetId belong together"}])
    limits = dependencies.settings.limits
    await dependencies.limits.take(
        (Rate("removal-address", limits.removal_requests_per_address_an_hour, HOUR_S), client_of(dependencies, request)),
        (Rate("removal", limits.removal_requests_a_minute, MINUTE_S), "everywhere"),
    )
    return await to_the_end(_requested(dependencies, body))


async def _requested(dependencies: Dependencies, body: RemovalBody) -> RemovalReceipt:
    digest = hashlib.sha256("\0".join((
        normalised_address(body.contact), body.signature, body.description, body.target_id or "",
    )).encode()).hexdigest()
    # Derived from what was sent, so that a repetition is known even where nobody can say which target it meant.
    name = derived_id(digest, "removal")
    target_type: TargetType = body.target_type or "unlocated"
    answer = await dependencies.moderation.record(RequestRemoval(
        request_id=name, target_type=target_type, target_id=body.target_id or name, contact=body.contact,
        signature=body.signature, description=body.description, digest=digest,
    ))
    if not isinstance(answer, RemovalTaken):
        raise Refused("too_many_requests", retry_after_s=HOUR_S)
    return RemovalReceipt(request_id=answer.request_id)

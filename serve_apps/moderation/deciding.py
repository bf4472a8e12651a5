"""Routes on which moderators decide, and the one that gives the role to do so."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Path

from actors.accounts.answers import AccountChanged, NotSignedIn
from actors.accounts.commands import GrantRole, SetStanding
from actors.moderation.commands import (
    CaseMoved,
    Decide,
    DecideAppeal,
    DecisionMade,
    NotAppealable,
    OwnCase,
    SameModerator,
)
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import Standing, TargetType
from configs.contracts.ids import email_hash
from configs.contracts.moderation import actions_on, standing_id
from configs.contracts.moderation_views import CaseView
from serve_apps.auth.sessions import all_ended
from serve_apps.dependencies import Dependencies
from serve_apps.fields import UUID_PATTERN, Success
from serve_apps.identity import Admin, Deps, Moderator, Staff
from serve_apps.moderation.models import AppealDecisionBody, Decision, DecisionBody, RoleBody
from serve_apps.moderation.viewing import STAFF, TargetIdPath, case_for
from serve_apps.problems import WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/moderation", tags=["moderation"])

DecisionIdPath = Annotated[str, Path(alias="decisionId", pattern=UUID_PATTERN, description="a decision's id")]
AT_ONCE_S: Final = 2.0
"""Within which the account's shard is asked here; past it the log brings the decision there."""


@router.post(
    "/cases/{targetId}/decisions", operation_id="decideCase", status_code=201, response_model=Decision,
    responses=errors(*STAFF, *WITH_BODY, "not_found", "case_moved"),
)
async def decide(target_id: TargetIdPath, body: DecisionBody, staff: Moderator, dependencies: Deps) -> Decision:
    """Decides about a target; both sides are told, with the statement of reasons.

    A suspended or closed account is signed out everywhere within 5 seconds and shown nowhere. Repeating a decision
    answers as it did the first time.
    """
    if body.action not in actions_on(body.target_type):
        raise Refused("invalid", fields=[{"field": "body.action", "message": "this kind of target has no such action"}])
    if body.category == "child_abuse" and staff.role != "admin":
        raise Refused("forbidden")
    case = await case_for(staff, dependencies, target_id)
    subject_id = await _subject(dependencies, body.target_type, case)
    if subject_id is not None and subject_id == staff.person_id:
        raise Refused("forbidden")
    return await to_the_end(_decided(dependencies, Decide(
        target_type=body.target_type, target_id=target_id, subject_id=subject_id, action=body.action, category=body.category,
        statement=body.statement, decided_by=staff.name, seen=body.seen,
    )))


@router.post(
    "/cases/{targetId}/appeals/{decisionId}", operation_id="decideAppeal", status_code=201, response_model=Decision,
    responses=errors(*STAFF, *WITH_BODY, "not_appealable", "same_moderator"),
)
async def decide_appeal(
    target_id: TargetIdPath, decision_id: DecisionIdPath, body: AppealDecisionBody, staff: Moderator, dependencies: Deps
) -> Decision:
    """Decides an appeal, as another moderator than whoever decided first; ``reversed`` takes the decision's effect back."""
    await case_for(staff, dependencies, target_id)
    return await to_the_end(_decided(dependencies, DecideAppeal(
        target_id=target_id, decision_id=decision_id, outcome=body.outcome, statement=body.statement, decided_by=staff.name,
        person_id=staff.person_id,
    )))


async def _subject(dependencies: Dependencies, target_type: TargetType, case: CaseView) -> str | None:
    """Whose the target is, as our own records have it. None: they do not know.

    Raises Refused: there is no such target of this kind, and nobody reported one. What was just made is found in the read
    model before the rows have it; of a message or comment, whose place only its reporter names, moderators know by the report.
    """
    target_id = case.target_id
    if target_type == "user":
        if target_id not in await dependencies.people.records((target_id,)):
            raise Refused("not_found")
        return target_id
    reported = any(report.target_type == target_type for report in case.reports)
    owner_id = None
    if target_type == "media":
        media = case.media or (await dependencies.media_records.of((target_id,))).get(target_id)
        owner_id = None if media is None else media.owner_id
    elif target_type == "post":
        post = await dependencies.contents.record(target_id)
        owner_id = None if post is None else post.creator_id
    elif reported:
        owner_id = case.subject_id
    if owner_id is None and not reported:
        raise Refused("not_found")
    return owner_id


async def _decided(dependencies: Dependencies, command: Decide | DecideAppeal) -> Decision:
    answer = await dependencies.moderation.record(command)
    if isinstance(answer, CaseMoved):
        raise Refused("case_moved", number=answer.number)
    if isinstance(answer, SameModerator):
        raise Refused("same_moderator")
    if isinstance(answer, OwnCase):
        raise Refused("forbidden")
    if isinstance(answer, NotAppealable):
        raise Refused("not_appealable")
    assert isinstance(answer, DecisionMade)
    if answer.subject_id is not None and answer.standing is not None:
        await _at_once(dependencies, answer, answer.subject_id, answer.standing)
    return Decision(decision_id=answer.decision_id, number=answer.number)


async def _at_once(dependencies: Dependencies, made: DecisionMade, user_id: str, standing: Standing) -> None:
    """Carries the decision out on the account without waiting for the log, which repeats it."""
    try:
        async with asyncio.timeout(AT_ONCE_S):
            address = (await dependencies.loader.addresses((user_id,))).get(user_id)
            if address is None:
                return
            changed = await dependencies.accounts.set_standing(SetStanding(
                email_hash=address, user_id=user_id, status=standing, number=made.number, cause_id=made.decision_id,
                event_id=standing_id(made.event_id),
            ))
        if isinstance(changed, AccountChanged) and standing != "active":
            await all_ended(dependencies, changed, None)
    except (DependencyUnavailable, TimeoutError) as error:
        log.warning("standing_left_to_log", reason=type(error).__name__)


@router.put(
    "/roles", operation_id="grantRole", response_model=Success, responses=errors(*STAFF, *WITH_BODY, "not_found"),
)
async def grant_role(body: RoleBody, staff: Admin, dependencies: Deps) -> Success:
    """Gives an account a ``permissionRole``; it is signed out everywhere within 5 seconds, so that no token keeps the old one."""
    await to_the_end(_granted(dependencies, staff, body))
    return Success()


async def _granted(dependencies: Dependencies, staff: Staff, body: RoleBody) -> None:
    answer = await dependencies.accounts.grant_role(GrantRole(
        email_hash=email_hash(body.email), role=body.role, granted_by=staff.name,
    ))
    if isinstance(answer, NotSignedIn):
        raise Refused("not_found")
    if answer.version:
        await all_ended(dependencies, answer, None)

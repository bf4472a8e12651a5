"""The route that reports a person, or something of theirs, to the moderators."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from configs.contracts.content import comments_keys, read_comment
from configs.contracts.events import UserReported
from configs.contracts.read_model import listing_keys, read_match
from serve_apps.dependencies import Dependencies
from serve_apps.fields import IdempotencyKey, body_digest
from serve_apps.identity import Deps, Person
from serve_apps.limits import Rate
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import recorded, to_the_end
from serve_apps.users.models import ReportBody, Reported

router = APIRouter(tags=["users"])

HOUR_S: Final = 3_600
DAY_S: Final = 86_400


@router.post(
    "/reports", operation_id="report", status_code=201, response_model=Reported,
    responses=errors(*SIGNED_IN, *WITH_BODY, "idempotency_conflict", "not_found", "self_target"),
)
async def report(body: ReportBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Reported:
    """Reports a person, message, media, post or comment to the moderators.

    Blocking each other, or an ended match, does not prevent it: not for 90 days, nor later.
    """
    owner_id = await _owner(dependencies, body, person.user_id)
    if owner_id == person.user_id:
        raise Refused("self_target")
    # One after the other, so that what the hour refuses does not use up the day.
    limits = dependencies.settings.limits
    await dependencies.limits.take((Rate("reports-hour", limits.reports_per_user_an_hour, HOUR_S), person.user_id))
    await dependencies.limits.take((Rate("reports-day", limits.reports_per_user_a_day, DAY_S), person.user_id))
    payload = UserReported(
        report_id="", reporter_id=person.user_id, target_type=body.target_type, target_id=body.target_id,
        category=body.category, text=body.text, context_id=body.conversation_id or body.post_id,
    )
    answer = await to_the_end(recorded(
        dependencies, person.user_id, payload, scope="report", idempotency_key=idempotency_key,
        body_digest=body_digest(dependencies.seals.key, body),
    ))
    return Reported(report_id=answer.event_id)


async def _owner(dependencies: Dependencies, body: ReportBody, reporter_id: str) -> str | None:
    """Whose the target is; None: a message's is found by the moderators. Raises Refused: the reporter cannot have seen it."""
    if body.target_type == "user":
        if body.target_id not in await dependencies.people.records((body.target_id,)):
            raise Refused("not_found")
        return body.target_id
    if body.target_type == "message":
        # An ended match stays among the entries, so that its messages can still be reported.
        _, entries = listing_keys("match", reporter_id)
        assert body.conversation_id is not None
        ((_, match),) = await dependencies.people.sets(
            reporter_id, ("HMGET", entries, "*", body.conversation_id), marked=(0,)
        )
        if read_match(match) is None:
            raise Refused("not_found")
        return None
    if body.target_type == "media":
        media = (await dependencies.media_records.of((body.target_id,))).get(body.target_id)
        if media is None:
            raise Refused("not_found")
        return media.owner_id
    if body.target_type == "comment":
        assert body.post_id is not None
        (value,) = await dependencies.reads.read(("HGET", comments_keys(body.post_id)[1], body.target_id))
        comment = None if value is None else read_comment(value)
        if comment is None or not comment.text:
            raise Refused("not_found")
        return comment.user_id
    post = await dependencies.contents.record(body.target_id)
    if post is None:
        raise Refused("not_found")
    return post.creator_id

"""The swipe route."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from actors.swipes.commands import IdempotencyConflict, LimitReached, Swipe, SwipeAnswer
from configs.contracts import changes
from configs.contracts.events import SwipeAction
from serve_apps.dependencies import Dependencies
from serve_apps.fields import UUID_PATTERN
from serve_apps.hot import HotRequest, HotRoute, refused
from serve_apps.matching.impressions import read_impression
from serve_apps.messaging.pairs import opened
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused
from serve_apps.recording import to_the_end


class SwipeBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """``impressionId``: the card's, when the swipe answers a card."""

    target_user_id: Annotated[str, msgspec.Meta(pattern=UUID_PATTERN, max_length=36)]
    action: SwipeAction
    impression_id: Annotated[str, msgspec.Meta(max_length=256, pattern=r"^[A-Za-z0-9_-]*$")] | None = None


class SwipeResult(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The present state of the pair; a match that is made late arrives by notification."""

    matched: bool
    match_id: str | None = None


_BODIES: Final = msgspec.json.Decoder(SwipeBody)
_ENCODER: Final = msgspec.json.Encoder()
_NO_MATCH: Final = b'{"matched":false}'


async def swipe(dependencies: Dependencies, request: HotRequest) -> bytes:
    """Records a swipe, durable before the answer, and tells whether the two match now."""
    try:
        body = _BODIES.decode(request.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise refused(error, "body") if isinstance(error, msgspec.MsgspecError) else Refused("malformed_body") from error
    swiper_id, target_id = request.person.user_id, body.target_user_id
    if target_id == swiper_id:
        raise Refused("self_target")
    if body.impression_id is not None:
        shown = read_impression(dependencies.seals, body.impression_id)
        if shown is None or (shown.viewer_id, shown.candidate_id) != (swiper_id, target_id):
            raise Refused("invalid", fields=[{"field": "body.impressionId", "message": "not the id of this card"}])
    if await dependencies.people.visible(swiper_id, target_id) is None:
        raise Refused("not_found")
    answer = await dependencies.swipes.swipe(
        Swipe(swiper_id, target_id, body.action, request.idempotency_key, body.impression_id)
    )
    if isinstance(answer, LimitReached):
        seconds = (answer.resets_at - datetime.now(UTC)).total_seconds()
        raise Refused("daily_limit_reached", retry_after_s=max(1, int(seconds) + 1), resetsAt=changes.rfc3339(answer.resets_at))
    if isinstance(answer, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    if not answer.matched:
        return _NO_MATCH
    if answer.match_version and answer.matched_at is not None:
        await to_the_end(_matched(dependencies, swiper_id, target_id, answer, answer.matched_at))
    return _ENCODER.encode(SwipeResult(matched=True, match_id=answer.match_id))


async def _matched(
    dependencies: Dependencies, swiper_id: str, target_id: str, answer: SwipeAnswer, matched_at: datetime
) -> None:
    """Puts the match into both lists and opens its conversation."""
    await asyncio.gather(
        dependencies.write_through.apply(*changes.matched(
            swiper_id, target_id, matched_at=matched_at, generation=answer.generation, version=answer.match_version
        )),
        opened(dependencies, swiper_id, target_id, generation=answer.generation, version=answer.match_version),
    )


SWIPE: Final = HotRoute(
    method="POST", path="/matching/swipe", operation_id="swipe", tag="matching",
    summary="Like, pass or super-like a person.", handler=swipe, answer=SwipeResult, body=SwipeBody, idempotent=True,
    codes=(*SIGNED_IN, *WITH_BODY, "not_found", "self_target", "daily_limit_reached", "idempotency_conflict"),
    examples={"targetUserId": "01890a5d-ac96-774b-bcce-b302099a8057", "action": "like"},
)

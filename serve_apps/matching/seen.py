"""The route by which a device reports which cards it has shown."""

from __future__ import annotations

from time import time
from typing import Annotated, Final

from fastapi import APIRouter
from pydantic import Field, StrictStr

from actors.impressions.commands import Shown
from configs.contracts.events import CardsSeen
from configs.contracts.ids import new_id
from configs.contracts.impressions import Impression
from serve_apps.fields import Answer, Body, IdempotencyKey
from serve_apps.identity import Deps, Person
from serve_apps.matching.impressions import read_impression
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(prefix="/matching", tags=["matching"])

IDS_MOST: Final = 100
ImpressionId = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{1,256}$")]


class SeenBody(Body):
    """Impression ids of the person's own cards; naming one twice, or again later, changes nothing."""

    impression_ids: Annotated[list[ImpressionId], Field(min_length=1, max_length=IDS_MOST)]


class SeenResult(Answer):
    """How many different cards were recorded as seen."""

    recorded: int


@router.post(
    "/impressions", operation_id="reportImpressions", response_model=SeenResult, responses=errors(*SIGNED_IN, *WITH_BODY)
)
async def report(body: SeenBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> SeenResult:
    """Records which cards were actually seen. All of them, or none when one is not the person's own."""
    seen: dict[tuple[str, str], Impression] = {}
    for place, text in enumerate(body.impression_ids):
        impression = read_impression(dependencies.seals, text)
        if impression is None or impression.viewer_id != person.user_id:
            raise Refused("invalid", fields=[
                {"field": f"body.impressionIds.{place}", "message": "not the id of a card that was shown to you"}
            ])
        seen.setdefault((impression.response_id, impression.candidate_id), impression)
    payload = CardsSeen(
        viewer_id=person.user_id,
        response_ids=tuple(response for response, _ in seen),
        candidate_ids=tuple(candidate for _, candidate in seen),
        positions=tuple(impression.position for impression in seen.values()),
    )
    await to_the_end(dependencies.impressions.one(Shown.of(new_id(), int(time() * 1e6), payload)))
    return SeenResult(recorded=len(seen))

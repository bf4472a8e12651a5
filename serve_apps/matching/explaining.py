"""The route by which operators ask why a card has its score."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query

from actors.cards.commands import Explain
from configs.contracts.ranking import NAME_PATTERN, assigned
from configs.contracts.read_model import RANKING, newest_likes, read_ranking
from recommender.waiting import LIKES_MOST
from serve_apps.fields import Answer, CandidateIdPath, ViewerIdPath
from serve_apps.identity import Deps, Service
from serve_apps.matching.decks import waiting_keys
from serve_apps.matching.filters import NO_FILTERS, narrowed
from serve_apps.problems import EVERYWHERE, Refused, errors

router = APIRouter(prefix="/matching", tags=["matching"])

Version = Annotated[str | None, Query(pattern=NAME_PATTERN, description="a loaded version; absent: the viewer's own")]


class CardExplanation(Answer):
    """``terms`` sum to ``score``, the natural logarithm by which the card is ordered."""

    viewer: str
    candidate: str
    experiment: str
    arm: str
    model_version: str
    configuration: int
    people_table: str
    score: float
    terms: dict[str, float]
    features: dict[str, float]
    distance_km: float
    eligible: bool


@router.get(
    "/explanations/{viewerId}/{candidateId}", operation_id="explainCard", response_model=CardExplanation,
    responses=errors(*EVERYWHERE, "unauthenticated", "not_found", "location_required", "read_model_unknown"),
)
async def explain(
    viewer_id: ViewerIdPath, candidate_id: CandidateIdPath, service: Service, dependencies: Deps, version: Version = None
) -> CardExplanation:
    """Why a card has its score, to a service or an operator (token with audience `internal`), from the candidate's shard.

    Also for a candidate whom the viewer would not be shown: `eligible` says so; whether they have been seen is not asked.
    """
    viewer = (await dependencies.people.records((viewer_id,))).get(viewer_id)
    if viewer is None or not viewer.exists:
        raise Refused("not_found")
    if viewer.latitude is None:
        raise Refused("location_required")
    wish = narrowed(viewer, NO_FILTERS)
    if wish is None:
        raise Refused("not_found")
    ranking, likes = await dependencies.reads.read(("GET", RANKING), newest_likes(viewer_id, LIKES_MOST))
    assignment = assigned(read_ranking(ranking), viewer_id, viewer.cell, datetime.now(UTC).timestamp())
    query = msgspec.structs.replace(
        wish, model_version=version or assignment.version, waiting=waiting_keys(likes), waiting_boost=assignment.waiting_like
    )
    found = await dependencies.cards.explain(Explain(query, candidate_id))
    if found is None:
        raise Refused("not_found")
    return CardExplanation(
        viewer=viewer_id, candidate=candidate_id, experiment=assignment.experiment, arm=assignment.arm,
        **msgspec.structs.asdict(found),
    )

"""Routes of matches and received likes; swiping is in ``swipe.py``, cards in ``cards.py``."""

from __future__ import annotations

from datetime import datetime

import msgspec
from fastapi import APIRouter

from actors.swipes.commands import EndPair, Undo, UndoRefused
from configs.contracts.ids import match_id as id_of_match
from configs.contracts.ids import packed_keys
from configs.contracts.read_model import MARKER, LikeEntry, MatchEntry, listing_keys, read_match
from serve_apps.dependencies import Dependencies
from serve_apps.fields import IdempotencyKey, MatchIdPath, Success
from serve_apps.identity import Deps, Person
from serve_apps.matching.models import Like, Likes, Matches, Undone, match_of
from serve_apps.messaging.pairs import ended, without_messages
from serve_apps.pages import Cursor, Limit
from serve_apps.problems import SIGNED_IN, Refused, errors
from serve_apps.recording import to_the_end
from serve_apps.views import summary

router = APIRouter(prefix="/matching", tags=["matching"])

_MATCHES = msgspec.json.Decoder(MatchEntry)
_LIKES = msgspec.json.Decoder(LikeEntry)


@router.get("/matches", operation_id="listMatches", response_model=Matches, responses=errors(*SIGNED_IN, "cursor_invalid"))
async def list_matches(person: Person, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None) -> Matches:
    """Present matches, newest first."""
    page = await dependencies.listings.page("match", person.user_id, limit, cursor)
    entries = [_MATCHES.decode(value) for _, value in page.entries]
    others = await dependencies.people.unblocked(person.user_id, [entry.other_id for entry in entries])
    shown = [entry for entry in entries if entry.status == "active" and entry.other_id in others]
    heads = await dependencies.reading.heads(person.user_id, shown)
    return Matches(
        matches=[match_of(entry, others[entry.other_id], heads[entry.match_id], dependencies.media_urls) for entry in shown],
        next_cursor=page.next_cursor,
    )


@router.delete(
    "/matches/{matchId}", operation_id="unmatch", response_model=Success, responses=errors(*SIGNED_IN, "not_found")
)
async def unmatch(match_id: MatchIdPath, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Success:
    """Ends a match for both; ending it again is answered the same."""
    _, entries = listing_keys("match", person.user_id)
    ((_, value),) = await dependencies.people.sets(person.user_id, ("HMGET", entries, MARKER, match_id), marked=(0,))
    entry = read_match(value)
    if entry is None:
        raise Refused("not_found")
    await to_the_end(_unmatched(dependencies, person.user_id, entry))
    return Success()


async def _unmatched(dependencies: Dependencies, user_id: str, entry: MatchEntry) -> None:
    """Ends the pair at its authority, then its conversation; of one that has ended only the latter, to no effect."""
    if entry.status != "active":
        await ended(dependencies, user_id, entry.other_id, generation=entry.generation, reason=entry.status, version=0)
        return
    found = await dependencies.swipes.end(EndPair(user_id, entry.other_id, "unmatched"))
    if not found.ended:
        raise Refused("not_found")
    await ended(
        dependencies, user_id, entry.other_id, generation=found.generation, reason="unmatched", version=found.version
    )


@router.post(
    "/undo", operation_id="undo", response_model=Undone,
    responses=errors(*SIGNED_IN, "nothing_to_undo", "undo_too_late", "undo_has_messages"),

)
async def undo(person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Undone:
    """Withdraws the last swipe within 5 minutes, and ends the match that it made, unless that has messages."""
    return await to_the_end(_undone(dependencies, person.user_id, idempotency_key))


async def _undone(dependencies: Dependencies, user_id: str, key: str | None) -> Undone:
    last = await dependencies.swipes.last(user_id, key)
    if last.target_id is None or last.undone:
        return await _withdrawn(dependencies, user_id, key, None, None)
    async with without_messages(dependencies, user_id, last.target_id) as until:
        return await _withdrawn(dependencies, user_id, key, last.target_id, until)


async def _withdrawn(
    dependencies: Dependencies, user_id: str, key: str | None, target_id: str | None, until: datetime | None
) -> Undone:
    answer = await dependencies.swipes.undo(Undo(user_id, key, target_id, until))
    if isinstance(answer, UndoRefused):
        raise Refused("undo_too_late" if answer.reason == "too_late" else "nothing_to_undo")
    if answer.ended_match:
        await ended(
            dependencies, user_id, answer.target_id, generation=answer.generation, reason="undone",
            version=answer.match_version,
        )
    elif target_id is not None:
        await dependencies.conversations.release(id_of_match(user_id, target_id))
    return Undone(target_user_id=answer.target_id, action=answer.action, ended_match=answer.ended_match)


@router.get("/likes-me", operation_id="listLikes", response_model=Likes, responses=errors(*SIGNED_IN, "cursor_invalid"))
async def list_likes(person: Person, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None) -> Likes:
    """Who likes the person and was not swiped by them yet, newest first."""
    page = await dependencies.listings.page("like", person.user_id, limit, cursor)
    entries = [_LIKES.decode(value) for _, value in page.entries]
    if not entries:
        return Likes(likes=[], next_cursor=page.next_cursor)
    others = await dependencies.people.unblocked(person.user_id, [entry.liker_id for entry in entries])
    seen = await dependencies.swipes.seen(person.user_id, packed_keys(entry.liker_id for entry in entries))
    return Likes(
        likes=[
            Like(
                user=summary(others[entry.liker_id], dependencies.media_urls), action="super_like" if entry.action == "super_like" else "like",
                liked_at=datetime.fromisoformat(entry.liked_at),
            )
            for entry, known in zip(entries, seen, strict=True) if not known and entry.liker_id in others
        ],
        next_cursor=page.next_cursor,
    )

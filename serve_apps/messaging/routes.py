"""Routes of conversations."""

from __future__ import annotations

from datetime import datetime

import msgspec
from fastapi import APIRouter

from configs.contracts.read_model import MatchEntry
from serve_apps.fields import Answer
from serve_apps.identity import Deps, Person
from serve_apps.pages import Cursor, Limit
from serve_apps.problems import SIGNED_IN, errors
from serve_apps.views import Summary, summary

router = APIRouter(prefix="/messaging", tags=["messaging"])

_ENTRIES = msgspec.json.Decoder(MatchEntry)


class Conversation(Answer):
    conversation_id: str
    match_id: str
    user: Summary
    started_at: datetime
    last_message: None = None
    unread_count: int = 0


class Conversations(Answer):
    conversations: list[Conversation]
    next_cursor: str | None = None


@router.get(
    "/conversations", operation_id="listConversations", response_model=Conversations,
    responses=errors(*SIGNED_IN, "cursor_invalid"),
)
async def list_conversations(person: Person, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None) -> Conversations:
    """One conversation for each match, newest first; those of ended matches are gone from the list."""
    page = await dependencies.listings.page("conv", person.user_id, limit, cursor)
    entries = [_ENTRIES.decode(value) for _, value in page.entries]
    others = await dependencies.people.unblocked(person.user_id, [entry.other_id for entry in entries])
    return Conversations(
        conversations=[
            Conversation(
                conversation_id=entry.match_id, match_id=entry.match_id, user=summary(others[entry.other_id]),
                started_at=datetime.fromisoformat(entry.matched_at),
            )
            for entry in entries if entry.status == "active" and entry.other_id in others
        ],
        next_cursor=page.next_cursor,
    )

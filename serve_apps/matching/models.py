"""Answers of the matching lists."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from configs.contracts.events import SwipeAction
from configs.contracts.read_model import MatchEntry, UserRecord
from serve_apps.fields import Answer
from serve_apps.media.urls import MediaUrls
from serve_apps.messaging.reading import Head
from serve_apps.views import Message, Summary, summary


class Match(Answer):
    match_id: str
    conversation_id: str
    user: Summary
    matched_at: datetime
    last_message: Message | None = None
    unread_count: int = 0


class Matches(Answer):
    matches: list[Match]
    next_cursor: str | None = None


class Like(Answer):
    user: Summary
    action: Literal["like", "super_like"]
    liked_at: datetime


class Likes(Answer):
    likes: list[Like]
    next_cursor: str | None = None


class Undone(Answer):
    target_user_id: str
    action: SwipeAction
    ended_match: bool


def match_of(entry: MatchEntry, other: UserRecord, head: Head, urls: MediaUrls) -> Match:
    """A match as one of its members sees it."""
    return Match(
        match_id=entry.match_id, conversation_id=entry.match_id, user=summary(other, urls),
        matched_at=datetime.fromisoformat(entry.matched_at), last_message=None if head.last is None else Message.of(head.last),
        unread_count=head.unread,
    )

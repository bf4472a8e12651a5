"""Answers of the matching lists."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from configs.contracts.events import SwipeAction
from serve_apps.fields import Answer
from serve_apps.views import Summary


class Match(Answer):
    match_id: str
    conversation_id: str
    user: Summary
    matched_at: datetime
    last_message: None = None
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

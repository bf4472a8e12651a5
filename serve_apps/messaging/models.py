"""Bodies and answers of the routes of conversations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from serve_apps.fields import Answer, Body
from serve_apps.matching.models import Match
from serve_apps.views import Message, Summary


class Conversation(Answer):
    conversation_id: str
    match_id: str
    user: Summary
    started_at: datetime
    last_message: Message | None = None
    unread_count: int = 0
    read_seq: int = Field(0, description="up to where the person has read")
    other_read_seq: int = Field(0, description="up to where the other one has read")


class Conversations(Answer):
    conversations: list[Conversation]
    next_cursor: str | None = None


class Messages(Answer):
    """Newest first."""

    messages: list[Message]
    read_seq: int
    other_read_seq: int
    next_cursor: str | None = None


class ReadBody(Body):
    seq: Annotated[int, Field(strict=True, ge=1, le=2**31 - 1, description="everything up to this message is read")]


class ReadUpTo(Answer):
    read_seq: int = Field(description="the mark as it stands; it never moves back")


class MissedMessage(Message):
    conversation_id: str


class MissedRead(Answer):
    conversation_id: str
    user_id: str
    seq: int


class Missed(Answer):
    """What has changed since a position, in the order in which it became known; what stands twice counts once."""

    position: str = Field(description="`since` of the next call")
    more: bool = Field(description="whether there is more to fetch right now")
    messages: list[MissedMessage]
    reads: list[MissedRead]
    matches: list[Match]
    ended_match_ids: list[str]

"""What projections tell sockets, once rows and read model have it: matches that began, and notifications.

Only news: a batch that is projected again much later, after an outage, tells nobody; ``GET /messaging/sync`` does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from configs.contracts.changes import rfc3339
from configs.contracts.frames import MatchTold, Notification, encode
from configs.contracts.ids import match_id
from configs.contracts.read_model import NotificationEntry
from configs.contracts.realtime import frames_channel

NEWS_S: Final = 300.0


def is_news(at: datetime) -> bool:
    """Whether something that happened then is still told to sockets."""
    return (datetime.now(UTC) - at).total_seconds() < NEWS_S


def match_told(user_id: str, other_id: str, matched_at: datetime) -> tuple[str, bytes]:
    """(channel, frame): the person is told of their match with the other."""
    match = match_id(user_id, other_id)
    frame = MatchTold(
        match_id=match, conversation_id=match, user_id=other_id, status="active", matched_at=rfc3339(matched_at)
    )
    return frames_channel(user_id), encode(frame)


def notification_told(user_id: str, entry: NotificationEntry) -> tuple[str, bytes]:
    """(channel, frame): the person is told of an entry of their list."""
    frame = Notification(
        notification_id=entry.notification_id, kind=entry.kind, title=entry.title, body=entry.body, data=entry.data,
        created_at=entry.created_at,
    )
    return frames_channel(user_id), encode(frame)

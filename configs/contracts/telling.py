"""What people are told on their sockets, as (channel, frame): the same from shards and from projections.

Only news is told: a batch that is projected again much later, after an outage, tells nobody; ``GET /messaging/sync`` does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from configs.contracts.changes import rfc3339
from configs.contracts.frames import MatchTold, Message, Notification, Read, encode
from configs.contracts.ids import match_id
from configs.contracts.read_model import NotificationEntry
from configs.contracts.realtime import frames_channel

NEWS_S: Final = 300.0

Publication = tuple[str, bytes]
"""(sharded channel, frame)."""


def is_news(at: datetime) -> bool:
    """Whether something that happened then is still told to sockets."""
    return (datetime.now(UTC) - at).total_seconds() < NEWS_S


def match_told(user_id: str, other_id: str, matched_at: datetime) -> Publication:
    """The person is told of their match with the other."""
    match = match_id(user_id, other_id)
    frame = MatchTold(
        match_id=match, conversation_id=match, user_id=other_id, status="active", matched_at=rfc3339(matched_at)
    )
    return frames_channel(user_id), encode(frame)


def match_ended(user_id: str, other_id: str) -> Publication:
    """The person is told that their match with the other has ended; not by whom or why."""
    match = match_id(user_id, other_id)
    return frames_channel(user_id), encode(MatchTold(match_id=match, conversation_id=match, user_id=other_id, status="ended"))


def message_told(
    conversation_id: str, message_id: str, seq: int, sender_id: str, recipient_id: str, content: str, sent_at: datetime,
    client_message_id: str, post_id: str | None = None, attachments: tuple[str, ...] = (),
) -> tuple[Publication, Publication]:
    """Both members are told of a message."""
    frame = encode(Message(
        conversation_id=conversation_id, message_id=message_id, seq=seq, sender_id=sender_id, content=content,
        sent_at=rfc3339(sent_at), client_message_id=client_message_id, post_id=post_id, attachments=attachments,
    ))
    return (frames_channel(recipient_id), frame), (frames_channel(sender_id), frame)


def read_told(conversation_id: str, reader_id: str, other_id: str, seq: int) -> tuple[Publication, Publication]:
    """Both members are told how far one has read."""
    frame = encode(Read(conversation_id=conversation_id, user_id=reader_id, seq=seq))
    return (frames_channel(other_id), frame), (frames_channel(reader_id), frame)


def notification_told(user_id: str, entry: NotificationEntry) -> Publication:
    """The person is told of an entry of their list."""
    frame = Notification(
        notification_id=entry.notification_id, kind=entry.kind, title=entry.title, body=entry.body, data=entry.data,
        created_at=entry.created_at,
    )
    return frames_channel(user_id), encode(frame)

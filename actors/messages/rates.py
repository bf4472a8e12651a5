"""How fast one person may send in one conversation: an even rate (generic cell rate algorithm), in memory only."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from actors.messages.conversation import Conversation
from configs.settings import Limits

MINUTE: Final = timedelta(minutes=1)
FURTHEST: Final = timedelta(minutes=5)
"""What a restart counts of the last minute leads less far."""


class Rates:
    """Messages a minute of each sender in one conversation; over all conversations ``Admission`` counts them."""

    def __init__(self, limits: Limits) -> None:
        self._in_conversation = limits.messages_per_conversation_a_minute

    def wait(self, conversation: Conversation, sender_id: str, now: datetime) -> timedelta:
        """How long the sender's next message must wait; not positive: it need not."""
        return _wait(conversation.sent_due[sender_id == conversation.high_id], self._in_conversation, now)

    def count(self, conversation: Conversation, *, by_high: bool, at: datetime) -> None:
        """Counts a message of the log or of the rows; the conversation's members need not be known yet."""
        low, high = conversation.sent_due
        if by_high:
            high = _next(high, self._in_conversation, at)
        else:
            low = _next(low, self._in_conversation, at)
        conversation.sent_due = (low, high)


def _wait(due: datetime, a_minute: int, now: datetime) -> timedelta:
    """How long the next message must wait, so that a minute holds at most ``a_minute``.

    Where it would be due further ahead than ``FURTHEST``, this machine's clock has gone back: nobody waits for it to catch up.
    """
    return due - now - MINUTE * ((a_minute - 1) / a_minute) if now < due <= now + FURTHEST else timedelta()


def _next(due: datetime, a_minute: int, at: datetime) -> datetime:
    return max(due, at) + MINUTE / a_minute

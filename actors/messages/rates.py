"""How fast one person may send: even rates (generic cell rate algorithm), kept in memory only."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from actors.entries import Entries
from actors.messages.conversation import LONG_AGO, Conversation
from configs.settings import Limits

MINUTE: Final = timedelta(minutes=1)
FURTHEST: Final = timedelta(minutes=5)
"""What a restart counts of the last minute leads less far, also where several actors had counted it apart."""
SENDERS_COUNTED: Final = 100_000
"""Senders whose rate is remembered at once; past it those who were quiet for longest begin anew."""


class Rates:
    """Messages a minute of each sender, in one conversation and over all of an actor's."""

    def __init__(self, limits: Limits) -> None:
        self._in_conversation = limits.messages_per_conversation_a_minute
        self._of_user = limits.messages_per_user_a_minute
        self._senders: Entries[list[datetime]] = Entries(lambda: [LONG_AGO])

    def wait(self, conversation: Conversation, sender_id: str, now: datetime) -> timedelta:
        """How long the sender's next message must wait; not positive: it need not."""
        due = self._senders.get(sender_id)
        return max(
            _wait(conversation.sent_due[sender_id == conversation.high_id], self._in_conversation, now),
            _wait(LONG_AGO if due is None else due[0], self._of_user, now),
        )

    def count(self, conversation: Conversation, sender_id: str, *, by_high: bool, at: datetime) -> None:
        """Counts a message of the log or of the rows; the conversation's members need not be known yet."""
        low, high = conversation.sent_due
        if by_high:
            high = _next(high, self._in_conversation, at)
        else:
            low = _next(low, self._in_conversation, at)
        conversation.sent_due = (low, high)
        due = self._senders.use(sender_id)
        due[0] = _next(due[0], self._of_user, at)
        self._senders.evict(SENDERS_COUNTED, lambda key, entry: True)


def _wait(due: datetime, a_minute: int, now: datetime) -> timedelta:
    """How long the next message must wait, so that a minute holds at most ``a_minute``.

    Where it would be due further ahead than ``FURTHEST``, this machine's clock has gone back: nobody waits for it to catch up.
    """
    return due - now - MINUTE * ((a_minute - 1) / a_minute) if now < due <= now + FURTHEST else timedelta()


def _next(due: datetime, a_minute: int, at: datetime) -> datetime:
    return max(due, at) + MINUTE / a_minute

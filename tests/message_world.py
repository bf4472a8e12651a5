"""What the log says of one conversation: the messages that count, and the rows that sinks and loader make of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from actors.messages import recent as remembered
from actors.messages.conversation import Conversation
from actors.messages.recent import Numbered, content_digest, request_digest
from configs.contracts.events import Event, Matched, MessageRead, MessageSent, Unmatched
from configs.contracts.loading import PAIR_CODES, ConversationRow
from writers.records import Fact
from writers.sinks.messages import standing

Logged = tuple[Event, int]


def counted(log: Sequence[Logged]) -> list[Fact]:
    """The messages that count, in order, as the sink decides when it reads the log record by record."""
    rows: dict[str, dict[int, int]] = {}
    kept: dict[int, Fact] = {}
    for event, version in log:
        if isinstance(event.payload, MessageSent):
            stored, displaced = standing(rows, [Fact(event, version, 0)])
            for conversation, seq in displaced:
                del rows[conversation][seq], kept[seq]
            for fact in stored:
                rows.setdefault(fact.event.payload.conversation_id, {})[fact.event.payload.seq] = fact.event.payload.epoch
                kept[fact.event.payload.seq] = fact
    return [kept[seq] for seq in sorted(kept)]


def entry_of(fact: Fact) -> bytes:
    """The message as the loader gives it."""
    payload = fact.event.payload
    return Numbered(
        request_digest(payload.sender_id, payload.client_message_id),
        content_digest(payload.content, payload.post_id, payload.attachments),
        payload.seq, payload.ordinal, payload.sender_id > payload.recipient_id, payload.epoch, fact.event.occurred_at,
    ).packed()


def rows_of(key: str, committed: Sequence[Logged], now: datetime) -> ConversationRow | None:
    """What sinks and loader would give."""
    state = Conversation()
    reads: dict[str, tuple[int, int]] = {}
    members: tuple[str, str] | None = None
    for event, _ in committed:
        payload = event.payload
        if isinstance(payload, Matched):
            members = (payload.low_id, payload.high_id)
            state.become(payload.generation, PAIR_CODES["active"])
        elif isinstance(payload, Unmatched):
            state.become(payload.generation, PAIR_CODES[payload.reason])
        elif isinstance(payload, MessageRead) and payload.seq > reads.get(payload.reader_id, (0, 0))[0]:
            reads[payload.reader_id] = (payload.seq, payload.ordinal)
    if members is None:
        return None
    recent = b"".join(map(entry_of, counted(committed)[-remembered.RECENT_MESSAGES:]))
    name = next(name for name, code in PAIR_CODES.items() if code == state.code)
    return ConversationRow(key, *members, name, state.generation, recent, reads)

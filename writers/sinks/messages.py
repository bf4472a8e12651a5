"""message_sent, message_read -> messages and read_marks.

A message does not count when one of a later shard epoch has the same or a lower number in its conversation: a replaced
shard wrote it last. The rule needs no order, so late and repeated records change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from configs.contracts.events import MessageRead, MessageSent
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

KNOWN = """
SELECT batch.conversation_id::text, known.seq, known.epoch
FROM unnest(%s, %s) AS batch (conversation_id, lowest), LATERAL (
    (SELECT seq, epoch FROM messages WHERE conversation_id = batch.conversation_id AND seq >= lowest)
    UNION ALL
    (SELECT seq, epoch FROM messages WHERE conversation_id = batch.conversation_id AND seq < lowest
     ORDER BY seq DESC LIMIT 1)
) AS known
"""
DELETE = """
DELETE FROM messages USING unnest(%s, %s) AS displaced (conversation_id, seq)
WHERE messages.conversation_id = displaced.conversation_id AND messages.seq = displaced.seq
"""
INSERT = """
INSERT INTO messages
    (conversation_id, seq, id, sender_id, recipient_id, ordinal, epoch, client_message_id, content, sent_at, version, post_id,
     attachments)
SELECT conversation_id, seq, id, sender_id, recipient_id, ordinal, epoch, client_message_id, content, sent_at, version, post_id,
    attachments::uuid[]
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS batch
    (conversation_id, seq, id, sender_id, recipient_id, ordinal, epoch, client_message_id, content, sent_at, version, post_id,
     attachments)
"""
MARK = """
INSERT INTO read_marks AS stored (conversation_id, reader_id, other_id, seq, ordinal, read_at, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (conversation_id, reader_id) DO UPDATE
SET seq = excluded.seq, ordinal = excluded.ordinal, read_at = excluded.read_at, version = excluded.version
WHERE stored.seq < excluded.seq
"""

Place = tuple[str, int]
"""(conversation, seq)"""


class Standing(NamedTuple):
    """What a batch changes: facts to store, and stored messages that do not count any more."""

    stored: list[Fact]
    displaced: list[Place]


def standing(known: Mapping[str, Mapping[int, int]], facts: Iterable[Fact]) -> Standing:
    """``known``: conversation -> seq -> epoch of what is stored, from the lowest number of the facts on and the one below."""
    new: dict[str, dict[int, Fact]] = {}
    for fact in facts:
        payload = fact.event.payload
        mine = new.setdefault(payload.conversation_id, {})
        other = mine.get(payload.seq)
        if other is None or other.event.payload.epoch < payload.epoch:
            mine[payload.seq] = fact
    stored: list[Fact] = []
    displaced: list[Place] = []
    for conversation, mine in new.items():
        there = known.get(conversation, {})
        highest = 0
        for seq in sorted(mine.keys() | there.keys()):
            added, old = mine.get(seq), there.get(seq)
            epoch = 0 if added is None else added.event.payload.epoch
            best = max(epoch, old or 0)
            counts = best >= highest
            highest = max(highest, best)
            if old is not None and (not counts or old < best):
                displaced.append((conversation, seq))
            if added is not None and counts and (old is None or epoch > old):
                stored.append(added)
    return Standing(stored, displaced)


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    sent = [fact for fact in facts if isinstance(fact.event.payload, MessageSent)]
    read = [fact for fact in facts if isinstance(fact.event.payload, MessageRead)]
    return (_write_messages(cur, sent) if sent else 0) + (_write_marks(cur, read) if read else 0)


def _write_messages(cur: Cursor, facts: Sequence[Fact]) -> int:
    lowest: dict[str, int] = {}
    for fact in facts:
        payload = fact.event.payload
        lowest[payload.conversation_id] = min(payload.seq, lowest.get(payload.conversation_id, payload.seq))
    known: dict[str, dict[int, int]] = {}
    rows = cur.execute(KNOWN, (columns.uuids(list(lowest)), columns.integers(list(lowest.values())))).fetchall()
    for conversation, seq, epoch in rows:
        known.setdefault(conversation, {})[seq] = epoch
    stored, displaced = standing(known, facts)
    if displaced:
        cur.execute(DELETE, (columns.uuids([name for name, _ in displaced]), columns.integers([seq for _, seq in displaced])))
    if stored:
        payloads = [fact.event.payload for fact in stored]
        cur.execute(
            INSERT,
            (
                columns.uuids([payload.conversation_id for payload in payloads]),
                columns.integers([payload.seq for payload in payloads]),
                columns.uuids([payload.message_id for payload in payloads]),
                columns.uuids([payload.sender_id for payload in payloads]),
                columns.uuids([payload.recipient_id for payload in payloads]),
                columns.integers([payload.ordinal for payload in payloads]),
                columns.bigints([payload.epoch for payload in payloads]),
                columns.texts(payload.client_message_id for payload in payloads),
                columns.texts(payload.content for payload in payloads),
                columns.timestamps([fact.event.occurred_at for fact in stored]),
                columns.bigints([fact.version for fact in stored]),
                columns.uuids([payload.post_id for payload in payloads]),
                columns.texts("{" + ",".join(payload.attachments) + "}" for payload in payloads),
            ),
        )
    return len(stored) + len(displaced)


def _write_marks(cur: Cursor, facts: Sequence[Fact]) -> int:
    highest: dict[tuple[str, str], Fact] = {}
    for fact in facts:
        payload = fact.event.payload
        key = (payload.conversation_id, payload.reader_id)
        if key not in highest or highest[key].event.payload.seq < payload.seq:
            highest[key] = fact
    payloads = [fact.event.payload for fact in highest.values()]
    cur.execute(
        MARK,
        (
            columns.uuids([payload.conversation_id for payload in payloads]),
            columns.uuids([payload.reader_id for payload in payloads]),
            columns.uuids([payload.other_id for payload in payloads]),
            columns.integers([payload.seq for payload in payloads]),
            columns.integers([payload.ordinal for payload in payloads]),
            columns.timestamps([fact.event.occurred_at for fact in highest.values()]),
            columns.bigints([fact.version for fact in highest.values()]),
        ),
    )
    return len(highest)


SINK = Sink("messages", (MessageSent, MessageRead), write)

"""Conversations for their shards, and what the read model holds of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import msgspec

from configs.contracts.changes import rfc3339
from configs.contracts.conversations import (
    PAGE_MESSAGES,
    WINDOW,
    WINDOW_MESSAGES,
    MessageEntry,
    StoredMessage,
    open_conversation,
    page_place,
    put_mark,
    put_message,
    put_page,
    put_window,
)
from configs.contracts.loading import OLDER_REQUESTS, RECENT_MESSAGES, ConversationRow
from configs.contracts.read_model import Operation
from writers.connections import Connection
from writers.records import Fact

CONVERSATIONS: Final = "SELECT id::text, low_id::text, high_id::text, status, generation FROM conversations WHERE id = ANY(%s)"

_REQUEST: Final = "substr(sha256(convert_to(sender_id::text || ':' || client_message_id, 'UTF8')), 1, 8)"
_CONTENT: Final = (
    "convert_to(array_to_string(content || attachments::text[], chr(31)), 'UTF8') "
    r"|| coalesce('\x00'::bytea || convert_to(post_id::text, 'UTF8'), '')"
)
_ENTRY: Final = f"""
    {_REQUEST} || substr(sha256({_CONTENT}), 1, 8) || int4send(seq)
    || int4send(ordinal << 1 | (sender_id > recipient_id)::int) || int4send(epoch::int4)
    || int8send((extract(epoch FROM sent_at) * 1000000)::bigint)
"""

RECENT: Final = f"""
SELECT asked.id::text, string_agg({_ENTRY}, '' ORDER BY seq)
FROM unnest(%s::uuid[]) AS asked (id), LATERAL (
    SELECT * FROM messages WHERE conversation_id = asked.id ORDER BY seq DESC LIMIT {RECENT_MESSAGES}
) AS newest GROUP BY asked.id
"""  # noqa: S608 - constants
"""``configs.contracts.loading.RECENT_ENTRY`` each."""

MARKS: Final = """
SELECT conversation_id::text, reader_id::text, other_id::text, seq, ordinal, version FROM read_marks
WHERE conversation_id = ANY(%s)
"""

_STORED: Final = "coalesce((SELECT version FROM messages WHERE conversation_id = asked.id ORDER BY seq DESC LIMIT 1), 0)"
"""The version of a conversation's last message: everything up to there is in rows."""

OLDER: Final = f"""
SELECT place, {_STORED}, (
    SELECT string_agg({_REQUEST}, '') FROM (
        SELECT * FROM messages WHERE conversation_id = asked.id AND seq < before ORDER BY seq DESC LIMIT {OLDER_REQUESTS + 1}
    ) AS older
)
FROM unnest(%s::uuid[], %s::int[]) WITH ORDINALITY AS asked (id, before, place)
"""  # noqa: S608 - constants

SENT: Final = f"""
SELECT place, {_STORED}, (
    SELECT {_ENTRY} FROM messages WHERE conversation_id = asked.id AND messages.id = asked.message ORDER BY seq LIMIT 1
)
FROM unnest(%s::uuid[], %s::uuid[]) WITH ORDINALITY AS asked (id, message, place)
"""  # noqa: S608 - constants

ORDINALS: Final = f"""
SELECT place, {_STORED}, CASE WHEN sender_id = reader THEN messages.seq - ordinal ELSE ordinal END
FROM unnest(%s::uuid[], %s::int[], %s::uuid[]) WITH ORDINALITY AS asked (id, wanted, reader, place)
LEFT JOIN messages ON conversation_id = asked.id AND seq = wanted
"""  # noqa: S608 - constants

_MESSAGE: Final = (
    "messages.id::text, seq, sender_id::text, ordinal, epoch, client_message_id, content, sent_at, version, post_id::text, "
    "attachments::text[]"
)

NEWEST: Final = f"""
SELECT asked.id::text, {_MESSAGE} FROM unnest(%s::uuid[]) AS asked (id), LATERAL (
    SELECT * FROM messages WHERE conversation_id = asked.id ORDER BY seq DESC LIMIT %s
) AS messages
"""  # noqa: S608 - constants

BETWEEN: Final = f"""
SELECT {_MESSAGE} FROM messages WHERE conversation_id = %s AND seq > %s AND seq <= %s ORDER BY seq
"""  # noqa: S608 - constants

NAMED: Final = f"""
SELECT conversation_id::text, recipient_id::text, {_MESSAGE} FROM messages
JOIN unnest(%s::uuid[], %s::int[], %s::bigint[]) AS named (id, number, at)
    ON conversation_id = named.id AND seq = number AND version = at
"""  # noqa: S608 - constants

PAGE: Final = "SELECT id FROM conversations WHERE id > %s ORDER BY id LIMIT %s"
FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"


def conversations(conn: Connection, conversation_ids: Sequence[str]) -> Mapping[str, ConversationRow]:
    """Only those that exist."""
    ids = _uuids(conversation_ids)
    rows = conn.execute(CONVERSATIONS, (ids,)).fetchall()
    recent = dict(conn.execute(RECENT, (ids,)).fetchall()) if rows else {}
    reads: dict[str, dict[str, tuple[int, int]]] = {}
    if rows:
        for name, reader, _, seq, ordinal, _ in conn.execute(MARKS, (ids,)).fetchall():
            reads.setdefault(name, {})[reader] = (seq, ordinal)
    return {
        name: ConversationRow(name, low, high, status, generation, bytes(recent.get(name, b"")), reads.get(name, {}))
        for name, low, high, status, generation in rows
    }


def ordinals(conn: Connection, places: Sequence[tuple[str, int, str]]) -> Sequence[tuple[int, int]]:
    """For each (conversation, number, reader): (the last message's version, the other's messages up to there; -1: no such
    message)."""
    rows = conn.execute(ORDINALS, (
        [UUID(name) for name, _, _ in places], [seq for _, seq, _ in places], [UUID(reader) for _, _, reader in places],
    )).fetchall()
    return [(stored, -1 if count is None else count) for _, stored, count in sorted(rows, key=lambda row: row[0])]


def older_requests(conn: Connection, places: Sequence[tuple[str, int]]) -> Sequence[tuple[int, bytes]]:
    """For each (conversation, number): (the last message's version, the request digests of all messages before)."""
    return _by_place(conn.execute(OLDER, (_uuids([name for name, _ in places]), [seq for _, seq in places])).fetchall())


def sent(conn: Connection, places: Sequence[tuple[str, str]]) -> Sequence[tuple[int, bytes]]:
    """For each (conversation, message id): (the last message's version, the message as an entry, or nothing)."""
    return _by_place(conn.execute(SENT, (
        _uuids([name for name, _ in places]), _uuids([ident for _, ident in places]),
    )).fetchall())


def _by_place(rows: Sequence[tuple[int, int, bytes | None]]) -> list[tuple[int, bytes]]:
    return [(last, bytes(found or b"")) for _, last, found in sorted(rows)]


@dataclass(slots=True)
class Head:
    """What Redis has to hold of one conversation: the last message, and up to where each member has read."""

    last: StoredMessage | None = None
    marks: dict[str, tuple[int, int]] = field(default_factory=dict)


def load_heads(conn: Connection, conversation_ids: Sequence[str]) -> dict[str, Head]:
    """Only conversations that exist."""
    ids = _uuids(conversation_ids)
    heads = {row[0]: Head() for row in conn.execute(CONVERSATIONS, (ids,)).fetchall()}
    for name, *row in conn.execute(NEWEST, (ids, 1)).fetchall():
        if name in heads:
            heads[name].last = _stored(*row)
    for name, reader, _, seq, ordinal, _ in conn.execute(MARKS, (ids,)).fetchall():
        if name in heads:
            heads[name].marks[reader] = (seq, ordinal)
    return heads


def active_members(conn: Connection, conversation_ids: Sequence[str]) -> dict[str, str]:
    """Of the conversations that have not ended, each with one of its members."""
    rows = conn.execute(CONVERSATIONS, (_uuids(conversation_ids),)).fetchall()
    return {name: low for name, low, _, status, _ in rows if status == "active"}


def head_operations(conversation_id: str, head: Head) -> Iterator[Operation]:
    """Everything of one head; last the mark that says so."""
    if head.last is not None:
        yield put_message(conversation_id, head.last)
    for reader, (seq, ordinal) in head.marks.items():
        yield put_mark(conversation_id, reader, seq, ordinal)
    yield open_conversation(conversation_id)


def stored_messages(conn: Connection, facts: Sequence[Fact]) -> list[tuple[str, str, StoredMessage]]:
    """(conversation, recipient, message) of those facts that the rows hold."""
    payloads = [fact.event.payload for fact in facts]
    rows = conn.execute(NAMED, (
        _uuids([payload.conversation_id for payload in payloads]), [payload.seq for payload in payloads],
        [fact.version for fact in facts],
    )).fetchall()
    return [(conversation, recipient, _stored(*row)) for conversation, recipient, *row in rows]


def conversation_operations(conn: Connection, conversation_ids: Sequence[str]) -> tuple[list[str], list[Operation]]:
    """(those that exist, the operations that write their heads)."""
    heads = load_heads(conn, conversation_ids)
    return list(heads), [step for name, head in heads.items() for step in head_operations(name, head)]


def page_operations(conn: Connection, pages: Sequence[str]) -> tuple[list[str], list[Operation]]:
    """(the pages that exist, the operations that write them); an older page exists once all its messages are in rows."""
    places = {page: page_place(page) for page in pages}
    windows = [conversation for conversation, number in places.values() if number == WINDOW]
    newest: dict[str, list[StoredMessage]] = {name: [] for name in windows}
    if windows:
        for name, *row in conn.execute(NEWEST, (_uuids(windows), WINDOW_MESSAGES)).fetchall():
            newest[name].append(_stored(*row))
    found: list[str] = []
    operations: list[Operation] = []
    for page, (conversation, number) in places.items():
        if number == WINDOW:
            operations.append(put_window(conversation, newest[conversation][::-1]))
        else:
            first = int(number) * PAGE_MESSAGES
            rows = conn.execute(BETWEEN, (UUID(conversation), first, first + PAGE_MESSAGES)).fetchall()
            if len(rows) < PAGE_MESSAGES:
                continue
            operations.append(put_page(page, msgspec.json.encode([_stored(*row).entry for row in rows])))
        found.append(page)
    return found, operations


def pages_of_conversations(conn: Connection, size: int) -> Iterator[list[str]]:
    """The ids of all conversations, in order, a page at a time."""
    after = FIRST_ID
    while True:
        page = [str(row[0]) for row in conn.execute(PAGE, (after, size)).fetchall()]
        if page:
            yield page
        if len(page) < size:
            return
        after = page[-1]


def _stored(
    ident: str, seq: int, sender: str, ordinal: int, epoch: int, client_message_id: str, content: str, sent_at: object, version: int,
    post_id: str | None, attachments: list[str],
) -> StoredMessage:
    entry = MessageEntry(
        message_id=ident, seq=seq, sender_id=sender, ordinal=ordinal, client_message_id=client_message_id, content=content,
        sent_at=rfc3339(sent_at),  # type: ignore[arg-type]  # timestamptz
        post_id=post_id, attachments=tuple(attachments),
    )
    return StoredMessage(entry, epoch, version)


def _uuids(texts: Sequence[str]) -> list[UUID]:
    return [UUID(text) for text in texts]

"""user_erased -> nothing is left of the person in any row, but what the law has us keep.

Kept: ids, swipes and matches (ids only), reports, decisions and the audit log (evidence), assessments and consents (proof
that everybody depicted was an adult), money. What comes late from other topics is taken out by ``sweep``.
"""

from __future__ import annotations

from collections.abc import Sequence

from configs.contracts.events import UserErased
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, parsed_id

INSERT = """
INSERT INTO erasures (user_id, erased_at, version) VALUES (%s, %s, %s) ON CONFLICT (user_id) DO NOTHING
"""
STATEMENTS = (
    "UPDATE messages SET content = '', attachments = '{}', client_message_id = '' "
    "WHERE sender_id = ANY(%(people)s) AND (content <> '' OR attachments <> '{}') "
    "AND conversation_id IN (SELECT match_id FROM matches WHERE member_id = ANY(%(people)s))",
    "DELETE FROM notifications WHERE user_id = ANY(%(people)s)",
    "DELETE FROM device_tokens WHERE user_id = ANY(%(people)s)",
    "DELETE FROM mails WHERE user_id = ANY(%(people)s) "
    "AND email_hash IN (SELECT email_hash FROM credentials WHERE user_id = ANY(%(people)s))",
    "DELETE FROM identities WHERE user_id = ANY(%(people)s)",
    "DELETE FROM idempotency_keys WHERE owner = ANY(%(people)s)",
    "DELETE FROM like_bursts WHERE user_id = ANY(%(people)s)",
    "DELETE FROM blocks WHERE user_id = ANY(%(people)s)",
    "UPDATE comments SET text = '' WHERE author_id = ANY(%(people)s) AND text <> ''",
    "UPDATE posts SET caption = '' WHERE creator_id = ANY(%(people)s) AND caption <> ''",
    "UPDATE tips SET message = NULL WHERE from_user_id = ANY(%(people)s) AND message IS NOT NULL",
    "UPDATE sessions SET client = NULL WHERE user_id = ANY(%(people)s) AND client IS NOT NULL",
)
SWEPT = "SELECT user_id FROM erasures WHERE erased_at > now() - interval '8 days'"
"""A day more than the topics keep: later nothing of the person can come any more."""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    people = [parsed_id(fact.event.payload.user_id) for fact in facts]
    cur.executemany(INSERT, [
        (person, fact.event.occurred_at, fact.version) for person, fact in zip(people, facts, strict=True)
    ])
    erase(cur, people)
    return len(facts)


def erase(cur: Cursor, people: Sequence[object]) -> int:
    """Takes the rows of these people out; returns how many rows changed."""
    changed = 0
    for statement in STATEMENTS:
        changed += cur.execute(statement, {"people": list(people)}).rowcount
    return changed


def sweep(cur: Cursor) -> int:
    """Takes out what came after the tombstone of people erased lately; returns how many rows changed."""
    people = [row[0] for row in cur.execute(SWEPT).fetchall()]
    return erase(cur, people) if people else 0


SINK = Sink("erasures", (UserErased,), write)

"""user_erased -> nothing is left of the person in any row, but what the law has us keep.

Kept: ids, swipes and matches (ids only), reports, decisions and the audit log (evidence), assessments and consents (proof
that everybody depicted was an adult), money. What comes late from other topics is taken out by ``sweep``, what a dead letter
brings by ``erase_again``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import msgspec

from configs.contracts.events import UserErased
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, parsed_id

INSERT = """
INSERT INTO erasures (user_id, erased_at, version) VALUES (%s, %s, %s) ON CONFLICT (user_id) DO NOTHING
"""
STATEMENTS = (
    "UPDATE messages SET content = '', attachments = '{}', client_message_id = '' "
    "WHERE sender_id = ANY(%(people)s) AND (content <> '' OR attachments <> '{}') "
    "AND conversation_id IN (SELECT match_id FROM matches WHERE member_id = ANY(%(people)s)) RETURNING sender_id",
    "DELETE FROM notifications WHERE user_id = ANY(%(people)s) RETURNING user_id",
    "DELETE FROM device_tokens WHERE user_id = ANY(%(people)s) RETURNING user_id",
    "DELETE FROM mails WHERE user_id = ANY(%(people)s) "
    "AND email_hash IN (SELECT email_hash FROM credentials WHERE user_id = ANY(%(people)s)) RETURNING user_id",
    "DELETE FROM identities WHERE user_id = ANY(%(people)s) RETURNING user_id",
    "DELETE FROM idempotency_keys WHERE owner = ANY(%(people)s) RETURNING owner",
    "DELETE FROM like_bursts WHERE user_id = ANY(%(people)s) RETURNING user_id",
    "DELETE FROM blocks WHERE user_id = ANY(%(people)s) RETURNING user_id",
    "UPDATE comments SET text = '' WHERE author_id = ANY(%(people)s) AND text <> '' RETURNING author_id",
    "UPDATE posts SET caption = '' WHERE creator_id = ANY(%(people)s) AND caption <> '' RETURNING creator_id",
    "UPDATE tips SET message = NULL WHERE from_user_id = ANY(%(people)s) AND message IS NOT NULL RETURNING from_user_id",
    "UPDATE sessions SET client = NULL WHERE user_id = ANY(%(people)s) AND client IS NOT NULL RETURNING user_id",
    # Not of one that nobody has ended yet: without its address nothing would ask whether its account stands.
    "UPDATE sessions SET email_hash = NULL WHERE user_id = ANY(%(people)s) AND email_hash IS NOT NULL "
    "AND (revoked_at IS NOT NULL OR expires_at < now() - interval '1 day') RETURNING user_id",
)
SWEPT = "SELECT user_id FROM erasures WHERE erased_at > now() - interval '8 days'"
"""A day more than the topics keep: later nothing of the person can come any more, but by a dead letter."""
AMONG = "SELECT user_id FROM erasures WHERE user_id = ANY(%s::uuid[])"
ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    people = [parsed_id(fact.event.payload.user_id) for fact in facts]
    cur.executemany(INSERT, [
        (person, fact.event.occurred_at, fact.version) for person, fact in zip(people, facts, strict=True)
    ])
    erase(cur, people)
    return len(facts)


def erase(cur: Cursor, people: Sequence[object]) -> Counter[str]:
    """Takes the rows of these people out; returns how many rows of whom changed."""
    changed: Counter[str] = Counter()
    for statement in STATEMENTS:
        changed.update(str(person) for (person,) in cur.execute(statement, {"people": list(people)}))
    return changed


def sweep(cur: Cursor) -> Counter[str]:
    """Takes out what came after the tombstone of people erased lately; returns how many rows of whom changed."""
    people = [row[0] for row in cur.execute(SWEPT).fetchall()]
    return erase(cur, people) if people else Counter()


def erase_again(cur: Cursor, facts: Sequence[Fact]) -> None:
    """Takes out what facts brought of people who are gone, however long ago they were erased."""
    named = {text for fact in facts for text in (fact.event.key, *msgspec.structs.astuple(fact.event.payload)) if _is_id(text)}
    people = [row[0] for row in cur.execute(AMONG, (sorted(named),)).fetchall()] if named else []
    if people:
        erase(cur, people)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and ID.fullmatch(value) is not None


SINK = Sink("erasures", (UserErased,), write)

"""What the tables must say about each other, checked in PostgreSQL alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from configs.contracts.ids import derived_id
from writers.connections import Connection

AT_MOST: Final = 10_000
"""Findings of one kind in one run; mend these and look again."""

LIKES_WITHOUT_MATCH: Final = """
SELECT mine.swiper_id::text, mine.swiped_id::text
FROM swipes AS mine
JOIN swipes AS theirs ON theirs.swiper_id = mine.swiped_id AND theirs.swiped_id = mine.swiper_id
LEFT JOIN matches ON member_id = mine.swiper_id AND other_id = mine.swiped_id
WHERE mine.action IN (1, 3) AND theirs.action IN (1, 3) AND mine.swiper_id < mine.swiped_id
  AND (member_id IS NULL OR status = 'undone')
LIMIT %s
"""

ONE_SIDED: Final = """
SELECT mine.member_id::text, mine.other_id::text
FROM matches AS mine
LEFT JOIN matches AS theirs ON theirs.member_id = mine.other_id AND theirs.other_id = mine.member_id
WHERE theirs.member_id IS NULL
   OR (theirs.match_id, theirs.status, theirs.generation, theirs.version)
      IS DISTINCT FROM (mine.match_id, mine.status, mine.generation, mine.version)
LIMIT %s
"""

WITHOUT_CONVERSATION: Final = """
SELECT member_id::text, other_id::text
FROM matches LEFT JOIN conversations ON conversations.id = matches.match_id
WHERE matched_at IS NOT NULL AND member_id < other_id
  AND (conversations.id IS NULL OR conversations.status <> matches.status
       OR conversations.generation <> matches.generation)
LIMIT %s
"""

PAIR_CHECKS: Final = {
    "match_one_sided": ONE_SIDED,
    "match_without_conversation": WITHOUT_CONVERSATION,
}

UNBALANCED: Final = """
SELECT owner_id::text, coalesce(payee_id, owner_id)::text
FROM transactions FULL JOIN (
    SELECT owner_id, transaction_id AS id, sum(amount_minor) AS rest, count(DISTINCT (currency, livemode)) AS kinds
    FROM ledger_entries GROUP BY 1, 2
) AS entries USING (owner_id, id)
WHERE payee_id IS NULL OR rest IS NULL OR rest <> 0 OR kinds <> 1
LIMIT %s
"""

UNBOOKED: Final = """
SELECT owner_id::text, (fact ->> 'payeeId')
FROM provider_facts
WHERE kind IN ('payment_succeeded', 'invoice_paid') AND (fact ->> 'amountMinor')::bigint > 0 AND NOT EXISTS (
    SELECT FROM transactions
    WHERE transactions.owner_id = provider_facts.owner_id AND kind = 'charge' AND payment_id = fact ->> 'paymentId'
)
LIMIT %s
"""

MONEY_CHECKS: Final = {"transaction_unbalanced": UNBALANCED, "payment_unbooked": UNBOOKED}

GENERATIONS: Final = """
SELECT member_id::text, other_id::text, match_id::text, generation FROM matches
WHERE member_id = ANY(%s) AND matched_at IS NOT NULL AND generation > 0
  AND NOT EXISTS (
      SELECT FROM users WHERE id = member_id AND (field_versions ? 'listMatch' OR status <> 'active')
  )
"""
"""Without those who ever chose whether matches are listed: whether they wanted it at the time, no row says."""

KNOWN_NOTIFICATIONS: Final = """
SELECT notifications.id::text FROM notifications
JOIN unnest(%s::uuid[], %s::uuid[]) AS wanted (user_id, id) USING (user_id, id)
"""


@dataclass(frozen=True, slots=True)
class Inconsistency:
    """A pair (or one member and the other; payer and creator) about which the tables disagree."""

    kind: str
    user_id: str
    other_id: str


def missing_matches(conn: Connection) -> list[tuple[str, str]]:
    """(lower id, higher id) of pairs who like each other and neither are nor were matched for it."""
    return [(low, high) for low, high in conn.execute(LIKES_WITHOUT_MATCH, (AT_MOST,)).fetchall()]


def inconsistent_pairs(conn: Connection) -> list[Inconsistency]:
    """Matches that only one side knows, or that have no conversation in their state."""
    return [
        Inconsistency(kind, one, other)
        for kind, query in PAIR_CHECKS.items()
        for one, other in conn.execute(query, (AT_MOST,)).fetchall()
    ]


def inconsistent_money(conn: Connection) -> list[Inconsistency]:
    """Transactions that do not sum to zero or lack a side, and payments that no transaction books."""
    return [
        Inconsistency(kind, payer, payee)
        for kind, query in MONEY_CHECKS.items()
        for payer, payee in conn.execute(query, (AT_MOST,)).fetchall()
    ]


def unnotified(conn: Connection, user_ids: Sequence[str]) -> list[Inconsistency]:
    """Members of present matches who have no notification of the pair's latest match."""
    ids = [UUID(user_id) for user_id in user_ids]
    wanted = {
        derived_id(derived_id(match_id, f"matched:{generation}"), f"notify:{member}"): (member, other)
        for member, other, match_id, generation in conn.execute(GENERATIONS, (ids,)).fetchall()
    }
    if not wanted:
        return []
    members = [UUID(member) for member, _ in wanted.values()]
    known = {row[0] for row in conn.execute(KNOWN_NOTIFICATIONS, (members, [UUID(name) for name in wanted])).fetchall()}
    return [
        Inconsistency("match_without_notification", member, other)
        for name, (member, other) in wanted.items() if name not in known
    ]

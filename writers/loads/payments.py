"""Tips and purchases by payer, payouts and balances by creator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

from configs.contracts.payouts import Funds, Payouts, payouts_place
from configs.contracts.purchases import Payment, payment_place, post_place
from writers.connections import Connection
from writers.sinks.payments import READ, by_post, of_posts, read_payment
from writers.sinks.payouts import stored_payouts

FUNDS: Final = """
SELECT creator::text,
       coalesce((SELECT jsonb_agg(jsonb_build_array(provider, currency, livemode, settled, unsettled)) FROM (
           SELECT provider, entries.currency, entries.livemode,
                  coalesce(sum(entries.amount_minor) FILTER (WHERE available_at <= now()), 0)::bigint AS settled,
                  coalesce(sum(entries.amount_minor) FILTER (WHERE available_at > now()), 0)::bigint AS unsettled
           FROM ledger_entries AS entries
           JOIN transactions ON transactions.owner_id = entries.owner_id AND transactions.id = transaction_id
           WHERE party_id = creator AND account = 'creator' GROUP BY provider, entries.currency, entries.livemode
       ) AS sums), '[]'),
       ARRAY(SELECT fact ->> 'requestId' FROM provider_facts
             WHERE owner_id = creator AND kind IN ('payout_paid', 'payout_failed') AND fact ->> 'requestId' IS NOT NULL)
FROM unnest(%s::uuid[]) AS wanted (creator)
"""
OF_BUYERS: Final = "SELECT state::text FROM post_purchases WHERE buyer_id = ANY(%s::uuid[])"


def payments(conn: Connection, places: Sequence[str]) -> Mapping[str, Payment | tuple[Payment, ...] | Payouts]:
    """What ``RowLoader.payments`` promises."""
    found: dict[str, Payment | tuple[Payment, ...] | Payouts] = {}
    creators = [place.partition("/")[0] for place in places if place.endswith("/payouts")]
    if creators:
        with conn.cursor() as cur:
            found |= {payouts_place(creator): held for creator, held in stored_payouts(cur, creators).items()}
    single = [place.split("/") for place in places if "/post/" not in place and not place.endswith("/payouts")]
    posts = [place.split("/post/") for place in places if "/post/" in place]
    if single:
        rows = conn.execute(READ, {
            "payers": [UUID(payer) for payer, _ in single], "ids": [UUID(name) for _, name in single]
        }).fetchall()
        found |= {payment_place(payer, name): read_payment(state) for payer, name, state in rows}
    if posts:
        with conn.cursor() as cur:
            found |= {
                post_place(*place): tuple(held) for place, held in of_posts(cur, [(payer, post) for payer, post in posts]).items()
            }
    return found


def purchases(conn: Connection, buyer_ids: Iterable[str]) -> Mapping[tuple[str, str], Sequence[Payment]]:
    """By (buyer, post)."""
    rows = conn.execute(OF_BUYERS, ([UUID(text) for text in buyer_ids],)).fetchall()
    return by_post(read_payment(state) for (state,) in rows)


def funds(conn: Connection, creator_ids: Sequence[str]) -> Mapping[str, Funds]:
    """What ``RowLoader.funds`` promises: one statement, so one moment."""
    names = [UUID(text) for text in creator_ids]
    return {
        creator: Funds(
            {
                (provider, currency, livemode): (settled, unsettled)
                for provider, currency, livemode, settled, unsettled in sums
            },
            frozenset(booked),
        )
        for creator, sums, booked in conn.execute(FUNDS, (names,)).fetchall()
    }

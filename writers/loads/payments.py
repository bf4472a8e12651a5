"""Tips and purchases by payer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

from configs.contracts.purchases import Payment, payment_place, post_place
from writers.connections import Connection
from writers.sinks.payments import READ, read_payment

OF_POSTS: Final = """
SELECT state::text FROM post_purchases JOIN unnest(%s::uuid[], %s::uuid[]) AS named (buyer, post)
     ON buyer_id = buyer AND post_id = post
"""
OF_BUYERS: Final = "SELECT state::text FROM post_purchases WHERE buyer_id = ANY(%s::uuid[])"


def payments(conn: Connection, places: Sequence[str]) -> Mapping[str, Payment | tuple[Payment, ...]]:
    """By ``payment_place`` one payment, by ``post_place`` all of a payer's for a post; only those that were recorded."""
    found: dict[str, Payment | tuple[Payment, ...]] = {}
    single = [place.split("/") for place in places if "/post/" not in place]
    posts = [place.split("/post/") for place in places if "/post/" in place]
    if single:
        rows = conn.execute(READ, {
            "payers": [UUID(payer) for payer, _ in single], "ids": [UUID(name) for _, name in single]
        }).fetchall()
        found |= {payment_place(payer, name): read_payment(state) for payer, name, state in rows}
    if posts:
        for place, held in _by_post(
            read_payment(state)
            for (state,) in conn.execute(
                OF_POSTS, ([UUID(payer) for payer, _ in posts], [UUID(post) for _, post in posts])
            ).fetchall()
        ).items():
            found[post_place(*place)] = tuple(held)
    return found


def purchases(conn: Connection, buyer_ids: Iterable[str]) -> Mapping[tuple[str, str], Sequence[Payment]]:
    """By (buyer, post)."""
    rows = conn.execute(OF_BUYERS, ([UUID(text) for text in buyer_ids],)).fetchall()
    return _by_post(read_payment(state) for (state,) in rows)


def _by_post(found: Iterable[Payment]) -> Mapping[tuple[str, str], list[Payment]]:
    held: defaultdict[tuple[str, str], list[Payment]] = defaultdict(list)
    for payment in found:
        if payment.asked.post_id is not None:
            held[payment.asked.payer_id, payment.asked.post_id].append(payment)
    return held

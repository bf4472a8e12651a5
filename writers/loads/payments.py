"""Tips and purchases by payer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

from configs.contracts.purchases import Payment, payment_place, post_place
from writers.connections import Connection
from writers.sinks.payments import READ, by_post, of_posts, read_payment

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
        with conn.cursor() as cur:
            found |= {
                post_place(*place): tuple(held) for place, held in of_posts(cur, [(payer, post) for payer, post in posts]).items()
            }
    return found


def purchases(conn: Connection, buyer_ids: Iterable[str]) -> Mapping[tuple[str, str], Sequence[Payment]]:
    """By (buyer, post)."""
    rows = conn.execute(OF_BUYERS, ([UUID(text) for text in buyer_ids],)).fetchall()
    return by_post(read_payment(state) for (state,) in rows)

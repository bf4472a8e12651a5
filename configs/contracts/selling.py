"""What the read model holds of shops and subscriptions, and the only ways to change it.

``com:{u}`` is one hash a person: ``shop``, what they sell; for each creator (field: the creator's id) what the person's
subscriptions to that creator are worth; and ``post:{id}``, whether the person's purchase of a post stands. Lists: ``sub`` (own subscriptions) and ``fan`` (a creator's subscribers).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from configs.contracts.entitlements import Holding
from configs.contracts.positions import version_text
from configs.contracts.purchases import Payment, stands
from configs.contracts.read_model import Operation, commerce_key, put_entry, read_versioned
from configs.contracts.subscribers import Subscriber, SubscriptionEntry, entry_of
from configs.contracts.tiers import Shop, shown_shop

SHOP: Final = "shop"
Holdings = tuple[Holding, ...]


def put_commerce(user_id: str, field: str, value: object, version: int) -> Operation:
    """Sets one field of a person's hash unless a newer one is there."""
    return Operation("field", (commerce_key(user_id),), (field, version_text(version), msgspec.json.encode(value)))


def tier_key(tier_id: str) -> str:
    """Whose a tier is: the creator's id. It never changes; no such key: unknown until the writers have warmed it."""
    return f"tier:{{{tier_id}}}"


def put_shop(shop: Shop) -> Iterator[Operation]:
    """A shop, and whose its tiers are."""
    yield put_commerce(shop.creator_id, SHOP, shown_shop(shop), shop.version)
    for tier in shop.tiers:
        yield put_tier(tier.tier_id, shop.creator_id)


def put_tier(tier_id: str, creator_id: str) -> Operation:
    return Operation("string", (tier_key(tier_id),), (version_text(0), creator_id))


def subscribed(subscriber_id: str, subscriber: Subscriber, names: Iterable[str]) -> Iterator[Operation]:
    """What these subscriptions of a person mean in the lists of both sides, and for access."""
    creators = set()
    for name in names:
        item = subscriber.subscriptions.get(name)
        if item is None:
            continue
        creators.add(item.creator_id)
        entry, at_ms = entry_of(item), int(item.requested_at.timestamp() * 1_000)
        yield put_entry("sub", subscriber_id, name, entry, version=item.version, at_ms=at_ms)
        yield put_entry(
            "fan", item.creator_id, name, entry, version=item.version, at_ms=at_ms if is_listed(entry) else None
        )
    for creator_id in sorted(creators):
        holdings, version = held(subscriber, creator_id)
        yield put_commerce(subscriber_id, creator_id, holdings, version)


def is_listed(entry: SubscriptionEntry) -> bool:
    """Whether the creator sees it among the subscribers."""
    return entry.status in ("trialing", "active", "past_due")


def held(subscriber: Subscriber, creator_id: str) -> tuple[Holdings, int]:
    """What a person's subscriptions to one creator are worth, and the version of that."""
    version = max(item.version for item in subscriber.subscriptions.values() if item.creator_id == creator_id)
    return subscriber.holdings(creator_id), version


def purchase_field(post_id: str) -> str:
    return f"post:{post_id}"


def put_purchase(buyer_id: str, post_id: str, *, stands: bool, version: int) -> Operation:
    """Says whether a purchase of a post stands: paid, not refunded in full, not disputed."""
    return put_commerce(buyer_id, purchase_field(post_id), stands, version)


def bought(held: Sequence[Payment]) -> Operation:
    """What all of a payer's payments for one post, at least one, mean for access."""
    asked = held[0].asked
    assert asked.post_id is not None
    return put_purchase(asked.payer_id, asked.post_id, stands=stands(held), version=max(item.version for item in held))


def read_purchase(value: bytes | None) -> bool:
    """Whether a purchase stands, by the value of its ``purchase_field``."""
    return value is not None and value[16:] == b"true"


def holdings_command(viewer_id: str, creator_ids: Sequence[str]) -> tuple[str, ...]:
    """Reads what the viewer holds of these creators, for ``read_holdings``; known when the viewer's relations are."""
    return "HMGET", commerce_key(viewer_id), *creator_ids


_HOLDINGS: Final = msgspec.json.Decoder(Holdings)
_SHOPS: Final = msgspec.json.Decoder(Shop)


def read_holdings(value: bytes | None) -> Holdings:
    """What ``holdings_command`` found of one creator."""
    return () if value is None else _HOLDINGS.decode(read_versioned(value)[1])


def read_shop(value: bytes | None) -> Shop | None:
    """What a creator sells; None: nothing, ever."""
    return None if value is None else _SHOPS.decode(read_versioned(value)[1])

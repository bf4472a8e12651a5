"""What an erased person left behind that others could still see: media, posts and comments are taken away in their logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from configs.contracts import topics
from configs.contracts.events import CommentDeleted, ContentRemoved, Event, MediaRemoved, PromoCodeChanged, TierChanged
from configs.contracts.ids import derived_id
from configs.contracts.tiers import Shop
from configs.contracts.topics import Topic
from writers.connections import Connection
from writers.loads.tiers import shops

MEDIA = """
SELECT owner_id::text, id::text FROM media
WHERE owner_id = ANY(%s::uuid[]) AND (state <> 'removed' OR facts ->> 'removedBy' IS NOT NULL)
"""
POSTS = "SELECT creator_id::text, id::text FROM posts WHERE creator_id = ANY(%s::uuid[])"
"""Removed ones too: their words go, and no decision that is reversed brings them back."""
COMMENTS = """
SELECT author_id::text, id::text, post_id::text, creator_id::text FROM comments
WHERE author_id = ANY(%s::uuid[]) AND deleted_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class Left:
    """Ids of what somebody left; of comments also their post and its creator; and what they sold."""

    media: Sequence[str]
    posts: Sequence[str]
    comments: Sequence[tuple[str, str, str]]
    shop: Shop | None = None


def left_by(conn: Connection, people: Sequence[str]) -> Mapping[str, Left]:
    """What the rows have of these people."""
    media, posts = (conn.execute(statement, (list(people),)).fetchall() for statement in (MEDIA, POSTS))
    comments = conn.execute(COMMENTS, (list(people),)).fetchall()
    sold = shops(conn, people)
    return {
        person: Left(
            [name for owner, name in media if owner == person], [name for owner, name in posts if owner == person],
            [(name, post, creator) for author, name, post, creator in comments if author == person],
            sold.get(person),
        )
        for person in people
    }


def taken_away(event: Event, user_id: str, left: Left) -> Iterator[tuple[Topic, Event]]:
    """(topic, event) of each thing's end; the same ids on every repetition. What buyers have paid for goes too."""
    def ends(name: str) -> str:
        return derived_id(event.event_id, f"erased:{name}")

    for name in left.media:
        yield topics.MEDIA_UPLOADED, Event(ends(name), event.occurred_at, user_id, MediaRemoved(
            media_id=name, owner_id=user_id, reason="account_deleted",
        ))
    for name in left.posts:
        yield topics.CONTENT_PUBLISHED, Event(ends(name), event.occurred_at, user_id, ContentRemoved(
            post_id=name, creator_id=user_id, reason="account_deleted",
        ))
    for name, post_id, creator_id in left.comments:
        yield topics.CONTENT_COMMENTED, Event(ends(name), event.occurred_at, post_id, CommentDeleted(
            comment_id=name, post_id=post_id, creator_id=creator_id, user_id=user_id,
        ))
    if left.shop is not None:
        for sold in _closed(left.shop):
            name = sold.tier_id if isinstance(sold, TierChanged) else sold.promo_id
            yield topics.TIER_CHANGED, Event(ends(name), event.occurred_at, user_id, sold)


def _closed(shop: Shop) -> Iterator[TierChanged | PromoCodeChanged]:
    """What was sold, without the seller's words: ranks and prices stay, since subscriptions and the ledger stand on them."""
    for tier in shop.tiers:
        yield TierChanged(
            creator_id=shop.creator_id, tier_id=tier.tier_id, rank=tier.rank, name="", currency=tier.currency,
            price_monthly_minor=tier.price_monthly_minor, price_yearly_minor=tier.price_yearly_minor, revision=tier.revision,
            trial_days=tier.trial_days, bundles=tier.bundles, is_active=False, archived=True,
        )
    for promo in shop.promo_codes:
        yield PromoCodeChanged(
            creator_id=shop.creator_id, promo_id=promo.promo_id, code=promo.promo_id, percent=promo.percent, months=promo.months,
            tier_ids=promo.tier_ids, most=promo.most, expires_at=promo.expires_at, is_active=False,
        )

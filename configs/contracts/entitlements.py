"""Who may open what: the one function that decides, for posts, pay-per-view messages and the media in them.

It looks at what was paid for and is still paid for, never at what a client says. Nothing here reads a clock or a store.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from configs.contracts.events import Visibility
from configs.contracts.payment_facts import SubscriptionStatus

GRACE: Final = timedelta(days=3)
"""How long access outlives a period whose renewal could not be collected yet."""
LIVE: Final[frozenset[SubscriptionStatus]] = frozenset(("trialing", "active", "past_due"))
Access = Literal["open", "hidden", "subscribe", "upgrade", "purchase"]
"""open: all of it · hidden: answered as if it did not exist · else what the viewer has to do first (402)."""


class Period(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """Time on a tier of ``rank`` that one payment bought, or that a trial gave.

    ``revoked``: the payment was refunded in full, or its payer's bank disputes it or took it back.
    """

    rank: int
    starts_at: datetime
    ends_at: datetime
    revoked: bool = False


class Holding(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What one subscription of the viewer to the creator stands at; periods that ended long ago may be missing."""

    status: SubscriptionStatus
    periods: tuple[Period, ...] = ()

    def rank_at(self, now: datetime) -> int | None:
        """The highest rank of a tier that is open at this moment; None: none is."""
        if self.status not in LIVE:
            return None
        grace = GRACE if self.status == "past_due" else timedelta(0)
        ranks = [
            period.rank for period in self.periods
            if not period.revoked and period.starts_at <= now < period.ends_at + grace
        ]
        return max(ranks, default=None)

    @property
    def entitled_until(self) -> datetime | None:
        """When access ends unless more is paid; None: it has ended, or never began."""
        if self.status not in LIVE:
            return None
        grace = GRACE if self.status == "past_due" else timedelta(0)
        return max((period.ends_at + grace for period in self.periods if not period.revoked), default=None)


class Content(msgspec.Struct, frozen=True):
    """What is asked for. ``exists``: published and approved, so that anybody but its creator may ever see it."""

    content_id: str
    creator_id: str
    visibility: Visibility
    required_rank: int = 0
    exists: bool = True


class Viewer(msgspec.Struct, frozen=True):
    """Who asks, and what they hold of this creator and content.

    ``active`` and ``creator_active``: the accounts stand (not suspended, banned or deleted). ``blocked``: either
    blocks the other. ``purchased``: a purchase of this content stands (paid, not refunded in full, not disputed).
    """

    user_id: str
    active: bool = True
    creator_active: bool = True
    blocked: bool = False
    holdings: tuple[Holding, ...] = ()
    purchased: bool = False


def access(content: Content, viewer: Viewer, now: datetime) -> Access:
    """Whether the viewer may open the content at this moment, and if not, what is missing.

    Creators open their own. A purchase opens pay-per-view and nothing else does; a subscription to a tier of equal or
    higher rank opens what asks for a tier; any subscription opens what is for subscribers.
    """
    if not viewer.active:
        return "hidden"
    if viewer.user_id == content.creator_id:
        return "open"
    if viewer.blocked or not viewer.creator_active or not content.exists:
        return "hidden"
    if content.visibility == "public":
        return "open"
    if content.visibility == "ppv":
        return "open" if viewer.purchased else "purchase"
    rank = rank_of(viewer.holdings, now)
    if rank is None:
        return "subscribe"
    if content.visibility == "subscribers" or rank >= content.required_rank:
        return "open"
    return "upgrade"


def rank_of(holdings: tuple[Holding, ...], now: datetime) -> int | None:
    """The highest rank that any of the viewer's subscriptions to one creator opens now; None: none does."""
    return max((rank for holding in holdings if (rank := holding.rank_at(now)) is not None), default=None)

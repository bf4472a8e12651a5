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
RENEWING: Final = timedelta(hours=3)
"""How long access outlives a period whose next one has begun at the provider and is not charged yet: Stripe leaves a renewal's
bill a draft for about an hour, longer where it waits for an answer to a webhook."""
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
    renewing: bool = False
    """Active and not to end, and the provider has begun a period after the last of these."""

    def rank_at(self, now: datetime) -> int | None:
        """The highest rank of a tier that is open at this moment; None: none is."""
        if self.status not in LIVE:
            return None
        ranks = [
            period.rank for period in self.periods
            if not period.revoked and period.starts_at <= now < self._open_until(period)
        ]
        return max(ranks, default=None)

    @property
    def entitled_until(self) -> datetime | None:
        """When access ends unless more is paid; None: it has ended, or never began."""
        if self.status not in LIVE:
            return None
        return max((self._open_until(period) for period in self.periods if not period.revoked), default=None)

    def _open_until(self, period: Period) -> datetime:
        """The end of a period with the grace that the status gives it."""
        if self.status == "past_due":
            return period.ends_at + GRACE
        if self.status == "active" and self.renewing and period.ends_at == max(each.ends_at for each in self.periods):
            return period.ends_at + RENEWING
        return period.ends_at


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

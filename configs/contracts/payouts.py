"""Payouts that creators asked for: what became of each, and what that leaves of their balance. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from configs.contracts.events import (
    Event,
    PaymentObserved,
    PayoutAnswered,
    PayoutOutcome,
    PayoutRecorded,
    PayoutRequested,
)
from configs.contracts.ledger import available_of
from configs.contracts.payment_facts import PayoutFailed, PayoutPaid

PayoutStatus = Literal["pending", "in_transit", "paid", "failed", "refused"]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class Payout(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True, gc=False):
    """One payout. ``version``: of the newest event about it."""

    asked: PayoutRequested
    requested_at: Instant
    answered: bool = False
    object_id: str | None = None
    """At the provider, or what the transfer by hand is called; None once answered: it was refused."""
    paid: bool = False
    failed: bool = False
    recorded: PayoutOutcome | None = None
    """What staff has said of it last."""
    version: int = 0

    @property
    def status(self) -> PayoutStatus:
        """A bank may send back what was paid: failed wins."""
        if self.failed:
            return "failed"
        if self.paid:
            return "paid"
        if self.answered:
            return "refused" if self.object_id is None else "in_transit"
        return "pending"

    @property
    def by_hand(self) -> bool:
        """Whether staff pays it, since the processor pays no creators."""
        return not self.asked.account_id

    @property
    def takes(self) -> bool:
        """Whether its money is, or may be, on its way to the creator or there."""
        return self.status not in ("failed", "refused")


class Payouts(msgspec.Struct, frozen=True, gc=False):
    """All payouts of a creator, by request; their number is bounded by how many may be asked for in a day."""

    items: tuple[Payout, ...] = ()
    version: int = 0

    def get(self, payout_id: str) -> Payout | None:
        return next((item for item in self.items if item.asked.payout_id == payout_id), None)


@dataclass(frozen=True, slots=True)
class Funds:
    """A creator's balance as one look at the rows has it.

    ``sums``: (processor, currency, livemode) -> minor units of the account creator, (settled, unsettled).
    ``booked``: payouts that are in it already.
    """

    sums: Mapping[tuple[str, str, bool], tuple[int, int]]
    booked: frozenset[str]

    def left(self, payouts: Sequence[Payout], currency: str, *, livemode: bool, provider: str | None = None) -> int:
        """What may still be paid out at a processor, after payouts that the rows do not know of yet; None: at all together.

        Money does not go from one processor to another. What is lacking at one is taken off what others have.
        """
        sums = [
            amounts for (name, *kind), amounts in self.sums.items()
            if kind == [currency, livemode] and provider in (None, name)
        ]
        on_their_way = sum(
            item.asked.amount_minor for item in payouts
            if item.takes and item.asked.payout_id not in self.booked
            and (item.asked.currency, item.asked.livemode) == (currency, livemode) and provider in (None, item.asked.provider)
        )
        available = available_of(sum(settled for settled, _ in sums), sum(unsettled for _, unsettled in sums))
        here = max(0, available - on_their_way)
        return here if provider is None else min(here, self.left(payouts, currency, livemode=livemode))


def payout_of(event: Event) -> str | None:
    """The payout that an event is about; None: about none that was asked for here."""
    payload = event.payload
    if isinstance(payload, PayoutRequested | PayoutAnswered | PayoutRecorded):
        return payload.payout_id
    if isinstance(payload, PaymentObserved) and isinstance(payload.fact, PayoutPaid | PayoutFailed):
        return payload.fact.request_id
    return None


def payout_after(before: Payout | None, event: Event, version: int) -> Payout | None:
    """The payout after an event; its request comes first, the first answer counts, and order among facts does not."""
    payload = event.payload
    if isinstance(payload, PayoutRequested):
        return Payout(asked=payload, requested_at=event.occurred_at, version=version) if before is None else before
    if before is None:
        return None
    if isinstance(payload, PayoutAnswered):
        after = before if before.answered else msgspec.structs.replace(before, answered=True, object_id=payload.object_id)
    elif isinstance(payload, PayoutRecorded):
        after = _recorded(before, payload)
    elif isinstance(payload, PaymentObserved) and isinstance(payload.fact, PayoutPaid):
        after = msgspec.structs.replace(before, paid=True)
    elif isinstance(payload, PaymentObserved) and isinstance(payload.fact, PayoutFailed):
        after = msgspec.structs.replace(before, failed=True)
    else:
        return before
    return before if after == before else msgspec.structs.replace(after, version=max(before.version, version))


def _recorded(before: Payout, payload: PayoutRecorded) -> Payout:
    if payload.outcome == "returned":
        return msgspec.structs.replace(before, failed=True, recorded="returned")
    paid = payload.outcome == "paid"
    return msgspec.structs.replace(
        before, answered=True, object_id=payload.reference if paid else None, paid=before.paid or paid, recorded=payload.outcome,
    )


def payouts_after(before: Payouts | None, event: Event, version: int) -> Payouts | None:
    """All of a creator's payouts after an event."""
    name = payout_of(event)
    held = before or Payouts()
    known = None if name is None else held.get(name)
    after = payout_after(known, event, version)
    if after is None or after is known:
        return before
    items = (*(item for item in held.items if item is not known), after)
    return Payouts(tuple(sorted(items, key=lambda item: (item.requested_at, item.asked.payout_id))), max(held.version, version))


def payouts_place(creator_id: str) -> str:
    """Names a creator's payouts where rows are loaded."""
    return f"{creator_id}/payouts"

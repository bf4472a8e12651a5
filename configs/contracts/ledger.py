"""The double-entry ledger: what a payment provider's facts mean in accounts. Pure; the same for rows and tests.

Every transaction's entries sum to zero. A positive entry is what the account gained, so the creator's balance is the sum of
their entries, and what customers paid in is the negative of ``customer_funds``. A transaction is named by what happened
(payment and step), not by when it was told: facts may come twice and in any order, and the transactions of a payment are
a function of the set of its facts. Of one object and kind the greatest counts, and when it was told first is when it
happened. Each total of a refund that was told is a step of its own, so a later one leaves an earlier month as it was; a
lesser total takes the steps above it away, since a bank sent those refunds back. Nothing is given back before the charge
itself is known.
Test money and real money never meet: ``livemode`` is part of every transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, TypeVar

from configs.contracts.ids import derived_id
from configs.contracts.money import share_of
from configs.contracts.payment_facts import (
    AccountState,
    DisputeClosed,
    DisputeOpened,
    InvoiceFailed,
    InvoicePaid,
    PaymentFact,
    PaymentFailed,
    PaymentSucceeded,
    PayoutFailed,
    PayoutPaid,
    Refunded,
    owner_of,
)

SETTLES_AFTER: Final = timedelta(days=7)
"""From the charge until the creator's share of it may be paid out (a guess at the slowest provider schedule)."""

Account = Literal["customer_funds", "platform_fee", "creator", "disputed", "paid_out", "processor", "processor_fees"]
"""creator: the creator's own, pending until ``available_at``; below zero it is owed · disputed: frozen until the bank decides
· processor_fees: what the provider charges the platform, and processor: that it took it."""
Kind = Literal["charge", "refund", "dispute_opened", "dispute_closed", "payout", "payout_failed"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a transaction. ``party_id`` is the person whose account it is; None: the platform's."""

    account: Account
    amount_minor: int
    party_id: str | None = None
    available_at: datetime | None = None
    """Of the account creator: when it may be paid out; of a payout always long past, whatever clock told of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What happened once, balanced. ``owner_id`` is the payer, of payouts the creator; ``payee_id`` always the creator."""

    transaction_id: str
    owner_id: str
    payee_id: str
    kind: Kind
    provider: str
    livemode: bool
    payment_id: str
    """The provider's payment, of a payout the payout."""
    amount_minor: int
    currency: str
    occurred_at: datetime
    entries: tuple[Entry, ...]


Charge = PaymentSucceeded | InvoicePaid
F = TypeVar("F", bound=PaymentFact)


def subject_of(fact: PaymentFact) -> str | None:
    """The payment or payout whose transactions a fact can change; None: it moves no money."""
    if isinstance(fact, PaymentSucceeded | InvoicePaid | Refunded | DisputeOpened | DisputeClosed):
        return fact.payment_id
    return fact.object_id if isinstance(fact, PayoutPaid | PayoutFailed) else None


def transactions_of(facts: Iterable[PaymentFact]) -> list[Transaction]:
    """The balanced transactions of one payment or payout, from all facts about it in any order, with repetitions."""
    moved = [fact for fact in facts if not isinstance(fact, AccountState | PaymentFailed | InvoiceFailed)]
    made = list(_of_payment(moved)) + list(_of_payout(moved))
    return [item for item in made if item.entries]


def _of_payment(facts: Sequence[PaymentFact]) -> Iterator[Transaction]:
    charge: Charge | None = _newest(facts, InvoicePaid) or _newest(facts, PaymentSucceeded)
    if charge is None or charge.amount_minor <= 0:
        return
    paid_at = min(fact.as_of for fact in facts if isinstance(fact, type(charge)))
    settles = paid_at + SETTLES_AFTER
    fee = min(charge.fee_minor, charge.amount_minor)
    yield _moved(
        charge, paid_at, "charge", charge.amount_minor, "",
        Entry("customer_funds", -charge.amount_minor, charge.payer_id), Entry("platform_fee", fee),
        Entry("creator", charge.amount_minor - fee, charge.payee_id, settles), *_processor(charge.processor_fee_minor or 0),
    )
    back, fee_back = 0, 0
    for total, fee_total, at in _refund_steps(facts, charge.amount_minor):
        more, fee_more = total - back, fee_total - fee_back
        yield _moved(
            charge, at, "refund", more, str(total) if back else "", Entry("customer_funds", more, charge.payer_id),
            Entry("platform_fee", -fee_more), Entry("creator", fee_more - more, charge.payee_id, settles),
        )
        back, fee_back = total, fee_total
    for name in sorted({fact.object_id for fact in facts if isinstance(fact, DisputeOpened | DisputeClosed)}):
        yield from _of_dispute(charge, [fact for fact in facts if fact.object_id == name], max(0, fee - fee_back), settles)


def _refund_steps(facts: Iterable[PaymentFact], most: int) -> Iterator[tuple[int, int, datetime]]:
    """(total given back, the platform's share of it, when it was told first) of each total up to the newest, from the least.

    A total may be less than one before: a refund that a bank sent back. What is made again then is told anew.
    """
    steps: dict[int, tuple[int, datetime]] = {}
    for fact in sorted((fact for fact in facts if isinstance(fact, Refunded)), key=lambda fact: fact.order):
        total = min(fact.refunded_minor, most)
        steps = {known: step for known, step in steps.items() if known <= total}
        if total > 0:
            fee, at = steps.get(total, (0, fact.as_of))
            steps[total] = max(fee, min(fact.fee_refunded_minor, total)), at
    for total in sorted(steps):
        yield total, *steps[total]


def _of_dispute(charge: Charge, facts: Sequence[PaymentFact], fee_left: int, settles: datetime) -> Iterator[Transaction]:
    """Opening freezes both shares, in the proportion of the charge; closing gives them to whom the bank says.

    A dispute in another currency than the charge's freezes all of the charge: the ledger converts nothing.
    """
    opened, closed = _newest(facts, DisputeOpened), _newest(facts, DisputeClosed)
    first = opened or closed
    if first is None:
        return
    same = first.currency == charge.currency
    amount = min(first.amount_minor, charge.amount_minor) if same else charge.amount_minor
    fee = min(share_of(charge.fee_minor, amount, charge.amount_minor), fee_left, amount)
    opened_at = min(fact.as_of for fact in facts if isinstance(fact, type(first)))
    yield _moved(
        charge, opened_at, "dispute_opened", amount, first.object_id, Entry("platform_fee", -fee),
        Entry("creator", fee - amount, charge.payee_id, settles), Entry("disputed", amount, charge.payee_id),
        *_processor(opened.fee_minor if opened is not None and same else 0),
    )
    if closed is None:
        return
    closed_at = min(fact.as_of for fact in facts if isinstance(fact, DisputeClosed))
    gone = Entry("disputed", -amount, charge.payee_id)
    if closed.won:
        back = (Entry("platform_fee", fee), Entry("creator", amount - fee, charge.payee_id, settles))
        yield _moved(charge, closed_at, "dispute_closed", amount, closed.object_id, gone, *back)
    else:
        yield _moved(charge, closed_at, "dispute_closed", amount, closed.object_id, gone, Entry("customer_funds", amount, charge.payer_id))


def _of_payout(facts: Sequence[PaymentFact]) -> Iterator[Transaction]:
    paid, failed = _newest(facts, PayoutPaid), _newest(facts, PayoutFailed)
    first = paid or failed
    if first is None:
        return
    # Only what was available is paid out: counted among what is pending, while the clock that reads the rows is behind
    # the one that told of it, the same money would be available once more.
    available_at = first.as_of - SETTLES_AFTER
    yield _paid(first, "payout", -first.amount_minor, available_at)
    if failed is not None:
        yield _paid(failed, "payout_failed", first.amount_minor, available_at)


def _paid(fact: PayoutPaid | PayoutFailed, kind: Kind, gained: int, available_at: datetime) -> Transaction:
    return Transaction(
        transaction_id=derived_id(f"{fact.provider}:{fact.object_id}", kind), owner_id=fact.creator_id,
        payee_id=fact.creator_id, kind=kind, provider=fact.provider, livemode=fact.livemode, payment_id=fact.object_id,
        amount_minor=abs(gained), currency=fact.currency, occurred_at=fact.as_of, entries=_standing((
            Entry("creator", gained, fact.creator_id, available_at), Entry("paid_out", -gained, fact.creator_id),
        )),
    )


def _moved(
    charge: Charge, at: datetime, kind: Kind, amount: int, of: str, *entries: Entry
) -> Transaction:
    return Transaction(
        transaction_id=derived_id(f"{charge.provider}:{charge.payment_id}:{of}", kind), owner_id=owner_of(charge),
        payee_id=charge.payee_id, kind=kind, provider=charge.provider, livemode=charge.livemode,
        payment_id=charge.payment_id, amount_minor=amount, currency=charge.currency, occurred_at=at,
        entries=_standing(entries),
    )


def _processor(fee: int) -> tuple[Entry, ...]:
    return Entry("processor_fees", -fee), Entry("processor", fee)


def _standing(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(entry for entry in entries if entry.amount_minor)


def _newest(facts: Iterable[PaymentFact], kind: type[F]) -> F | None:
    return max((fact for fact in facts if isinstance(fact, kind)), key=lambda fact: fact.order, default=None)


@dataclass(frozen=True, slots=True)
class Balance:
    """What a creator has in one currency, in minor units."""

    pending_minor: int = 0
    available_minor: int = 0
    """May be paid out; never below zero."""
    owed_minor: int = 0
    """What refunds, disputes and payouts took beyond all that was earned."""
    disputed_minor: int = 0
    paid_out_minor: int = 0


def available_of(settled: int, unsettled: int) -> int:
    """What of the account creator may be paid out."""
    return max(0, settled + min(0, unsettled))


def balance_of(settled: int, unsettled: int, disputed: int, paid_out: int) -> Balance:
    """The balance from sums of entries: what is lacking among the settled is taken from the unsettled first."""
    available = available_of(settled, unsettled)
    total = settled + unsettled
    return Balance(
        pending_minor=max(0, total - available), available_minor=available, owed_minor=max(0, -total),
        disputed_minor=disputed, paid_out_minor=paid_out,
    )

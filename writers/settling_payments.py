"""What rows say that a payment processor still has to do, outside of subscriptions.

To make refunds and payouts that were asked for when nobody came back to do it, to give back what was paid twice for one post,
to forget payers who were erased, and to end payments whose time is over.
Everything is asked again until the processor has done it, under ids that a repetition makes again. What a processor owes whose
keys are not known here waits until they are, and nothing waits behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from cluster.connections.kafka import Record
from cluster.connections.postgres import translated
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.events import (
    Event,
    Payload,
    PaymentAbandoned,
    PaymentObserved,
    PayoutAnswered,
    RefundAnswered,
    encode,
)
from configs.contracts.ids import derived_id, partition_of
from configs.contracts.payment_facts import PaymentFact
from configs.contracts.payments import ENDS_AFTER, ProviderMisconfigured, Refund, Started
from configs.contracts.payments import Payout as ProviderPayout
from configs.contracts.payouts import Payout
from configs.contracts.purchases import Payment
from configs.contracts.topics import PAYMENT_COMPLETED
from configs.settings import Settings
from writers.connections import Connection, open_rows
from writers.looks import ProviderLooks
from writers.sinks.payments import read_payment
from writers.sinks.payouts import read_payout

log = structlog.get_logger(__name__)

LOOK_S: Final = 5.0
AT_ONCE: Final = 200
"""Of each kind in one look, oldest first."""
ERASED: Final = """
SELECT user_id::text, ARRAY(
    SELECT customer FROM jsonb_each_text(preferences) AS kept (name, customer) WHERE starts_with(name, 'paymentCustomer')
)
FROM erasures LEFT JOIN users ON users.id = user_id
WHERE payer_forgotten_at IS NULL
  AND NOT EXISTS (
    SELECT FROM jsonb_each_text(preferences) AS kept (name, customer) WHERE starts_with(name, 'paymentCustomer')
    AND split_part(customer, ':', 1) <> ALL(%s)
  )
ORDER BY erased_at LIMIT %s
"""
FORGOTTEN: Final = "UPDATE erasures SET payer_forgotten_at = now() WHERE user_id = %s"
NAMELESS: Final = """
UPDATE users SET preferences = preferences - ARRAY(
    SELECT name FROM jsonb_each_text(preferences) AS kept (name, customer) WHERE starts_with(name, 'paymentCustomer')
) WHERE id = %s AND status = 'deleted'
"""


TWICE: Final = """
SELECT state::text FROM post_purchases WHERE status = 'completed' AND NOT effective AND id <> ALL(%s::uuid[])
  AND state -> 'facts' -> 0 ->> 'provider' = ANY(%s)
ORDER BY requested_at LIMIT %s
"""
DUE: Final = """
SELECT state::text FROM (
    SELECT refund_due, state FROM tips WHERE refund_due < %(before)s AND provider_payment_id IS NOT NULL
    UNION ALL
    SELECT refund_due, state FROM post_purchases WHERE refund_due < %(before)s AND provider_payment_id IS NOT NULL
) AS due WHERE state -> 'facts' -> 0 ->> 'provider' = ANY(%(processors)s) ORDER BY refund_due LIMIT %(most)s
"""
EXPIRED: Final = """
SELECT pending.state::text, ARRAY(
    SELECT customer FROM jsonb_each_text(preferences) AS kept (name, customer) WHERE starts_with(name, 'paymentCustomer')
) FROM (
    SELECT from_user_id AS payer, id, requested_at, state FROM tips
    WHERE status = 'pending' AND state #>> '{asked,paymentMethodId}' <> ''
    UNION ALL
    SELECT buyer_id, id, requested_at, state FROM post_purchases
    WHERE status = 'pending' AND state #>> '{asked,paymentMethodId}' <> ''
) AS pending LEFT JOIN users ON users.id = payer
WHERE (pending.state #>> '{asked,checkoutUntil}')::timestamptz < %(before)s AND pending.id <> ALL(%(but)s::uuid[])
  AND NOT EXISTS (
    SELECT FROM jsonb_each_text(preferences) AS kept (name, customer) WHERE starts_with(name, 'paymentCustomer')
    AND split_part(customer, ':', 1) <> ALL(%(processors)s)
  )
ORDER BY pending.requested_at LIMIT %(most)s
"""
"""Those that are paid on a processor's own page end there."""
PAYOUTS_DUE: Final = """
SELECT state::text FROM payouts
WHERE due < %s AND state -> 'asked' ->> 'provider' = ANY(%s) AND state -> 'asked' ->> 'accountId' <> '' ORDER BY due LIMIT %s
"""
"""Without an account staff pays them."""
ROUTE_S: Final = 30
"""For so long a route that asked for something may still be on its way to the processor."""
ENDED_AT_ONCE: Final = 20
"""In one look, oldest first: each is two or three calls, and refunds come first."""
REFUSED_KEPT: Final = 1_000
REFUSED_FOR: Final = timedelta(hours=1)
"""What a processor refuses is asked again after this: people at the processor may have changed their mind."""


class PaymentSettling(ProviderLooks):
    """``figures``: refunded, paid_out, given_back (paid twice), forgotten (payers), ended (payments whose time was over),
    refused (the processor does not do it)."""

    def __init__(self, settings: Settings, name: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(settings, name, "settling-payments", every_s=LOOK_S, clock=clock)
        self._refused: dict[str, datetime] = {}

    def look(self) -> int:
        """Has done what is due; how many that were."""
        with open_rows(self._settings, "settling-payments") as conn, translated():
            return sum(part(conn) for part in (self._refund, self._pay_out, self._give_back, self._forget_payers, self._end))

    def _refund(self, conn: Connection) -> int:
        """Refunds that were asked for and not answered."""
        before = self._clock() - timedelta(seconds=ROUTE_S)
        asked = {"before": before, "processors": list(self._providers.names), "most": AT_ONCE}
        due = [read_payment(state) for (state,) in conn.execute(DUE, asked).fetchall()]
        for payment in due:
            for refund in payment.refunds:
                if refund.made is None:
                    facts = self._run(self._refunded(payment, refund.refund_id, refund.wanted_minor))
                    answered = RefundAnswered(
                        refund_id=refund.refund_id, payment_id=payment.asked.payment_id, payer_id=payment.asked.payer_id,
                        made=facts is not None,
                    )
                    self._append(payment.asked.payer_id, facts or (), (derived_id(refund.refund_id, "answered"), answered))
                    self.figures["refunded"] += facts is not None
        return len(due)

    def _pay_out(self, conn: Connection) -> int:
        """Payouts that were asked for and not answered."""
        before = self._clock() - timedelta(seconds=ROUTE_S)
        due = [read_payout(state) for (state,) in conn.execute(
            PAYOUTS_DUE, (before, list(self._providers.names), AT_ONCE)
        ).fetchall()]
        for payout in due:
            asked = payout.asked
            object_id = self._run(self._paid_out(payout))
            answered = PayoutAnswered(payout_id=asked.payout_id, creator_id=asked.creator_id, object_id=object_id)
            self._append(asked.creator_id, (), (derived_id(asked.payout_id, "answered"), answered))
            self.figures["paid_out"] += object_id is not None
        return len(due)

    async def _paid_out(self, payout: Payout) -> str | None:
        """The payout's name at the processor; None: it refuses."""
        asked = payout.asked
        provider = await self._providers.named(asked.provider)
        try:
            started = await provider.payout(ProviderPayout(
                request_id=asked.payout_id, creator_id=asked.creator_id, account_id=asked.account_id,
                amount_minor=asked.amount_minor, currency=asked.currency,
            ))
        except (DependencyUnavailable, ProviderMisconfigured):
            raise
        except PlatformError as error:
            log.warning("payout_refused", payout=asked.payout_id, reason=str(error))
            self.figures["refused"] += 1
            return None
        return None if started.status == "failed" else started.object_id

    def _give_back(self, conn: Connection) -> int:
        """Refunds what was paid for a post that another payment opens already, whole and once."""
        rows = conn.execute(TWICE, (self._waiting(), list(self._providers.names), AT_ONCE)).fetchall()
        due = [read_payment(state) for (state,) in rows]
        for payment in due:
            facts = self._run(self._refunded(payment, derived_id(payment.asked.payment_id, "paid twice"), None))
            self._append(payment.asked.payer_id, facts or ())
            self.figures["given_back"] += facts is not None
            if facts is None:
                self._later(payment)
        return len(due)

    def _waiting(self) -> list[str]:
        """Payments about which the processor is not asked again yet."""
        now = self._clock()
        self._refused = {name: until for name, until in self._refused.items() if until > now}
        return list(self._refused)

    def _later(self, payment: Payment) -> None:
        if len(self._refused) < REFUSED_KEPT:
            self._refused[payment.asked.payment_id] = self._clock() + REFUSED_FOR

    def _end(self, conn: Connection) -> int:
        """Payments whose time is over are paid no more; what was paid after all is told."""
        wanted = {
            "before": self._clock() - ENDS_AFTER, "but": self._waiting(), "processors": list(self._providers.names), "most": ENDED_AT_ONCE,
        }
        due = [(read_payment(state), customers) for state, customers in conn.execute(EXPIRED, wanted).fetchall()]
        for payment, customers in due:
            ended = self._run(self._ended(payment, customers))
            if ended is None or ended.status == "pending":
                self._later(payment)
                continue
            asked = payment.asked
            given_up = PaymentAbandoned(payment_id=asked.payment_id, payer_id=asked.payer_id, reason="provider_refused")
            self._append(
                asked.payer_id, [fact for fact in ended.facts if isinstance(fact, PaymentFact)],
                *([(derived_id(asked.payment_id, "abandoned"), given_up)] if ended.status == "failed" else []),
            )
            self.figures["ended"] += ended.status == "failed"
        return len(due)

    async def _ended(self, payment: Payment, customers: Sequence[str]) -> Started | None:
        """How a payment stands at the processor that shall not be paid any more; None: it refuses.

        Of a payer whom it was told to forget it holds no card.
        """
        ended = Started(object_id="", status="failed")
        for processor, names in _by_processor(customers).items():
            provider = await self._providers.named(processor)
            try:
                found = await provider.end_payment(payment.asked.payment_id, names, payment.requested_at)
            except (DependencyUnavailable, ProviderMisconfigured):
                raise
            except PlatformError as error:
                log.warning("payment_not_ended", payment=payment.asked.payment_id, reason=str(error))
                self.figures["refused"] += 1
                return None
            if found.object_id:
                ended = found
        return ended

    async def _refunded(self, payment: Payment, request_id: str, amount_minor: int | None) -> Sequence[PaymentFact] | None:
        """What the processor says after a refund; None: it refuses."""
        paid = payment.succeeded
        assert paid is not None
        started = None
        provider = await self._providers.named(paid.provider)
        try:
            started = await provider.refund(Refund(request_id=request_id, payment_id=paid.payment_id, amount_minor=amount_minor))
        except (DependencyUnavailable, ProviderMisconfigured):
            raise
        except PlatformError as error:
            log.warning("refund_refused", payment=payment.asked.payment_id, reason=str(error))
        if started is None or started.status == "failed":
            self.figures["refused"] += 1
            return None
        return [fact for fact in started.facts if isinstance(fact, PaymentFact)]

    def _append(self, owner_id: str, facts: Sequence[PaymentFact], *answers: tuple[str, Payload]) -> None:
        """The facts on their owner's topic, as a webhook's consumer would append them, and then the answers by event id."""
        told = [
            (derived_id(fact.event_id, f"{fact.kind}:{fact.object_id}"), PaymentObserved(owner_id=owner_id, fact=fact)) for fact in facts
        ]
        events = [Event(event_id, self._clock(), owner_id, payload) for event_id, payload in (*told, *answers)]
        partitions = self._settings.log.partitions
        self._appending.append([
            Record(PAYMENT_COMPLETED.name, partition_of(event.key, partitions), event.key, encode(event)) for event in events
        ])

    def _forget_payers(self, conn: Connection) -> int:
        """Cards and customers go at the processor; what was paid stays there, as the law wants.

        Those of a processor without keys here wait until it has some again.
        """
        due = conn.execute(ERASED, (list(self._providers.names), AT_ONCE)).fetchall()
        for user_id, customers in due:
            known = _by_processor(customers)
            for processor, names in known.items():
                for name in names:
                    self._run(self._forget(processor, name))
            with conn.transaction():
                conn.execute(NAMELESS, (user_id,))
                conn.execute(FORGOTTEN, (user_id,))
            self.figures["forgotten"] += bool(known)
        return len(due)

    async def _forget(self, processor: str, customer_id: str) -> None:
        """Returns once the processor has forgotten them, or says that it cannot."""
        provider = await self._providers.named(processor)
        try:
            await provider.forget_customer(customer_id)
        except (DependencyUnavailable, ProviderMisconfigured):
            raise
        except PlatformError as error:
            log.warning("payer_not_forgotten", processor=processor, reason=str(error))
            self.figures["refused"] += 1


def _by_processor(customers: Sequence[str]) -> dict[str, list[str]]:
    """Processor -> whom it knows the payer as."""
    found: dict[str, list[str]] = {}
    for customer in customers:
        processor, _, name = customer.partition(":")
        if name:
            found.setdefault(processor, []).append(name)
    return found

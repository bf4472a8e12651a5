"""What was asked of a subscription and has not come about: done at the provider, whoever died before it was.

Every few seconds the rows are searched for renewals that were to stop or go on and did not, for checkouts past their
time or over without having given back what they took of the shop, and for refunds of bills that nobody came back to make.
Everything is asked again until the provider says so, under ids that a repetition makes again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from cluster.connections.kafka import Record
from cluster.connections.postgres import translated
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.events import (
    TOPIC_OF,
    BillRefundAnswered,
    Event,
    OfferReleased,
    SubscriptionAbandoned,
    SubscriptionObserved,
    encode,
)
from configs.contracts.ids import derived_id, partition_of
from configs.contracts.payment_facts import AnyFact, SubscriptionFact, SubscriptionState
from configs.contracts.payments import ENDS_AFTER, PaymentProvider, ProviderMisconfigured, Refund
from configs.contracts.subscriptions import BillRefund, Subscription
from configs.contracts.tiers import Offer, checkout_key
from configs.settings import Settings
from writers.connections import open_rows
from writers.loads.tiers import offers
from writers.looks import ProviderLooks
from writers.sinks.subscriptions import read_subscription

log = structlog.get_logger(__name__)

LOOK_S: Final = 5.0
ROUTE: Final = timedelta(seconds=30)
"""For so long a route that asked for a refund may still be on its way to the provider."""
AT_ONCE: Final = 200
"""Subscriptions read at once, oldest first."""
PAGES: Final = 25
"""Of one look; the next one goes on where it ended. What no processor ever does lets nothing wait behind it."""
FIRST: Final = (datetime.min.replace(tzinfo=UTC), "00000000-0000-0000-0000-000000000000")
UNSETTLED: Final = """
SELECT state::text, requested_at, id::text FROM subscriptions
WHERE unsettled AND (requested_at, id) > (%s, %s::uuid)
  AND (status <> 'incomplete' OR (state->>'checkoutUntil')::timestamptz <= %s)
  AND coalesce(jsonb_path_query_first(state, '$.facts[*].provider') #>> '{}' = ANY(%s), true)
ORDER BY requested_at, id LIMIT %s
"""


class SubscriptionSettling(ProviderLooks):
    """``figures``: stopped, resumed, abandoned, refunded, refused (the provider does not do it)."""

    def __init__(self, settings: Settings, name: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(settings, name, "settling-subscriptions", every_s=LOOK_S, clock=clock)
        self._after = FIRST

    def look(self) -> int:
        """Settles what rows say is due; how many subscriptions that were."""
        found = 0
        for _ in range(PAGES):
            some = self._page()
            found += some
            if some < AT_ONCE:
                self._after = FIRST
                break
        return found

    def _page(self) -> int:
        now = self._clock()
        with open_rows(self._settings, "settling") as conn, translated():
            rows = conn.execute(UNSETTLED, (*self._after, now - ENDS_AFTER, list(self._providers.names), AT_ONCE)).fetchall()
            due = [read_subscription(state) for state, *_ in rows]
            if rows:
                self._after = rows[-1][1:]
            taken = offers(conn, [checkout_key(item.creator_id, item.subscription_id) for item in due])
        for item in due:
            for refund in item.refunds:
                if refund.made is None and refund.asked_at <= now - ROUTE:
                    self._refund(item, refund)
            if item.renewal_due:
                facts = self._run(self._settled(item))
                self._end(item, facts, taken, now)
            elif item.offer_due and (item.observed is None or item.observed.as_of <= now - ENDS_AFTER):
                # Whoever ended it did not come back, and a bill of it would be known by now.
                self._end(item, (), taken, now)
        return len(due)

    def _end(self, item: Subscription, facts: Sequence[SubscriptionFact], taken: Mapping[str, Offer], now: datetime) -> None:
        """What was given up is looked at no more: what it took is given back before."""
        told = list(follows(item, facts, taken.get(checkout_key(item.creator_id, item.subscription_id)), now))
        given_up = [event for event in told if isinstance(event.payload, SubscriptionAbandoned)]
        self._append(event for event in told if event not in given_up)
        self._append(given_up)

    def _refund(self, item: Subscription, refund: BillRefund) -> None:
        bill = next((bill for bill in item.bills if bill.object_id == refund.bill_id), None)
        if bill is not None and bill.provider not in self._providers.names:
            self.figures["refused"] += 1
            return
        facts = None if bill is None else self._run(self._refunded(bill.provider, bill.payment_id, refund))
        self.figures["refunded"] += facts is not None
        answered = BillRefundAnswered(
            refund_id=refund.refund_id, subscription_id=item.subscription_id, subscriber_id=item.subscriber_id,
            made=facts is not None,
        )
        event = Event(derived_id(refund.refund_id, "answered"), self._clock(), item.subscriber_id, answered)
        self._append((*_observed(item, facts or (), self._clock()), event))

    async def _refunded(self, processor: str, payment_id: str, refund: BillRefund) -> Sequence[SubscriptionFact] | None:
        """What the provider says after a refund; None: it refuses."""
        provider = await self._providers.named(processor)
        started = None
        try:
            started = await provider.refund(
                Refund(request_id=refund.refund_id, payment_id=payment_id, amount_minor=refund.wanted_minor)
            )
        except (DependencyUnavailable, ProviderMisconfigured):
            raise
        except PlatformError as error:
            log.warning("refund_refused", refund=refund.refund_id, reason=str(error))
        if started is None or started.status == "failed":
            self.figures["refused"] += 1
            return None
        return [fact for fact in started.facts if isinstance(fact, SubscriptionFact)]

    async def _settled(self, item: Subscription) -> Sequence[SubscriptionFact]:
        """Asks the provider for what is due; what it says then."""
        seen = item.observed
        if seen is None:
            return ()
        if seen.provider not in self._providers.names:
            self.figures["refused"] += 1
            return ()
        provider = await self._providers.named(seen.provider)
        try:
            facts = await self._ask(provider, item, seen)
        except DependencyUnavailable:
            raise
        except PlatformError as error:
            log.warning("settling_refused", subscription=item.subscription_id, reason=str(error))
            self.figures["refused"] += 1
            return ()
        return [fact for fact in facts if isinstance(fact, SubscriptionFact)]

    async def _ask(self, provider: PaymentProvider, item: Subscription, seen: SubscriptionState) -> Sequence[AnyFact]:
        if item.status == "incomplete":
            # Rows may not know yet that it was paid: ended would be what somebody has just bought.
            facts = await provider.observe(seen.object_id)
            if any(isinstance(fact, SubscriptionState) and fact.status != "incomplete" for fact in facts):
                return facts
            return (await provider.end_now(derived_id(item.subscription_id, "expired"), seen.object_id)).facts
        assert item.wish is not None
        request_id = derived_id(item.subscription_id, f"renewal:{item.version}")
        if item.wish.cancel:
            self.figures["stopped"] += 1
            return (await provider.cancel_at_period_end(request_id, seen.object_id)).facts
        self.figures["resumed"] += 1
        return (await provider.resume(request_id, seen.object_id)).facts

    def _append(self, told: Iterable[Event]) -> None:
        events = list(told)
        self.figures["abandoned"] += any(isinstance(event.payload, SubscriptionAbandoned) for event in events)
        partitions = self._settings.log.partitions
        self._appending.append([
            Record(TOPIC_OF[type(event.payload)].name, partition_of(event.key, partitions), event.key, encode(event))
            for event in events
        ])


def _observed(item: Subscription, facts: Sequence[SubscriptionFact], now: datetime) -> Iterator[Event]:
    for fact in facts:
        observed = SubscriptionObserved(owner_id=item.subscriber_id, fact=fact)
        yield Event(derived_id(fact.event_id, f"{fact.kind}:{fact.object_id}"), now, item.subscriber_id, observed)


def follows(
    item: Subscription, facts: Sequence[SubscriptionFact], offer: Offer | None, now: datetime
) -> Iterator[Event]:
    """What the provider said, and, of a checkout that came to nothing, its end and what it took of the shop."""
    yield from _observed(item, facts, now)
    state = next((fact for fact in facts if isinstance(fact, SubscriptionState)), None)
    if item.status == "incomplete":
        if state is None and item.observed is not None:
            return
        if state is not None and state.status != "expired":
            return
    elif not item.offer_due:
        return
    if offer is not None and not offer.released:
        yield Event(derived_id(item.subscription_id, f"released:{offer.version}"), now, item.creator_id, OfferReleased(
            creator_id=item.creator_id, subscription_id=item.subscription_id, promo_id=offer.promo_id,
            instrument=offer.instrument,
        ))
    if item.abandoned is None:
        yield Event(derived_id(item.subscription_id, "abandoned"), now, item.subscriber_id, SubscriptionAbandoned(
            subscription_id=item.subscription_id, subscriber_id=item.subscriber_id, reason="expired"
        ))

"""What a subscriber asked for and may ask for: pure decisions, rebuilt from rows and the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from actors.entries import Entries
from actors.folded import Folded
from actors.sharding.memory import Append, Decision
from actors.subscriptions.commands import (
    Abandon,
    AlreadySubscribed,
    AnswerBillRefund,
    Cancel,
    Change,
    ChangeMethod,
    Find,
    IdempotencyConflict,
    NotPossible,
    NotRefundable,
    Observe,
    Observed,
    RefundBill,
    Resume,
    Subscribe,
    SubscriptionStands,
    Unknown,
)
from configs.contracts.events import (
    BillRefundAnswered,
    BillRefundRequested,
    Event,
    SubscriptionAbandoned,
    SubscriptionCancelled,
    SubscriptionChangeRequested,
    SubscriptionMethodRequested,
    SubscriptionObserved,
    SubscriptionRequested,
    SubscriptionResumed,
)
from configs.contracts.events.base import Payload
from configs.contracts.ids import derived_id
from configs.contracts.loading import SubscriptionRequestRow
from configs.contracts.payment_facts import SubscriptionFact
from configs.contracts.subscribers import Subscriber, subscriber_after
from configs.contracts.subscriptions import REFUNDS, Subscription, subscription_of, with_fact
from configs.contracts.topics import SUBSCRIPTION_CREATED

SubscriptionCommand = Subscribe | Find | Abandon | Change | ChangeMethod | Cancel | Resume | Observe | RefundBill | AnswerBillRefund
SubscriptionAnswer = SubscriptionStands | Observed | AlreadySubscribed | NotPossible | NotRefundable | Unknown | IdempotencyConflict
Requesting = (
    SubscriptionRequested | SubscriptionChangeRequested | SubscriptionMethodRequested | SubscriptionCancelled | SubscriptionResumed
)


def _subscriber() -> Folded[Subscriber]:
    return Folded(subscriber_after)


class Request:
    """Whether a request was recorded, and for which body. The first event under an id holds it for good."""

    __slots__ = ("loaded", "row")

    def __init__(self) -> None:
        self.loaded = False
        self.row: SubscriptionRequestRow | None = None


def request_place(subscriber_id: str, request_id: str) -> str:
    """Names a request where rows are loaded; begins with the subscriber's id."""
    return f"{subscriber_id}/{request_id}"


class SubscriptionMemory:
    """Subscribers with their subscriptions, and requests by id, in memory.

    At most one subscription of a subscriber to a creator is live, whatever comes at once.
    """

    def __init__(self) -> None:
        self._subscribers: Entries[Folded[Subscriber]] = Entries(_subscriber)
        self._requests: Entries[Request] = Entries(Request)

    def needs(self, command: SubscriptionCommand) -> Sequence[str]:
        if isinstance(command, Observe | Abandon | RefundBill | AnswerBillRefund):
            return (command.subscriber_id,)
        return command.subscriber_id, request_place(command.subscriber_id, command.request_id)

    def known(self, key: str) -> bool:
        if "/" in key:
            request = self._requests.get(key)
            return request is not None and request.loaded
        subscriber = self._subscribers.get(key)
        return subscriber is not None and subscriber.loaded

    def load(self, key: str, row: object | None) -> None:
        """Merges a ``Subscriber`` or a ``SubscriptionRequestRow``; None: there is none."""
        if "/" in key:
            request = self._requests.use(key)
            request.loaded = True
            if isinstance(row, SubscriptionRequestRow):
                request.row = row
        else:
            self._subscribers.use(key).load(row if isinstance(row, Subscriber) else None)

    def conflict_key(self, command: SubscriptionCommand) -> str:
        return command.subscriber_id

    def decide(self, command: SubscriptionCommand, now: datetime) -> Decision[SubscriptionAnswer]:
        folded = self._subscribers.get(command.subscriber_id)
        held = (None if folded is None else folded.row) or Subscriber({}, 0)
        if isinstance(command, Observe):
            return _observe(command, held, now)
        if isinstance(command, Abandon):
            return _abandon(command, held, now)
        if isinstance(command, RefundBill):
            return _refund(command, held, now)
        if isinstance(command, AnswerBillRefund):
            return _answered(command, held, now)
        request = self._requests.get(request_place(command.subscriber_id, command.request_id))
        if request is not None and request.row is not None:
            return _answer(_repeated(command, held, request.row))
        if isinstance(command, Find):
            return _answer(Unknown())
        if isinstance(command, Subscribe):
            return _subscribe(command, held, now)
        subscription = held.subscriptions.get(command.subscription_id)
        if subscription is None:
            return _answer(Unknown())
        if subscription.provider_id is None or subscription.status_at(now) not in ("trialing", "active", "past_due"):
            return _answer(NotPossible("subscription_not_active"))
        if isinstance(command, Resume | Change | ChangeMethod) and subscription.parted:
            return _answer(NotPossible("subscription_not_active"))
        if isinstance(command, Change):
            return _change(command, held, subscription, now)
        payload: Payload
        if isinstance(command, Cancel):
            payload = SubscriptionCancelled(
                request_id=command.request_id, subscription_id=command.subscription_id,
                subscriber_id=command.subscriber_id, reason=command.reason, body_digest=command.body_digest,
            )
        elif isinstance(command, ChangeMethod):
            payload = SubscriptionMethodRequested(
                request_id=command.request_id, subscription_id=command.subscription_id, subscriber_id=command.subscriber_id,
                payment_method_id=command.payment_method_id, body_digest=command.body_digest,
            )
        else:
            payload = SubscriptionResumed(
                request_id=command.request_id, subscription_id=command.subscription_id,
                subscriber_id=command.subscriber_id, body_digest=command.body_digest,
            )
        return _recorded(command.request_id, payload, held, now)

    def apply(self, event: Event, version: int) -> None:
        payload = event.payload
        if subscription_of(event) is not None:
            self._subscribers.use(event.key).take(event, version)
        if isinstance(payload, Requesting):
            request_id = payload.subscription_id if isinstance(payload, SubscriptionRequested) else payload.request_id
            request = self._requests.use(request_place(payload.subscriber_id, request_id))
            if request.row is None or version < request.row.version:
                request.row = SubscriptionRequestRow(
                    subscription_id=payload.subscription_id, body_digest=payload.body_digest,
                    now=isinstance(payload, SubscriptionChangeRequested) and payload.now, version=version,
                )

    def entries(self) -> int:
        return len(self._subscribers) + len(self._requests)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        """Requests first: a subscriber is needed by each of them."""
        kept = max(0, limit - len(self._subscribers))
        gone = self._requests.evict(
            kept, lambda key, request: request.row is None or request.row.version < committed(key[:36])
        )
        return gone + self._subscribers.evict(limit, lambda key, subscriber: subscriber.newest < committed(key))


def _repeated(
    command: Subscribe | Find | Change | ChangeMethod | Cancel | Resume, held: Subscriber, row: SubscriptionRequestRow
) -> SubscriptionAnswer:
    subscription = held.subscriptions.get(row.subscription_id)
    if row.body_digest != command.body_digest or subscription is None:
        return IdempotencyConflict()
    return SubscriptionStands(held, subscription, replayed=True, now=row.now)


def _subscribe(command: Subscribe, held: Subscriber, now: datetime) -> Decision[SubscriptionAnswer]:
    live = held.live_to(command.creator_id, now)
    if live is not None:
        return _answer(AlreadySubscribed(live.subscription_id))
    payload = SubscriptionRequested(
        subscription_id=command.request_id, subscriber_id=command.subscriber_id, creator_id=command.creator_id,
        account_id=command.account_id, payment_method_id=command.payment_method_id, terms=command.terms,
        checkout_until=now + timedelta(seconds=command.checkout_s), body_digest=command.body_digest,
    )
    return _recorded(command.request_id, payload, held, now)


def _change(command: Change, held: Subscriber, subscription: Subscription, now: datetime) -> Decision[SubscriptionAnswer]:
    current = subscription.current_terms
    wanted = command.terms
    if (current.tier_id, current.months) == (wanted.tier_id, wanted.months):
        return _answer(NotPossible("same_tier"))
    if subscription.status_at(now) == "past_due" or subscription.given_back_at(now):
        # Processors would take off what is left of a period that nobody pays for any more.
        return _answer(NotPossible("subscription_not_active"))
    longer = wanted.months > current.months
    # At a lower price the rest of what was paid would become credit, with which the payer's next bill of any creator is paid.
    upgrade = (wanted.rank > current.rank or longer) and wanted.amount_minor >= current.amount_minor
    if current.months != wanted.months and not (longer and upgrade and wanted.rank >= current.rank):
        # It would have to begin when the period ends, and processors begin another interval at once.
        return _answer(NotPossible("not_offered"))
    payload = SubscriptionChangeRequested(
        request_id=command.request_id, subscription_id=command.subscription_id, subscriber_id=command.subscriber_id,
        terms=wanted, now=upgrade, body_digest=command.body_digest,
    )
    return _recorded(command.request_id, payload, held, now, upgrade=upgrade)


def _abandon(command: Abandon, held: Subscriber, now: datetime) -> Decision[SubscriptionAnswer]:
    subscription = held.subscriptions.get(command.subscription_id)
    if subscription is None:
        return _answer(Unknown())
    if subscription.abandoned is not None or (subscription.observed is not None and subscription.status != "expired"):
        return _answer(SubscriptionStands(held, subscription, replayed=True))
    payload = SubscriptionAbandoned(
        subscription_id=command.subscription_id, subscriber_id=command.subscriber_id, reason=command.reason
    )
    return _recorded(derived_id(command.subscription_id, "abandoned"), payload, held, now)


def _observe(command: Observe, held: Subscriber, now: datetime) -> Decision[SubscriptionAnswer]:
    """Only what says something new about a subscription of ours is recorded."""
    appends = _news(command.subscriber_id, command.facts, held, now)

    def answer(versions: tuple[int, ...]) -> SubscriptionAnswer:
        return Observed(_after(held, appends, versions))

    return Decision(tuple(appends), answer)


def _news(subscriber_id: str, reported: Sequence[SubscriptionFact], held: Subscriber, now: datetime) -> list[Append]:
    """What of the facts says something new."""
    appends: list[Append] = []
    facts = {name: subscription.facts for name, subscription in held.subscriptions.items()}
    for fact in reported:
        before = facts.get(fact.request_id)
        if before is None or (after := with_fact(before, fact)) == before:
            continue
        facts[fact.request_id] = after
        payload = SubscriptionObserved(owner_id=subscriber_id, fact=fact)
        event = Event(derived_id(fact.event_id, f"{fact.kind}:{fact.object_id}"), now, subscriber_id, payload)
        appends.append(Append(SUBSCRIPTION_CREATED, subscriber_id, event))
    return appends


def _after(held: Subscriber, appends: Sequence[Append], versions: Sequence[int]) -> Subscriber:
    for append, version in zip(appends, versions, strict=True):
        held = subscriber_after(held, append.event, version) or held
    return held


def _refund(command: RefundBill, held: Subscriber, now: datetime) -> Decision[SubscriptionAnswer]:
    """Never more than what was paid, of all refunds of a bill together."""
    subscription = held.subscriptions.get(command.subscription_id)
    if subscription is None:
        return _answer(Unknown())
    known = subscription.refund(command.refund_id)
    if known is not None:
        same = known.body_digest == command.body_digest
        return _answer(SubscriptionStands(held, subscription, replayed=True) if same else IdempotencyConflict())
    bills = subscription.bills
    bill = next((bill for bill in bills if command.bill_id in (None, bill.object_id)), None)
    if bill is None:
        return _answer(Unknown())
    left = subscription.refundable_minor(bill)
    amount = left if command.amount_minor is None else command.amount_minor
    if not 0 < amount <= left or len(subscription.refunds) >= REFUNDS:
        return _answer(NotRefundable(left, bill.currency))
    return _recorded(command.refund_id, BillRefundRequested(
        refund_id=command.refund_id, subscription_id=command.subscription_id, subscriber_id=command.subscriber_id,
        bill_id=bill.object_id, amount_minor=amount, reason=command.reason, requested_by=command.requested_by,
        stops_renewal=bill is bills[0] and amount == left, body_digest=command.body_digest,
    ), held, now)


def _answered(command: AnswerBillRefund, held: Subscriber, now: datetime) -> Decision[SubscriptionAnswer]:
    """The facts first: whoever sees the refund made sees what came back."""
    subscription = held.subscriptions.get(command.subscription_id)
    if subscription is None:
        return _answer(Unknown())
    appends = _news(command.subscriber_id, command.facts, held, now)
    refund = subscription.refund(command.refund_id)
    if refund is not None and refund.made is None:
        payload = BillRefundAnswered(
            refund_id=command.refund_id, subscription_id=command.subscription_id, subscriber_id=command.subscriber_id,
            made=command.made,
        )
        event = Event(derived_id(command.refund_id, "answered"), now, command.subscriber_id, payload)
        appends.append(Append(SUBSCRIPTION_CREATED, command.subscriber_id, event))

    def answer(versions: tuple[int, ...]) -> SubscriptionAnswer:
        after = _after(held, appends, versions)
        return SubscriptionStands(after, after.subscriptions[command.subscription_id], replayed=not appends)

    return Decision(tuple(appends), answer)


def _recorded(
    event_id: str, payload: Any, held: Subscriber, now: datetime, *, upgrade: bool = False
) -> Decision[SubscriptionAnswer]:
    event = Event(event_id, now, payload.subscriber_id, payload)

    def answer(versions: tuple[int, ...]) -> SubscriptionAnswer:
        after = subscriber_after(held, event, versions[0])
        assert after is not None
        return SubscriptionStands(
            after, after.subscriptions[payload.subscription_id], replayed=False, now=upgrade, version=versions[0]
        )

    return Decision((Append(SUBSCRIPTION_CREATED, event.key, event),), answer)


def _answer(answer: SubscriptionAnswer) -> Decision[SubscriptionAnswer]:
    return Decision((), lambda versions: answer)

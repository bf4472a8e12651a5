"""Routes of subscribers: subscribe, change, cancel, resume; and the lists of both sides."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec
from fastapi import APIRouter

from actors.subscriptions.commands import (
    Cancel,
    Change,
    ChangeMethod,
    Find,
    IdempotencyConflict,
    NotPossible,
    Observe,
    Resume,
    SubscriptionStands,
)
from configs.contracts.events.subscriptions import Terms
from configs.contracts.ids import derived_id
from configs.contracts.money import format_amount
from configs.contracts.payment_facts import MONTHS, Interval
from configs.contracts.payments import ChangeSubscription, HostedForm, PaymentDeclined, Started
from configs.contracts.read_model import MARKER, listing_keys, read_versioned, relation_key
from configs.contracts.subscribers import SubscriptionEntry
from configs.contracts.subscriptions import Subscription
from serve_apps.dependencies import Dependencies
from serve_apps.fields import body_digest
from serve_apps.identity import Deps, Person
from serve_apps.pages import Cursor, Limit
from serve_apps.payments.parties import method_of
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end
from serve_apps.subscriptions.checkout import WRONG, begin, for_sale, limited, observed, price_of, processor_of, shown
from serve_apps.subscriptions.models import (
    ChangeBody,
    CheckoutView,
    MethodBody,
    MoneyKey,
    SubscribeBody,
    Subscribers,
    SubscriberView,
    SubscriptionIdPath,
    Subscriptions,
    SubscriptionView,
)

router = APIRouter(prefix="/subscriptions", tags=["subscriptions"])

_ENTRIES: Final = msgspec.json.Decoder(SubscriptionEntry)
PAYING: Final = (
    *SIGNED_IN, "idempotency_conflict", "not_found", "payments_off", "payment_declined", "payment_refused",
)
Requested = Change | ChangeMethod | Cancel | Resume


@router.post(
    "", operation_id="subscribe", status_code=201, response_model=CheckoutView,
    responses=errors(
        *PAYING, *WITH_BODY, "self_target", "already_subscribed", "creator_not_payable", "payment_method_invalid", "not_offered",
        "payment_method_currency", "promo_code_invalid", "promo_code_exhausted", "trial_used",
    ),
)
async def subscribe(body: SubscribeBody, person: Person, dependencies: Deps, idempotency_key: MoneyKey) -> CheckoutView:
    """Subscribes to a creator's tier. Access begins when the processor says that it is paid, or the trial runs.

    With a `clientSecret` the payer confirms first, at a `paymentUrl` they pay. The same request again goes on where the first one stopped.
    """
    subscription, started = await to_the_end(begin(
        dependencies, person.user_id, body, idempotency_key, body_digest(dependencies.seals.key, body)
    ))
    return _checkout(dependencies, subscription, started)


def _checkout(dependencies: Dependencies, subscription: Subscription, started: Started | HostedForm | None) -> CheckoutView:
    livemode = subscription.livemode
    form = started if isinstance(started, HostedForm) else None
    return CheckoutView(
        id=subscription.subscription_id, status=subscription.status_at(datetime.now(UTC)),
        client_secret=started.client_secret if isinstance(started, Started) else None,
        payment_url=None if form is None else form.url, payment_url_expires_at=None if form is None else form.expires_at.astimezone(UTC),
        livemode=not dependencies.settings.payments.in_test_mode if livemode is None else livemode,
    )


@router.get("", operation_id="listSubscriptions", response_model=Subscriptions, responses=errors(*SIGNED_IN, "cursor_invalid"))
async def list_subscriptions(person: Person, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None) -> Subscriptions:
    """One's own subscriptions, newest first, ended ones among them."""
    page = await dependencies.listings.page("sub", person.user_id, limit, cursor)
    return Subscriptions(
        subscriptions=[_view(_ENTRIES.decode(value)) for _, value in page.entries], next_cursor=page.next_cursor
    )


def _view(entry: SubscriptionEntry) -> SubscriptionView:
    return SubscriptionView(
        subscription_id=entry.subscription_id, creator_id=entry.creator_id, tier_id=entry.tier_id, tier_name=entry.tier_name,
        status=entry.status_at(datetime.now(UTC)), interval=entry.interval,
        interval_count=entry.interval_count, amount=format_amount(entry.amount_minor, entry.currency), currency=entry.currency,
        current_period_start=entry.period_start, current_period_end=entry.period_end, entitled_until=entry.entitled_until,
        cancel_at_period_end=entry.cancel_at_period_end, next_tier_id=entry.next_tier_id, livemode=entry.livemode,
        created_at=entry.requested_at,
    )


@router.get(
    "/subscribers", operation_id="listSubscribers", response_model=Subscribers, responses=errors(*SIGNED_IN, "cursor_invalid")
)
async def list_subscribers(person: Person, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None) -> Subscribers:
    """Who subscribes to one now, newest first: the newest 10,000. A page may be short: blocked people are left out."""
    page = await dependencies.listings.page("fan", person.user_id, limit, cursor)
    now = datetime.now(UTC)
    entries = [entry for _, value in page.entries if (entry := _ENTRIES.decode(value)).status_at(now) != "expired"]
    people = await dependencies.people.unblocked(person.user_id, [entry.subscriber_id for entry in entries])
    return Subscribers(
        subscribers=[
            SubscriberView(
                user_id=entry.subscriber_id, display_name=people[entry.subscriber_id].display_name,
                subscription_id=entry.subscription_id, tier_id=entry.tier_id, tier_name=entry.tier_name,
                status=entry.status_at(now), cancel_at_period_end=entry.cancel_at_period_end,
                current_period_end=entry.period_end, subscribed_at=entry.requested_at,
            )
            for entry in entries if entry.subscriber_id in people
        ],
        next_cursor=page.next_cursor,
    )


@router.get(
    "/{id}", operation_id="getSubscription", response_model=SubscriptionView, responses=errors(*SIGNED_IN, "not_found")
)
async def get_subscription(subscription_id: SubscriptionIdPath, person: Person, dependencies: Deps) -> SubscriptionView:
    """One of one's own subscriptions, as it stands now."""
    _, entries = listing_keys("sub", person.user_id)
    _, value = await dependencies.people.sets(
        person.user_id, ("HMGET", relation_key(person.user_id), MARKER), ("HGET", entries, subscription_id), marked=(0,)
    )
    if value is None:
        raise Refused("not_found")
    return _view(_ENTRIES.decode(read_versioned(value)[1]))


@router.put(
    "/{id}", operation_id="changeSubscription", response_model=CheckoutView,
    responses=errors(*PAYING, *WITH_BODY, "subscription_not_active", "creator_not_payable", "same_tier", "not_offered"),
)
async def change(
    subscription_id: SubscriptionIdPath, body: ChangeBody, person: Person, dependencies: Deps, idempotency_key: MoneyKey
) -> CheckoutView:
    """Changes to another tier of the creator, or to a longer time that is paid for at once, at the present price.

    To a higher one, or a longer time, that costs no less now: the difference is charged, a trial ends, and access rises when
    that is paid. To a lower or cheaper one from the next period on. Nothing changes while a payment for what runs is given
    back or disputed.
    """
    digest = body_digest(dependencies.seals.key, _change_digested(subscription_id, body))
    request_id = derived_id(person.user_id, f"change {idempotency_key}")
    found = await dependencies.subscriptions.ask(
        Find(subscriber_id=person.user_id, request_id=request_id, body_digest=digest)
    )
    if isinstance(found, SubscriptionStands):
        return _checkout(dependencies, *await to_the_end(_changed(dependencies, found, request_id, body)))
    if isinstance(found, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    await limited(dependencies, person.user_id)
    subscription = await _by_call(dependencies, person.user_id, subscription_id)
    if subscription is None:
        raise Refused("not_found")
    _, tier, _ = await for_sale(
        dependencies, await processor_of(dependencies, subscription), person.user_id, body.tier_id, subscription.creator_id
    )
    current = subscription.current_terms
    interval, count = _paid_at_once(body) or (current.interval, current.interval_count)
    amount_minor = tier.price_minor(interval, count)
    if amount_minor is None:
        raise Refused("not_offered", offer="interval" if count == 1 else "bundle")
    answer = await to_the_end(_asked(dependencies, Change(
        subscriber_id=person.user_id, request_id=request_id, body_digest=digest, subscription_id=subscription_id,
        terms=Terms(
            tier_id=tier.tier_id, rank=tier.rank, tier_name=tier.name, revision=tier.revision, interval=interval,
            amount_minor=amount_minor, currency=tier.currency, interval_count=count,
        ),
    )))
    return _checkout(dependencies, *await to_the_end(_changed(dependencies, answer, request_id, body)))


def _paid_at_once(body: ChangeBody) -> tuple[Interval, int] | None:
    """(interval, how many of it); None: as it is now."""
    if body.bundle_months is not None:
        return "month", body.bundle_months
    return None if body.interval is None else (body.interval, 1)


def _change_digested(subscription_id: str, body: ChangeBody) -> str:
    """What two requests under one key must have in common."""
    return subscription_id + body.tier_id + (body.interval or "") + (f"{body.bundle_months}" if body.bundle_months else "")


@router.put(
    "/{id}/payment-method", operation_id="changeSubscriptionPaymentMethod", response_model=CheckoutView,
    responses=errors(*PAYING, *WITH_BODY, "subscription_not_active", "payment_method_invalid", "payment_method_currency"),
)
async def change_method(
    subscription_id: SubscriptionIdPath, body: MethodBody, person: Person, dependencies: Deps, idempotency_key: MoneyKey
) -> CheckoutView:
    """Takes the next payments of a running subscription from another of one's payment methods.

    What is past due is tried with it at once. Declined (402): the method is changed, and is tried again as the old one
    would have been. The same request again goes on where the first one stopped.
    """
    digest = body_digest(dependencies.seals.key, subscription_id + body.payment_method_id)
    request_id = derived_id(person.user_id, f"method {idempotency_key}")
    found = await dependencies.subscriptions.ask(
        Find(subscriber_id=person.user_id, request_id=request_id, body_digest=digest)
    )
    if isinstance(found, SubscriptionStands):
        return _checkout(dependencies, *await to_the_end(_paid_with(dependencies, found, request_id, body.payment_method_id)))
    if isinstance(found, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    await limited(dependencies, person.user_id)
    subscription = await _by_call(dependencies, person.user_id, subscription_id)
    if subscription is None:
        raise Refused("not_found")
    if subscription.observed is None or subscription.status_at(datetime.now(UTC)) not in ("trialing", "active", "past_due"):
        raise Refused("subscription_not_active")
    await method_of(
        dependencies, await processor_of(dependencies, subscription), person.user_id, body.payment_method_id,
        subscription.current_terms.currency,
    )
    answer = await to_the_end(_asked(dependencies, ChangeMethod(
        subscriber_id=person.user_id, request_id=request_id, body_digest=digest, subscription_id=subscription_id,
        payment_method_id=body.payment_method_id,
    )))
    return _checkout(dependencies, *await to_the_end(_paid_with(dependencies, answer, request_id, body.payment_method_id)))


async def _paid_with(
    dependencies: Dependencies, answer: SubscriptionStands, request_id: str, method_id: str
) -> tuple[Subscription, Started | None]:
    """Tells the processor what was recorded, unless a later wish has overtaken it."""
    subscription = answer.subscription
    if subscription.payment_method_id != method_id or subscription.parted:
        return subscription, None
    provider = await processor_of(dependencies, subscription)
    try:
        started = await provider.pay_with(request_id, subscription.provider_id or "", method_id)
    except PaymentDeclined as error:
        raise Refused("payment_declined") from error
    except WRONG as error:
        raise Refused("payment_refused") from error
    return await observed(dependencies, subscription, started), started


async def _by_call(dependencies: Dependencies, subscriber_id: str, subscription_id: str) -> Subscription | None:
    """One's own subscription, before anything is recorded; None: there is none.

    Raises Refused: its processor changes nothing by call, and the payer does so on its pages.
    """
    held = (await dependencies.subscriptions.observe(Observe(subscriber_id=subscriber_id, facts=()))).subscriber
    subscription = None if held is None else held.subscriptions.get(subscription_id)
    if subscription is not None and subscription.observed is not None:
        provider = await processor_of(dependencies, subscription)
        if not provider.capabilities.change_subscription:
            pages = dependencies.settings.payments.hosted_form.payer_pages_url
            raise Refused("payment_refused", **({"payerPages": pages} if pages else {}))
    return subscription


async def _asked(dependencies: Dependencies, command: Requested) -> SubscriptionStands:
    """Makes the wish durable and shows it. Raises Refused."""
    answer = await dependencies.subscriptions.ask(command)
    if isinstance(answer, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    if isinstance(answer, NotPossible):
        raise Refused(answer.code, **({"offer": "interval"} if answer.code == "not_offered" else {}))
    if not isinstance(answer, SubscriptionStands):
        raise Refused("not_found")
    await shown(dependencies, answer.subscriber, answer.subscription.subscription_id)
    return answer


async def _changed(
    dependencies: Dependencies, answer: SubscriptionStands, request_id: str, body: ChangeBody
) -> tuple[Subscription, Started | None]:
    """Asks the processor for what was recorded, unless it is in force, or was overtaken by a later wish.

    Raises Refused: the difference was not paid; the tier stays as it was.
    """
    subscription = answer.subscription
    wanted = _paid_at_once(body)
    months = None if wanted is None else MONTHS[wanted[0]] * wanted[1]
    terms, name = subscription.terms_of(body.tier_id, months), subscription.provider_id
    overtaken = not subscription.changes or subscription.changes[-1] != terms
    if answer.replayed and (overtaken or subscription.current_terms == terms):
        return subscription, None
    if terms is None or name is None or subscription.parted:
        raise Refused("subscription_not_active")
    provider = await processor_of(dependencies, subscription)
    try:
        started = await provider.change(ChangeSubscription(
            request_id=request_id, subscription_id=name, price=price_of(terms), now=answer.now
        ))
    except PaymentDeclined as error:
        raise Refused("payment_declined") from error
    except WRONG as error:
        raise Refused("payment_refused") from error
    after = await observed(dependencies, subscription, started)
    if started.status == "failed":
        raise Refused("payment_declined")
    return after, started


@router.delete(
    "/{id}", operation_id="cancelSubscription", response_model=CheckoutView, responses=errors(*PAYING, "subscription_not_active")
)
async def cancel(
    subscription_id: SubscriptionIdPath, person: Person, dependencies: Deps, idempotency_key: MoneyKey
) -> CheckoutView:
    """Ends a subscription with what is paid for: access stays until then, and nothing more is charged.

    One that is past due ends at once, and its open bill is not tried again.
    """
    request_id = derived_id(person.user_id, f"cancel {idempotency_key}")
    return await to_the_end(_renewal(dependencies, Cancel(
        subscriber_id=person.user_id, request_id=request_id, subscription_id=subscription_id,
        body_digest=body_digest(dependencies.seals.key, subscription_id),
    )))


@router.post(
    "/{id}/resume", operation_id="resumeSubscription", response_model=CheckoutView,
    responses=errors(*PAYING, "subscription_not_active"),
)
async def resume(
    subscription_id: SubscriptionIdPath, person: Person, dependencies: Deps, idempotency_key: MoneyKey
) -> CheckoutView:
    """Takes a cancellation back while the period runs. A subscription that a block or an account's end stopped stays so."""
    request_id = derived_id(person.user_id, f"resume {idempotency_key}")
    return await to_the_end(_renewal(dependencies, Resume(
        subscriber_id=person.user_id, request_id=request_id, subscription_id=subscription_id,
        body_digest=body_digest(dependencies.seals.key, subscription_id),
    )))


async def _renewal(dependencies: Dependencies, command: Cancel | Resume) -> CheckoutView:
    await _by_call(dependencies, command.subscriber_id, command.subscription_id)
    subscription = (await _asked(dependencies, command)).subscription
    name = subscription.provider_id
    if name is None:
        raise Refused("subscription_not_active")
    provider = await processor_of(dependencies, subscription)
    newest = subscription.wish is None or subscription.wish.cancel == isinstance(command, Cancel)
    if not newest:
        # A repetition of a request that another one has taken back since.
        return _checkout(dependencies, subscription, None)
    try:
        call = provider.cancel_at_period_end if isinstance(command, Cancel) else provider.resume
        started = await call(command.request_id, name)
    except WRONG as error:
        raise Refused("payment_refused") from error
    return _checkout(dependencies, await observed(dependencies, subscription, started), None)

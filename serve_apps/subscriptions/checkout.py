"""Subscribing: durable first, then what is taken of the creator's shop, then the processor, under ids that a repetition makes again."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from actors.subscriptions.commands import (
    Abandon,
    AlreadySubscribed,
    Find,
    IdempotencyConflict,
    Observe,
    Subscribe,
    SubscriptionStands,
)
from actors.tiers.commands import Redeem, Refusal, Release
from configs.contracts.events.subscriptions import Terms
from configs.contracts.ids import derived_id
from configs.contracts.payment_facts import SubscriptionFact, SubscriptionState
from configs.contracts.payments import (
    CapabilityMissing,
    Discount,
    HostedForm,
    ObjectUnknown,
    PaymentDeclined,
    PaymentMethod,
    PaymentProvider,
    Price,
    ProviderRefused,
    ProviderUnavailable,
    RequestConflict,
    Started,
)
from configs.contracts.payments import Subscribe as ProviderSubscribe
from configs.contracts.selling import put_shop, subscribed
from configs.contracts.subscribers import Subscriber
from configs.contracts.subscriptions import Subscription
from configs.contracts.tiers import Shop, Tier
from serve_apps.dependencies import Dependencies
from serve_apps.limits import Rate
from serve_apps.payments.parties import (
    HOUR_S,
    form_of,
    in_the_way,
    parties_of,
    payee_of,
    payer_at,
    provider_of,
    same_kind,
)
from serve_apps.problems import Refused
from serve_apps.subscriptions.models import SubscribeBody

CHECKOUT_S: Final = 1_800
"""For so long price, currency and payee of a checkout hold (SPEC section 7)."""
LAST_CALL: Final = timedelta(minutes=1)
"""Before a checkout's end: so late no call begins that would charge after it."""
FEE_PERCENT: Final = 20
"""What the platform keeps (SPEC section 7)."""
WRONG: Final = (ProviderRefused, RequestConflict, CapabilityMissing, ObjectUnknown)
"""The processor will not do it, however often it is asked."""


async def begin(
    dependencies: Dependencies, user_id: str, body: SubscribeBody, key: str, digest: str
) -> tuple[Subscription, Started | HostedForm | None]:
    """The subscription after the request, and how its call to the processor went, or where the payer pays.

    None: there was nothing left to call.

    Raises Refused; ProviderUnavailable: durable, the same request goes on where this one stopped.
    """
    request_id = derived_id(user_id, f"subscribe {key}")
    found = await dependencies.subscriptions.ask(
        Find(subscriber_id=user_id, request_id=request_id, body_digest=digest)
    )
    if isinstance(found, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    provider = await provider_of(dependencies)
    if isinstance(found, SubscriptionStands):
        spare = timedelta(0) if provider.capabilities.hosted_form else LAST_CALL
        if found.subscription.status_at(datetime.now(UTC) + spare) != "incomplete":
            await _as_before(dependencies, provider, found.subscription)
            return found.subscription, None
        same_kind(provider, found.subscription.payment_method_id)
        subscription = found.subscription
        customer, method = await payer_at(dependencies, provider, user_id, body.payment_method_id, subscription.terms.currency)
    else:
        await limited(dependencies, user_id)
        shop, tier, account_id = await for_sale(dependencies, provider, user_id, body.tier_id)
        if body.trial and not provider.capabilities.saved_payment_methods:
            # One trial an instrument cannot be kept where the instrument is never known.
            raise Refused("not_offered", offer="trial")
        terms = _terms(shop, tier, body, datetime.now(UTC))
        customer, method = await payer_at(dependencies, provider, user_id, body.payment_method_id, terms.currency)
        answer = await dependencies.subscriptions.subscribe(Subscribe(
            subscriber_id=user_id, request_id=request_id, body_digest=digest, creator_id=shop.creator_id,
            account_id=account_id, payment_method_id="" if method is None else method.payment_method_id, terms=terms,
            checkout_s=CHECKOUT_S,
        ))
        if isinstance(answer, IdempotencyConflict):
            raise Refused("idempotency_conflict")
        if isinstance(answer, AlreadySubscribed):
            raise Refused("already_subscribed", subscriptionId=answer.subscription_id)
        subscription = answer.subscription
        await shown(dependencies, answer.subscriber, subscription.subscription_id)
    await _take_offers(dependencies, subscription, method)
    return await _call(dependencies, provider, subscription, customer)


async def limited(dependencies: Dependencies, user_id: str) -> None:
    """Counts a checkout. Raises Refused: too many in an hour."""
    limit = dependencies.settings.limits.checkouts_per_user_an_hour
    await dependencies.limits.take((Rate("checkout", limit, HOUR_S), user_id))


async def _as_before(dependencies: Dependencies, provider: PaymentProvider, subscription: Subscription) -> None:
    """Raises Refused: the checkout was refused, and is again for the same reason."""
    if subscription.status == "expired" and subscription.abandoned == "provider_refused":
        raise await _refused(dependencies, provider, subscription)
    offer = "promo_code_exhausted" if subscription.terms.promo_id is not None else "trial_used"
    codes = {"declined": "payment_declined", "offer_refused": offer}
    if subscription.status == "expired" and subscription.abandoned in codes:
        raise Refused(codes[subscription.abandoned])


async def for_sale(
    dependencies: Dependencies, provider: PaymentProvider, user_id: str, tier_id: str, creator_id: str | None = None
) -> tuple[Shop, Tier, str]:
    """(shop, tier, payee's account). ``creator_id``: of this creator only.

    Raises Refused: not to be seen, not for sale, not payable.
    """
    found = await dependencies.shops.tier(tier_id)
    if found is None or creator_id not in (None, found[0].creator_id):
        raise Refused("not_found")
    shop, tier = found
    if shop.creator_id == user_id:
        raise Refused("self_target")
    creator = await dependencies.people.visible(user_id, shop.creator_id)
    if creator is None or not tier.for_sale:
        raise Refused("not_found")
    return shop, tier, await payee_of(dependencies, provider, shop.creator_id, creator)


def _terms(shop: Shop, tier: Tier, body: SubscribeBody, now: datetime) -> Terms:
    """What is agreed, from our own records. Raises Refused: something that was asked for is not offered."""
    count = body.bundle_months or 1
    amount_minor = tier.price_minor(body.interval, count)
    if amount_minor is None:
        raise Refused("not_offered", offer="interval" if body.bundle_months is None else "bundle")
    if body.trial and not tier.trial_days:
        raise Refused("not_offered", offer="trial")
    percent, months, promo_id = 0, None, None
    if body.promo_code is not None:
        promo = shop.promo_of_code(body.promo_code)
        refused = "promo_code_invalid" if promo is None else promo.refusal(tier.tier_id, now)
        if promo is None or refused is not None:
            raise Refused(refused or "promo_code_invalid")
        percent, months, promo_id = promo.percent, promo.months, promo.promo_id
    return Terms(
        tier_id=tier.tier_id, rank=tier.rank, tier_name=tier.name, revision=tier.revision, interval=body.interval,
        amount_minor=amount_minor, currency=tier.currency, interval_count=count, trial_days=tier.trial_days if body.trial else 0,
        percent_off=percent, months_off=months, promo_id=promo_id,
    )


async def _take_offers(dependencies: Dependencies, subscription: Subscription, method: PaymentMethod | None) -> None:
    """Takes a redemption and the instrument's trial in the creator's shard. Raises Refused: there is none left."""
    terms = subscription.terms
    if terms.promo_id is None and not terms.trial_days:
        return
    answer = await dependencies.tiers.redeem(Redeem(
        creator_id=subscription.creator_id, subscription_id=subscription.subscription_id,
        subscriber_id=subscription.subscriber_id, tier_id=terms.tier_id, promo_id=terms.promo_id,
        instrument=_instrument(method.fingerprint) if method is not None and terms.trial_days else None,
    ))
    if isinstance(answer, Refusal):
        await _abandon(dependencies, subscription, "offer_refused")
        raise Refused(answer.code)
    if answer.shop is not None:
        await dependencies.write_through.apply(*put_shop(answer.shop))


def _instrument(fingerprint: str) -> str:
    return hashlib.blake2b(fingerprint.encode(), digest_size=16, person=b"instrument").hexdigest()


def price_of(terms: Terms) -> Price:
    """What the processor is told that a tier costs; its discount is told apart."""
    return Price(
        tier_id=terms.tier_id, revision=terms.revision, name=terms.tier_name, interval=terms.interval,
        amount_minor=terms.amount_minor, currency=terms.currency, interval_count=terms.interval_count,
    )


async def _call(
    dependencies: Dependencies, provider: PaymentProvider, subscription: Subscription, customer: str
) -> tuple[Subscription, Started | HostedForm]:
    terms, discount = subscription.terms, None
    if terms.percent_off:
        bundle = derived_id(terms.tier_id, f"bundle {terms.months_off} {terms.percent_off}")
        discount = Discount(promo_id=terms.promo_id or bundle, percent=terms.percent_off, months=terms.months_off)
    request = ProviderSubscribe(
        request_id=subscription.subscription_id, subscriber_id=subscription.subscriber_id, creator_id=subscription.creator_id,
        customer_id=customer, payment_method_id=subscription.payment_method_id, account_id=subscription.account_id,
        price=price_of(terms), fee_percent=FEE_PERCENT, trial_days=terms.trial_days, discount=discount,
    )
    if provider.capabilities.hosted_form:
        return subscription, await form_of(dependencies, provider, request, subscription.checkout_until)
    try:
        started = await provider.subscribe(request)
    except PaymentDeclined as error:
        await _give_up(dependencies, subscription, "declined")
        raise Refused("payment_declined") from error
    except WRONG as error:
        await _give_up(dependencies, subscription, "provider_refused")
        raise await _refused(dependencies, provider, subscription) from error
    after = await observed(dependencies, subscription, started)
    if started.status == "failed":
        # The processor keeps a subscription that waits for another card; this platform begins a new checkout instead.
        ended = await provider.end_now(derived_id(subscription.subscription_id, "declined"), started.object_id)
        await _give_back(dependencies, subscription)
        await observed(dependencies, subscription, ended)
        await _abandon(dependencies, subscription, "declined")
        raise Refused("payment_declined")
    return after, started


async def _refused(dependencies: Dependencies, provider: PaymentProvider, subscription: Subscription) -> Refused:
    """What the payer is told of a checkout that the processor refused: what they can do about it, as far as that is known."""
    currency = subscription.terms.currency
    customer = (await parties_of(dependencies, subscription.subscriber_id)).customer(provider.name, currency)
    if await in_the_way(provider, customer, currency):
        return Refused("payment_method_currency", currency=currency)
    return Refused("payment_refused")


async def observed(dependencies: Dependencies, subscription: Subscription, started: Started) -> Subscription:
    """Records what the processor's answer proves, and shows it; the subscription after that."""
    facts = tuple(fact for fact in started.facts if isinstance(fact, SubscriptionFact))
    if started.status == "succeeded":
        facts += await _bill(dependencies, facts)
    if not facts:
        return subscription
    answer = await dependencies.subscriptions.observe(Observe(subscriber_id=subscription.subscriber_id, facts=facts))
    if answer.subscriber is None:
        return subscription
    await shown(dependencies, answer.subscriber, subscription.subscription_id)
    return answer.subscriber.subscriptions.get(subscription.subscription_id, subscription)


async def _bill(dependencies: Dependencies, facts: tuple[SubscriptionFact, ...]) -> tuple[SubscriptionFact, ...]:
    """What the processor says of the newest bill, so that what is paid opens at once; without answer a webhook tells it."""
    state = next((fact for fact in facts if isinstance(fact, SubscriptionState)), None)
    if state is None or state.latest_invoice_id is None:
        return ()
    try:
        found = await (await dependencies.providers.named(state.provider)).observe(state.latest_invoice_id)
    except (ProviderUnavailable, *WRONG):
        return ()
    return tuple(fact for fact in found if isinstance(fact, SubscriptionFact))


async def processor_of(dependencies: Dependencies, subscription: Subscription) -> PaymentProvider:
    """The processor that has the subscription, whoever takes new payments. Raises Refused: it is off here, or none has it."""
    seen = subscription.observed
    if seen is None:
        raise Refused("subscription_not_active")
    if seen.provider not in dependencies.providers.names:
        raise Refused("payments_off")
    return await dependencies.providers.named(seen.provider)


async def _give_up(
    dependencies: Dependencies, subscription: Subscription, reason: Literal["declined", "provider_refused"]
) -> None:
    """Gives back what the checkout took, and ends it."""
    await _give_back(dependencies, subscription)
    await _abandon(dependencies, subscription, reason)


async def _give_back(dependencies: Dependencies, subscription: Subscription) -> None:
    if subscription.terms.promo_id is not None or subscription.terms.trial_days:
        answer = await dependencies.tiers.release(Release(
            creator_id=subscription.creator_id, subscription_id=subscription.subscription_id
        ))
        if answer.shop is not None:
            await dependencies.write_through.apply(*put_shop(answer.shop))


async def _abandon(
    dependencies: Dependencies, subscription: Subscription, reason: Literal["declined", "offer_refused", "provider_refused"]
) -> None:
    answer = await dependencies.subscriptions.ask(Abandon(
        subscriber_id=subscription.subscriber_id, subscription_id=subscription.subscription_id, reason=reason
    ))
    if isinstance(answer, SubscriptionStands):
        await shown(dependencies, answer.subscriber, subscription.subscription_id)


async def shown(dependencies: Dependencies, subscriber: Subscriber, subscription_id: str) -> None:
    """The read model's share of a change."""
    held = subscriber.subscriptions.get(subscription_id)
    if held is not None:
        await dependencies.write_through.apply(*subscribed(held.subscriber_id, subscriber, (subscription_id,)))

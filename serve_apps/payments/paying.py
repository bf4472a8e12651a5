"""Tips and pay-per-view purchases: durable first, then the processor, under an id that a repetition makes again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Path
from pydantic import Field, StrictStr

from actors.payments.commands import (
    Abandon,
    AlreadyBought,
    Find,
    IdempotencyConflict,
    Observe,
    PaymentStands,
    RequestPayment,
    Unknown,
)
from configs.contracts.adults import AGE_UNVERIFIED
from configs.contracts.ids import derived_id
from configs.contracts.money import EXPONENTS, format_amount, parse_amount, share_of
from configs.contracts.payments import HostedForm, Pay, PaymentDeclined, PaymentProvider, Started
from configs.contracts.purchases import Payment, PaymentStatus, SingleFact
from configs.contracts.selling import bought
from serve_apps.dependencies import Dependencies
from serve_apps.fields import UUID_PATTERN, Answer, Body, Text, Time, UserIdText, body_digest
from serve_apps.identity import Deps, Person
from serve_apps.payments.parties import form_of, parties_of, payee_of, payer_at, provider_of, same_kind
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end
from serve_apps.subscriptions.checkout import CHECKOUT_S, FEE_PERCENT, WRONG, limited
from serve_apps.subscriptions.models import Amount, Currency, MoneyKey

router = APIRouter(prefix="/payments", tags=["payments"])

MethodId = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
PostIdPath = Annotated[str, Path(alias="postId", pattern=UUID_PATTERN, description="a post's id")]
PaymentIdPath = Annotated[str, Path(alias="id", pattern=UUID_PATTERN, description="a payment's id")]
PAYING: Final = (
    *SIGNED_IN, *WITH_BODY, "idempotency_conflict", "not_found", "self_target", "creator_not_payable", "payments_off",
    "payment_declined", "payment_refused", "payment_method_invalid",
)


class TipBody(Body):
    """A tip in the creator's currency. Without a payment method the chosen one is charged, or the payer pays at ``paymentUrl``."""

    to_user_id: UserIdText
    amount: Amount
    currency: Currency
    payment_method_id: MethodId | None = None
    message: Annotated[Text, Field(min_length=1, max_length=300)] | None = None


class PurchaseBody(Body):
    """What the post costs, and to whom it goes, is known: it is never the client's to say.

    Without a payment method the chosen one is charged.
    """

    payment_method_id: MethodId | None = None


class PaymentView(Answer):
    """How a payment went so far. With ``clientSecret`` the payer confirms, at ``paymentUrl`` they pay; the status follows."""

    id: str
    status: PaymentStatus
    amount: str
    currency: str
    client_secret: str | None = None
    payment_url: str | None = None
    payment_url_expires_at: Time | None = None
    livemode: bool
    created_at: Time


@router.post("/tips", operation_id="tip", status_code=201, response_model=PaymentView, responses=errors(*PAYING, "amount_invalid", "currency_mismatch"))
async def tip(body: TipBody, person: Person, dependencies: Deps, idempotency_key: MoneyKey) -> PaymentView:
    """Gives a creator money. The same request again goes on where the first one stopped."""
    payment_id, digest = _named(dependencies, person.user_id, "tip", idempotency_key, "", body)

    async def terms(provider: PaymentProvider) -> RequestPayment:
        amount = _amount(dependencies, body)
        creator = await dependencies.people.visible(person.user_id, body.to_user_id)
        if creator is None:
            raise Refused("not_found")
        shop = await dependencies.shops.of(body.to_user_id)
        if shop is not None and shop.currency not in (None, body.currency):
            raise Refused("currency_mismatch", currency=shop.currency)
        account = await payee_of(dependencies, provider, body.to_user_id, creator)
        return _request(
            person.user_id, payment_id, digest, payee_id=body.to_user_id, purpose="tip", post_id=None, amount_minor=amount,
            currency=body.currency, account_id=account, method_id=body.payment_method_id or "", message=body.message,
        )

    if body.to_user_id == person.user_id:
        raise Refused("self_target")
    return await to_the_end(_paid(dependencies, person.user_id, payment_id, digest, terms))


@router.post(
    "/posts/{postId}/purchase", operation_id="purchasePost", status_code=201, response_model=PaymentView,
    responses=errors(*PAYING, "already_bought", "not_for_sale", AGE_UNVERIFIED),
)
async def purchase(
    post_id: PostIdPath, body: PurchaseBody, person: Person, dependencies: Deps, idempotency_key: MoneyKey
) -> PaymentView:
    """Buys a pay-per-view post for good. It opens when the processor says that it is paid."""
    payment_id, digest = _named(dependencies, person.user_id, "purchase", idempotency_key, post_id, body)

    async def terms(provider: PaymentProvider) -> RequestPayment:
        seen = await dependencies.contents.one(person.user_id, post_id)
        record = seen.record
        if seen.own:
            raise Refused("self_target")
        if seen.access == "verify_age":
            raise Refused(AGE_UNVERIFIED)
        if record.visibility != "ppv":
            raise Refused("not_for_sale")
        if seen.access == "open":
            raise Refused("already_bought")
        if not record.for_sale or record.currency is None or not seen.whole:
            raise Refused("not_for_sale")
        account = await payee_of(dependencies, provider, record.creator_id, seen.creator)
        return _request(
            person.user_id, payment_id, digest, payee_id=record.creator_id, purpose="post", post_id=post_id,
            amount_minor=record.price_minor, currency=record.currency, account_id=account, method_id=body.payment_method_id or "",
            message=None,
        )

    return await to_the_end(_paid(dependencies, person.user_id, payment_id, digest, terms))


@router.get("/requests/{id}", operation_id="getPayment", response_model=PaymentView, responses=errors(*SIGNED_IN, "not_found"))
async def get_payment(payment_id: PaymentIdPath, person: Person, dependencies: Deps) -> PaymentView:
    """One of one's own tips and purchases as it is now; while it is pending, ask again."""
    found = await dependencies.payments.find(Find(payer_id=person.user_id, payment_id=payment_id))
    if not isinstance(found, PaymentStands):
        raise Refused("not_found")
    return _view(dependencies, found.payment, None)


def _named(dependencies: Dependencies, payer_id: str, route: str, key: str, target: str, body: Body) -> tuple[str, str]:
    """(payment id, digest of what was asked for): an Idempotency-Key names one payment of a payer and route for good."""
    return derived_id(payer_id, f"{route} {key}"), body_digest(dependencies.seals.key, f"{target} {body.model_dump_json()}")


def _amount(dependencies: Dependencies, body: TipBody) -> int:
    """Minor units. Raises Refused: finer than the currency, too small or too large."""
    amount = parse_amount(body.amount, body.currency)
    unit = 10 ** EXPONENTS[body.currency]
    if amount is None or not unit <= amount <= dependencies.settings.limits.tip_units * unit:
        raise Refused("amount_invalid", field="amount")
    return amount


def _request(
    payer_id: str, payment_id: str, digest: str, *, payee_id: str, purpose: Literal["tip", "post"], post_id: str | None,
    amount_minor: int, currency: str, account_id: str, method_id: str, message: str | None,
) -> RequestPayment:
    return RequestPayment(
        payer_id=payer_id, payment_id=payment_id, body_digest=digest, payee_id=payee_id, purpose=purpose, post_id=post_id,
        amount_minor=amount_minor, currency=currency, fee_minor=share_of(FEE_PERCENT, amount_minor, 100),
        account_id=account_id, payment_method_id=method_id, message=message, checkout_s=CHECKOUT_S,
    )


async def _paid(
    dependencies: Dependencies, payer_id: str, payment_id: str, digest: str,
    terms: Callable[[PaymentProvider], Awaitable[RequestPayment]],
) -> PaymentView:
    """Raises Refused; ProviderUnavailable: durable, the same request goes on where this one stopped."""
    found = await dependencies.payments.find(Find(payer_id=payer_id, payment_id=payment_id, body_digest=digest))
    if isinstance(found, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    provider = await provider_of(dependencies)
    if isinstance(found, Unknown):
        await limited(dependencies, payer_id)
        command = await terms(provider)
        customer, method = await payer_at(dependencies, provider, payer_id, command.payment_method_id or None)
        method_id = "" if method is None else method.payment_method_id
        answer = await dependencies.payments.request(replace(command, payment_method_id=method_id))
        if isinstance(answer, IdempotencyConflict):
            raise Refused("idempotency_conflict")
        if isinstance(answer, AlreadyBought):
            raise Refused("already_bought", paymentId=answer.payment_id)
        payment = answer.payment
    else:
        payment = found.payment
        if payment.status != "pending":
            return _view(dependencies, _as_before(payment), None)
        same_kind(provider, payment.asked.payment_method_id)
        if datetime.now(UTC) >= payment.asked.checkout_until and not provider.capabilities.hosted_form:
            return _view(dependencies, _as_before(await _ended(dependencies, provider, payment)), None)
        customer, _ = await payer_at(dependencies, provider, payer_id, payment.asked.payment_method_id or None)
    return await _called(dependencies, provider, payment, customer)


def _as_before(payment: Payment) -> Payment:
    """Raises Refused: it was given up, and is again for the same reason."""
    if payment.status == "failed" and payment.abandoned is not None:
        raise Refused("payment_declined" if payment.abandoned == "declined" else "payment_refused")
    return payment


async def _ended(dependencies: Dependencies, provider: PaymentProvider, payment: Payment) -> Payment:
    """A payment whose time is over, so that nothing of what it was asked for with holds: paid before, or never any more."""
    asked = payment.asked
    customers = (await parties_of(dependencies, asked.payer_id)).customers(provider.name)
    if not customers:
        raise Refused("payment_refused")
    try:
        ended = await provider.end_payment(asked.payment_id, list(customers.values()), payment.requested_at)
    except WRONG as error:
        raise Refused("payment_refused") from error
    payment = await _observed(dependencies, payment, ended)
    if ended.status == "failed":
        answer = await dependencies.payments.tell(
            Abandon(payer_id=asked.payer_id, payment_id=asked.payment_id, reason="provider_refused")
        )
        payment = answer.payment if isinstance(answer, PaymentStands) else payment
    return payment


async def _observed(dependencies: Dependencies, payment: Payment, started: Started) -> Payment:
    """The payment with what the processor's answer proves, in the read model too."""
    asked = payment.asked
    facts = tuple(fact for fact in started.facts if isinstance(fact, SingleFact))
    answer = await dependencies.payments.tell(Observe(
        payer_id=asked.payer_id, payment_id=asked.payment_id, facts=facts, post_id=asked.post_id,
    ))
    if not isinstance(answer, PaymentStands):
        return payment
    if asked.post_id is not None and answer.payment.status != "pending":
        await dependencies.write_through.apply(bought(answer.held))
    return answer.payment


async def _called(
    dependencies: Dependencies, provider: PaymentProvider, payment: Payment, customer: str
) -> PaymentView:
    asked = payment.asked
    request = Pay(
        request_id=asked.payment_id, payer_id=asked.payer_id, payee_id=asked.payee_id, customer_id=customer,
        payment_method_id=asked.payment_method_id, account_id=asked.account_id, amount_minor=asked.amount_minor,
        currency=asked.currency, fee_minor=asked.fee_minor, purpose=asked.purpose,
    )
    if provider.capabilities.hosted_form:
        open_still = datetime.now(UTC) < asked.checkout_until
        return _view(dependencies, payment, await form_of(dependencies, provider, request, asked.checkout_until) if open_still else None)
    try:
        started = await provider.pay(request)
    except PaymentDeclined as error:
        await dependencies.payments.tell(Abandon(payer_id=asked.payer_id, payment_id=asked.payment_id, reason="declined"))
        raise Refused("payment_declined") from error
    except WRONG as error:
        await dependencies.payments.tell(
            Abandon(payer_id=asked.payer_id, payment_id=asked.payment_id, reason="provider_refused")
        )
        raise Refused("payment_refused") from error
    if started.status == "failed":
        await dependencies.payments.tell(Abandon(payer_id=asked.payer_id, payment_id=asked.payment_id, reason="declined"))
        raise Refused("payment_declined")
    return _view(dependencies, await _observed(dependencies, payment, started), started)


def _view(dependencies: Dependencies, payment: Payment, started: Started | HostedForm | None) -> PaymentView:
    """``started``: how the call to the processor went, or where the payer pays."""
    asked, paid = payment.asked, payment.succeeded
    form = started if isinstance(started, HostedForm) else None
    return PaymentView(
        id=asked.payment_id, status=payment.status, amount=format_amount(asked.amount_minor, asked.currency),
        currency=asked.currency, client_secret=started.client_secret if isinstance(started, Started) else None,
        payment_url=None if form is None else form.url, payment_url_expires_at=None if form is None else form.expires_at.astimezone(UTC),
        livemode=not dependencies.settings.payments.in_test_mode if paid is None else paid.livemode,
        created_at=payment.requested_at.astimezone(UTC),
    )

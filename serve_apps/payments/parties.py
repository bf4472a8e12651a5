"""Payers and payees at the payment processor: customers, their payment methods, and creators' accounts."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Path
from pydantic import Field, StrictStr

from configs.contracts.adults import AGE_UNVERIFIED, may_be_paid
from configs.contracts.events import PaymentPartiesChanged
from configs.contracts.ids import derived_id, new_id
from configs.contracts.parties import Parties, party, read_parties
from configs.contracts.payments import (
    CapabilityMissing,
    HostedForm,
    ObjectUnknown,
    Onboarding,
    Pay,
    PaymentMethod,
    PaymentProvider,
    ProviderRefused,
    RequestConflict,
    Subscribe,
)
from configs.contracts.read_model import UserRecord, record_key
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Answer, Body, Success, Time
from serve_apps.identity import Deps, Person, RecentSignIn
from serve_apps.limits import Rate
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import recorded, to_the_end
from serve_apps.subscriptions.models import Currency

router = APIRouter(prefix="/payments", tags=["payments"])

HOUR_S: Final = 3_600
METHODS: Final = 20
"""Payment methods shown; a customer with more is asked to remove some."""
MethodIdPath = Annotated[str, Path(alias="id", pattern=r"^[A-Za-z0-9_-]{1,128}$", description="a payment method's id")]
ReturnUrl = Annotated[
    StrictStr,
    Field(
        max_length=500, pattern=r"^(https://[^\s\x00-\x1f\x7f]+|http://(localhost|127\.0\.0\.1)(:[0-9]+)?(/[^\s\x00-\x1f\x7f]*)?)$",
        examples=["https://app.example.com/payouts"],
    ),
]


class SetupBody(Body):
    """What the card shall pay: subscriptions in this currency, which a processor may keep apart from those in another one."""

    currency: Currency | None = None


class SetupView(Answer):
    """The client finishes with the processor's own form and this secret."""

    id: str
    client_secret: str
    livemode: bool


class MethodView(Answer):
    payment_method_id: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int
    is_default: bool
    """What is paid with where a request names no payment method."""
    currency: str | None = None
    """Of the only subscriptions that it pays; null: of those that have no payment method of their own. Tips and posts it pays always."""


class Methods(Answer):
    payment_methods: list[MethodView]


class OnboardingBody(Body):
    country: Annotated[StrictStr, Field(pattern=r"^[A-Z]{2}$", examples=["DE"])]
    return_url: ReturnUrl
    refresh_url: ReturnUrl


class OnboardingView(Answer):
    """Where the creator identifies themselves at the processor; the link works once and soon expires."""

    url: str
    expires_at: Time


class AccountView(Answer):
    """What the processor says of one's account; without one, nothing is enabled."""

    exists: bool
    charges_enabled: bool
    payouts_enabled: bool
    details_submitted: bool
    due: list[str]
    livemode: bool


async def provider_of(dependencies: Dependencies) -> PaymentProvider:
    """The processor that takes new payments. Raises Refused: there is none."""
    try:
        return await dependencies.providers.present()
    except KeyError as error:
        raise Refused("payments_off") from error


async def parties_of(dependencies: Dependencies, user_id: str) -> Parties:
    """Who the person is at processors. Raises ReadModelUnknown."""
    await dependencies.people.own_record(user_id)
    (value,) = await dependencies.reads.read(("GET", record_key(user_id)))
    return Parties() if value is None else read_parties(value)


async def customer_of(
    dependencies: Dependencies, provider: PaymentProvider, user_id: str, currency: str | None = None, *, gone: str | None = None
) -> str:
    """The payer's name at the processor, made and remembered if there is none. Two requests at once get the same one.

    ``currency``: of the subscriptions that it shall pay. It has a name of its own from when the first one, which pays all
    else, pays subscriptions in another.

    ``gone``: a name that the processor does not know any more, and that counts as none.
    """
    known = (await parties_of(dependencies, user_id)).customers(provider.name)
    of = currency if currency in known or await in_the_way(provider, known.get(""), currency) else None
    name = known.get(of or "")
    if name is not None and name != gone:
        return name
    after = "" if name is None else f" after {name}"
    made = await provider.create_customer(derived_id(user_id, f"customer {provider.name}{f' {of}' if of else ''}{after}"), user_id)
    is_now = party(provider.name, made)
    await recorded(
        dependencies, user_id,
        PaymentPartiesChanged(user_id=user_id, currency_customers={of: is_now}) if of
        else PaymentPartiesChanged(user_id=user_id, payment_customer=is_now),
        scope="customer", idempotency_key=None,
    )
    return made


async def in_the_way(provider: PaymentProvider, customer: str | None, currency: str | None) -> bool:
    """Whether a customer subscribes in another currency, so that the processor may refuse them subscriptions in this one."""
    if customer is None or currency is None:
        return False
    return bool(await provider.subscribed_in(customer) - {currency})


async def method_of(
    dependencies: Dependencies, provider: PaymentProvider, user_id: str, method_id: str | None, currency: str | None = None
) -> tuple[str, PaymentMethod]:
    """(customer, payment method). None: the one that they chose to pay with. ``currency``: of a subscription that it shall pay.

    Raises Refused: it is not one of this payer's, or has expired; or they chose none; or it pays no subscriptions in this currency.
    """
    parties = await parties_of(dependencies, user_id)
    method_id = method_id or parties.method(provider.name)
    for customer in parties.customers(provider.name).values():
        methods = await provider.payment_methods(customer)
        found = next((method for method in methods if method.payment_method_id == method_id), None)
        if found is None:
            continue
        if _expired(found):
            break
        if currency is not None and customer != parties.customer(provider.name, currency):
            raise Refused("payment_method_currency", currency=currency)
        return customer, found
    raise Refused("payment_method_invalid")


async def payer_at(
    dependencies: Dependencies, provider: PaymentProvider, user_id: str, method_id: str | None, currency: str | None = None
) -> tuple[str, PaymentMethod | None]:
    """``method_of``; ("", None) where payers pay on the processor's own page, and nothing of theirs is saved.

    Raises Refused: as ``method_of``, or a method is named where there are none.
    """
    if not provider.capabilities.hosted_form:
        return await method_of(dependencies, provider, user_id, method_id, currency)
    if method_id is not None:
        raise Refused("payment_method_invalid")
    return "", None


def same_kind(provider: PaymentProvider, method_id: str) -> None:
    """Raises Refused: what was paid with this method, or on a page without any, began at a processor of the other kind."""
    if provider.capabilities.hosted_form == bool(method_id):
        raise Refused("payment_refused")


async def form_of(
    dependencies: Dependencies, provider: PaymentProvider, request: Pay | Subscribe, until: datetime
) -> HostedForm:
    """Where the payer pays at a processor of the hosted-form kind; the same request has the same address."""
    return await provider.hosted_form(request, dependencies.settings.payments.hosted_form.return_url, until)


async def payee_of(dependencies: Dependencies, provider: PaymentProvider, creator_id: str, creator: UserRecord) -> str:
    """The creator's account at the processor; empty where it has none, and the platform owes creators their share.

    Raises Refused: the creator cannot be paid.
    """
    account = (await parties_of(dependencies, creator_id)).account(provider.name) if provider.capabilities.connect else ""
    if account is None or not may_be_paid(creator):
        raise Refused("creator_not_payable")
    return account


def _expired(method: PaymentMethod) -> bool:
    now = datetime.now()  # noqa: DTZ005  a card is good until the end of its month, somewhere
    return (method.exp_year, method.exp_month) < (now.year, now.month)


@router.post(
    "/methods/setup", operation_id="setUpPaymentMethod", response_model=SetupView,
    responses=errors(*SIGNED_IN, *WITH_BODY, "payments_off", "payment_refused"),
)
async def set_up(person: Person, dependencies: Deps, body: SetupBody | None = None) -> SetupView:
    """Begins to save a card. Card numbers go from the client to the processor, never here.

    Who subscribes in two currencies needs a card for each, which may be the same one saved twice: `currency` says for which.
    """
    provider = await provider_of(dependencies)
    limit = dependencies.settings.limits.cards_per_user_an_hour
    await dependencies.limits.take((Rate("cards", limit, HOUR_S), person.user_id))
    currency = None if body is None else body.currency
    customer = await to_the_end(customer_of(dependencies, provider, person.user_id, currency))
    try:
        started = await provider.setup_payment_method(new_id(), customer)
    except ObjectUnknown:  # removed at the processor, by hand perhaps
        customer = await to_the_end(customer_of(dependencies, provider, person.user_id, currency, gone=customer))
        started = await provider.setup_payment_method(new_id(), customer)
    return SetupView(id=started.object_id, client_secret=started.client_secret or "", livemode=_live(dependencies))


@router.get("/methods", operation_id="listPaymentMethods", response_model=Methods, responses=errors(*SIGNED_IN, "payments_off"))
async def list_methods(person: Person, dependencies: Deps) -> Methods:
    """One's saved cards, as the processor has them."""
    provider = await provider_of(dependencies)
    parties = await parties_of(dependencies, person.user_id)
    chosen = parties.method(provider.name)
    found = [
        (currency, method)
        for currency, customer in parties.customers(provider.name).items() for method in await provider.payment_methods(customer)
    ]
    return Methods(payment_methods=[
        MethodView(
            payment_method_id=method.payment_method_id, brand=method.brand, last4=method.last4, exp_month=method.exp_month,
            exp_year=method.exp_year, is_default=method.payment_method_id == chosen,
            currency=currency or None,
        )
        for currency, method in found[:METHODS]
    ])


@router.put(
    "/methods/{id}/default", operation_id="chooseDefaultPaymentMethod", response_model=Success,
    responses=errors(*SIGNED_IN, "payment_method_invalid", "payments_off"),
)
async def choose_method(method_id: MethodIdPath, person: Person, dependencies: Deps) -> Success:
    """Chooses what is paid with where a request names no payment method. What is subscribed already keeps its own."""
    provider = await provider_of(dependencies)
    await method_of(dependencies, provider, person.user_id, method_id)
    await to_the_end(recorded(
        dependencies, person.user_id,
        PaymentPartiesChanged(user_id=person.user_id, payment_method=party(provider.name, method_id)),
        scope="default method", idempotency_key=None,
    ))
    return Success()


@router.delete(
    "/methods/{id}", operation_id="removePaymentMethod", response_model=Success,
    responses=errors(*SIGNED_IN, "not_found", "payments_off"),
)
async def remove_method(method_id: MethodIdPath, person: Person, dependencies: Deps) -> Success:
    """Forgets a card. What is subscribed with it fails at its next payment unless another is chosen."""
    provider = await provider_of(dependencies)
    for customer in (await parties_of(dependencies, person.user_id)).customers(provider.name).values():
        with suppress(ObjectUnknown):  # not this one's
            await provider.detach_payment_method(customer, method_id)
            return Success()
    raise Refused("not_found")


@router.post(
    "/connect/onboarding", operation_id="beginOnboarding", response_model=OnboardingView,
    responses=errors(*SIGNED_IN, *WITH_BODY, "forbidden", AGE_UNVERIFIED, "sign_in_again", "payments_off", "account_begun", "payment_refused"),
)
async def onboard(body: OnboardingBody, person: RecentSignIn, dependencies: Deps) -> OnboardingView:
    """Opens a creator's account for payouts, or gives a new link to it. Needs a sign-in at most 5 minutes old.

    An account has the country with which it was begun; once it is open the country of the body counts for nothing.
    """
    record = await dependencies.people.own_record(person.user_id)
    if record.role != "sugar_baby":
        raise Refused("forbidden")
    if not may_be_paid(record):
        raise Refused(AGE_UNVERIFIED)
    provider = await provider_of(dependencies)
    account = (await parties_of(dependencies, person.user_id)).account(provider.name)
    if account is not None:
        try:
            link = await provider.onboarding_link(account, body.return_url, body.refresh_url)
        except (ProviderRefused, CapabilityMissing, ObjectUnknown) as error:
            raise Refused("payment_refused") from error
    else:
        link = await to_the_end(_opened(dependencies, provider, person.user_id, body))
    return OnboardingView(url=link.url, expires_at=link.expires_at)


async def _opened(
    dependencies: Dependencies, provider: PaymentProvider, user_id: str, body: OnboardingBody
) -> Onboarding:
    try:
        link = await provider.onboard(
            derived_id(user_id, f"account {provider.name}"), user_id, body.country, body.return_url, body.refresh_url
        )
    except RequestConflict as error:
        raise Refused("account_begun") from error
    except (ProviderRefused, CapabilityMissing) as error:
        raise Refused("payment_refused") from error
    await recorded(
        dependencies, user_id, PaymentPartiesChanged(user_id=user_id, payment_account=party(provider.name, link.account_id)),
        scope="account", idempotency_key=None,
    )
    return link


@router.get(
    "/connect/account", operation_id="getPayoutAccount", response_model=AccountView, responses=errors(*SIGNED_IN, "payments_off")
)
async def account(person: Person, dependencies: Deps) -> AccountView:
    """Whether one may be paid, and what the processor still wants to know."""
    provider = await provider_of(dependencies)
    known = (await parties_of(dependencies, person.user_id)).account(provider.name)
    try:
        state = None if known is None else await provider.account(known)
    except ObjectUnknown:  # removed at the processor
        state = None
    if state is None:
        return AccountView(
            exists=False, charges_enabled=False, payouts_enabled=False, details_submitted=False, due=[],
            livemode=_live(dependencies),
        )
    return AccountView(
        exists=True, charges_enabled=state.charges_enabled, payouts_enabled=state.payouts_enabled,
        details_submitted=state.details_submitted, due=list(state.due), livemode=state.livemode,
    )


def _live(dependencies: Dependencies) -> bool:
    return not dependencies.settings.payments.in_test_mode

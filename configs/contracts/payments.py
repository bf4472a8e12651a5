"""What a payment provider is asked, what it answers and what it cannot do, in words that no provider owns.

Money is in minor units with an upper-case ISO 4217 currency. What a provider reports are facts (payment_facts).
"""


from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final, Literal, Protocol

from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.ids import derived_id
from configs.contracts.payment_facts import MONTHS, AccountState, AnyFact, Interval

ENDS_AFTER: Final = timedelta(minutes=5)
"""After its time, what was to be paid is ended: a call that began within it, or the payer's bank, may still be busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider can do by itself; what it cannot is refused by the platform with a clear answer."""

    payments: bool = True
    """Single payments by call; without it only by ``hosted_form``."""
    subscriptions: bool = True
    change_subscription: bool = True
    """Tier, price or renewal can be changed by call."""
    saved_payment_methods: bool = True
    partial_refunds: bool = True
    connect: bool = True
    """Creators have accounts at the provider, which splits money; without it the platform pays creators itself."""
    payouts: bool = True
    hosted_form: bool = False
    looks_up: bool = True
    """A report is a reason to look its object up; without it each report is itself the fact, and none stands for another."""
    listing: bool = True
    """Reports can be listed, so that lost ones are found."""


# -- requests. ``request_id`` is durable before the call: the provider's idempotency key is derived from it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a tier costs for ``interval_count`` intervals. A new price of a tier has a new ``revision``; subscriptions keep theirs."""

    tier_id: str
    revision: int
    name: str
    interval: Interval
    amount_minor: int
    currency: str
    interval_count: int = 1

    @property
    def months(self) -> int:
        return MONTHS[self.interval] * self.interval_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Discount:
    """A promo code's effect: ``percent`` off, for the first ``months`` (None: once)."""

    promo_id: str
    percent: int
    months: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    request_id: str
    subscriber_id: str
    creator_id: str
    customer_id: str
    payment_method_id: str
    account_id: str
    price: Price
    fee_percent: int
    trial_days: int = 0
    discount: Discount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSubscription:
    """An upgrade (``now``: prorated, in force once its invoice is paid) or a downgrade (from the next period on)."""

    request_id: str
    subscription_id: str
    price: Price
    now: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pay:
    """A tip or a pay-per-view purchase; ``fee_minor`` stays with the platform."""

    request_id: str
    payer_id: str
    payee_id: str
    customer_id: str
    payment_method_id: str
    account_id: str
    amount_minor: int
    currency: str
    fee_minor: int
    purpose: Literal["tip", "post", "message"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """None: all that is left. The creator's and the platform's shares go back in proportion."""

    request_id: str
    payment_id: str
    amount_minor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    request_id: str
    creator_id: str
    account_id: str
    amount_minor: int
    currency: str


# -- answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """How a call went so far. ``object_id``: the subscription, payment, refund, payout or set-up that it made.

    ``needs_action``: the payer confirms with ``client_secret``. ``pending``: it will be known later.
    """

    object_id: str
    status: Literal["succeeded", "needs_action", "pending", "failed"]
    client_secret: str | None = None
    code: str | None = None
    facts: tuple[AnyFact, ...] = ()
    """What the answer proves already; webhooks tell it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentMethod:
    payment_method_id: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int
    fingerprint: str
    """The same for the same instrument, whoever saved it: one trial an instrument."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Onboarding:
    """Where the creator identifies themselves at the provider; a link works once and soon expires."""

    account_id: str
    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedForm:
    """Where a payer pays at a provider of the hosted-form kind."""

    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """That something happened at the provider: a webhook whose signature was good, or an entry of the provider's list.

    A hint, not a fact: ``facts`` says what is true. ``object_id`` names what to look at.
    """

    provider: str
    event_id: str
    object_id: str
    kind: str
    livemode: bool
    created_at: datetime
    body: str


def webhook_id(provider: str, provider_event_id: str) -> str:
    """The event id of a report, however often it comes."""
    return derived_id(f"{provider}:{provider_event_id}", "webhook")


class PaymentProvider(Protocol):
    """One processor. Calls are idempotent by ``request_id`` for as long as the provider remembers (Stripe: 24 h or more).

    Every call may raise ProviderUnavailable (nothing is known: ask again with the same request), PaymentDeclined,
    ObjectUnknown, CapabilityMissing, RequestConflict, ProviderRefused and ProviderMisconfigured.
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    async def create_customer(self, request_id: str, user_id: str) -> str: ...

    async def forget_customer(self, customer_id: str) -> None:
        """Deletes what the provider holds of a payer, ending their subscriptions at once; payments stay, as the law wants."""
        ...

    async def subscribed_in(self, customer_id: str) -> frozenset[str]:
        """The currencies of a customer's subscriptions that run, or may yet begin."""
        ...

    async def setup_payment_method(self, request_id: str, customer_id: str) -> Started:
        """Begins to save a card; the client finishes with the secret."""
        ...

    async def payment_methods(self, customer_id: str) -> Sequence[PaymentMethod]:
        """A customer whom the provider does not know, or knows no more, has none."""
        ...

    async def detach_payment_method(self, customer_id: str, payment_method_id: str) -> None:
        """Raises ObjectUnknown: not this customer's."""
        ...

    async def subscribe(self, request: Subscribe) -> Started: ...

    async def change(self, request: ChangeSubscription) -> Started: ...

    async def cancel_at_period_end(self, request_id: str, subscription_id: str) -> Started:
        """Ends a subscription with what is paid for: past due, when nothing is, at once (``end_now``)."""
        ...

    async def resume(self, request_id: str, subscription_id: str) -> Started:
        """Takes ``cancel_at_period_end`` back."""
        ...

    async def pay_with(self, request_id: str, subscription_id: str, payment_method_id: str) -> Started:
        """Takes the subscription's next payments from this method, and tries at once what is past due.

        Raises PaymentDeclined: that failed; the method is changed nevertheless.
        """
        ...

    async def end_now(self, request_id: str, subscription_id: str) -> Started:
        """Ends a subscription at once, without giving money back. Its open bills are given up: nobody pays them any more."""
        ...

    async def pay(self, request: Pay) -> Started: ...

    async def end_payment(self, request_id: str, customer_ids: Sequence[str], since: datetime) -> Started:
        """Takes care that a payment that was asked for since then, whether or not anybody heard how that went, is paid no more.

        ``customer_ids``: all whom the payer is at the provider.

        ``failed``: it never will be. ``succeeded``: it was paid before, as ``facts`` say. ``pending``: the provider still tries.
        """
        ...

    async def hosted_form(self, request: Pay | Subscribe, return_url: str, until: datetime) -> HostedForm:
        """Where the payer pays until then; raises CapabilityMissing where payments are made by call."""
        ...

    async def refund(self, request: Refund) -> Started: ...

    async def onboard(self, request_id: str, creator_id: str, country: str, return_url: str, refresh_url: str) -> Onboarding:
        """Makes the creator's account if there is none for this request, and a new link to it."""
        ...

    async def onboarding_link(self, account_id: str, return_url: str, refresh_url: str) -> Onboarding: ...

    async def account(self, account_id: str) -> AccountState: ...

    async def payout(self, request: Payout) -> Started: ...

    async def observe(self, object_id: str) -> Sequence[AnyFact]:
        """All that is true of an object now. Raises ObjectUnknown."""
        ...

    def list_since(self, since: datetime, *, accounts: bool = True) -> AsyncIterator[Report]:
        """What happened since, in any order; all that a webhook would have told, and some of it that one has told.

        ``accounts``: also in creators' accounts, at the cost of a call for each.
        """
        ...

    def verify(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Report | None:
        """The report in a webhook; None: signed, but about nothing that concerns us. Opens no socket.

        ``headers`` with lower-case names. Raises WebhookForged, WebhookStale, WebhookUnreadable.
        """
        ...

    async def facts(self, report: Report) -> Sequence[AnyFact]:
        """What is true of the report's object now. Empty: nothing that this platform made, or of the other mode."""
        ...

    async def close(self) -> None: ...


class PaymentDeclined(PlatformError):
    """The payer's instrument was refused: the payer chooses another (HTTP 402). ``details``: code."""


class PaymentMethodUnusable(PaymentDeclined):
    """The payment method is expired, detached or not this payer's."""


class ProviderUnavailable(DependencyUnavailable):
    """The provider does not answer or limits us; whether it acted is unknown: ask again with the same request."""


class ProviderRefused(PlatformError):
    """The provider found the request wrong: our code or records are at fault. ``details``: code, param."""


class ProviderMisconfigured(PlatformError):
    """Keys or rights at the provider are wrong: the operator acts."""


class RequestConflict(PlatformError):
    """The request id was used before with other contents: the caller's fault."""


class ObjectUnknown(PlatformError):
    """The provider has no such object."""


class CapabilityMissing(PlatformError):
    """This provider cannot do that; ``Capabilities`` says so beforehand."""


class WebhookForged(PlatformError):
    """No secret of ours signed this: whoever sent it is answered 400 and nothing is kept."""


class WebhookStale(WebhookForged):
    """Signed once, but too long ago: a replay."""


class WebhookUnreadable(PlatformError):
    """Signed, but not what this provider sends."""

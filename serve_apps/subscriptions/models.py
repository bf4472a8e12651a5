"""Bodies and answers of the subscriptions routes. Money is decimal text with its currency."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from fastapi import Header, Path
from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from configs.contracts.money import EXPONENTS
from configs.contracts.tiers import BENEFITS, BUNDLES, TRIAL_DAYS
from serve_apps.fields import KEY_PATTERN, UUID_PATTERN, Answer, Body, Text, Time, UserIdText, filled

AMOUNT_PATTERN = r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,2})?$"
CODE_PATTERN = r"^[A-Za-z0-9_-]{3,32}$"

TierIdPath = Annotated[str, Path(alias="id", pattern=UUID_PATTERN, description="a tier's id")]
PromoIdPath = Annotated[str, Path(alias="id", pattern=UUID_PATTERN, description="a promo code's id")]
SubscriptionIdPath = Annotated[str, Path(alias="id", pattern=UUID_PATTERN, description="a subscription's id")]
MoneyKey = Annotated[
    str,
    Header(alias="Idempotency-Key", pattern=KEY_PATTERN, description="names this request for good, so that it can be repeated"),
]


def _currency(text: str) -> str:
    if text not in EXPONENTS:
        raise ValueError("is not a currency that prices may have")
    return text


Amount = Annotated[StrictStr, Field(pattern=AMOUNT_PATTERN, max_length=12, examples=["9.99"])]
Currency = Annotated[
    StrictStr, Field(pattern=r"^[A-Z]{3}$", examples=["EUR"], json_schema_extra={"enum": sorted(EXPONENTS)}),
    AfterValidator(_currency),
]
Interval = Literal["month", "year"]
TierName = Annotated[Text, AfterValidator(filled), Field(min_length=1, max_length=50)]
Description = Annotated[Text, Field(max_length=1_000)]
Benefit = Annotated[Text, AfterValidator(filled), Field(min_length=1, max_length=100)]
Rank = Annotated[StrictInt, Field(ge=1, le=100, description="a tier opens what asks for its rank or a lower one")]
Percent = Annotated[StrictInt, Field(ge=1, le=90)]
Months = Annotated[StrictInt, Field(ge=1, le=12)]
TrialDays = Annotated[StrictInt, Field(ge=0, le=TRIAL_DAYS)]
Code = Annotated[StrictStr, Field(pattern=CODE_PATTERN, examples=["SPRING"])]


class BundleBody(Body):
    """``months`` that are paid for at once, ``percent`` off; renewed by the same number until it is cancelled."""

    months: Annotated[StrictInt, Field(ge=2, le=12)]
    percent: Percent


Bundles = Annotated[list[BundleBody], Field(max_length=BUNDLES)]
BenefitList = Annotated[list[Benefit], Field(max_length=BENEFITS)]


def _told_apart(bundles: list[BundleBody] | None) -> None:
    if bundles is not None and len({bundle.months for bundle in bundles}) < len(bundles):
        raise ValueError("two bundles of as many months")


class TierBody(Body):
    """A new tier. A creator's tiers have one currency, that of the first."""

    rank: Rank
    name: TierName
    description: Description = ""
    currency: Currency
    price_monthly: Amount
    price_yearly: Amount | None = None
    benefits: BenefitList = Field(default_factory=list)
    trial_days: TrialDays = 0
    bundles: Bundles = Field(default_factory=list)
    is_active: StrictBool = True

    @model_validator(mode="after")
    def _bundles(self) -> Self:
        _told_apart(self.bundles)
        return self


class TierChangeBody(Body):
    """Fields that are absent or null stay as they are; a yearly price of `0` takes it away.

    A new price is for new subscribers: whoever subscribes keeps theirs. Another rank than the tier has is refused.
    """

    rank: Rank | None = None
    name: TierName | None = None
    description: Description | None = None
    price_monthly: Amount | None = None
    price_yearly: Amount | None = None
    benefits: BenefitList | None = None
    trial_days: TrialDays | None = None
    bundles: Bundles | None = None
    is_active: StrictBool | None = None

    @model_validator(mode="after")
    def _bundles(self) -> Self:
        _told_apart(self.bundles)
        return self


class PromoBody(Body):
    """A new promo code: ``percent`` off the first payment, or off the first ``months``."""

    code: Code
    percent: Percent
    months: Months | None = None
    tier_ids: Annotated[list[UserIdText], Field(max_length=20)] = Field(default_factory=list)
    max_redemptions: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = None
    expires_at: Time | None = None


class PromoChangeBody(Body):
    """Fields that are absent or null stay as they are."""

    is_active: StrictBool | None = None
    max_redemptions: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = None
    expires_at: Time | None = None


class BundleView(Answer):
    months: int
    percent: int
    price: str
    """Of all its months, paid at once."""


class TierView(Answer):
    tier_id: str
    creator_id: str
    rank: int
    name: str
    description: str
    currency: str
    price_monthly: str
    price_yearly: str | None
    benefits: list[str]
    trial_days: int
    bundles: list[BundleView]
    is_active: bool
    created_at: Time


class Tiers(Answer):
    tiers: list[TierView]


class PromoView(Answer):
    promo_id: str
    code: str
    percent: int
    months: int | None
    tier_ids: list[str]
    max_redemptions: int | None
    redemptions: int
    expires_at: Time | None
    is_active: bool
    created_at: Time


class Promos(Answer):
    promo_codes: list[PromoView]


PaymentMethodId = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class MethodBody(Body):
    """What the subscription's next payments are taken from."""

    payment_method_id: PaymentMethodId


class SubscribeBody(Body):
    """What is bought. Prices are those of the tier at this moment and hold for 30 minutes, whatever the client shows.

    Without a payment method the chosen one is charged.
    """

    tier_id: UserIdText
    interval: Interval
    payment_method_id: PaymentMethodId | None = None
    promo_code: Code | None = None
    trial: StrictBool = False
    bundle_months: Annotated[StrictInt, Field(ge=2, le=12)] | None = None

    @model_validator(mode="after")
    def _one_offer(self) -> Self:
        if self.bundle_months is not None and (self.promo_code is not None or self.interval != "month"):
            raise ValueError("a bundle is of months and takes no promo code")
        return self


class ChangeBody(Body):
    """Without an interval or a bundle the time that is paid for at once stays as it is; it may become longer, with the
    same tier or a higher one."""

    tier_id: UserIdText
    interval: Interval | None = None
    bundle_months: Annotated[StrictInt, Field(ge=2, le=12)] | None = None

    @model_validator(mode="after")
    def _one_offer(self) -> Self:
        if self.bundle_months is not None and self.interval == "year":
            raise ValueError("a bundle is of months")
        return self


Status = Literal["incomplete", "trialing", "active", "past_due", "expired"]


class CheckoutView(Answer):
    """How a request went so far. With ``clientSecret`` the payer confirms, at ``paymentUrl`` they pay; the status follows."""

    id: str
    status: Status
    client_secret: str | None = None
    payment_url: str | None = None
    payment_url_expires_at: Time | None = None
    livemode: bool


class SubscriptionView(Answer):
    subscription_id: str
    creator_id: str
    tier_id: str
    tier_name: str
    status: Status
    interval: Interval
    interval_count: int
    """So many intervals are paid for at once: a bundle's months, else 1."""
    amount: str
    currency: str
    current_period_start: Time | None
    current_period_end: Time | None
    entitled_until: Time | None
    cancel_at_period_end: bool
    next_tier_id: str | None
    livemode: bool
    created_at: Time


class Subscriptions(Answer):
    subscriptions: list[SubscriptionView]
    next_cursor: str | None = None


class SubscriberView(Answer):
    user_id: str
    display_name: str
    subscription_id: str
    tier_id: str
    tier_name: str
    status: Status
    cancel_at_period_end: bool
    current_period_end: Time | None
    subscribed_at: Time


class Subscribers(Answer):
    subscribers: list[SubscriberView]
    next_cursor: str | None = None

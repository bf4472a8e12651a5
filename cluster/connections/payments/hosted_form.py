"""A processor of the hosted-form kind (as CCBill is): payers pay on its page, and it tells us by postbacks.

What is charged, for whom and how often is signed into the form's address, so that the payer cannot change it. Nothing can
be asked by call and nothing looked up: the capability flags say so, and a postback's signed content is the fact. Each names
the whole state or the total so far, and ``sequence`` counts a sale's postbacks, so that order and repetition do not matter.

Signatures are HMAC-SHA256 over the sorted fields. A given processor has its own digest and field names: ``signed`` and
``FIELDS`` are the places where they differ.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, NoReturn
from urllib.parse import parse_qsl, urlencode

from configs.contracts.ids import derived_id
from configs.contracts.money import format_amount, parse_amount
from configs.contracts.payment_facts import (
    AccountState,
    AnyFact,
    DisputeClosed,
    DisputeOpened,
    InvoiceFailed,
    InvoicePaid,
    PaymentFailed,
    PaymentSucceeded,
    Refunded,
    SubscriptionState,
)
from configs.contracts.payments import (
    Capabilities,
    CapabilityMissing,
    ChangeSubscription,
    HostedForm,
    Onboarding,
    Pay,
    PaymentMethod,
    Payout,
    Refund,
    Report,
    Started,
    Subscribe,
    WebhookForged,
    WebhookStale,
    WebhookUnreadable,
)

NAME: Final = "hosted_form"
FIELDS: Final = 64
KINDS: Final = frozenset({
    "sale", "sale_failed", "renewal", "renewal_failed", "cancellation", "reactivation", "expiration", "refund", "chargeback",
    "chargeback_closed",
})
DAYS: Final = {"month": 30, "year": 365}


def signed(fields: Mapping[str, str], key: str) -> str:
    """The signature of some fields, without the signature itself."""
    text = urlencode(sorted((name, value) for name, value in fields.items() if name != "digest"))
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


class HostedFormProvider:
    """Makes form addresses and reads postbacks. The platform pays creators itself: there are no accounts here."""

    name: ClassVar[str] = NAME
    capabilities: ClassVar[Capabilities] = Capabilities(
        payments=False, subscriptions=False, change_subscription=False, saved_payment_methods=False, partial_refunds=False,
        connect=False, payouts=False, hosted_form=True, looks_up=False, listing=False,
    )

    def __init__(
        self, *, url: str, account: str, form_key: str, postback_keys: Sequence[str], tolerance_s: int = 300
    ) -> None:
        self._url = url
        self._account = account
        self._form_key = form_key
        self._postback_keys = tuple(postback_keys)
        self._tolerance_s = tolerance_s

    async def hosted_form(self, request: Pay | Subscribe, return_url: str, until: datetime) -> HostedForm:
        """The same request has the same address."""
        fields = {
            "account": self._account, "requestId": request.request_id, "orderId": derived_id(request.request_id, "hosted_form"),
            "returnUrl": return_url, "expires": str(int(until.timestamp())),
        }
        if isinstance(request, Pay):
            fields |= {
                "payerId": request.payer_id, "payeeId": request.payee_id, "currency": request.currency, "purpose": request.purpose,
                "price": format_amount(request.amount_minor, request.currency), "fee": format_amount(request.fee_minor, request.currency),
            }
        else:
            price = request.price
            days = DAYS[price.interval] * price.interval_count
            off = request.discount.percent if request.discount else 0
            first = 0 if request.trial_days else price.amount_minor * (100 - off) // 100
            fields |= {
                "payerId": request.subscriber_id, "payeeId": request.creator_id, "currency": price.currency, "tierId": price.tier_id,
                "interval": price.interval, "intervalCount": str(price.interval_count), "price": format_amount(first, price.currency),
                "recurringPrice": format_amount(price.amount_minor, price.currency), "periodDays": str(request.trial_days or days),
                "recurringDays": str(days), "feePercent": str(request.fee_percent),
            }
            if request.discount:
                # Off each payment that begins so soon; a discount of one payment lasts as long as that one buys.
                fields |= {"discountPercent": str(off), "discountMonths": str(request.discount.months or price.months)}
        return HostedForm(url=f"{self._url}?{urlencode(fields | {'digest': signed(fields, self._form_key)})}", expires_at=until)

    # -- postbacks

    def verify(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Report | None:
        fields = _fields(body)
        # As bytes: texts beyond ASCII cannot be compared, and anybody may send some.
        if not any(hmac.compare_digest(signed(fields, key).encode(), fields.get("digest", "").encode()) for key in self._postback_keys):
            raise WebhookForged("no key of ours signed this")
        try:
            created_at = datetime.fromtimestamp(int(fields["timestamp"]), UTC)
            sent_at = int(fields.get("sentAt", fields["timestamp"]))
            if not -self._tolerance_s <= now.timestamp() - sent_at <= self._tolerance_s:
                raise WebhookStale("signed too long ago")
            if fields["event"] not in KINDS:
                return None
            report = Report(
                provider=NAME, event_id=fields["eventId"], object_id=fields["saleId"], kind=fields["event"],
                livemode=fields.get("test") != "1", created_at=created_at, body=body.decode(),
            )
            _facts(report, fields)
            return report
        except (KeyError, ValueError, OverflowError) as error:
            raise WebhookUnreadable("a field is missing or wrong", kind=type(error).__name__) from error

    async def facts(self, report: Report) -> Sequence[AnyFact]:
        return _facts(report, _fields(report.body.encode()))

    async def close(self) -> None:
        """Holds nothing."""

    # -- what this kind cannot do

    async def list_since(self, since: datetime, *, accounts: bool = True) -> AsyncIterator[Report]:
        nothing: Sequence[Report] = ()
        for report in nothing:
            yield report

    async def observe(self, object_id: str) -> Sequence[AnyFact]:
        _cannot("look objects up")

    async def create_customer(self, request_id: str, user_id: str) -> str:
        _cannot("keep customers")

    async def forget_customer(self, customer_id: str) -> None:
        _cannot("forget customers: ask it by its console")

    async def subscribed_in(self, customer_id: str) -> frozenset[str]:
        _cannot("keep customers")

    async def setup_payment_method(self, request_id: str, customer_id: str) -> Started:
        _cannot("save payment methods")

    async def payment_methods(self, customer_id: str) -> Sequence[PaymentMethod]:
        return ()

    async def detach_payment_method(self, customer_id: str, payment_method_id: str) -> None:
        _cannot("save payment methods")

    async def subscribe(self, request: Subscribe) -> Started:
        _cannot("subscribe without its form")

    async def change(self, request: ChangeSubscription) -> Started:
        _cannot("change a subscription")

    async def cancel_at_period_end(self, request_id: str, subscription_id: str) -> Started:
        _cannot("cancel by call: the payer does so on its pages")

    async def resume(self, request_id: str, subscription_id: str) -> Started:
        _cannot("resume a subscription")

    async def pay_with(self, request_id: str, subscription_id: str, payment_method_id: str) -> Started:
        _cannot("change payment methods")

    async def end_now(self, request_id: str, subscription_id: str) -> Started:
        _cannot("end a subscription")

    async def pay(self, request: Pay) -> Started:
        _cannot("charge without its form")

    async def end_payment(self, request_id: str, customer_ids: Sequence[str], since: datetime) -> Started:
        _cannot("end a payment: its form does, when its time is over")

    async def refund(self, request: Refund) -> Started:
        _cannot("refund by call: its console does")

    async def onboard(self, request_id: str, creator_id: str, country: str, return_url: str, refresh_url: str) -> Onboarding:
        _cannot("onboard creators")

    async def onboarding_link(self, account_id: str, return_url: str, refresh_url: str) -> Onboarding:
        _cannot("onboard creators")

    async def account(self, account_id: str) -> AccountState:
        _cannot("keep creators' accounts")

    async def payout(self, request: Payout) -> Started:
        _cannot("pay creators")


def _cannot(what: str) -> NoReturn:
    raise CapabilityMissing("this payment provider cannot do that", what=what)


def _fields(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS))
    except (UnicodeDecodeError, ValueError) as error:
        raise WebhookForged("the body is no form") from error


def _facts(report: Report, fields: Mapping[str, str]) -> Sequence[AnyFact]:
    """Raises KeyError, ValueError: a field is missing or wrong."""
    currency = fields["currency"]

    def amount(name: str) -> int:
        found = parse_amount(fields[name], currency)
        if found is None:
            raise ValueError(name)
        return found

    base: dict[str, Any] = {
        "provider": NAME, "livemode": report.livemode, "event_id": report.event_id, "as_of": report.created_at,
        "rank": int(fields["sequence"]),
    }
    recurring = "tierId" in fields
    money = base | {
        "payment_id": fields["transactionId"], "payer_id": fields["payerId"], "payee_id": fields["payeeId"],
        "request_id": fields["requestId"], "currency": currency, "subscription_id": fields["saleId"] if recurring else None,
    }
    made: list[AnyFact] = []
    if report.kind in ("sale", "renewal"):
        paid = amount("amount")
        if recurring:
            made.append(InvoicePaid(
                **money, object_id=fields["transactionId"], amount_minor=paid, fee_minor=paid * int(fields["feePercent"]) // 100,
                reason="first" if report.kind == "sale" else "renewal", tier_id=fields["tierId"],
                period_start=_moment(fields["periodStart"]), period_end=_moment(fields["periodEnd"]),
            ))
        else:
            made.append(PaymentSucceeded(**money, object_id=fields["transactionId"], amount_minor=paid, fee_minor=amount("fee")))
    elif report.kind == "sale_failed" and not recurring:
        made.append(PaymentFailed(
            **money, object_id=fields["transactionId"], amount_minor=amount("amount"), code=fields.get("reason", "declined"), final=True,
        ))
    elif report.kind == "renewal_failed":
        made.append(InvoiceFailed(
            **money, object_id=fields["transactionId"], amount_minor=amount("amount"), attempt=int(fields.get("attempt", "1")),
            next_attempt_at=_moment(fields["nextAttempt"]) if fields.get("nextAttempt") else None,
        ))
    elif report.kind == "refund":
        whole, back = amount("amount"), amount("refundedTotal")
        fee = whole * int(fields["feePercent"]) // 100 if recurring else amount("fee")
        made.append(Refunded(
            **money, object_id=fields["transactionId"], amount_minor=whole, refunded_minor=back,
            fee_refunded_minor=fee * back // whole if whole else 0,
        ))
    elif report.kind in ("chargeback", "chargeback_closed"):
        dispute = money | {"object_id": f"chargeback:{fields['transactionId']}", "amount_minor": amount("amount")}
        made.append(DisputeOpened(**dispute, reason=fields.get("reason", "chargeback")))
        if report.kind == "chargeback_closed":
            made.append(DisputeClosed(**dispute, won=fields["won"] == "1"))
    if recurring and "status" in fields:
        made.append(_subscription(base, fields, amount("recurringPrice")))
    return made


def _subscription(base: Mapping[str, Any], fields: Mapping[str, str], price: int) -> SubscriptionState:
    status = fields["status"]
    if status not in ("trialing", "active", "past_due", "expired"):
        raise ValueError("status")
    interval, count = fields["interval"], int(fields.get("intervalCount", "1"))
    if interval not in DAYS or count < 1:
        raise ValueError("interval")
    return SubscriptionState(
        **base, object_id=fields["saleId"], status=status, subscriber_id=fields["payerId"],  # type: ignore[arg-type]
        creator_id=fields["payeeId"], request_id=fields["requestId"], tier_id=fields["tierId"],
        interval=interval, interval_count=count,  # type: ignore[arg-type]
        amount_minor=price, currency=fields["currency"], period_start=_moment(fields["periodStart"]),
        period_end=_moment(fields["periodEnd"]), cancel_at_period_end=fields.get("cancelling") == "1",
    )


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(int(text), UTC)

"""The route by which creators get what they earned: durable first, then the processor, under an id that a repetition makes again."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated, Final

from fastapi import APIRouter, Path
from pydantic import Field

from actors.payments.commands import IdempotencyConflict
from actors.payments.payouts import (
    AnswerPayout,
    FindPayout,
    NotAvailable,
    NotRecordable,
    PayoutStands,
    RecordPayout,
    RequestPayout,
)
from configs.contracts.adults import AGE_UNVERIFIED, may_be_paid
from configs.contracts.events import PayoutOutcome
from configs.contracts.ids import derived_id
from configs.contracts.money import EXPONENTS, format_amount, parse_amount
from configs.contracts.payments import PaymentProvider
from configs.contracts.payments import Payout as ProviderPayout
from configs.contracts.payouts import Payout, PayoutStatus
from serve_apps.dependencies import Dependencies
from serve_apps.fields import UUID_PATTERN, Answer, Body, Text, Time, UserIdText, body_digest
from serve_apps.identity import Admin, Deps, Person, RecentSignIn, Staff
from serve_apps.limits import Rate
from serve_apps.moderation.viewing import STAFF
from serve_apps.payments.parties import parties_of, provider_of
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end
from serve_apps.subscriptions.checkout import WRONG
from serve_apps.subscriptions.models import Amount, Currency, MoneyKey

router = APIRouter(prefix="/payments", tags=["payments"])

DAY_S: Final = 86_400
PayoutIdPath = Annotated[str, Path(alias="id", pattern=UUID_PATTERN, description="a payout's id")]
CODES: Final = (
    *SIGNED_IN, *WITH_BODY, "sign_in_again", "idempotency_conflict", "amount_invalid", "not_available", "no_payout_account",
    AGE_UNVERIFIED, "payments_off", "payment_refused",
)


class PayoutBody(Body):
    """What is wanted of the balance in one currency."""

    amount: Amount
    currency: Currency


class OutcomeBody(Body):
    """What became of a payout that the platform makes itself. ``reference``: what the transfer is called at the bank, or why
    there was none."""

    creator_id: UserIdText
    outcome: PayoutOutcome
    reference: Annotated[Text, Field(min_length=1, max_length=200)]


class PayoutView(Answer):
    """``pending``: durable, the processor has not answered, or staff has not paid it; ``in_transit``: it has begun, a bank
    takes days."""

    id: str
    status: PayoutStatus
    amount: str
    currency: str
    livemode: bool
    created_at: Time


@router.post("/payouts", operation_id="requestPayout", status_code=201, response_model=PayoutView, responses=errors(*CODES))
async def request_payout(body: PayoutBody, person: RecentSignIn, dependencies: Deps, idempotency_key: MoneyKey) -> PayoutView:
    """Pays out some of one's available balance. Needs a sign-in at most 5 minutes old.

    Never more than is available: neither what is pending, nor what a dispute has frozen, nor what is on its way already,
    nor what was earned at another payment processor than the present one.
    The same request again goes on where the first one stopped.
    """
    return await to_the_end(_paid_out(dependencies, person.user_id, body, idempotency_key))


@router.get("/payouts/{id}", operation_id="getPayout", response_model=PayoutView, responses=errors(*SIGNED_IN, "not_found"))
async def get_payout(payout_id: PayoutIdPath, person: Person, dependencies: Deps) -> PayoutView:
    """One of one's own payouts as it is now."""
    found = await dependencies.payments.find_payout(FindPayout(creator_id=person.user_id, payout_id=payout_id))
    if not isinstance(found, PayoutStands):
        raise Refused("not_found")
    return _view(found.payout)


@router.put(
    "/payouts/{id}/outcome", operation_id="recordPayout", response_model=PayoutView,
    responses=errors(*STAFF, *WITH_BODY, "not_found", "payout_state"),
)
async def record_payout(payout_id: PayoutIdPath, body: OutcomeBody, staff: Admin, dependencies: Deps) -> PayoutView:
    """Books what administrators have done about a payout where the processor pays no creators: paid or refused what was
    pending, or learned that the bank returned what was paid. Said again it changes nothing; nobody records their own.
    """
    return await to_the_end(_outcome(dependencies, staff, payout_id, body))


async def _outcome(dependencies: Dependencies, staff: Staff, payout_id: str, body: OutcomeBody) -> PayoutView:
    if staff.person_id == body.creator_id:
        raise Refused("forbidden")
    answer = await dependencies.payments.record_payout(RecordPayout(
        creator_id=body.creator_id, payout_id=payout_id, outcome=body.outcome, reference=body.reference, recorded_by=staff.name,
    ))
    if isinstance(answer, NotRecordable):
        raise Refused("payout_state", state=answer.payout.status)
    if not isinstance(answer, PayoutStands):
        raise Refused("not_found")
    return _view(answer.payout)


async def _paid_out(dependencies: Dependencies, creator_id: str, body: PayoutBody, key: str) -> PayoutView:
    """Raises Refused; ProviderUnavailable: durable, it is asked again, whoever comes back."""
    payout_id = derived_id(creator_id, f"payout {key}")
    digest = body_digest(dependencies.seals.key, body.model_dump_json())
    found = await dependencies.payments.find_payout(FindPayout(creator_id=creator_id, payout_id=payout_id, body_digest=digest))
    if isinstance(found, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    provider = await provider_of(dependencies)
    payout = found.payout if isinstance(found, PayoutStands) else await _recorded(
        dependencies, provider, creator_id, payout_id, digest, body
    )
    if payout.status == "refused":
        raise Refused("payment_refused")
    if payout.status != "pending" or payout.by_hand:
        return _view(payout)
    if payout.asked.provider not in dependencies.providers.names:
        raise Refused("payments_off")
    return _view(await _begun(dependencies, await dependencies.providers.named(payout.asked.provider), payout))


async def _recorded(
    dependencies: Dependencies, provider: PaymentProvider, creator_id: str, payout_id: str, digest: str, body: PayoutBody
) -> Payout:
    limits = dependencies.settings.limits
    amount = parse_amount(body.amount, body.currency)
    if amount is None or amount < limits.payout_units * 10 ** EXPONENTS[body.currency]:
        raise Refused("amount_invalid", field="amount")
    if not may_be_paid(await dependencies.people.own_record(creator_id)):
        raise Refused(AGE_UNVERIFIED)
    by_hand = not provider.capabilities.payouts
    account = "" if by_hand else (await parties_of(dependencies, creator_id)).account(provider.name)
    if account is None:
        raise Refused("no_payout_account")
    await dependencies.limits.take((Rate("payouts", limits.payouts_per_user_a_day, DAY_S), creator_id))
    answer = await dependencies.payments.request_payout(RequestPayout(
        creator_id=creator_id, payout_id=payout_id, body_digest=digest, amount_minor=amount, currency=body.currency,
        provider=provider.name, account_id=account, livemode=not dependencies.settings.payments.in_test_mode,
    ))
    if isinstance(answer, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    if isinstance(answer, NotAvailable):
        elsewhere = answer.elsewhere_minor
        raise Refused(
            "not_available", available=format_amount(answer.available_minor, body.currency),
            **({"elsewhere": format_amount(elsewhere, body.currency)} if elsewhere else {}),
        )
    return answer.payout


async def _begun(dependencies: Dependencies, provider: PaymentProvider, payout: Payout) -> Payout:
    asked, object_id = payout.asked, None
    try:
        started = await provider.payout(ProviderPayout(
            request_id=asked.payout_id, creator_id=asked.creator_id, account_id=asked.account_id, amount_minor=asked.amount_minor,
            currency=asked.currency,
        ))
        object_id = None if started.status == "failed" else started.object_id
    except WRONG:
        pass
    answer = await dependencies.payments.answer_payout(
        AnswerPayout(creator_id=asked.creator_id, payout_id=asked.payout_id, object_id=object_id)
    )
    if object_id is None:
        raise Refused("payment_refused")
    return answer.payout if isinstance(answer, PayoutStands) else payout


def _view(payout: Payout) -> PayoutView:
    asked = payout.asked
    return PayoutView(
        id=asked.payout_id, status=payout.status, amount=format_amount(asked.amount_minor, asked.currency), currency=asked.currency,
        livemode=asked.livemode, created_at=payout.requested_at.astimezone(UTC),
    )

"""The only table from errors to HTTP: every refusal is an RFC 9457 problem document with a stable ``code``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from pydantic import BaseModel, Field

from configs.contracts.errors import (
    DependencyUnavailable,
    PlatformError,
    ReadModelRebuilding,
    ReadModelUnknown,
)
from configs.contracts.payments import CapabilityMissing, PaymentDeclined, PaymentMethodUnusable
from configs.contracts.people import PositionInvalid

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
"""Seconds after which a 503 is worth repeating: a killed shard answers again after about 2 s."""


class Refused(PlatformError):
    """The request is refused as it is; ``message`` is a code of ``PROBLEMS``, ``details`` its public facts.

    ``retry_after_s`` among the details becomes the header Retry-After.
    """


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem: its HTTP status and the sentence that people read."""

    status: int
    title: str


PROBLEMS: Final[Mapping[str, Kind]] = {
    "webhook_refused": Kind(400, "The webhook is not signed by the provider, or too long ago."),
    "malformed_body": Kind(400, "The body is not valid JSON."),
    "unauthenticated": Kind(401, "A valid access token is needed."),
    "wrong_credentials": Kind(401, "The address or the password is wrong."),
    "code_invalid": Kind(401, "The code is wrong, or was used before."),
    "passkey_invalid": Kind(401, "The passkey is not known, or its ceremony is not valid any more."),
    "identity_token_invalid": Kind(401, "The provider's token is not valid, or was used before."),
    "sign_in_again": Kind(401, "Sign in again: this needs a sign-in at most 5 minutes old."),
    "token_invalid": Kind(422, "The token was used, replaced or is too old; ask for a new one."),
    "refresh_token_invalid": Kind(401, "The refresh token is not valid; sign in again."),
    "payment_needed": Kind(402, "This has to be paid for first; `access` says how."),
    "payment_declined": Kind(402, "The payment was declined; choose another payment method."),
    "forbidden": Kind(403, "This token may not do that."),
    "age_unverified": Kind(403, "This needs an age verification: POST /users/me/verification."),
    "consent_missing": Kind(403, "Somebody who is depicted has not given consent; `people` names them."),
    "not_found": Kind(404, "There is no such thing, or it is not visible to you."),
    "method_not_allowed": Kind(405, "The path does not take this method."),
    "address_taken": Kind(409, "An account with this address exists."),
    "second_factor_exists": Kind(409, "Codes are asked for already."),
    "idempotency_conflict": Kind(409, "The Idempotency-Key was used with another body."),
    "location_required": Kind(409, "Set a location first."),
    "case_moved": Kind(409, "Somebody else has decided meanwhile; `number` is how many decisions there are by now."),
    "same_moderator": Kind(409, "Another moderator must look at it."),
    "not_appealable": Kind(409, "There is no such decision that can still be appealed."),
    "nothing_to_undo": Kind(409, "There is no swipe to undo."),
    "undo_too_late": Kind(409, "The last swipe can no longer be undone."),
    "content_conflict": Kind(409, "The clientMessageId was used with another text."),
    "undo_has_messages": Kind(409, "The match has messages; it can be ended, not undone."),
    "media_limit_reached": Kind(409, "You have as many media, or bytes of them, as one may have; remove some."),
    "upload_incomplete": Kind(409, "What was uploaded is not as long as was announced."),
    "upload_expired": Kind(409, "The upload was open for too long; begin anew."),
    "post_state": Kind(409, "The post cannot go from its present state to that one."),
    "post_sold": Kind(409, "The post was on sale: its media, the words of a text, and that it is sold cannot be changed any more."),
    "media_not_ready": Kind(409, "A media is not processed and approved yet."),
    "follow_limit_reached": Kind(409, "You follow as many creators as one may."),
    "not_available": Kind(409, "Not as much is available; `available` says how much may be paid out, `elsewhere`, if present, what lies at another payment processor."),
    "account_begun": Kind(409, "An account was begun with other particulars (the country); ask again with those."),
    "payout_state": Kind(409, "That cannot be recorded of the payout; `state` is its present one."),
    "no_payout_account": Kind(409, "Open an account for payouts first: POST /payments/connect/onboarding."),
    "statement_too_long": Kind(409, "The month has too many lines for one file; read GET /payments/transactions."),
    "not_refundable": Kind(409, "Not as much of the payment can be given back; `left` says how much."),
    "already_bought": Kind(409, "The post is bought already, or is being paid for."),
    "not_for_sale": Kind(409, "The post is not for sale."),
    "already_subscribed": Kind(409, "There is a subscription to this creator; `subscriptionId` names it."),
    "subscription_not_active": Kind(409, "The subscription is not active."),
    "same_tier": Kind(409, "The subscription is to this tier already."),
    "creator_not_payable": Kind(409, "The creator cannot be paid at the moment."),
    "payment_refused": Kind(409, "The payment processor does not do this; `payerPages`, if present, is where its payers do it."),
    "payment_method_currency": Kind(
        409, "This payment method cannot pay subscriptions in that currency; save one for it: POST /payments/methods/setup with this `currency`."
    ),
    "payments_off": Kind(409, "No payments are taken at the moment."),
    "promo_code_exhausted": Kind(409, "The promo code was redeemed as often as it may be."),
    "trial_used": Kind(409, "This payment method had its trial of this creator."),
    "limit_reached": Kind(409, "There are as many of these as there may be."),
    "currency_fixed": Kind(409, "A creator has one currency; `currency` names it."),
    "rank_fixed": Kind(409, "A tier keeps its rank; `rank` names it. Make another tier, and take this one off sale."),
    "promo_code_taken": Kind(409, "A code of this text works already."),
    "resync": Kind(410, "Too much has changed, or the position is not known any more; load the lists anew."),
    "body_too_large": Kind(413, "The body is too large."),
    "unsupported_media_type": Kind(415, "The body must be application/json."),
    "invalid": Kind(422, "The request has invalid fields."),
    "payment_method_invalid": Kind(422, "The payment method is not one of yours, or has expired."),
    "promo_code_invalid": Kind(422, "The promo code does not work for this tier."),
    "currency_mismatch": Kind(422, "The creator takes another currency; `currency` names it."),
    "not_offered": Kind(422, "The tier does not offer that; `offer` names it."),
    "amount_invalid": Kind(422, "The amount is too small, too large, or finer than the currency; `field` names it."),
    "address_unverified": Kind(422, "The provider does not vouch for the address."),
    "registration_incomplete": Kind(422, "A new person needs the fields that `missing` names."),
    "underage": Kind(422, "The platform is for adults: 18 years or older."),
    "media_unknown": Kind(422, "A media is not yours, not of this kind, or was rejected."),
    "post_incomplete": Kind(422, "The post lacks its text, media, price or tier, or has some that do not belong to its kind."),
    "tier_unknown": Kind(422, "You sell no such tier."),
    "self_target": Kind(422, "This cannot be done to oneself."),
    "cursor_invalid": Kind(422, "The cursor was not issued for this request."),
    "position_invalid": Kind(422, "The coordinates are not a place on Earth."),
    "too_many_requests": Kind(429, "Too many requests; wait."),
    "daily_limit_reached": Kind(429, "The limit of today is reached."),
    "internal_error": Kind(500, "Something went wrong on our side."),
    "dependency_unavailable": Kind(503, "A server that is needed does not answer; try again."),
    "read_model_unknown": Kind(503, "The facts are not ready yet; try again."),
    "read_model_rebuilding": Kind(503, "The read model is being rebuilt; try again."),
    "overloaded": Kind(503, "Too much work is waiting; try again."),
}
"""Every code with its status; routes name theirs with ``errors``."""

_CODES: Final[tuple[tuple[type[PlatformError], str], ...]] = (
    (ReadModelRebuilding, "read_model_rebuilding"),
    (ReadModelUnknown, "read_model_unknown"),
    (DependencyUnavailable, "dependency_unavailable"),
    (PositionInvalid, "position_invalid"),
    (PaymentMethodUnusable, "payment_method_invalid"),
    (PaymentDeclined, "payment_declined"),
    (CapabilityMissing, "payment_refused"),
)
"""Codes of errors raised below the routes; the first class that fits counts. Anything else is ``internal_error``."""

EVERYWHERE: Final = ("invalid", "too_many_requests", "dependency_unavailable", "read_model_rebuilding", "overloaded")
SIGNED_IN: Final = (*EVERYWHERE, "unauthenticated", "read_model_unknown")
WITH_BODY: Final = ("malformed_body", "body_too_large", "unsupported_media_type")


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="where: body, query, path or header, then the names inside")
    message: str


class ProblemDocument(BaseModel):
    """An RFC 9457 problem document; clients decide by ``code`` and ignore members that they do not know."""

    type: str = Field(description="urn:sugar:problem: and the code")
    title: str
    status: int
    code: str = Field(description="stable")
    fields: list[FieldProblem] | None = Field(None, description="what is wrong with which field (code `invalid`)")


def code_of(error: PlatformError) -> str:
    """The code that clients see for an error."""
    if isinstance(error, Refused):
        return error.message
    return next((code for kind, code in _CODES if isinstance(error, kind)), "internal_error")


@dataclass(frozen=True, slots=True)
class Answer:
    """A problem as HTTP: status, raw headers and body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def answer(error: PlatformError) -> Answer:
    """The problem document of an error. Only a refusal's details are public."""
    details = error.details if isinstance(error, Refused) else {}
    return problem(code_of(error), details)


def problem(
    code: str, details: Mapping[str, Any] | None = None, *, headers: Sequence[tuple[bytes, bytes]] = ()
) -> Answer:
    """The problem document of a code, with members for its public facts."""
    kind = PROBLEMS[code]
    members = {"type": f"urn:sugar:problem:{code}", "title": kind.title, "status": kind.status, "code": code}
    retry_after_s = RETRY_AFTER_S if kind.status == 503 else None
    for name, value in (details or {}).items():
        if name == "retry_after_s":
            retry_after_s = max(1, int(value))
        else:
            members[name] = value
    body = msgspec.json.encode(members)
    raw = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body)), *headers]
    if retry_after_s is not None:
        raw.append((b"retry-after", b"%d" % retry_after_s))
    if kind.status == 401:
        raw.append((b"www-authenticate", b"Bearer"))
    return Answer(kind.status, raw, body)


def errors(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI ``responses`` of a route that may answer with these codes."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    documented: dict[int | str, dict[str, Any]] = {}
    for status, found in sorted(by_status.items()):
        described: dict[str, Any] = {
            "description": " ".join(f"`{code}`: {PROBLEMS[code].title}" for code in found),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        if status in (429, 503):
            described["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds to wait"}}
        documented[status] = described
    return documented

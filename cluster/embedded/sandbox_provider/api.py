"""The calls that the sandbox answers: path, the client's own parameter type, and what happens."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from hmac import compare_digest
from typing import Any, Final

from cluster.embedded.sandbox_provider.errors import ApiError, missing
from cluster.embedded.sandbox_provider.events import public
from cluster.embedded.sandbox_provider.parameters import checked, decoded
from cluster.embedded.sandbox_provider.sandbox import Sandbox
from cluster.embedded.sandbox_provider.store import Document

PUBLISHABLE_KEY: Final = "pk_test_sandbox"
"""What an app uses to confirm with a client secret."""
CONFIRMATIONS: Final = re.compile(r"/v1/(payment|setup)_intents/[^/]+/confirm")
LIST_MOST: Final = 100
EXPAND_DEPTH: Final = 4
INCLUDABLE: Final = {"invoice": ("confirmation_secret", "payments")}
"""Fields that an object has only when they are asked for."""
Handler = Callable[[Sandbox, tuple[str, ...], Document, str], Document]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    path: re.Pattern[str]
    params: str | None
    handle: Handler


def _call(method: str, path: str, params: str | None, handle: Handler) -> Call:
    return Call(method, re.compile(re.escape(path).replace(r"\{\}", "([^/]+)")), params, handle)


def _retrieve(kind: str) -> Handler:
    def handle(sandbox: Sandbox, ids: tuple[str, ...], p: Document, account: str) -> Document:
        found = sandbox.store.get(ids[0], kind, account)
        if found is None:
            raise missing(kind, ids[0])
        return found

    return handle


def _matches(document: Document, p: Document) -> bool:
    created = p.get("created")
    if isinstance(created, dict) and not all(
        {"gt": document["created"] > bound, "gte": document["created"] >= bound, "lt": document["created"] < bound,
         "lte": document["created"] <= bound}[name]
        for name, bound in created.items()
    ):
        return False
    for name in ("customer", "subscription", "invoice", "payment_intent", "charge", "type"):
        if name in p and document.get(name) != p[name]:
            return False
    if "payment" in p and document["payment"].get("payment_intent") != p["payment"].get("payment_intent"):
        return False
    if "types" in p and document["type"] not in p["types"]:
        return False
    if document["object"] == "subscription":
        wanted = p.get("status")
        return wanted == "all" or (document["status"] == wanted if wanted else document["status"] not in ("canceled", "incomplete_expired"))
    return "status" not in p or document["status"] == p["status"]


def _list(kind: str, source: Callable[[Sandbox, Document, str], Iterable[Document]] | None = None) -> Handler:
    def handle(sandbox: Sandbox, ids: tuple[str, ...], p: Document, account: str) -> Document:
        limit = p.get("limit", 10)
        if not 1 <= limit <= LIST_MOST:
            raise ApiError("Invalid limit", param="limit")
        found = [item for item in (source(sandbox, p, account) if source else sandbox.store.all(kind, account)) if _matches(item, p)]
        if "starting_after" in p:
            places = [at for at, item in enumerate(found) if item["id"] == p["starting_after"]]
            if not places:
                raise missing(kind, p["starting_after"], "starting_after")
            found = found[places[0] + 1:]
        return {"object": "list", "data": found[:limit], "has_more": len(found) > limit, "url": f"/v1/{kind}s"}

    return handle


CALLS: Final[tuple[Call, ...]] = (
    _call("POST", "/v1/customers", "CustomerCreateParams", lambda s, ids, p, a: s.payments.create_customer(p)),
    _call("GET", "/v1/customers", "CustomerListParams", _list("customer")),
    _call("GET", "/v1/customers/{}", "CustomerRetrieveParams", _retrieve("customer")),
    _call("DELETE", "/v1/customers/{}", "CustomerDeleteParams", lambda s, ids, p, a: s.forget_customer(ids[0])),
    _call("GET", "/v1/payment_methods", "PaymentMethodListParams", _list("payment_method", lambda s, p, a: s.methods_of(p))),
    _call("GET", "/v1/payment_methods/{}", "PaymentMethodRetrieveParams", _retrieve("payment_method")),
    _call("POST", "/v1/payment_methods/{}/attach", "PaymentMethodAttachParams", lambda s, ids, p, a: s.payments.attach(ids[0], s.payments.customer(p.get("customer", ""))["id"])),
    _call("POST", "/v1/payment_methods/{}/detach", "PaymentMethodDetachParams", lambda s, ids, p, a: s.payments.detach(ids[0])),
    _call("POST", "/v1/setup_intents", "SetupIntentCreateParams", lambda s, ids, p, a: s.payments.create_setup(p)),
    _call("GET", "/v1/setup_intents/{}", "SetupIntentRetrieveParams", _retrieve("setup_intent")),
    _call("POST", "/v1/setup_intents/{}/confirm", "SetupIntentConfirmParams", lambda s, ids, p, a: s.payments.confirm_setup(ids[0], p)),
    _call("POST", "/v1/payment_intents", "PaymentIntentCreateParams", lambda s, ids, p, a: s.payments.create_intent(p)),
    _call("GET", "/v1/payment_intents", "PaymentIntentListParams", _list("payment_intent")),
    _call("GET", "/v1/payment_intents/{}", "PaymentIntentRetrieveParams", _retrieve("payment_intent")),
    _call("POST", "/v1/payment_intents/{}/confirm", "PaymentIntentConfirmParams", lambda s, ids, p, a: s.payments.confirm_intent(ids[0], p)),
    _call("POST", "/v1/payment_intents/{}/cancel", "PaymentIntentCancelParams", lambda s, ids, p, a: s.payments.cancel_intent(ids[0])),
    _call("GET", "/v1/charges", "ChargeListParams", _list("charge")),
    _call("GET", "/v1/charges/{}", "ChargeRetrieveParams", _retrieve("charge")),
    _call("GET", "/v1/balance_transactions/{}", "BalanceTransactionRetrieveParams", _retrieve("balance_transaction")),
    _call("GET", "/v1/application_fees/{}", "ApplicationFeeRetrieveParams", _retrieve("application_fee")),
    _call("GET", "/v1/transfers/{}", "TransferRetrieveParams", _retrieve("transfer")),
    _call("POST", "/v1/refunds", "RefundCreateParams", lambda s, ids, p, a: s.reversals.refund(p)),
    _call("GET", "/v1/refunds", "RefundListParams", _list("refund")),
    _call("GET", "/v1/refunds/{}", "RefundRetrieveParams", _retrieve("refund")),
    _call("GET", "/v1/disputes", "DisputeListParams", _list("dispute")),
    _call("GET", "/v1/disputes/{}", "DisputeRetrieveParams", _retrieve("dispute")),
    _call("POST", "/v1/products", "ProductCreateParams", lambda s, ids, p, a: s.catalog.create_product(p)),
    _call("GET", "/v1/products/{}", "ProductRetrieveParams", _retrieve("product")),
    _call("POST", "/v1/prices", "PriceCreateParams", lambda s, ids, p, a: s.catalog.create_price(p)),
    _call("GET", "/v1/prices", "PriceListParams", _list("price", lambda s, p, a: s.catalog.prices(p))),
    _call("GET", "/v1/prices/{}", "PriceRetrieveParams", _retrieve("price")),
    _call("POST", "/v1/coupons", "CouponCreateParams", lambda s, ids, p, a: s.catalog.create_coupon(p)),
    _call("GET", "/v1/coupons/{}", "CouponRetrieveParams", _retrieve("coupon")),
    _call("POST", "/v1/subscriptions", "SubscriptionCreateParams", lambda s, ids, p, a: s.subscriptions.create(p)),
    _call("GET", "/v1/subscriptions", "SubscriptionListParams", _list("subscription")),
    _call("GET", "/v1/subscriptions/{}", "SubscriptionRetrieveParams", _retrieve("subscription")),
    _call("POST", "/v1/subscriptions/{}", "SubscriptionUpdateParams", lambda s, ids, p, a: s.subscriptions.update(ids[0], p)),
    _call("DELETE", "/v1/subscriptions/{}", "SubscriptionCancelParams", lambda s, ids, p, a: s.subscriptions.cancel(ids[0])),
    _call("GET", "/v1/invoices", "InvoiceListParams", _list("invoice", lambda s, p, a: s.invoices_of(p))),
    _call("GET", "/v1/invoices/{}", "InvoiceRetrieveParams", _retrieve("invoice")),
    _call("POST", "/v1/invoices/{}/pay", "InvoicePayParams", lambda s, ids, p, a: s.invoices.pay(ids[0])),
    _call("POST", "/v1/invoices/{}/void", "InvoiceVoidInvoiceParams", lambda s, ids, p, a: s.invoices.give_up(ids[0])),
    _call("GET", "/v1/invoice_payments", "InvoicePaymentListParams", _list("invoice_payment")),
    _call("GET", "/v1/invoice_payments/{}", "InvoicePaymentRetrieveParams", _retrieve("invoice_payment")),
    _call("POST", "/v1/accounts", "AccountCreateParams", lambda s, ids, p, a: s.connect.create(p)),
    _call("GET", "/v1/accounts", "AccountListParams", _list("account")),
    _call("GET", "/v1/accounts/{}", "AccountRetrieveParams", lambda s, ids, p, a: s.connect.get(ids[0])),
    _call("POST", "/v1/account_links", "AccountLinkCreateParams", lambda s, ids, p, a: s.connect.link(p)),
    _call("GET", "/v1/balance", "BalanceRetrieveParams", lambda s, ids, p, a: s.connect.balance(a)),
    _call("POST", "/v1/payouts", "PayoutCreateParams", lambda s, ids, p, a: s.connect.payout(a, p)),
    _call("GET", "/v1/payouts", "PayoutListParams", _list("payout")),
    _call("GET", "/v1/payouts/{}", "PayoutRetrieveParams", _retrieve("payout")),
    _call("GET", "/v1/events", "EventListParams", _list("event")),
    _call("GET", "/v1/events/{}", "EventRetrieveParams", _retrieve("event")),
)


class Api:
    """Answers requests as Stripe's API would: keys, versions, parameters, idempotency, expansion."""

    def __init__(self, sandbox: Sandbox, key: str, api_version: str) -> None:
        self._sandbox = sandbox
        self._key = key
        self._version = api_version

    def answer(self, method: str, path: str, query: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One request, whole or not at all; ``headers`` with lower-case names."""
        store = self._sandbox.store
        extra: dict[str, str] = {}
        try:
            with store.changing():
                status, text = self._carried_out(method, path, query, body, headers, extra)
        except ApiError as error:
            status, text = error.status, json.dumps(error.body)
        return Answer(status, {
            "Content-Type": "application/json", "Request-Id": store.fresh("req"), "Date": formatdate(store.now(), usegmt=True),
            "Stripe-Version": self._version, **extra,
        }, text.encode())

    def _carried_out(
        self, method: str, path: str, query: str, body: bytes, headers: Mapping[str, str], extra: dict[str, str]
    ) -> tuple[int, str]:
        given = decoded(body.decode() if method == "POST" else query)
        self._authorized(path, given, headers)
        key = headers.get("idempotency-key") if method == "POST" else None
        account = headers.get("stripe-account", "")
        request = hashlib.sha256(json.dumps([path, given], sort_keys=True).encode()).hexdigest()
        scoped = f"{account}:{key}"
        if key is not None and (known := self._sandbox.store.answered(scoped)) is not None:
            if known[0] != request:
                raise ApiError(
                    "Keys for idempotent requests can only be used with the same parameters they were first used with. "
                    f"Try using a key other than '{key}' if you meant to execute a different request.", kind="idempotency_error",
                )
            extra["Idempotent-Replayed"] = "true"
            return known[1], known[2]
        try:
            status, text = 200, json.dumps(self._called(method, path, given, account))
        except ApiError as error:
            if not error.kept:
                raise
            status, text = error.status, json.dumps(error.body)
        if key is not None:
            self._sandbox.store.keep_answer(scoped, request, status, text)
        return status, text

    def _authorized(self, path: str, given: Document, headers: Mapping[str, str]) -> None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if compare_digest(key, PUBLISHABLE_KEY) and CONFIRMATIONS.fullmatch(path):
            intent = self._sandbox.store.get(path.split("/")[3])
            if intent is not None and compare_digest(intent["client_secret"], str(given.pop("client_secret", ""))):
                return
        if scheme != "Bearer" or not compare_digest(key, self._key):
            raise ApiError("Invalid API Key provided", status=401)
        version = headers.get("stripe-version", self._version)
        if version != self._version:
            raise ApiError(f"This sandbox speaks version {self._version} only, not {version}.")

    def _called(self, method: str, path: str, given: Document, account: str) -> Document:
        import stripe.params

        for call in CALLS:
            found = call.path.fullmatch(path)
            if found is None or call.method != method:
                continue
            p = checked(given, getattr(stripe.params, call.params) if call.params else None)
            if account:
                self._sandbox.connect.get(account)
            shown = call.handle(self._sandbox, found.groups(), p, account)
            return self._shown(shown, p.get("expand", []), account)
        raise ApiError(f"Unrecognized request URL ({method}: {path}).", status=404)

    def _shown(self, document: Document, expand: list[str], account: str) -> Document:
        shown: Document = public(document)
        for path in expand:
            steps = path.split(".")
            if len(steps) > EXPAND_DEPTH:
                raise ApiError(f"You cannot expand more than {EXPAND_DEPTH} levels of a property.", param="expand")
            self._expand(shown, steps, path, account)
        return shown

    def _expand(self, node: Any, steps: list[str], path: str, account: str) -> None:
        if isinstance(node, list):
            for item in node:
                self._expand(item, steps, path, account)
            return
        name = steps[0]
        if node.get("object") in INCLUDABLE and name in INCLUDABLE[node["object"]]:
            node[name] = self._included(node, name)
        if name not in node:
            raise ApiError(f"This property cannot be expanded ({path}).", param="expand")
        value = node[name]
        if isinstance(value, str):
            found = self._sandbox.store.get(value)
            if found is None:
                raise ApiError(f"This property cannot be expanded ({path}).", param="expand")
            value = node[name] = public(found)
        if len(steps) > 1 and value is not None:
            self._expand(value, steps[1:], path, account)

    def _included(self, invoice: Document, name: str) -> Document | None:
        stored = self._sandbox.invoices.get(invoice["id"])
        intent = self._sandbox.invoices.intent_of(stored)
        if name == "confirmation_secret":
            return intent and {"client_secret": intent["client_secret"], "type": "payment_intent"}
        payment = self._sandbox.store.get(stored["_payment"] or "", "invoice_payment")
        return {
            "object": "list", "data": [public(payment)] if payment else [], "has_more": False, "url": f"/v1/invoices/{invoice['id']}/payments",
        }

"""Whatever people do at the payments' sandbox, in whatever order: money adds up, and access follows what was paid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.embedded.sandbox_provider.api import Api
from cluster.embedded.sandbox_provider.sandbox import Sandbox

KEY, VERSION = "sk_test_x", "2026-10-28.endive"
PRICES = {"low": 1_000, "high": 3_000}
CARDS = st.sampled_from(["pm_card_visa", "pm_card_chargeCustomerFail", "pm_card_authenticationRequired"])


class Payers(RuleBasedStateMachine):
    """One payer, one creator; through the sandbox's own API, as the client calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.sandbox = Sandbox(Path(":memory:"), VERSION, "http://sandbox")
        self.api = Api(self.sandbox, KEY, VERSION)
        self.keys = 0
        self.subscriptions: list[str] = []
        self.payments: list[str] = []
        self.repeated: list[tuple[tuple[Any, ...], dict[str, str], bytes]] = []

    def ask(self, method: str, path: str, expected: tuple[int, ...] = (200,), *, account: str = "", **form: str) -> dict[str, Any]:
        self.keys += 1
        body = urlencode(form).encode() if method == "POST" else b""
        query = urlencode(form) if method != "POST" else ""
        headers = {"authorization": f"Bearer {KEY}", "idempotency-key": str(self.keys)} | ({"stripe-account": account} if account else {})
        answer = self.api.answer(method, path, query, body, headers)
        found: dict[str, Any] = json.loads(answer.body)
        assert answer.status in expected, (method, path, form, found)
        if method == "POST" and answer.status in (200, 402):
            self.repeated.append(((method, path, query, body), headers, answer.body))
        return found

    @initialize()
    def people(self) -> None:
        self.customer = self.ask("POST", "/v1/customers")["id"]
        self.method = self.sandbox.payments.attach("pm_card_visa", self.customer)["id"]
        self.account = self.ask("POST", "/v1/accounts", **{"capabilities[transfers][requested]": "true", "metadata[creatorId]": "c"})["id"]
        self.sandbox.connect.verify(self.account, ok=True)
        self.ask("POST", "/v1/products", id="tier", name="Tier")
        self.prices = {
            name: self.ask("POST", "/v1/prices", **{
                "product": "tier", "currency": "usd", "unit_amount": str(amount), "recurring[interval]": "month", "lookup_key": name,
            })["id"]
            for name, amount in PRICES.items()
        }

    @rule(card=CARDS)
    def card(self, card: str) -> None:
        self.sandbox.payments.behave(self.method, card)

    @rule(tier=st.sampled_from(sorted(PRICES)), trial_days=st.sampled_from([0, 7]))
    @precondition(lambda self: len(self.subscriptions) < 3)
    def subscribe(self, tier: str, trial_days: int) -> None:
        made = self.ask("POST", "/v1/subscriptions", **{
            "customer": self.customer, "items[0][price]": self.prices[tier], "default_payment_method": self.method,
            "application_fee_percent": "20.0", "transfer_data[destination]": self.account, "payment_behavior": "allow_incomplete",
        } | ({"trial_period_days": str(trial_days)} if trial_days else {}))
        self.subscriptions.append(made["id"])

    def _some(self, data: st.DataObject) -> dict[str, Any]:
        return self.ask("GET", f"/v1/subscriptions/{data.draw(st.sampled_from(self.subscriptions))}")

    @rule(data=st.data(), tier=st.sampled_from(sorted(PRICES)), now=st.booleans())
    @precondition(lambda self: bool(self.subscriptions))
    def change(self, data: st.DataObject, tier: str, now: bool) -> None:
        found = self._some(data)
        item = found["items"]["data"][0]
        form = {"items[0][id]": item["id"], "items[0][price]": self.prices[tier], "proration_behavior": "always_invoice" if now else "none"}
        if now:
            form["payment_behavior"] = "pending_if_incomplete"
            if found["status"] == "trialing":
                form["trial_end"] = "now"
        self.ask("POST", f"/v1/subscriptions/{found['id']}", (200, 400), **form)

    @rule(data=st.data(), ends=st.booleans())
    @precondition(lambda self: bool(self.subscriptions))
    def cancel_or_resume(self, data: st.DataObject, ends: bool) -> None:
        self.ask("POST", f"/v1/subscriptions/{self._some(data)['id']}", (200, 400), cancel_at_period_end=str(ends).lower())

    @rule(amount=st.integers(1, 5_000))
    def pay(self, amount: int) -> None:
        made = self.ask("POST", "/v1/payment_intents", (200, 402), **{
            "amount": str(amount), "currency": "usd", "customer": self.customer, "payment_method": self.method, "confirm": "true",
            "application_fee_amount": str(amount // 5), "transfer_data[destination]": self.account,
        })
        self.payments.append(made.get("error", {}).get("payment_intent", made)["id"])

    @rule(succeeds=st.booleans())
    def authenticate(self, succeeds: bool) -> None:
        for intent in self.sandbox.store.all("payment_intent"):
            if intent["status"] == "requires_action":
                with self.sandbox.store.changing():
                    self.sandbox.payments.authenticate(intent["client_secret"], succeeds=succeeds)
                return

    @rule(data=st.data(), part=st.integers(1, 3_000) | st.none())
    def refund(self, data: st.DataObject, part: int | None) -> None:
        paid = [charge["payment_intent"] for charge in self.sandbox.store.all("charge")]
        if paid:
            self.ask("POST", "/v1/refunds", (200, 400), **{
                "payment_intent": data.draw(st.sampled_from(paid)), "reverse_transfer": "true", "refund_application_fee": "true",
            } | ({} if part is None else {"amount": str(part)}))

    @rule(data=st.data())
    def refund_fails(self, data: st.DataObject) -> None:
        made = [refund["id"] for refund in self.sandbox.store.all("refund") if refund["status"] == "succeeded"]
        if made:
            with self.sandbox.store.changing():
                self.sandbox.reversals.fail_refund(data.draw(st.sampled_from(made)))

    @rule(hours=st.sampled_from([1, 24, 24 * 8, 24 * 33]))
    def time_passes(self, hours: int) -> None:
        with self.sandbox.store.changing():
            self.sandbox.store.advance(hours * 3_600)
        self.sandbox.catch_up()

    @rule(data=st.data())
    @precondition(lambda self: bool(self.repeated))
    def repeat(self, data: st.DataObject) -> None:
        """A request under the same key gets the same answer, and nothing happens."""
        request, headers, answer = data.draw(st.sampled_from(self.repeated[-20:]))
        before = self.sandbox.store.counts()
        assert self.api.answer(*request, headers).body == answer
        assert self.sandbox.store.counts() == before

    @invariant()
    def the_creator_has_what_was_charged_less_fees_and_refunds(self) -> None:
        held = sum(entry["amount"] for entry in self.sandbox.store.all("_entry", getattr(self, "account", "")))
        charged = sum(charge["amount"] for charge in self.sandbox.store.all("charge"))
        reversed_ = sum(transfer["amount_reversed"] for transfer in self.sandbox.store.all("transfer"))
        fees = sum(fee["amount"] - fee["amount_refunded"] for fee in self.sandbox.store.all("application_fee"))
        assert held == charged - reversed_ - fees

    @invariant()
    def nothing_is_refunded_twice_and_bills_are_paid_by_charges(self) -> None:
        charges = {charge["payment_intent"]: charge for charge in self.sandbox.store.all("charge")}
        assert all(0 <= charge["amount_refunded"] <= charge["amount"] for charge in charges.values())
        standing = [refund for refund in self.sandbox.store.all("refund") if refund["status"] == "succeeded"]
        for charge in charges.values():
            assert charge["amount_refunded"] == sum(refund["amount"] for refund in standing if refund["charge"] == charge["id"])
        for invoice in self.sandbox.store.all("invoice"):
            intent = self.sandbox.invoices.intent_of(invoice)
            if invoice["status"] == "paid":
                assert invoice["amount_paid"] == (0 if intent is None else charges[intent["id"]]["amount"])
            elif intent is not None:
                assert intent["id"] not in charges

    @invariant()
    def whoever_is_active_has_paid_for_the_present_period(self) -> None:
        now = self.sandbox.store.now()
        paid_until: dict[str, set[int]] = {}
        for invoice in self.sandbox.store.all("invoice"):
            if invoice["status"] == "paid":
                of = invoice["parent"]["subscription_details"]["subscription"]
                paid_until.setdefault(of, set()).update(line["period"]["end"] for line in invoice["lines"]["data"])
        for found in self.sandbox.store.all("subscription"):
            end = found["items"]["data"][0]["current_period_end"]
            if found["status"] in ("active", "trialing"):
                assert end > now
                assert end in paid_until[found["id"]]


Payers.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestPayers = Payers.TestCase

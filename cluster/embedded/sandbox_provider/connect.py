"""Connected accounts of the sandbox: onboarding, balances, payouts."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from cluster.embedded.sandbox_provider.errors import ApiError, missing
from cluster.embedded.sandbox_provider.events import Events
from cluster.embedded.sandbox_provider.payments import DAY_S
from cluster.embedded.sandbox_provider.store import Document, Store

LINK_S: Final = 300
ARRIVAL_S: Final = 2 * DAY_S
DUE: Final = ["external_account", "individual.dob.day", "individual.first_name", "individual.last_name", "tos_acceptance.date"]


def _is_url(text: str) -> bool:
    try:
        return bool(urlsplit(text).hostname)
    except ValueError:
        return False


class Connect:
    def __init__(self, store: Store, events: Events, url: str) -> None:
        self._store = store
        self._events = events
        self._url = url

    def create(self, p: Document) -> Document:
        made = self._store.add({
            "id": self._store.fresh("acct"), "object": "account", "business_type": p.get("business_type"), "capabilities": {
                name: "inactive" for name, wanted in p.get("capabilities", {}).items() if wanted.get("requested")
            },
            "charges_enabled": False, "controller": {"type": "application", **p.get("controller", {})}, "country": p.get("country", "US"), "created": self._store.now(),
            "default_currency": p.get("default_currency", "usd"), "details_submitted": False, "email": p.get("email"),
            "metadata": p.get("metadata", {}), "payouts_enabled": False,
            "requirements": {"currently_due": DUE, "past_due": [], "eventually_due": DUE, "disabled_reason": "requirements.past_due", "current_deadline": None},
            "settings": {"payouts": {"schedule": {"interval": "daily", **p.get("settings", {}).get("payouts", {}).get("schedule", {})}}},
            "_bank": "works",
        })
        self._events.emit("account.updated", made, account=made["id"])
        return made

    def get(self, object_id: str) -> Document:
        found = self._store.get(object_id, "account")
        if found is None:
            raise ApiError(
                f"The provided key does not have access to account '{object_id}' (or that account does not exist).", status=403,
                code="account_invalid",
            )
        return found

    def link(self, p: Document) -> Document:
        account = self.get(p["account"])
        if "return_url" not in p or "refresh_url" not in p:
            raise ApiError("An onboarding link needs return_url and refresh_url.", param="return_url")
        for name in ("return_url", "refresh_url"):
            if not _is_url(p[name]):
                raise ApiError("Not a valid URL", code="url_invalid", param=name)
        token, now = self._store.fresh("link"), self._store.now()
        self._store.add({"id": token, "object": "_link", "account": account["id"], "return_url": p["return_url"], "expires_at": now + LINK_S, "used": False})
        return {"object": "account_link", "created": now, "expires_at": now + LINK_S, "url": f"{self._url}/sandbox/onboarding/{token}"}

    def onboard(self, token: str, *, ok: bool = True) -> Document:
        """The creator has said all that was asked. Raises ApiError: the link is used or expired."""
        link = self._store.get(token, "_link")
        if link is None or link["used"] or link["expires_at"] <= self._store.now():
            raise missing("account link", token)
        self._store.save(link | {"used": True})
        self.verify(link["account"], ok=ok)
        return link

    def verify(self, account_id: str, *, ok: bool) -> Document:
        account = self.get(account_id)
        before = dict(account)
        account |= {
            "details_submitted": True, "charges_enabled": ok, "payouts_enabled": ok,
            "capabilities": dict.fromkeys(account["capabilities"], "active" if ok else "inactive"),
            "requirements": {"currently_due": [] if ok else ["individual.verification.document"], "past_due": [], "eventually_due": [],
                             "disabled_reason": None if ok else "requirements.past_due", "current_deadline": None},
        }
        self._store.save(account)
        self._events.emit("account.updated", account, account=account_id, before=before)
        return account

    def bank(self, account_id: str, behaviour: str) -> Document:
        """``works`` or ``fails``: what happens to payouts from now on."""
        return self._store.save(self.get(account_id) | {"_bank": behaviour})

    def balance(self, account_id: str) -> Document:
        now = self._store.now()
        sums: dict[str, dict[str, int]] = {"available": {}, "pending": {}}
        for entry in self._store.all("_entry", account_id):
            of = sums["available" if entry["available_on"] <= now else "pending"]
            of[entry["currency"]] = of.get(entry["currency"], 0) + entry["amount"]
        return {"object": "balance", "livemode": False, **{
            name: [{"amount": amount, "currency": currency} for currency, amount in sorted(of.items())] for name, of in sums.items()
        }}

    def payout(self, account_id: str, p: Document) -> Document:
        account = self.get(account_id)
        if not account["payouts_enabled"]:
            raise ApiError("Payouts are not enabled for this account.", code="payouts_not_allowed")
        currency = p["currency"].lower()
        available = {entry["currency"]: entry["amount"] for entry in self.balance(account_id)["available"]}.get(currency, 0)
        if not 0 < p["amount"] <= available:
            raise ApiError("You have insufficient available funds for this payout.", code="balance_insufficient", param="amount")
        now = self._store.now()
        payout = self._store.add({
            "id": self._store.fresh("po"), "object": "payout", "amount": p["amount"], "arrival_date": now + ARRIVAL_S, "automatic": False,
            "created": now, "currency": currency, "failure_code": None, "failure_message": None, "livemode": False,
            "metadata": p.get("metadata", {}), "method": "standard", "status": "pending", "type": "bank_account",
        }, account=account_id)
        self._entry(account_id, payout, -1)
        self._events.emit("payout.created", payout, account=account_id)
        return payout

    def _entry(self, account_id: str, payout: Document, sign: int) -> None:
        self._store.add({
            "id": self._store.fresh("entry"), "object": "_entry", "amount": sign * payout["amount"], "currency": payout["currency"],
            "available_on": self._store.now(), "created": self._store.now(),
        }, account=account_id)

    def arrive(self, account_id: str, payout: Document) -> None:
        """The bank has taken the payout, or sends it back."""
        before = dict(payout)
        if self.get(account_id)["_bank"] == "fails":
            payout |= {"status": "failed", "failure_code": "account_closed", "failure_message": "The bank account has been closed."}
            self._entry(account_id, payout, 1)
        else:
            payout["status"] = "paid"
        self._store.save(payout)
        self._events.emit(f"payout.{payout['status']}", payout, account=account_id, before=before)

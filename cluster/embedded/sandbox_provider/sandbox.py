"""Everything that the sandbox holds, and its clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from cluster.embedded.sandbox_provider.catalog import Catalog
from cluster.embedded.sandbox_provider.connect import Connect
from cluster.embedded.sandbox_provider.events import Events
from cluster.embedded.sandbox_provider.invoices import Invoices
from cluster.embedded.sandbox_provider.payments import Payments
from cluster.embedded.sandbox_provider.reversals import Reversals
from cluster.embedded.sandbox_provider.store import Document, Store
from cluster.embedded.sandbox_provider.subscriptions import ENDED, Subscriptions

ADVANCE_MOST_S: Final = 800 * 86_400
SWITCHES: Final[dict[str, Any]] = {"duplicate": 0, "delay_s": 0.0, "reorder": False, "drop": False}
DUPLICATES_MOST: Final = 10
DELAY_MOST_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Due:
    at: int
    happen: partial[None]


class Sandbox:
    """The provider's whole state over one store."""

    def __init__(self, path: Path, api_version: str, url: str) -> None:
        self.store = Store(path)
        self.events = Events(self.store, api_version)
        self.payments = Payments(self.store, self.events)
        self.reversals = Reversals(self.store, self.events, self.payments)
        self.catalog = Catalog(self.store)
        self.invoices = Invoices(self.store, self.events, self.payments)
        self.subscriptions = Subscriptions(self.store, self.events, self.payments, self.invoices, self.catalog)
        self.connect = Connect(self.store, self.events, url)

    def methods_of(self, p: Document) -> Iterable[Document]:
        """Raises ApiError: of a customer whom there is not."""
        if "customer" in p:
            self.payments.customer(p["customer"])
        return self.store.all("payment_method")

    def invoices_of(self, p: Document) -> Iterable[Document]:
        wanted = p.pop("subscription", None)
        for invoice in self.store.all("invoice"):
            if wanted is None or invoice["parent"]["subscription_details"]["subscription"] == wanted:
                yield invoice

    def forget_customer(self, customer_id: str) -> Document:
        """Ends what the customer subscribes to and lets their cards go. The id is gone; payments keep it."""
        customer = self.payments.customer(customer_id)
        for subscription in list(self.store.all("subscription")):
            if subscription["customer"] == customer_id and subscription["status"] not in ENDED:
                self.subscriptions.cancel(subscription["id"])
        for method in list(self.store.all("payment_method")):
            if method["customer"] == customer_id:
                self.payments.detach(method["id"])
        self.store.remove(customer_id)
        self.events.emit("customer.deleted", customer)
        return {"id": customer_id, "object": "customer", "deleted": True}

    # -- time

    def _next_due(self, until: int) -> Due | None:
        """What happens first by itself, not after ``until``."""
        found: list[Due] = []
        for subscription in self.store.all("subscription"):
            at = self.subscriptions.due(subscription)
            if at is not None and at <= until:
                found.append(Due(at, partial(self.subscriptions.happen, subscription["id"])))
        for account in self.store.all("account"):
            found += [
                Due(payout["arrival_date"], partial(self.connect.arrive, account["id"], payout))
                for payout in self.store.all("payout", account["id"])
                if payout["status"] == "pending" and payout["arrival_date"] <= until
            ]
        return min(found, key=lambda due: due.at, default=None)

    def catch_up(self) -> int:
        """Lets everything happen that is due by now, each at its time; returns how many things did."""
        until, count = self.store.now(), 0
        while (due := self._next_due(until)) is not None:
            with self.store.changing(), self.store.at(due.at):
                due.happen()
            count += 1
        return count

    def advance(self, seconds: int) -> int:
        """Moves the virtual clock forward and lets everything happen on the way."""
        self.store.advance(seconds)
        return self.catch_up()

    # -- switches of webhooks

    @property
    def switches(self) -> dict[str, Any]:
        kept: dict[str, Any] = self.store.fact("switches", {})
        return SWITCHES | kept

    def switch(self, changes: Document) -> dict[str, Any]:
        """Raises ValueError: no such switch, or not one of its values."""
        unknown = set(changes) - set(SWITCHES)
        merged = self.switches | changes
        if unknown or not (
            isinstance(merged["duplicate"], int) and 0 <= merged["duplicate"] <= DUPLICATES_MOST
            and 0 <= float(merged["delay_s"]) <= DELAY_MOST_S and isinstance(merged["reorder"], bool) and isinstance(merged["drop"], bool)
        ):
            raise ValueError("switches: duplicate 0-10, delay_s 0-600, reorder, drop")
        self.store.keep_fact("switches", merged)
        return merged

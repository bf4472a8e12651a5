"""Events, as Stripe makes them of every change; ``sending`` delivers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.embedded.sandbox_provider.store import Document, Store


def public(document: Any) -> Any:
    """The document without what only the sandbox knows (names that begin with an underscore)."""
    if isinstance(document, dict):
        return {name: public(value) for name, value in document.items() if not name.startswith("_")}
    return [public(item) for item in document] if isinstance(document, list) else document


class Events:
    """Records what happened. An event lives in the account of its object."""

    def __init__(self, store: Store, api_version: str) -> None:
        self._store = store
        self._version = api_version
        self.emitted: Callable[[], None] = lambda: None
        """Called after each; before its transaction ends."""

    def emit(self, kind: str, document: Document, *, account: str = "", before: Document | None = None) -> None:
        shown = public(document)
        data: Document = {"object": shown}
        if before is not None:
            was = public(before)
            data["previous_attributes"] = {name: was.get(name) for name in shown if was.get(name) != shown[name]}
        event: Document = {
            "id": self._store.fresh("evt"), "object": "event", "api_version": self._version, "created": self._store.now(),
            "data": data, "livemode": False, "pending_webhooks": 1, "request": None, "type": kind,
            "_delivery": {"state": "waiting", "attempts": 0},
        }
        if account:
            event["account"] = account
        self._store.add(event, account=account)
        self.emitted()

"""Webhooks that never came: found in the provider's own list, and put into the log as if they had come.

Every ``payments.poll_s`` the newest reports are listed, and once a day (and when the process begins) those of the last
``payments.reconcile_days``, creators' accounts included. What no webhook brought by the second look is appended to
payment.webhooks; the consumer ``payments`` applies it once, whether the webhook comes after all or not.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from cluster.connections.postgres import translated
from configs.contracts.payments import Report
from configs.settings import Settings
from writers.connections import open_rows
from writers.consumers.payments import received
from writers.looks import ProviderLooks

log = structlog.get_logger(__name__)

RECONCILE_S: Final = 86_400.0
OVERLAP: Final = timedelta(seconds=120)
"""The list may show an event later than one that came after it."""
CHUNK: Final = 500
KNOWN = "SELECT provider_event_id FROM webhook_events WHERE provider = %s AND provider_event_id = ANY(%s) AND applied_at IS NOT NULL"


class PaymentPolling(ProviderLooks):
    """``figures``: looks, listed, found (that no webhook had brought)."""

    def __init__(self, settings: Settings, name: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(settings, name, "payment-polling", every_s=settings.payments.poll_s, clock=clock)
        self._newest: dict[str, datetime] = {}
        self._since: dict[str, datetime] = {}
        """Provider -> where the next look begins: what was missing for the first time is listed once more, however old it is."""
        self._suspects: dict[str, frozenset[str]] = {}
        self._reconciled_at: float | None = None
        self.figures.update(dict.fromkeys(("looks", "listed", "found", "failed"), 0))

    def look(self) -> int:
        """One look at every provider that can list; returns how many reports no webhook had brought."""
        whole = self._reconciled_at is None or time.monotonic() - self._reconciled_at >= RECONCILE_S
        found = sum(self._look_at(name, whole) for name in self._providers.names)
        if whole:
            self._reconciled_at = time.monotonic()
        self.figures["looks"] += 1
        return found

    async def _some(self, listing: AsyncIterator[Report]) -> dict[str, Report]:
        """The next reports of a list, at most CHUNK: their bodies are not held all at once."""
        found: dict[str, Report] = {}
        async for report in listing:
            found[report.event_id] = report
            if len(found) == CHUNK:
                break
        return found

    def _look_at(self, name: str, whole: bool) -> int:
        provider = self._run(self._providers.named(name))
        if not provider.capabilities.listing:
            return 0
        since = self._since[name] if name in self._since and not whole else (
            self._clock() - timedelta(days=self._settings.payments.reconcile_days)
        )
        listing = provider.list_since(since, accounts=whole)
        suspects, found, newest = self._suspects.get(name, frozenset()), 0, self._newest.get(name)
        missing: set[str] = set()
        suspected: list[datetime] = []
        while reports := self._run(self._some(listing)):
            self.figures["listed"] += len(reports)
            unknown = self._missing(name, list(reports))
            missing.update(unknown)
            # A webhook that is on its way is not lost: only what is still missing at the second look is.
            lost = [event_id for event_id in unknown if whole or event_id in suspects]
            suspected += [reports[event_id].created_at for event_id in set(unknown).difference(lost)]
            self._append([reports[event_id] for event_id in lost])
            found += len(lost)
            newest = max([*([newest] if newest else []), *(report.created_at for report in reports.values())])
        self._suspects[name] = frozenset(missing)
        if newest is not None:
            self._newest[name] = newest
            self._since[name] = min([newest - OVERLAP, *suspected])
        self.figures["found"] += found
        if found:
            log.info("lost_webhooks_found", provider=name, count=found, reconciling=whole)
        return found

    def _missing(self, name: str, event_ids: Sequence[str]) -> list[str]:
        with open_rows(self._settings, "payment-polling") as conn, translated():
            rows = conn.execute(KNOWN, (name, list(event_ids))).fetchall()
        known = {event_id for (event_id,) in rows}
        return [event_id for event_id in event_ids if event_id not in known]

    def _append(self, reports: Sequence[Report]) -> None:
        # Oldest first, as webhooks would mostly have come.
        self._appending.append([
            received(report, self._clock(), self._settings.log.partitions)
            for report in sorted(reports, key=lambda report: (report.created_at, report.event_id))
        ])

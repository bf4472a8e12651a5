"""What was missing at one look is looked for again, however old it is by then; no server is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from configs.contracts.payments import Capabilities, Report
from configs.settings import load_settings
from writers.payment_polling import OVERLAP, PaymentPolling

BEGAN = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Listing:
    """A provider that only lists, and remembers since when it was asked."""

    name = "listing"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.happened: list[Report] = []
        self.asked: list[datetime] = []

    def happens(self, event_id: str, at: datetime) -> None:
        self.happened.append(Report(
            provider=self.name, event_id=event_id, object_id="in_1", kind="invoice.paid", livemode=False, created_at=at, body="{}",
        ))

    async def list_since(self, since: datetime, *, accounts: bool = True) -> AsyncIterator[Report]:
        self.asked.append(since)
        for report in self.happened:
            if report.created_at >= since:
                yield report

    async def close(self) -> None:
        """Holds nothing."""


class Polling(PaymentPolling):
    """``known`` are the events that webhooks brought, ``found`` what was put into the log."""

    def __init__(self, provider: Listing) -> None:
        super().__init__(load_settings("test"), "test", clock=lambda: BEGAN)
        self.known: set[str] = set()
        self.found: list[str] = []

        async def named(name: str) -> Any:
            return provider

        self._providers: Any = SimpleNamespace(names=(provider.name,), named=named, close=provider.close)

    def _missing(self, name: str, event_ids: Sequence[str]) -> list[str]:
        return [event_id for event_id in event_ids if event_id not in self.known]

    def _append(self, reports: Sequence[Report]) -> None:
        self.found += [report.event_id for report in reports]


@pytest.fixture
def provider() -> Listing:
    return Listing()


@pytest.fixture
def polling(provider: Listing) -> Iterator[Polling]:
    """After its first look."""
    made = Polling(provider)
    provider.happens("before", BEGAN)
    made.known.add("before")
    assert made.look() == 0
    yield made
    made.close()


@pytest.mark.parametrize("outage", [timedelta(seconds=60), OVERLAP * 30])
def test_what_an_outage_lost_is_found_at_the_second_look_after_it(provider: Listing, polling: Polling, outage: timedelta) -> None:
    provider.happens("first", BEGAN + timedelta(seconds=1))
    provider.happens("last", BEGAN + outage)
    assert (polling.look(), polling.found) == (0, []), "their webhooks may be on their way"
    assert (polling.look(), sorted(polling.found)) == (2, ["first", "last"])
    polling.known |= {"first", "last"}
    assert polling.look() == 0


def test_what_is_in_the_log_is_not_listed_again_for_ever(provider: Listing, polling: Polling) -> None:
    provider.happens("first", BEGAN + timedelta(seconds=1))
    provider.happens("last", BEGAN + OVERLAP * 30)
    for _ in range(3):
        polling.look()
    assert "first" in polling.found, "and not applied yet"
    assert provider.asked[-1] == BEGAN + OVERLAP * 29

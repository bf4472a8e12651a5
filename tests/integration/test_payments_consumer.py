"""The consumer of webhooks over given records: once whatever happens to it, and nothing in the way of others."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest
from payments_world import SandboxDriver
from pydantic import SecretStr

from configs.contracts import topics
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import Event, WebhookReceived, encode
from configs.contracts.ids import new_id
from configs.settings import Settings
from writers.connections import open_rows
from writers.consumers import payments as consumer
from writers.consumers.payments import Payments
from writers.positions import Ownership
from writers.records import LogRecord

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def settings(servers: Settings, sandbox: SandboxDriver) -> Settings:
    return sandbox.settings(servers)


class TestTheConsumer:
    def webhook(self, object_id: str, provider: str = "stripe") -> LogRecord:
        payload = WebhookReceived(
            provider=provider, provider_event_id=f"evt_{new_id()}", object_id=object_id, kind="payment_intent.succeeded", livemode=False,
            created_at=datetime.now(UTC), body="{}",
        )
        value = encode(Event(new_id(), datetime.now(UTC), object_id, payload))
        return LogRecord(topics.PAYMENT_WEBHOOKS.name, 0, 0, object_id.encode(), value)

    @pytest.fixture
    def appended(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The ids of what the consumer appends; rows and positions are said to be there."""
        monkeypatch.setattr(consumer, "wait_for_rows", lambda *args: None)
        monkeypatch.setattr(consumer, "without_dead", lambda conn, records, generations: records)
        monkeypatch.setattr(consumer, "advance", lambda *args: None)
        found: list[str] = []
        monkeypatch.setattr(
            consumer.Appending, "append",
            lambda _, records: found.extend(json.loads(record.value)["eventId"] for record in records),
        )
        return found

    async def handled(self, settings: Settings, *records: LogRecord) -> dict[str, int]:
        def work() -> dict[str, int]:
            made = Payments(settings, "test")
            try:
                with open_rows(settings, "test") as conn:
                    made.handle(conn, Ownership("payments", 1, {}), {}, records)
            finally:
                made.close()
            return {what: count for what, count in made.figures.items() if count}

        return await asyncio.to_thread(work)

    async def test_killed_before_its_commit_it_appends_under_the_same_ids(
        self, sandbox: SandboxDriver, settings: Settings, appended: list[str]
    ) -> None:
        provider = sandbox.provider()
        record = self.webhook((await provider.pay((await sandbox.pair(provider)).pay())).object_id)
        await provider.close()
        for _ in range(2):
            await self.handled(settings, record)
        assert (len(appended), len(set(appended))) == (2, 1)

    async def test_objects_that_nobody_knows_and_providers_without_keys_hold_nothing_up(
        self, settings: Settings, appended: list[str]
    ) -> None:
        figures = await self.handled(settings, self.webhook("pi_unknown"), self.webhook("x_1"), self.webhook("t1", "hosted_form"))
        assert (figures, appended) == ({"refused": 3}, [])

    async def test_a_provider_that_is_away_is_waited_for(self, settings: Settings, appended: list[str]) -> None:
        away = settings.model_copy(update={"payments": settings.payments.model_copy(update={"stripe_url": "http://127.0.0.1:9"})})
        with pytest.raises(DependencyUnavailable):
            await self.handled(away, self.webhook("pi_1"))
        refusing = settings.model_copy(update={"payments": settings.payments.model_copy(
            update={"stripe_key": SecretStr("sk_test_wrong")}
        )})
        with pytest.raises(DependencyUnavailable):
            await self.handled(refusing, self.webhook("pi_1"))

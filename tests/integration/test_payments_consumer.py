"""The consumer of webhooks over given records: once whatever happens to it, and nothing in the way of others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from payments_world import SandboxDriver
from pydantic import SecretStr

from cluster.connections.kafka import Record
from configs.contracts import topics
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import Event, WebhookReceived, decode_many, encode
from configs.contracts.ids import new_id
from configs.groups.payments import HostedForm
from configs.settings import Settings
from writers.connections import open_rows
from writers.consumers import payments as consumer
from writers.consumers.deriving import Appending
from writers.consumers.payments import Payments
from writers.positions import Ownership
from writers.records import LogRecord

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def settings(servers: Settings, sandbox: SandboxDriver) -> Settings:
    return sandbox.settings(servers)


class TestTheConsumer:
    def webhook(
        self, object_id: str, provider: str = "stripe", kind: str = "payment_intent.succeeded", body: str = "{}"
    ) -> LogRecord:
        payload = WebhookReceived(
            provider=provider, provider_event_id=f"evt_{new_id()}", object_id=object_id, kind=kind, livemode=False,
            created_at=datetime.now(UTC), body=body,
        )
        value = encode(Event(new_id(), datetime.now(UTC), object_id, payload))
        return LogRecord(topics.PAYMENT_WEBHOOKS.name, 0, 0, object_id.encode(), value)

    @pytest.fixture
    def facts(self) -> list[tuple[str, str]]:
        """(topic, kind of fact) of what the consumer appends."""
        return []

    @pytest.fixture
    def appended(self, monkeypatch: pytest.MonkeyPatch, facts: list[tuple[str, str]]) -> list[str]:
        """The ids of what the consumer appends; rows and positions are said to be there."""
        monkeypatch.setattr(consumer, "wait_for_rows", lambda *args: None)
        monkeypatch.setattr(consumer, "without_dead", lambda conn, records, generations: records)
        monkeypatch.setattr(consumer, "advance", lambda *args: None)
        found: list[str] = []

        def append(_: Appending, records: Sequence[Record]) -> None:
            for record, event in zip(records, decode_many([record.value for record in records]), strict=True):
                assert isinstance(event, Event)
                found.append(event.event_id)
                facts.append((record.topic, event.payload.fact.kind))

        monkeypatch.setattr(consumer.Appending, "append", append)
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

    @pytest.fixture
    def both(self, settings: Settings) -> Settings:
        """A hosted form takes payments beside the sandbox."""
        form = HostedForm(url="https://form.example/pay", account="a-1", form_key=SecretStr("f"), postback_keys=(SecretStr("p"),))
        return settings.model_copy(update={"payments": settings.payments.model_copy(update={"hosted_form": form})})

    def postback(self, sale_id: str, event: str, sequence: int) -> LogRecord:
        people = [f"01900000-0000-7000-8000-00000000000{number}" for number in (1, 2, 3)]
        now = int(datetime.now(UTC).timestamp())
        return self.webhook(sale_id, "hosted_form", event, urlencode({
            "event": event, "saleId": sale_id, "transactionId": f"{sale_id}-{sequence}", "sequence": sequence, "currency": "USD",
            "amount": "9.99", "feePercent": 20, "payerId": people[0], "payeeId": people[1], "requestId": people[2], "tierId": new_id(),
            "interval": "month", "recurringPrice": "9.99", "status": "active", "periodStart": now, "periodEnd": now + 86_400,
        }))

    async def test_of_reports_that_are_the_facts_themselves_each_is_applied_once_and_in_order(
        self, both: Settings, appended: list[str], facts: list[tuple[str, str]]
    ) -> None:
        sale, renewal, cancellation = (
            self.postback("sale-1", event, number) for number, event in enumerate(("sale", "renewal", "cancellation"), 1)
        )
        figures = await self.handled(both, sale, renewal, sale, cancellation)
        assert figures == {"applied": 3, "repeated": 1}
        assert len(appended) == len(set(appended))
        assert [kind for topic, kind in facts if topic == "payment.completed"] == ["invoice_paid"] * 2
        assert [kind for topic, kind in facts if topic == "subscription.created"] == [
            "invoice_paid", "subscription_state", "invoice_paid", "subscription_state", "subscription_state",
        ]

    @pytest.mark.parametrize("first", ["stripe", "hosted_form"])
    async def test_what_one_provider_tells_is_applied_while_another_is_away(
        self, both: Settings, appended: list[str], facts: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, first: str
    ) -> None:
        moved: list[object] = []
        monkeypatch.setattr(consumer, "advance", lambda *args: moved.append(args))
        monkeypatch.setattr(consumer, "BATCH", 2)
        away = both.model_copy(update={"payments": both.payments.model_copy(update={"stripe_url": "http://127.0.0.1:9"})})
        of_each = [self.webhook("pi_1"), self.postback("sale-1", "sale", 1)]
        with pytest.raises(DependencyUnavailable):
            await self.handled(away, *(of_each if first == "stripe" else of_each[::-1]), self.postback("sale-2", "sale", 1))
        assert [kind for topic, kind in facts if topic == "payment.completed"] == ["invoice_paid"] * 2
        assert moved == [], "the other's webhooks are read again"

    async def test_a_provider_that_is_away_is_waited_for(self, settings: Settings, appended: list[str]) -> None:
        away = settings.model_copy(update={"payments": settings.payments.model_copy(update={"stripe_url": "http://127.0.0.1:9"})})
        with pytest.raises(DependencyUnavailable):
            await self.handled(away, self.webhook("pi_1"))
        refusing = settings.model_copy(update={"payments": settings.payments.model_copy(
            update={"stripe_key": SecretStr("sk_test_wrong")}
        )})
        with pytest.raises(DependencyUnavailable):
            await self.handled(refusing, self.webhook("pi_1"))

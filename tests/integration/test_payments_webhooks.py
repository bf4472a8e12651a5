"""Webhooks from the sandbox's signature to facts in rows: forged, doubled, late, shuffled, lost, and while servers are away."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import uvicorn
from api_world import NoRows, Shards, World
from local_http import local_client
from log_reading import records_of
from log_writing import eventually
from payments_world import SECRET, Pair, SandboxDriver, price
from stripe import WebhookSignature

from cluster.embedded.ports import free_port
from cluster.launch.prepare import prepare
from cluster.launch.servers import EmbeddedServers
from configs.contracts import topics
from configs.contracts.events import Event
from configs.contracts.ids import new_id
from configs.contracts.payment_facts import AnyFact, InvoicePaid, PaymentSucceeded, Refunded, SubscriptionState
from configs.contracts.payments import Refund
from configs.settings import Settings
from writers.connections import open_rows
from writers.payment_polling import PaymentPolling
from writers.worker import Writer

pytestmark = pytest.mark.servers

PATH = "/api/v1/payments/webhooks/stripe"


@pytest.fixture(scope="module")
def api_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory, api_port: int) -> Iterator[SandboxDriver]:
    driver = SandboxDriver(tmp_path_factory.mktemp("sandbox"), webhook_url=f"http://127.0.0.1:{api_port}{PATH}")
    yield driver
    driver.stop()


@pytest.fixture(scope="module")
def settings(servers: Settings, sandbox: SandboxDriver) -> Settings:
    """Nobody polls by themselves here."""
    paying = sandbox.settings(servers, poll_s=3_600.0)
    return paying.model_copy(update={"plan": paying.plan.model_copy(update={"writer_actors": 1})})


@pytest_asyncio.fixture(scope="module")
async def api(settings: Settings, shards: Shards, api_port: int) -> AsyncIterator[World]:
    """A replica behind a real HTTP server."""
    world = World(settings, shards)
    await world.start()
    server = uvicorn.Server(uvicorn.Config(world.app, port=api_port, lifespan="off", log_level="critical", access_log=False))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield world
    server.should_exit = True
    await task
    await world.close()


@pytest.fixture(scope="module")
def writer(settings: Settings) -> Iterator[Writer]:
    fenced: list[str] = []
    made = Writer(settings, 0, fenced=fenced.append)
    made.start()
    yield made
    made.stop()
    assert fenced == []


FACTS = msgspec.json.Decoder(AnyFact)


def facts_of(settings: Settings, owner_id: str) -> list[Any]:
    """Everything that rows know about a person's money."""
    with open_rows(settings, "test") as conn:
        rows = conn.execute("SELECT fact::text FROM provider_facts WHERE owner_id = %s ORDER BY version", (owner_id,)).fetchall()
    return [FACTS.decode(text) for (text,) in rows]


def newest(facts: list[Any], kind: type) -> Any:
    return max((fact for fact in facts if isinstance(fact, kind)), key=lambda fact: fact.order, default=None)


def signed(body: bytes, secret: str = SECRET, *, age_s: int = 0) -> dict[str, str]:
    at = int(datetime.now(UTC).timestamp()) - age_s
    return {"Stripe-Signature": WebhookSignature.generate_signature_header(body.decode(), secret, at), "Content-Type": "application/json"}


def event(**changes: Any) -> bytes:
    return json.dumps({
        "id": f"evt_{new_id()}", "object": "event", "type": "invoice.paid", "created": 1_777_000_000, "livemode": False,
        "data": {"object": {"id": "in_1"}},
    } | changes).encode()


async def kept_of(settings: Settings, topic: str, key: str) -> list[Event]:
    return await asyncio.to_thread(records_of, settings, topic, key)


BAD: dict[str, Callable[[bytes], tuple[bytes, dict[str, str]]]] = {
    "forged with another secret": lambda body: (body, signed(body, "whsec_other")),
    "changed after it was signed": lambda body: (body + b" ", signed(body)),
    "not signed": lambda body: (body, {"Content-Type": "application/json"}),
    "stale": lambda body: (body, signed(body, age_s=301)),
    "of the future": lambda body: (body, signed(body, age_s=-400)),
    "an old signature under a new time": lambda body: (body, signed(body) | {
        "Stripe-Signature": ",".join([signed(body)["Stripe-Signature"].partition(",")[0], signed(body, age_s=400)["Stripe-Signature"].partition(",")[2]])
    }),
    "no event": lambda body: (b"[" + body + b"]", signed(b"[" + body + b"]")),
    "no JSON": lambda body: (body[:-1], signed(body[:-1])),
}


class TestTheRoute:
    @pytest.mark.parametrize("kind", BAD)
    async def test_a_bad_webhook_is_refused_and_not_kept(self, api: World, settings: Settings, kind: str) -> None:
        object_id = f"in_{new_id()}"
        body = event(data={"object": {"id": object_id}})
        sent, headers = BAD[kind](body)
        answer = await api.client.post(PATH, content=sent, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "webhook_refused")
        assert await kept_of(settings, topics.PAYMENT_WEBHOOKS.name, object_id) == []

    async def test_what_the_provider_signed_lately_is_kept_as_it_came(self, api: World, settings: Settings) -> None:
        object_id = f"in_{new_id()}"
        body = event(data={"object": {"id": object_id}})
        answer = await api.client.post(PATH, content=body, headers=signed(body))
        assert (answer.status_code, answer.json()) == (200, {"received": True})
        [kept] = await kept_of(settings, topics.PAYMENT_WEBHOOKS.name, object_id)
        assert kept.payload.body == body.decode()

    async def test_unknown_providers_and_large_bodies_are_refused(self, api: World) -> None:
        body = event()
        assert (await api.client.post("/api/v1/payments/webhooks/paypal", content=body, headers=signed(body))).status_code == 422
        assert (await api.client.post("/api/v1/payments/webhooks/hosted_form", content=body, headers=signed(body))).status_code == 404
        large = event(padding="x" * 600_000)
        assert (await api.client.post(PATH, content=large, headers=signed(large))).status_code == 413
        allowed = event(padding="x" * 300_000, type="customer.created")
        assert (await api.client.post(PATH, content=allowed, headers=signed(allowed))).status_code == 200

    async def test_a_replayed_webhook_keeps_its_id(self, api: World, settings: Settings) -> None:
        object_id = f"in_{new_id()}"
        body = event(data={"object": {"id": object_id}})
        for _ in range(3):
            assert (await api.client.post(PATH, content=body, headers=signed(body))).status_code == 200
        assert len({kept.event_id for kept in await kept_of(settings, topics.PAYMENT_WEBHOOKS.name, object_id)}) == 1


async def story(sandbox: SandboxDriver) -> tuple[Pair, str, str]:
    """A subscription that is cancelled, and a tip that is given back in part; (people, subscription, payment)."""
    provider = sandbox.provider()
    pair = await sandbox.pair(provider)
    subscription = await provider.subscribe(pair.subscribe(price(1_000)))
    await provider.cancel_at_period_end(new_id(), subscription.object_id)
    tip = await provider.pay(pair.pay(500))
    await provider.refund(Refund(request_id=new_id(), payment_id=tip.object_id, amount_minor=100))
    await provider.close()
    return pair, subscription.object_id, tip.object_id


def told(settings: Settings, pair: Pair) -> bool:
    facts = facts_of(settings, pair.payer_id)
    state = newest(facts, SubscriptionState)
    return (
        state is not None and state.cancel_at_period_end and newest(facts, InvoicePaid) is not None
        and newest(facts, PaymentSucceeded) is not None and newest(facts, Refunded) is not None
    )


@pytest.mark.parametrize("switches", [
    {}, {"duplicate": 2}, {"reorder": True}, {"delay_s": 1.0}, {"duplicate": 1, "reorder": True, "delay_s": 0.5},
], ids=lambda switches: "+".join(switches) or "well")
async def test_whatever_the_order_and_repetition_the_same_is_true_in_the_end(
    sandbox: SandboxDriver, settings: Settings, api: World, writer: Writer, switches: dict[str, Any]
) -> None:
    await sandbox.command("webhooks", **({"duplicate": 0, "reorder": False, "delay_s": 0.0, "drop": False} | switches))
    pair, subscription_id, payment_id = await story(sandbox)
    await eventually(lambda: told(settings, pair))
    async with local_client(timeout=60) as client:
        while (await client.get(f"{sandbox.url}/sandbox")).json()["waiting"]:
            await asyncio.sleep(0.05)
    facts = facts_of(settings, pair.payer_id)
    state, back = newest(facts, SubscriptionState), newest(facts, Refunded)
    assert (state.object_id, state.status, state.cancel_at_period_end) == (subscription_id, "active", True)
    assert (back.payment_id, back.refunded_minor, back.fee_refunded_minor) == (payment_id, 100, 20)
    assert {fact.object_id for fact in facts if isinstance(fact, PaymentSucceeded)} == {payment_id}
    assert all(fact.livemode is False for fact in facts)
    assert [fact.kind for fact in facts].count("invoice_paid") == 1, "its shard is told too; it is kept once"
    for topic in (topics.PAYMENT_COMPLETED, topics.SUBSCRIPTION_CREATED):
        ids = [record.event_id for record in await kept_of(settings, topic.name, pair.payer_id)]
        assert len(ids) == len(set(ids)), "what is applied once is appended once"
    told_shard = {record.payload.fact.kind for record in await kept_of(settings, topics.SUBSCRIPTION_CREATED.name, pair.payer_id)}
    assert told_shard == {"subscription_state", "invoice_paid"}, "a subscription's bill, not the tip's refund"


async def test_with_every_webhook_dropped_the_facts_come_within_two_looks(
    sandbox: SandboxDriver, settings: Settings, writer: Writer
) -> None:
    await sandbox.command("webhooks", duplicate=0, reorder=False, delay_s=0.0, drop=True)
    polling = PaymentPolling(settings, "test")
    await eventually(lambda: not polling.look())  # what other tests left at the provider is known
    pair, subscription_id, _ = await story(sandbox)
    await asyncio.sleep(0.2)
    assert await asyncio.to_thread(polling.look) == 0, "they may still be on their way"
    assert await asyncio.to_thread(polling.look) > 0
    await eventually(lambda: told(settings, pair))
    assert newest(facts_of(settings, pair.payer_id), SubscriptionState).object_id == subscription_id
    await eventually(lambda: _applied(settings, subscription_id))
    await eventually(lambda: not polling.look())  # what was found is known
    await asyncio.to_thread(polling.close)


def _applied(settings: Settings, object_id: str) -> bool:
    with open_rows(settings, "test") as conn:
        row = conn.execute("SELECT count(*), count(applied_at) FROM webhook_events WHERE object_id = %s", (object_id,)).fetchone()
    return row is not None and row[0] > 0 and row[0] == row[1]


async def test_the_nightly_look_finds_what_happened_in_creators_accounts(
    sandbox: SandboxDriver, settings: Settings, writer: Writer
) -> None:
    await sandbox.command("webhooks", duplicate=0, reorder=False, delay_s=0.0, drop=True)
    provider = sandbox.provider()
    pair = await sandbox.pair(provider)
    await provider.close()
    polling = PaymentPolling(settings, "test", clock=lambda: datetime.now(UTC) - timedelta(days=1))
    assert await asyncio.to_thread(polling.look) > 0
    await eventually(lambda: any(fact.account_id == pair.account_id for fact in facts_of(settings, pair.creator_id)))
    await asyncio.to_thread(polling.close)


async def test_secrets_are_changed_without_losing_a_webhook(sandbox: SandboxDriver, settings: Settings, api: World, writer: Writer) -> None:
    """While both count here, the provider may sign with either, or with both."""
    await sandbox.command("webhooks", duplicate=0, reorder=False, delay_s=0.0, drop=False, secrets=["whsec_next", SECRET])
    try:
        pair, _, _ = await story(sandbox)
        await eventually(lambda: told(settings, pair))
    finally:
        await sandbox.command("webhooks", secrets=[SECRET])


async def test_while_kafka_is_away_nothing_is_thanked_and_nothing_lost(
    fresh_servers: Callable[[], EmbeddedServers], sandbox: SandboxDriver
) -> None:
    servers = fresh_servers()
    settings = sandbox.settings(prepare(servers.settings()))
    short = settings.model_copy(update={"log": settings.log.model_copy(update={"append_deadline_ms": 300})})
    shards = Shards(short, NoRows())
    await shards.ready()
    world = World(short, shards)
    await world.start()
    object_id = f"in_{new_id()}"
    body = event(data={"object": {"id": object_id}})
    try:
        assert servers.broker is not None
        servers.broker.send(signal.SIGSTOP)
        answer = await world.client.post(PATH, content=body, headers=signed(body))
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        servers.broker.send(signal.SIGCONT)
        async with asyncio.timeout(90):
            while (await world.client.post(PATH, content=body, headers=signed(body))).status_code != 200:
                await asyncio.sleep(0.1)
        assert len({kept.event_id for kept in await kept_of(settings, topics.PAYMENT_WEBHOOKS.name, object_id)}) == 1
    finally:
        servers.broker.send(signal.SIGCONT)  # type: ignore[union-attr]
        await world.close()
        await shards.close()


"""The payments' sandbox as a test drives it, and people who pay and are paid there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from api_world import Person, World
from local_http import local_client
from pydantic import SecretStr

from actors.subscriptions.commands import Observe
from cluster.connections.payments.stripe import StripeProvider
from cluster.connections.redis import apply_async
from cluster.embedded.sandbox_provider import EmbeddedSandboxProvider
from configs.contracts.entitlements import Content, Viewer, access
from configs.contracts.ids import new_id
from configs.contracts.payment_facts import SubscriptionFact, SubscriptionState
from configs.contracts.payments import Pay, Price, Subscribe
from configs.contracts.read_model import put_record
from configs.contracts.selling import holdings_command, read_holdings
from configs.contracts.topics import PAYMENT_COMPLETED, PAYMENT_WEBHOOKS, SUBSCRIPTION_CREATED, TOPICS
from configs.settings import Payments as PaymentSettings
from configs.settings import Settings
from writers.connections import open_rows
from writers.consumers.derive import Derive
from writers.consumers.payments import Payments
from writers.loops import ConsumingThread
from writers.projections.thread import ProjectionThread
from writers.records import Place
from writers.rows import Rows

KEY = "sk_test_of_tests"
SECRET = "whsec_of_tests"
DAY_S = 86_400
PATIENCE_S = 60.0
RETURN = {"country": "US", "returnUrl": "http://localhost/back", "refreshUrl": "http://localhost/again"}
TIER = {"rank": 1, "name": "Gold", "currency": "USD", "priceMonthly": "9.99", "priceYearly": "99.90", "benefits": ["All of it"]}


class SandboxDriver:
    """A sandbox of one's own: what its operator, its payers' banks and its creators do."""

    def __init__(self, directory: Path, *, webhook_url: str = "http://127.0.0.1:9/nobody") -> None:
        self.server = EmbeddedSandboxProvider(directory, directory / "run", key=KEY, secret=SECRET, webhook_url=webhook_url)
        self.url = self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def provider(self, **changed: Any) -> StripeProvider:
        """The adapter, for the event loop that asks."""
        return StripeProvider(**{"key": KEY, "webhook_secrets": [SECRET], "url": self.url, "timeout_s": 60.0, "retries": 0} | changed)

    def settings(self, settings: Settings, **changed: Any) -> Settings:
        """The settings of a platform that takes its payments here."""
        return settings.model_copy(update={"payments": PaymentSettings(
            stripe_key=SecretStr(KEY), stripe_webhook_secrets=(SecretStr(SECRET),), stripe_url=self.url, timeout_s=60.0, retries=0,
            **changed,
        )})

    async def command(self, name: str, **wanted: Any) -> Any:
        async with local_client(timeout=PATIENCE_S) as client:
            answer = await client.post(f"{self.url}/sandbox/{name}", json=wanted, headers={"Authorization": f"Bearer {KEY}"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def advance(self, days: float) -> Any:
        return await self.command("clock", advance_s=int(days * DAY_S))

    async def objects(self, kind: str) -> list[dict[str, Any]]:
        async with local_client(timeout=PATIENCE_S) as client:
            answer = await client.get(f"{self.url}/sandbox/objects/{kind}", headers={"Authorization": f"Bearer {KEY}"})
        found: list[dict[str, Any]] = answer.json()["data"]
        return found

    async def authenticate(self, client_secret: str, *, succeeds: bool = True) -> None:
        async with local_client(timeout=PATIENCE_S) as client:
            answer = await client.post(
                f"{self.url}/sandbox/authenticate", json={"client_secret": client_secret, "succeeds": succeeds}
            )
        assert answer.status_code == 200, answer.text

    async def save_card(self, provider: StripeProvider, customer_id: str, card: str = "pm_card_visa") -> str:
        """What an app does with the secret of a set-up; returns the saved card."""
        started = await provider.setup_payment_method(new_id(), customer_id)
        async with local_client(timeout=PATIENCE_S) as client:
            answer = await client.post(
                f"{self.url}/v1/setup_intents/{started.object_id}/confirm", headers={"Authorization": "Bearer pk_test_sandbox"},
                data={"client_secret": started.client_secret, "payment_method": card},
            )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["payment_method"])

    async def pair(self, provider: StripeProvider, card: str = "pm_card_visa") -> Pair:
        """A payer with a saved card and a creator who may be paid."""
        payer_id, creator_id = new_id(), new_id()
        customer_id = await provider.create_customer(new_id(), payer_id)
        method_id = await self.save_card(provider, customer_id, card)
        onboarding = await provider.onboard(new_id(), creator_id, "US", "http://app/return", "http://app/refresh")
        async with local_client(timeout=PATIENCE_S) as client:
            assert (await client.post(onboarding.url)).status_code == 303
        return Pair(payer_id, creator_id, customer_id, method_id, onboarding.account_id)


async def subscription_state(provider: StripeProvider, subscription_id: str) -> SubscriptionState:
    [found] = await provider.observe(subscription_id)
    assert isinstance(found, SubscriptionState)
    return found


def price(amount_minor: int, *, interval: Any = "month", currency: str = "USD", tier_id: str | None = None, revision: int = 1) -> Price:
    return Price(
        tier_id=tier_id or new_id(), revision=revision, name="Tier", interval=interval, amount_minor=amount_minor, currency=currency
    )


@dataclass(frozen=True)
class Pair:
    """Who pays whom."""

    payer_id: str
    creator_id: str
    customer_id: str
    method_id: str
    account_id: str

    def subscribe(self, at: Price, **changed: Any) -> Subscribe:
        return Subscribe(**{
            "request_id": new_id(), "subscriber_id": self.payer_id, "creator_id": self.creator_id, "customer_id": self.customer_id,
            "payment_method_id": self.method_id, "account_id": self.account_id, "price": at, "fee_percent": 20,
        } | changed)

    def pay(self, amount_minor: int = 500, **changed: Any) -> Pay:
        return Pay(**{
            "request_id": new_id(), "payer_id": self.payer_id, "payee_id": self.creator_id, "customer_id": self.customer_id,
            "payment_method_id": self.method_id, "account_id": self.account_id, "amount_minor": amount_minor, "currency": "USD",
            "fee_minor": amount_minor // 5, "purpose": "tip",
        } | changed)


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


async def assured(world: World, person: Person) -> Person:
    """As age assurance finds them."""
    await apply_async(world.dependencies.redis, [
        put_record(person.user_id, {"verification": "verified", "verified": True}, 1 << 39)
    ])
    return person


async def creator_of(world: World, *, paid: bool = True) -> Person:
    creator = await assured(world, await world.register("sugar_baby"))
    if paid:
        link = await creator.ok("POST", "/payments/connect/onboarding", json=RETURN)
        async with local_client(timeout=PATIENCE_S) as client:
            assert (await client.post(link["url"])).status_code == 303
    return creator


def paying(settings: Settings, sandbox: SandboxDriver) -> PaymentSettings:
    """The payments of a platform that asks this sandbox, without trying anything again."""
    return settings.payments.model_copy(update={
        "stripe_key": SecretStr(KEY), "stripe_url": sandbox.url, "retries": 0, "timeout_s": PATIENCE_S,
    })


async def payer_of(world: World, sandbox: SandboxDriver, card: str = "pm_card_visa") -> tuple[Person, str]:
    """Somebody with a saved card."""
    payer = await world.register("sugar_daddy")
    return payer, await saved_card(payer, sandbox, card)


async def saved_card(payer: Person, sandbox: SandboxDriver, card: str = "pm_card_visa", currency: str | None = None) -> str:
    """A card that the payer has saved through the API, as an app does; for subscriptions in a currency, or for whatever it can pay."""
    setup = await payer.ok("POST", "/payments/methods/setup", **({} if currency is None else {"json": {"currency": currency}}))
    async with local_client(timeout=PATIENCE_S) as client:
        answer = await client.post(
            f"{sandbox.url}/v1/setup_intents/{setup['id']}/confirm", headers={"Authorization": "Bearer pk_test_sandbox"},
            data={"client_secret": setup["clientSecret"], "payment_method": card},
        )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["payment_method"])


async def may_open(world: World, viewer: Person, creator: Person, rank: int = 0) -> str:
    """What a content route would answer: access to what is for subscribers, or for a tier of that rank and above."""
    (held,) = (await world.dependencies.reads.read(holdings_command(viewer.user_id, [creator.user_id])))[0]
    what = Content(new_id(), creator.user_id, "tier_specific" if rank else "subscribers", rank)
    return access(what, Viewer(viewer.user_id, holdings=read_holdings(held)), datetime.now(UTC))


@contextmanager
def consumed(
    settings: Settings, *, derived_from: Sequence[str] = (), reported: bool = False
) -> Iterator[Callable[[], Mapping[Place, int]]]:
    """A writer's rows, and what is derived from these topics, for as long as the block runs.

    ``reported``: what webhooks prove as well, and what Redis shows of it. Yields what tells how far the rows are:
    the next offset of each partition.
    """
    settings = settings.model_copy(update={"plan": settings.plan.model_copy(update={"writer_actors": 1})})
    fenced: list[str] = []
    places = [(topic.name, partition) for topic in TOPICS for partition in range(settings.log.partitions)]
    rows = ConsumingThread(settings, "test-rows", Rows(settings, "test"), places, fenced=fenced.append)
    threads: list[ConsumingThread | ProjectionThread] = [rows]
    if derived_from:
        threads.append(ConsumingThread(
            settings, "test-derive", Derive(settings, "test"), [place for place in places if place[0] in derived_from],
            fenced=fenced.append,
        ))
    if reported:
        webhooks = [place for place in places if place[0] == PAYMENT_WEBHOOKS.name]
        shown = [place for place in places if place[0] in (SUBSCRIPTION_CREATED.name, PAYMENT_COMPLETED.name)]
        threads += [
            ConsumingThread(settings, "test-payments", Payments(settings, "test"), webhooks, fenced=fenced.append),
            ProjectionThread(settings, "test-projection", shown, lambda: rows.committed, fatal=fenced.append),
        ]
    for thread in threads:
        thread.start()
    try:
        yield lambda: rows.committed
    finally:
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert not fenced


def in_rows(settings: Settings, statement: str, *values: object) -> tuple[Any, ...]:
    """The first row of a statement, once there is one. For a thread of its own."""
    with open_rows(settings, "test") as conn:
        deadline = time.monotonic() + PATIENCE_S
        while (found := conn.execute(statement, values).fetchone()) is None:
            assert time.monotonic() < deadline, "rows do not hold it"
            time.sleep(0.05)
        return tuple(found)


async def billed(sandbox: SandboxDriver, payer: Person) -> list[int]:
    """What the payer paid for subscriptions, bill by bill."""
    return [
        bill["amount_paid"] for bill in await sandbox.objects("invoice")
        if bill["parent"]["subscription_details"]["metadata"]["subscriberId"] == payer.user_id
    ]


async def reported(world: World, subscriber: Person, object_id: str) -> None:
    """As a webhook and the consumers behind it tell it."""
    provider = await world.dependencies.providers.present()
    facts = tuple(fact for fact in await provider.observe(object_id) if isinstance(fact, SubscriptionFact))
    await world.dependencies.subscriptions.observe(Observe(subscriber_id=subscriber.user_id, facts=facts))

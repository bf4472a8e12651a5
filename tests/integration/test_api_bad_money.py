"""Bad input about money, a named test of each kind: a clear answer, nothing changed, nothing charged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from api_world import Person, Shards, World, patient
from log_writing import append, record
from payments_world import (
    TIER,
    SandboxDriver,
    assured,
    code,
    consumed,
    creator_of,
    payer_of,
    paying,
    saved_card,
)

from actors.posts.commands import RemovePost, Written
from cluster.connections.reading import Warming
from cluster.connections.redis import apply_async
from configs.contracts.content import put_post
from configs.contracts.events import PaymentAbandoned, SubscriptionAbandoned
from configs.contracts.ids import new_id
from configs.contracts.topics import PAYMENT_COMPLETED, SUBSCRIPTION_CREATED
from configs.settings import Settings
from writers.connections import open_rows
from writers.loader import Loader
from writers.records import Place

pytestmark = pytest.mark.servers

MANY = 100_000
PPV = {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}}
POST = {"contentType": "text", "caption": "what is sold", "state": "published", "access": PPV}
AMOUNTS: dict[str, tuple[Any, str]] = {
    "negative": ("-5.00", "USD"),
    "nothing": ("0", "USD"),
    "huge": ("999999999999.99", "USD"),
    "more digits than a number has": ("9" * 40, "USD"),
    "fractions of a cent": ("5.001", "USD"),
    "an exponent": ("1e3", "USD"),
    "no number": ("NaN", "USD"),
    "a number that is no text": (5.5, "USD"),
    "a fraction of what has none": ("5.50", "JPY"),
    "another currency": ("50.00", "EUR"),
    "no currency": ("50.00", "XXX"),
}
TAKING_AMOUNTS = (
    "tip", "createTier", "updateTier", "createPost", "updatePost", "requestPayout", "refundPayment", "refundBill",
)
TAKING_YEARLY = ("createTier", "updateTier")
"""Of these the ones that take a price of a year as well."""
TAKING_CARDS = ("tip", "purchasePost", "subscribe", "changeSubscriptionPaymentMethod")
WITHOUT_CURRENCY = ("updateTier", "refundPayment", "refundBill")
"""What is paid or given back there has a currency already."""


ROWS = (
    "SELECT * FROM transactions WHERE owner_id = ANY(%(people)s) OR payee_id = ANY(%(people)s) ORDER BY owner_id, id",
    "SELECT * FROM ledger_entries WHERE owner_id = ANY(%(people)s) OR party_id = ANY(%(people)s) ORDER BY owner_id, transaction_id, account",
    "SELECT * FROM tips WHERE from_user_id = ANY(%(people)s) ORDER BY id",
    "SELECT * FROM post_purchases WHERE buyer_id = ANY(%(people)s) ORDER BY id",
    "SELECT * FROM payouts WHERE creator_id = ANY(%(people)s) ORDER BY id",
    "SELECT * FROM subscriptions WHERE subscriber_id = ANY(%(people)s) ORDER BY id",
    "SELECT * FROM subscription_requests WHERE subscriber_id = ANY(%(people)s) ORDER BY id",
)
MONEY_TOPICS = (PAYMENT_COMPLETED, SUBSCRIPTION_CREATED)


class Money:
    """A creator and a payer with everything that money is about, and what all of it amounts to."""

    def __init__(self, world: World, sandbox: SandboxDriver, committed: Callable[[], Mapping[Place, int]]) -> None:
        self.world, self.sandbox, self._committed = world, sandbox, committed
        self.tip_id = self.tier_id = self.other_tier_id = self.subscription_id = self.card = self.expired = self.removed_card = self.foreign = ""
        self.posts: dict[str, str] = {}
        self.creator: Person
        self.payer: Person

    async def begin(self) -> Money:
        world = self.world
        self.creator = await creator_of(world)
        self.payer, self.card = await payer_of(world, self.sandbox)
        self.foreign = (await payer_of(world, self.sandbox))[1]
        await assured(world, self.payer)
        self.expired, self.removed_card = [await saved_card(self.payer, self.sandbox) for _ in range(2)]
        await self.sandbox.command("card", payment_method=self.expired, behaves_like="pm_card_chargeDeclinedExpiredCard")
        await self.payer.ok("DELETE", f"/payments/methods/{self.removed_card}")
        self.tier_id = (await self.creator.ok("POST", "/subscriptions/tiers", json=TIER))["tierId"]
        other = await creator_of(world)
        self.other_tier_id = (await other.ok("POST", "/subscriptions/tiers", json=TIER))["tierId"]
        tip = {"toUserId": self.creator.user_id, "amount": "5.00", "currency": "USD", "paymentMethodId": self.card}
        self.tip_id = (await self.payer.ok("POST", "/payments/tips", json=tip, key="tip"))["id"]
        bought = {"tierId": self.tier_id, "interval": "month", "paymentMethodId": self.card}
        self.subscription_id = (await self.payer.ok("POST", "/subscriptions", json=bought, key="subscribe"))["id"]
        for name, fields in {
            "for sale": {}, "already bought": {}, "removed": {}, "unlisted": {}, "free": {"access": {"visibility": "public"}},
            "for subscribers": {"access": {"visibility": "subscribers"}}, "a draft": {"state": "draft"},
        }.items():
            self.posts[name] = (await self.creator.ok("POST", "/content/posts", json=POST | fields))["postId"]
        await self.creator.ok("DELETE", f"/content/posts/{self.posts['unlisted']}")
        removed = await world.dependencies.posts.record(RemovePost(self.creator.user_id, self.posts["removed"], "moderation", new_id()))
        assert isinstance(removed, Written)
        await apply_async(world.dependencies.redis, [put_post(removed.record)])
        await self.payer.ok(
            "POST", f"/payments/posts/{self.posts['already bought']}/purchase", json={"paymentMethodId": self.card}, key="buy"
        )
        return self

    async def ask(self, operation: str, amount: Any, currency: str, *, price_of: str = "priceMonthly") -> httpx.Response:
        """The request of a route that takes an amount, right in everything else."""
        price = {"amount": amount, "currency": currency}
        creator, payer, key = self.creator, self.payer, new_id()
        if operation == "tip":
            tip = {"toUserId": creator.user_id, "paymentMethodId": self.card}
            return await payer.ask("POST", "/payments/tips", json=tip | price, key=key)
        if operation == "createTier":
            prices = {"priceMonthly": "100", "priceYearly": "1000", price_of: amount}
            tier = TIER | {"name": "New", "currency": currency} | prices
            return await creator.ask("POST", "/subscriptions/tiers", json=tier, key=key)
        if operation == "updateTier":
            return await creator.ask("PUT", f"/subscriptions/tiers/{self.tier_id}", json={price_of: amount}, key=key)
        if operation == "createPost":
            return await creator.ask("POST", "/content/posts", json=POST | {"access": PPV | {"price": price}}, key=key)
        if operation == "updatePost":
            path = f"/content/posts/{self.posts['for sale']}"
            return await creator.ask("PUT", path, json={"access": PPV | {"price": price}}, key=key)
        if operation == "requestPayout":
            return await creator.ask("POST", "/payments/payouts", json=price, key=key)
        path, what = "/payments/refunds", {"payerId": payer.user_id, "paymentId": self.tip_id}
        if operation == "refundBill":
            path, what = "/payments/subscription-refunds", {"subscriberId": payer.user_id, "subscriptionId": self.subscription_id}
        token = self.world.dependencies.tokens.issue_service("test", 600)
        return await self.world.client.post(
            f"/api/v1{path}", json=what | {"amount": amount, "reason": "why"},
            headers={"Authorization": f"Bearer {token}", "Idempotency-Key": key},
        )

    async def pay(self, operation: str, card: str) -> httpx.Response:
        """The request of a route that takes a card, right in everything else."""
        what: dict[str, Any] = {"paymentMethodId": card}
        path, method = f"/payments/posts/{self.posts['for sale']}/purchase", "POST"
        if operation == "tip":
            path, what = "/payments/tips", what | {"toUserId": self.creator.user_id, "amount": "5.00", "currency": "USD"}
        elif operation == "subscribe":
            path, what = "/subscriptions", what | {"tierId": self.other_tier_id, "interval": "month"}
        elif operation == "changeSubscriptionPaymentMethod":
            path, method = f"/subscriptions/{self.subscription_id}/payment-method", "PUT"
        return await self.payer.ask(method, path, json=what, key=new_id())

    async def state(self) -> Any:
        """Everything at the processor, everything that creator and payer see of it here, and their rows once all is in them."""
        await self._until_in_rows()
        kinds = ("payment_intent", "refund", "payout", "subscription", "invoice")
        held = [await self.sandbox.objects(kind) for kind in kinds]
        shown = [
            await person.ok("GET", path)
            for person in (self.creator, self.payer) for path in (
                "/subscriptions", f"/subscriptions/tiers?creatorId={self.creator.user_id}",
                "/payments/transactions", "/payments/balance",
                f"/content/creators/{self.creator.user_id}/posts", *(f"/content/posts/{self.posts[name]}" for name in ("for sale", "free")),
            )
        ]
        rows = await asyncio.to_thread(self._rows)
        return held, shown, rows, await self.payer.ok("GET", "/payments/methods"), await self.creator.ok("GET", "/content/drafts")

    async def _until_in_rows(self) -> None:
        """Returns once the rows hold whatever was appended about these people's money: a record behind it, of nothing, is in them."""
        settings, people = self.world.settings, (self.creator.user_id, self.payer.user_id)
        behind = [
            record(settings, topic, person, PaymentAbandoned(payment_id=new_id(), payer_id=person, reason="declined"))
            if topic is PAYMENT_COMPLETED
            else record(settings, topic, person, SubscriptionAbandoned(subscription_id=new_id(), subscriber_id=person, reason="expired"))
            for topic in MONEY_TOPICS for person in people
        ]
        offsets = await append(settings, *behind)
        async with asyncio.timeout(60):
            while any(
                self._committed().get((made.topic, made.partition), 0) <= offset for made, offset in zip(behind, offsets, strict=True)
            ):
                await asyncio.sleep(0.02)

    def _rows(self) -> list[Any]:
        people = {"people": [UUID(self.creator.user_id), UUID(self.payer.user_id)]}
        with open_rows(self.world.settings, "test") as conn:
            return [conn.execute(statement, people).fetchall() for statement in ROWS]


@pytest_asyncio.fixture(scope="module")
async def money(servers: Settings, shards: Shards, sandbox: SandboxDriver) -> AsyncIterator[Money]:
    """One for all of them: nothing may change it."""
    limits = servers.limits.model_copy(update={"checkouts_per_user_an_hour": MANY, "payouts_per_user_a_day": MANY})
    world = World(servers.model_copy(update={"payments": paying(servers, sandbox), "limits": limits}), shards)
    await world.start()
    loader = Loader(world.settings)
    warmed = Warming(loader.warm_money)
    await world.dependencies.warm_money.close()
    object.__setattr__(world.dependencies, "warm_money", warmed)
    with patient(), consumed(world.settings) as committed:
        made = await Money(world, sandbox, committed).begin()
        rows = (await made.state())[2]
        assert all(rows[:4]), "there is something that could change"
        yield made
    await world.close()
    await loader.close()


def refusal(kind: str, operation: str) -> tuple[int, str]:
    """What such an amount is answered where it is sent."""
    if kind == "another currency":
        return {
            "tip": (422, "currency_mismatch"), "createTier": (409, "currency_fixed"), "createPost": (409, "currency_fixed"),
            "updatePost": (409, "currency_fixed"), "requestPayout": (409, "not_available"),
        }[operation]
    finer = kind in ("nothing", "a fraction of what has none") and operation not in ("createPost", "updatePost")
    return 422, "amount_invalid" if finer else "invalid"


@pytest.mark.parametrize("kind", AMOUNTS)
async def test_a_wrong_amount_is_refused_by_every_route_that_takes_one_and_changes_nothing(money: Money, kind: str) -> None:
    amount, currency = AMOUNTS[kind]
    before = await money.state()
    for operation in TAKING_AMOUNTS:
        if currency == "USD" or operation not in WITHOUT_CURRENCY:
            assert code(await money.ask(operation, amount, currency)) == refusal(kind, operation), operation
        takes_none = operation == "updateTier" and (kind == "nothing" or currency != "USD")
        if operation in TAKING_YEARLY and not takes_none:
            answer = await money.ask(operation, amount, currency, price_of="priceYearly")
            assert code(answer) == refusal(kind, operation), (operation, "priceYearly")
    assert await money.state() == before


async def test_no_more_is_given_back_or_paid_out_than_there_is(money: Money) -> None:
    before = await money.state()
    for operation, expected in (
        ("refundPayment", (409, "not_refundable")), ("refundBill", (409, "not_refundable")), ("requestPayout", (409, "not_available")),
    ):
        assert code(await money.ask(operation, "99999.99", "USD")) == expected, operation
    assert await money.state() == before


async def test_every_route_that_takes_an_amount_is_asked(money: Money) -> None:
    document = await money.world.document()
    taking = {
        operation["operationId"] for methods in document["paths"].values() for operation in methods.values()
        if {"amount", "priceMonthly", "priceYearly"} & _fields(document, operation.get("requestBody", {}))
    }
    assert taking == set(TAKING_AMOUNTS)


def _fields(document: dict[str, Any], schema: Any) -> set[str]:
    """The names of all fields of a schema, at any depth."""
    if isinstance(schema, list):
        return set().union(*(_fields(document, item) for item in schema))
    if not isinstance(schema, dict):
        return set()
    found = set(schema.get("properties", {}))
    if "$ref" in schema:
        found |= _fields(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    return found.union(*(_fields(document, part) for name, part in schema.items() if name != "$ref"))


@pytest.mark.parametrize(("post", "expected"), [
    ("already bought", (409, "already_bought")), ("removed", (404, "not_found")), ("unlisted", (404, "not_found")),
    ("free", (409, "not_for_sale")), ("for subscribers", (409, "not_for_sale")), ("a draft", (404, "not_found")),
    ("nobody's", (404, "not_found")),
])
async def test_what_cannot_be_bought_is_not_charged(money: Money, post: str, expected: tuple[int, str]) -> None:
    before = await money.state()
    path = f"/payments/posts/{money.posts.get(post, new_id())}/purchase"
    assert code(await money.payer.ask("POST", path, json={"paymentMethodId": money.card}, key=new_id())) == expected
    assert await money.state() == before


async def test_nobody_buys_of_themselves(money: Money) -> None:
    before = await money.state()
    card = await saved_card(money.creator, money.sandbox)
    for path, body in (
        (f"/payments/posts/{money.posts['for sale']}/purchase", {}), ("/subscriptions", {"tierId": money.tier_id, "interval": "month"}),
        ("/payments/tips", {"toUserId": money.creator.user_id, "amount": "5.00", "currency": "USD"}),
    ):
        answer = await money.creator.ask("POST", path, json=body | {"paymentMethodId": card}, key=new_id())
        assert code(answer) == (422, "self_target"), path
    assert await money.state() == before


@pytest.mark.parametrize("kind", ["expired", "foreign", "removed", "unknown", "malformed"])
async def test_a_wrong_card_is_refused_by_every_route_that_takes_one_and_not_charged(money: Money, kind: str) -> None:
    card = {
        "expired": money.expired, "foreign": money.foreign, "removed": money.removed_card, "unknown": "pm_of_nobody",
        "malformed": "../pm",
    }[kind]
    before = await money.state()
    for operation in TAKING_CARDS:
        assert code(await money.pay(operation, card)) == (422, "invalid" if kind == "malformed" else "payment_method_invalid"), operation
    assert await money.state() == before


async def test_what_is_paid_to_whom_is_not_the_clients_to_say(money: Money) -> None:
    before = await money.state()
    for path, body in (
        (f"/payments/posts/{money.posts['for sale']}/purchase", {"amount": "0.01"}),
        ("/subscriptions", {"tierId": money.other_tier_id, "interval": "month", "price": "0.01"}),
        ("/payments/tips", {"toUserId": money.creator.user_id, "amount": "5.00", "currency": "USD", "feePercent": 0}),
    ):
        answer = await money.payer.ask("POST", path, json=body | {"paymentMethodId": money.card}, key=new_id())
        assert code(answer) == (422, "invalid"), path
    nobody = {"toUserId": new_id(), "amount": "5.00", "currency": "USD", "paymentMethodId": money.card}
    assert code(await money.payer.ask("POST", "/payments/tips", json=nobody, key=new_id())) == (404, "not_found")
    assert await money.state() == before

"""The API with everything behind it in this process: shards, a writer's threads, and the loader over real rows."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from api_world import Person, Shards, World, patient, unhurried
from log_writing import append, record

from actors.payments.commands import Observe, RequestPayment
from cluster.connections.redis import apply_async, sync_client
from cluster.launch.prepare import prepare
from cluster.launch.secrets import with_keys
from cluster.launch.servers import EmbeddedServers
from configs.contracts import events, topics
from configs.contracts.albums import MediaRow, put_media
from configs.contracts.events.subscriptions import Terms
from configs.contracts.ids import new_id
from configs.contracts.media import LARGE, THUMB, MediaRecord
from configs.contracts.payment_facts import PaymentSucceeded, Refunded, SubscriptionState, SubscriptionStatus
from configs.contracts.read_model import GENERATION, put_record
from configs.settings import Settings, load_settings
from writers.connections import open_rows
from writers.loader import Loader
from writers.rebuild import server_run
from writers.worker import Writer

VERSION = 1 << 60
VERSIONS = itertools.count(VERSION)
"""Of facts that a test states past the log: newer than any event."""


class ContentWorld(World):
    """A world whose rows are real."""

    async def creator(self, **fields: Any) -> Person:
        """Somebody who may publish."""
        return await self.adult(await self.register("sugar_baby", **fields))

    async def adult(self, person: Person) -> Person:
        """The person, after an age-assurance service has found them to be an adult; in rows and in the read model."""
        facts = {"verification": "verified", "verified": True}
        await apply_async(self.dependencies.redis, [put_record(person.user_id, facts, VERSION)])
        with open_rows(self.settings, "test") as conn:
            await self.until(lambda: conn.execute(
                "UPDATE users SET verification_status = 'verified' WHERE id = %s", (person.user_id,)
            ).rowcount)
        return person

    async def media(self, owner: Person, media_id: str, **fields: Any) -> str:
        """A picture of the person's in rows and read model, processed and approved unless told otherwise."""
        record = MediaRecord(**{
            "media_id": media_id, "owner_id": owner.user_id, "kind": "image", "state": "ready", "review": "approved",
            "content_type": "image/jpeg", "size": 1_000, "width": 800, "height": 600, "derivatives": (LARGE, THUMB), **fields,
        })
        version = next(VERSIONS)
        row = MediaRow(record=record, requested_at=datetime.now(UTC), version=version)
        await apply_async(self.dependencies.redis, [put_media(record, version)])
        with open_rows(self.settings, "test") as conn:
            conn.execute(
                "INSERT INTO media (owner_id, id, kind, state, review, facts, created_at, version) "
                "VALUES (%s, %s, %s, %s, %s, %s, now(), %s) ON CONFLICT (owner_id, id) DO UPDATE "
                "SET state = excluded.state, review = excluded.review, facts = excluded.facts, version = excluded.version",
                (
                    owner.user_id, media_id, record.kind, record.state, record.review, msgspec.json.encode(row).decode(),
                    version,
                ),
            )
        return media_id

    async def post(self, creator: Person, **fields: Any) -> Any:
        """A post through the API: public text, published, unless told otherwise."""
        body = {
            "contentType": "text", "caption": "words", "access": {"visibility": "public"}, "state": "published", **fields,
        }
        return await creator.ok("POST", "/content/posts", json=body)

    async def subscribed(
        self, reader: Person, creator: Person, tier_id: str, *, days_left: float, status: SubscriptionStatus = "trialing"
    ) -> str:
        """The id of a subscription that is as its provider reports it; returns once the reader follows the creator by it."""
        name, now = new_id(), datetime.now(UTC)
        ends_at = now + timedelta(days=days_left)
        terms = Terms(tier_id=tier_id, rank=1, tier_name="T", revision=1, interval="month", amount_minor=999, currency="USD", trial_days=30)
        requested = events.SubscriptionRequested(
            subscription_id=name, subscriber_id=reader.user_id, creator_id=creator.user_id, account_id="a", payment_method_id="p",
            terms=terms, checkout_until=now + timedelta(minutes=30), body_digest="",
        )
        observed = events.SubscriptionObserved(owner_id=reader.user_id, fact=SubscriptionState(
            provider="p", livemode=False, event_id="e", object_id=name, as_of=now, status=status, subscriber_id=reader.user_id,
            creator_id=creator.user_id, request_id=name, tier_id=tier_id, interval="month", amount_minor=999, currency="USD",
            period_start=ends_at - timedelta(days=30), period_end=ends_at, trial_end=ends_at,
        ))
        await append(self.settings, *(
            record(self.settings, topics.SUBSCRIPTION_CREATED, reader.user_id, payload) for payload in (requested, observed)
        ))

        async def follows() -> bool:
            found = (await reader.ok("GET", "/content/following"))["creators"]
            return creator.user_id in {one["userId"] for one in found}

        await self.until(follows)
        return name

    async def paid(self, payer: Person, payee: Person, *, post_id: str | None = None) -> str:
        """The id of a tip, or of a purchase, of 5 dollars that the payer's shard has recorded and the processor charged."""
        payment_id = new_id()
        await self.dependencies.payments.request(RequestPayment(
            payer_id=payer.user_id, payment_id=payment_id, body_digest="", payee_id=payee.user_id,
            purpose="tip" if post_id is None else "post", post_id=post_id, amount_minor=500, currency="USD", fee_minor=100,
            account_id="acct_1", payment_method_id="pm_1", message=None, checkout_s=1_800,
        ))
        await self._observed(PaymentSucceeded(object_id=f"pi_{payment_id}", fee_minor=100, **_money(payer, payee, payment_id)))
        return payment_id

    async def refunded(self, payer: Person, payee: Person, payment_id: str) -> None:
        """All of such a payment goes back, as the processor reports it."""
        await self._observed(Refunded(
            object_id=f"ch_{payment_id}", refunded_minor=500, fee_refunded_minor=100, **_money(payer, payee, payment_id)
        ))

    async def _observed(self, fact: PaymentSucceeded | Refunded) -> None:
        await self.dependencies.payments.tell(Observe(payer_id=fact.payer_id, payment_id=fact.request_id, facts=(fact,)))

    @staticmethod
    async def until(check: Any, timeout_s: float = 30.0) -> Any:
        """The first true value of ``check()``, which may be awaitable."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = check()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            assert time.monotonic() < deadline, "not in time"
            await asyncio.sleep(0.05)


async def shown(person: Person, post_id: str) -> Any:
    """The post as the person sees it."""
    return await person.ok("GET", f"/content/posts/{post_id}")


def in_rows(world: ContentWorld, post_id: str, state: str) -> bool:
    """Whether the rows hold the post in that state."""
    with open_rows(world.settings, "test") as conn:
        return conn.execute("SELECT state FROM posts WHERE id = %s", (post_id,)).fetchall() == [(state,)]


def _money(payer: Person, payee: Person, payment_id: str) -> dict[str, Any]:
    return {
        "provider": "stripe", "livemode": False, "event_id": new_id(), "as_of": datetime.now(UTC), "payment_id": f"pi_{payment_id}",
        "payer_id": payer.user_id, "payee_id": payee.user_id, "request_id": payment_id, "currency": "USD", "amount_minor": 500,
    }


@asynccontextmanager
async def content_world(data_dir: Path, **changed: Any) -> AsyncIterator[ContentWorld]:
    """A world over servers of its own: other shards and writers would be replaced by these. ``changed``: replaced settings."""
    servers = EmbeddedServers(with_keys(load_settings("test", data_dir=data_dir)))
    await asyncio.to_thread(servers.start)
    try:
        prepared = await asyncio.to_thread(prepare, servers.settings())
        with patient():
            async with _over(prepared.model_copy(update=changed)) as world:
                yield world
    finally:
        await asyncio.to_thread(servers.stop)


@asynccontextmanager
async def _over(prepared: Settings) -> AsyncIterator[ContentWorld]:
    settings = prepared.model_copy(update={"plan": prepared.plan.model_copy(update={"writer_actors": 1})})
    fenced: list[str] = []
    writer = Writer(settings, 0, fenced=fenced.append)
    writer.start()
    with sync_client(settings) as client:
        while (client.get(GENERATION) or b"").rpartition(b":")[2].decode() != server_run(client):
            await asyncio.sleep(0.05)
    loader: Any = Loader(settings)
    shards = Shards(unhurried(settings), loader)
    try:
        await shards.ready()
        world = ContentWorld(settings, shards)
        await world.dependencies.start()
        yield world
        await world.close()
        assert shards.died == []
    finally:
        await shards.close()
        await asyncio.to_thread(writer.stop)
        await loader.close()
    assert fenced == []

"""`sugar bench feed` and `sugar bench publish`: made-up creators, posts and followers through the log, then the load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
import redis

from cluster.connections.kafka import UNHURRIED_S, LogAppender, Record
from cluster.connections.postgres import connect
from cluster.connections.redis import apply, sync_client
from cluster.launch.bench.requests import Caller, raw
from configs.contracts import events, ids
from configs.contracts.errors import ConfigurationError, DependencyUnavailable
from configs.contracts.events.subscriptions import Terms
from configs.contracts.home import begin_home, fill_home, home_key, home_member
from configs.contracts.media import LARGE, THUMB
from configs.contracts.payment_facts import SubscriptionState
from configs.settings import Settings
from writers.consumers.feeds import KNOWN
from writers.loads.home import is_large

CREATORS: Final = 200
POSTS_OF_A_CREATOR: Final = 5
FOLLOWED: Final = 20
CHUNK: Final = 500
VISIBLE_S: Final = 180.0
ACCESS: Final = (
    events.PostAccess(visibility="public"), events.PostAccess(visibility="subscribers"),
    events.PostAccess(visibility="tier_specific", required_tier_id=ids.derived_id("bench", "tier"), required_rank=2),
    events.PostAccess(visibility="ppv", price_minor=500, currency="USD"), events.PostAccess(visibility="subscribers"),
)
Fact = tuple[str, events.Payload]
"""(record's key, payload)"""


def creators_and_posts(people: Sequence[Caller], now: datetime) -> Iterator[Fact]:
    """Posts of all kinds of access, four of five with a picture; the creators' age is assured."""
    for creator in people:
        yield assured(creator)
        for number in range(POSTS_OF_A_CREATOR):
            post_id, media_id = (ids.derived_id(f"bench:{creator.user_id}:{number}", role) for role in ("post", "media"))
            pictured = bool(number)
            owner = {"media_id": media_id, "owner_id": creator.user_id}
            if pictured:
                yield creator.user_id, events.MediaRequested(
                    **owner, kind="image", content_type="image/jpeg", size=1_000, sha256="0" * 64
                )
                yield creator.user_id, events.MediaUploaded(**owner)
                yield creator.user_id, events.MediaProcessed(
                    media_id=media_id, owner_id=creator.user_id, content_type="image/jpeg", width=1_600, height=1_200, derivatives=(LARGE, THUMB), review="approved"
                )
            yield creator.user_id, events.ContentPublished(
                post_id=post_id, creator_id=creator.user_id, content_type="image" if pictured else "text",
                caption=f"Post {number} of the bench, with as many words as people write below a picture, or some more.",
                media_ids=(media_id,) if pictured else (), access=ACCESS[number],
            )


def readers(people: Sequence[Caller], creators: Sequence[Caller], now: datetime) -> Iterator[Fact]:
    """Everybody's age is assured; each follows 20 creators and has a subscription, in its trial, to half of them."""
    for place, person in enumerate(people):
        yield assured(person)
        for number in range(FOLLOWED):
            creator = creators[(place * 7 + number) % len(creators)]
            if creator.user_id == person.user_id:
                continue
            yield person.user_id, events.Followed(user_id=person.user_id, creator_id=creator.user_id)
            if number % 2:
                yield from _trial(person.user_id, creator.user_id, now)


def assured(person: Caller) -> Fact:
    return person.user_id, events.AgeAssessed(
        user_id=person.user_id, assessment_id=ids.derived_id(person.user_id, "bench"), status="verified", provider="bench"
    )


def _trial(subscriber_id: str, creator_id: str, now: datetime) -> Iterator[Fact]:
    name, tier = ids.derived_id(f"{subscriber_id}:{creator_id}", "bench"), ids.derived_id("bench", "tier")
    yield subscriber_id, events.SubscriptionRequested(
        subscription_id=name, subscriber_id=subscriber_id, creator_id=creator_id, account_id="bench", payment_method_id="bench",
        terms=Terms(
            tier_id=tier, rank=1, tier_name="Bench", revision=1, interval="month", amount_minor=500, currency="USD", trial_days=30
        ),
        checkout_until=now + timedelta(minutes=30), body_digest="",
    )
    yield subscriber_id, events.SubscriptionObserved(owner_id=subscriber_id, fact=SubscriptionState(
        provider="bench", livemode=False, event_id=name, object_id=name, as_of=now, status="trialing",
        subscriber_id=subscriber_id, creator_id=creator_id, request_id=name, tier_id=tier, interval="month", amount_minor=500,
        currency="USD", period_start=now, period_end=now + timedelta(days=30), trial_end=now + timedelta(days=30),
    ))


def append(settings: Settings, facts: Iterator[Fact], now: datetime) -> int:
    """Appends the facts; how many. Raises DependencyUnavailable."""
    return asyncio.run(_append(settings, facts, now))


async def _append(settings: Settings, facts: Iterator[Fact], now: datetime) -> int:
    appender, count = LogAppender(settings, "bench"), 0
    batch: list[Record] = []
    try:
        for key, payload in facts:
            event = events.Event(ids.new_id(), now, key, payload)
            partition = ids.partition_of(key, settings.log.partitions)
            batch.append(Record(events.TOPIC_OF[type(payload)].name, partition, key, events.encode(event)))
            if len(batch) >= CHUNK:
                count += len(await appender.append(batch, deadline_s=UNHURRIED_S))
                batch.clear()
        return count + len(await appender.append(batch, deadline_s=UNHURRIED_S)) if batch else count
    finally:
        appender.close()


def wait_for_feed(port: int, person: Caller, posts: int) -> None:
    """Returns once a person's feed has that many posts. Raises DependencyUnavailable: the writers do not catch up."""
    deadline = time.monotonic() + VISIBLE_S
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30.0) as client:
        while time.monotonic() < deadline:
            answer = client.get("/content/feed?limit=20", headers={"Authorization": f"Bearer {person.token}"})
            if answer.status_code == 200 and len(answer.json()["posts"]) == posts:
                return
            time.sleep(0.5)
    raise DependencyUnavailable("the feed does not fill", posts=posts)


def requests_of(people: Sequence[Caller], count: int) -> list[bytes]:
    """First pages of 20 posts, of everybody in turn."""
    return [raw("GET", "/api/v1/content/feed?limit=20", token=people[number % len(people)].token) for number in range(count)]


def follow_in_rows(settings: Settings, creator_id: str, followers: int) -> list[str]:
    """Gives a creator made-up followers whose feeds are there, as if all of them had read just now; their ids.

    Raises ConfigurationError: the creator has so many then that feeds ask for the posts.
    """
    names = [ids.derived_id(f"bench:{creator_id}", str(number)) for number in range(followers)]
    most = settings.content.fanout_followers
    with connect(settings, "bench") as conn, sync_client(settings) as client:
        if conn.execute(KNOWN, (creator_id,)).fetchone() is not None or is_large(conn, creator_id, most - followers):
            raise ConfigurationError(
                "feeds would ask for the posts of this creator; take fewer followers, or a platform started with "
                f"SUGAR_CONTENT__FANOUT_FOLLOWERS={2 * followers} on a new data directory", creator=creator_id, fanout_followers=most,
            )
        conn.execute(
            "INSERT INTO follows (user_id, creator_id, active, changed_at, version) "
            "SELECT id, %s, true, now(), 1 FROM unnest(%s::uuid[]) AS made (id) ON CONFLICT DO NOTHING", (creator_id, names)
        )
        for start in range(0, followers, 1_000):
            chunk = names[start : start + 1_000]
            apply(client, [step for name in chunk for step in (begin_home(name, "b"), fill_home(name, "b", ()))])
    return names


def forget_followers(settings: Settings, creator_id: str, names: Sequence[str]) -> None:
    """Takes away what ``follow_in_rows`` made."""
    with connect(settings, "bench") as conn, sync_client(settings) as client:
        conn.execute("DELETE FROM follows WHERE creator_id = %s AND user_id = ANY(%s::uuid[])", (creator_id, list(names)))
        for start in range(0, len(names), 1_000):
            client.unlink(*map(home_key, names[start : start + 1_000]))


def publish(settings: Settings, creator_id: str) -> tuple[str, float]:
    """Publishes a text through the log: (its member in feeds, when it was acknowledged)."""
    post_id, now = ids.new_id(), datetime.now(UTC)
    fact = creator_id, events.ContentPublished(
        post_id=post_id, creator_id=creator_id, content_type="text", caption="To everybody.",
        access=events.PostAccess(visibility="public"),
    )
    append(settings, iter((fact,)), now)
    return home_member(post_id, creator_id), time.monotonic()


def arrived(client: redis.Redis, names: Sequence[str], member: str) -> int:
    """In how many of the feeds the post is."""
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.zscore(home_key(name), member)
    return sum(score is not None for score in pipeline.execute())

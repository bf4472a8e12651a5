"""Shops and subscriptions in rows, in Redis and in shards' memory say the same, in whatever batches and repetitions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from subscription_facts import BEGIN, Reports, terms

from cluster.connections.redis import apply, sync_client
from configs.contracts import events
from configs.contracts.events import TOPIC_OF, Event, Payload
from configs.contracts.events.tiers import Bundle
from configs.contracts.ids import derived_id, new_id
from configs.contracts.read_model import LISTING_BOUNDS, commerce_key, listing_keys
from configs.contracts.selling import SHOP, read_holdings, read_shop
from configs.contracts.subscribers import Subscriber, subscriber_after
from configs.contracts.tiers import Shop, checkout_key, instrument_key, shop_after
from configs.settings import Settings
from writers.commit import write_facts
from writers.connections import Connection, open_rows
from writers.differences import compare, read_copies
from writers.exporting import archive
from writers.loads import subscriptions, tiers
from writers.loads.people import load_people
from writers.loads.read_model import people_operations
from writers.projections.operations import changes_of
from writers.records import Fact

pytestmark = pytest.mark.servers

START = datetime(2026, 1, 1, tzinfo=UTC)
checkout = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("tier"), st.integers(0, 1), st.sampled_from([999, 1_999])),
    st.tuples(st.just("promo"), st.booleans(), st.none()),
    st.tuples(st.just("redeem"), checkout, st.sampled_from([None, "visa"])),
    st.tuples(st.just("release"), checkout, st.none()),
    st.tuples(st.just("subscribe"), checkout, st.none()),
    st.tuples(st.just("abandon"), checkout, st.none()),
    st.tuples(st.just("state"), checkout, st.sampled_from(["incomplete", "trialing", "active", "past_due", "expired"])),
    st.tuples(st.just("paid"), checkout, st.integers(1, 2)),
    st.tuples(st.just("refund"), checkout, st.none()),
    st.tuples(st.just("change"), checkout, st.integers(1, 3)),
    st.tuples(st.just("cancel"), checkout, st.booleans()),
)


class History:
    """Steps of one creator and one subscriber as facts; a version is the step's number."""

    def __init__(self, chosen: Sequence[Any]) -> None:
        self.creator, self.fan = new_id(), new_id()
        self.facts: list[Fact] = []
        self.tiers = [derived_id(self.creator, f"tier {number}") for number in range(2)]
        self.promo = derived_id(self.creator, "promo")
        self.names = [derived_id(self.fan, f"subscription {number}") for number in range(3)]
        self.reports = {name: Reports(name, self.fan, self.creator) for name in self.names}
        self._taken: dict[str, Payload] = {}
        self._has_code = False
        for user in (self.creator, self.fan):
            self._add(events.UserCreated(user_id=user, role="sugar_baby", display_name="A", birth_date="1990-01-01"))
        for kind, which, what in chosen:
            getattr(self, f"_{kind}")(which, what)

    def _add(self, payload: Payload, key: str | None = None) -> None:
        version = 1 << 40 | len(self.facts) + 1
        at = START + timedelta(seconds=len(self.facts))
        self.facts.append(Fact(Event(new_id(), at, key or self.creator, payload), version, 0))

    def _tier(self, which: int, price: int) -> None:
        self._add(events.TierChanged(
            creator_id=self.creator, tier_id=self.tiers[which], rank=which, name="Gold", currency="EUR",
            price_monthly_minor=price, revision=1, benefits=("all",), bundles=(Bundle(months=3, percent=10),),
            price_yearly_minor=price * 10 if which else None, body_digest="d",
        ))

    def _promo(self, active: bool, _: None) -> None:
        self._has_code = True
        self._add(events.PromoCodeChanged(
            creator_id=self.creator, promo_id=self.promo, code="X", percent=10, is_active=active,
            expires_at=START + timedelta(days=1, microseconds=5), tier_ids=tuple(self.tiers[:1]),
        ))

    def _redeem(self, which: int, instrument: str | None) -> None:
        name = self.names[which]
        if self._has_code and name not in self._taken:
            self._taken[name] = events.OfferRedeemed(
                creator_id=self.creator, subscription_id=name, subscriber_id=self.fan, promo_id=self.promo,
                instrument=instrument,
            )
            self._add(self._taken[name])

    def _release(self, which: int, _: None) -> None:
        taken = self._taken.pop(self.names[which], None)
        if isinstance(taken, events.OfferRedeemed):
            self._add(events.OfferReleased(
                creator_id=self.creator, subscription_id=taken.subscription_id, promo_id=taken.promo_id,
                instrument=taken.instrument,
            ))

    def _subscribe(self, which: int, _: None) -> None:
        self._add(events.SubscriptionRequested(
            subscription_id=self.names[which], subscriber_id=self.fan, creator_id=self.creator, account_id="a",
            payment_method_id="p", terms=terms(1), checkout_until=START + timedelta(minutes=30), body_digest="d",
        ), self.fan)

    def _abandon(self, which: int, _: None) -> None:
        self._add(events.SubscriptionAbandoned(
            subscription_id=self.names[which], subscriber_id=self.fan, reason="declined"
        ), self.fan)

    def _observe(self, which: int, kind: str, *args: Any) -> None:
        reports = self.reports[self.names[which]]
        reports.now += timedelta(hours=1)
        fact = getattr(reports, kind)(*args)
        self._add(events.SubscriptionObserved(owner_id=self.fan, fact=fact), self.fan)

    def _state(self, which: int, status: str) -> None:
        self._observe(which, "state", status)

    def _paid(self, which: int, rank: int) -> None:
        self._observe(which, "paid", "pi", rank)

    def _refund(self, which: int, _: None) -> None:
        self._observe(which, "refunded", "pi")

    def _change(self, which: int, rank: int) -> None:
        self._add(events.SubscriptionChangeRequested(
            request_id=new_id(), subscription_id=self.names[which], subscriber_id=self.fan, terms=terms(rank), now=True,
            body_digest="d",
        ), self.fan)

    def _cancel(self, which: int, cancel: bool) -> None:
        kind = events.SubscriptionCancelled if cancel else events.SubscriptionResumed
        self._add(kind(
            request_id=new_id(), subscription_id=self.names[which], subscriber_id=self.fan, body_digest="d"
        ), self.fan)


def seen(client: redis.Redis, history: History) -> dict[str, Any]:
    """What readers can see, without the versions of what changed nothing."""
    found: dict[str, Any] = {}
    for user in (history.creator, history.fan):
        values: Any = client.hgetall(commerce_key(user))
        found[f"commerce {user}"] = values
        for listing in ("sub", "fan"):
            order, entries = listing_keys(listing, user)  # type: ignore[arg-type]
            contents: Any = client.hgetall(entries)
            members: Any = client.zrange(order, 0, -1, withscores=True)
            found[f"{listing} {user}"] = [(name, score, contents[name]) for name, score in members]
    return found


@pytest.fixture(scope="module")
def connections(servers: Settings) -> Iterator[tuple[Connection, redis.Redis]]:
    with open_rows(servers, "test") as conn, sync_client(servers) as client:
        yield conn, client


@given(chosen=st.lists(STEPS, min_size=1, max_size=20), data=st.data())
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_rows_redis_and_memory_agree(
    connections: tuple[Connection, redis.Redis], chosen: list[Any], data: st.DataObject
) -> None:
    conn, client = connections
    history = History(chosen)
    reached = projected = 0
    while projected < len(history.facts):
        begin = data.draw(st.integers(0, reached), label="rows again from")
        reached = data.draw(st.integers(max(reached, projected + 1), len(history.facts)), label="rows reach")
        with conn.cursor() as cur, conn.transaction():
            write_facts(cur, history.facts[begin:reached])
        upto = data.draw(st.integers(projected + 1, reached), label="projected to")
        again = data.draw(st.integers(0, projected), label="projected again from")
        by_topic: dict[str, list[Fact]] = {}
        for fact in history.facts[again:upto]:
            by_topic.setdefault(TOPIC_OF[type(fact.event.payload)].name, []).append(fact)
        apply(client, changes_of(conn, by_topic).operations)
        projected = upto
    shop: Shop | None = None
    subscriber: Subscriber | None = None
    for event, version, _ in history.facts:
        shop = shop_after(shop, event, version)
        subscriber = subscriber_after(subscriber, event, version)
    stored_shop = tiers.shops(conn, [history.creator]).get(history.creator)
    if stored_shop is None:
        assert shop is None or not (shop.tiers or shop.promo_codes)
    else:
        assert shop is not None
        assert (stored_shop.tiers, stored_shop.promo_codes) == (
            tuple(sorted(shop.tiers, key=lambda tier: tier.created_at)), shop.promo_codes
        )
    assert subscriptions.subscribers(conn, [history.fan]).get(history.fan) == subscriber
    incremental = seen(client, history)
    people = load_people(conn, (history.creator, history.fan))
    copies = read_copies(client, people)
    assert [item for user, person in people.items() for item in compare(user, person, copies[user])
            if item.kind not in ("unwarm", "version")] == []
    for user in (history.creator, history.fan):
        client.delete(commerce_key(user), *(key for listing in LISTING_BOUNDS for key in listing_keys(listing, user)))
    apply(client, people_operations(conn, (history.creator, history.fan))[1])
    assert incremental == seen(client, history)
    if subscriber is not None:
        value: Any = client.hget(commerce_key(history.fan), history.creator)
        assert read_holdings(value) == subscriber.holdings(history.creator)


def test_an_export_says_that_a_renewal_ended_and_not_that_its_creator_blocked(
    connections: tuple[Connection, redis.Redis]
) -> None:
    conn, _ = connections
    history = History([("subscribe", 1, None), ("state", 1, "active"), ("paid", 1, 1)])
    parted = events.SubscriptionCancelled(
        request_id=new_id(), subscription_id=history.names[1], subscriber_id=history.fan, reason="blocked", body_digest="d"
    )
    end = Fact(Event(new_id(), BEGIN + timedelta(days=1), history.fan, parted), 1 << 40 | 1_000, 0)
    with conn.cursor() as cur, conn.transaction():
        write_facts(cur, [*history.facts, end])
    [told] = json.loads("".join(archive(conn, history.fan)))["subscriptions"]
    assert (told["id"], told["creator_id"], told["tier_name"], told["status"], told["cancel_at_period_end"]) == (
        history.names[1], history.creator, "Tier 1", "active", True
    )
    assert "blocked" not in json.dumps(told)


def test_a_shop_and_what_was_taken_of_it_are_read_as_shards_ask(connections: tuple[Connection, redis.Redis]) -> None:
    conn, client = connections
    history = History([
        ("tier", 1, 999), ("promo", True, None), ("redeem", 0, "visa"), ("release", 0, None), ("redeem", 1, "visa"),
        ("subscribe", 1, None),
    ])
    with conn.cursor() as cur, conn.transaction():
        write_facts(cur, history.facts)
    first, second, absent = history.names
    keys = [checkout_key(history.creator, name) for name in (first, second, absent)]
    card = instrument_key(history.creator, "visa")
    found = tiers.offers(conn, [*keys, card, instrument_key(history.creator, "amex")])
    assert set(found) == {*keys[:2], card}
    assert (found[keys[0]].released, found[card].subscription_id, found[card].released) == (True, second, False)
    places = [f"{history.fan}/{second}", f"{history.fan}/{first}"]
    assert {place: row.subscription_id for place, row in subscriptions.requests(conn, places).items()} == {places[0]: second}
    apply(client, people_operations(conn, [history.creator])[1])
    value: Any = client.hget(commerce_key(history.creator), SHOP)
    shop = read_shop(value)
    assert shop is not None
    assert [promo.redeemed for promo in shop.promo_codes] == [1]

"""A poison record waits with its bytes, and is applied as if nothing had happened once the fault is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from typing import Any

import psycopg
import pytest
from log_reading import records_of
from running import eventually
from subscription_facts import BEGIN, MONTH, Reports, terms

from cluster.connections.redis import apply, sync_client
from configs.contracts import events
from configs.contracts.content import post_key
from configs.contracts.events import Event, decode, encode
from configs.contracts.events.content import PostAccess
from configs.contracts.ids import derived_id, email_hash, new_id, partition_of
from configs.contracts.payment_facts import PaymentSucceeded, Refunded
from configs.contracts.positions import version_of
from configs.contracts.read_model import commerce_key, credential_key, listing_keys, read_record, record_key
from configs.contracts.selling import purchase_field, read_holdings, read_purchase
from configs.settings import Settings
from writers.commit import commit_batch
from writers.connections import Connection, open_rows
from writers.dead_letters import count_waiting, describe_error, list_letters, show_letter
from writers.dead_letters import waiting as waiting_ids
from writers.loads.read_model import people_operations
from writers.positions import claim
from writers.projections.operations import changes_of
from writers.records import Fact, LogRecord
from writers.replay import replay
from writers.sinks import SINKS
from writers.sinks.base import Sink

pytestmark = pytest.mark.servers

OFFSETS = count(1_000)
BROKEN = tuple(Sink(sink.name, sink.events, lambda cur, facts: cur.execute("SELECT 1/0").rowcount) for sink in SINKS)
"""A deploy whose sinks refuse everything as bad data."""


@pytest.fixture
def conn(servers: Settings) -> Iterator[Connection]:
    with open_rows(servers, "test") as opened:
        yield opened


@pytest.fixture
def store(conn: Connection) -> Callable[..., LogRecord]:
    """Commits one record, with sinks that work or (``broken``) refuse it."""

    def store(topic: str, key: str, payload: events.Payload | bytes, *, broken: bool = False, event_id: str = "") -> LogRecord:
        value = payload if isinstance(payload, bytes) else encode(
            Event(event_id or new_id(), datetime.now(UTC), key, payload)
        )
        record = LogRecord(topic, 0, next(OFFSETS), key.encode(), value, (("traceparent", b"00-1"),))
        owned, before = claim(conn, f"test-{new_id()}", [(topic, 0)], {})
        commit_batch(
            conn, owned, before, [record], dead_letter_limit=1_000, copy_dead=lambda failures: None,
            sinks=BROKEN if broken else SINKS,
        )
        return record

    return store


def letter_of(settings: Settings, record: LogRecord) -> int:
    [letter] = [
        each for each in list_letters(settings, topic=record.topic, replayed=True, limit=1_000)
        if each.offset == record.offset and each.generation == 1
    ]
    return letter.id


def rows(conn: Connection, statement: str, *values: Any) -> list[Any]:
    return conn.execute(statement, values).fetchall()


def test_a_replayed_registration_has_all_its_consequences_once(
    servers: Settings, conn: Connection, store: Callable[..., LogRecord]
) -> None:
    user, family, event_id = new_id(), new_id(), new_id()
    address = email_hash(f"{user}@example.com")
    registered = events.AccountRegistered(
        user_id=user, email="a@example.com", email_hash=address, password_hash="h", role="sugar_baby", display_name="A",
        birth_date="1990-01-01", family_id=family, session_expires_at=datetime.now(UTC),
    )
    record = store("auth.accounts", address, registered, broken=True, event_id=event_id)
    assert rows(conn, "SELECT 1 FROM credentials WHERE user_id = %s", user) == []
    ident = letter_of(servers, record)
    assert ident in waiting_ids(servers, "auth.accounts") == sorted(waiting_ids(servers, "auth.accounts"))
    assert ident not in waiting_ids(servers, "user.updated")
    waiting = count_waiting(servers)["auth.accounts"]
    for _ in range(2):
        [outcome] = replay(servers, [ident])
        assert outcome.error is None
    letter = show_letter(servers, ident)
    assert letter is not None
    assert (letter.record, letter.restricted) == (record, True)
    assert letter.replayed_at is not None
    assert count_waiting(servers).get("auth.accounts", 0) == waiting - 1
    assert ident not in {each.id for each in list_letters(servers, limit=1_000)}
    assert ident not in waiting_ids(servers)
    assert rows(conn, "SELECT user_id::text FROM credentials WHERE email_hash = %s::uuid", address) == [(user,)]
    assert {event.event_id for event in records_of(servers, "user.created", user)} == {derived_id(event_id, "user")}
    assert {event.event_id for event in records_of(servers, "auth.sessions", family)} == {derived_id(event_id, "session")}
    with sync_client(servers) as client:
        assert client.get(credential_key(address)) is not None


def test_a_replayed_fact_fills_what_is_missing_and_overwrites_nothing_newer(
    servers: Settings, conn: Connection, store: Callable[..., LogRecord]
) -> None:
    user = new_id()
    late = store(
        "user.updated", user, events.ProfileChanged(user_id=user, bio="late", gender="woman"), broken=True
    )
    store("user.updated", user, events.ProfileChanged(user_id=user, bio="newer"))
    with sync_client(servers) as client:
        apply(client, people_operations(conn, [user])[1])
        assert replay(servers, [letter_of(servers, late)])[0].error is None
        assert rows(conn, "SELECT bio, gender FROM users WHERE id = %s", user) == [("newer", "woman")]
        value: Any = client.get(record_key(user))
    assert (read_record(value).gender, read_record(value).bio) == ("woman", "newer")


def test_after_a_reshard_a_letter_is_replayed_in_the_partition_that_its_key_has_now(
    servers: Settings, conn: Connection, store: Callable[..., LogRecord]
) -> None:
    partitions = servers.log.partitions
    swiper = next(user for user in iter(new_id, "") if partition_of(user, partitions) == partitions - 1)
    swiped = events.Swiped(swiper_id=swiper, swiped_id=new_id(), action="pass")
    late = store("matching.swipe", swiper, swiped, broken=True)
    assert late.partition == 0, "of another count"
    hold = "INSERT INTO writer_positions (consumer, topic, partition, generation, next_offset, epoch) VALUES ('rows', 'test.held', %s, 1, 0, 0)"
    waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'replay' AND wait_event_type = 'Lock' AND query LIKE '%%writer_positions%%'"
    conn.execute(hold, (partitions - 1,))
    try:
        with ThreadPoolExecutor(1) as beside, open_rows(servers, "test-writer") as writer:
            with writer.transaction():
                writer.execute("SELECT FROM writer_positions WHERE topic = 'test.held' FOR UPDATE")
                replayed = beside.submit(replay, servers, [letter_of(servers, late)])
                eventually(lambda: rows(conn, waits), 30.0)
            assert replayed.result(60)[0].error is None
    finally:
        conn.execute("DELETE FROM writer_positions WHERE topic = 'test.held'")
    assert rows(conn, "SELECT bucket FROM swipes WHERE swiper_id = %s", swiper) == [(partitions - 1,)]


@pytest.fixture
def reread(servers: Settings, conn: Connection, store: Callable[..., LogRecord]) -> Callable[[LogRecord], None]:
    """Lets rows and Redis take in what a replay appended anew of a record: the last event of its key."""

    def reread(late: LogRecord) -> None:
        assert late.key is not None
        assert late.value is not None
        again = records_of(servers, late.topic, late.key.decode())[-1]
        assert again == decode(late.value)
        place = store(late.topic, again.key, encode(again))
        with sync_client(servers) as client:
            changes = changes_of(conn, {late.topic: [Fact(again, version_of(1, place.offset), 0)]})
            apply(client, changes.operations)

    return reread


def test_a_replayed_bill_opens_what_it_paid_for_beside_a_newer_state_of_the_subscription(
    servers: Settings, conn: Connection, store: Callable[..., LogRecord], reread: Callable[[LogRecord], None]
) -> None:
    fan, creator, name = new_id(), new_id(), new_id()
    reports = Reports(name, fan, creator)
    store("subscription.created", fan, events.SubscriptionRequested(
        subscription_id=name, subscriber_id=fan, creator_id=creator, account_id="acct", payment_method_id="pm", terms=terms(1),
        checkout_until=BEGIN, body_digest="d",
    ))
    bill, ending = reports.paid("pi_1"), reports.state("active", cancel_at_period_end=True)
    late = store("subscription.created", fan, events.SubscriptionObserved(owner_id=fan, fact=bill), broken=True)
    store("subscription.created", fan, events.SubscriptionCancelled(
        request_id=new_id(), subscription_id=name, subscriber_id=fan, reason="subscriber", body_digest="d",
    ))
    store("subscription.created", fan, events.SubscriptionObserved(owner_id=fan, fact=ending))
    before = "SELECT entitled_until, status, cancel_at_period_end FROM subscriptions WHERE id = %s"
    assert rows(conn, before, name) == [(None, "active", True)]
    for _ in range(2):
        assert replay(servers, [letter_of(servers, late)])[0].error is None
        reread(late)
        assert rows(conn, before, name) == [(BEGIN + MONTH, "active", True)]
        with sync_client(servers) as client:
            held: Any = client.hget(commerce_key(fan), creator)
        assert [period.ends_at for holding in read_holdings(held) for period in holding.periods] == [BEGIN + MONTH]


def test_a_replayed_payment_opens_the_post_beside_a_newer_fact(
    servers: Settings, conn: Connection, store: Callable[..., LogRecord], reread: Callable[[LogRecord], None]
) -> None:
    buyer, creator, post, name = new_id(), new_id(), new_id(), new_id()
    told: dict[str, Any] = {
        "provider": "elsewhere", "livemode": False, "event_id": new_id(), "as_of": BEGIN, "payment_id": "pi_1", "payer_id": buyer,
        "payee_id": creator, "request_id": name, "currency": "USD", "amount_minor": 500,
    }
    store("payment.completed", buyer, events.PaymentRequested(
        payment_id=name, payer_id=buyer, payee_id=creator, purpose="post", post_id=post, amount_minor=500, currency="USD",
        fee_minor=100, account_id="acct", payment_method_id="pm", checkout_until=BEGIN, body_digest="d",
    ), event_id=name)
    paid = PaymentSucceeded(**told, object_id="pi_1", fee_minor=100)
    late = store("payment.completed", buyer, events.PaymentObserved(owner_id=buyer, fact=paid), broken=True)
    part = Refunded(**told | {"event_id": new_id()}, object_id="ch_1", refunded_minor=200, fee_refunded_minor=40)
    store("payment.completed", buyer, events.PaymentObserved(owner_id=buyer, fact=part))
    state = "SELECT status, effective FROM post_purchases WHERE id = %s"
    assert rows(conn, state, name) == [("pending", False)]
    for _ in range(2):
        assert replay(servers, [letter_of(servers, late)])[0].error is None
        reread(late)
        assert rows(conn, state, name) == [("completed", True)]
        with sync_client(servers) as client:
            held: Any = client.hget(commerce_key(buyer), purchase_field(post))
        assert read_purchase(held)


def test_a_record_that_still_cannot_be_applied_stays_and_says_why(
    servers: Settings, conn: Connection, store: Callable[..., LogRecord]
) -> None:
    record = store("matching.swipe", "k", b"not an event")
    ident = letter_of(servers, record)
    assert replay(servers, [ident])[0].error is not None
    letter = show_letter(servers, ident)
    assert letter is not None
    assert letter.replayed_at is None
    assert letter.replay_error == letter.error
    assert letter.value == b"not an event"


def test_replaying_what_does_not_exist_says_so(servers: Settings) -> None:
    assert replay(servers, [2**40])[0].error is not None
    assert show_letter(servers, 2**40) is None


def test_an_error_never_quotes_the_record(servers: Settings, conn: Connection) -> None:
    with pytest.raises(psycopg.DataError) as caught:
        conn.execute("SELECT 'secret@example.com'::uuid")
    assert "secret" in str(caught.value)
    assert "secret" not in describe_error(caught.value)


def test_a_dead_letter_of_somebody_erased_long_ago_brings_nothing_back(
    servers: Settings, conn: Connection, store: Callable[..., LogRecord]
) -> None:
    """The sweep looks at erasures of a few days only; dead letters wait for thirty."""
    user, post, told = new_id(), new_id(), new_id()
    store("user.updated", user, events.UserErased(user_id=user))
    conn.execute("UPDATE erasures SET erased_at = now() - interval '20 days' WHERE user_id = %s", (user,))
    letters = [
        store("content.published", user, events.ContentPublished(
            post_id=post, creator_id=user, content_type="text", caption="kanarienvogel", access=PostAccess(visibility="public"),
        ), broken=True),
        store("notification.send", user, events.NotificationSent(
            notification_id=told, user_id=user, kind="system", title="kanarienvogel",
        ), broken=True),
    ]
    outcomes = replay(servers, [letter_of(servers, letter) for letter in letters])
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert rows(conn, "SELECT caption FROM posts WHERE id = %s", post) == [("",)]
    assert rows(conn, "SELECT title FROM notifications WHERE user_id = %s", user) == []
    with sync_client(servers) as client:
        kept: Any = client.get(post_key(post))
        assert kept is not None
        assert b"kanarienvogel" not in kept
        assert client.zcard(listing_keys("note", user)[0]) == 0

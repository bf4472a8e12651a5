"""Events become rows once each, in whatever batches, with whatever poison between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from log_writing import append

from cluster.connections.kafka import Record
from cluster.connections.postgres import connect
from configs.contracts import events, topics
from configs.contracts.errors import PartitionFenced
from configs.contracts.events import Event, encode
from configs.contracts.ids import derived_id, email_hash, match_id, new_id, pair, partition_of
from configs.contracts.topics import TOPICS, Topic
from configs.settings import Settings
from writers.commit import commit_batch, write_facts
from writers.connections import Connection, open_rows
from writers.consumers.derive import Derive
from writers.loops import ConsumingThread
from writers.positions import Ownership, claim, regain
from writers.projections.operations import PROJECTIONS
from writers.records import Fact, LogRecord
from writers.rows import Rows
from writers.sinks import sinks_of

pytestmark = pytest.mark.servers


def now() -> datetime:
    return datetime.now(UTC)


def event(topic: Topic, key: str, payload: events.Payload, settings: Settings, ident: str | None = None) -> Record:
    made = Event(ident or new_id(), now(), key, payload)
    return Record(topic.name, partition_of(key, settings.log.partitions), key, encode(made))


@pytest.fixture
def query(servers: Settings) -> Iterator[Any]:
    with connect(servers, "test") as conn:
        yield lambda statement, *values: conn.execute(statement, values).fetchall()


def everything(settings: Settings) -> list[tuple[str, int]]:
    return [(topic.name, partition) for topic in TOPICS for partition in range(settings.log.partitions)]


@pytest.fixture
def writer(servers: Settings) -> Iterator[list[str]]:
    """Rows and derive, as a writer runs them; holds what they said when they were fenced."""
    fenced: list[str] = []
    threads = [
        ConsumingThread(servers, "test-rows", Rows(servers, "test"), everything(servers), fenced=fenced.append),
        ConsumingThread(
            servers, "test-derive", Derive(servers, "test"),
            [place for place in everything(servers) if place[0] in ("auth.accounts", "matching.matched")],
            fenced=fenced.append,
        ),
    ]
    for thread in threads:
        thread.start()
    yield fenced
    for thread in threads:
        thread.stop()
    for thread in threads:
        thread.join(60.0)


async def until(what: Any, timeout_s: float = 120.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        found = await asyncio.to_thread(what)
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


async def test_a_registration_becomes_a_person_a_credential_and_a_session(servers: Settings, writer: list[str], query: Any) -> None:
    user, family, address = new_id(), new_id(), f"{new_id()}@example.com"
    digest = email_hash(address)
    registered = events.AccountRegistered(
        user_id=user, email=address, email_hash=digest, password_hash="hash", role="sugar_baby", display_name="Ann",
        birth_date="1999-12-31", family_id=family, session_expires_at=now(), idempotency_key="register k", body_digest="d",
    )
    await append(servers, *[event(topics.AUTH_ACCOUNTS, digest, registered, servers)] * 2)
    await until(lambda: query("SELECT 1 FROM users WHERE id = %s AND role IS NOT NULL", user))
    await until(lambda: query("SELECT 1 FROM sessions WHERE family_id = %s", family))
    assert query("SELECT role, display_name, birth_date::text FROM users WHERE id = %s", user) == [
        ("sugar_baby", "Ann", "1999-12-31")
    ]
    assert query("SELECT user_id::text, password_hash FROM credentials WHERE email_hash = %s::uuid", digest) == [(user, "hash")]
    assert query("SELECT counter, revoked_at FROM sessions WHERE family_id = %s", family) == [(0, None)]
    assert query("SELECT key FROM idempotency_keys WHERE owner = %s::uuid", digest) == [("register k",)]
    assert not writer


async def test_partial_updates_touch_only_what_was_sent_and_come_before_or_after_the_creation(
    servers: Settings, writer: list[str], query: Any
) -> None:
    user, other = new_id(), new_id()
    await append(servers, *[
        event(topics.USER_UPDATED, user, events.ProfileChanged(user_id=user, display_name="New", gender="woman"), servers),
        event(topics.USER_UPDATED, user, events.PreferencesChanged(user_id=user, age_min=30, roles=("sugar_baby",)), servers),
        event(topics.USER_UPDATED, user, events.PreferencesChanged(user_id=user, age_max=40), servers),
        event(topics.USER_UPDATED, user, events.LocationChanged(
            user_id=user, latitude=52.5, longitude=13.4, cell="861f1d48fffffff"), servers),
        event(topics.USER_UPDATED, user, events.UserBlocked(user_id=user, blocked_id=other), servers),
        event(topics.USER_UPDATED, user, events.WasActive(user_id=user, active_at=now()), servers),
    ])
    await until(lambda: query("SELECT 1 FROM users WHERE id = %s AND last_active_at IS NOT NULL", user))
    await append(servers, *[event(topics.USER_CREATED, user, events.UserCreated(
        user_id=user, role="sugar_daddy", display_name="Old", birth_date="1980-02-29"), servers)])
    await until(lambda: query("SELECT 1 FROM users WHERE id = %s AND role IS NOT NULL", user))
    assert query("SELECT display_name, role, gender, latitude, preferences FROM users WHERE id = %s", user) == [
        ("New", "sugar_daddy", "woman", 52.5, {"ageMin": 30, "ageMax": 40, "roles": ["sugar_baby"]})
    ]
    [(match_version, version)] = query("SELECT match_version, version FROM users WHERE id = %s", user)
    assert 0 < match_version < version, "activity and blocks are no reason to drop a card"
    assert query("SELECT active FROM blocks WHERE user_id = %s AND blocked_id = %s", user, other) == [(True,)]


async def test_the_latest_swipe_of_a_pair_is_its_row_and_its_keys_are_kept(servers: Settings, writer: list[str], query: Any) -> None:
    one, other = new_id(), new_id()

    def swiped(action: Any, key: str) -> Record:
        return event(topics.MATCHING_SWIPE, one, events.Swiped(
            swiper_id=one, swiped_id=other, action=action, idempotency_key=key), servers)

    await append(servers, *[swiped("like", "a"), swiped("pass", "b")])
    await until(lambda: query("SELECT 1 FROM swipes WHERE swiper_id = %s AND action = 2", one))
    await append(servers, *[event(topics.MATCHING_SWIPE, one, events.SwipeUndone(
        swiper_id=one, swiped_id=other, undone_action="pass"), servers), swiped("super_like", "c")])
    await until(lambda: query("SELECT 1 FROM swipes WHERE swiper_id = %s AND action = 3", one))
    assert query("SELECT ever_liked, idempotency_keys FROM swipes WHERE swiper_id = %s", one) == [(True, ["c", "b", "a"])]


async def test_a_match_is_two_rows_a_conversation_and_two_notifications_however_often_it_is_appended(
    servers: Settings, writer: list[str], query: Any
) -> None:
    low, high = pair(new_id(), new_id())
    ident = match_id(low, high)
    matched = events.Matched(match_id=ident, low_id=low, high_id=high, generation=1)
    record = event(topics.MATCHING_MATCHED, ident, matched, servers, derived_id(ident, "matched:1"))
    await append(servers, *[record, record])
    await until(lambda: len(query("SELECT 1 FROM notifications WHERE user_id IN (%s, %s)", low, high)) >= 2)
    assert query("SELECT count(*), count(DISTINCT id) FROM notifications WHERE user_id IN (%s, %s)", low, high) == [(2, 2)]
    assert query("SELECT count(*) FROM matches WHERE match_id = %s AND status = 'active'", ident) == [(2,)]
    assert query("SELECT status FROM conversations WHERE id = %s", ident) == [("active",)]
    ended = events.Unmatched(match_id=ident, low_id=low, high_id=high, generation=1, ended_by=low, reason="unmatched")
    await append(servers, *[event(topics.MATCHING_MATCHED, ident, ended, servers)])
    await until(lambda: query("SELECT 1 FROM conversations WHERE id = %s AND status = 'unmatched'", ident))
    assert query("SELECT count(*) FROM matches WHERE match_id = %s AND status = 'unmatched' AND matched_at IS NOT NULL", ident) == [(2,)]


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_notification_that_is_derived_again_of_more_says_more(
    servers: Settings, writer: list[str], query: Any, at_once: bool
) -> None:
    """A derivation that was cut off after its first append had counted one like; its repetition counts three."""
    user, ident = new_id(), new_id()
    told = [
        event(topics.NOTIFICATION_SEND, user, events.NotificationSent(
            notification_id=ident, user_id=user, kind="like", title=title, data={"count": count}
        ), servers)
        for title, count in (("Someone likes you", "1"), ("3 people like you", "3"), ("3 people like you", "3"))
    ]
    for records in [told] if at_once else [[record] for record in told[:2]]:
        await append(servers, *records)
        await until(lambda: query("SELECT 1 FROM notifications WHERE user_id = %s", user))
    await until(lambda: query("SELECT title, data FROM notifications WHERE user_id = %s", user) == [("3 people like you", {"count": "3"})])
    read = event(topics.NOTIFICATION_SEND, user, events.NotificationsRead(user_id=user), servers)
    await append(servers, read)
    await until(lambda: query("SELECT 1 FROM notifications WHERE user_id = %s AND read_at IS NOT NULL", user))
    partition, [offset] = told[2].partition, await append(servers, told[2])
    await until(lambda: query(
        "SELECT 1 FROM writer_positions WHERE consumer = 'rows' AND topic = %s AND partition = %s AND next_offset > %s",
        topics.NOTIFICATION_SEND.name, partition, offset,
    ))
    assert query("SELECT read_at IS NOT NULL FROM notifications WHERE user_id = %s", user) == [(True,)], "the same again is no news"


async def test_poison_is_put_aside_with_its_bytes_and_its_neighbours_are_written(servers: Settings, writer: list[str], query: Any) -> None:
    user = new_id()
    partition = partition_of(user, servers.log.partitions)
    bad_id = events.Swiped(swiper_id=user, swiped_id="not an id", action="like")
    [_, broken, foreign, _] = await append(servers, *[
        event(topics.MATCHING_SWIPE, user, events.Swiped(swiper_id=user, swiped_id=new_id(), action="like"), servers),
        Record(topics.MATCHING_SWIPE.name, partition, user, b"\x00 not json", (("traceparent", b"00-x"),)),
        event(topics.MATCHING_SWIPE, user, bad_id, servers),
        event(topics.MATCHING_SWIPE, user, events.Swiped(swiper_id=user, swiped_id=new_id(), action="like"), servers),
    ])
    await until(lambda: query("SELECT count(*) FROM swipes WHERE swiper_id = %s HAVING count(*) = 2", user))
    letters = query(
        "SELECT record_offset, value, headers FROM dead_letters WHERE topic = 'matching.swipe' AND partition = %s "
        "AND record_offset IN (%s, %s) ORDER BY 1", partition, broken, foreign,
    )
    assert [(offset, bytes(value)[:8]) for offset, value, _ in letters] == [(broken, b"\x00 not js"), (foreign, b'{"eventI')]
    assert letters[0][2] == [["traceparent", b"00-x".hex()]]


class TestFencing:
    """On positions of a consumer of their own, so that the running writer is not disturbed."""

    place = ("matching.swipe", 0)

    @pytest.fixture
    def conn(self, servers: Settings) -> Iterator[Connection]:
        with open_rows(servers, "test") as conn:
            yield conn

    def _commit(self, conn: Connection, owned: Ownership, before: int = 0) -> str:
        """The swiper of the one swipe that was committed at this offset."""
        swiper = new_id()
        made = Event(new_id(), now(), swiper, events.Swiped(swiper_id=swiper, swiped_id=new_id(), action="like"))
        record = LogRecord(*self.place, before, swiper.encode(), encode(made))
        self.last = swiper
        commit_batch(
            conn, owned, {self.place: before}, [record], dead_letter_limit=10, copy_dead=lambda failures: None
        )
        return swiper

    def _rows(self, conn: Connection, swiper: str) -> int:
        return len(conn.execute("SELECT 1 FROM swipes WHERE swiper_id = %s", (swiper,)).fetchall())

    def test_a_replaced_writer_writes_nothing_more(self, conn: Connection) -> None:
        consumer = new_id()
        old, _ = claim(conn, consumer, [self.place], {})
        new, _ = claim(conn, consumer, [self.place], {})
        with pytest.raises(PartitionFenced):
            self._commit(conn, old)
        assert self._rows(conn, self.last) == 0
        assert self._rows(conn, self._commit(conn, new)) == 1

    def test_a_batch_is_not_committed_twice(self, conn: Connection) -> None:
        owned, _ = claim(conn, new_id(), [self.place], {})
        self._commit(conn, owned)
        with pytest.raises(PartitionFenced):
            self._commit(conn, owned)
        assert self._rows(conn, self.last) == 0
        assert regain(conn, owned, [self.place]) == {self.place: 1}

    def test_a_new_generation_starts_at_zero(self, conn: Connection) -> None:
        consumer = new_id()
        owned, _ = claim(conn, consumer, [self.place], {"matching.swipe": 1})
        self._commit(conn, owned)
        assert claim(conn, consumer, [self.place], {"matching.swipe": 2})[1] == {self.place: 0}

    def test_an_older_version_never_overwrites_a_newer(self, conn: Connection) -> None:
        swiper, swiped = new_id(), new_id()
        for version, action in ((9, "like"), (5, "pass"), (9, "pass")):
            payload = events.Swiped(swiper_id=swiper, swiped_id=swiped, action=action)  # type: ignore[arg-type]
            with conn.transaction(), conn.cursor() as cur:
                write_facts(cur, [Fact(Event(new_id(), now(), swiper, payload), version, 0)])
        assert conn.execute("SELECT action FROM swipes WHERE swiper_id = %s", (swiper,)).fetchall() == [(1,)]


def test_every_event_has_a_sink_and_its_topic_a_projection() -> None:
    missing = [payload.__name__ for _, payload in events.EVENTS if not sinks_of(payload)]
    assert not missing, f"no sink in writers/sinks for {missing}"
    assert set(PROJECTIONS) == {topic.name for topic, _ in events.EVENTS}

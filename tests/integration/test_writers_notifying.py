"""Likes, matches and devices on real servers: what is told, once, whatever is repeated or cut off."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from log_reading import records_of
from log_writing import append, eventually, record

from cluster.connections.kafka import Record
from configs.contracts import events, topics
from configs.contracts.ids import email_hash, match_id, new_id, pair
from configs.contracts.notifying import DEVICES_A_PERSON, device_id
from configs.settings import Settings
from writers.connections import open_rows
from writers.consumers import audience
from writers.consumers import likes as likes_module
from writers.consumers.audience import Burst
from writers.consumers.deriving import Appending
from writers.worker import Writer

pytestmark = pytest.mark.servers


@pytest.fixture
def settings(servers: Settings) -> Settings:
    return servers.model_copy(update={"plan": servers.plan.model_copy(update={"writer_actors": 1})})


@pytest.fixture
def writer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    monkeypatch.setattr(likes_module, "INTERVAL_MS", 50)
    fenced: list[str] = []
    running = Writer(settings, 0, fenced=fenced.append)
    running.start()
    yield running
    running.stop()
    assert not fenced


@pytest.fixture
def query(settings: Settings) -> Iterator[Callable[..., list[Any]]]:
    with open_rows(settings, "test") as conn:
        yield lambda statement, *values: conn.execute(statement, values).fetchall()


def swipe(settings: Settings, swiper: str, swiped: str, action: Any = "like") -> Record:
    payload = events.Swiped(swiper_id=swiper, swiped_id=swiped, action=action)
    return record(settings, topics.MATCHING_SWIPE, swiper, payload)


Query = Callable[..., list[Any]]
LISTED = "SELECT kind, title, data, read_at IS NOT NULL FROM notifications WHERE user_id = %s ORDER BY created_at"


async def test_likes_of_many_people_are_one_notification_that_counts_them(
    settings: Settings, writer: Writer, query: Query
) -> None:
    liked, answered, *likers = (new_id() for _ in range(9))
    await append(settings, swipe(settings, liked, answered, "pass"))
    await eventually(lambda: query("SELECT 1 FROM swipes WHERE swiper_id = %s", liked))
    await append(settings, *(swipe(settings, liker, liked) for liker in likers[:5]), swipe(settings, answered, liked))
    await append(settings, swipe(settings, likers[5], liked), swipe(settings, likers[0], liked), swipe(settings, likers[6], liked, "pass"))
    await eventually(lambda: query(LISTED, liked) == [("like", "6 people like you", {"count": "6"}, False)])
    await append(settings, record(settings, topics.NOTIFICATION_SEND, liked, events.NotificationsRead(user_id=liked)))
    await eventually(lambda: query(LISTED, liked)[0][3])
    await append(settings, swipe(settings, likers[6], liked))
    await eventually(lambda: query(LISTED, liked) == [("like", "7 people like you", {"count": "7"}, False)])
    told = await asyncio.to_thread(records_of, settings, "notification.send", liked)
    sent = [event.payload for event in told if isinstance(event.payload, events.NotificationSent)]
    assert len({payload.notification_id for payload in sent}) == 1
    assert [payload.renews for payload in sent] == [False] + [True] * (len(sent) - 1)


async def test_a_super_like_is_told_by_itself(settings: Settings, writer: Writer, query: Query) -> None:
    liked = new_id()
    await append(settings, *(swipe(settings, new_id(), liked, "super_like") for _ in range(2)))
    await eventually(lambda: query(LISTED, liked) == [("super_like", "Someone super liked you", {}, False)] * 2)


async def test_what_a_person_refused_is_neither_listed_nor_sent(settings: Settings, writer: Writer, query: Query) -> None:
    silent, listless, other = (new_id() for _ in range(3))
    await append(
        settings,
        *(
            record(settings, topics.USER_UPDATED, user, events.NotificationPreferencesChanged(user_id=user, **wish))
            for user, wish in ((silent, {"push_match": False, "list_match": False}), (listless, {"list_match": False}))
        ),
    )
    await eventually(lambda: len(query("SELECT 1 FROM users WHERE id = ANY(%s::uuid[])", [silent, listless])) == 2)
    for user in (silent, listless):
        low, high = pair(user, other)
        matched = events.Matched(match_id=match_id(low, high), low_id=low, high_id=high, generation=1)
        await append(settings, record(settings, topics.MATCHING_MATCHED, matched.match_id, matched))
    await eventually(lambda: len(query(LISTED, other)) == 2)
    sent = [await asyncio.to_thread(records_of, settings, "notification.send", user) for user in (silent, listless)]
    assert [[event.payload.in_list for event in events_of] for events_of in sent] == [[], [False]]
    assert query(LISTED, silent) == query(LISTED, listless) == []


async def test_a_repetition_after_a_commit_that_was_cut_off_tells_the_same_once(
    settings: Settings, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the notification was appended and before position and count were stored."""
    monkeypatch.setattr(likes_module, "INTERVAL_MS", 50)
    liked, likers = new_id(), [new_id() for _ in range(3)]
    appended: list[int] = []
    real = likes_module._told

    def cut_off(conn: Any, cur: Any, found: Any) -> Any:
        told = real(conn, cur, found)
        if any(event.key == liked for event in told):
            appended.append(len(told))
            if len(appended) == 1:
                raise_later.append(True)
        return told

    raise_later: list[bool] = []
    monkeypatch.setattr(likes_module, "_told", cut_off)
    real_append = likes_module.Appending.append

    def append_and_fail(self: Any, records: Any) -> None:
        real_append(self, records)
        if raise_later and self._name.endswith("-likes"):
            raise_later.clear()
            raise psycopg.OperationalError("cut off between acknowledgement and commit")

    monkeypatch.setattr(likes_module.Appending, "append", append_and_fail)
    fenced: list[str] = []
    writer = Writer(settings, 0, fenced=fenced.append)
    writer.start()
    try:
        await append(settings, *(swipe(settings, liker, liked) for liker in likers))
        await eventually(lambda: len(appended) >= 2)
        await eventually(lambda: query("SELECT told FROM like_bursts WHERE user_id = %s", liked) == [(3,)])
        await eventually(lambda: query(LISTED, liked) == [("like", "3 people like you", {"count": "3"}, False)])
    finally:
        writer.stop()
    assert not fenced
    assert len(appended) >= 2
    told = await asyncio.to_thread(records_of, settings, "notification.send", liked)
    assert len({event.payload.notification_id for event in told}) == 1
    assert query("SELECT cardinality(likers), told FROM like_bursts WHERE user_id = %s", liked) == [(3, 3)]


def remembered(bursts: dict[str, Burst], found: list[events.Event]) -> None:
    """What the bursts are after a batch, for one who remembers everybody who liked."""
    liked = set()
    for event in found:
        payload = event.payload
        burst = bursts.get(payload.swiped_id, Burst(likes_module.BEGINNING))
        if isinstance(payload, events.SwipeUndone):
            burst = burst.withdrawn(payload.swiper_id)
        elif payload.action == "like":
            burst = burst.liked(payload.swiper_id, event.occurred_at)
            liked.add(payload.swiped_id)
        bursts[payload.swiped_id] = burst
    for user_id in liked:
        if bursts[user_id].is_news:
            bursts[user_id] = replace(bursts[user_id], told=len(bursts[user_id].likers))


@pytest.mark.parametrize("seed", range(4))
def test_bursts_of_which_only_parts_are_read_are_those_of_one_who_remembers_everything(
    settings: Settings, query: Query, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(audience, "LIKERS_KEPT", 8)
    chance, now = random.Random(seed), datetime.now(UTC)
    people, likers = [new_id() for _ in range(8)], [new_id() for _ in range(16)]
    bursts: dict[str, Burst] = {}
    counts = set()
    with open_rows(settings, "bursts") as conn:
        for _ in range(200):
            now += timedelta(minutes=chance.choice((*[1] * 20, 9, 61)))
            found = []
            for _ in range(chance.randint(1, 10)):
                swiper, swiped = chance.choice(likers), chance.choice(people)
                undone = events.SwipeUndone(swiper_id=swiper, swiped_id=swiped, undone_action="like")
                action = chance.choice(("like", "like", "like", "super_like"))
                payload = undone if chance.random() < 0.3 else events.Swiped(swiper_id=swiper, swiped_id=swiped, action=action)
                found.append(events.Event(new_id(), now, swiper, payload))
            with conn.transaction(), conn.cursor() as cur:
                likes_module._told(conn, cur, found)
            remembered(bursts, found)
            stored = query("SELECT user_id::text, opened_at, likers::text[], told FROM like_bursts WHERE user_id = ANY(%s::uuid[])", people)
            assert {user: (opened_at, sorted(ids), told) for user, opened_at, ids, told in stored} == {
                user: (burst.opened_at, sorted(burst.likers), burst.told) for user, burst in bursts.items()
            }
            counts.update(len(burst.likers) for burst in bursts.values())
    assert {0, 1, 8} <= counts, "no burst was empty, or none was full"


def test_a_like_counted_by_another_writer_meanwhile_is_counted_on(settings: Settings, query: Query) -> None:
    before, first, second, liked, now = new_id(), new_id(), new_id(), new_id(), datetime.now(UTC)
    given = [
        events.Event(new_id(), now, liker, events.Swiped(swiper_id=liker, swiped_id=liked, action="like")) for liker in (before, first, second, first)
    ]

    def count(conn: Any, found: list[events.Event]) -> None:
        with conn.transaction(), conn.cursor() as cur:
            likes_module._told(conn, cur, found)

    with open_rows(settings, "one") as one, open_rows(settings, "other") as other, ThreadPoolExecutor(1) as pool:
        count(one, given[:1])
        with one.transaction(), one.cursor() as cur:
            likes_module._told(one, cur, given[1:2])
            waiting = pool.submit(count, other, given[2:])
            deadline = time.monotonic() + 30
            while not query("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", other.info.backend_pid):
                assert time.monotonic() < deadline, "the other writer did not wait"
                time.sleep(0.01)
        waiting.result(30)
    assert query("SELECT likers @> %s::uuid[], cardinality(likers), told FROM like_bursts WHERE user_id = %s", [first, second], liked) == [
        (True, 3, 3)
    ]


def registered(settings: Settings, user: str, token: str, family: str | None = None) -> Record:
    name = device_id("fcm", token)
    payload = events.DeviceRegistered(device_id=name, user_id=user, platform="fcm", token=token, family_id=family)
    return record(settings, topics.NOTIFICATION_DEVICES, name, payload)


DEVICES = "SELECT token FROM device_tokens WHERE user_id = %s AND removed_at IS NULL ORDER BY registered_at, token"


async def test_a_thousand_devices_of_one_person_leave_the_newest_ten(
    settings: Settings, writer: Writer, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = new_id()
    removals: list[list[str]] = []
    real_append = Appending.append

    def counted(self: Appending, records: list[Record]) -> None:
        removals.append([one.key for one in records if one.topic == topics.NOTIFICATION_DEVICES.name])
        real_append(self, records)

    monkeypatch.setattr(Appending, "append", counted)
    tokens = [f"{user}-{number:04d}" for number in range(1_000)]
    for start in range(0, 1_000, 250):
        await append(settings, *(registered(settings, user, token) for token in tokens[start : start + 250]))
    kept = await eventually(
        lambda: found if len(found := query(DEVICES, user)) == DEVICES_A_PERSON
        and query("SELECT count(*) FROM device_tokens WHERE user_id = %s", user) == [(1_000,)] else None
    )
    assert [token for (token,) in kept] == tokens[-DEVICES_A_PERSON:]
    assert query("SELECT count(*) FROM device_tokens WHERE user_id = %s AND removed_at IS NOT NULL AND token = ''", user) == [(990,)]
    assert any(removals)
    assert all(len(set(batch)) == len(batch) for batch in removals), "a batch of registrations removes each device once"


@pytest.mark.parametrize("first", ["device", "sign-out"])
async def test_a_device_leaves_with_the_session_that_registered_it(
    settings: Settings, writer: Writer, query: Query, first: str
) -> None:
    user, other, family, kept = new_id(), new_id(), new_id(), new_id()
    ended = record(settings, topics.AUTH_SESSIONS, family, events.SessionRevoked(
        family_id=family, user_id=user, reason="logout"
    ))
    begun = record(settings, topics.AUTH_SESSIONS, family, events.SessionStarted(
        family_id=family, user_id=user, token_hash="ab" * 32, expires_at=datetime.now(UTC) + timedelta(days=1)
    ))
    await append(
        settings, begun, registered(settings, user, f"{user} kept", kept), registered(settings, user, f"{user} moved", family)
    )
    steps = [registered(settings, user, f"{user} gone", family), ended]
    for step in steps if first == "device" else steps[::-1]:
        await append(settings, step)
        await eventually(lambda: query(DEVICES, user))
    await append(settings, registered(settings, other, f"{user} moved", new_id()))
    await eventually(lambda: [token for (token,) in query(DEVICES, user)] == [f"{user} kept"])
    await eventually(lambda: query(DEVICES, other) == [(f"{user} moved",)])  # somebody else's device by now


async def test_a_new_password_ends_the_registrations_of_expired_sessions_and_nothing_else_that_is_over(
    settings: Settings, writer: Writer, query: Query
) -> None:
    """Long expired sessions without a device are left alone, however many there are."""
    user, address, past = new_id(), email_hash(f"{new_id()}@example.com"), datetime.now(UTC) - timedelta(days=1)
    account = events.AccountRegistered(
        user_id=user, email_hash=address, email=f"{user}@example.com", password_hash="old", role="sugar_baby", display_name="A",
        birth_date="1990-01-01",
    )
    await append(settings, record(settings, topics.AUTH_ACCOUNTS, address, account))
    await eventually(lambda: query("SELECT 1 FROM users WHERE id = %s", user))
    expired, forgotten = new_id(), new_id()
    for family in (expired, forgotten):
        await append(settings, record(settings, topics.AUTH_SESSIONS, family, events.SessionStarted(
            family_id=family, user_id=user, token_hash="ab" * 32, expires_at=past, email_hash=address, signed_in_at=past
        )))
        await eventually(lambda family=family: query("SELECT 1 FROM sessions WHERE family_id = %s", family))
    await append(settings, registered(settings, user, f"{user} left", expired))
    await eventually(lambda: query(DEVICES, user) == [(f"{user} left",)])
    await append(settings, record(settings, topics.AUTH_ACCOUNTS, address, events.PasswordSet(
        email_hash=address, user_id=user, password_hash="new"
    )))
    await eventually(lambda: query("SELECT 1 FROM device_tokens WHERE user_id = %s AND removed_at IS NOT NULL", user))
    assert query("SELECT family_id::text FROM sessions WHERE user_id = %s AND revoked_at IS NOT NULL", user) == [(expired,)]


async def test_a_device_that_moves_leaves_its_old_account(settings: Settings, writer: Writer, query: Query) -> None:
    old, new = new_id(), new_id()
    token = f"moving-{old}"
    await append(settings, registered(settings, old, token))
    await eventually(lambda: query(DEVICES, old) == [(token,)])
    name = device_id("fcm", token)
    removal = events.DeviceRemoved(device_id=name, user_id=old, reason="signed_out")
    await append(settings, registered(settings, new, token))
    await append(settings, record(settings, topics.NOTIFICATION_DEVICES, name, removal))
    await append(settings, registered(settings, new, f"other-{new}"))
    await eventually(lambda: len(query(DEVICES, new)) == 2)
    assert query(DEVICES, old) == []

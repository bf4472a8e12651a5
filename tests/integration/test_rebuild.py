"""Redis rebuilt from rows holds what the projections had put there event by event."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cluster.connections.kafka import LogAppender, Record
from cluster.connections.postgres import connect
from cluster.connections.redis import apply, sync_client
from cluster.launch.prepare import prepare
from cluster.launch.servers import EmbeddedServers
from configs.contracts import events, topics
from configs.contracts.errors import ReadModelRebuilding
from configs.contracts.events import Event, Payload, encode
from configs.contracts.ids import email_hash, match_id, new_id, pair, partition_of
from configs.contracts.people import snap
from configs.contracts.read_model import (
    GENERATION,
    MARKER,
    listing_keys,
    put_record,
    read_record,
    record_key,
    relation_key,
)
from configs.contracts.topics import TOPICS, Topic
from configs.settings import Settings
from writers.catching_up import catch_up
from writers.rebuild import TOKENS, ReadModelKeeper, clear, rebuild, write_everything
from writers.worker import Writer

pytestmark = pytest.mark.servers


async def eventually(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.05)


@pytest.fixture
def alone(fresh_servers: Callable[[], EmbeddedServers]) -> tuple[EmbeddedServers, Settings]:
    """Servers of one's own with one writer's plan."""
    servers = fresh_servers()
    settings = prepare(servers.settings())
    return servers, settings.model_copy(update={"plan": settings.plan.model_copy(update={"writer_actors": 1})})


@pytest.fixture
def writer(alone: tuple[EmbeddedServers, Settings]) -> Iterator[Writer]:
    fenced: list[str] = []
    writer = Writer(alone[1], 0, fenced=fenced.append)
    writer.start()
    yield writer
    writer.stop()
    assert not fenced


class World:
    """Events of a few people, as the shards would append them."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self._settings = settings
        self._random = random.Random(seed)
        self.people = [new_id() for _ in range(8)]
        self.records: list[Record] = []
        self._at = datetime.now(UTC) - timedelta(minutes=5)
        self._generations: dict[tuple[str, str], int] = {}
        self._active: set[tuple[str, str]] = set()
        self._sent: dict[tuple[str, str], dict[str, int]] = {}
        self._blocked: set[tuple[str, str]] = set()
        self.strangers: list[tuple[str, str]] = []
        """Blocked before they ever matched."""
        self.matches = self.revocations = 0
        self.ends: dict[str, int] = {}
        """Topic and partition -> offset after the newest appended record."""

    def add(self, topic: Topic, key: str, payload: Payload, ident: str | None = None) -> None:
        self._at += timedelta(milliseconds=1)
        event = Event(ident or new_id(), self._at, key, payload)
        self.records.append(Record(topic.name, partition_of(key, self._settings.log.partitions), key, encode(event)))

    def register(self) -> None:
        for person in self.people:
            address = f"{person}@example.com"
            self.add(topics.AUTH_ACCOUNTS, email_hash(address), events.AccountRegistered(
                user_id=person, email=address, email_hash=email_hash(address), password_hash="h", role="sugar_baby",
                display_name=f"P{person[-4:]}", birth_date="1990-05-06", family_id=new_id(),
                session_expires_at=self._at + timedelta(days=30),
            ))

    def happen(self, count: int) -> None:
        steps = (self._profile, self._preferences, self._location, self._active_now, self._block, self._swipe, self._pair,
                 self._notify, self._rehash, self._revoke, self._talk, self._talk)
        for _ in range(count):
            self._random.choice(steps)(*self._random.sample(self.people, 2))

    def _profile(self, me: str, _: str) -> None:
        fields: dict[str, Any] = {"bio": str(self._random.random()), "gender": "woman", "display_name": "New"}
        name = self._random.choice(list(fields))
        self.add(topics.USER_UPDATED, me, events.ProfileChanged(user_id=me, **{name: fields[name]}))

    def _preferences(self, me: str, _: str) -> None:
        self.add(topics.USER_UPDATED, me, events.PreferencesChanged(
            user_id=me, age_min=self._random.randint(18, 40), genders=("woman",), hide_distance=True
        ))

    def _location(self, me: str, _: str) -> None:
        latitude, longitude, cell = snap(self._random.uniform(-80, 80), self._random.uniform(-179, 179))
        self.add(topics.USER_UPDATED, me, events.LocationChanged(user_id=me, latitude=latitude, longitude=longitude, cell=cell))

    def _active_now(self, me: str, _: str) -> None:
        self.add(topics.USER_UPDATED, me, events.WasActive(user_id=me, active_at=self._at))

    def _block(self, me: str, other: str) -> None:
        kind = self._random.choice((events.UserBlocked, events.UserUnblocked))
        if kind is events.UserBlocked and pair(me, other) not in self._generations:
            self._blocked.add(pair(me, other))  # no authority matches them any more, and rows know of no match
        self.add(topics.USER_UPDATED, me, kind(user_id=me, blocked_id=other))

    def _swipe(self, me: str, other: str) -> None:
        action: Any = self._random.choice(("like", "pass", "super_like", "undo"))
        if action == "undo":
            self.add(topics.MATCHING_SWIPE, me, events.SwipeUndone(swiper_id=me, swiped_id=other, undone_action="like"))
        else:
            self.add(topics.MATCHING_SWIPE, me, events.Swiped(swiper_id=me, swiped_id=other, action=action))

    def _pair(self, one: str, other: str) -> None:
        both = low, high = pair(one, other)
        ident = match_id(one, other)
        if both in self._blocked:
            return
        if both not in self._generations and self._random.random() < 0.3:
            self._blocked.add(both)
            self.strangers.append(both)
            self.add(topics.MATCHING_MATCHED, ident, events.Unmatched(
                match_id=ident, low_id=low, high_id=high, generation=0, ended_by=one, reason="blocked"
            ))
            return
        if both not in self._active:
            generation = self._generations[both] = self._generations.get(both, 0) + 1
            self._active.add(both)
            self.matches += 1
            self.add(topics.MATCHING_MATCHED, ident, events.Matched(match_id=ident, low_id=low, high_id=high, generation=generation))
            return
        reason = self._random.choice(("undone", "undone", "blocked"))
        self._active.discard(both)
        if reason == "blocked":
            self._blocked.add(both)
        self.add(topics.MATCHING_MATCHED, ident, events.Unmatched(
            match_id=ident, low_id=low, high_id=high, generation=self._generations[both], ended_by=one, reason=reason
        ))

    def _talk(self, one: str, other: str) -> None:
        """A message or a mark in a random conversation that ever was."""
        if not self._generations:
            return
        both = self._random.choice(list(self._generations))
        sender, recipient = self._random.sample(both, 2)
        sent = self._sent.setdefault(both, {})
        conversation = match_id(*both)
        seq = sum(sent.values())
        if seq and self._random.random() < 0.4:
            read = self._random.randint(1, seq)
            self.add(topics.MESSAGING_MESSAGE_READ, conversation, events.MessageRead(
                conversation_id=conversation, reader_id=sender, other_id=recipient, seq=read, ordinal=read // 2
            ))
            return
        sent[sender] = sent.get(sender, 0) + 1
        self.add(topics.MESSAGING_MESSAGE_SENT, conversation, events.MessageSent(
            message_id=new_id(), conversation_id=conversation, sender_id=sender, recipient_id=recipient, seq=seq + 1,
            ordinal=sent[sender], epoch=1, client_message_id=f"m{seq}", content=f"text {seq} ä",
        ))

    def _notify(self, me: str, _: str) -> None:
        ident = new_id()
        self.add(topics.NOTIFICATION_SEND, me, events.NotificationSent(
            notification_id=ident, user_id=me, kind="note", title="t", data={"a": "b"}
        ), ident)
        if self._random.random() < 0.5:
            self.add(topics.NOTIFICATION_SEND, me, events.NotificationRead(notification_id=ident, user_id=me))

    def _rehash(self, me: str, _: str) -> None:
        hashed = email_hash(f"{me}@example.com")
        self.add(topics.AUTH_ACCOUNTS, hashed, events.PasswordRehashed(
            user_id=me, email_hash=hashed, password_hash=str(self._random.random())
        ))

    def _revoke(self, me: str, _: str) -> None:
        family = new_id()
        self.revocations += 1
        self.add(topics.AUTH_SESSIONS, family, events.SessionRevoked(family_id=family, user_id=me, reason="logout"))

    async def append(self) -> None:
        appender = LogAppender(self._settings, "test")
        try:
            offsets = await appender.append(self.records)
        finally:
            await asyncio.to_thread(appender.close)
        for record, offset in zip(self.records, offsets, strict=True):
            self.ends[f"{record.topic}:{record.partition}"] = offset + 1
        self.records.clear()


def snapshot(settings: Settings) -> dict[str, Any]:
    """Every fact in Redis. Entries that are out of their list are left out: rows do not keep who passed whom."""
    found: dict[str, Any] = {}
    with sync_client(settings) as client:
        redis: Any = client
        for key in redis.scan_iter(count=1_000):
            name = key.decode()
            kind = redis.type(key)
            if name.startswith(("proj:", GENERATION, TOKENS, "feed:", "conv:msg:", "conv:page:")):  # the last three are caches
                continue
            if kind == b"string":
                value = redis.get(key)
                found[name] = json.loads(value) if name.startswith("rec:") else value
            elif kind == b"zset":
                found[name] = redis.zrange(key, 0, -1, withscores=True)
            elif kind == b"set":
                found[name] = sorted(redis.smembers(key))
            else:
                order: list[bytes] = []
                if ":h:" in name:
                    order = redis.zrange(name.replace(":h:", ":z:"), 0, -1)  # before the hash: what comes in between is in that alone
                found[name] = redis.hgetall(key)
                if ":h:" in name:
                    assert not set(order) - set(found[name]), f"{name} says nothing of what is listed"
                    found[name] = {entry: (found[name][entry][:16], json.loads(found[name][entry][16:])) for entry in order} | {
                        MARKER: redis.hexists(key, MARKER)
                    }
    return found


def listed_strangers(settings: Settings, world: World) -> list[tuple[str, str]]:
    """Who is told by the read model of somebody who blocked them, or whom they blocked, as of a match that ended."""
    with sync_client(settings) as client:
        return [
            (person, listing) for both in world.strangers for person in both for listing in ("match", "conv")
            if client.hexists(listing_keys(listing, person)[1], match_id(*both))  # type: ignore[arg-type]
        ]


def behind(settings: Settings, world: World) -> list[str]:
    """What has not yet been taken in of everything that was appended and of what follows from it."""
    with connect(settings, "test") as conn, sync_client(settings) as client:
        redis: Any = client
        rows = dict(conn.execute(
            "SELECT topic || ':' || partition, next_offset FROM writer_positions WHERE consumer = 'rows'"
        ).fetchall())
        count = conn.execute(
            "SELECT (SELECT count(*) FROM users WHERE role IS NOT NULL), "
            "(SELECT count(*) FROM notifications WHERE kind = 'match'), (SELECT count(*) FROM sessions)"
        ).fetchone()
        projected = {place: redis.get(f"proj:{place}") for place in rows}
    left = [place for place, offset in world.ends.items() if rows.get(place, 0) < offset]
    left += [place for place, offset in rows.items() if projected[place] != f"1:{offset}".encode()]
    expected = (len(world.people), 2 * world.matches, len(world.people) + world.revocations)
    return left + ([] if count == expected else [f"derived {count}, not {expected}"])


async def taken_in(settings: Settings, world: World) -> None:
    # What people are told of likes follows a little later.
    await asyncio.to_thread(catch_up, settings, threading.Event(), likes=True)
    await eventually(lambda: not behind(settings, world))


def generation(settings: Settings) -> bytes | None:
    with sync_client(settings) as client:
        value: Any = client.get(GENERATION)
    return None if value is None else bytes(value)


async def test_a_producer_that_takes_longer_to_begin_than_a_request_waits_holds_no_rebuild_up(
    alone: tuple[EmbeddedServers, Settings], writer: Writer
) -> None:
    """Each look of the keeper begins with a new producer: it would never get any further."""
    _, settings = alone
    hurried = settings.model_copy(update={"log": settings.log.model_copy(update={"append_deadline_ms": 50})})
    assert await asyncio.to_thread(catch_up, hurried, threading.Event())


async def test_a_rebuilt_read_model_equals_the_projected_one(
    alone: tuple[EmbeddedServers, Settings], writer: Writer
) -> None:
    _, settings = alone
    await eventually(lambda: generation(settings) is not None)
    world = World(settings, random.randrange(1 << 30))
    world.register()
    world.happen(300)
    await world.append()
    await taken_in(settings, world)
    assert world.strangers
    assert listed_strangers(settings, world) == []
    projected = snapshot(settings)
    assert {name for name in projected if name.startswith("rec:")} == {record_key(person) for person in world.people}

    before = generation(settings)
    with sync_client(settings) as client:
        client.flushall()
    await eventually(lambda: generation(settings) not in (None, before))

    assert snapshot(settings) == projected
    assert listed_strangers(settings, world) == []

    world.happen(60)
    await world.append()
    await taken_in(settings, world)
    projected = snapshot(settings)
    before = generation(settings)
    clear(settings)
    # Beside the keeper, which sees the loss too.
    assert (await asyncio.to_thread(rebuild, settings))["people"] == len(world.people)
    assert generation(settings) not in (None, before)

    assert snapshot(settings) == projected


@pytest.fixture
def keeper(alone: tuple[EmbeddedServers, Settings]) -> Iterator[ReadModelKeeper]:
    """A keeper in its thread, with no writer beside it."""
    keeper, stopping = ReadModelKeeper(alone[1]), threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stopping,))
    thread.start()
    yield keeper
    stopping.set()
    thread.join(30.0)
    assert not thread.is_alive()


async def test_nothing_is_complete_before_rows_have_passed_what_was_appended(
    alone: tuple[EmbeddedServers, Settings], keeper: ReadModelKeeper
) -> None:
    settings = alone[1]
    await eventually(lambda: keeper.state.startswith("log "))
    await asyncio.sleep(0.5)
    assert generation(settings) is None
    with connect(settings, "test") as conn:
        for topic in TOPICS:
            conn.execute(
                "INSERT INTO writer_positions (consumer, topic, partition, generation, next_offset, epoch) "
                "SELECT consumer, %s, partition, 1, 1000, 1 "
                "FROM generate_series(0, %s) AS partition, unnest(ARRAY['rows', 'derive']) AS consumer",
                (topic.name, settings.log.partitions - 1),
            )

    await eventually(lambda: generation(settings) is not None)
    with sync_client(settings) as client:
        assert client.get("proj:user.updated:3") == b"1:1000"


async def test_a_rebuild_that_lost_redis_on_the_way_declares_nothing(
    alone: tuple[EmbeddedServers, Settings]
) -> None:
    settings = alone[1]
    with connect(settings, "test") as conn:
        conn.execute("INSERT INTO users (id, role) VALUES (%s, 'sugar_baby')", (new_id(),))

    def lose(step: str, done: int, total: int) -> None:
        with sync_client(settings) as client:
            client.flushall()

    with pytest.raises(ReadModelRebuilding):
        write_everything(settings, lose)

    assert generation(settings) is None


async def test_a_rebuild_leaves_newer_facts_alone(alone: tuple[EmbeddedServers, Settings]) -> None:
    settings = alone[1]
    me = new_id()
    with connect(settings, "test") as conn:
        conn.execute(
            "INSERT INTO users (id, role, bio, field_versions) VALUES (%s, 'sugar_baby', 'rows', '{\"bio\": 5}')", (me,)
        )
    with sync_client(settings) as client:
        apply(client, [put_record(me, {"bio": "written through"}, 6)])

    assert write_everything(settings)["people"] == 1

    with sync_client(settings) as client:
        value: Any = client.get(record_key(me))
    assert (read_record(value).bio, read_record(value).role) == ("written through", "sugar_baby")


async def test_a_registered_person_without_a_row_yet_is_blocked_after_a_rebuild(
    alone: tuple[EmbeddedServers, Settings]
) -> None:
    settings = alone[1]
    me, other = new_id(), new_id()
    with connect(settings, "test") as conn:
        conn.execute(
            "INSERT INTO credentials (email_hash, user_id, email, claimed_at, version) VALUES (%s, %s, 'x', now(), 1)",
            (email_hash("me@example.com"), me),
        )
        conn.execute("INSERT INTO blocks VALUES (%s, %s, true, now(), 9)", (other, me))

    write_everything(settings)

    with sync_client(settings) as client:
        assert client.hget(relation_key(me), f"by:{other}") == b"%016x1" % 9


async def test_a_server_that_is_not_the_one_that_was_filled_counts_as_lost(
    alone: tuple[EmbeddedServers, Settings], writer: Writer
) -> None:
    """As a promoted replica: everything is there, but perhaps not the last of it."""
    settings = alone[1]
    await eventually(lambda: generation(settings) is not None)
    with sync_client(settings) as client:
        client.set(GENERATION, "filled:another-server")

    await eventually(lambda: generation(settings) not in (None, b"filled:another-server"))


async def test_the_keeper_waits_while_servers_are_away(alone: tuple[EmbeddedServers, Settings], writer: Writer) -> None:
    servers, settings = alone
    await eventually(lambda: generation(settings) is not None)
    before = generation(settings)
    assert servers.valkey is not None
    assert servers.postgres is not None
    servers.postgres.kill()
    servers.valkey.kill()
    servers.valkey.start()
    await asyncio.sleep(1.5)
    assert generation(settings) is None
    servers.postgres.start()

    await eventually(lambda: generation(settings) not in (None, before))

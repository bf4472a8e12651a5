"""Reconciling finds each kind of disagreement between PostgreSQL, Redis and shards, and mends Redis from rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import psycopg
import pytest

from cluster.connections.kafka import LogAppender, barrier
from cluster.connections.postgres import connect
from cluster.connections.redis import sync_client
from cluster.launch.prepare import prepare
from cluster.launch.secrets import with_keys
from cluster.launch.servers import EmbeddedServers
from configs.contracts.ids import derived_id, email_hash, key64, match_id, new_id
from configs.contracts.read_model import credential_key, listing_keys, record_key, relation_key
from configs.settings import Settings, load_settings
from writers.lag import lag
from writers.rebuild import write_everything
from writers.reconcile import Report, reconcile

pytestmark = pytest.mark.servers

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TABLES = "users, blocks, notifications, credentials, sessions, swipes, matches, conversations"
Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Servers whose people are all this module's."""
    servers = EmbeddedServers(with_keys(load_settings("test", data_dir=tmp_path_factory.mktemp("reconcile"))))
    servers.start()
    yield prepare(servers.settings())
    servers.stop()


@pytest.fixture
def rows(own: Settings) -> Iterator[Connection]:
    with connect(own, "test") as conn:
        conn.execute(f"TRUNCATE {TABLES}")
        yield conn


@pytest.fixture
def redis(own: Settings, rows: Connection) -> Iterator[Any]:
    with sync_client(own) as client:
        client.flushall()
        yield client


def look(settings: Settings, **options: Any) -> Report:
    return reconcile(settings, pause_s=0.01, **options)


class Couple:
    """Two people who matched, one of whom blocked a third person."""

    def __init__(self, conn: Connection) -> None:
        self.one, self.other = sorted((new_id(), new_id()))
        self.third = new_id()
        self.match = match_id(self.one, self.other)
        self.address = email_hash(f"{self.one}@example.com")
        for person in (self.one, self.other, self.third):
            conn.execute(
                "INSERT INTO users (id, role, display_name, birth_date, created_at, bio, last_active_at, preferences, field_versions, version) "
                "VALUES (%s, 'sugar_baby', 'Ada', %s, %s, 'b', %s, '{\"ageMin\": 20, \"roles\": [\"sugar_baby\"]}', "
                "'{\"bio\": 5, \"ageMin\": 6, \"roles\": 6, \"last_active_at\": 7}', 7)",
                (person, date(1990, 1, 2), NOW, NOW),
            )
        conn.execute("INSERT INTO credentials VALUES (%s, %s, 'x', 'h', 'active', %s, 4)", (self.address, self.one, NOW))
        conn.execute("INSERT INTO blocks VALUES (%s, %s, true, %s, 8)", (self.one, self.third, NOW))
        for mine, theirs in ((self.one, self.other), (self.other, self.one)):
            conn.execute("INSERT INTO swipes VALUES (%s, %s, %s, 9, 1, 0, true, NULL)", (mine, theirs, NOW))
            conn.execute(
                "INSERT INTO matches (member_id, other_id, match_id, status, generation, matched_at, version) "
                "VALUES (%s, %s, %s, 'active', 1, %s, 10)", (mine, theirs, self.match, NOW),
            )
            conn.execute(
                "INSERT INTO notifications (user_id, id, kind, title, data, created_at, version) VALUES (%s, %s, 'match', 't', %s, %s, 11)",
                (mine, derived_id(derived_id(self.match, "matched:1"), f"notify:{mine}"), json.dumps({"userId": theirs, "matchId": self.match}), NOW),
            )
        conn.execute(
            "INSERT INTO conversations VALUES (%s, %s, %s, 'active', 1, %s, 10)", (self.match, self.one, self.other, NOW)
        )


@pytest.fixture
def couple(own: Settings, rows: Connection, redis: Any) -> Couple:
    made = Couple(rows)
    write_everything(own)
    return made


def test_rebuilt_servers_agree(own: Settings, couple: Couple) -> None:
    report = look(own)

    assert report.agrees
    assert (report.people, report.repaired, report.counts.total()) == (3, 0, 0)


def _change_entry(redis: Any, couple: Couple) -> None:
    _, entries = listing_keys("match", couple.one)
    value = redis.hget(entries, couple.match).replace(couple.other.encode(), couple.third.encode())
    redis.hset(entries, couple.match, value)


DAMAGES: dict[str, tuple[str, Callable[[Any, Couple], object]]] = {
    "a field with another value": ("field", lambda redis, couple: redis.hset(f"fld:{{{couple.one}}}", "bio", "{:016x}{}".format(5, '"c"'))),
    "a field with another version": ("field", lambda redis, couple: redis.hset(f"fld:{{{couple.one}}}", "bio", "{:016x}{}".format(4, '"b"'))),
    "a field too many": ("field", lambda redis, couple: redis.hset(f"fld:{{{couple.one}}}", "gender", "{:016x}{}".format(9, '"man"'))),
    "a missing record": ("record", lambda redis, couple: redis.delete(record_key(couple.one))),
    "a record unlike its fields": ("record", lambda redis, couple: redis.set(record_key(couple.one), b'{"userId":"x"}')),
    "a forgotten block": ("relation", lambda redis, couple: redis.hdel(relation_key(couple.one), f"b:{couple.third}")),
    "an invented block": ("relation", lambda redis, couple: redis.hset(relation_key(couple.third), f"b:{couple.one}", f"{3:016x}1")),
    "a set that is not known": ("unwarm", lambda redis, couple: redis.hdel(relation_key(couple.one), "*")),
    "a match that is not listed": ("match", lambda redis, couple: redis.zrem(listing_keys("match", couple.one)[0], couple.match)),
    "a match with another person": ("match", _change_entry),
    "a conversation at another time": ("conv", lambda redis, couple: redis.zadd(listing_keys("conv", couple.one)[0], {couple.match: 5})),
    "a lost like": ("like", lambda redis, couple: redis.delete(*listing_keys("like", couple.one))),
    "a lost notification": ("note", lambda redis, couple: redis.zremrangebyrank(listing_keys("note", couple.one)[0], 0, -1)),
    "another password": ("credential", lambda redis, couple: redis.set(credential_key(couple.address), b"%016x{}" % 4)),
    "a lost credential": ("credential", lambda redis, couple: redis.delete(credential_key(couple.address))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_in_redis_is_found_and_mended(own: Settings, couple: Couple, redis: Any, damage: str) -> None:
    kind, harm = DAMAGES[damage]
    harm(redis, couple)

    found = look(own)
    assert kind in {item.kind for item in found.differences}
    assert not found.agrees
    assert found.repaired == 0
    assert look(own, repair=True).repaired == 1
    assert look(own).agrees


def test_a_difference_names_both_versions(own: Settings, couple: Couple, redis: Any) -> None:
    redis.hset(f"fld:{{{couple.one}}}", "ageMin", f"{12:016x}25")
    assert [(item.kind, item.name, item.rows_version, item.other_version) for item in look(own).differences if item.kind == "field"] == [
        ("field", "ageMin", 6, 12)
    ]


def test_repairing_touches_only_those_who_differ(own: Settings, couple: Couple, redis: Any) -> None:
    before = redis.dump(record_key(couple.other))
    redis.delete(record_key(couple.one))

    look(own, repair=True)

    assert redis.dump(record_key(couple.other)) == before


def test_mutual_likes_without_a_match_are_named(own: Settings, couple: Couple, rows: Connection) -> None:
    rows.execute("DELETE FROM matches")
    write_everything(own)
    pair = (couple.one, couple.other)

    assert look(own).missing_matches == [pair]
    rows.execute("UPDATE swipes SET action = 2 WHERE swiper_id = %s", (couple.one,))
    assert look(own).missing_matches == []


@pytest.mark.parametrize(("status", "missing"), [("undone", True), ("unmatched", False), ("blocked", False)])
def test_ended_pairs_lack_a_match_only_after_an_undo(
    own: Settings, couple: Couple, rows: Connection, status: str, missing: bool
) -> None:
    rows.execute("UPDATE matches SET status = %s", (status,))

    assert look(own).missing_matches == ([(couple.one, couple.other)] if missing else [])


INCONSISTENT = {
    "match_one_sided": "DELETE FROM matches WHERE member_id = %(one)s",
    "match_without_conversation": "DELETE FROM conversations WHERE low_id = %(one)s",
    "match_without_notification": "DELETE FROM notifications WHERE user_id = %(one)s",
}


@pytest.mark.parametrize("kind", INCONSISTENT)
def test_rows_that_contradict_each_other_are_named(own: Settings, couple: Couple, rows: Connection, kind: str) -> None:
    rows.execute(INCONSISTENT[kind], {"one": couple.one})

    report = look(own, repair=True)

    assert kind in {item.kind for item in report.inconsistencies}
    assert report.counts[kind] == 1
    assert not report.agrees


def test_shards_are_compared_with_what_their_people_swiped(own: Settings, couple: Couple) -> None:
    def facts(user_ids: Sequence[str]) -> dict[str, bytes]:
        keys = {couple.one: [key64(couple.other)], couple.other: [key64(couple.third)]}
        return {user_id: np.array(sorted(keys[user_id]), "<u8").tobytes() for user_id in user_ids if user_id in keys}

    report = look(own, facts=facts)

    assert {(item.kind, item.user_id, item.name, item.rows_version is None) for item in report.differences} == {
        ("shard", couple.other, f"{key64(couple.one):016x}", False), ("shard", couple.other, f"{key64(couple.third):016x}", True),
        ("shard_silent", couple.third, "seen", True),
    }, "one that does not answer does not agree"


def test_shards_end_conversations_with_the_message_that_the_rows_end_them_with(own: Settings, couple: Couple, rows: Connection) -> None:
    asked: list[dict[str, str]] = []

    def newest(members: Mapping[str, str]) -> dict[str, int]:
        asked.append(dict(members))
        return dict.fromkeys(members, 2)

    found = [(item.kind, item.user_id, item.rows_version, item.other_version) for item in look(own, newest=newest).differences]
    assert found == [("shard_seq", couple.match, 0, 2)]
    assert asked[0] == {couple.match: couple.one}
    assert look(own, newest=lambda members: dict.fromkeys(members, 0)).agrees
    rows.execute("UPDATE conversations SET status = 'ended'")
    asked.clear()
    look(own, newest=newest)
    assert asked == [{}], "an ended one has no newest message"


@pytest.mark.parametrize(("answer", "kind"), [({}, "shard_silent"), (None, "shard_ended")])
def test_a_shard_that_lacks_a_conversation_or_keeps_silent_about_it_does_not_agree(
    own: Settings, couple: Couple, rows: Connection, answer: dict[str, int] | None, kind: str
) -> None:
    def newest(members: Mapping[str, str]) -> dict[str, Any]:
        return dict.fromkeys(members) if answer is None else answer

    found = look(own, newest=newest)
    assert [(item.kind, item.user_id) for item in found.differences] == [(kind, couple.match)]
    assert not found.agrees
    rows.execute("UPDATE conversations SET status = 'ended'")
    assert kind not in look(own, newest=newest).counts, "the rows say so too"


def test_a_conversation_whose_end_is_under_way_is_no_difference(own: Settings, couple: Couple, rows: Connection) -> None:
    def newest(members: Mapping[str, str]) -> dict[str, Any]:
        rows.execute("UPDATE conversations SET status = 'ended'")
        return dict.fromkeys(members)

    assert "shard_ended" not in look(own, newest=newest).counts


async def test_lag_is_what_was_appended_and_not_taken_in(own: Settings, rows: Connection) -> None:
    appender = LogAppender(own, "test")
    try:
        # One by one: the embedded broker tells only the first record of its last batch.
        offsets = [(await appender.append([barrier("user.reported", 3)]))[0] for _ in range(5)]
    finally:
        await asyncio.to_thread(appender.close)
    rows.execute(
        "INSERT INTO writer_positions (consumer, topic, partition, generation, next_offset, epoch) "
        "VALUES ('rows', 'user.reported', 3, 1, %s, 1)", (offsets[1],),
    )

    found = await asyncio.to_thread(lag, own)

    assert [item.records for item in found if (item.consumer, item.topic, item.partition) == ("rows", "user.reported", 3)] == [4]
    assert {item.consumer for item in found} == {"rows", "derive", "likes", "feeds", "mail", "payments", "push_outbox", "media_image", "media_video"}

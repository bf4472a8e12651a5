"""The loader on real PostgreSQL and Valkey: what shards restore from is exactly what the tables hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from cluster.connections.postgres import connect
from cluster.connections.redis import sync_client
from cluster.launch.prepare import prepare
from cluster.launch.servers import EmbeddedServers
from configs.contracts.albums import album_after
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import Event, MediaRemoved, MediaRequested, Payload
from configs.contracts.ids import email_hash, key64, match_id, new_id
from configs.contracts.loading import ACTION_CODES, PAIR_CODES, UNKNOWN_ROLE
from configs.contracts.read_model import (
    MARKER,
    credential_key,
    listing_keys,
    read_record,
    record_key,
    relation_key,
)
from configs.settings import Settings
from writers.connections import open_rows
from writers.loader import Loader
from writers.records import Fact
from writers.sinks.media import write as write_media

pytestmark = pytest.mark.servers

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Connection = psycopg.Connection[Any]


@pytest.fixture
def rows(servers: Settings) -> Iterator[Connection]:
    with connect(servers, "test") as conn:
        yield conn


@pytest.fixture
async def loader(servers: Settings) -> AsyncIterator[Loader]:
    loader = Loader(servers, clock=lambda: NOW)
    yield loader
    await loader.close()


def add_swipe(
    conn: Connection, swiper: str, swiped: str, action: str, version: int, *, at: datetime = NOW,
    ever_liked: bool = False, keys: list[str] | None = None,
) -> None:
    code = ACTION_CODES[action]
    conn.execute(
        "INSERT INTO swipes VALUES (%s, %s, %s, %s, %s, 0, %s, %s)",
        (swiper, swiped, at, version, code, ever_liked or code in (1, 3), keys),
    )


def add_match(conn: Connection, one: str, other: str, status: str, generation: int, version: int, at: datetime | None = NOW) -> None:
    for mine, theirs in ((one, other), (other, one)):
        conn.execute(
            "INSERT INTO matches (member_id, other_id, match_id, status, generation, matched_at, version) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (mine, theirs, match_id(one, other), status, generation, at, version),
        )


def people(count: int) -> list[str]:
    return sorted(new_id() for _ in range(count))


async def test_a_persons_swipes_are_what_the_rows_say(loader: Loader, rows: Connection) -> None:
    low, me, high, higher = people(4)
    add_swipe(rows, me, high, "like", 7 << 40 | 3, keys=["k2", "k1"])
    add_swipe(rows, me, low, "pass", 7 << 40 | 9, at=NOW - timedelta(days=1), keys=["k3"])
    add_swipe(rows, me, higher, "super_like", 7 << 40 | 5)
    add_swipe(rows, high, me, "undone", 12, ever_liked=True)
    add_swipe(rows, higher, me, "pass", 13)
    add_swipe(rows, low, me, "like", 14)
    add_match(rows, me, high, "unmatched", 2, 20)
    add_match(rows, me, low, "blocked", 1, 21)
    add_match(rows, me, higher, "active", 3, 22)
    stranger = new_id()

    answer = await loader.swipes([me, stranger])

    mine = answer[me]
    own = sorted([(key64(high), 7 << 42 | 3 << 2 | 1), (key64(low), 7 << 42 | 9 << 2 | 2), (key64(higher), 7 << 42 | 5 << 2 | 3)])
    assert list(zip(mine.own_keys.tolist(), mine.own_facts.tolist(), strict=True)) == own
    assert list(zip(mine.incoming_keys.tolist(), mine.incoming_facts.tolist(), strict=True)) == [(key64(high), 12 << 2)]
    pairs = sorted([(key64(high), 2 << 3 | PAIR_CODES["unmatched"]), (key64(higher), 3 << 3 | PAIR_CODES["active"])])
    assert list(zip(mine.pair_keys.tolist(), mine.pair_facts.tolist(), strict=True)) == pairs
    assert mine.ended_keys.tolist() == sorted([key64(high), key64(low)])
    assert (mine.last_target, mine.last_action, mine.last_version) == (low, "pass", 7 << 40 | 9)
    assert mine.last_swiped_at == NOW - timedelta(days=1)
    assert (mine.day, mine.likes_today, mine.super_likes_today) == ("2026-03-01", 1, 1)
    assert mine.idempotency_keys == (f"{high} k1", f"{high} k2", f"{low} k3")
    assert mine.own_keys.dtype == mine.own_facts.dtype == mine.ended_keys.dtype == np.dtype(np.uint64)
    nobody = answer[stranger]
    assert not len(nobody.own_keys)
    assert not len(nobody.incoming_keys)
    assert nobody.last_version == 0


async def test_an_undone_newest_swipe_leaves_nothing_to_undo(loader: Loader, rows: Connection) -> None:
    me, one, other = people(3)
    add_swipe(rows, me, one, "like", 5)
    add_swipe(rows, me, other, "undone", 6)

    mine = (await loader.swipes([me]))[me]

    assert (mine.last_target, mine.last_action, mine.last_version) == (None, None, 6)


async def test_only_the_newest_64_idempotency_keys_are_told_oldest_first(loader: Loader, rows: Connection) -> None:
    me = new_id()
    targets = people(70)
    for number, target in enumerate(targets):
        add_swipe(rows, me, target, "pass", number + 1, keys=[f"k{number}"])

    keys = (await loader.swipes([me]))[me].idempotency_keys

    assert keys == tuple(f"{target} k{number}" for number, target in enumerate(targets))[-64:]


facts = st.tuples(st.sampled_from(sorted(ACTION_CODES)), st.integers(0, 2), st.booleans(), st.booleans())


@hypothesis(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(facts, max_size=12), st.lists(st.sampled_from(sorted(PAIR_CODES)), max_size=6))
async def test_arrays_equal_a_plain_reading_of_the_rows(
    servers: Settings, rows: Connection, swipes: list[tuple[str, int, bool, bool]], pairs: list[str]
) -> None:
    loader = Loader(servers, clock=lambda: NOW)
    everybody = people(len(swipes) + len(pairs) + 1)
    me = everybody[len(everybody) // 2]
    others = [person for person in everybody if person != me]
    own: dict[int, int] = {}
    incoming: dict[int, int] = {}
    given_today = {"like": 0, "super_like": 0}
    for version, (other, (action, days, outgoing, liked)) in enumerate(zip(others, swipes, strict=False), start=1):
        at = NOW - timedelta(days=days)
        if outgoing:
            add_swipe(rows, me, other, action, version, at=at)
            own[key64(other)] = version << 2 | ACTION_CODES[action]
            if not days and action in given_today:
                given_today[action] += 1
        else:
            add_swipe(rows, other, me, action, version, at=at, ever_liked=liked)
            if other > me and (liked or "like" in action):
                incoming[key64(other)] = version << 2 | ACTION_CODES[action]
    expected_pairs: dict[int, int] = {}
    ended: set[int] = set()
    for generation, (other, status) in enumerate(zip(reversed(others), pairs, strict=False), start=1):
        add_match(rows, me, other, status, generation, generation)
        if other > me:
            expected_pairs[key64(other)] = generation << 3 | PAIR_CODES[status]
        if status in ("unmatched", "blocked"):
            ended.add(key64(other))
    try:
        found = (await loader.swipes([me]))[me]
    finally:
        await loader.close()
    assert dict(zip(found.own_keys.tolist(), found.own_facts.tolist(), strict=True)) == own
    assert dict(zip(found.incoming_keys.tolist(), found.incoming_facts.tolist(), strict=True)) == incoming
    assert dict(zip(found.pair_keys.tolist(), found.pair_facts.tolist(), strict=True)) == expected_pairs
    assert found.ended_keys.tolist() == sorted(ended)
    for keys in (found.own_keys, found.incoming_keys, found.pair_keys):
        assert keys.tolist() == sorted(keys.tolist())
    assert {"like": found.likes_today, "super_like": found.super_likes_today} == given_today


async def test_epochs_only_rise(loader: Loader) -> None:
    kind = new_id()
    first = await loader.claim_epochs(kind, [3, 1])
    second = await loader.claim_epochs(kind, [1, 2])

    assert first == {1: 1, 3: 1}
    assert second[1] == second[2] > 1, "above every one of the kind"
    assert await loader.epochs(kind, [1, 2, 3, 4]) == {**second, 3: 1}


async def test_positions_are_of_the_present_generation_only(servers: Settings, rows: Connection) -> None:
    log = servers.log.model_copy(update={"generations": {"loader.test": 4}})
    loader = Loader(servers.model_copy(update={"log": log}))
    for consumer, partition, generation in (("rows", 0, 4), ("rows", 1, 3), ("derive", 2, 4)):
        rows.execute(
            "INSERT INTO writer_positions (consumer, topic, partition, generation, next_offset, epoch) "
            "VALUES (%s, 'loader.test', %s, %s, 17, 1)", (consumer, partition, generation),
        )
    try:
        answer = await loader.positions(["loader.test"])
    finally:
        await loader.close()
        rows.execute("DELETE FROM writer_positions WHERE topic = 'loader.test'")

    assert answer["loader.test"] == {0: 17} | dict.fromkeys(range(1, servers.log.partitions), 0)


async def test_claims_families_and_requests_are_keyed_as_they_were_asked_for(loader: Loader, rows: Connection) -> None:
    me, family, revoked, event = new_id(), new_id(), new_id(), new_id()
    address = email_hash(f"{me}@example.com")
    now = datetime.now(UTC)
    rows.execute(
        "INSERT INTO credentials (email_hash, user_id, email, password_hash, claimed_at, version) VALUES (%s, %s, 'x', 'h', %s, 9)",
        (address, me, now),
    )
    rows.execute(
        "INSERT INTO sessions (family_id, user_id, counter, token_hash, rotated_at, expires_at, version) "
        "VALUES (%s, %s, 2, decode('0aff', 'hex'), %s, %s, 5)", (family, me, now, now + timedelta(days=1)),
    )
    rows.execute(
        "INSERT INTO sessions (family_id, user_id, counter, revoked_at, version) VALUES (%s, %s, -1, %s, 6)", (revoked, me, now)
    )
    for owner, key, at in ((me, "a 1", now - timedelta(hours=1)), (me, "a 2", now), (me, "old", now - timedelta(hours=25)), (address, "r 1", now)):
        rows.execute("INSERT INTO idempotency_keys VALUES (%s, %s, 'd', %s, %s)", (UUID(owner), key, event, at))

    accounts = await loader.accounts([address, email_hash("nobody@example.com")])
    sessions = await loader.sessions([family, revoked, new_id()])
    requests = await loader.idempotency([me, address, new_id()])

    assert {key: (row.email_hash, row.user_id, row.password_hash, row.version) for key, row in accounts.items()} == {
        address: (address, me, "h", 9)
    }
    assert set(sessions) == {family, revoked}
    assert (sessions[family].counter, sessions[family].token_hash, sessions[family].revoked) == (2, "0aff", False)
    assert sessions[family].rotated_at == now
    assert (sessions[revoked].counter, sessions[revoked].revoked) == (-1, True)
    assert {owner: [row.key for row in kept] for owner, kept in requests.items()} == {me: ["a 1", "a 2"], address: ["r 1"]}


def add_person(conn: Connection, user_id: str, **columns: object) -> None:
    values = {
        "id": user_id, "role": "sugar_baby", "display_name": "Ada", "birth_date": date(1996, 2, 3), "created_at": NOW,
        "field_versions": '{"role": 0, "display_name": 0, "birth_date": 0, "created_at": 0}',
    } | columns
    names = ", ".join(values)
    conn.execute(f"INSERT INTO users ({names}) VALUES ({', '.join(['%s'] * len(values))})", list(values.values()))


async def test_people_come_in_pages_with_codes_and_masks(loader: Loader, rows: Connection) -> None:
    plain, full, unknown, deleted = people(4)
    add_person(rows, plain)
    add_person(
        rows, full, role="sugar_daddy", gender="man", latitude=48.1, longitude=11.5, cell=0x867568CAFFFFFFF,
        preferences='{"ageMin": 30, "ageMax": 55, "maxDistanceKm": 300, "roles": ["sugar_daddy"], '
        '"genders": ["woman", "non_binary"], "discoverable": true}',
        verification_status="verified", last_active_at=NOW, version=77, match_version=66, birth_date=date(1965, 1, 1),
    )
    add_person(rows, unknown, role=None, birth_date=None, preferences='{"discoverable": false}')
    add_person(rows, deleted, status="deleted")
    before = str(UUID(int=UUID(plain).int - 1))

    first = await loader.people(before, 2)
    second = await loader.people(first.next_page, 10_000)
    place = {user_id: index for index, user_id in enumerate(second.user_ids)}

    assert list(first.user_ids) == [plain, full]
    assert first.next_page == full
    assert np.isnan(first.latitudes[0])
    assert first.cells[0] == 0
    assert first.last_active_s[0] == 0
    assert (first.latitudes[1], first.longitudes[1], first.cells[1]) == (48.1, 11.5, 0x867568CAFFFFFFF)
    assert first.birth_days.tolist() == [(date(1996, 2, 3) - date(1970, 1, 1)).days, (date(1965, 1, 1) - date(1970, 1, 1)).days]
    assert first.roles.tolist() == [0, 1]
    assert first.genders.tolist() == [0, 2]
    assert (first.age_min.tolist(), first.age_max.tolist(), first.max_distance_km.tolist()) == ([18, 30], [99, 55], [50, 300])
    assert first.role_masks.tolist() == [0b10, 0b10]
    assert first.gender_masks.tolist() == [0, 0b1010]
    assert first.discoverable.tolist() == [True, True]
    assert first.verified.tolist() == [False, True]
    assert first.last_active_s[1] == int(NOW.timestamp())
    assert (first.versions[1], first.match_versions[1]) == (77, 66)
    assert second.next_page is None
    assert second.roles[place[unknown]] == UNKNOWN_ROLE
    assert second.role_masks[place[unknown]] == 0
    assert second.birth_days[place[unknown]] == 0
    assert not second.discoverable[place[unknown]]
    assert not second.discoverable[place[deleted]]


async def test_warming_writes_every_key_of_a_person(loader: Loader, rows: Connection, servers: Settings) -> None:
    me, other = people(2)
    add_person(
        rows, me, bio="hello", gender="woman", latitude=1.5, longitude=2.5, cell=0x867568CAFFFFFFF, preferences='{"ageMin": 21}',
        field_versions='{"role": 0, "display_name": 0, "birth_date": 0, "created_at": 0, "bio": 40, "gender": 40, "place": 41, "ageMin": 39}',
    )
    rows.execute("INSERT INTO blocks VALUES (%s, %s, true, %s, 50), (%s, %s, false, %s, 51)", (me, other, NOW, other, me, NOW))
    rows.execute(
        "INSERT INTO notifications (user_id, id, kind, title, created_at, read_at, version) VALUES (%s, %s, 'match', 't', %s, %s, 8)",
        (me, other, NOW, NOW),
    )
    add_match(rows, me, other, "active", 1, 60)
    add_swipe(rows, other, me, "super_like", 70)
    address = email_hash(f"{me}@example.com")
    rows.execute("INSERT INTO credentials VALUES (%s, %s, 'x', 'h', 'active', %s, 9)", (address, me, NOW))

    assert await loader.warm_people([me, new_id()]) == [me]
    assert await loader.warm_addresses([address, email_hash("nobody@example.com")]) == [address]

    client: Any = sync_client(servers)
    record = read_record(client.get(record_key(me)))
    assert (record.display_name, record.role, record.birth_date, record.bio, record.age_min) == ("Ada", "sugar_baby", "1996-02-03", "hello", 21)
    assert (record.latitude, record.longitude, record.cell) == (1.5, 2.5, "867568cafffffff")
    assert record.match_version == f"{41:016x}"
    assert record.exists
    assert record.created_at == "2026-03-01T12:00:00.000Z"
    assert client.hget(relation_key(me), f"b:{other}") == b"%016x1" % 50
    assert client.hget(relation_key(me), f"by:{other}") == b"%016x0" % 51
    assert client.hexists(relation_key(me), MARKER)
    for listing, entry in (("match", match_id(me, other)), ("conv", match_id(me, other)), ("note", other), ("like", other)):
        order, entries = listing_keys(listing, me)  # type: ignore[arg-type]
        assert client.zscore(order, entry) == NOW.timestamp() * 1_000
        assert client.hexists(entries, entry)
        assert client.hexists(entries, MARKER)
    assert client.get(credential_key(address)).startswith(b"%016x" % 9)
    client.close()


async def test_warming_never_goes_back(loader: Loader, rows: Connection, servers: Settings) -> None:
    me = new_id()
    add_person(rows, me, bio="new", field_versions='{"bio": 10}')
    await loader.warm_people([me])
    rows.execute("UPDATE users SET bio = 'old', field_versions = '{\"bio\": 9}' WHERE id = %s", (me,))
    await loader.warm_people([me])

    with sync_client(servers) as client:
        value: Any = client.get(record_key(me))
    assert read_record(value).bio == "new"


async def until_refused(ask: Callable[[], Awaitable[Any]]) -> None:
    """PostgreSQL's children end a moment after their killed parent."""
    for _ in range(100):
        try:
            await ask()
        except DependencyUnavailable:
            return
        await asyncio.sleep(0.1)
    pytest.fail("a killed server goes on answering")


async def test_the_loader_outlives_postgresql(fresh_servers: Callable[[], EmbeddedServers]) -> None:
    servers = fresh_servers()
    loader = Loader(prepare(servers.settings()))
    try:
        assert await loader.claim_epochs("k", [0]) == {0: 1}
        servers.postgres.kill()
        await until_refused(lambda: loader.claim_epochs("k", [0]))
        servers.postgres.start()
        assert (await loader.claim_epochs("k", [0]))[0] >= 2
    finally:
        await loader.close()


async def test_an_album_remembers_the_newest_of_what_is_gone_as_its_events_add_up_to(
    loader: Loader, servers: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("configs.contracts.albums", "writers.loads.media"):
        monkeypatch.setattr(f"{module}.REMOVED", 2)
    owner, other = people(2)
    stands, names = new_id(), people(4)
    asked = {"kind": "image", "content_type": "image/jpeg", "size": 1, "sha256": "ab" * 32}
    at = datetime.now(UTC)
    payloads: list[Payload] = [MediaRequested(media_id=name, owner_id=owner, **asked) for name in (stands, *names)]
    payloads += [MediaRemoved(media_id=name, owner_id=owner, reason="owner") for name in (names[2], names[0], names[3], names[1])]
    payloads += [
        MediaRequested(media_id=(theirs := new_id()), owner_id=other, **asked),
        MediaRemoved(media_id=theirs, owner_id=other, reason="owner"),
    ]
    facts = [Fact(Event(new_id(), at, payload.owner_id, payload), version, 0) for version, payload in enumerate(payloads, 1)]  # type: ignore[attr-defined]
    with open_rows(servers, "test") as conn, conn.transaction(), conn.cursor() as cur:
        write_media(cur, facts)
    found = await loader.albums((owner, other))
    assert found[owner].removed == (names[3], names[1])
    assert set(found[owner].media) == {stands}
    for person in (owner, other):
        album = None
        for event, version, _ in facts:
            album = album_after(album, event, version) if event.key == person else album
        assert found[person] == album

"""Whatever the batches, and however late or often they are projected, Redis never goes back and equals the rows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cluster.connections.redis import apply, sync_client
from configs.contracts import events
from configs.contracts.changes import recorded
from configs.contracts.content import PostEntry
from configs.contracts.conversations import feed_key
from configs.contracts.events import TOPIC_OF, Event, Payload
from configs.contracts.ids import derived_id, email_hash, match_id, new_id, pair
from configs.contracts.read_model import (
    LISTING_BOUNDS,
    MARKED_LISTINGS,
    MARKER,
    Credential,
    LikeEntry,
    Listing,
    Operation,
    credential_key,
    erased_fields,
    listing_keys,
    open_person,
    put_credential,
    put_entry,
    put_record,
    put_relation,
    record_key,
    relation_key,
    unread_key,
)
from configs.contracts.record_scripts import ERASED_VERSION, TAKEN_OUT
from configs.settings import Settings
from writers.commit import write_facts
from writers.connections import Connection, open_rows
from writers.loads.people import load_people
from writers.loads.read_model import people_operations
from writers.projections.operations import changes_of
from writers.records import Fact

pytestmark = pytest.mark.servers

START = datetime(2026, 1, 1, tzinfo=UTC)
PEOPLE = 3
person = st.integers(0, PEOPLE - 1)
two = st.tuples(person, person).filter(lambda both: both[0] != both[1])

steps = st.one_of(
    st.tuples(st.just("profile"), person, st.sampled_from([{"bio": "x"}, {"bio": ""}, {"gender": "man"}, {"display_name": "N"}])),
    st.tuples(st.just("preferences"), person, st.sampled_from([{"age_min": 30}, {"roles": ("sugar_baby",)}, {"discoverable": False}])),
    st.tuples(st.just("location"), person, st.sampled_from([(52.5, 13.4), (48.1, 11.6)])),
    st.tuples(st.just("active"), person, st.none()),
    st.tuples(st.just("assess"), person, st.sampled_from(["pending", "failed", "verified"])),
    st.tuples(st.just("block"), two, st.booleans()),
    st.tuples(st.just("swipe"), two, st.sampled_from(["like", "pass", "super_like", None])),
    st.tuples(st.just("match"), two, st.integers(1, 2)),
    st.tuples(st.just("end"), two, st.sampled_from(["unmatched", "blocked", "undone"])),
    st.tuples(st.just("notify"), person, st.integers(0, 2)),
    st.tuples(st.just("renew"), person, st.integers(0, 2)),
    st.tuples(st.just("read"), person, st.integers(0, 2)),
    st.tuples(st.just("read all"), person, st.none()),
    st.tuples(st.just("wishes"), person, st.sampled_from([{"push_like": False}, {"quiet_hours": "22:00-07:00"}, {"quiet_hours": ""}])),
    st.tuples(st.just("rehash"), person, st.sampled_from(["h1", "h2"])),
)


class History:
    """Steps as facts; every topic is one partition here, so that a version is the step's number."""

    def __init__(self, chosen: Sequence[Any]) -> None:
        self.people = sorted(new_id() for _ in range(PEOPLE))
        self.addresses = [email_hash(f"{name}@example.com") for name in self.people]
        self.facts: list[Fact] = []
        self._generation: dict[str, int] = {}
        for number, name in enumerate(self.people):
            self._add(events.AccountRegistered(
                user_id=name, email="a@example.com", email_hash=self.addresses[number], password_hash="h0",
                role="sugar_baby", display_name="A", birth_date="1990-01-01",
            ))
            self._add(events.UserCreated(user_id=name, role="sugar_baby", display_name="A", birth_date="1990-01-01"))
        for kind, who, what in chosen:
            self._step(kind, who, what)

    def _add(self, payload: Payload, event_id: str | None = None) -> None:
        version = 1 << 40 | len(self.facts) + 1
        at = START + timedelta(seconds=len(self.facts))
        self.facts.append(Fact(Event(event_id or new_id(), at, "k", payload), version, 0))

    def _step(self, kind: str, who: Any, what: Any) -> None:
        if isinstance(who, tuple):
            self._pair_step(kind, self.people[who[0]], self.people[who[1]], what)
            return
        user = self.people[who]
        note = derived_id(user, f"note {what}")
        payload: Payload = {
            "profile": lambda: events.ProfileChanged(user_id=user, **what),
            "preferences": lambda: events.PreferencesChanged(user_id=user, **what),
            "location": lambda: events.LocationChanged(
                user_id=user, latitude=what[0], longitude=what[1], cell="861f1d48fffffff"
            ),
            "active": lambda: events.WasActive(user_id=user, active_at=START + timedelta(seconds=len(self.facts))),
            "assess": lambda: events.AgeAssessed(user_id=user, assessment_id=new_id(), status=what, provider="p"),
            "notify": lambda: events.NotificationSent(notification_id=note, user_id=user, kind="match", title="t"),
            "renew": lambda: events.NotificationSent(
                notification_id=note, user_id=user, kind="like", title=f"t{len(self.facts)}", renews=True
            ),
            "read all": lambda: events.NotificationsRead(user_id=user),
            "wishes": lambda: events.NotificationPreferencesChanged(user_id=user, **what),
            "read": lambda: events.NotificationRead(notification_id=note, user_id=user),
            "rehash": lambda: events.PasswordRehashed(
                user_id=user, email_hash=self.addresses[who], password_hash=str(what)
            ),
        }[kind]()
        self._add(payload, note if kind == "notify" else None)

    def _pair_step(self, kind: str, one: str, other: str, what: Any) -> None:
        low, high = pair(one, other)
        match = match_id(one, other)
        if kind == "block":
            changed = events.UserBlocked if what else events.UserUnblocked
            self._add(changed(user_id=one, blocked_id=other))
        elif kind == "swipe":
            self._add(
                events.SwipeUndone(swiper_id=one, swiped_id=other, undone_action="like")
                if what is None else events.Swiped(swiper_id=one, swiped_id=other, action=what)
            )
        elif kind == "match":
            self._generation[match] = max(what, self._generation.get(match, 0))
            self._add(
                events.Matched(match_id=match, low_id=low, high_id=high, generation=what),
                derived_id(match, f"matched:{what}"),
            )
        else:
            self._add(events.Unmatched(
                match_id=match, low_id=low, high_id=high, generation=self._generation.get(match, 0), ended_by=one,
                reason=what,
            ))


def project(conn: Connection, client: redis.Redis, facts: Sequence[Fact]) -> None:
    by_topic: dict[str, list[Fact]] = {}
    for fact in facts:
        by_topic.setdefault(TOPIC_OF[type(fact.event.payload)].name, []).append(fact)
    apply(client, changes_of(conn, by_topic).operations)


def seen(client: redis.Redis, history: History) -> dict[str, Any]:
    """What readers of the read model can see of these people."""
    found: dict[str, Any] = {}
    for user in history.people:
        record: Any = client.get(record_key(user))
        found[f"record {user}"] = None if record is None else json.loads(record)
        relations: Any = client.hgetall(relation_key(user))
        found[f"relations {user}"] = {field: value[16:] for field, value in relations.items() if field != b"*"}
        found[f"warm {user}"] = b"*" in relations
        for listing in LISTING_BOUNDS:
            order, entries = listing_keys(listing, user)
            members: Any = client.zrange(order, 0, -1, withscores=True)
            contents: Any = client.hgetall(entries)
            found[f"{listing} {user}"] = [(name, score, json.loads(contents[name][16:])) for name, score in members]
        unread: Any = client.smembers(unread_key(user))
        found[f"unread {user}"] = sorted(unread)
        assert unread == {name for name, _, entry in found[f"note {user}"] if not entry["read"]}
    for address in history.addresses:
        found[address] = client.get(credential_key(address))
    return found


def versions(client: redis.Redis, history: History) -> dict[tuple[str, bytes], bytes]:
    """The version of every fact in Redis."""
    found: dict[tuple[str, bytes], bytes] = {}
    for user in history.people:
        for key in (f"fld:{{{user}}}", relation_key(user), *(listing_keys(name, user)[1] for name in LISTING_BOUNDS)):
            values: Any = client.hgetall(key)
            found |= {(key, field): value[:16] for field, value in values.items() if field != b"*"}
    for address in history.addresses:
        value: Any = client.get(credential_key(address))
        if value is not None:
            found[(address, b"")] = value[:16]
    return found


def forget(client: redis.Redis, history: History) -> None:
    for user in history.people:
        client.delete(record_key(user), f"fld:{{{user}}}", relation_key(user))
        for listing in LISTING_BOUNDS:
            client.delete(*listing_keys(listing, user))
        client.delete(unread_key(user))
    client.delete(*(credential_key(address) for address in history.addresses))


@pytest.fixture(scope="module")
def connections(servers: Settings) -> Iterator[tuple[Connection, redis.Redis]]:
    with open_rows(servers, "test") as conn, sync_client(servers) as client:
        yield conn, client


@given(chosen=st.lists(steps, max_size=25), data=st.data())
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_projected_in_any_batches_late_and_repeatedly_redis_equals_the_rows(
    connections: tuple[Connection, redis.Redis], chosen: list[Any], data: st.DataObject
) -> None:
    conn, client = connections
    history = History(chosen)
    position, projected = 0, 0
    batches: list[list[Fact]] = []
    newest: dict[tuple[str, bytes], bytes] = {}
    while projected < len(history.facts):
        position = data.draw(st.integers(max(position, projected + 1), len(history.facts)), label="rows reach")
        with conn.cursor() as cur, conn.transaction():
            write_facts(cur, history.facts[:position])
        batches.append(history.facts[projected:data.draw(st.integers(projected + 1, position), label="projected to")])
        projected += len(batches[-1])
        for batch in (batches[-1], *data.draw(st.lists(st.sampled_from(batches), max_size=2), label="again")):
            project(conn, client, batch)
            now = versions(client, history)
            assert all(now.get(name, b"") >= version for name, version in newest.items())
            newest = now
    incremental = seen(client, history)
    forget(client, history)
    apply(client, people_operations(conn, history.people)[1])
    assert incremental == seen(client, history)


@pytest.mark.parametrize("kind", ["record", "relation", "entry", "credential"])
def test_an_older_or_repeated_operation_changes_nothing(connections: tuple[Connection, redis.Redis], kind: str) -> None:
    _, client = connections
    user, other = new_id(), new_id()

    def operation(value: str, version: int) -> Operation:
        if kind == "record":
            return put_record(user, {"bio": value}, version)
        if kind == "relation":
            return put_relation(user, other, by_other=False, blocked=value == "new", version=version)
        if kind == "credential":
            return put_credential(user, Credential(user_id=user, password_hash=value), version)
        entry = LikeEntry(liker_id=other, action="like", liked_at=value)
        return put_entry("like", user, other, entry, version=version, at_ms=5 if value == "new" else None)

    def everything() -> dict[str, Any]:
        keys = (record_key(user), f"fld:{{{user}}}", relation_key(user), credential_key(user), *listing_keys("like", user))
        return {key: client.dump(key) for key in keys}

    apply(client, [operation("old", 7)])
    before = everything()
    apply(client, [operation("new", 8)])
    after = everything()
    assert after != before
    apply(client, [operation("old", 7), operation("other", 8), operation("old", 1)])
    assert everything() == after


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_whoever_was_found_an_adult_stays_verified_whatever_comes_when(
    connections: tuple[Connection, redis.Redis], order: tuple[int, ...]
) -> None:
    _, client = connections
    user = new_id()
    said = [recorded(events.AgeAssessed(user_id=user, assessment_id=new_id(), status=status, provider="p"), 7 + number)
            for number, status in enumerate(("verified", "failed", "pending"))]  # type: ignore[arg-type]
    for number in order:
        apply(client, said[number])

    record = json.loads(client.get(record_key(user)) or b"{}")  # type: ignore[arg-type]
    assert (record["verification"], record["verified"]) == ("verified", True)
    assert client.hget(f"fld:{{{user}}}", "verified") == b"%016xtrue" % 7
    apply(client, [put_record(user, erased_fields(), ERASED_VERSION)])
    apply(client, said[0])
    record = json.loads(client.get(record_key(user)) or b"{}")  # type: ignore[arg-type]
    assert (record["verification"], record["verified"]) == ("unverified", False)


def test_a_pass_leaves_no_trace_where_no_like_stood_before(connections: tuple[Connection, redis.Redis]) -> None:
    conn, client = connections
    one, other, third = new_id(), new_id(), new_id()
    facts = [
        Fact(Event(new_id(), START, one, events.Swiped(swiper_id=one, swiped_id=target, action=action)), version, 0)
        for version, (target, action) in enumerate([(other, "pass"), (third, "like"), (third, "pass")], 1 << 40)
    ]
    with conn.cursor() as cur:
        write_facts(cur, facts)
    project(conn, client, facts)
    assert client.exists(*listing_keys("like", other)) == 0
    assert client.hlen(listing_keys("like", third)[1]) == 1, "a late projection of the like must find its withdrawal"
    assert client.zcard(listing_keys("like", third)[0]) == 0


def told(conn: Connection, facts: Sequence[Fact]) -> list[tuple[str, str, str]]:
    """(person, frame type, status or title) of what sockets are told of these facts, once rows hold them."""
    with conn.cursor() as cur, conn.transaction():
        write_facts(cur, facts)
    by_topic: dict[str, list[Fact]] = {}
    for fact in facts:
        by_topic.setdefault(TOPIC_OF[type(fact.event.payload)].name, []).append(fact)
    frames = [(channel, json.loads(frame)) for channel, frame in changes_of(conn, by_topic).told]
    return [(channel[4:-1], frame["type"], frame.get("status") or frame["title"]) for channel, frame in frames]


def test_sockets_are_told_news_only_and_nothing_that_would_give_a_block_away(
    connections: tuple[Connection, redis.Redis]
) -> None:
    conn, _ = connections
    low, high = pair(new_id(), new_id())
    match, note = match_id(low, high), new_id()
    now = datetime.now(UTC)

    def fact(number: int, payload: Payload, at: datetime = now) -> Fact:
        return Fact(Event(new_id(), at, "k", payload), 1 << 40 | number, 0)

    def ended(reason: Any, generation: int) -> Payload:
        return events.Unmatched(match_id=match, low_id=low, high_id=high, generation=generation, ended_by=low, reason=reason)

    matched = events.Matched(match_id=match, low_id=low, high_id=high, generation=1)
    notified = events.NotificationSent(notification_id=note, user_id=low, kind="match", title="t")
    assert told(conn, [fact(1, matched)]) == [(low, "match", "active"), (high, "match", "active")]
    assert told(conn, [fact(2, notified)]) == [(low, "notification", "t")]
    assert told(conn, [fact(3, events.NotificationRead(notification_id=note, user_id=low))]) == []
    assert told(conn, [fact(4, ended("unmatched", 1))]) == [(low, "match", "ended"), (high, "match", "ended")]
    assert told(conn, [fact(5, ended("blocked", 1))]) == []
    other = pair(new_id(), new_id())
    never = events.Unmatched(match_id=match_id(*other), low_id=other[0], high_id=other[1], generation=0, ended_by=other[0], reason="blocked")
    assert told(conn, [fact(6, never)]) == []
    long_ago = now - timedelta(hours=1)
    old = events.NotificationSent(notification_id=new_id(), user_id=high, kind="match", title="old")
    assert told(conn, [fact(7, old, long_ago)]) == []


def test_a_block_of_somebody_who_was_never_matched_is_in_no_list_and_told_to_nobody(
    connections: tuple[Connection, redis.Redis]
) -> None:
    conn, client = connections
    low, high = pair(new_id(), new_id())
    match = match_id(low, high)
    blocked = events.Unmatched(match_id=match, low_id=low, high_id=high, generation=0, ended_by=low, reason="blocked")
    facts = [Fact(Event(new_id(), START, match, blocked), 7, 0)]
    with conn.cursor() as cur:
        write_facts(cur, facts)
    project(conn, client, facts)
    apply(client, people_operations(conn, (low, high))[1])
    assert client.exists(*(key for who in (low, high) for key in (
        feed_key(who), *listing_keys("match", who), *listing_keys("conv", who)
    ))) == 0
    assert [person.listings["match"] for person in load_people(conn, (low, high)).values()] == [{}, {}]


def test_whoever_gets_a_row_after_a_rebuild_has_the_match_that_the_rebuild_passed_over(servers: Settings) -> None:
    """Rows of a person and of their match come by two writers; the match may be there first, and its position with it."""
    low, high = pair(new_id(), new_id())
    match = match_id(low, high)
    with open_rows(servers, "test") as conn, sync_client(servers) as client:
        facts = [
            Fact(Event(new_id(), START, match, events.Matched(match_id=match, low_id=low, high_id=high, generation=1)), 7, 0),
            Fact(Event(new_id(), START, low, events.UserCreated(
                user_id=low, role="sugar_baby", display_name="A", birth_date="1990-01-01"
            )), 3, 0),
        ]
        with conn.transaction(), conn.cursor() as cur:
            write_facts(cur, facts)
        apply(client, changes_of(conn, {TOPIC_OF[events.UserCreated].name: facts[1:]}).operations)
        assert client.zrange(listing_keys("match", low)[0], 0, -1) == [match.encode()]
        assert json.loads(client.get(record_key(low)) or b"{}")["displayName"] == "A"


@pytest.mark.parametrize(("listing", "lasts"), [("like", False), ("draft", False), ("fan", False), ("match", True)])
def test_of_what_was_taken_out_a_list_remembers_the_newest(servers: Settings, listing: Listing, lasts: bool) -> None:
    user, count = new_id(), 2 * TAKEN_OUT + 10
    stands, *gone = [derived_id(f"{user}:{number}", "entry") for number in range(count + 1)]
    order, entries = listing_keys(listing, user)

    def put(name: str, version: int, at_ms: int | None) -> Operation:
        return put_entry(listing, user, name, PostEntry(name), version=version, at_ms=at_ms)

    with sync_client(servers) as client:
        apply(client, [open_person(user), put(stands, 1, 5)])
        apply(client, [
            put(name, 2 * number + out, None if out else 7) for number, name in enumerate(gone, 1) for out in (False, True)
        ])
        marked = int(listing in MARKED_LISTINGS)
        assert client.hlen(entries) == 1 + marked + count if lasts else client.hlen(entries) <= 1 + marked + 2 * TAKEN_OUT
        remembered = gone if lasts else gone[-TAKEN_OUT:]
        apply(client, [put(name, 2 * number, 9) for number, name in enumerate(gone, 1) if name in set(remembered)])
        assert client.zrange(order, 0, -1) == [stands.encode()], "what comes late brings nothing back"
        assert client.hexists(entries, MARKER) == marked

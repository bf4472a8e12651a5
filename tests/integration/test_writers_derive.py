"""What follows from an event follows from the rows: nothing from poison, nothing from a lost claim."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from log_writing import append, eventually, record

from cluster.connections.kafka import Record
from cluster.connections.redis import sync_client
from configs.contracts import events, topics
from configs.contracts.events import Event, encode
from configs.contracts.ids import email_hash, match_id, new_id, pair, partition_of
from configs.contracts.read_model import REVOKED, Credential, credential_key, put_credential, record_key
from configs.settings import Settings
from writers.catching_up import catch_up
from writers.connections import open_rows
from writers.dead_letters import list_letters
from writers.pruning import prune
from writers.worker import Writer

pytestmark = pytest.mark.servers


@pytest.fixture
def query(servers: Settings) -> Iterator[Callable[..., list[Any]]]:
    with open_rows(servers, "test") as conn:
        yield lambda statement, *values: conn.execute(statement, values).fetchall()


def registered(user: str, address: str) -> events.AccountRegistered:
    return events.AccountRegistered(
        user_id=user, email="a@example.com", email_hash=address, password_hash=user, role="sugar_baby", display_name="A",
        birth_date="1990-01-01", family_id=new_id(), session_expires_at=datetime.now(UTC),
    )


async def test_nobody_is_made_of_a_registration_whose_address_was_taken(
    servers: Settings, one_writer: Writer, query: Callable[..., list[Any]]
) -> None:
    """As when a shard that was believed dead wrote once more: the first registration in the log holds the address."""
    first, second, last = new_id(), new_id(), new_id()
    address = email_hash(f"{first}@example.com")
    await append(
        servers,
        record(servers, topics.AUTH_ACCOUNTS, address, registered(first, address)),
        record(servers, topics.AUTH_ACCOUNTS, address, registered(second, address)),
    )
    await append(servers, record(servers, topics.AUTH_ACCOUNTS, address, registered(last, email_hash(last))))
    await eventually(lambda: query("SELECT 1 FROM users WHERE id = %s", last))
    await eventually(lambda: query("SELECT 1 FROM users WHERE id = %s", first))
    assert query("SELECT 1 FROM users WHERE id = %s", second) == []
    assert query("SELECT 1 FROM sessions WHERE user_id = %s", second) == []
    with sync_client(servers) as client:
        expected = put_credential(address, Credential(user_id=first, password_hash=first), 1).args[1]
        await eventually(lambda: (client.get(credential_key(address)) or b"")[16:] == expected)
        assert client.get(record_key(second)) is None


async def test_poison_of_every_kind_stops_neither_what_follows_nor_the_read_model(
    servers: Settings, one_writer: Writer, query: Callable[..., list[Any]]
) -> None:
    low, high = pair(new_id(), new_id())
    poison = f"poison {low}"
    match = match_id(low, high)
    wrong = match_id(new_id(), new_id())
    await append(
        servers,
        Record("matching.matched", partition_of(match, servers.log.partitions), poison, b"{"),
        *(
            record(servers, topic, match if topic is topics.MATCHING_MATCHED else low, payload)
            for topic, payload in (
                (topics.MATCHING_MATCHED, events.Matched(match_id=wrong, low_id=low, high_id=high, generation=1)),
                (topics.MATCHING_MATCHED, events.Matched(match_id=match, low_id="low", high_id="none", generation=1)),
                (topics.MATCHING_MATCHED, events.Matched(match_id=match, low_id=low, high_id=high, generation=1)),
                (topics.MATCHING_SWIPE, events.Swiped(swiper_id=low, swiped_id="nobody", action="like")),
                (topics.NOTIFICATION_SEND, events.NotificationSent(
                    notification_id="no", user_id=low, kind="k", title="t")),
                (topics.USER_UPDATED, events.LocationChanged(user_id=low, latitude=1.0, longitude=1.0, cell="nowhere")),
            )
        ),
        record(servers, topics.AUTH_ACCOUNTS, poison, registered(low, "not a hash")),
    )
    await eventually(lambda: query("SELECT 1 FROM notifications WHERE user_id = %s", low))
    await eventually(lambda: query("SELECT 1 FROM notifications WHERE user_id = %s", high))
    assert query("SELECT match_id::text FROM matches WHERE member_id = %s", low) == [(match,)]
    for payload in (low, high):
        assert len(query("SELECT 1 FROM notifications WHERE user_id = %s", payload)) == 1
    await eventually(lambda: sum(
        letter.key in (poison.encode(), match.encode(), low.encode()) for letter in list_letters(servers, limit=1_000)
    ) == 7)
    with sync_client(servers) as client:
        await eventually(lambda: client.zcard(f"match:z:{{{high}}}") == 1)
    later = new_id()
    await append(servers, record(servers, topics.USER_UPDATED, later, events.ProfileChanged(user_id=later, bio="b")))
    with sync_client(servers) as client:
        await eventually(lambda: client.get(record_key(later)))


async def test_a_block_ends_the_match_although_nobody_asked_the_pairs_authority(
    servers: Settings, one_writer: Writer, query: Callable[..., list[Any]]
) -> None:
    """As when the replica died after the block was recorded."""
    low, high = pair(new_id(), new_id())
    stranger = new_id()
    match = match_id(low, high)
    await append(servers, record(servers, topics.MATCHING_MATCHED, match, events.Matched(
        match_id=match, low_id=low, high_id=high, generation=2,
    )))
    await eventually(lambda: query("SELECT 1 FROM matches WHERE member_id = %s AND status = 'active'", low))
    await append(servers, *(
        record(servers, topics.USER_UPDATED, high, events.UserBlocked(user_id=high, blocked_id=other)) for other in (low, stranger)
    ))
    for member in (low, high):
        await eventually(lambda member=member: query(
            "SELECT generation, ended_by::text FROM matches WHERE member_id = %s AND other_id = ANY(%s::uuid[]) AND status = 'blocked'",
            member, [low, high],
        ) == [(2, high)])
    await eventually(lambda: query("SELECT status FROM conversations WHERE id = %s", match) == [("blocked",)])
    with sync_client(servers) as client:
        await eventually(lambda: client.zcard(f"match:z:{{{low}}}") == 0)
    await eventually(lambda: query("SELECT status, generation FROM matches WHERE member_id = %s", stranger) == [("blocked", 0)])


async def test_a_ban_that_was_derived_before_its_account_was_in_rows_reaches_the_account(
    servers: Settings, one_writer: Writer, query: Callable[..., list[Any]]
) -> None:
    """A decision and an account stand in two topics, of which one may be behind."""
    banned, reinstated = new_id(), new_id()
    for person, actions in ((banned, ("suspend", "ban")), (reinstated, ("ban", "reinstate"))):
        await append(servers, *(
            record(servers, topics.MODERATION_DECIDED, person, events.CaseDecided(
                decision_id=new_id(), target_type="user", target_id=person, subject_id=person, action=action, category="spam",
                statement="said", decided_by="service:test", number=number,
            ))
            for number, action in enumerate(actions, 1)
        ))
    assert await asyncio.to_thread(catch_up, servers, threading.Event())
    for person in (banned, reinstated):
        address = email_hash(f"{person}@example.com")
        await append(servers, record(servers, topics.AUTH_ACCOUNTS, address, registered(person, address)))
    standing = "SELECT status, standing_number FROM credentials WHERE user_id = %s AND standing_number > 0"
    assert await eventually(lambda: query(standing, banned)) == [("banned", 2)]
    assert await eventually(lambda: query(standing, reinstated)) == [("active", 2)]


async def test_a_ban_that_is_derived_with_its_account_as_well_is_audited_once(
    servers: Settings, one_writer: Writer, query: Callable[..., list[Any]]
) -> None:
    """By the time that the registration was derived, the ban was in rows and had reached the account."""
    person, decision = new_id(), new_id()
    address = email_hash(f"{person}@example.com")
    registration = record(servers, topics.AUTH_ACCOUNTS, address, registered(person, address))
    await append(servers, registration)
    assert await asyncio.to_thread(catch_up, servers, threading.Event())
    ban = Event(decision, datetime.now(UTC), person, events.CaseDecided(
        decision_id=decision, target_type="user", target_id=person, subject_id=person, action="ban", category="spam",
        statement="said", decided_by="service:test", number=1,
    ))
    await append(servers, Record(topics.MODERATION_DECIDED.name, partition_of(person, servers.log.partitions), person, encode(ban)))
    assert await asyncio.to_thread(catch_up, servers, threading.Event())
    await append(servers, registration)
    assert await asyncio.to_thread(catch_up, servers, threading.Event())
    acts = query("SELECT action, details ->> 'causeId' FROM audit_log WHERE target_id = %s ORDER BY id", person)
    assert sorted(acts) == [("account banned", decision), ("ban", None)]


async def test_a_session_that_began_just_before_the_password_was_changed_ends_with_those_that_were_there(
    servers: Settings, one_writer: Writer, query: Callable[..., list[Any]]
) -> None:
    """The person signed in, then all sessions ended, and only then the session stood in the log. One that has expired is left alone."""
    user, late, kept, since, expired, somebody_elses = (new_id() for _ in range(6))
    address, now, hour = email_hash(f"{user}@example.com"), datetime.now(UTC), timedelta(hours=1)
    await append(servers, record(servers, topics.AUTH_ACCOUNTS, address, registered(user, address)))
    await append(servers, record(servers, topics.AUTH_ACCOUNTS, address, events.PasswordSet(
        user_id=user, email_hash=address, password_hash="another", kept_family_id=kept,
    )))
    assert await asyncio.to_thread(catch_up, servers, threading.Event())
    ((changed,),) = query("SELECT sessions_from FROM credentials WHERE user_id = %s AND sessions_from > 0", user)
    await append(servers, *(
        record(servers, topics.AUTH_SESSIONS, family, events.SessionStarted(
            family_id=family, user_id=owner, token_hash="ab" * 32, expires_at=now + lasts, email_hash=address,
            sessions_from=began, signed_in_at=now,
        ))
        for family, owner, began, lasts in (
            (late, user, changed - 1, hour), (kept, user, 0, hour), (since, user, changed, hour), (expired, user, 0, -hour),
            (somebody_elses, new_id(), 0, hour),
        )
    ))
    assert await asyncio.to_thread(catch_up, servers, threading.Event())
    rows = query(
        "SELECT family_id::text, revoked_at IS NOT NULL FROM sessions WHERE family_id = ANY(%s::uuid[])",
        [late, kept, since, expired, somebody_elses],
    )
    assert dict(rows) == {late: True, kept: False, since: False, expired: False, somebody_elses: False}
    with sync_client(servers) as client:
        await eventually(lambda: client.zscore(REVOKED, late))


async def test_a_post_that_was_published_while_what_it_shows_was_being_removed_is_taken_away(
    servers: Settings, one_writer: Writer, query: Callable[..., list[Any]]
) -> None:
    """A decision on a media and a post that shows it stand in two topics, of which one may be behind."""
    creator = new_id()
    decisions: dict[str, str] = {new_id(): new_id() for _ in range(3)}
    nude, blocked, reversed_ = decisions
    await append(servers, *(
        record(servers, topics.MODERATION_DECIDED, media, events.CaseDecided(
            decision_id=decision, target_type="media", target_id=media, subject_id=creator, action="remove",
            category="child_abuse" if media == blocked else "nudity", statement="said", decided_by="service:test", number=1,
        ))
        for media, decision in decisions.items()
    ))
    appeal = new_id()
    await append(servers, record(servers, topics.MODERATION_DECIDED, reversed_, events.DecisionAppealed(
        appeal_id=appeal, decision_id=decisions[reversed_], target_id=reversed_, appellant_id=creator, text="no",
    )), record(servers, topics.MODERATION_DECIDED, reversed_, events.AppealDecided(
        appeal_id=appeal, decision_id=decisions[reversed_], target_type="media", target_id=reversed_, subject_id=creator,
        action="remove", outcome="reversed", statement="said", decided_by="service:other", number=2,
    )))
    assert await asyncio.to_thread(catch_up, servers, threading.Event())
    price = events.PostAccess(visibility="ppv", price_minor=500, currency="usd")
    sold, never, free, back, fine, later = (new_id() for _ in range(6))
    await append(servers, *(
        record(servers, topics.CONTENT_PUBLISHED, creator, events.ContentPublished(
            post_id=post, creator_id=creator, content_type="image", media_ids=(new_id(), media), access=access,
        ))
        for post, media, access in (
            (sold, nude, price), (never, blocked, price), (back, reversed_, price), (fine, new_id(), price), (later, nude, None),
            (free, nude, None),
        )
    ), record(servers, topics.CONTENT_PUBLISHED, creator, events.ContentUpdated(post_id=later, creator_id=creator, access=price)))

    def states() -> dict[str, tuple[str, str | None]]:
        return {post: (state, by) for post, state, by in query(
            "SELECT id::text, state, removed_by::text FROM posts WHERE creator_id = %s", creator
        )}

    removed = ("removed", decisions[nude])
    await eventually(lambda: [state for state, _ in states().values()].count("removed") == 3)
    assert await asyncio.to_thread(catch_up, servers, threading.Event())
    assert states() == {
        sold: removed, later: removed, never: ("removed", None), back: ("published", None), fine: ("published", None),
        free: ("published", None),
    }


def test_pruning_forgets_what_is_due_and_nothing_else(servers: Settings, query: Callable[..., list[Any]]) -> None:
    owner, old, young = new_id(), new_id(), new_id()
    for key, age in (("old", "26 hours"), ("young", "23 hours")):
        query(
            "INSERT INTO idempotency_keys VALUES (%s, %s, '', %s, now() - %s::interval) RETURNING 1", owner, key, owner, age
        )
    for offset, age in ((1, "31 days"), (2, "29 days")):
        query(
            "INSERT INTO dead_letters (topic, generation, partition, record_offset, headers, error, failed_at) "
            "VALUES (%s, 1, 0, %s, '[]', 'e', now() - %s::interval) RETURNING 1", owner, offset, age,
        )
    with sync_client(servers) as client:
        now_ms = int(datetime.now(UTC).timestamp() * 1_000)
        client.zadd(REVOKED, {old: now_ms - 3 * 3_600_000, young: now_ms - 3_600_000})
        prune(servers)
        assert client.zscore(REVOKED, old) is None
        assert client.zscore(REVOKED, young) is not None
    assert query("SELECT key FROM idempotency_keys WHERE owner = %s", owner) == [("young",)]
    assert query("SELECT record_offset FROM dead_letters WHERE topic = %s", owner) == [(2,)]


async def test_media_that_came_after_their_owners_erasure_was_derived_are_taken_away_by_the_sweep(
    servers: Settings, one_writer: Writer, query: Callable[..., list[Any]]
) -> None:
    erased, long_ago, here = new_id(), new_id(), new_id()
    media = {(owner, new_id()) for owner in (erased, erased, long_ago, here)}
    await append(servers, *(record(servers, topics.MEDIA_UPLOADED, owner, events.MediaRequested(
        media_id=name, owner_id=owner, kind="image", content_type="image/jpeg", size=1, sha256="ab" * 32,
    )) for owner, name in media))

    def states() -> dict[str, list[str]]:
        owners = [erased, long_ago, here]
        rows = query("SELECT owner_id::text, state FROM media WHERE owner_id = ANY(%s::uuid[])", owners)
        return {owner: sorted(state for of, state in rows if of == owner) for owner in owners}

    await eventually(lambda: states() == {erased: ["pending"] * 2, long_ago: ["pending"], here: ["pending"]})
    for owner, age in ((erased, "7 days"), (long_ago, "9 days")):
        query("INSERT INTO erasures VALUES (%s, now() - %s::interval, 1, now()) RETURNING 1", owner, age)
    for _ in range(2):  # again, before the rows hold it: nothing more happens
        await asyncio.to_thread(prune, servers)
    await eventually(lambda: states() == {erased: ["removed"] * 2, long_ago: ["pending"], here: ["pending"]})
    assert query("SELECT DISTINCT facts -> 'record' ->> 'reason' FROM media WHERE owner_id = %s", erased) == [("account_deleted",)]

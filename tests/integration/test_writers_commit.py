"""Rows and positions move together or not at all: crashes at every step, rivals, databases that go back, poison."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import psycopg
import pytest

from configs.contracts import events
from configs.contracts.errors import PartitionFenced
from configs.contracts.events import Event, encode
from configs.contracts.ids import identity_hash, match_id, new_id, pair
from configs.contracts.ranking import RankingConfiguration
from configs.settings import Settings
from writers.commit import Committed, Failure, commit_batch, write_facts
from writers.connections import Connection, open_rows
from writers.positions import Ownership, claim, read, regain
from writers.records import LogRecord, Place, decode_all

pytestmark = pytest.mark.servers

GOLDEN = Path(__file__).parents[1] / "contracts" / "golden"
ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
START = datetime(2026, 1, 1, tzinfo=UTC)
GENERATIONS = count(100)
"""Generations of their own for tests with dead letters: that table is shared."""
TABLES = (
    "users", "blocks", "reports", "notifications", "credentials", "identities", "sessions", "idempotency_keys", "swipes", "matches",
    "conversations", "messages", "read_marks", "device_tokens", "mails", "cards_served", "cards_seen",
    "moderation_cases", "decisions", "appeals", "audit_log", "consents", "assessments",
)


@pytest.fixture
def conn(servers: Settings) -> Iterator[Connection]:
    with open_rows(servers, "test") as opened:
        yield opened


class Bench:
    """One consumer of its own with one partition, so that tests share the servers and nothing else."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.consumer = f"test-{new_id()}"
        self.place: Place = ("matching.swipe", 0)
        self.owned, self.before = self.claim()

    def claim(self, generations: Mapping[str, int] | None = None) -> tuple[Ownership, dict[Place, int]]:
        return claim(self.conn, self.consumer, [self.place], generations or {"matching.swipe": 1})

    def commit(
        self, records: Sequence[LogRecord], *, conn: Connection | None = None, owned: Ownership | None = None,
        before: Mapping[Place, int] | None = None, limit: int = 100,
        copy: Callable[[Sequence[Failure]], None] = lambda failures: None,
    ) -> Committed:
        return commit_batch(
            conn or self.conn, owned or self.owned, self.before if before is None else before, records,
            dead_letter_limit=limit, copy_dead=copy,
        )

    def position(self) -> int:
        return read(self.conn, self.consumer, [self.place[0]])[self.place].next_offset


@pytest.fixture
def bench(conn: Connection) -> Bench:
    return Bench(conn)


def record(payload: events.Payload, offset: int, *, key: str = "k", event_id: str | None = None) -> LogRecord:
    event = Event(event_id or new_id(), START + timedelta(seconds=offset), key, payload)
    return LogRecord("matching.swipe", 0, offset, key.encode(), encode(event), (("traceparent", b"00-x"),))


def swiped(swiper: str, target: str, action: Any, offset: int, key: str | None = None) -> LogRecord:
    payload = events.Swiped(swiper_id=swiper, swiped_id=target, action=action, idempotency_key=key)
    return record(payload, offset, key=swiper)


def from_golden_files(told: set[type[events.Payload]], user: str) -> list[Event]:
    """The golden form of every event that is not told, with ids that nobody else has."""
    found = []
    for payload in (payload for _, payload in events.EVENTS if payload not in told):
        text = (GOLDEN / f"{payload.TYPE}.v{payload.VERSION}.json").read_text()
        own = ID.sub(lambda found: str(uuid5(UUID(user), found.group())), text)
        found.append(events.decode(own.encode()))
    return found


def story(user: str, other: str, address: str) -> list[LogRecord]:
    """One record of every event, most of them about two people, so that each sink writes something."""
    low, high = pair(user, other)
    match, family, note = match_id(user, other), new_id(), new_id()
    identity = events.ProviderIdentity(issuer="i", subject=user, nonce_hash="n", nonce_until=START)
    payloads: list[events.Payload] = [
        events.AccountRegistered(
            user_id=user, email="a@example.com", email_hash=address, password_hash="one", role="sugar_baby",
            display_name="A", birth_date="1990-01-01", family_id=family, session_expires_at=START, idempotency_key="r k",
        ),
        events.PasswordRehashed(user_id=user, email_hash=address, password_hash="two"),
        events.AddressTokenRequested(user_id=user, email_hash=address, purpose="verify", expires_at=START),
        events.AddressVerified(user_id=user, email_hash=address, token_id=note),
        events.PasswordSet(user_id=user, email_hash=address, password_hash="three", kept_family_id=family),
        events.SessionsEnded(user_id=user, email_hash=address),
        events.TotpEnabled(user_id=user, email_hash=address, sealed_secret="s", step=1, recovery_hashes=("r",)),
        events.SecondFactorUsed(user_id=user, email_hash=address, challenge_id="c", challenge_until=START, step=2),
        events.TotpDisabled(user_id=user, email_hash=address),
        events.PasskeyAdded(
            user_id=user, email_hash=address, credential_id="c", public_key="p", sign_count=1, name="n", challenge_id="d",
            challenge_until=START,
        ),
        events.PasskeyUsed(
            user_id=user, email_hash=address, credential_id="c", sign_count=2, challenge_id="e", challenge_until=START
        ),
        events.PasskeyRemoved(user_id=user, email_hash=address, credential_id="c"),
        events.IdentityLinked(user_id=user, email_hash=address, identity=identity),
        events.IdentityClaimed(
            identity_hash=identity_hash("i", user), user_id=user, email_hash=address, identity=identity
        ),
        events.IdentityUsed(identity_hash=identity_hash("i", user), user_id=user, identity=identity),
        events.RoleGranted(user_id=user, email_hash=address, role="moderator", granted_by="service:test"),
        events.StandingSet(user_id=user, email_hash=address, status="suspended", number=1, cause_id=note),
        events.SessionStarted(
            family_id=family, user_id=user, token_hash="00" * 32, expires_at=START, email_hash=address, signed_in_at=START,
            client="a phone",
        ),
        events.SessionRotated(family_id=family, user_id=user, counter=1, token_hash="01" * 32, expires_at=START),
        events.SessionRevoked(family_id=family, user_id=user, reason="logout"),
        events.UserCreated(user_id=user, role="sugar_baby", display_name="A", birth_date="1990-01-01"),
        events.ProfileChanged(user_id=user, bio="b", idempotency_key="p k"),
        events.PreferencesChanged(user_id=user, age_min=20, roles=("sugar_daddy",)),
        events.LocationChanged(user_id=user, latitude=52.5, longitude=13.4, cell="861f1d48fffffff"),
        events.WasActive(user_id=user, active_at=START),
        events.UserBlocked(user_id=user, blocked_id=other),
        events.UserUnblocked(user_id=user, blocked_id=other),
        events.UserReported(
            report_id=new_id(), reporter_id=user, target_type="user", target_id=other, category="spam", text="t"
        ),
        events.AgeAssessed(user_id=user, assessment_id=note, status="verified", provider="local"),
        events.StandingChanged(user_id=user, status="suspended", number=1, cause_id=note),
        events.ConsentChanged(user_id=user, creator_id=other, given=True),
        events.RemovalRequested(
            request_id=new_id(), target_type="media", target_id=user, contact="c@example.com", signature="s", description="d",
            digest="g",
        ),
        events.CaseDecided(
            decision_id=note, target_type="user", target_id=user, subject_id=user, action="suspend", category="spam",
            statement="s", decided_by="service:test", number=1,
        ),
        events.EvidenceSeen(target_id=user, seen_by="service:test"),
        events.DecisionAppealed(appeal_id=new_id(), decision_id=note, target_id=user, appellant_id=user, text="t"),
        events.AppealDecided(
            appeal_id=new_id(), decision_id=note, target_type="user", target_id=user, subject_id=user, action="suspend",
            outcome="reversed", statement="s", decided_by="service:test", number=2,
        ),
        events.Swiped(swiper_id=user, swiped_id=other, action="like", idempotency_key="one"),
        events.SwipeUndone(swiper_id=user, swiped_id=other, undone_action="like", idempotency_key="two"),
        events.Matched(match_id=match, low_id=low, high_id=high, generation=1),
        events.Unmatched(match_id=match, low_id=low, high_id=high, generation=1, ended_by=user, reason="unmatched"),
        events.MessageSent(
            message_id=new_id(), conversation_id=match, sender_id=user, recipient_id=other, seq=1, ordinal=1, epoch=1,
            client_message_id="m", content="hello",
        ),
        events.MessageRead(conversation_id=match, reader_id=other, other_id=user, seq=1, ordinal=1),
        events.NotificationSent(notification_id=note, user_id=user, kind="k", title="t", data={"a": "b"}),
        events.NotificationRead(notification_id=note, user_id=user),
        events.NotificationsRead(user_id=user),
        events.NotificationPreferencesChanged(user_id=user, push_match=False),
        events.DeviceRegistered(device_id=note, user_id=user, platform="fcm", token="t"),
        events.DeviceRemoved(device_id=note, user_id=user, reason="signed_out"),
        events.MailRequested(
            mail_id=note, user_id=user, email_hash=address, address="a@example.com", template="password_changed"
        ),
        events.CardsServed(
            viewer_id=user, configuration=0, model_version="baseline", decided_at=START, candidate_ids=(other,),
            positions=(0,), scores=(-1.0,), propensities=(1.0,),
        ),
        events.CardsSeen(viewer_id=user, response_ids=(new_id(),), candidate_ids=(other,), positions=(0,)),
        events.UserErased(user_id=new_id(), email_hash=address),
        events.RankingConfigured(configuration=RankingConfiguration(), reason="deploy"),  # stores nothing: shared
    ]
    others = from_golden_files({type(payload) for payload in payloads}, user)
    keyed = [(payload, "k") for payload in payloads] + [(event.payload, event.key) for event in others]
    assert {type(payload) for payload, _ in keyed} == {payload for _, payload in events.EVENTS}
    return [record(payload, offset, key=key) for offset, (payload, key) in enumerate(keyed)]


def contents(conn: Connection, *ids: str) -> dict[str, list[Any]]:
    """Every row of every table that mentions one of the ids."""
    return {
        table: sorted(
            str(row) for (row,) in conn.execute(
                f"SELECT t::text FROM {table} AS t WHERE t::text ~ %s", ("|".join(ids),)
            ).fetchall()
        )
        for table in TABLES
    }


class Dying(psycopg.Cursor[Any]):
    """A cursor whose connection the server ends before the statement with a given number."""

    left: int | None = None
    killer: Connection | None = None

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        if Dying.left is not None:
            if Dying.left == 0 and Dying.killer is not None:
                Dying.left = None
                Dying.killer.execute("SELECT pg_terminate_backend(%s, 60000)", (self.connection.info.backend_pid,))
            else:
                Dying.left -= 1
        return super().execute(*args, **kwargs)


def test_a_commit_that_is_cut_off_at_any_statement_leaves_nothing_and_its_repetition_everything_once(
    servers: Settings, conn: Connection
) -> None:
    user, other, address = new_id(), new_id(), new_id().replace("-", "")
    records = story(user, other, address)
    statements, survived = 0, False
    while not survived:
        bench = Bench(conn)
        with open_rows(servers, "victim") as victim:
            victim.cursor_factory = Dying
            Dying.left, Dying.killer = statements, conn
            try:
                bench.commit(records, conn=victim)
                survived = Dying.left is not None
            except psycopg.OperationalError:
                assert bench.position() == 0
                assert not any(contents(conn, user, address).values())
            finally:
                Dying.left = None
        statements += 1
    assert statements > len(TABLES), "every sink was cut off once"
    once = contents(conn, user, address)
    assert all(once[table] for table in TABLES)
    assert bench.position() == len(records)


def test_a_batch_repeated_after_its_commit_answer_was_lost_is_refused_and_its_position_found(bench: Bench) -> None:
    user, other = new_id(), new_id()
    records = [swiped(user, other, "like", 0), swiped(user, other, "pass", 3)]
    bench.commit(records)
    before = contents(bench.conn, user)
    with pytest.raises(PartitionFenced):
        bench.commit(records)
    assert contents(bench.conn, user) == before
    assert regain(bench.conn, bench.owned, [bench.place]) == {bench.place: 4}


def test_a_writer_whose_partition_was_claimed_by_another_writes_nothing_more(bench: Bench) -> None:
    """The position is as the first writer left it: only its epoch tells that it is no longer the owner."""
    user = new_id()
    rival, position = bench.claim()
    assert position == bench.before
    with pytest.raises(PartitionFenced):
        bench.commit([swiped(user, new_id(), "like", 0)])
    assert not any(contents(bench.conn, user).values())
    with pytest.raises(PartitionFenced):
        regain(bench.conn, bench.owned, [bench.place])
    bench.commit([swiped(user, new_id(), "like", 0)], owned=rival)
    assert bench.position() == 1


def test_an_owner_with_a_stale_position_writes_nothing(bench: Bench) -> None:
    """The epoch is right: only the position tells that these records were stored before."""
    user, other = new_id(), new_id()
    bench.commit([swiped(user, other, "like", 0), swiped(user, other, "pass", 1)])
    before = contents(bench.conn, user)
    for stale in (0, 1, 3):
        with pytest.raises(PartitionFenced):
            bench.commit([swiped(user, other, "super_like", 7)], before={bench.place: stale})
    assert contents(bench.conn, user) == before


def test_one_stale_partition_among_many_refuses_the_whole_commit(conn: Connection) -> None:
    consumer, user = f"test-{new_id()}", new_id()
    places = [("matching.swipe", 0), ("matching.swipe", 1)]
    owned, before = claim(conn, consumer, places, {})
    both = [swiped(user, new_id(), "like", 0), swiped(user, new_id(), "like", 0)._replace(partition=1)]
    with pytest.raises(PartitionFenced):
        commit_batch(
            conn, owned, {**before, places[1]: 5}, both, dead_letter_limit=1, copy_dead=lambda failures: None
        )
    assert not any(contents(conn, user).values())
    assert {position.next_offset for position in read(conn, consumer, ["matching.swipe"]).values()} == {0}


def test_a_new_generation_starts_at_0_and_the_old_one_is_fenced(bench: Bench) -> None:
    user = new_id()
    bench.commit([swiped(user, new_id(), "like", 41)])
    newer, position = bench.claim({"matching.swipe": 2})
    assert position == {bench.place: 0}
    bench.commit([swiped(user, new_id(), "like", 0)], owned=newer, before=position)
    with pytest.raises(PartitionFenced):
        bench.claim({"matching.swipe": 1})


def test_an_owner_who_believes_in_another_generation_writes_nothing(bench: Bench) -> None:
    user = new_id()
    mistaken = replace(bench.owned, generations={"matching.swipe": 2})
    with pytest.raises(PartitionFenced):
        bench.commit([swiped(user, new_id(), "like", 0)], owned=mistaken)
    assert not any(contents(bench.conn, user).values())


def test_of_two_requests_under_one_key_the_newer_stays_whichever_is_stored_later(conn: Connection) -> None:
    user = new_id()
    requests = [
        fact for _, fact in decode_all(
            [record(events.ProfileChanged(user_id=user, bio="b", idempotency_key="k", body_digest=digest), offset)
             for offset, digest in enumerate(("older", "newer"))], {},
        )[0]
    ]
    with conn.cursor() as cur:
        for fact in (*requests, requests[0]):
            write_facts(cur, [fact])
    assert conn.execute("SELECT body_digest FROM idempotency_keys WHERE owner = %s", (user,)).fetchall() == [("newer",)]


def test_a_database_that_went_back_before_the_claim_is_told_from_a_rival(bench: Bench) -> None:
    bench.conn.execute("DELETE FROM writer_positions WHERE consumer = %s", (bench.consumer,))
    assert regain(bench.conn, bench.owned, [bench.place]) is None
    again, _ = bench.claim()
    assert again.epoch > bench.owned.epoch


def test_a_claim_is_higher_than_every_stored_epoch_though_the_sequence_fell_behind(bench: Bench) -> None:
    with bench.conn.transaction(force_rollback=True):
        bench.conn.execute(
            "UPDATE writer_positions SET epoch = epoch + 1000000 WHERE consumer = %s", (bench.consumer,)
        )
        again, _ = bench.claim()
        assert again.epoch > bench.owned.epoch + 1_000_000


def test_every_row_is_as_it_was_when_the_whole_story_is_applied_again(conn: Connection) -> None:
    """Replayed and repeated facts are older than the rows: only the version tells."""
    user, other, address = new_id(), new_id(), new_id().replace("-", "")
    facts = [fact for _, fact in decode_all(story(user, other, address), {})[0]]
    with conn.cursor() as cur:
        write_facts(cur, facts)
        once = contents(conn, user, address)
        assert all(once[table] for table in TABLES)
        write_facts(cur, facts)
        assert contents(conn, user, address) == once
        for fact in facts:
            write_facts(cur, [fact])
            assert contents(conn, user, address) == once, fact.event.payload.TYPE


def test_a_changed_mind_is_one_row_with_the_last_action_and_the_newest_keys(bench: Bench) -> None:
    user, other = new_id(), new_id()
    actions = ["like", "pass", "super_like", "pass"] * 3
    bench.commit([swiped(user, other, action, offset, f"k{offset}") for offset, action in enumerate(actions[:5])])
    bench.before = {bench.place: 5}
    bench.commit([swiped(user, other, action, offset, f"k{offset}") for offset, action in enumerate(actions) if offset > 4])
    row = bench.conn.execute(
        "SELECT action, ever_liked, version & 1099511627775, idempotency_keys, bucket FROM swipes WHERE swiper_id = %s", (user,)
    ).fetchall()
    assert row == [(2, True, 11, [f"k{offset}" for offset in range(11, 3, -1)], 0)]


def test_an_identity_goes_to_whom_its_claim_replaces_the_erased_and_stays_theirs(bench: Bench) -> None:
    """In one batch and in several, and when the tombstone of the erased comes after the claim."""
    old, new, address = new_id(), new_id(), new_id().replace("-", "")
    hashed = identity_hash("i", old)

    def claimed(user: str, offset: int, replaces: str = "") -> LogRecord:
        identity = events.ProviderIdentity(issuer="i", subject=old, nonce_hash=f"n{offset}", nonce_until=START + timedelta(days=1))
        return record(events.IdentityClaimed(
            identity_hash=hashed, user_id=user, email_hash=address, identity=identity, replaces=replaces
        ), offset)

    def owners() -> list[Any]:
        rows = bench.conn.execute("SELECT user_id::text, jsonb_array_length(nonces) FROM identities WHERE identity_hash = %s", (UUID(hashed),))
        return rows.fetchall()

    bench.commit([claimed(old, 0), claimed(new, 1), claimed(new, 2, replaces=new_id())])
    assert owners() == [(old, 3)]
    bench.before = {bench.place: bench.position()}
    bench.commit([claimed(new, 3, replaces=old), claimed(new_id(), 4, replaces=old)])
    assert owners() == [(new, 5)], "every nonce stays used"
    bench.before = {bench.place: bench.position()}
    bench.commit([record(events.UserErased(user_id=old), 5)])
    assert owners() == [(new, 5)]

"""Whoever asked for it gets one mail in an absence, when something is new, and not in quiet hours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cluster.connections.kafka import Record
from configs.contracts.events import MailRequested, decode
from configs.contracts.ids import email_hash, match_id, new_id
from configs.settings import Settings
from writers.connections import Connection, open_rows
from writers.consumers.mail_text import message
from writers.reminding import Reminding

pytestmark = pytest.mark.servers

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


class Kept:
    """Takes what would be appended."""

    def __init__(self) -> None:
        self.mails: list[MailRequested] = []

    def append(self, records: list[Record]) -> None:
        for record in records:
            payload = decode(record.value).payload
            assert isinstance(payload, MailRequested)
            self.mails.append(payload)

    def close(self) -> None: ...


class World:
    def __init__(self, conn: Connection, settings: Settings) -> None:
        self.conn = conn
        self.kept = Kept()
        self.reminding = Reminding(settings, "test")
        self.reminding._appending = self.kept  # type: ignore[assignment]

    def person(self, *, away: timedelta = timedelta(hours=30), verified: bool = True, status: str = "active", **preferences: Any) -> str:
        user_id, address = new_id(), f"{new_id()}@example.com"
        self.conn.execute(
            "INSERT INTO users (id, status, last_active_at, preferences, created_at, updated_at, version)"
            " VALUES (%s, %s, %s, %s::jsonb, %s, %s, 1)",
            (user_id, status, NOW - away, json.dumps({"mailReminders": True} | preferences), NOW, NOW),
        )
        self.conn.execute(
            "INSERT INTO credentials (email_hash, user_id, email, claimed_at, verified_at, version) VALUES (%s::uuid, %s, %s, %s, %s, 1)",
            (email_hash(address), user_id, address, NOW, NOW if verified else None),
        )
        return user_id

    def notify(self, user_id: str, *, ago: timedelta, read: bool = False) -> None:
        self.conn.execute(
            "INSERT INTO notifications (user_id, id, kind, title, created_at, read_at, version) VALUES (%s, %s, 'match', 't', %s, %s, 1)",
            (user_id, new_id(), NOW - ago, NOW if read else None),
        )

    def write(self, sender: str, recipient: str, *, ago: timedelta) -> None:
        match = match_id(sender, recipient)
        for member, other in ((sender, recipient), (recipient, sender)):
            self.conn.execute(
                "INSERT INTO matches (member_id, other_id, match_id, status, generation, matched_at, version)"
                " VALUES (%s, %s, %s, 'active', 1, %s, 1)", (member, other, match, NOW - timedelta(days=5)),
            )
        self.conn.execute(
            "INSERT INTO messages (conversation_id, seq, id, sender_id, recipient_id, ordinal, epoch, client_message_id, content, sent_at, version)"
            " VALUES (%s, 1, %s, %s, %s, 1, 1, 'c', 'hello', %s, 1)", (match, new_id(), sender, recipient, NOW - ago),
        )

    def reminded(self, *of: str) -> list[str]:
        """Those of these people who are mailed now."""
        self.kept.mails.clear()
        self.reminding.remind(self.conn, NOW)
        return [mail.user_id for mail in self.kept.mails if mail.user_id in of]


@pytest.fixture
def world(servers: Settings) -> Iterator[World]:
    with open_rows(servers, "test") as conn:
        yield World(conn, servers)
        conn.execute("DELETE FROM users WHERE preferences ->> 'mailReminders' = 'true'")


def test_what_came_in_an_absence_is_told_once(world: World, servers: Settings) -> None:
    noticed, written, unmoved = world.person(), world.person(), world.person()
    world.notify(noticed, ago=timedelta(hours=2))
    world.write(unmoved, written, ago=timedelta(hours=3))
    everybody = noticed, written, unmoved
    assert set(world.reminded(*everybody)) == {noticed, written}, "one's own message is nothing new"
    first = {mail.user_id: mail for mail in world.kept.mails}
    assert set(world.reminded(*everybody)) == {noticed, written}, "until rows know of it, it is asked for again"
    assert {mail.user_id: mail.mail_id for mail in world.kept.mails} == {user: mail.mail_id for user, mail in first.items()}
    for mail in first.values():
        world.conn.execute(
            "INSERT INTO mails (email_hash, id, user_id, template, requested_at, version) VALUES (%s::uuid, %s, %s, 'reminder', %s, 1)",
            (mail.email_hash, mail.mail_id, mail.user_id, NOW),
        )
    assert world.reminded(*everybody) == []
    text = message(servers, b"k" * 32, first[written]).as_string()
    assert "hello" not in text
    assert written not in text


@pytest.mark.parametrize("who", [
    {"away": timedelta(hours=23)}, {"away": timedelta(days=30)}, {"verified": False}, {"status": "suspended"},
    {"mailReminders": False}, {"quietHours": "11:00-13:00"}, {"quietHours": "04:30-05:30", "timeZone": "America/Los_Angeles"},
], ids=str)
def test_nobody_else_is_mailed(world: World, who: dict[str, Any]) -> None:
    person, control = world.person(**who), world.person()
    for user_id in (person, control):
        world.notify(user_id, ago=timedelta(hours=1))
    assert world.reminded(person, control) == [control]


def test_what_was_there_before_or_was_read_is_not_new(world: World) -> None:
    before, read = world.person(), world.person()
    world.notify(before, ago=timedelta(hours=31))
    world.notify(read, ago=timedelta(hours=1), read=True)
    assert world.reminded(before, read) == []


def test_many_are_found_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("writers.reminding.AT_ONCE", 3)
    people = [world.person() for _ in range(8)]
    for user_id in people:
        world.notify(user_id, ago=timedelta(hours=1))
    assert sorted(world.reminded(*people)) == sorted(people)

"""A mail to those who asked for it, once in an absence: something is new since they were last here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import structlog

from cluster.connections.kafka import Record
from cluster.connections.postgres import translated
from configs.contracts.events import Event, MailRequested, encode
from configs.contracts.ids import derived_id, partition_of
from configs.contracts.notifying import Preferences
from configs.contracts.topics import NOTIFICATION_MAIL
from configs.settings import Settings
from writers.connections import Connection, open_rows
from writers.consumers.deriving import Appending
from writers.looks import keep_looking

log = structlog.get_logger(__name__)

EVERY_S: Final = 300.0
AWAY: Final = timedelta(hours=24)
LONGEST: Final = timedelta(days=29)
"""Rows know of a mail for 30 days; whoever was away longer is left in peace."""
AT_ONCE: Final = 500

ABSENT: Final = """
SELECT id::text, last_active_at, preferences FROM users
WHERE preferences ->> 'mailReminders' = 'true' AND status = 'active'
  AND last_active_at <= %s AND last_active_at > %s AND (last_active_at, id) > (%s, %s::uuid)
ORDER BY last_active_at, id LIMIT %s
"""
ADDRESSES: Final = """
SELECT user_id::text, email_hash, email FROM credentials
WHERE user_id = ANY(%s::uuid[]) AND verified_at IS NOT NULL AND status = 'active' AND email <> ''
"""
REMINDED: Final = """
SELECT user_id::text, max(requested_at) FROM mails
WHERE email_hash = ANY(%s) AND template = 'reminder' GROUP BY user_id
"""
NOTIFIED: Final = """
SELECT user_id::text, max(created_at) FROM notifications
WHERE user_id = ANY(%s::uuid[]) AND read_at IS NULL GROUP BY user_id
"""
TALKING: Final = "SELECT match_id::text, member_id::text FROM matches WHERE member_id = ANY(%s::uuid[]) AND status = 'active'"
WRITTEN: Final = """
SELECT wanted.id::text, last.sender_id::text, last.sent_at FROM unnest(%s::uuid[]) AS wanted (id), LATERAL (
    SELECT sender_id, sent_at FROM messages WHERE conversation_id = wanted.id ORDER BY seq DESC LIMIT 1
) AS last
"""


@dataclass(frozen=True, slots=True)
class Absent:
    """Somebody who asked to be reminded, and when they were last here."""

    user_id: str
    since: datetime
    preferences: Preferences


class Reminding:
    """Appends the mails. Each is named by the absence, so the log may hold it twice and it is sent once."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._appending = Appending(settings, name)

    def remind(self, conn: Connection, now: datetime) -> int:
        """How many mails were asked for. Quiet hours put them off. Raises DependencyUnavailable: call again."""
        count = 0
        for people in _absent(conn, now):
            due = [person for person in people if not person.preferences.quiet(now)]
            with translated():
                mails = _mails(conn, due)
            self._appending.append([
                Record(
                    NOTIFICATION_MAIL.name, partition_of(mail.email_hash, self._settings.log.partitions), mail.email_hash,
                    encode(Event(mail.mail_id, now, mail.email_hash, mail)),
                )
                for mail in mails
            ])
            count += len(mails)
        return count

    def close(self) -> None:
        self._appending.close()


def _absent(conn: Connection, now: datetime) -> Iterator[Sequence[Absent]]:
    """In pages, whoever is away longest first."""
    after: tuple[datetime, str] = (now - LONGEST, "00000000-0000-0000-0000-000000000000")
    while True:
        with translated():
            rows = conn.execute(ABSENT, (now - AWAY, now - LONGEST, *after, AT_ONCE)).fetchall()
        if rows:
            yield [Absent(user_id, since, msgspec.convert(values, Preferences)) for user_id, since, values in rows]
        if len(rows) < AT_ONCE:
            return
        after = (rows[-1][1], rows[-1][0])


def _mails(conn: Connection, people: Sequence[Absent]) -> Sequence[MailRequested]:
    addresses = {
        user_id: (email_hash, email)
        for user_id, email_hash, email in conn.execute(ADDRESSES, ([person.user_id for person in people],))
    }
    reminded: Mapping[str, datetime] = dict(conn.execute(REMINDED, ([found for found, _ in addresses.values()],)).fetchall())
    left = [
        person for person in people
        if person.user_id in addresses and reminded.get(person.user_id, person.since) <= person.since
    ]
    newest = _newest(conn, [person.user_id for person in left])
    return [_mail(person, *addresses[person.user_id]) for person in left if newest.get(person.user_id, person.since) > person.since]


def _newest(conn: Connection, user_ids: Sequence[str]) -> Mapping[str, datetime]:
    """When the newest notification that was not read, or message that was not answered, came to each."""
    found: dict[str, datetime] = dict(conn.execute(NOTIFIED, (user_ids,)).fetchall())
    talking: dict[str, list[str]] = {}
    for match_id, member_id in conn.execute(TALKING, (user_ids,)):
        talking.setdefault(match_id, []).append(member_id)
    for match_id, sender_id, sent_at in conn.execute(WRITTEN, (list(talking),)):
        for member_id in talking[match_id]:
            if member_id != sender_id:
                found[member_id] = max(sent_at, found.get(member_id, sent_at))
    return found


def _mail(person: Absent, email_hash: Any, address: str) -> MailRequested:
    mail_id = derived_id(person.user_id, f"reminder:{person.since.isoformat()}")
    return MailRequested(
        mail_id=mail_id, user_id=person.user_id, email_hash=email_hash.hex, address=address, template="reminder"
    )


def keep_reminding(settings: Settings, stopping: threading.Event, *, fatal: Callable[[str], None]) -> None:
    """Reminds now and then until ``stopping``. ``fatal`` is told of a fault that no waiting mends."""
    reminding = Reminding(settings, "reminding")

    def look() -> None:
        with open_rows(settings, "reminding") as conn:
            if count := reminding.remind(conn, datetime.now(UTC)):
                log.info("people_reminded", mails=count)

    try:
        keep_looking("reminding", look, EVERY_S, stopping, fatal=fatal)
    finally:
        reminding.close()

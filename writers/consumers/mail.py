"""The consumer ``mail``: sends what notification.mail asks for, each request once, and not what is too old.

A process that is killed between a mail and its commit sends that one mail again, with the same Message-ID; SMTP has no
stronger promise. Nothing of an address or a token is logged.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.errors import MessageError
from typing import Final, Protocol

import structlog

from cluster.connections.smtp import MailDeferred, MailRefused, Smtp
from configs.contracts import topics
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import MailRequested
from configs.settings import Settings
from writers.connections import Connection
from writers.consumers.deriving import wait_for_rows
from writers.consumers.mail_text import message
from writers.dead_letters import without_dead
from writers.positions import Ownership, advance
from writers.records import Fact, LogRecord, Place, decode_all, next_offsets

log = structlog.get_logger(__name__)

TOPICS = (topics.NOTIFICATION_MAIL,)
TOO_OLD: Final = timedelta(hours=24)
"""SPEC section 1: a restored backup must not send the past again."""
DEFERRED_S: Final = (0.5, 1.0, 2.0, 4.0)
"""Pauses before a deferred mail is tried again; then it is given up, so that others are not held up for long. A relay
that takes mail at once and keeps trying by itself belongs before the world's mail servers."""
UNWRITABLE: Final = (ValueError, AttributeError, IndexError, MessageError)
"""What Python's parser of headers raises for addresses that are none. They are refused where they come in; one that came
before must not stop the mails behind it."""
VERSION = "SELECT version FROM mails WHERE email_hash = %s::uuid AND id = %s"


class Sender(Protocol):
    """What the consumer needs of ``Smtp``."""

    def send(self, message: object, address: str, /) -> None: ...

    def close(self) -> None: ...


class Mail:
    """Sends one mail after the other, and its position with each."""

    consumer = "mail"

    def __init__(
        self, settings: Settings, *, make: Callable[[Settings], Smtp] = Smtp,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC), sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._key = bytes.fromhex(settings.auth.account_key.get_secret_value())
        self._make = make
        self._clock = clock
        self._sleep = sleep
        self._smtp: Smtp | None = None
        self.figures: Counter[str] = Counter()
        """sent, repeated (not sent again), too_old, refused, given_up; since the process began."""

    def handle(
        self, conn: Connection, owned: Ownership, before: Mapping[Place, int], records: Sequence[LogRecord]
    ) -> None:
        wait_for_rows(conn, owned, records)
        decoded = {
            (record.partition, record.offset): fact
            for record, fact in decode_all(without_dead(conn, records, owned.generations), owned.generations)[0]
        }
        reached = dict(before)
        for record in records:
            fact = decoded.get((record.partition, record.offset))
            if fact is not None:
                outcome = self._send(conn, fact)
                self.figures[outcome] += 1
            with conn.transaction(), conn.cursor() as cur:
                advance(cur, owned, reached, next_offsets([record]))
            reached.update(next_offsets([record]))

    def _send(self, conn: Connection, fact: Fact) -> str:
        """What became of one request. Raises DependencyUnavailable: the mail server is away; come again."""
        request = fact.event.payload
        assert isinstance(request, MailRequested)
        row = conn.execute(VERSION, (request.email_hash, request.mail_id)).fetchone()
        if row is not None and row[0] != fact.version:
            return "repeated"
        if self._clock() - fact.event.occurred_at > TOO_OLD:
            log.warning("mail_too_old", mail=request.mail_id, template=request.template)
            return "too_old"
        try:
            composed = message(self._settings, self._key, request)
        except UNWRITABLE as error:
            log.warning("mail_refused", mail=request.mail_id, template=request.template, kind=type(error).__name__)
            return "refused"
        for pause_s in (*DEFERRED_S, None):
            try:
                self._smtp = self._smtp or self._make(self._settings)
                self._smtp.send(composed, request.address)
                return "sent"
            except MailRefused as error:
                log.warning("mail_refused", mail=request.mail_id, template=request.template, code=error.details["code"])
                return "refused"
            except MailDeferred as error:
                if pause_s is None:
                    log.warning("mail_given_up", mail=request.mail_id, template=request.template, code=error.details["code"])
                    return "given_up"
                self._sleep(pause_s)
            except DependencyUnavailable:
                self.figures["server_away"] += 1
                raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        if self._smtp is not None:
            self._smtp.close()
            self._smtp = None

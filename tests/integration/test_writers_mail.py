"""Mail through a real SMTP server: once each, never from long ago, and nothing usable in the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from typing import Any

import log_writing
import pytest
from aiosmtpd.controller import Controller
from log_writing import eventually
from pydantic import SecretStr

from cluster.connections.kafka import Record
from cluster.embedded.mailbox import mails
from cluster.embedded.ports import free_port
from cluster.launch.servers import mail_dir
from configs.contracts import events, topics
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import Event, encode
from configs.contracts.ids import derived_id, email_hash, new_id, partition_of
from configs.contracts.positions import version_of
from configs.contracts.tokens import mail_token, parse_mail_token
from configs.contracts.topics import Topic
from configs.settings import Settings
from writers.connections import open_rows
from writers.consumers import mail as consumer
from writers.consumers.mail import Mail
from writers.positions import Ownership
from writers.records import LogRecord, Place
from writers.worker import Writer

pytestmark = pytest.mark.servers


class Answering:
    """aiosmtpd's handler: answers DATA with what the test says and remembers what it took."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.taken: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250"):
            self.taken.append(message_from_bytes(envelope.content))
        return answer


@pytest.fixture
def server() -> Iterator[tuple[Answering, str]]:
    handler, port = Answering(), free_port()
    controller = Controller(handler, hostname="127.0.0.1", port=port, ready_timeout=60)
    controller.start()
    yield handler, f"smtp://127.0.0.1:{port}"
    controller.stop()


def request(address: str = "ada@example.com", template: Any = "reset_password") -> events.MailRequested:
    return events.MailRequested(
        mail_id=new_id(), user_id=new_id(), email_hash=email_hash(address), address=address, template=template,
        token_id=new_id(), expires_at=datetime.now(UTC) + timedelta(hours=1),
    )


class Handling:
    """The consumer over given records: rows and positions are said to be there."""

    def __init__(self, settings: Settings, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = settings.model_copy(update={"smtp_url": SecretStr(url)})
        self.slept: list[float] = []
        self.mail = Mail(self.settings, sleep=self.slept.append)
        self.advanced: list[dict[Place, int]] = []
        self.now: Callable[[], None] | None = None
        monkeypatch.setattr(consumer, "wait_for_rows", lambda *args: None)
        monkeypatch.setattr(consumer, "without_dead", lambda conn, records, generations: records)
        monkeypatch.setattr(consumer, "advance", lambda cur, owned, before, after: self.advanced.append(dict(after)))

    def handle(self, *requests: events.MailRequested, ago: timedelta = timedelta(), first: int = 0) -> None:
        place = topics.NOTIFICATION_MAIL.name
        records = [
            LogRecord(place, 0, first + index, None, encode(
                Event(payload.mail_id, datetime.now(UTC) - ago, payload.email_hash, payload)
            ))
            for index, payload in enumerate(requests)
        ]
        with open_rows(self.settings, "test") as conn:
            self.mail.handle(conn, Ownership("mail", 1, {}), {}, records)


@pytest.fixture
def handling(
    servers: Settings, server: tuple[Answering, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Handling, Answering]]:
    made = Handling(servers, server[1], monkeypatch)
    yield made, server[0]
    made.mail.close()


def test_a_mail_carries_its_token_and_its_id(handling: tuple[Handling, Answering]) -> None:
    run, server = handling
    wanted = request("Zoë.Ødegård@example.com")
    run.handle(wanted)
    (mail,) = server.taken
    assert mail["Message-ID"] == f"<{wanted.mail_id}@{run.settings.mail.domain}>"
    key = bytes.fromhex(run.settings.auth.account_key.get_secret_value())
    token = mail_token(key, "reset", wanted.email_hash, wanted.token_id or "")
    assert token in mail.get_payload(decode=True).decode()
    assert token.encode() not in encode(Event(new_id(), datetime.now(UTC), "k", wanted))


def test_what_is_older_than_a_day_is_not_sent(handling: tuple[Handling, Answering]) -> None:
    """A restored backup must not send the past again."""
    run, server = handling
    run.handle(request(), ago=timedelta(hours=25))
    run.handle(request(), ago=timedelta(hours=23), first=1)
    assert len(server.taken) == 1
    assert (run.mail.figures["too_old"], run.mail.figures["sent"]) == (1, 1)
    assert len(run.advanced) == 2


def test_a_refused_mail_is_left_and_the_next_one_sent(handling: tuple[Handling, Answering]) -> None:
    run, server = handling
    server.answers = ["550 no such person"]
    run.handle(request(), request())
    assert (run.mail.figures["refused"], run.mail.figures["sent"]) == (1, 1)


@pytest.mark.parametrize("address", ["a@[b.c", "a:;@x.y", '<@a.?:"', "(a@b.c", "a,b@c.de"])
def test_an_address_that_is_none_stops_no_mail_behind_it(handling: tuple[Handling, Answering], address: str) -> None:
    """They were taken once; the log may still hold them."""
    run, server = handling
    # Where Python's own parser does not, the server refuses.
    server.answers = ["553 no such address"] if address == "a,b@c.de" else []
    run.handle(request(address), request())
    assert (run.mail.figures["refused"], run.mail.figures["sent"]) == (1, 1)
    assert len(server.taken) == 1


def test_a_deferred_mail_is_tried_again_a_bounded_number_of_times(handling: tuple[Handling, Answering]) -> None:
    run, server = handling
    server.answers = ["451 later"] * 2
    run.handle(request())
    assert (run.mail.figures["sent"], run.slept) == (1, [0.5, 1.0])
    server.answers = ["451 later"] * 5
    run.handle(request(), request(), first=1)
    assert (run.mail.figures["given_up"], run.mail.figures["sent"]) == (1, 2)


def test_while_the_server_is_away_nothing_is_passed_over(
    servers: Settings, monkeypatch: pytest.MonkeyPatch, server: tuple[Answering, str]
) -> None:
    run = Handling(servers, f"smtp://127.0.0.1:{free_port()}", monkeypatch)
    with pytest.raises(DependencyUnavailable):
        run.handle(request())
    assert run.advanced == []
    run.mail = Mail(servers.model_copy(update={"smtp_url": SecretStr(server[1])}))
    run.handle(request())
    assert (len(server[0].taken), len(run.advanced)) == (1, 1)
    run.mail.close()


def test_what_was_sent_before_the_server_went_away_is_not_sent_again(handling: tuple[Handling, Answering]) -> None:
    """Each mail's position is committed with it."""
    run, server = handling
    run.handle(request())
    assert run.mail._smtp is not None
    send = run.mail._smtp.send
    calls = iter((send,))

    def once(message: Any, address: str) -> None:
        call = next(calls, None)
        if call is None:
            raise DependencyUnavailable("gone")
        call(message, address)

    run.mail._smtp.send = once  # type: ignore[method-assign]
    with pytest.raises(DependencyUnavailable):
        run.handle(request(), request(), first=1)
    assert [list(step.values()) for step in run.advanced] == [[1], [2]]
    assert len(server.taken) == 2


async def append(settings: Settings, *facts: tuple[Topic, str, Event]) -> None:
    await log_writing.append(settings, *(
        Record(topic.name, partition_of(key, settings.log.partitions), key, encode(event)) for topic, key, event in facts
    ))


def mailed(settings: Settings, address: str) -> list[Any]:
    return [mail for mail in mails(mail_dir(settings.data_dir)) if mail["To"] == address]


async def test_a_request_becomes_one_mail_whose_token_the_api_takes(servers: Settings, one_writer: Writer) -> None:
    """auth.accounts → derive → notification.mail → SMTP, with what derive appended twice; strangers get nothing."""
    user, stranger = new_id(), f"{new_id()}@example.com"
    address = f"{user}@example.com"
    account, unknown = email_hash(address), email_hash(stranger)
    now = datetime.now(UTC)
    registered = events.AccountRegistered(
        user_id=user, email=address, email_hash=account, password_hash="h", role="sugar_baby", display_name="A",
        birth_date="1990-01-01",
    )
    asked = [
        Event(new_id(), now, name, events.AddressTokenRequested(
            user_id=holder, email_hash=name, purpose="reset", expires_at=now + timedelta(hours=1)
        ))
        for name, holder in ((account, user), (unknown, None))
    ]
    await append(
        servers, (topics.AUTH_ACCOUNTS, account, Event(new_id(), now, account, registered)),
        *((topics.AUTH_ACCOUNTS, event.key, event) for event in asked),
    )
    (mail,) = await eventually(lambda: mailed(servers, address))
    key = bytes.fromhex(servers.auth.account_key.get_secret_value())
    words = mail.get_content().split()
    assert [found for word in words if (found := parse_mail_token(key, "reset", word))] == [(account, asked[0].event_id)]
    mail_id = derived_id(asked[0].event_id, "mail")
    again = events.MailRequested(
        mail_id=mail_id, user_id=user, email_hash=account, address=address, template="reset_password",
        token_id=asked[0].event_id, expires_at=now + timedelta(hours=1),
    )
    last = events.MailRequested(
        mail_id=new_id(), user_id=user, email_hash=account, address=address, template="password_changed"
    )
    await append(
        servers, (topics.NOTIFICATION_MAIL, account, Event(mail_id, now, account, again)),
        (topics.NOTIFICATION_MAIL, account, Event(last.mail_id, now, account, last)),
    )
    await eventually(lambda: len(mailed(servers, address)) == 2)
    assert sorted(found["Subject"] for found in mailed(servers, address)) == ["Choose a new password", "Your password was changed"]
    assert mailed(servers, stranger) == []


async def test_another_password_ends_the_sessions_of_the_rows(servers: Settings, one_writer: Writer) -> None:
    user, kept, gone, later = new_id(), new_id(), new_id(), new_id()
    account = email_hash(f"{user}@example.com")
    now = datetime.now(UTC)

    def session(family: str, sessions_from: int) -> tuple[Topic, str, Event]:
        return topics.AUTH_SESSIONS, family, Event(new_id(), now, family, events.SessionStarted(
            family_id=family, user_id=user, token_hash="00" * 32, expires_at=now + timedelta(days=1), email_hash=account,
            sessions_from=sessions_from, signed_in_at=now, client="a phone",
        ))

    registered = events.AccountRegistered(
        user_id=user, email=f"{user}@example.com", email_hash=account, password_hash="h", role="sugar_baby",
        display_name="A", birth_date="1990-01-01",
    )
    await append(
        servers, (topics.AUTH_ACCOUNTS, account, Event(new_id(), now, account, registered)), session(kept, 0),
        session(gone, 0), session(later, version_of(1_000, 0)),
    )
    with open_rows(servers, "test") as conn:
        def families(condition: str) -> list[str]:
            rows = conn.execute(f"SELECT family_id::text FROM sessions WHERE user_id = %s AND {condition}", (user,))
            return sorted(row[0] for row in rows)

        await eventually(lambda: families("true") == sorted([kept, gone, later]))
        changed = events.PasswordSet(user_id=user, email_hash=account, password_hash="new", kept_family_id=kept)
        await append(servers, (topics.AUTH_ACCOUNTS, account, Event(new_id(), now, account, changed)))
        await eventually(lambda: families("revoked_at IS NOT NULL") == [gone])
        from writers.loads.identity import accounts, signed_in

        row = accounts(conn, [account])[account]
        assert (row.password_hash, row.kept_family, row.sessions_from > 0) == ("new", kept, True)
        found, (operation,) = signed_in(conn, [user])
        assert found == [user]
        listed = operation.args[0]
        assert isinstance(listed, bytes)
        assert (kept in listed.decode(), gone in listed.decode(), later in listed.decode()) == (True, False, True)


async def test_who_gives_way_to_a_confirmed_owner_is_signed_out_and_shown_to_nobody(servers: Settings, one_writer: Writer) -> None:
    old, new, family = new_id(), new_id(), new_id()
    address, now = f"{old}@example.com", datetime.now(UTC)
    account = email_hash(address)
    identity = events.ProviderIdentity(issuer="i", subject=new, nonce_hash="n", nonce_until=now + timedelta(minutes=10))

    def registered(user: str, **more: Any) -> tuple[Topic, str, Event]:
        return topics.AUTH_ACCOUNTS, account, Event(new_id(), now, account, events.AccountRegistered(
            user_id=user, email=address, email_hash=account, role="sugar_baby", display_name="A", birth_date="1990-01-01",
            **more,
        ))

    await append(
        servers, registered(old, password_hash="h", family_id=family, session_expires_at=now + timedelta(days=1)),
    )
    with open_rows(servers, "test") as conn:
        def rows(statement: str, *values: Any) -> list[Any]:
            return conn.execute(statement, values).fetchall()

        await eventually(lambda: rows("SELECT 1 FROM sessions WHERE family_id = %s AND counter = 0", family))
        await append(servers, registered(new, address_verified=True, identity=identity, displaces=old))
        await eventually(lambda: rows("SELECT 1 FROM sessions WHERE family_id = %s AND revoked_at IS NOT NULL", family))
        await eventually(lambda: rows("SELECT 1 FROM identities WHERE user_id = %s", new))
        await eventually(lambda: rows(
            "SELECT 1 FROM users WHERE id = %s AND preferences @> %s::jsonb", old, '{"discoverable": false}'
        ))
        await eventually(lambda: rows("SELECT 1 FROM users WHERE id = %s", new))
        assert rows("SELECT user_id::text, password_hash FROM credentials WHERE email_hash = %s::uuid", account) == [(new, None)]

"""From an event to a device: who gets it, what a kill repeats, and what a provider's answer changes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import log_writing
import msgspec
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from push_server import PushServer, Reply, Request
from pydantic import SecretStr
from typer.testing import CliRunner

from cluster.connections.kafka import Record
from cluster.connections.redis import sync_client
from cluster.launch import push as command
from cluster.launch.cli import app
from configs.contracts import events, topics
from configs.contracts.acknowledged import acknowledge
from configs.contracts.events import Event, encode
from configs.contracts.ids import new_id, partition_of
from configs.contracts.notifying import device_id
from configs.contracts.realtime import delivered_key
from configs.contracts.topics import Topic
from configs.settings import SETTINGS_VARIABLE, Push, Settings
from writers.connections import open_rows
from writers.push import consumer as consumer_module
from writers.push import delivering
from writers.push.outbox import KEPT, KEY, Entry, Outbox
from writers.push.provider import SENT, Message, Target
from writers.worker import Writer

pytestmark = pytest.mark.servers

PEM = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest_asyncio.fixture
async def provider(tmp_path: Path) -> AsyncIterator[PushServer]:
    made = PushServer(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def settings(servers: Settings, provider: PushServer) -> Settings:
    push = Push(
        delay_s=0.3, outbox=True, apns_key_pem=SecretStr(PEM), apns_key_id="K", apns_team_id="T", apns_topic="app",
        apns_url=provider.url, ca_file=str(provider.ca_file),
    )
    return servers.model_copy(update={"plan": servers.plan.model_copy(update={"writer_actors": 1}), "push": push})


@pytest.fixture
def query(settings: Settings) -> Iterator[Callable[..., list[Any]]]:
    with open_rows(settings, "test") as conn:
        yield lambda statement, *values: conn.execute(statement, values).fetchall()


async def eventually(holds: Callable[[], Any]) -> Any:
    async with asyncio.timeout(120):
        while not (found := await asyncio.to_thread(holds)):
            await asyncio.sleep(0.05)
        return found


def claimed(settings: Settings, query: Callable[..., list[Any]]) -> Callable[[], bool]:
    places = settings.log.partitions * len(consumer_module.TOPICS)
    return lambda: query("SELECT count(*) FROM writer_positions WHERE consumer = 'push_apns'") == [(places,)]


@contextmanager
def writing(settings: Settings) -> Iterator[Writer]:
    fenced: list[str] = []
    running = Writer(settings, 0, fenced=fenced.append)
    running.start()
    try:
        yield running
    finally:
        running.stop()
    assert not fenced


@pytest_asyncio.fixture
async def writer(
    settings: Settings, query: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Writer]:
    monkeypatch.setattr(delivering, "CREDENTIALS_WAIT_S", 0.3)
    with writing(settings) as running:
        await eventually(claimed(settings, query))
        yield running


async def append(settings: Settings, *facts: tuple[Topic, str, events.Payload], at: datetime | None = None) -> list[str]:
    """Appends events in this order; their ids."""
    made = [(topic, Event(new_id(), at or datetime.now(UTC), key, payload)) for topic, key, payload in facts]
    await log_writing.append(settings, *(
        Record(topic.name, partition_of(event.key, settings.log.partitions), event.key, encode(event)) for topic, event in made
    ))
    return [event.event_id for _, event in made]


def apple(user: str, token: str) -> tuple[Topic, str, events.Payload]:
    name = device_id("apns", token)
    return topics.NOTIFICATION_DEVICES, name, events.DeviceRegistered(device_id=name, user_id=user, platform="apns", token=token)


def note(user: str, kind: str = "system", notification: str | None = None, **data: str) -> tuple[Topic, str, events.Payload]:
    payload = events.NotificationSent(notification_id=notification or new_id(), user_id=user, kind=kind, title="t", data=data)
    return topics.NOTIFICATION_SEND, user, payload


def text(sender: str, recipient: str, conversation: str, seq: int, content: str = "hi") -> tuple[Topic, str, events.Payload]:
    payload = events.MessageSent(
        message_id=new_id(), conversation_id=conversation, sender_id=sender, recipient_id=recipient, seq=seq, ordinal=seq,
        epoch=1, client_message_id=new_id(), content=content,
    )
    return topics.MESSAGING_MESSAGE_SENT, conversation, payload


async def with_device(settings: Settings, query: Any, *users: str) -> list[str]:
    """Registers an Apple device for each person; the tokens."""
    tokens = [(user + user).replace("-", "") for user in users]
    await append(settings, *(apple(user, token) for user, token in zip(users, tokens, strict=True)))
    await eventually(lambda: query(
        "SELECT count(*) FROM device_tokens WHERE user_id = ANY(%s::uuid[]) AND removed_at IS NULL", list(users)
    ) == [(len(users),)])
    return tokens


def to(provider: PushServer, token: str) -> list[Request]:
    return [request for request in list(provider.requests) if request.path.endswith(token)]


def title(request: Request) -> str:
    return str(json.loads(request.body)["aps"]["alert"]["title"])


Query = Callable[..., list[Any]]


async def test_notifications_and_messages_reach_the_devices_of_their_person(
    settings: Settings, writer: Writer, provider: PushServer, query: Query
) -> None:
    user, other, conversation = new_id(), new_id(), new_id()
    mine, theirs = await with_device(settings, query, user, other)
    await append(settings, note(user, "match"), *(text(other, user, conversation, seq) for seq in (1, 2, 3)))
    found = await eventually(lambda: sent if len(sent := to(provider, mine)) >= 2 else None)
    await asyncio.sleep(1.5)
    assert sorted(map(title, to(provider, mine))) == ["You have a new match", "You have a new message"]
    assert to(provider, theirs) == []
    assert conversation in {request.headers["apns-collapse-id"] for request in found}


async def test_what_a_connected_device_acknowledged_is_not_pushed(
    settings: Settings, writer: Writer, provider: PushServer, query: Query
) -> None:
    user, other, conversation, seen, unseen = (new_id() for _ in range(5))
    (mine,) = await with_device(settings, query, user)
    with sync_client(settings) as client:
        client.hset(delivered_key(user), conversation, 2)
        for command in acknowledge(user, seen, 1):
            client.execute_command(*command)
    await append(
        settings, text(other, user, conversation, 1), text(other, user, conversation, 2),
        note(user, "system", seen), note(user, "system", unseen),
    )
    await eventually(lambda: to(provider, mine))
    # Of messages that come as one batch only the last is looked at.
    await eventually(lambda: writer.describe()["push_apns"]["skipped"].get("acknowledged", 0) >= 2)
    await append(settings, text(other, user, conversation, 3))
    await eventually(lambda: len(to(provider, mine)) == 2)
    pushed = [json.loads(request.body) for request in to(provider, mine)]
    assert [body.get("notificationId") or body["conversationId"] for body in pushed] == [unseen, conversation]
    skips = writer.describe()["push_apns"]["skipped"]
    assert skips["acknowledged"] >= 2


async def test_a_device_that_moved_gets_nothing_of_its_old_account(
    settings: Settings, writer: Writer, provider: PushServer, query: Query
) -> None:
    old, new = new_id(), new_id()
    (token,) = await with_device(settings, query, old)
    await append(settings, apple(new, token))
    await eventually(lambda: query("SELECT 1 FROM device_tokens WHERE user_id = %s", new))
    await append(settings, note(old, "match"), note(new, "super_like"))
    await eventually(lambda: to(provider, token))
    await asyncio.sleep(1.5)
    assert list(map(title, to(provider, token))) == ["Someone super liked you"]


@pytest.mark.parametrize("end", ["expires_at", "revoked_at"])
async def test_a_device_whose_session_has_lapsed_gets_nothing(
    settings: Settings, writer: Writer, provider: PushServer, query: Query, end: str
) -> None:
    """Nobody is signed in there any more, although its registration is still in the rows: nothing has removed it."""
    user, lapsed, kept = new_id(), new_id(), new_id()
    tokens = {family: (family + family).replace("-", "") for family in (lapsed, kept)}
    for family, token in tokens.items():
        query(
            "INSERT INTO sessions (family_id, user_id, counter, expires_at, version) "
            "VALUES (%s, %s, 0, now() + interval '1 hour', 1) RETURNING 1", family, user,
        )
        query(
            "INSERT INTO device_tokens (id, user_id, platform, token, registration, registered_at, version, family_id) "
            "VALUES (%s, %s, 'apns', %s, %s, now(), 1, %s) RETURNING 1", device_id("apns", token), user, token, new_id(), family,
        )
    query(f"UPDATE sessions SET {end} = now() - interval '1 minute' WHERE family_id = %s RETURNING 1", lapsed)
    await append(settings, note(user, "match"))
    await eventually(lambda: to(provider, tokens[kept]))
    await append(settings, note(user, "super_like"))
    await eventually(lambda: len(to(provider, tokens[kept])) == 2)
    assert to(provider, tokens[lapsed]) == []


async def test_a_device_that_its_provider_forgot_is_removed_by_an_event(
    settings: Settings, writer: Writer, provider: PushServer, query: Query
) -> None:
    gone, kept = new_id(), new_id()
    lost, again = await with_device(settings, query, gone, kept)
    past = int((datetime.now(UTC) - timedelta(days=1)).timestamp() * 1_000)
    answers = {lost: b'{"reason": "Unregistered"}', again: json.dumps({"reason": "Unregistered", "timestamp": past}).encode()}
    provider.answer = lambda request: Reply(410, answers[request.path.rsplit("/", 1)[1]])
    await append(settings, note(gone), note(kept))
    await eventually(lambda: query("SELECT 1 FROM device_tokens WHERE user_id = %s AND removed_at IS NOT NULL AND token = ''", gone))
    await eventually(lambda: to(provider, again))
    assert query("SELECT removed_at FROM device_tokens WHERE user_id = %s", kept) == [(None,)], "it registered again since"


@pytest.mark.parametrize("blocks_first", [True, False])
async def test_nothing_of_somebody_blocked_meanwhile_is_pushed(
    settings: Settings, writer: Writer, provider: PushServer, query: Query, blocks_first: bool
) -> None:
    """Messages, matches and sales that waited for the provider when one of the two blocked the other."""
    user, other, stranger = new_id(), new_id(), new_id()
    (token,) = await with_device(settings, query, user)
    one, blocked = (user, other) if blocks_first else (other, user)
    await append(settings, (topics.USER_UPDATED, one, events.UserBlocked(user_id=one, blocked_id=blocked)))
    await eventually(lambda: query("SELECT 1 FROM blocks WHERE user_id = %s AND active", one))
    await append(
        settings, text(other, user, new_id(), 1), note(user, "match", userId=other), note(user, "tip", userId=other),
        note(user, "like", userId="nobody's id"), note(user, "super_like", userId=stranger),
    )
    await eventually(lambda: len(to(provider, token)) == 2)
    await eventually(lambda: writer.describe()["push_apns"]["skipped"].get("blocked", 0) >= 3)
    assert sorted(map(title, to(provider, token))) == ["Someone likes you", "Someone super liked you"]


async def test_what_is_old_is_never_pushed(settings: Settings, writer: Writer, provider: PushServer, query: Query) -> None:
    """As after a restored backup: what people were told long ago is not told again."""
    user = new_id()
    (token,) = await with_device(settings, query, user)
    await append(settings, note(user, "match"), at=datetime.now(UTC) - timedelta(hours=2))
    await append(settings, note(user, "super_like"))
    await eventually(lambda: to(provider, token))
    assert list(map(title, to(provider, token))) == ["Someone super liked you"]
    assert writer.describe()["push_apns"]["skipped"]["too_old"] >= 1


async def test_refused_keys_stop_pushing_and_say_so_and_nothing_is_lost(
    settings: Settings, writer: Writer, provider: PushServer, query: Query
) -> None:
    user = new_id()
    (token,) = await with_device(settings, query, user)
    provider.answer = lambda request: Reply(403, b'{"reason": "InvalidProviderToken"}')
    await append(settings, note(user, "match"))
    await eventually(lambda: "InvalidProviderToken" in writer.describe()["push_apns"]["state"])
    assert writer.ready
    provider.answer = lambda request: Reply()
    await eventually(lambda: writer.describe()["push_apns"]["state"] == "running")
    assert len(to(provider, token)) >= 2


async def test_platforms_without_keys_go_to_the_outbox_without_their_token(
    settings: Settings, writer: Writer, query: Query
) -> None:
    user = new_id()
    token = f"fcm-{user}"
    name = device_id("fcm", token)
    registered = events.DeviceRegistered(device_id=name, user_id=user, platform="fcm", token=token)
    await append(settings, (topics.NOTIFICATION_DEVICES, name, registered))
    await eventually(lambda: query("SELECT 1 FROM device_tokens WHERE user_id = %s", user))
    await append(settings, note(user, "match"))

    def kept() -> list[bytes]:
        with sync_client(settings) as client:
            values: Any = client.lrange(KEY, 0, -1)
        return [value for value in values if user.encode() in value]

    (value,) = await eventually(kept)
    assert token.encode() not in value
    entry = msgspec.json.decode(value, type=Entry)
    assert (entry.platform, entry.title, entry.device_id) == ("fcm", "You have a new match", name)


KILLED = """
import os, sys, time
from configs.settings import load_settings
from writers.push import consumer
from writers.worker import Writer

writer, advance = Writer(load_settings(), 0), consumer.advance

def killed_once_it_has_sent(*args):
    if writer.describe()["push_apns"]["delivered"].get("sent"):
        os._exit(9)
    advance(*args)

consumer.advance = killed_once_it_has_sent
writer.start()
time.sleep(150)
"""


async def test_a_writer_killed_between_sending_and_committing_sends_again_under_the_same_ids(
    settings: Settings, provider: PushServer, query: Query, tmp_path: Path
) -> None:
    user, other, conversation = new_id(), new_id(), new_id()
    with writing(settings):
        await eventually(claimed(settings, query))
        (token,) = await with_device(settings, query, user)
    await append(settings, note(user, "match"), text(other, user, conversation, 1))
    path = tmp_path / "settings.json"
    path.write_text(settings.dump())
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", KILLED], env=os.environ | {SETTINGS_VARIABLE: str(path)}, timeout=180,
        check=False, capture_output=True,
    )
    assert done.returncode == 9, done.stderr.decode()[-2_000:]
    before = to(provider, token)
    assert before, "it was killed after it had sent"
    with writing(settings):
        await eventually(lambda: len({request.headers["apns-id"] for request in to(provider, token)[len(before):]}) == 2)
    after = to(provider, token)[len(before):]

    def sent(requests: list[Request]) -> set[tuple[str, str, bytes]]:
        return {(request.headers["apns-id"], request.headers["apns-collapse-id"], request.body) for request in requests}

    assert sent(before) <= sent(after)
    assert len(after) == len(sent(after)) == 2


async def test_the_command_lists_the_outbox_newest_first(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = new_id()
    outbox = Outbox(settings, frozenset({"fcm"}))
    for number in range(KEPT + 5):
        device = Target("d", user, "fcm", "token", None, None, "r", datetime.now(UTC))
        expires = datetime.now(UTC) + timedelta(hours=1)
        assert await outbox.send(device, Message(f"push-{number}", "c", "Title", None, {}, expires)) == SENT
    await outbox.close()
    monkeypatch.setattr(command, "running_settings", lambda data_dir: settings)
    done = await asyncio.to_thread(CliRunner().invoke, app, ["push", "--json", "--limit", "200", "--data-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    listed = [json.loads(line)["pushId"] for line in done.output.splitlines()]
    assert listed[:2] == [f"push-{KEPT + 4}", f"push-{KEPT + 3}"]
    assert len(listed) == KEPT
    told = await asyncio.to_thread(CliRunner().invoke, app, ["push", "--data-dir", str(tmp_path)])
    assert "with keys: apns; the outbox is on" in told.output

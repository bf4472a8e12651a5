"""Two gateways with real sockets: who hears what, who may do what, and how sockets end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
import websockets
from api_world import Shards, World
from realtime_world import Device, RunningGateway, match
from redis.asyncio import Redis

from actors.realtime import watching
from actors.realtime.gateway import TICK_S
from actors.realtime.presence import Presences
from actors.sessions.revocations import STALE_S
from actors.sharding.client import ActorPool
from cluster.connections.redis import apply_async
from cluster.launch.ports import is_free
from configs.contracts import realtime
from configs.contracts.acknowledged import acknowledged_key
from configs.contracts.albums import put_media
from configs.contracts.frames import (
    FRAME_BYTES,
    NOT_AUTHENTICATED_IN_TIME,
    POLICY,
    RESTARTING,
    TOO_BIG,
    TOO_MANY_DEVICES,
    TRY_LATER,
    UNAUTHENTICATED,
    UNSUPPORTED_DATA,
)
from configs.contracts.ids import new_id
from configs.contracts.media import MediaRecord
from configs.contracts.rates import limit_key
from configs.contracts.realtime import DEVICES, frames_channel
from configs.settings import Realtime, Settings

pytestmark = pytest.mark.servers

IMPATIENT = Realtime(authenticate_s=0.5, ping_interval_s=0.4, ping_timeout_s=0.4, drain_s=0.1, outbox_frames=8)


@pytest_asyncio.fixture
async def make_gateway(servers: Settings, shards: Shards) -> AsyncIterator[Any]:
    """Starts gateways; keyword arguments replace realtime settings."""
    died: list[str] = []
    pool = ActorPool(servers, resolve=shards.handle)
    made: list[RunningGateway] = []

    async def make(realtime: Realtime = servers.realtime) -> RunningGateway:
        settings = servers.model_copy(update={"realtime": realtime})
        made.append(await RunningGateway(settings, f"gateway-{new_id()[-6:]}", pool, died).start())
        return made[-1]

    yield make
    for gateway in made:
        await gateway.close()
    assert died == []


@pytest_asyncio.fixture(scope="session")
async def gateways(servers: Settings, shards: Shards) -> AsyncIterator[tuple[RunningGateway, RunningGateway]]:
    """Two gateways that every test may use and none may end."""
    died: list[str] = []
    pool = ActorPool(servers, resolve=shards.handle)
    made = [await RunningGateway(servers, f"gateway-{slot}", pool, died).start() for slot in range(2)]
    yield made[0], made[1]
    for gateway in made:
        await gateway.close()
    assert died == []


@pytest_asyncio.fixture
async def pair(gateways: tuple[RunningGateway, RunningGateway], world: World) -> AsyncIterator[Any]:
    """Two people in conversation, each on a gateway of their own."""
    one, other = gateways
    await announced(world)
    ada, ben, conversation = await match(world)
    hers, his = await Device.open(ada, one.url), await Device.open(ben, other.url)
    yield hers, his, conversation, one, other
    await hers.close()
    await his.close()


async def announced(world: World) -> None:
    """Returns when gateways are known to the API."""
    async with asyncio.timeout(20):
        while not await world.dependencies.redis.hlen("gateways"):
            await asyncio.sleep(0.05)


async def send(device: Device, conversation: str, content: str, client: str | None = None) -> dict[str, Any]:
    client = client or new_id()
    await device.send("send", conversationId=conversation, clientMessageId=client, content=content)
    return await device.got("ack", clientMessageId=client)


async def test_a_message_reaches_every_device_of_both_once_and_in_order(pair: Any) -> None:
    hers, his, conversation, one, _ = pair
    second = await Device.open(his.person, one.url)
    acks = [await send(hers if number % 3 else his, conversation, f"text {number}") for number in range(12)]
    assert [ack["seq"] for ack in acks] == list(range(1, 13))
    for device in (hers, his, second):
        await device.got("message", seq=12)
        assert [frame["content"] for frame in device.of("message")] == [f"text {number}" for number in range(12)]
    [first] = [frame for frame in his.of("message") if frame["seq"] == 1]
    assert (first["messageId"], first["sentAt"]) == (acks[0]["messageId"], acks[0]["sentAt"])
    await second.close()


async def test_a_resend_gets_the_first_answer_and_another_text_under_its_id_a_conflict(pair: Any) -> None:
    hers, his, conversation, _, _ = pair
    first = await send(hers, conversation, "once", "same")
    await hers.send("send", conversationId=conversation, clientMessageId="same", content="once")
    await hers.until(lambda: len(hers.of("ack")) == 2)
    assert hers.of("ack") == [first, first]
    await hers.send("send", conversationId=conversation, clientMessageId="same", content="twice", ref="r1")
    assert (await hers.got("error", clientMessageId="same", ref="r1"))["code"] == "conflict"
    await send(hers, conversation, "after")
    await his.got("message", content="after")
    assert {frame["seq"] for frame in his.of("message")} == {1, 2}


async def test_attachments_are_told_as_ids_and_those_of_others_refused(pair: Any, world: World) -> None:
    hers, his, conversation, _, _ = pair
    media = new_id()
    await apply_async(world.dependencies.redis, [put_media(MediaRecord(media, hers.person.user_id, "image", state="uploaded"), 1)])
    frame: dict[str, Any] = {"conversationId": conversation, "content": "", "attachments": [media]}
    await his.send("send", **frame, clientMessageId="not-his")
    assert (await his.got("error", clientMessageId="not-his"))["code"] == "media_unknown"
    await hers.send("send", **frame, clientMessageId="hers")
    told = await his.got("message", seq=1)
    assert (told["attachments"], told["content"]) == ([media], "")
    await hers.send("send", **frame | {"attachments": []}, clientMessageId="empty")
    assert (await hers.got("error", clientMessageId="empty"))["code"] == "invalid"


async def test_what_is_sent_by_http_reaches_sockets(pair: Any) -> None:
    hers, his, conversation, _, _ = pair
    await hers.person.ok("POST", "/messaging/send", json={
        "conversationId": conversation, "content": "by HTTP", "clientMessageId": "h1"
    })
    for device in (hers, his):
        assert (await device.got("message", content="by HTTP"))["senderId"] == hers.person.user_id


async def test_read_and_delivered_marks_are_told_and_only_move_forward(pair: Any, world: World) -> None:
    hers, his, conversation, _, _ = pair
    for number in range(3):
        await send(hers, conversation, str(number))
    await his.send("delivered", conversationId=conversation, seq=3)
    await hers.got("delivered", seq=3, userId=his.person.user_id)
    await his.send("delivered", conversationId=conversation, seq=2)
    await his.send("read", conversationId=conversation, seq=2)
    await hers.got("read", seq=2, userId=his.person.user_id)
    await his.send("read", conversationId=conversation, seq=1)
    await his.send("read", conversationId=conversation, seq=3)
    await hers.got("read", seq=3, userId=his.person.user_id)
    await hers.settled()
    assert [frame["seq"] for frame in hers.of("delivered")] == [3]
    assert [frame["seq"] for frame in hers.of("read")] == [2, 3]
    await his.send("delivered", conversationId=conversation, seq=4, ref="future")
    await his.send("read", conversationId=conversation, seq=4, ref="unwritten")
    for ref in ("future", "unwritten"):
        assert (await his.got("error", ref=ref))["code"] == "invalid", "a mark on what nobody wrote"


async def test_metrics_hold_the_figures_of_every_gateway(pair: Any, world: World) -> None:
    hers, his, conversation, _, _ = pair
    await send(hers, conversation, "counted")
    await his.got("message", content="counted")

    async def figures() -> dict[str, float]:
        text = (await world.client.get("/metrics")).text
        return {
            line.partition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines() if line.startswith("sugar_gateway{")
        }

    async with asyncio.timeout(10):
        while True:
            found = await figures()
            said = {of: found.get(f'sugar_gateway{{gateway="gateway-0",of="{of}"}}', -1) for of in ("sockets", "told", "frames")}
            if min(said.values()) >= 1:
                break
            await asyncio.sleep(0.1)
    assert found['sugar_gateway{gateway="gateway-1",of="overflowed"}'] >= 0


async def test_typing_is_told_to_the_other_member_only(pair: Any) -> None:
    hers, his, conversation, _, _ = pair
    await hers.send("typing", conversationId=conversation)
    assert await his.got("typing") == {"type": "typing", "conversationId": conversation, "userId": hers.person.user_id}
    await hers.settled()
    assert not hers.of("typing")


async def test_a_notification_that_a_device_shows_is_noted_for_push(pair: Any, world: World) -> None:
    hers, _, _, _, _ = pair
    shown = new_id()
    await hers.send("notification", notificationId=shown)
    await hers.settled()
    assert await world.dependencies.redis.zrange(acknowledged_key(hers.person.user_id), 0, -1) == [shown.encode()]


async def test_presence_follows_the_other_members_devices_on_any_gateway(pair: Any) -> None:
    hers, his, conversation, one, other = pair
    await hers.send("presence", conversationIds=[conversation])
    told = await hers.got("presence", online=True)
    assert (told["lastActiveBucket"], told.get("lastSeq", 0)) == ("now", 0)
    second = await Device.open(his.person, one.url)
    await his.close()
    await asyncio.sleep(1.5)
    assert not [frame for frame in hers.of("presence") if not frame["online"]], "a device is still there"
    await second.close()
    assert (await hers.got("presence", online=False))["lastActiveBucket"] == "now"
    back = await Device.open(his.person, other.url)
    await hers.until(lambda: len(hers.of("presence")) == 3)
    assert hers.of("presence")[-1]["online"]
    await back.close()


async def test_who_watches_a_conversation_learns_how_far_it_is_whatever_lists_say(pair: Any) -> None:
    """What was told before a socket was ready, and is in no list yet, is not missed."""
    hers, his, conversation, _, other = pair
    for text in ("one", "two"):
        await send(hers, conversation, text)
    back = await Device.open(his.person, other.url)
    assert (await back.got("ready"))["syncAgainMs"] > 0
    await back.send("presence", conversationIds=[conversation])
    assert (await back.got("presence"))["lastSeq"] == 2
    await back.close()


async def test_whoever_was_on_a_killed_gateway_is_away_within_15_seconds(
    pair: Any, make_gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert realtime.GATEWAY_LIFE_MS / 1_000 + TICK_S + watching.LOOK_SOON_S + 1 <= 15
    monkeypatch.setattr(realtime, "GATEWAY_LIFE_MS", 3_000)
    monkeypatch.setattr(watching, "LOOK_SOON_S", 2.0)
    hers, his, conversation, one, _ = pair
    lost = await make_gateway()
    device = await Device.open(his.person, lost.url)
    await his.close()
    await hers.send("presence", conversationIds=[conversation])
    await hers.until(lambda: [frame["online"] for frame in hers.of("presence")[-1:]] == [True])
    for task in lost.gateway._tasks:
        task.cancel()  # as a killed one, it says nothing any more, and nobody says of its devices that they are gone
    await hers.until(lambda: not hers.of("presence")[-1]["online"])
    back = await Device.open(his.person, one.url)
    await hers.until(lambda: hers.of("presence")[-1]["online"])
    await back.close()
    await device.close()


async def test_an_outsider_can_do_nothing_and_learns_nothing(pair: Any, world: World) -> None:
    hers, his, conversation, one, _ = pair
    await send(hers, conversation, "private")
    eve = await Device.open(await world.register(), one.url)
    await eve.send("send", conversationId=conversation, clientMessageId="e", content="hi", ref="send")
    await eve.send("read", conversationId=conversation, seq=1, ref="read")
    await eve.send("delivered", conversationId=conversation, seq=1, ref="delivered")
    await eve.send("typing", conversationId=conversation, ref="typing")
    for ref in ("send", "read", "delivered", "typing"):
        assert (await eve.got("error", ref=ref))["code"] == "not_found"
    await eve.send("typing", conversationId=new_id(), ref="unknown")
    known, unknown = await eve.got("error", ref="typing"), await eve.got("error", ref="unknown")
    assert {**known, "ref": ""} == {**unknown, "ref": ""}, "an outsider can tell what exists"
    await eve.send("presence", conversationIds=[conversation])
    await eve.settled()
    assert {frame["type"] for frame in eve.frames} == {"ready", "error", "pong"}
    await hers.settled()
    assert {frame["type"] for frame in his.frames} <= {"ready", "message"}
    await eve.close()


async def test_after_a_block_neither_side_tells_the_other_anything(pair: Any) -> None:
    hers, his, conversation, one, _ = pair
    await his.send("presence", conversationIds=[conversation])
    await his.got("presence", online=True)
    before = len(his.frames)
    await hers.person.ok("POST", f"/users/{his.person.user_id}/block")
    await his.send("send", conversationId=conversation, clientMessageId="late", content="please", ref="send")
    await his.send("typing", conversationId=conversation, ref="typing")
    assert (await his.got("error", ref="send"))["code"] == "not_found"
    assert (await his.got("error", ref="typing"))["code"] == "not_found"
    second = await Device.open(hers.person, one.url)
    await hers.close()
    await second.close()
    await asyncio.sleep(1.5)
    await his.settled()
    told = his.frames[before:]
    assert {frame["type"] for frame in told} == {"error", "pong", "match"}, "presence was told after the block"
    assert {frame["status"] for frame in told if frame["type"] == "match"} == {"ended"}


async def test_a_ticket_opens_one_socket(gateways: Any, world: World) -> None:
    gateway, _ = gateways
    await announced(world)
    ada = await world.register()
    issued = await ada.ok("POST", "/messaging/ws-ticket")
    assert issued["url"].startswith("ws://")
    assert issued["expiresIn"] == 30
    first = await websockets.connect(f"{gateway.url}?ticket={issued['ticket']}")
    assert json.loads(await first.recv())["type"] == "ready"
    second = await websockets.connect(f"{gateway.url}?ticket={issued['ticket']}")
    assert json.loads(await second.recv())["code"] == "unauthenticated"
    await second.wait_closed()
    assert second.close_code == UNAUTHENTICATED.code
    await first.close()


@pytest.mark.parametrize(("ages_ms", "named"), [
    ((0, realtime.GATEWAY_LATE_MS + 200), {"0"}), ((realtime.GATEWAY_LATE_MS + 200,), {"0"}),
    ((realtime.GATEWAY_STALE_MS,), set()), ((), set()),
])
async def test_a_gateway_that_is_late_is_only_named_while_none_is_younger(
    world: World, monkeypatch: pytest.MonkeyPatch, ages_ms: tuple[int, ...], named: set[str]
) -> None:
    ada = await world.register()

    async def raw(*commands: Any) -> list[Any]:
        assert commands == (("HGETALL", realtime.GATEWAYS),)
        now_ms = int(time.time() * 1_000)
        return [[part for number, age_ms in enumerate(ages_ms) for part in (b"name", msgspec.json.encode(
            realtime.GatewayEntry(url=str(number), sockets=0, draining=False, at_ms=now_ms - age_ms)
        ))]]

    monkeypatch.setattr(world.dependencies.reads, "raw", raw)
    answers = [await ada.ask("POST", "/messaging/ws-ticket") for _ in range(20)]
    assert {answer.json()["url"] for answer in answers if answer.status_code == 200} == named
    assert {answer.status_code for answer in answers} == {200 if named else 503}


@pytest.mark.parametrize("how", ["ticket", "accessToken", "service", "nonsense"])
async def test_the_first_frame_may_say_who_it_is(gateways: Any, world: World, how: str) -> None:
    gateway, _ = gateways
    await announced(world)
    ada = await world.register()
    word = {
        "ticket": (await ada.ok("POST", "/messaging/ws-ticket"))["ticket"], "accessToken": ada.access_token,
        "service": world.dependencies.tokens.issue_service("a service", 60), "nonsense": "x.y.z",
    }[how]
    async with websockets.connect(gateway.url) as connection:
        await connection.send(json.dumps({"type": "authenticate", "ticket" if how == "ticket" else "accessToken": word}))
        answer = json.loads(await connection.recv())
        if how in ("ticket", "accessToken"):
            assert (answer["type"], answer["userId"]) == ("ready", ada.user_id)
        else:
            assert answer["code"] == "unauthenticated"
            await connection.wait_closed()
            assert connection.close_code == UNAUTHENTICATED.code


async def test_a_socket_ends_within_five_seconds_of_logout(pair: Any) -> None:
    hers, his, _, _, _ = pair
    began = time.monotonic()
    await hers.person.ok("POST", "/auth/logout")
    assert await hers.closed() == UNAUTHENTICATED.code
    assert time.monotonic() - began < 5
    await his.settled()


@pytest.mark.parametrize("how", ["ticket", "accessToken"])
async def test_a_changed_password_ends_the_sockets_of_other_sessions_that_no_row_holds_yet(
    gateways: Any, world: World, how: str
) -> None:
    gateway, _ = gateways
    await announced(world)
    ada = await world.register()
    signed_in = (await world.client.post(
        "/api/v1/auth/login", json={"email": ada.email, "password": ada.password}
    )).json()
    elsewhere = replace(ada, access_token=signed_in["accessToken"])
    kept, ended = await Device.open(ada, gateway.url), await Device.open(elsewhere, gateway.url)
    if how == "accessToken":
        await ended.send("authenticate", accessToken=elsewhere.access_token)
        await ended.until(lambda: len(ended.of("ready")) == 2)
    body = {"currentPassword": ada.password, "newPassword": "another correct horse"}
    await ada.ok("POST", "/auth/password/change", json=body)
    assert await ended.closed() == UNAUTHENTICATED.code
    await kept.settled()
    await kept.close()


async def test_a_socket_ends_with_its_access_token_unless_a_fresh_one_comes(
    gateways: Any, make_world: Any, servers: Settings
) -> None:
    gateway, _ = gateways
    world = await make_world()
    await announced(world)
    ada = await world.register()
    family = world.dependencies.tokens.verify(ada.access_token).family_id
    clock = world.dependencies.tokens._clock
    world.dependencies.tokens._clock = lambda: clock() - servers.auth.access_ttl_s + 3
    ada.access_token = world.dependencies.tokens.issue(ada.user_id, family)
    prolonged, left = [await Device.open(ada, gateway.url) for _ in range(2)]
    world.dependencies.tokens._clock = clock
    await prolonged.send("authenticate", accessToken=world.dependencies.tokens.issue(ada.user_id, family))
    await prolonged.until(lambda: len(prolonged.of("ready")) == 2)
    assert await left.closed() == UNAUTHENTICATED.code
    eve = await world.register()
    await prolonged.send("authenticate", accessToken=eve.access_token)
    assert (await prolonged.got("error"))["code"] == "unauthenticated"
    await prolonged.settled()
    await prolonged.close()


async def test_a_new_device_past_the_bound_closes_the_oldest_wherever_it_is(gateways: Any, world: World) -> None:
    one, other = gateways
    await announced(world)
    ada = await world.register()
    devices = [await Device.open(ada, (one, other)[number % 2].url) for number in range(DEVICES)]
    newest = await Device.open(ada, other.url)
    assert await devices[0].closed() == TOO_MANY_DEVICES.code
    for device in (*devices[1:], newest):
        await device.settled()
        await device.close()


async def test_a_thousand_devices_of_one_person_are_their_newest_ten_and_leave_everybody_else_alone(
    pair: Any, world: World
) -> None:
    hers, his, conversation, one, other = pair
    mallory = await world.register()
    ever: set[str] = set()
    standing: set[str] = set()
    ended: list[int | None] = []
    at_once = asyncio.Semaphore(40)

    async def stay(number: int) -> None:
        connection_id = ""
        async with at_once:
            connection = await websockets.connect((one, other)[number % 2].url, compression=None, close_timeout=0.1)
            with suppress(websockets.ConnectionClosed):  # by a newer device
                await connection.send(json.dumps({"type": "authenticate", "accessToken": mallory.access_token}))
                connection_id = json.loads(await connection.recv())["connectionId"]
                ever.add(connection_id)
                standing.add(connection_id)
        await connection.wait_closed()
        standing.discard(connection_id)
        ended.append(connection.close_code)

    devices = [asyncio.create_task(stay(number)) for number in range(1_000)]
    async with asyncio.timeout(60):
        sent = 0
        while len(ended) < 1_000 - DEVICES or len(standing) < DEVICES:
            await send(hers, conversation, f"meanwhile {sent}")
            sent += 1
            await asyncio.sleep(0.1)
        await his.got("message", content=f"meanwhile {sent - 1}")
    assert set(ended) == {TOO_MANY_DEVICES.code}
    assert standing == set(sorted(ever)[-DEVICES:])
    assert {name.encode() for name in standing} == set(await world.dependencies.redis.zrange(
        realtime.devices_key(mallory.user_id), 0, -1
    ))
    assert [frame["content"] for frame in his.of("message")] == [f"meanwhile {number}" for number in range(sent)]
    await hers.settled()
    for device in devices:
        device.cancel()
    await asyncio.gather(*devices, return_exceptions=True)


async def test_a_device_that_did_not_hear_that_it_was_closed_hears_it_again(gateways: Any, world: World) -> None:
    gateway, _ = gateways
    await announced(world)
    ada = await world.register()
    first = await Device.open(ada, gateway.url)
    presences, now_ms = Presences(world.dependencies.reads), int(time.time() * 1_000)
    newer = [realtime.connection_name(now_ms + number, "elsewhere", number) for number in range(1, DEVICES + 1)]
    over = [name for each in newer for name in (await presences.attach(ada.user_id, each)).over]
    first_id = (await first.got("ready"))["connectionId"]
    assert over == [first_id], "and nobody says so"
    await first.settled()
    await presences.refresh([(ada.user_id, first_id)])
    assert await first.closed() == TOO_MANY_DEVICES.code
    kept = {name.decode() for name in await world.dependencies.redis.zrange(realtime.devices_key(ada.user_id), 0, -1)}
    assert kept == set(newer)


# -- bad input


@pytest.mark.parametrize("text", ["{", "[]", "nonsense", '{"type":"dance"}', '{"type":"send"}', "\x00", '{"type":"ping","a":1}'])
async def test_what_is_no_frame_gets_an_error_and_the_socket_lives(pair: Any, text: str) -> None:
    hers, _, _, _, _ = pair
    await hers.connection.send(text)
    assert (await hers.got("error"))["code"] in ("malformed_frame", "unknown_type", "invalid")
    await hers.settled()


async def test_a_client_whose_clock_lies_is_not_asked_for_the_time(pair: Any) -> None:
    hers, his, conversation, _, _ = pair
    message = {"conversationId": conversation, "clientMessageId": "c1", "content": "from the past"}
    await hers.send("send", **message, sentAt="1999-12-31T23:59:59Z")
    assert (await hers.got("error"))["code"] == "invalid"
    answer = await hers.person.ask("POST", "/messaging/send", json=message | {"sentAt": "2099-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    began = time.time()
    await hers.send("send", **message)
    sent_at = datetime.fromisoformat((await his.got("message", seq=1))["sentAt"]).timestamp()
    assert began - 1 <= sent_at <= time.time() + 1, "the time is the shard's"


async def test_binary_frames_and_frames_too_large_end_the_socket(pair: Any) -> None:
    hers, his, _, _, _ = pair
    await hers.connection.send(b"\x00\x01")
    assert await hers.closed() == UNSUPPORTED_DATA.code
    await his.connection.send("x" * (FRAME_BYTES + 1))
    assert await his.closed() == TOO_BIG.code


async def test_too_many_frames_are_refused_and_who_goes_on_is_closed(pair: Any, servers: Settings) -> None:
    hers, his, conversation, _, _ = pair
    for _ in range(200):
        await hers.send("typing", conversationId=conversation)
    assert (await hers.got("error", code="too_many_requests"))["retryAfterMs"] > 0
    assert await hers.closed() == POLICY.code
    await his.settled()


async def test_who_has_sent_too_many_messages_is_told_how_long_to_wait_and_nobody_else_is(pair: Any, world: World) -> None:
    hers, his, conversation, _, _ = pair
    # As if all of a minute's were sent within the last quarter of it: the next one may go in some 15 s.
    used_up_ms = int(time.time() * 1_000) + 75_000
    await world.dependencies.redis.set(limit_key("messages", hers.person.user_id), used_up_ms, px=60_000)
    message = {"conversationId": conversation, "clientMessageId": "m1", "content": "one more"}
    await hers.send("send", **message)
    refused = await hers.got("error", clientMessageId="m1")
    assert refused["code"] == "too_many_requests"
    assert 5_000 <= refused["retryAfterMs"] <= 20_000
    answer = await hers.person.ask("POST", "/messaging/send", json=message)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
    assert 5 <= int(answer.headers["retry-after"]) <= 20
    assert (await send(his, conversation, "mine goes"))["seq"] == 1
    await world.dependencies.redis.delete(limit_key("messages", hers.person.user_id))
    await hers.send("send", **message)
    assert (await hers.got("ack", clientMessageId="m1"))["seq"] == 2, "nothing was recorded before"


async def test_who_does_not_say_who_they_are_or_never_asks_for_a_socket_is_cut(make_gateway: Any) -> None:
    gateway = await make_gateway(IMPATIENT)
    async with websockets.connect(gateway.url) as silent:
        await asyncio.wait_for(silent.wait_closed(), 5)
        assert silent.close_code == NOT_AUTHENTICATED_IN_TIME.code
    address = ("127.0.0.1", gateway.server.port)
    for begun in (b"", b"GET /api/v1/messaging/ws HTTP/1.1\r\nHost: x\r\n"):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(begun)
        assert await asyncio.wait_for(reader.read(), 5) == b"", "half of a handshake held a connection"
        writer.close()


async def test_a_half_open_connection_is_found_by_pings(make_gateway: Any, world: World) -> None:
    gateway = await make_gateway(IMPATIENT)
    await announced(world)
    ada = await world.register()
    device = await Device.open(ada, gateway.url)
    # The peer's machine is gone: nothing is read, answered or closed any more.
    device.connection.transport.pause_reading()
    async with asyncio.timeout(20):
        while gateway.gateway.describe()["sockets"]:
            await asyncio.sleep(0.05)
    device.connection.transport.abort()
    await device.close()


async def test_a_slow_consumer_is_closed_and_the_others_get_everything(
    make_gateway: Any, world: World
) -> None:
    gateway = await make_gateway(Realtime(outbox_frames=8, ping_timeout_s=60))
    await announced(world)
    ada = await world.register()
    slow, well = await Device.open(ada, gateway.url), await Device.open(ada, gateway.url)
    slow.connection.transport.pause_reading()
    payload = b'{"type":"notification","filler":"' + b"x" * 50_000 + b'"}'
    redis: Redis = world.dependencies.redis
    for number in range(400):
        await redis.execute_command("SPUBLISH", frames_channel(ada.user_id), payload)
        if number % 20 == 0:
            await well.settled()
    async with asyncio.timeout(10):
        while gateway.gateway.describe()["sockets"] == 2:
            await asyncio.sleep(0.05)
    slow.connection.transport.resume_reading()
    await slow.connection.wait_closed()
    assert slow.connection.close_code in (TRY_LATER.code, 1006), "cut, or told when it took the rest in time"
    await well.until(lambda: len(well.of("notification")) == 400)
    await well.close()


async def test_requests_that_are_no_socket_and_other_paths_are_refused(gateways: Any) -> None:
    gateway, _ = gateways
    root = gateway.url.replace("ws://", "http://").replace("/api/v1/messaging/ws", "")
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{root}/health")).status_code == 200
        assert (await client.get(f"{root}/api/v1/messaging/ws")).status_code == 426
        assert (await client.post(f"{root}/", json={})).status_code == 426
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(root.replace("http", "ws") + "/elsewhere")
    assert refused.value.response.status_code == 404


async def test_a_full_gateway_refuses_and_keeps_those_it_has(make_gateway: Any, world: World) -> None:
    gateway = await make_gateway(Realtime(sockets=1))
    await announced(world)
    ada = await world.register()
    device = await Device.open(ada, gateway.url)
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(gateway.url)
    assert refused.value.response.status_code == 503
    assert "retry-after" in refused.value.response.headers
    await device.settled()
    await device.close()


# -- Redis


async def test_a_replaced_subscription_is_announced_and_hears_everything_again(pair: Any, world: World) -> None:
    hers, his, conversation, _, _ = pair
    await world.dependencies.redis.execute_command("CLIENT", "KILL", "TYPE", "PUBSUB")
    for device in (hers, his):
        assert 0 <= (await device.got("resync", reason="gap"))["afterMs"] < 5_000
    await send(hers, conversation, "after the gap")
    await his.got("message", content="after the gap")


async def test_while_revocations_are_unknown_nobody_does_or_hears_anything_and_then_syncs(
    make_gateway: Any, world: World
) -> None:
    gateway = await make_gateway()
    await announced(world)
    ada, ben, conversation = await match(world)
    hers, his = await Device.open(ada, gateway.url), await Device.open(ben, gateway.url)
    revocations = gateway.gateway._revocations
    revocations._steady = lambda: time.monotonic() + STALE_S + 1
    await asyncio.sleep(0)
    await hers.send("send", conversationId=conversation, clientMessageId="m", content="unheard", ref="r")
    refused = await hers.got("error", ref="r")
    assert (refused["code"], refused["clientMessageId"]) == ("dependency_unavailable", "m")
    await world.dependencies.redis.execute_command("SPUBLISH", frames_channel(ben.user_id), b'{"type":"told"}')
    await asyncio.sleep(0.3)
    async with websockets.connect(gateway.url) as stranger:
        await stranger.send(json.dumps({"type": "authenticate", "accessToken": ada.access_token}))
        await asyncio.wait_for(stranger.wait_closed(), 5)
        assert stranger.close_code == TRY_LATER.code
    revocations._steady = time.monotonic
    await his.got("resync", reason="unavailable")
    assert not his.of("told")
    await send(hers, conversation, "heard")
    await his.got("message", content="heard")
    await hers.close()
    await his.close()


# -- leaving


async def test_a_leaving_gateway_sends_clients_elsewhere_and_frees_its_port(
    pair: Any, world: World, make_gateway: Any
) -> None:
    elsewhere, his, conversation, other, _ = pair
    one = await make_gateway()
    hers = await Device.open(elsewhere.person, one.url)
    await one.gateway.drain()
    assert 0 <= (await hers.got("reconnect"))["afterMs"] <= 5_000
    assert await hers.closed() == RESTARTING.code
    with pytest.raises((websockets.InvalidStatus, OSError)):
        await websockets.connect(one.url)
    port = one.server.port
    await one.server.stop()
    assert is_free(port)
    urls = {(await his.person.ok("POST", "/messaging/ws-ticket"))["url"] for _ in range(20)}
    assert one.url not in urls
    again = await Device.open(hers.person, other.url)
    await send(his, conversation, "still here")
    await again.got("message", content="still here")
    await again.close()

"""Frames, clients and gateways that do not behave: each has its answer, and everybody else is left alone."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from typing import Any

import pytest
import websockets
from api_world import World
from local_http import local_client
from realtime_world import Device, announced, match, send
from redis.asyncio import Redis

from actors.sessions.revocations import STALE_S
from cluster.embedded.ports import is_free
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.frames import (
    FRAME_BYTES,
    NOT_AUTHENTICATED_IN_TIME,
    POLICY,
    RESTARTING,
    TOO_BIG,
    TRY_LATER,
    UNSUPPORTED_DATA,
)
from configs.contracts.rates import limit_key
from configs.contracts.realtime import frames_channel
from configs.settings import Realtime, Settings

pytestmark = pytest.mark.servers



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
    gateway = await make_gateway(Realtime(authenticate_s=1.0))
    async with websockets.connect(gateway.url) as silent:
        await asyncio.wait_for(silent.wait_closed(), 30)
        assert silent.close_code == NOT_AUTHENTICATED_IN_TIME.code
    address = ("127.0.0.1", gateway.server.port)
    for begun in (b"", b"GET /api/v1/messaging/ws HTTP/1.1\r\nHost: x\r\n"):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(begun)
        assert await asyncio.wait_for(reader.read(), 30) == b"", "half of a handshake held a connection"
        writer.close()


async def test_a_half_open_connection_is_found_by_pings(make_gateway: Any, world: World) -> None:
    gateway = await make_gateway(Realtime(ping_interval_s=0.4, ping_timeout_s=0.4))
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
    async with asyncio.timeout(30):
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
    async with local_client(timeout=60) as client:
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
    make_gateway: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await make_gateway()
    await announced(world)
    ada, ben, conversation = await match(world)
    hers, his = await Device.open(ada, gateway.url), await Device.open(ben, gateway.url)
    revocations = gateway.gateway._revocations

    async def away() -> None:
        raise DependencyUnavailable("Redis is away")

    monkeypatch.setattr(revocations, "poll", away)
    monkeypatch.setattr(revocations, "_steady", lambda: time.monotonic() + STALE_S + 1)
    await asyncio.sleep(0)
    await hers.send("send", conversationId=conversation, clientMessageId="m", content="unheard", ref="r")
    refused = await hers.got("error", ref="r")
    assert (refused["code"], refused["clientMessageId"]) == ("dependency_unavailable", "m")
    await world.dependencies.redis.execute_command("SPUBLISH", frames_channel(ben.user_id), b'{"type":"told"}')
    async with asyncio.timeout(30):
        while not any(socket.missed for socket in gateway.gateway._hub):
            await asyncio.sleep(0.02)
    async with websockets.connect(gateway.url) as stranger:
        await stranger.send(json.dumps({"type": "authenticate", "accessToken": ada.access_token}))
        await asyncio.wait_for(stranger.wait_closed(), 30)
        assert stranger.close_code == TRY_LATER.code
    monkeypatch.undo()
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

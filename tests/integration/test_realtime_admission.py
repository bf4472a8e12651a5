"""Who gets a socket, on which gateway, for how long, and with how many devices."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import websockets
from api_world import World
from realtime_world import Device, announced, send

from actors.realtime.presence import Presences
from configs.contracts import realtime
from configs.contracts.frames import (
    TOO_MANY_DEVICES,
    UNAUTHENTICATED,
)
from configs.contracts.realtime import DEVICES
from configs.settings import Settings

pytestmark = pytest.mark.servers


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
    world.dependencies.tokens._clock = lambda: clock() - servers.auth.access_ttl_s + 10
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
    async with asyncio.timeout(200):
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


async def test_a_device_that_did_not_hear_that_it_was_closed_hears_it_again(
    gateways: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, _ = gateways

    async def not_yet(devices: Any) -> None:
        """The gateway would say it again by itself, at a time of its own."""

    monkeypatch.setattr(gateway.gateway._presences, "refresh", not_yet)
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

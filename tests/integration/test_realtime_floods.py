"""Sockets that send what no application hears: the gateway cuts them before they cost it anything, and nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import websockets
from api_world import World
from realtime_world import Device, RunningGateway, announced
from redis.asyncio import Redis
from websockets.frames import Opcode
from websockets.server import ServerProtocol

from actors.realtime import wire
from actors.realtime.gateway import PATH
from configs.contracts.realtime import frames_channel
from configs.settings import Realtime

pytestmark = pytest.mark.servers

LONG_S = 300.0
UNHURRIED = Realtime(authenticate_s=LONG_S, ping_interval_s=LONG_S, ping_timeout_s=LONG_S)
"""Nothing else ends a socket within a test."""
AT_ONCE = 40_000
SOME = 1_000
"""More than a socket's allowance and one piece of frames, far less than a read of the smallest ones."""


def frame(opcode: Opcode, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A short frame of a client, whose mask is zero."""
    return bytes((fin << 7 | opcode, 0x80 | len(payload))) + b"\0\0\0\0" + payload


@asynccontextmanager
async def raw(gateway: RunningGateway) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A socket of which the test writes every byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.server.port)
    writer.write(
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    yield reader, writer
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def ended(reader: asyncio.StreamReader) -> None:
    """Returns when the gateway has ended the connection."""
    async with asyncio.timeout(60):
        with suppress(ConnectionError):
            while await reader.read(65_536):
                pass


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Opcode]:
    """Every frame that a gateway of this process parses."""
    found: list[Opcode] = []
    take = ServerProtocol.recv_frame

    def noted(self: ServerProtocol, frame: Any) -> None:
        found.append(frame.opcode)
        take(self, frame)

    monkeypatch.setattr(ServerProtocol, "recv_frame", noted)
    return found


@pytest.mark.parametrize(("begin", "flood"), [
    (b"", frame(Opcode.PING)), (b"", frame(Opcode.PONG)),
    (frame(Opcode.TEXT, fin=False), frame(Opcode.CONT, fin=False)),
    (b"", frame(Opcode.TEXT)),
], ids=["pings", "pongs", "continuations", "messages"])
async def test_a_flood_of_tiny_frames_is_cut_before_it_is_parsed(
    make_gateway: Any, parsed: list[Opcode], begin: bytes, flood: bytes
) -> None:
    gateway = await make_gateway(UNHURRIED)
    async with raw(gateway) as (reader, writer):
        writer.write(begin + flood * AT_ONCE)
        await ended(reader)
    assert len(parsed) < SOME, "a peer that is not signed in kept the gateway busy"
    assert gateway.gateway.describe()["flooded"] == 1
    async with raw(gateway) as (reader, writer):
        writer.write(frame(Opcode.PING, b"still here"))
        assert (await reader.readexactly(12))[2:] == b"still here"


async def test_a_flood_in_small_pieces_is_cut_too(make_gateway: Any, parsed: list[Opcode]) -> None:
    gateway = await make_gateway(UNHURRIED)
    async with raw(gateway) as (reader, writer):
        ending = asyncio.create_task(ended(reader))
        with suppress(ConnectionError):
            while not ending.done():
                writer.write(frame(Opcode.PING) * 20)
                await writer.drain()
                await asyncio.sleep(0.01)
        await ending
    assert len(parsed) < SOME
    assert gateway.gateway.describe()["flooded"] == 1


async def test_who_goes_on_after_the_close_frame_is_cut_before_their_patience_is_over(
    make_gateway: Any, parsed: list[Opcode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "PATIENCE_S", LONG_S)
    gateway = await make_gateway(UNHURRIED)
    async with raw(gateway) as (reader, writer):
        writer.write(frame(Opcode.BINARY))
        assert (await reader.readexactly(1))[0] == 0x80 | Opcode.CLOSE
        writer.write(frame(Opcode.TEXT, b"x") * AT_ONCE)
        await ended(reader)
    assert len(parsed) < SOME
    assert gateway.gateway.describe()["flooded"] == 1


async def test_who_pings_and_takes_no_answer_is_cut(make_gateway: Any, world: World) -> None:
    gateway = await make_gateway(UNHURRIED)
    await announced(world)
    ada = await world.register()
    device = await Device.open(ada, gateway.url, ping_interval=None)
    device.connection.transport.pause_reading()
    redis: Redis = world.dependencies.redis
    payload = b'{"type":"notification","filler":"' + b"x" * 50_000 + b'"}'
    async with asyncio.timeout(30):
        while not gateway.gateway.describe()["slow"]:
            await redis.execute_command("SPUBLISH", frames_channel(ada.user_id), payload)
            await asyncio.sleep(0.005)
    await device.connection.ping(b"x" * 125)
    async with asyncio.timeout(30):
        while gateway.gateway.describe()["sockets"]:
            await asyncio.sleep(0.05)
    assert gateway.gateway.describe()["flooded"] == 1
    device.connection.transport.abort()
    await device.close()


async def test_a_client_that_pings_and_sends_its_messages_in_fragments_is_left_alone(make_gateway: Any, world: World) -> None:
    gateway = await make_gateway()
    await announced(world)
    device = await Device.open(await world.register(), gateway.url)
    for number in range(15):
        for _ in range(5):
            await (await device.connection.ping())
            await device.connection.pong()
        await device.connection.send(['{"type":', '"ping"', "}"])
        await device.until(lambda number=number: len(device.of("pong")) == number + 1)  # type: ignore[misc]
    assert gateway.gateway.describe()["flooded"] == 0
    await device.close()


async def test_messages_that_come_in_one_read_are_all_carried_out_also_those_before_a_close(
    make_gateway: Any, world: World
) -> None:
    gateway = await make_gateway(UNHURRIED)
    ada = await world.register()
    async with websockets.connect(gateway.url, compression=None) as connection:
        await connection.send(json.dumps({"type": "authenticate", "accessToken": ada.access_token}))
        assert json.loads(await connection.recv())["type"] == "ready"
        messages = frame(Opcode.TEXT, b'{"type":"ping"' + b" " * 100 + b"}") * 19
        assert len(messages) > wire.PIECE_BYTES
        connection.transport.write(messages)
        assert [json.loads(await connection.recv())["type"] for _ in range(19)] == ["pong"] * 19
        connection.transport.write(messages + frame(Opcode.CLOSE, b"\x03\xe8"))
        await connection.wait_closed()
    async with asyncio.timeout(30):
        while gateway.gateway.describe()["sockets"]:
            await asyncio.sleep(0.05)
    assert gateway.gateway.describe()["frames"] == 1 + 19 + 19

"""Gateways on real ports over the session's servers and the shards of this process, and clients with real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import websockets
from api_world import Person, World, patient_redis
from websockets.asyncio.client import ClientConnection

from actors.messages.client import ConversationsClient
from actors.messages.commands import Member
from actors.realtime.gateway import PATH, Gateway
from actors.realtime.server import GatewayServer, listen
from actors.sessions.client import SessionsClient
from cluster.connections.redis import async_client
from cluster.embedded.ports import LOOPBACK
from configs.contracts.ids import new_id
from configs.contracts.read_model import GENERATION
from configs.settings import Settings

WITHIN_S = 30.0


class RunningGateway:
    """One gateway of this process."""

    def __init__(self, settings: Settings, name: str, pool: Any, died: list[str]) -> None:
        self._settings = settings
        listening = listen(LOOPBACK, 0)
        self.url = f"ws://{LOOPBACK}:{listening.getsockname()[1]}{PATH}"
        with patient_redis("actors.realtime.gateway.Reads"):
            self.gateway = Gateway(
                settings, name, self.url, tickets=SessionsClient(pool), conversations=ConversationsClient(pool), die=died.append
            )
        self.server = GatewayServer(self.gateway, settings.realtime, listening)

    async def start(self) -> Self:
        await self._complete()
        await self.gateway.start()
        await self.server.start()
        self.gateway.opened()
        return self

    async def _complete(self) -> None:
        """Revocations are only known of a complete read model."""
        client = async_client(self._settings, timeout_s=WITHIN_S)
        await client.set(GENERATION, "test", nx=True)
        await client.aclose(close_connection_pool=True)

    async def fresh(self) -> Self:
        """Returns when it admits again, whatever tests before this one did to Redis, and however long none ran here."""
        await self._complete()
        async with asyncio.timeout(20):
            while not self.gateway._revocations.fresh:
                await asyncio.sleep(0.05)
        return self

    async def close(self) -> None:
        await self.server.stop()
        await self.gateway.close()


@dataclass
class Device:
    """One socket of a person; keeps every frame that came, in order."""

    connection: ClientConnection
    person: Person
    frames: list[dict[str, Any]] = field(default_factory=list)
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)
    _reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, person: Person, url: str, *, ready: bool = True, **options: Any) -> Self:
        """Opens a socket with a fresh ticket in its URL."""
        ticket = (await person.ok("POST", "/messaging/ws-ticket"))["ticket"]
        device = cls(
            await websockets.connect(f"{url}?ticket={ticket}", compression=None, open_timeout=WITHIN_S, **options), person
        )
        device._reading = asyncio.create_task(device._read())
        if ready:
            await device.got("ready")
        return device

    async def _read(self) -> None:
        try:
            async for text in self.connection:
                async with self._came:
                    self.frames.append(json.loads(text))
                    self._came.notify_all()
        except websockets.ConnectionClosed:
            pass
        finally:
            async with self._came:
                self._came.notify_all()

    async def send(self, kind: str, **fields: Any) -> None:
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def got(self, kind: str, *, within_s: float = WITHIN_S, **fields: Any) -> dict[str, Any]:
        """The first frame of a type with these fields, waited for."""

        def fits(frame: dict[str, Any]) -> bool:
            return frame["type"] == kind and all(frame.get(name) == value for name, value in fields.items())

        return await self.until(lambda: next((frame for frame in self.frames if fits(frame)), None), within_s)

    async def until(self, what: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
        try:
            async with asyncio.timeout(within_s), self._came:
                while not (found := what()):
                    if self.connection.close_code is not None:
                        raise AssertionError(f"closed with {self.connection.close_code}: {self.frames}")
                    await self._came.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"not within {within_s} s: {self.frames}") from None

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == kind]

    async def closed(self, within_s: float = WITHIN_S) -> int:
        """The close code, waited for."""
        async with asyncio.timeout(within_s):
            await self.connection.wait_closed()
        assert self._reading is not None
        await self._reading
        assert self.connection.close_code is not None
        return self.connection.close_code

    async def settled(self) -> None:
        """Returns when everything that this device was told before has been read: the gateway answers in order."""
        count = len(self.of("pong"))
        await self.send("ping")
        await self.until(lambda: len(self.of("pong")) > count)

    async def close(self) -> None:
        await self.connection.close()
        if self._reading is not None:
            await self._reading


async def match(world: World) -> tuple[Person, Person, str]:
    """Two people and their conversation, once its shard knows it."""
    ada, ben = await world.register(), await world.register("sugar_daddy")
    await ada.swipe(ben)
    conversation = (await ben.swipe(ada))["matchId"]
    conversations = ConversationsClient(world.dependencies.pool)
    async with asyncio.timeout(WITHIN_S):
        while not isinstance(await conversations.look(conversation, ada.user_id), Member):
            await asyncio.sleep(0.02)
    return ada, ben, conversation


async def announced(world: World) -> None:
    """Returns when gateways are known to the API."""
    async with asyncio.timeout(20):
        while not await world.dependencies.redis.hlen("gateways"):
            await asyncio.sleep(0.05)


async def send(device: Device, conversation: str, content: str, client: str | None = None) -> dict[str, Any]:
    client = client or new_id()
    await device.send("send", conversationId=conversation, clientMessageId=client, content=content)
    return await device.got("ack", clientMessageId=client)

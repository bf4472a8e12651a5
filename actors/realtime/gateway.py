"""The realtime gateway as an ASGI application: sockets in, shards and Redis behind, everything bounded.

A socket's frames are carried out one after another, so messages of one device are numbered in the order they were
sent. What a person is told comes over Redis only: from the conversation's shard, from the writers, from other
gateways. A gateway remembers nothing that matters: killed, its clients connect elsewhere and sync.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from time import time
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

import msgspec
import structlog

from actors.realtime.hub import Hub, Socket
from actors.realtime.presence import CHANGED, Presences
from actors.realtime.session import Refusal, Session
from actors.realtime.standing import REFRESH_SHARES, Standing
from actors.realtime.talking import Conversations, Talking
from actors.realtime.watching import Watching
from actors.realtime.wire import wire_of
from actors.sessions.revocations import Revocations
from actors.sessions.tickets import IssueTicket, TicketInvalid
from cluster.connections.cluster_fanout import subscriptions
from cluster.connections.reading import Reads
from configs.contracts.access_tokens import AccessTokens, Identity
from configs.contracts.changes import rfc3339
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.frames import (
    RESTARTING,
    TOO_MANY_DEVICES,
    TRY_LATER,
    UNAUTHENTICATED,
    UNSUPPORTED_DATA,
    Authenticate,
    Ping,
    Pong,
    Ready,
    Reconnect,
    Resync,
    Watch,
    encode,
    error,
)
from configs.contracts.realtime import CLOSE_DEVICES, close_devices, connection_name, frames_channel, presence_channel
from configs.settings import Settings

log = structlog.get_logger(__name__)

PATH: Final = "/api/v1/messaging/ws"
NAMELESS: Final = 2_000
"""Sockets that have not said who they are; past it new ones without a ticket in their URL get 503."""
TICK_S: Final = 1.0
RESYNC_SPREAD_MS: Final = 5_000
"""Over so long the clients of a whole gateway are told to spread their sync."""
SYNC_AGAIN_MS: Final = 3_000
"""Lists follow the log in 0.3 s, in seconds when much is written; what is told in this time before a socket is ready is in neither."""
PONG: Final = encode(Pong())

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class TicketOffice(Protocol):
    """What is needed of ``actors.sessions.client.SessionsClient``."""

    async def spend_ticket(self, ticket: str) -> IssueTicket | TicketInvalid: ...


class Gateway:
    """One gateway. ``start`` before the first socket, ``drain`` and ``close`` after."""

    def __init__(
        self, settings: Settings, name: str, url: str, *, tickets: TicketOffice, conversations: Conversations,
        die: Callable[[str], None],
    ) -> None:
        self._settings = settings.realtime
        self._name = name
        self._die = die
        self._tickets = tickets
        self._reads = Reads(settings)
        self._tokens = AccessTokens(settings.auth)
        self._revocations = Revocations(self._reads, settings.auth.access_ttl_s)
        self._presences = Presences(self._reads)
        self._subscriptions = subscriptions(settings, self._heard, self._missed)
        self._watching = Watching(conversations, self._presences, self._subscriptions)
        self._talking = Talking(conversations, self._presences)
        self._standing = Standing(name, url, self._reads, self._presences)
        self._hub = Hub()
        self._nameless: set[Socket] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._next_connection = 0
        self.draining = False
        self.refused = self.frames = self.flooded = 0

    async def start(self) -> None:
        """Connects; without Redis it refuses sockets until Redis is back."""
        background = [self._subscriptions.start(), *self._watching.start()]
        await self._revocations.start()
        for task in background:
            task.add_done_callback(self._ended)

    def opened(self) -> None:
        """The port accepts connections: clients are sent here from now on."""
        self._tasks = [asyncio.create_task(self._tick(), name="tick")]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Ends background work and connections; sockets end with the server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._leaving, return_exceptions=True)
        await self._standing.leave()
        await self._watching.close()
        await self._talking.close()
        await self._revocations.close()
        await self._subscriptions.close()
        await self._reads.close()

    # -- one socket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await _plain(scope, send)
            return
        await receive()
        if scope["path"] != PATH:
            await _reject(send, 404, ())
            return
        ticket = parse_qs(scope["query_string"].decode("latin-1")).get("ticket", [""])[0]
        nameless = not ticket and len(self._nameless) >= NAMELESS
        if self.draining or nameless or len(self._hub) >= self._settings.sockets:
            self.refused += 1
            await _reject(send, 503, ((b"retry-after", b"1"),))
            return
        await send({"type": "websocket.accept"})
        socket = self._socket(scope)
        self._nameless.add(socket)
        try:
            if ticket:
                await self._authenticate(socket, Authenticate(ticket=ticket))
            await self._converse(socket, receive)
        except DependencyUnavailable as problem:
            log.warning("socket_closed", reason=problem.message)
            socket.close(TRY_LATER)
        except Exception:
            log.exception("socket_failed")
            socket.close(TRY_LATER)
        finally:
            self._left(socket)

    def _socket(self, scope: Scope) -> Socket:
        wire = wire_of(scope)
        self._next_connection += 1
        connection_id = connection_name(int(time() * 1_000), self._standing.life, self._next_connection)
        socket = Socket(Session(connection_id, self._settings, _now()), wire, self._settings)
        wire.on_writable = socket.flush
        wire.on_flood = self._count_flood
        return socket

    def _count_flood(self) -> None:
        self.flooded += 1

    async def _converse(self, socket: Socket, receive: Receive) -> None:
        session = socket.session
        while socket.closed is None:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                socket.close(UNSUPPORTED_DATA)
                return
            self.frames += 1
            frame = session.received(text, _now())
            if isinstance(frame, Refusal):
                self._refuse(socket, frame)
            elif isinstance(frame, Authenticate):
                await self._authenticate(socket, frame)
            elif isinstance(frame, Ping):
                socket.tell(PONG)
            elif frame is not None:
                await self._carry_out(socket, frame)

    async def _carry_out(self, socket: Socket, frame: Any) -> None:
        """A frame of somebody who is known. While revocations are unknown nobody may do anything."""
        problem = None
        if not self._revocations.fresh:
            problem = "dependency_unavailable"
        elif self._revocations.refuses(socket.session):
            socket.close(UNAUTHENTICATED)
            return
        if problem is None:
            try:
                if isinstance(frame, Watch):
                    await self._watching.watch(socket, frame.conversation_ids)
                else:
                    await self._talking.carry_out(socket, frame)
                return
            except DependencyUnavailable:
                problem = "dependency_unavailable"
        socket.tell(encode(error(
            problem, ref=frame.ref, client_message_id=getattr(frame, "client_message_id", None), retry_after_ms=1_000
        )))

    def _refuse(self, socket: Socket, refusal: Refusal) -> None:
        if refusal.answer is not None:
            socket.tell(encode(refusal.answer))
        if refusal.close is not None:
            socket.close(refusal.close)

    async def _authenticate(self, socket: Socket, frame: Authenticate) -> None:
        """Opens the socket, or prolongs an open one. Raises DependencyUnavailable."""
        session = socket.session
        was_open = session.open
        identity = await self._identity(frame)
        if identity is None or not session.authenticated(identity):
            refusal = session.refused(error("unauthenticated", ref=frame.ref), _now())
            self._refuse(socket, refusal if was_open else Refusal(refusal.answer, UNAUTHENTICATED))
            return
        if not was_open:
            await self._open(socket)
        if socket.closed is None:
            socket.tell(encode(Ready(
                user_id=session.user_id, connection_id=session.connection_id,
                expires_at=_time(session.expires_at), ping_interval_s=int(self._settings.ping_interval_s),
                sync_again_ms=SYNC_AGAIN_MS,
            )))

    async def _identity(self, frame: Authenticate) -> Identity | None:
        if not self._revocations.fresh:
            raise DependencyUnavailable("revocations have not been read for too long")
        identity: Identity | None
        if frame.access_token is not None:
            identity = self._tokens.verify(frame.access_token)
        else:
            spent = await self._tickets.spend_ticket(frame.ticket or "")
            identity = None if isinstance(spent, TicketInvalid) else Identity(
                spent.user_id, spent.family_id, spent.permission_role, spent.expires_at, sessions_from=spent.sessions_from
            )
        if identity is None or self._revocations.refuses(identity) or identity.expires_at <= time():
            return None
        return identity

    async def _open(self, socket: Socket) -> None:
        """Hears the person's channel before the socket is told that it is ready."""
        user_id, connection_id = socket.session.user_id, socket.session.connection_id
        self._nameless.discard(socket)
        for oldest in self._hub.attach(socket):
            oldest.close(TOO_MANY_DEVICES)
        try:
            async with asyncio.timeout(self._settings.authenticate_s):
                _, attached = await asyncio.gather(
                    asyncio.shield(self._subscriptions.add(frames_channel(user_id))),
                    self._presences.attach(user_id, connection_id),
                )
        except TimeoutError as problem:
            raise DependencyUnavailable("Redis does not answer") from problem
        told: list[tuple[str, bytes]] = []
        if attached.over:
            told.append(close_devices(user_id, attached.over))
        if attached.first:
            told.append((presence_channel(user_id), CHANGED))
        if told:
            await self._presences.tell(*told)

    def _left(self, socket: Socket) -> None:
        """The connection is gone: nothing of it may stay."""
        self._nameless.discard(socket)
        self._watching.forget(socket)
        session = socket.session
        was_open = self._hub.connection(session.connection_id) is not None
        if self._hub.detach(socket):
            self._subscriptions.remove(frames_channel(session.user_id))
        if was_open:
            task = asyncio.create_task(self._say_left(session.user_id, session.connection_id))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _say_left(self, user_id: str, connection_id: str) -> None:
        try:
            if await self._presences.detach(user_id, connection_id):
                await self._presences.tell((presence_channel(user_id), CHANGED))
        except DependencyUnavailable:
            log.warning("presence_not_told", reason="a device left")  # it is forgotten when its time is over

    # -- what others tell

    def _heard(self, channel: str, payload: bytes) -> None:
        kind, _, rest = channel.partition(":")
        user_id = rest[1:-1]
        if kind == "on":
            self._watching.changed(user_id)
        elif payload.startswith(CLOSE_DEVICES):
            for connection_id in payload[len(CLOSE_DEVICES):].decode().split():
                socket = self._hub.connection(connection_id)
                if socket is not None:
                    socket.close(TOO_MANY_DEVICES)
        elif self._revocations.fresh:
            self._hub.tell(user_id, payload)
        else:
            # Among the devices may be one whose session was revoked.
            self._hub.withhold(user_id)

    def _missed(self) -> None:
        """The subscription was replaced: what was published meanwhile is lost."""
        for socket in self._hub:
            self._resync(socket, "gap")

    def _resync(self, socket: Socket, reason: Any) -> None:
        socket.missed = False
        socket.tell(encode(Resync(reason=reason, after_ms=random.randrange(RESYNC_SPREAD_MS))))  # noqa: S311

    # -- once a second

    async def _tick(self) -> None:
        number = 0
        while True:
            number += 1
            self._end_overdue()
            share = islice(self._hub, number % REFRESH_SHARES, None, REFRESH_SHARES)
            if await self._standing.say(
                len(self._hub), draining=self.draining,
                devices=[(socket.session.user_id, socket.session.connection_id) for socket in share],
                figures=self.figures(),
            ):
                self._watching.look_at_all()
            await asyncio.sleep(TICK_S)

    def _end_overdue(self) -> None:
        now, unix_now, fresh = _now(), time(), self._revocations.fresh
        for socket in [*self._nameless, *self._hub]:
            code = socket.session.overdue(now, unix_now)
            if code is None and self._revocations.refuses(socket.session):
                code = UNAUTHENTICATED
            if code is not None:
                socket.close(code)
            elif fresh and socket.missed:
                self._resync(socket, "unavailable")

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._die(f"{task.get_name()}: {task.exception()!r}")

    # -- leaving

    async def drain(self) -> int:
        """Takes no new socket, tells all to reconnect elsewhere over ``realtime.drain_s``, closes them; how many."""
        if self.draining:
            return 0
        self.draining = True
        await self._standing.say(len(self._hub), draining=True)
        sockets = list(self._hub)
        spread_ms = int(self._settings.drain_s * 1_000)
        for socket in sockets:
            socket.tell(encode(Reconnect(after_ms=random.randrange(spread_ms + 1))))  # noqa: S311  only a spread
        await asyncio.sleep(0)
        for socket in [*sockets, *self._nameless]:
            socket.close(RESTARTING)
        return len(sockets)

    def figures(self) -> dict[str, int]:
        """What it holds (sockets, people, slow …), and what it has done since it began (frames, told, overflowed …)."""
        return {
            "sockets": len(self._hub), "people": self._hub.people, "nameless": len(self._nameless),
            "channels": len(self._subscriptions), "watched": len(self._watching), "refused": self.refused,
            "heard": self._subscriptions.received, "told": self._hub.told, "frames": self.frames,
            "overflowed": self._hub.overflowed, "flooded": self.flooded, "slow": sum(socket.waiting > 0 for socket in self._hub),
        }

    def describe(self) -> dict[str, Any]:
        """Figures and state, for the keeper and status."""
        return self.figures() | {
            "draining": self.draining,
            "state": "draining" if self.draining else "running" if self._subscriptions.connected else "without Redis",
        }


def _now() -> float:
    return asyncio.get_running_loop().time()


def _time(unix_s: float) -> str:
    return rfc3339(datetime.fromtimestamp(unix_s, UTC))


async def _reject(send: Send, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    await send({"type": "websocket.http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "websocket.http.response.body", "body": b""})


async def _plain(scope: Scope, send: Send) -> None:
    """Requests that are no WebSocket: liveness, and 426 for everything else."""
    if scope["type"] != "http":
        return
    status = 200 if scope["path"] == "/health" else 426
    body = msgspec.json.encode({"status": "ok" if status == 200 else "this port speaks WebSocket"})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""A client of the realtime socket as an app would write it: tickets, reconnecting, resending, filling gaps.

What it does is what the documents ask of every client: a new ticket for each connection, a random delay before the
next one, every message that was not acknowledged sent again under its id, every gap in a conversation filled by HTTP.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime
from time import time
from typing import Any, Final

import httpx
import websockets
from websockets.asyncio.client import ClientConnection, connect

from configs.contracts import frames
from configs.contracts.errors import PlatformError
from configs.contracts.ids import new_id

TIMEOUT_S: Final = 10.0
RETRY_S: Final = (0.2, 2.0)
"""Bounds of the random delay before another attempt to connect; it doubles with each failure up to ten times."""
RENEW_BEFORE_S: Final = 60.0
PAGE: Final = 100


class SignInRefused(PlatformError):
    """The API refused the address and password, or the session has ended."""


class RealtimeClient:
    """One device of a person. ``on_frame`` sees every frame once it counts: messages in order and without gaps."""

    def __init__(self, url: str, on_frame: Callable[[frames.ServerFrame], None]) -> None:
        """``url``: root of the HTTP API."""
        self.url = url
        self._http = httpx.AsyncClient(base_url=url + "/api/v1", timeout=TIMEOUT_S)
        self._on_frame = on_frame
        self._access = self._refresh = ""
        self._connection: ClientConnection | None = None
        self._unacknowledged: dict[str, frames.Send] = {}
        self._held: dict[str, dict[int, frames.Message]] = {}
        """Messages beyond a gap, by conversation and number."""
        self._last: dict[str, int] = {}
        self._newest: dict[str, int] = {}
        """Conversation -> the greatest number that is known to exist."""
        self._gaps: set[str] = set()
        self._gap_found = asyncio.Event()
        self._tasks: set[asyncio.Future[None]] = set()
        self._all_acknowledged = asyncio.Event()
        self.user_id = ""
        self.connections = 0

    # -- signing in

    async def sign_in(self, email: str, password: str) -> None:
        """Raises SignInRefused, or httpx.HTTPError: no answer."""
        await self._took_tokens(await self._http.post("/auth/login", json={"email": email, "password": password}))

    def use_tokens(self, user_id: str, access_token: str, refresh_token: str = "") -> None:
        """Goes on with tokens that were issued elsewhere."""
        self.user_id, self._access, self._refresh = user_id, access_token, refresh_token

    async def _took_tokens(self, answer: httpx.Response) -> float:
        """The seconds for which the access token works."""
        if answer.status_code in (401, 422):
            raise SignInRefused("the API refused to sign in", code=answer.json().get("code"))
        tokens = answer.raise_for_status().json()
        self.use_tokens(tokens["userId"], tokens["accessToken"], tokens["refreshToken"])
        return float(tokens["expiresIn"])

    async def _renew(self) -> float:
        return await self._took_tokens(await self._http.post("/auth/refresh", json={"refreshToken": self._refresh}))

    async def get(self, path: str, **parameters: Any) -> Any:
        """The body of an answer; renews the access token when it has expired. Raises httpx.HTTPError."""
        return await self._ask("GET", path, params=parameters)

    async def post(self, path: str, body: Any = None) -> Any:
        """``get`` of a POST."""
        return await self._ask("POST", path, json=body)

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        answer = await self._http.request(method, path, headers=self._bearer(), **options)
        if answer.status_code == 401 and self._refresh:
            await self._renew()
            answer = await self._http.request(method, path, headers=self._bearer(), **options)
        return answer.raise_for_status().json()

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._access}"}

    # -- staying connected

    async def run(self) -> None:
        """Stays connected until it is cancelled. Raises SignInRefused: the session has ended, or was replaced."""
        failures = 0
        delay_s = 0.0
        while True:
            await asyncio.sleep(delay_s)
            try:
                url = await self._url()
                async with connect(url, compression=None, open_timeout=TIMEOUT_S, max_size=1 << 20) as connection:
                    failures = 0
                    delay_s = await self._converse(connection)
            except (OSError, TimeoutError, httpx.HTTPError, websockets.WebSocketException):
                failures += 1
                low, high = RETRY_S
                delay_s = random.uniform(low, high) * min(2 ** (failures - 1), 10)  # noqa: S311  only a spread
            finally:
                self._connection = None

    async def _url(self) -> str:
        answer = await self._http.post("/messaging/ws-ticket", headers=self._bearer())
        if answer.status_code == 401:
            if not self._refresh:
                raise SignInRefused("the session has ended")
            await self._renew()
            answer = await self._http.post("/messaging/ws-ticket", headers=self._bearer())
        issued = answer.raise_for_status().json()
        return f"{issued['url']}?ticket={issued['ticket']}"

    async def _converse(self, connection: ClientConnection) -> float:
        """Until the connection ends; the seconds to wait before the next one."""
        delay_s = random.uniform(*RETRY_S)  # noqa: S311  only a spread
        background: list[asyncio.Task[None]] = []
        try:
            async for text in connection:
                try:
                    frame = frames.read_server(text)
                except frames.FrameRefused:
                    continue  # a type of the future
                if isinstance(frame, frames.Ready):
                    if not background:
                        self._connection = connection
                        self.connections += 1
                        background = [asyncio.create_task(self._mend()), asyncio.create_task(self._prolong(frame.expires_at))]
                        self._suspect_gaps()
                        if frame.sync_again_ms:
                            asyncio.get_running_loop().call_later(frame.sync_again_ms / 1_000, self._suspect_gaps)
                        await self._send_again(connection)
                elif isinstance(frame, frames.Reconnect):
                    delay_s = frame.after_ms / 1_000
                elif isinstance(frame, frames.Resync):
                    asyncio.get_running_loop().call_later(frame.after_ms / 1_000, self._suspect_gaps)
                self._take(frame)
        except websockets.ConnectionClosed:
            pass
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
        if connection.close_code == frames.TOO_MANY_DEVICES.code:
            raise SignInRefused(frames.TOO_MANY_DEVICES.title)
        return delay_s

    async def _send_again(self, connection: ClientConnection) -> None:
        for message in list(self._unacknowledged.values()):
            await connection.send(frames.encode(message), text=True)

    async def _prolong(self, expires_at: str) -> None:
        """Renews the access token each time before it expires, and tells the gateway."""
        left_s = datetime.fromisoformat(expires_at).timestamp() - time()
        while self._refresh:
            await asyncio.sleep(max(1.0, left_s - RENEW_BEFORE_S))
            left_s = await self._renew()
            await self.say(frames.Authenticate(access_token=self._access))

    # -- talking

    async def say(self, frame: frames.ClientFrame) -> None:
        """Sends a frame that need not arrive."""
        connection = self._connection
        if connection is not None:
            with suppress(websockets.ConnectionClosed):
                await connection.send(frames.encode(frame), text=True)

    def say_soon(self, frame: frames.ClientFrame) -> None:
        """``say`` for callers that do not wait."""
        self.later(self.say(frame))

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Does it beside everything else; ``close`` ends it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send(
        self, conversation_id: str, content: str, client_message_id: str | None = None, *, attachments: tuple[str, ...] = ()
    ) -> str:
        """Sends a message, now or after the next connection, until it is acknowledged; its client id."""
        message = frames.Send(
            conversation_id=conversation_id, client_message_id=client_message_id or new_id(), content=content,
            attachments=attachments,
        )
        self._unacknowledged[message.client_message_id] = message
        self._all_acknowledged.clear()
        await self.say(message)
        return message.client_message_id

    async def acknowledged(self) -> None:
        """Returns when every message that was sent is durable or refused."""
        if self._unacknowledged:
            await self._all_acknowledged.wait()

    def _settled(self, client_message_id: str) -> None:
        self._unacknowledged.pop(client_message_id, None)
        if not self._unacknowledged:
            self._all_acknowledged.set()

    # -- hearing

    def _take(self, frame: frames.ServerFrame) -> None:
        if isinstance(frame, frames.Message):
            self._held.setdefault(frame.conversation_id, {})[frame.seq] = frame
            self._let_through(frame.conversation_id)
            return
        if isinstance(frame, frames.Presence) and frame.last_seq > self._last.get(frame.conversation_id, frame.last_seq):
            self._newest[frame.conversation_id] = frame.last_seq
            self._suspect(frame.conversation_id)
        if isinstance(frame, frames.Ack):
            self._settled(frame.client_message_id)
        elif isinstance(frame, frames.Error) and frame.client_message_id is not None:
            self._refused(frame)
        self._on_frame(frame)

    def _refused(self, frame: frames.Error) -> None:
        message = self._unacknowledged.get(frame.client_message_id or "")
        if message is None:
            return
        if frame.code in ("dependency_unavailable", "too_many_requests"):
            later = (frame.retry_after_ms or 1_000) / 1_000
            asyncio.get_running_loop().call_later(later, lambda: self.later(self._again(message)))
        else:
            self._settled(message.client_message_id)

    async def _again(self, message: frames.Send) -> None:
        if message.client_message_id in self._unacknowledged:
            await self.say(message)

    def follow(self, conversation_id: str, after_seq: int = 0) -> None:
        """Lets messages of a conversation through from the one after ``after_seq`` on; fills what is missing."""
        self._last.setdefault(conversation_id, after_seq)
        self._suspect(conversation_id)

    def _let_through(self, conversation_id: str) -> None:
        held = self._held[conversation_id]
        last = self._last.setdefault(conversation_id, 0)
        while (message := held.pop(last + 1, None)) is not None:
            last += 1
            self._last[conversation_id] = last
            self._on_frame(message)
        for seq in [seq for seq in held if seq <= last]:
            del held[seq]
        if held:
            self._suspect(conversation_id)

    def _suspect(self, conversation_id: str) -> None:
        self._gaps.add(conversation_id)
        self._gap_found.set()

    def _suspect_gaps(self) -> None:
        for conversation_id in self._last:
            self._suspect(conversation_id)

    async def _mend(self) -> None:
        """Fills gaps by HTTP while connected; again and again where a message is durable and in no list yet."""
        while True:
            await self._gap_found.wait()
            self._gap_found.clear()
            suspected, self._gaps = self._gaps, set()
            missing = {name for name in suspected if not await self._filled(name)}
            if missing:
                await asyncio.sleep(random.uniform(*RETRY_S))  # noqa: S311  only a spread
                self._gaps |= missing
                self._gap_found.set()

    async def _filled(self, conversation_id: str) -> bool:
        """Whether everything that is known to exist was let through, or the conversation has ended."""
        try:
            await self._fill(conversation_id)
        except httpx.HTTPStatusError as error:
            return error.response.status_code == 404
        except (httpx.HTTPError, SignInRefused):
            return False
        return not self._held[conversation_id] and self._last[conversation_id] >= self._newest.get(conversation_id, 0)

    async def _fill(self, conversation_id: str) -> None:
        """Reads history, newest first, back to the last message that was let through."""
        cursor: dict[str, str] = {}
        held = self._held.setdefault(conversation_id, {})
        while True:
            page = await self.get(f"/messaging/conversations/{conversation_id}/messages", limit=PAGE, **cursor)
            for item in page["messages"]:
                held[item["seq"]] = frames.Message(
                    conversation_id=conversation_id, message_id=item["messageId"], seq=item["seq"],
                    sender_id=item["senderId"], content=item["content"], sent_at=item["sentAt"],
                    client_message_id=item["clientMessageId"], post_id=item.get("postId"),
                    attachments=tuple(attachment["mediaId"] for attachment in item["attachments"]),
                )
            oldest = min((item["seq"] for item in page["messages"]), default=0)
            if oldest <= self._last.get(conversation_id, 0) + 1 or not page.get("nextCursor"):
                break
            cursor = {"cursor": page["nextCursor"]}
        self._let_through(conversation_id)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._http.aclose()

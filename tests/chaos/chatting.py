"""Pairs of people who chat over sockets and keep their own records of what was acknowledged and what they heard."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
from chaos.workload import PASSWORD, RETRY_S
from local_http import local_client
from running import Platform

from cluster.launch.chat.client import RealtimeClient
from configs.contracts import frames
from configs.contracts.ids import match_id

PROJECTED_S = 30.0
"""Longest wait for the read model to hold what the rows hold."""


@dataclass(slots=True)
class Talker:
    """One device; ``acknowledged`` client id -> number, ``heard`` in the order of the client library."""

    user_id: str
    client: RealtimeClient
    acknowledged: dict[str, int] = field(default_factory=dict)
    sent: dict[str, str] = field(default_factory=dict)
    """Client id -> content of everything that was tried."""
    heard: list[frames.Message] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    positions: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    """Where ``sync`` was asked to begin, and what both had tried to send by then."""

    def take(self, frame: frames.ServerFrame) -> None:
        if isinstance(frame, frames.Ack):
            known = self.acknowledged.setdefault(frame.client_message_id, frame.seq)
            assert known == frame.seq, "one message was acknowledged with two numbers"
        elif isinstance(frame, frames.Message):
            self.heard.append(frame)
        elif isinstance(frame, frames.Error):
            self.errors[frame.code] += 1


class Chatting:
    """``pairs`` conversations of two devices each; ``run`` talks until ``stop``."""

    def __init__(self, platform: Platform, *, pairs: int, seed: int) -> None:
        self._platform = platform
        self._pairs = pairs
        self._random = random.Random(seed)
        self._stopping = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []
        self.conversations: dict[str, tuple[Talker, Talker]] = {}

    async def __aenter__(self) -> Chatting:
        async with local_client(base_url=self._platform.url + "/api/v1", timeout=20.0) as http:
            gate = asyncio.Semaphore(8)

            async def one() -> None:
                async with gate:
                    await self._match(http)

            await asyncio.gather(*(one() for _ in range(self._pairs)))
        for talker in self.talkers:
            self._running.append(asyncio.create_task(talker.client.run()))
        async with asyncio.timeout(120):
            while not all(talker.client.connections for talker in self.talkers):
                await asyncio.sleep(0.1)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for talker in self.talkers:
            await talker.client.close()

    @property
    def talkers(self) -> list[Talker]:
        return [talker for both in self.conversations.values() for talker in both]

    @property
    def connections(self) -> int:
        """How many sockets have been opened so far."""
        return sum(talker.client.connections for talker in self.talkers)

    async def _match(self, http: httpx.AsyncClient) -> None:
        people = [await self._register(http, role) for role in ("sugar_baby", "sugar_daddy")]
        conversation = match_id(people[0]["userId"], people[1]["userId"])
        for me, other in (people, people[::-1]):
            await self._ask(http, "/matching/swipe", {"targetUserId": other["userId"], "action": "like"}, me["accessToken"])
        talkers = []
        for person in people:
            talker = Talker(person["userId"], None)  # type: ignore[arg-type]  # set in the next line
            talker.client = RealtimeClient(self._platform.url, talker.take)
            talker.client.use_tokens(person["userId"], person["accessToken"], person["refreshToken"])
            talker.client.follow(conversation)
            talkers.append(talker)
        self.conversations[conversation] = (talkers[0], talkers[1])

    async def _register(self, http: httpx.AsyncClient, role: str) -> dict[str, Any]:
        return await self._ask(http, "/auth/register", {
            "email": f"chat-{uuid.uuid4().hex}@example.com", "password": PASSWORD, "role": role, "displayName": "Chatty",
            "birthDate": "1994-05-17",
        }, "")

    async def _ask(self, http: httpx.AsyncClient, path: str, body: Any, token: str) -> dict[str, Any]:
        headers = {"Idempotency-Key": uuid.uuid4().hex} | ({"Authorization": f"Bearer {token}"} if token else {})
        while True:
            answer = await http.post(path, json=body, headers=headers)
            if answer.status_code not in (429, 503, 404):
                answer.raise_for_status()
                found: dict[str, Any] = answer.json()
                return found
            await asyncio.sleep(RETRY_S)  # 404: the other's record is not written yet

    async def run(self, *, pause_s: float = 1.0) -> None:
        """Everybody sends at random until ``stop``; the next message goes out whether the last was acknowledged or not."""

        async def talk(conversation: str, talker: Talker) -> None:
            number = 0
            while not self._stopping.is_set():
                number += 1
                client_id, content = uuid.uuid4().hex, f"{number} of {talker.user_id}"
                talker.sent[client_id] = content
                await talker.client.send(conversation, content, client_id)
                await asyncio.sleep(pause_s * 2 * self._random.random())

        await asyncio.gather(*(
            talk(conversation, talker) for conversation, both in self.conversations.items() for talker in both
        ))

    async def note_positions(self) -> None:
        """Everybody asks where they are, so that ``check_sync`` can ask what came since."""
        gate = asyncio.Semaphore(8)

        async def note(talker: Talker, both: tuple[Talker, Talker]) -> None:
            async with gate:
                position = (await self._answered(talker))["position"]
                talker.positions.append((position, frozenset(both[0].sent) | frozenset(both[1].sent)))

        await asyncio.gather(*(note(talker, both) for both in self.conversations.values() for talker in both))

    async def _answered(self, talker: Talker, **parameters: Any) -> Any:
        """Of ``sync``; None: too much has changed, the lists are to be loaded."""
        while True:
            try:
                return await talker.client.get("/messaging/sync", **parameters)
            except httpx.HTTPStatusError as error:
                if error.response.status_code == 410:
                    return None
                if error.response.status_code not in (429, 503):
                    raise
            except httpx.TransportError:
                pass
            await asyncio.sleep(RETRY_S)

    async def check_sync(self) -> Counter[str]:
        """Asserts that ``sync`` tells each reader, once and as acknowledged, all that was sent after each position; a
        reader whose position the read model has lost is told to load everything. How many messages, and how many of those."""
        counts: Counter[str] = Counter()
        for both in self.conversations.values():
            acknowledged = both[0].acknowledged | both[1].acknowledged
            for talker in both:
                for since, before in talker.positions:
                    later = {name: seq for name, seq in acknowledged.items() if name not in before}
                    told = await self._missed(talker, since)
                    deadline = time.monotonic() + PROJECTED_S
                    while told is not None and not later.items() <= told.items() and time.monotonic() < deadline:
                        await asyncio.sleep(RETRY_S)
                        told = await self._missed(talker, since)
                    if told is None:
                        counts["lost positions"] += 1
                        continue
                    assert later.items() <= told.items(), "sync left something out, or tells another number"
                    assert told.items() <= acknowledged.items(), "sync tells what nobody sent"
                    assert len(set(told.values())) == len(told)
                    counts["messages"] += len(later)
        return counts

    async def _missed(self, talker: Talker, since: str) -> dict[str, int] | None:
        """Client id -> number of what ``sync`` tells from a position on; None: the lists are to be loaded."""
        told: dict[str, int] = {}
        more = True
        while more:
            answer = await self._answered(talker, since=since, limit=100)
            if answer is None:
                return None
            since, more = answer["position"], answer["more"]
            told |= {message["clientMessageId"]: message["seq"] for message in answer["messages"]}
        return told

    async def finish(self, timeout_s: float = 180.0) -> None:
        """Stops sending; returns once everything is acknowledged, everybody has heard everything and the rows hold it."""
        self._stopping.set()
        async with asyncio.timeout(timeout_s):
            for talker in self.talkers:
                await talker.client.acknowledged()
            while not all(self._complete(both) for both in self.conversations.values()):
                await asyncio.sleep(0.1)
            while not await asyncio.to_thread(self._stored):
                await asyncio.sleep(0.5)

    def _complete(self, both: tuple[Talker, Talker]) -> bool:
        last = max((seq for talker in both for seq in talker.acknowledged.values()), default=0)
        return all(talker.heard and talker.heard[-1].seq >= last for talker in both)

    def _stored(self) -> bool:
        """Whether the rows hold as many messages as were acknowledged."""
        with psycopg.connect(self._platform.settings.database_url.get_secret_value()) as rows:
            (count,) = rows.execute(
                "SELECT count(*) FROM messages WHERE conversation_id = ANY(%s::uuid[])", (list(self.conversations),)
            ).fetchone() or (0,)
        return bool(count >= sum(len(talker.acknowledged) for talker in self.talkers))

    def check(self) -> int:
        """Asserts that nothing acknowledged is lost, doubled or out of order, for any device, and in the rows; how many."""
        count = 0
        with psycopg.connect(self._platform.settings.database_url.get_secret_value()) as rows:
            for conversation, both in self.conversations.items():
                stored = rows.execute(
                    "SELECT seq, sender_id::text, content FROM messages WHERE conversation_id = %s ORDER BY seq",
                    (conversation,),
                ).fetchall()
                numbers = [seq for seq, _, _ in stored]
                assert numbers == list(range(1, len(stored) + 1)), f"numbers in rows: {numbers}"
                assert len({(sender, content) for _, sender, content in stored}) == len(stored), "a message is there twice"
                by_number = {seq: (sender, content) for seq, sender, content in stored}
                for talker in both:
                    assert not talker.client._unacknowledged
                    for client_id, seq in talker.acknowledged.items():
                        assert by_number[seq] == (talker.user_id, talker.sent[client_id]), "not what was acknowledged"
                    heard = [(frame.seq, frame.sender_id, frame.content) for frame in talker.heard]
                    assert heard == stored[: len(heard)], "a device heard something else than the rows hold"
                    count += len(talker.acknowledged)
        return count

"""The API with shards, writers and rows, all in this process, on servers of its own: what moderators do reaches everything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
from api_world import Person, Shards, World, unhurried

from cluster.connections.postgres import connect
from cluster.connections.redis import sync_client
from cluster.launch.prepare import prepare
from cluster.launch.servers import EmbeddedServers
from configs.contracts.ids import new_id
from configs.contracts.read_model import GENERATION
from configs.settings import Settings
from writers.loader import Loader
from writers.rebuild import server_run
from writers.worker import Writer

HERE = (48.2, 16.37)


class SafetyWorld:
    """Two API replicas over the same shards and one writer."""

    def __init__(self, settings: Settings, writer: Writer, loader: Loader, shards: Shards) -> None:
        self.settings = settings
        self.writer = writer
        self.loader = loader
        self.shards = shards
        self.here, self.elsewhere = World(settings, shards), World(settings, shards)
        self.died: list[str] = []

    @classmethod
    async def start(cls, servers: EmbeddedServers) -> SafetyWorld:
        settings = prepare(servers.settings())
        settings = settings.model_copy(update={"plan": settings.plan.model_copy(update={"writer_actors": 1})})
        died: list[str] = []
        writer = Writer(settings, 0, fenced=died.append)
        writer.start()

        def rebuilt() -> bool:
            with sync_client(settings) as client:
                return (client.get(GENERATION) or b"").rpartition(b":")[2].decode() == server_run(client)

        await until(rebuilt)
        loader = Loader(settings)
        shards = Shards(unhurried(settings), loader)  # type: ignore[arg-type]
        await shards.ready()
        made = cls(settings, writer, loader, shards)
        made.died = died
        for world in (made.here, made.elsewhere):
            await world.dependencies.start()
        return made

    async def close(self) -> None:
        await self.here.close()
        await self.elsewhere.close()
        await self.shards.close()
        self.writer.stop()
        await self.loader.close()
        assert self.died == self.shards.died == []

    async def as_service(self, method: str, path: str, **options: Any) -> httpx.Response:
        token = self.here.dependencies.tokens.issue_service("test", 600)
        return await self.here.client.request(
            method, f"/api/v1{path}", headers={"Authorization": f"Bearer {token}"}, **options
        )

    async def moderator(self, role: str = "moderator") -> Person:
        """Somebody with a role, signed in under it."""
        person = await self.here.register()
        granted = await self.as_service("PUT", "/moderation/roles", json={"email": person.email, "role": role})
        assert granted.status_code == 200, granted.text
        return await self.signed_in(person)

    async def signed_in(self, person: Person) -> Person:
        answer = await self.here.client.post("/api/v1/auth/login", json={"email": person.email, "password": person.password})
        assert answer.status_code == 200, answer.text
        tokens = answer.json()
        return Person(
            person.user_id, person.email, person.password, tokens["accessToken"], tokens["refreshToken"], self.here
        )

    async def in_rows(self, person: Person) -> None:
        """Returns once the rows hold the person's account, which the loader is asked for."""
        async with asyncio.timeout(30):
            while not await self.loader.addresses((person.user_id,)):
                await asyncio.sleep(0.05)

    async def decide(self, by: Person, target_id: str, action: str, *, seen: int = 0, **fields: Any) -> httpx.Response:
        body = {
            "targetType": "user", "action": action, "category": "harassment", "statement": "It was harassment.", "seen": seen,
        }
        return await by.ask("POST", f"/moderation/cases/{target_id}/decisions", json=body | fields)


async def until(holds: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """The first true value of a function or coroutine function."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = holds()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.05)


async def seconds_until(holds: Callable[[], Any], timeout_s: float = 30.0) -> float:
    began = time.monotonic()
    await until(holds, timeout_s)
    return time.monotonic() - began


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


def hours_from_now(at: str) -> float:
    return (datetime.fromisoformat(at) - datetime.now(UTC)).total_seconds() / 3_600


async def pair(safety: SafetyWorld) -> tuple[Person, Person, str]:
    """Two people who have matched, and their conversation."""
    one, other = await safety.here.register(at=HERE), await safety.here.register("sugar_daddy", at=HERE)
    await one.swipe(other)
    matched = await other.swipe(one)
    await safety.in_rows(one)
    await safety.in_rows(other)
    return one, other, matched["matchId"]


async def send(person: Person, conversation: str, text: str = "hello") -> Any:
    return await person.ask("POST", "/messaging/send", json={
        "conversationId": conversation, "content": text, "clientMessageId": new_id(),
    })


async def appeal_token(safety: SafetyWorld, person: Person, decision_id: str) -> str:
    """As the notification of the decision holds it in the rows; the banned person reads it in a mail."""
    def found() -> Any:
        with connect(safety.settings, "test") as conn:
            row = conn.execute(
                "SELECT data->>'appealToken' FROM notifications WHERE user_id = %s AND data->>'decisionId' = %s",
                (person.user_id, decision_id),
            ).fetchone()
            return row and row[0]

    return str(await until(found))


async def reverse(safety: SafetyWorld, by: Person, subject: Person, target_id: str, decision_id: str) -> None:
    """The subject appeals, and another moderator takes the decision back."""
    token = await appeal_token(safety, subject, decision_id)
    appeal = await safety.here.client.post("/api/v1/moderation/appeals", json={"token": token, "text": "It is harmless."})
    assert appeal.status_code == 201, appeal.text
    outcome = {"outcome": "reversed", "statement": "It is."}
    answer = await by.ask("POST", f"/moderation/cases/{target_id}/appeals/{decision_id}", json=outcome)
    assert answer.status_code == 201, answer.text

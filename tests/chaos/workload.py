"""People who swipe at one another through the API and remember what was acknowledged to them.

Every request is retried with its Idempotency-Key until it is answered; what a client was told, and every answer that a
correct platform may not give, is kept for the check afterwards.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

PASSWORD = "correct horse battery staple"
RETRY_S = 0.2
GIVE_UP_S = 90.0


@dataclass(slots=True)
class Person:
    """One account, and what the platform acknowledged to it."""

    user_id: str
    email: str
    token: str
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Target -> action of the last acknowledged swipe."""
    unanswered: dict[str, str] = field(default_factory=dict)
    """Target -> action of a swipe sent after that and never answered: it may have taken effect or not."""
    told_matches: set[str] = field(default_factory=set)
    answered: int = 0
    """Requests with a good answer."""


@dataclass(slots=True)
class Tally:
    """Answers by kind; ``forbidden`` holds every answer that no fault excuses."""

    statuses: Counter[int] = field(default_factory=Counter)
    connection_errors: int = 0
    bare_500: int = 0
    without_retry_after: int = 0
    forbidden: list[str] = field(default_factory=list)
    longest_wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back to one request."""

    status_code: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


class Workload:
    """A population on one platform; ``run`` swipes until ``stop``."""

    def __init__(self, url: str, *, people: int = 40, seed: int = 1) -> None:
        self.url = url
        self.tally = Tally()
        self.people: list[Person] = []
        self._count = people
        self._random = random.Random(seed)
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> Workload:
        # A request by httpx takes several times the processor time of one that the platform answers.
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=100), timeout=aiohttp.ClientTimeout(total=15.0)
        )
        self.people = list(await asyncio.gather(*(self._register(number) for number in range(self._count))))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.close()

    async def _register(self, number: int) -> Person:
        email = f"chaos-{uuid.uuid4().hex}@example.com"
        answer = await self.send(
            "POST", "/auth/register", key=uuid.uuid4().hex,
            body={
                "email": email, "password": PASSWORD, "role": "sugar_baby" if number % 2 else "sugar_daddy",
                "displayName": f"Person {number}", "birthDate": "1990-01-01",
            },
        )
        assert answer is not None, "registration never answered"
        assert answer.status_code == 201, answer.text
        body = answer.json()
        return Person(body["userId"], email, body["accessToken"])

    async def send(self, method: str, path: str, *, person: Person | None = None, key: str | None = None,
                   body: dict[str, object] | None = None) -> Answer | None:
        """The first final answer (2xx or 4xx but 429), after as many retries as it takes; None: gave up."""
        headers = {"Authorization": f"Bearer {person.token}"} if person else {}
        if key:
            headers["Idempotency-Key"] = key
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() - began < GIVE_UP_S:
            try:
                async with self._client.request(method, f"{self.url}/api/v1{path}", headers=headers, json=body) as got:
                    answer = Answer(got.status, got.headers, await got.text())
            except (aiohttp.ClientError, TimeoutError):
                self.tally.connection_errors += 1
                await asyncio.sleep(RETRY_S)
                continue
            self.tally.statuses[answer.status_code] += 1
            self.tally.longest_wait_s = max(self.tally.longest_wait_s, loop.time() - began)
            if answer.status_code in (429, 503):
                if "retry-after" not in answer.headers:
                    self.tally.without_retry_after += 1
                await asyncio.sleep(RETRY_S)
                continue
            if answer.status_code >= 500:
                if "application/problem+json" in answer.headers.get("content-type", ""):
                    self.tally.forbidden.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
                else:
                    self.tally.bare_500 += 1
                await asyncio.sleep(RETRY_S)
                continue
            if person is not None and answer.status_code == 200:
                person.answered += 1
            return answer
        return None

    async def swipe(self, person: Person, target: Person, action: str) -> Answer | None:
        person.unanswered[target.user_id] = action
        answer = await self.send(
            "POST", "/matching/swipe", person=person, key=uuid.uuid4().hex,
            body={"targetUserId": target.user_id, "action": action},
        )
        if answer is None:
            return None
        if answer.status_code != 200:
            self.tally.forbidden.append(f"swipe: {answer.status_code} {answer.text[:200]}")
            return answer
        person.acknowledged[target.user_id] = action
        person.unanswered.pop(target.user_id, None)
        if answer.json()["matched"]:
            person.told_matches.add(answer.json()["matchId"])
        return answer

    async def run(self, *, pause_s: float = 0.02) -> None:
        """Everybody swipes at random until ``stop``; one request of a person at a time."""
        await asyncio.gather(*(self._swipe_on(person, pause_s) for person in self.people))

    async def _swipe_on(self, person: Person, pause_s: float) -> None:
        others = [other for other in self.people if other is not person]
        for _ in itertools.count():
            if self._stopping.is_set():
                return
            action = self._random.choice(["like", "like", "pass"])
            await self.swipe(person, self._random.choice(others), action)
            await asyncio.sleep(pause_s * self._random.random() * 2)

    def stop(self) -> None:
        self._stopping.set()

    async def everything(self, person: Person, path: str, name: str) -> list[dict[str, object]]:
        """All entries of a paged list."""
        entries: list[dict[str, object]] = []
        cursor = ""
        while True:
            answer = await self.send("GET", f"{path}?limit=100{cursor}", person=person)
            assert answer is not None
            assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:200]}"
            body = answer.json()
            entries += body[name]
            if not body.get("nextCursor"):
                return entries
            cursor = f"&cursor={body['nextCursor']}"

"""People of a run: each does one thing after another, retries until it is answered, and writes down what it was told."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from cluster.launch.chaos.history import History, Operation, Outcome
from cluster.launch.chaos.trading import CREATORS, CURRENCY, PRICE_MINOR, Ask, Market
from configs.contracts.ids import match_id

PEOPLE: Final = 24
PASSWORD: Final = "correct horse battery staple"  # noqa: S105  # of made-up people
RETRY_S: Final = 0.2
GIVE_UP_S: Final = 90.0
"""Longest fault and what recovers from it, with room; an operation that is not answered by then counts as unknown."""
PAUSE_S: Final = 0.1
WHAT: Final = ("swipe",) * 80 + ("send",) * 120 + ("look",) * 40 + ("tip",) * 20 + ("buy",) * 10 + ("open",) * 10 + ("unmatch", "block")

TOLD: Final = (("match", "matchId"), ("seq", "seq"), ("id", "id"), ("status", "status"), ("access", "access"))
"""(name in the history, field of the answer)."""


@dataclass(slots=True)
class Person:
    user_id: str
    email: str
    token: str
    chooser: random.Random
    matches: set[str] = field(default_factory=set)
    """Others whom the person was told to be matched with."""
    written: int = 0


class Clients:
    """Everybody, against one API; ``run`` until ``stop``."""

    def __init__(self, url: str, history: History, seed: int) -> None:
        self._history = history
        self._seed = seed
        self._http = httpx.AsyncClient(base_url=url + "/api/v1", timeout=10.0)
        self._market: Market | None = None
        self._stopping = False
        self.people: list[Person] = []
        self.ended: set[frozenset[str]] = set()
        """Pairs of which one set out to end the match: nobody swipes there again."""
        self.statuses: Counter[int] = Counter()
        self.broken = 0
        self.forbidden: list[str] = []
        """Answers that no fault excuses: a problem of status 500, a 503 or 429 without Retry-After."""

    async def register(self) -> None:
        """Makes the people; their choices come from the seed."""
        for number in range(PEOPLE):
            email = f"chaos-{uuid.uuid4().hex}@example.com"
            answer = await self._ask("POST", "/auth/register", None, {
                "email": email, "password": PASSWORD, "displayName": f"Person {number}",
                "role": "sugar_baby" if number % 2 else "sugar_daddy", "birthDate": "1990-01-01",
            })
            if answer is None or answer.status_code != 201:
                raise RuntimeError(f"registration: {answer and answer.text[:200]}")
            body = answer.json()
            self.people.append(Person(body["userId"], email, body["accessToken"], random.Random(f"{self._seed}/{number}")))  # noqa: S311  # repeatable, no secret

    async def trade(self, market: Market) -> None:
        """Some of the people sell from now on, and those of the other role pay them."""
        sellers, payers = self.people[1::2][:CREATORS], self.people[::2]
        await market.open({one.user_id: self._as(one) for one in sellers}, {one.user_id: self._as(one) for one in payers})
        self._market = market

    def _as(self, person: Person) -> Ask:
        return lambda method, path, body: self._ask(method, path, person, body)

    async def run(self) -> None:
        await asyncio.gather(*(self._live(person) for person in self.people))

    def stop(self) -> None:
        self._stopping = True

    async def close(self) -> None:
        await self._http.aclose()

    async def _live(self, person: Person) -> None:
        others = [other.user_id for other in self.people if other is not person]
        while not self._stopping and not self._history.full:
            what, other = person.chooser.choice(WHAT), person.chooser.choice(others)
            action = person.chooser.choice(("like", "like", "like", "pass"))
            mine = sorted(person.matches)
            if what == "swipe":
                if frozenset((person.user_id, other)) not in self.ended:
                    await self._swipe(person, other, action)
            elif what == "look":
                await self._look(person)
            elif what in ("tip", "buy", "open"):
                await self._trade(person, what)
            elif mine:
                chosen = mine[person.chooser.randrange(len(mine))]
                if what == "send":
                    await self._send(person, chosen)
                else:
                    await self._end(person, chosen, what)
            await asyncio.sleep(PAUSE_S * 2 * person.chooser.random())

    async def _swipe(self, person: Person, other: str, action: str) -> None:
        answer = await self._do(person, "swipe", "POST", "/matching/swipe", {"targetUserId": other, "action": action},
                                {"target": other, "action": action})
        if answer is not None and answer.get("matched"):
            person.matches.add(other)

    async def _send(self, person: Person, other: str) -> None:
        person.written += 1
        conversation, content = match_id(*sorted((person.user_id, other))), f"{person.user_id}/{person.written}"
        await self._do(person, "send", "POST", "/messaging/send", {
            "conversationId": conversation, "content": content, "clientMessageId": str(uuid.uuid4()),
        }, {"conversation": conversation, "content": content})

    async def _look(self, person: Person) -> None:
        answer = await self._do(person, "look", "GET", "/matching/matches?limit=100", None, {})
        if answer is not None:
            person.matches |= {entry["user"]["userId"] for entry in answer["matches"]}

    async def _trade(self, person: Person, what: str) -> None:
        market, chooser = self._market, person.chooser
        # Everybody chooses, so that what they choose next does not depend on who pays.
        number, creator, minor = chooser.randrange(1_000), chooser.randrange(CREATORS), chooser.randrange(100, 1_000)
        if market is None or person.user_id not in market.cards:
            return
        card, post = market.cards[person.user_id], market.posts[number % len(market.posts)]
        if what == "tip":
            person.written += 1
            message, amount = f"{person.user_id}/tip {person.written}", f"{minor // 100}.{minor % 100:02d}"
            await self._do(person, what, "POST", "/payments/tips", {
                "toUserId": market.creators[creator], "amount": amount, "currency": CURRENCY, "paymentMethodId": card, "message": message,
            }, {"what": message, "amount": minor})
        elif what == "buy":
            path = f"/payments/posts/{post}/purchase"
            await self._do(person, what, "POST", path, {"paymentMethodId": card}, {"what": post, "amount": PRICE_MINOR})
        else:
            await self._do(person, what, "GET", f"/content/posts/{post}", None, {"what": post})

    async def _end(self, person: Person, other: str, what: str) -> None:
        self.ended.add(frozenset((person.user_id, other)))
        if what == "unmatch":
            path = f"/matching/matches/{match_id(*sorted((person.user_id, other)))}"
            await self._do(person, "unmatch", "DELETE", path, None, {"target": other})
        else:
            await self._do(person, "block", "POST", f"/users/{other}/block", None, {"target": other})
        person.matches.discard(other)

    async def _do(
        self, person: Person, kind: str, method: str, path: str, body: dict[str, Any] | None, about: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The answer if it was acknowledged; written down in any case."""
        asked_s = self._history.now()
        answer = await self._ask(method, path, person, body)
        outcome: Outcome = "unknown" if answer is None else "ok" if answer.is_success else "refused"
        told: dict[str, Any] = answer.json() if answer is not None and outcome == "ok" else {}
        about |= {name: told[field] for name, field in TOLD if told.get(field) is not None}
        if kind == "look" and outcome == "ok":
            about["matches"] = [entry["matchId"] for entry in told["matches"]]
        if outcome == "refused" and answer is not None:
            about["status"] = answer.status_code
        self._history.add(Operation(person.user_id, kind, asked_s, self._history.now(), outcome, about))
        return told if outcome == "ok" else None

    async def _ask(self, method: str, path: str, person: Person | None, body: dict[str, Any] | None) -> httpx.Response | None:
        """The first final answer; None: none in time."""
        headers = {}
        if method != "GET":
            headers["Idempotency-Key"] = uuid.uuid4().hex
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() - began < GIVE_UP_S:
            if person is not None:
                headers["Authorization"] = f"Bearer {person.token}"
            try:
                answer = await self._http.request(method, path, headers=headers, json=body)
            except httpx.TransportError:
                self.broken += 1
                await asyncio.sleep(RETRY_S)
                continue
            status = answer.status_code
            self.statuses[status] += 1
            if status in (429, 503) and "retry-after" not in answer.headers:
                self.forbidden.append(f"{method} {path}: {status} without Retry-After")
            elif status >= 500 and status != 503 and "problem+json" in answer.headers.get("content-type", ""):
                self.forbidden.append(f"{method} {path}: {status} {answer.text[:200]}")
            if status == 401 and person is not None:
                await self._sign_in(person)
            elif status != 429 and status < 500:
                return answer
            await asyncio.sleep(RETRY_S)
        return None

    async def _sign_in(self, person: Person) -> None:
        """Tokens live for minutes, and fewer where a clock is wrong. What fails is tried again by whoever asked."""
        try:
            answer = await self._http.post("/auth/login", json={"email": person.email, "password": PASSWORD})
        except httpx.TransportError:
            self.broken += 1
            return
        self.statuses[answer.status_code] += 1
        if answer.is_success:
            person.token = answer.json()["accessToken"]

"""Raw HTTP requests of the scenarios, made before the load begins so that making them costs nothing while it runs."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import httpx

from configs.contracts.access_tokens import AccessTokens
from configs.contracts.ids import match_id, new_id
from configs.settings import Settings

DAILY_SHARE = 0.8
"""Share of a person's daily likes that one run may use."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A person of the demo population with an access token."""

    user_id: str
    token: str


def callers(settings: Settings, user_ids: Sequence[str]) -> list[Caller]:
    """Tokens signed with the platform's own key: sign-in has a scenario of its own."""
    tokens = AccessTokens(settings.auth)
    return [Caller(user, tokens.issue(user, new_id())) for user in user_ids]


def raw(method: str, path: str, *, token: str = "", body: object = None) -> bytes:
    """One HTTP/1.1 request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    data = b"" if body is None else json.dumps(body).encode()
    if data:
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return (head + "\r\n").encode() + data


def swipes(people: Sequence[Caller], count: int, *, seed: int) -> list[bytes]:
    """Half likes, half passes, on ordered pairs that are all distinct; the swiper changes with every request."""
    shuffled = list(people)
    random.Random(seed).shuffle(shuffled)  # noqa: S311  only an order
    size = len(shuffled)
    if count > size * (size - 1):
        raise ValueError(f"{count} distinct pairs need more than {size} people")
    requests = []
    for number in range(count):
        step, place = divmod(number, size)
        body = {"targetUserId": shuffled[(place + 1 + step) % size].user_id, "action": "like" if number % 2 else "pass"}
        requests.append(raw("POST", "/api/v1/matching/swipe", token=shuffled[place].token, body=body))
    return requests


Cards = Literal["warm", "cold", "first"]
AGES: Final = tuple((low, high) for low in range(18, 30) for high in range(60, 99))


def cards(people: Sequence[Caller], count: int, *, kind: Cards, begun: int = 0) -> list[bytes]:
    """Warm: a few hundred viewers who ask again and again. Cold: 1,000 viewers who ask with other filters each time, so
    that every request makes a deck. First: a viewer whose token, swipes and surroundings nobody has seen yet, each time.

    ``begun``: rounds of other filters that the cold viewers have been through already.
    """
    if kind == "warm":
        few = people[:200]
        return [raw("GET", "/api/v1/matching/cards", token=few[number % len(few)].token) for number in range(count)]
    people = people if kind == "first" else people[:1_000]
    requests = []
    for number in range(count):
        round_, place = divmod(number, len(people))
        low, high = AGES[(begun + round_) % len(AGES)]
        requests.append(raw("GET", f"/api/v1/matching/cards?ageMin={low}&ageMax={high}", token=people[place].token))
    return requests


def logins(addresses: Sequence[str], password: str, count: int) -> list[bytes]:
    return [
        raw("POST", "/api/v1/auth/login", body={"email": addresses[number % len(addresses)], "password": password})
        for number in range(count)
    ]


def mixed(people: Sequence[Caller], count: int, *, seed: int) -> list[bytes]:
    """Two swipes to one card request, as the capacity plan has them (10,000 and 5,000 a second)."""
    swiping, looking = iter(swipes(people, count, seed=seed)), iter(cards(people, count, kind="warm"))
    return [next(looking) if number % 3 == 2 else next(swiping) for number in range(count)]


def mutual_likes(people: Sequence[Caller]) -> list[bytes]:
    """Everybody and their neighbour in the list like each other: first one side of every pair, then the other."""
    couples = list(zip(people[::2], people[1::2], strict=False))
    return [
        raw("POST", "/api/v1/matching/swipe", token=liker.token, body={"targetUserId": liked.user_id, "action": "like"})
        for liker, liked in couples + [(liked, liker) for liker, liked in couples]
    ]


def messages(people: Sequence[Caller], count: int, *, seed: int) -> list[bytes]:
    """Messages of 60 characters between neighbours in the list, in all their conversations in turn, each side in turn."""
    couples = list(zip(people[::2], people[1::2], strict=False))
    made = []
    for number in range(count):
        round_, place = divmod(number, len(couples))
        sender, other = couples[place] if round_ % 2 else couples[place][::-1]
        made.append(raw("POST", "/api/v1/messaging/send", token=sender.token, body={
            "conversationId": match_id(sender.user_id, other.user_id), "clientMessageId": f"{seed}-{number}",
            "content": f"{number:08d} and some more of what people say to one another.",
        }))
    return made


PASSWORD = "a password for the bench only"  # noqa: S105  made-up accounts of a local platform


def register_people(port: int, count: int) -> list[str]:
    """Registers people through the API and returns their addresses."""
    addresses = [f"bench-{new_id()}@example.com" for _ in range(count)]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30.0) as client:
        for address in addresses:
            client.post("/auth/register", json={
                "email": address, "password": PASSWORD, "role": "sugar_baby", "displayName": "Bench",
                "birthDate": "1990-01-01",
            }).raise_for_status()
    return addresses

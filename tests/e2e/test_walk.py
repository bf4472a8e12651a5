"""From registration to match over HTTP on a whole platform, as an app would."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from typing import Any

import httpx
import pytest
from local_http import local_client
from running import Platform, eventually

pytestmark = [pytest.mark.platform, pytest.mark.timeout(600)]

PASSWORD = "correct horse battery"


def registration(address: str, role: str = "sugar_baby") -> dict[str, str]:
    return {"email": address, "password": PASSWORD, "role": role, "displayName": "Walker", "birthDate": "1994-05-17"}


def address() -> str:
    return f"walk-{uuid.uuid4().hex}@example.com"


@pytest.fixture
def api(platform: Platform) -> Any:
    platform.wait_well()
    with platform.client() as client:
        yield client


def signed_up(api: httpx.Client, role: str) -> tuple[str, dict[str, str]]:
    answer = api.post("/auth/register", json=registration(address(), role))
    assert answer.status_code == 201, answer.text
    body = answer.json()
    return body["userId"], {"Authorization": f"Bearer {body['accessToken']}"}


def test_two_people_register_see_each_other_and_match(api: httpx.Client) -> None:
    (ada, as_ada), (ben, as_ben) = signed_up(api, "sugar_baby"), signed_up(api, "sugar_daddy")
    assert api.get("/matching/cards", headers=as_ada).status_code == 409, "cards without a location"
    # A place where nobody else of the suite lives.
    for who in (as_ada, as_ben):
        assert api.put("/users/me/location", headers=who, json={"latitude": -51.7, "longitude": -57.85}).status_code == 200

    def cards(who: dict[str, str]) -> list[str]:
        return [card["userId"] for card in api.get("/matching/cards", headers=who).json()["cards"]]

    # The index hears of Ben from the log, and an empty deck is kept for ten seconds.
    eventually(lambda: ben in cards(as_ada), 30.0, every_s=0.5)
    first = api.post("/matching/swipe", headers=as_ada, json={"targetUserId": ben, "action": "like"})
    assert first.json() == {"matched": False}
    assert ben not in cards(as_ada), "a swiped person was shown again"

    def matched() -> Any:
        answer = api.post("/matching/swipe", headers=as_ben, json={"targetUserId": ada, "action": "like"}).json()
        return answer["matched"] and answer

    # An answer waits half a second for the other person's shard; a match that is made later is told to who asks again.
    second = eventually(matched, 30.0)
    for who, other in ((as_ada, ben), (as_ben, ada)):
        [match] = api.get("/matching/matches", headers=who).json()["matches"]
        assert (match["matchId"], match["user"]["userId"]) == (second["matchId"], other)
    assert api.delete(f"/matching/matches/{second['matchId']}", headers=as_ada).status_code == 200
    for who in (as_ada, as_ben):
        assert api.get("/matching/matches", headers=who).json()["matches"] == []
        assert api.get("/messaging/conversations", headers=who).json()["conversations"] == []


def test_a_block_hides_both_and_is_answered_as_an_unknown_person(api: httpx.Client) -> None:
    (ada, as_ada), (ben, as_ben) = signed_up(api, "sugar_baby"), signed_up(api, "sugar_daddy")
    assert api.post(f"/users/{ben}/block", headers=as_ada).status_code in (200, 201, 204)
    unknown = api.get(f"/users/profile/{uuid.uuid4()}", headers=as_ben)
    blocked = api.get(f"/users/profile/{ada}", headers=as_ben)
    assert (blocked.status_code, blocked.json()["code"]) == (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert api.post("/matching/swipe", headers=as_ben, json={"targetUserId": ada, "action": "like"}).status_code == 404


def test_tokens_rotate_and_reuse_revokes_the_family(api: httpx.Client) -> None:
    body = api.post("/auth/register", json=registration(address())).json()
    first = body["refreshToken"]
    second = api.post("/auth/refresh", json={"refreshToken": first})
    assert second.status_code == 200
    again = api.post("/auth/refresh", json={"refreshToken": first}).json()
    assert again["refreshToken"] == second.json()["refreshToken"], "a lost answer could not be asked for again"
    third = api.post("/auth/refresh", json={"refreshToken": again["refreshToken"]}).json()
    assert api.post("/auth/refresh", json={"refreshToken": first}).status_code == 401
    assert api.post("/auth/refresh", json={"refreshToken": third["refreshToken"]}).status_code == 401


async def test_an_address_is_registered_once_though_fifty_race_and_valkey_restarts(platform: Platform) -> None:
    await asyncio.to_thread(platform.wait_well)
    wanted = address()
    async with local_client(base_url=platform.url + "/api/v1", timeout=30.0) as client:

        async def register(number: int) -> httpx.Response:
            while True:
                if number == 25:
                    platform.kill("valkey")
                try:
                    answer = await client.post("/auth/register", json=registration(wanted))
                except httpx.TransportError:
                    answer = None
                if answer is not None and answer.status_code not in (429, 503):
                    return answer
                number = -1
                await asyncio.sleep(0.3)

        answers = await asyncio.gather(*(register(number) for number in range(50)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {201, 409}, statuses
    assert statuses.count(201) <= 1, "one address was registered twice"
    accounts = {answer.json()["userId"] for answer in answers if answer.status_code == 201}
    assert len(accounts) <= 1
    await asyncio.to_thread(platform.wait_well)
    async with local_client(base_url=platform.url + "/api/v1", timeout=30.0) as client:
        for _ in range(100):
            login = await client.post("/auth/login", json={"email": wanted, "password": PASSWORD})
            if login.status_code == 200:
                break
            await asyncio.sleep(0.3)
        assert login.status_code == 200, "nobody can sign in with the address that was registered"


def test_a_client_that_does_not_send_its_body_is_told_so_and_holds_nobody_up(platform: Platform) -> None:
    platform.wait_well()
    head = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", platform.port), timeout=30) as connection:
        connection.sendall(head)
        began = time.monotonic()
        answer = connection.recv(1_024)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 20

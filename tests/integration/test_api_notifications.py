"""Lists, unread counts, preferences and devices through the API: what is answered, what is recorded, what is refused."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from api_world import Person, World
from log_reading import records_of
from py_vapid import Vapid02
from pydantic import SecretStr

from configs.contracts.notifying import device_id
from configs.contracts.read_model import LISTING_BOUNDS, REVOKED
from configs.settings import Settings

pytestmark = pytest.mark.servers

POINT = base64.urlsafe_b64encode(b"\x04" + b"x" * 64).decode().rstrip("=")
SECRET = base64.urlsafe_b64encode(b"s" * 16).decode().rstrip("=")
ENDPOINT = "https://updates.push.services.mozilla.com/wpush/v2/abc"


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def tell(world: World, person: Person, count: int, title: str = "Hello", about: Person | None = None) -> list[str]:
    headers = {"Authorization": f"Bearer {world.dependencies.tokens.issue_service('crm', 60)}"}
    answers = []
    for number in range(count):
        data = {} if about is None else {"userId": about.user_id}
        body = {"userId": person.user_id, "type": "system", "title": f"{title} {number}", "data": data}
        answers.append(await world.client.post("/api/v1/notifications/send", json=body, headers=headers))
    return [answer.json()["notificationId"] for answer in answers]


async def unread(person: Person) -> int:
    return int((await person.ok("GET", "/notifications/list", params={"limit": 1}))["unreadCount"])


async def test_the_unread_count_follows_what_is_sent_and_read(world: World) -> None:
    person, other = await world.register(), await world.register()
    assert await unread(person) == 0
    first, second, _ = await tell(world, person, 3)
    assert await unread(person) == 3
    for _ in range(2):
        await person.ok("POST", f"/notifications/read/{first}")
    assert (await unread(person), await unread(other)) == (2, 0)
    assert (await person.ok("POST", "/notifications/read-all")) == {"success": True}
    listed = (await person.ok("GET", "/notifications/list"))["notifications"]
    assert [entry["read"] for entry in listed] == [True, True, True]
    assert await unread(person) == 0
    await tell(world, person, 1)
    assert await unread(person) == 1
    await person.ok("POST", f"/notifications/read/{second}")
    assert await unread(person) == 1


async def test_reading_everything_is_one_event_and_none_when_nothing_is_unread(world: World, servers: Settings) -> None:
    person = await world.register()
    await person.ok("POST", "/notifications/read-all")
    await tell(world, person, 3)
    await asyncio.gather(*(person.ok("POST", "/notifications/read-all", key="once") for _ in range(3)))
    await person.ok("POST", "/notifications/read-all")
    found = await asyncio.to_thread(records_of, servers, "notification.send", person.user_id)
    assert [event.payload.TYPE for event in found] == [*["notification_sent"] * 3, "notifications_read"]


async def test_the_unread_are_counted_among_those_kept(world: World) -> None:
    person = await world.register()
    await asyncio.gather(*(tell(world, person, 51, f"burst {number}") for number in range(10)))
    assert await unread(person) == LISTING_BOUNDS["note"]


async def test_the_unread_are_those_that_the_list_shows(world: World) -> None:
    person, blocked, blocking, leaving, stays = [await world.register() for _ in range(5)]
    for other in (None, person, blocked, blocking, leaving, stays):
        await tell(world, person, 2, about=other)
    assert await unread(person) == 12
    await person.ok("POST", f"/users/{blocked.user_id}/block")
    await blocking.ok("POST", f"/users/{person.user_id}/block")
    await leaving.ok("DELETE", "/users/me")
    listed = (await person.ok("GET", "/notifications/list"))["notifications"]
    assert {entry["data"].get("userId") for entry in listed} == {None, person.user_id, stays.user_id}
    assert await unread(person) == len(listed) == 6
    await person.ok("POST", f"/notifications/read/{listed[0]['notificationId']}")
    assert await unread(person) == 5


async def test_many_unread_are_counted_in_as_many_round_trips_as_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    person, other = await world.register(), await world.register()
    read, trips = world.dependencies.reads.read, 0

    async def counted(*commands: Any) -> Any:
        nonlocal trips
        trips += not any(REVOKED in command for command in commands)  # which the replica polls meanwhile
        return await read(*commands)

    monkeypatch.setattr(world.dependencies.reads, "read", counted)

    async def asked() -> int:
        before = trips
        await unread(person)
        return trips - before

    await tell(world, person, 1, about=other)
    few = await asked()
    assert few
    await tell(world, person, 40, about=other)
    assert (await unread(person), await asked()) == (41, few)


async def test_preferences_begin_open_and_change_by_the_fields_that_are_sent(world: World) -> None:
    person = await world.register()
    everything = {"inApp": True, "push": True}
    kinds = {"match": everything, "message": {"inApp": False, "push": True}, "like": everything, "superLike": everything, "system": everything}
    kinds |= dict.fromkeys(("subscriber", "post", "tip", "purchase"), everything)
    began = {"kinds": kinds, "quietHours": None, "timeZone": "UTC", "showContent": False, "mailReminders": False}
    assert await person.ok("GET", "/notifications/preferences") == began
    assert await person.ok("PUT", "/notifications/preferences", json={}) == began
    body: dict[str, Any] = {
        "kinds": {"like": {"push": False}, "superLike": {"inApp": False}, "tip": {"push": False}, "post": {"inApp": False}}, "timeZone": "Europe/Berlin",
        "quietHours": {"start": "22:30", "end": "07:00"},
    }
    changed = await person.ok("PUT", "/notifications/preferences", json=body)
    assert changed == began | {
        "kinds": kinds | {
            "like": {"inApp": True, "push": False}, "superLike": {"inApp": False, "push": True},
            "tip": {"inApp": True, "push": False}, "post": {"inApp": False, "push": True},
        },
        "timeZone": "Europe/Berlin", "quietHours": {"start": "22:30", "end": "07:00"},
    }
    for field in ("showContent", "mailReminders"):
        changed |= {field: True}
        assert await person.ok("PUT", "/notifications/preferences", json={field: True}) == changed
    ended = await person.ok("PUT", "/notifications/preferences", json={"quietHours": {"start": "00:00", "end": "00:00"}})
    assert ended["quietHours"] is None
    assert await person.ok("GET", "/notifications/preferences") == ended
    assert (await person.ok("GET", "/users/me"))["displayName"], "the record of preferences is the person's"


@pytest.mark.parametrize(
    "body",
    [
        {"timeZone": "Berlin"}, {"timeZone": "../etc/passwd"}, {"timeZone": "A/" + "b" * 80}, {"timeZone": 1},
        {"quietHours": {"start": "24:00", "end": "07:00"}}, {"quietHours": {"start": "22:00"}}, {"quietHours": "22:00-07:00"},
        {"kinds": {"message": {"inApp": True}}}, {"kinds": {"system": {"inApp": False}}}, {"kinds": {"poke": {"push": True}}},
        {"kinds": {"like": {"push": "no"}}}, {"showContent": 1}, {"mailReminders": "yes"}, {"unknown": True}, [],
    ],
)
async def test_preferences_that_are_none_are_refused_and_change_nothing(world: World, body: Any) -> None:
    person = await world.register()
    before = await person.ok("GET", "/notifications/preferences")
    assert code(await person.ask("PUT", "/notifications/preferences", json=body)) == (422, "invalid")
    assert await person.ok("GET", "/notifications/preferences") == before


async def test_a_device_is_one_event_under_its_tokens_name(world: World, servers: Settings) -> None:
    """All registrations of a token lie in one partition in one order, whoever makes them: the last one owns it."""
    one, other = await world.register(), await world.register()
    token = f"token-of-{one.user_id}"
    for person in (one, other):
        made = await person.ok("POST", "/notifications/devices", json={"platform": "fcm", "token": token}, key="k")
        again = await person.ok("POST", "/notifications/devices", json={"platform": "fcm", "token": token}, key="k")
        assert made == again == {"deviceId": device_id("fcm", token)}
    await one.ok("DELETE", "/notifications/devices", params={"deviceId": made["deviceId"]})
    found = await asyncio.to_thread(records_of, servers, "notification.devices", made["deviceId"])
    assert [(event.payload.TYPE, event.payload.user_id) for event in found] == [
        ("device_registered", one.user_id), ("device_registered", other.user_id), ("device_removed", one.user_id),
    ]


async def test_one_key_serves_one_device(world: World) -> None:
    person = await world.register()
    await person.ok("POST", "/notifications/devices", json={"platform": "fcm", "token": "token-one"}, key="k")
    answer = await person.ask("POST", "/notifications/devices", json={"platform": "fcm", "token": "token-two"}, key="k")
    assert code(answer) == (409, "idempotency_conflict")


SUBSCRIPTION = {"platform": "webpush", "token": ENDPOINT, "p256dh": POINT, "auth": SECRET}


async def test_a_subscription_of_a_known_push_service_is_taken(world: World) -> None:
    person = await world.register()
    assert (await person.ask("POST", "/notifications/devices", json=SUBSCRIPTION)).status_code == 201
    beneath = SUBSCRIPTION | {"token": "https://db5.notify.windows.com/w/?token=x"}
    assert (await person.ask("POST", "/notifications/devices", json=beneath)).status_code == 201


@pytest.mark.parametrize(
    "change",
    [
        {"token": "https://169.254.169.254/latest/meta-data"}, {"token": "http://updates.push.services.mozilla.com/x"},
        {"token": "https://updates.push.services.mozilla.com.evil.example/x"}, {"token": "https://localhost:6379/flushall"},
        {"token": "https://evilnotify.windows.com/x"}, {"token": "https://user@fcm.googleapis.com/x"},
        {"token": "https://fcm.googleapis.com:6379/x"}, {"token": "https://[::1"}, {"token": "https://fcm.googleapis.com:x/"},
        {"token": "not a url at all"}, {"p256dh": SECRET}, {"auth": POINT}, {"p256dh": None}, {"auth": None},
        {"platform": "fcm"}, {"platform": "pager"}, {"token": "x" * 2_049}, {"token": ""}, {"extra": 1},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
async def test_a_subscription_that_leads_elsewhere_is_refused(world: World, change: dict[str, Any]) -> None:
    """The platform posts to what a subscription names: it must never be an address inside."""
    person = await world.register()
    assert code(await person.ask("POST", "/notifications/devices", json=SUBSCRIPTION | change)) == (422, "invalid")


async def test_only_people_have_devices(world: World) -> None:
    for method, path in (("POST", "/notifications/devices"), ("PUT", "/notifications/preferences"), ("POST", "/notifications/read-all")):
        assert code(await world.client.request(method, f"/api/v1{path}", json={})) == (401, "unauthenticated")


async def test_a_browser_gets_the_key_that_pushes_are_signed_with(make_world: Any, servers: Settings) -> None:
    vapid = Vapid02()
    vapid.generate_keys()
    push = servers.push.model_copy(update={
        "vapid_key_pem": SecretStr(vapid.private_pem().decode()), "vapid_subject": "mailto:ops@example.com",
    })
    world, without = await make_world(push=push), await make_world()
    person = await world.register()
    key = (await person.ok("GET", "/notifications/devices/webpush-key"))["publicKey"]
    signed = vapid.sign({"aud": "https://push.example", "sub": "mailto:ops@example.com"})["Authorization"]
    assert signed.endswith(f",k={key}")
    person.world = without
    assert (await person.ask("GET", "/notifications/devices/webpush-key")).status_code == 404

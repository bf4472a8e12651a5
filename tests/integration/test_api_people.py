"""Accounts, sessions and profiles through the API on real servers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from api_world import World

from cluster.connections.kafka import LogAppender
from configs.contracts.errors import ShardUnavailable
from configs.contracts.ids import new_id
from configs.contracts.topics import AUTH_SESSIONS

pytestmark = pytest.mark.servers


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_whoever_registers_is_signed_in_and_sees_themselves(world: World) -> None:
    person = await world.register("sugar_daddy", displayName="Ben")
    me = await person.ok("GET", "/users/me")
    assert (me["userId"], me["displayName"], me["role"], me["location"]) == (person.user_id, "Ben", "sugar_daddy", None)
    assert me["preferences"]["roles"] == ["sugar_baby"]
    session = await person.ok("GET", "/auth/me")
    assert (session["userId"], session["permissionRole"]) == (person.user_id, "user")


async def test_of_fifty_racing_registrations_of_one_address_one_wins(world: World) -> None:
    body = world.body()
    answers = await asyncio.gather(*(world.client.post("/api/v1/auth/register", json=body) for _ in range(50)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 49}


async def test_the_case_of_an_address_does_not_matter(world: World) -> None:
    body = world.body()
    assert (await world.client.post("/api/v1/auth/register", json=body)).status_code == 201
    again = await world.client.post("/api/v1/auth/register", json=body | {"email": body["email"].upper()})
    assert code(again) == (409, "address_taken")


async def test_a_repeated_registration_with_its_key_names_the_same_person(world: World) -> None:
    body, headers = world.body(), {"Idempotency-Key": new_id()}
    first = await world.client.post("/api/v1/auth/register", json=body, headers=headers)
    again = await world.client.post("/api/v1/auth/register", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["userId"] == again.json()["userId"]
    other = await world.client.post("/api/v1/auth/register", json=body | {"displayName": "Other"}, headers=headers)
    assert code(other) == (409, "idempotency_conflict")


async def test_whoever_registered_in_vain_at_first_is_seen_by_others_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request was told 503 although its event was appended; rows and projections come later."""
    body, headers, other = world.body(), {"Idempotency-Key": new_id()}, await world.register()

    async def nothing(*operations: object) -> None: ...

    with monkeypatch.context() as patched:
        patched.setattr(world.dependencies.write_through, "apply", nothing)
        first = await world.client.post("/api/v1/auth/register", json=body, headers=headers)
    user_id = first.json()["userId"]
    again = await world.client.post("/api/v1/auth/register", json=body, headers=headers)
    assert (again.status_code, again.json()["userId"]) == (201, user_id)
    assert (await other.ask("GET", f"/users/profile/{user_id}")).status_code == 200


async def test_a_repeated_registration_signs_nobody_in_whose_session_has_ended(world: World) -> None:
    """Otherwise whoever knows the request is in again for an access token's life, which no replica remembers to refuse."""
    def repeat(key: str, body: dict[str, Any]) -> Awaitable[httpx.Response]:
        return world.client.post("/api/v1/auth/register", json=body, headers={"Idempotency-Key": key})

    for path, sent in (("logout", {}), ("password/change", {"currentPassword": "", "newPassword": "another password, longer"})):
        key, body = new_id(), world.body()
        first = (await repeat(key, body)).json()
        assert (await repeat(key, body)).status_code == 201
        headers = {"Authorization": f"Bearer {first['accessToken']}"}
        if sent:
            sent["currentPassword"] = body["password"]
        ended = await world.client.post(f"/api/v1/auth/{path}", json=sent, headers=headers)
        assert ended.status_code == 200, ended.text
        assert code(await repeat(key, body)) == (409, "address_taken")


async def test_registrations_of_one_address_are_limited(world: World, make_world: Callable[..., Awaitable[World]]) -> None:
    small = await make_world(limits=world.settings.limits.model_copy(update={"registrations_per_account_an_hour": 3}))
    body = small.body()
    answers = [await small.client.post("/api/v1/auth/register", json=body) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [201, 409, 409, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_nobody_under_eighteen_registers(world: World) -> None:
    answer = await world.client.post("/api/v1/auth/register", json=world.body(birthDate="2015-01-01"))
    assert code(answer) == (422, "underage")


async def test_a_wrong_password_and_an_unknown_address_look_alike(world: World) -> None:
    person = await world.register()
    wrong = await world.client.post("/api/v1/auth/login", json={"email": person.email, "password": "not the password"})
    unknown = await world.client.post("/api/v1/auth/login", json={"email": "nobody@example.com", "password": "whatever it is"})
    assert code(wrong) == code(unknown) == (401, "wrong_credentials")
    assert wrong.content == unknown.content
    assert set(wrong.headers) == set(unknown.headers)


async def test_both_failures_to_sign_in_take_the_same_steps(world: World) -> None:
    person = await world.register()

    async def steps(email: str) -> tuple[int, int]:
        """(passwords hashed, addresses asked of the writers)"""
        hashed, asked = world.dependencies.passwords.verified, len(world.shards.loader.warmed)
        await world.client.post("/api/v1/auth/login", json={"email": email, "password": "not the password"})
        return world.dependencies.passwords.verified - hashed, len(world.shards.loader.warmed) - asked

    assert await steps(person.email) == await steps(f"{new_id()}@example.com") == (1, 1)


async def test_sign_in_attempts_on_one_address_are_limited(world: World) -> None:
    person = await world.register()
    limit = world.settings.limits.logins_per_account_a_minute
    answers = await asyncio.gather(*(
        world.client.post("/api/v1/auth/login", json={"email": person.email, "password": "not the password"})
        for _ in range(limit + 1)
    ))
    (refused,) = [answer for answer in answers if answer.status_code != 401]
    assert code(refused) == (429, "too_many_requests")
    assert int(refused.headers["retry-after"]) >= 1


async def test_signing_in_works_with_the_right_password(world: World) -> None:
    person = await world.register()
    answer = await world.client.post("/api/v1/auth/login", json={"email": person.email, "password": person.password})
    assert answer.status_code == 200
    assert answer.json()["userId"] == person.user_id


async def refresh(world: World, token: str) -> httpx.Response:
    return await world.client.post("/api/v1/auth/refresh", json={"refreshToken": token})


async def test_a_lost_refresh_answer_may_be_asked_for_again(world: World) -> None:
    person = await world.register()
    first = await refresh(world, person.refresh_token)
    again = await refresh(world, person.refresh_token)
    assert first.json()["refreshToken"] == again.json()["refreshToken"] != person.refresh_token


async def test_reuse_of_an_old_refresh_token_ends_the_family(world: World) -> None:
    person = await world.register()
    second = (await refresh(world, person.refresh_token)).json()["refreshToken"]
    third = await refresh(world, second)
    assert code(await refresh(world, person.refresh_token)) == (401, "refresh_token_invalid")
    assert code(await refresh(world, third.json()["refreshToken"])) == (401, "refresh_token_invalid")
    assert code(await person.ask("GET", "/users/me")) == (401, "unauthenticated")


async def test_a_refresh_that_cannot_be_answered_uses_no_token_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise an outage of accounts longer than the grace time signs everybody out who refreshes meanwhile."""
    person = await world.register()
    appended: list[Any] = []
    append = LogAppender.submit

    def counted(appender: LogAppender, records: Any) -> Any:
        appended.extend(records)
        return append(appender, records)

    async def away(command: object) -> object:
        raise ShardUnavailable("accounts are away")

    with monkeypatch.context() as patched:
        patched.setattr(LogAppender, "submit", counted)
        patched.setattr(world.dependencies.accounts, "stands", away)
        assert (await refresh(world, person.refresh_token)).status_code == 503
    assert [record for record in appended if record.topic == AUTH_SESSIONS.name] == []
    assert (await refresh(world, person.refresh_token)).status_code == 200


async def test_logout_ends_access_and_refresh(world: World) -> None:
    person = await world.register()
    await person.ok("POST", "/auth/logout")
    assert code(await person.ask("GET", "/users/me")) == (401, "unauthenticated")
    assert code(await refresh(world, person.refresh_token)) == (401, "refresh_token_invalid")


async def test_another_replica_learns_of_a_logout(world: World, make_world: Callable[..., Awaitable[World]]) -> None:
    person = await world.register()
    await person.ok("POST", "/auth/logout")
    other = await make_world()
    answer = await other.client.get("/api/v1/users/me", headers={"Authorization": f"Bearer {person.access_token}"})
    assert code(answer) == (401, "unauthenticated")


async def test_profile_preferences_and_location_are_read_back_at_once(world: World) -> None:
    person = await world.register()
    me = await person.ok("PUT", "/users/profile", json={"bio": "Hello", "gender": "woman"})
    assert (me["bio"], me["gender"]) == ("Hello", "woman")
    wishes = await person.ok("PUT", "/users/me/preferences", json={"ageMin": 30, "maxDistanceKm": 80, "hideDistance": True})
    assert (wishes["ageMin"], wishes["maxDistanceKm"], wishes["hideDistance"]) == (30, 80, True)
    assert await person.ok("GET", "/users/me/preferences") == wishes
    cleared = await person.ok("PUT", "/users/profile", json={"bio": ""})
    assert (cleared["bio"], cleared["gender"]) == ("", "woman")


async def test_the_true_position_is_nowhere_in_an_answer(world: World) -> None:
    one = await world.register(at=(52.5201, 13.4051))
    moved = await one.ok("PUT", "/users/me/location", json={"latitude": 52.5207, "longitude": 13.4049})
    assert moved["location"] == (await one.ok("GET", "/users/me"))["location"]
    assert abs(moved["location"]["latitude"] - 52.5207) + abs(moved["location"]["longitude"] - 13.4049) > 1e-3


async def test_others_see_public_fields_only(world: World) -> None:
    one, other = await world.register(), await world.register("sugar_daddy", at=(52.5, 13.4))
    seen = await one.ok("GET", f"/users/profile/{other.user_id}")
    assert set(seen) == {
        "userId", "role", "displayName", "bio", "gender", "age", "avatarUrl", "photos", "verified", "lastActiveBucket"
    }


async def test_a_blocker_is_answered_for_like_an_unknown_id(world: World) -> None:
    one, other = await world.register(), await world.register("sugar_daddy")
    await other.ok("POST", f"/users/{one.user_id}/block")
    blocked = await one.ask("GET", f"/users/profile/{other.user_id}")
    unknown = await one.ask("GET", f"/users/profile/{new_id()}")
    assert code(blocked) == code(unknown) == (404, "not_found")
    assert blocked.content == unknown.content
    assert code(await other.ask("GET", f"/users/profile/{one.user_id}")) == (404, "not_found")
    swiped = await one.ask("POST", "/matching/swipe", json={"targetUserId": other.user_id, "action": "like"})
    assert swiped.content == unknown.content


async def test_a_block_can_be_lifted_and_listed(world: World) -> None:
    one = await world.register()
    others = [await world.register("sugar_daddy") for _ in range(3)]
    for other in others:
        await one.ok("POST", f"/users/{other.user_id}/block")
    first = await one.ok("GET", "/users/me/blocks?limit=2")
    rest = await one.ok("GET", f"/users/me/blocks?limit=2&cursor={first['nextCursor']}")
    listed = [entry["userId"] for page in (first, rest) for entry in page["blocks"]]
    assert Counter(listed) == Counter(other.user_id for other in others)
    assert "nextCursor" not in rest or rest["nextCursor"] is None
    await one.ok("DELETE", f"/users/{others[0].user_id}/block")
    assert len((await one.ok("GET", "/users/me/blocks"))["blocks"]) == 2
    assert code(await one.ask("DELETE", f"/users/{new_id()}/block")) == (404, "not_found")


async def test_a_report_repeated_with_its_key_is_one_report(world: World) -> None:
    one, other = await world.register(), await world.register("sugar_daddy")
    body = {"targetType": "user", "targetId": other.user_id, "category": "spam", "text": "Buys followers"}
    key = new_id()
    first = await one.ok("POST", "/reports", json=body, key=key)
    assert await one.ok("POST", "/reports", json=body, key=key) == first
    assert code(await one.ask("POST", "/reports", json=body | {"text": "else"}, key=key)) == (409, "idempotency_conflict")
    assert (await one.ok("POST", "/reports", json=body))["reportId"] != first["reportId"]
    assert code(await one.ask("POST", "/reports", json=body | {"targetId": new_id()})) == (404, "not_found")
    assert code(await one.ask("POST", "/reports", json=body | {"targetId": one.user_id})) == (422, "self_target")


@pytest.mark.parametrize(("an_hour", "a_day", "longest_s"), [(2, 50, 1_800), (50, 2, 43_200)])
async def test_reports_of_one_person_are_limited(
    world: World, make_world: Callable[..., Awaitable[World]], an_hour: int, a_day: int, longest_s: int
) -> None:
    strict = await make_world(limits=world.settings.limits.model_copy(
        update={"reports_per_user_an_hour": an_hour, "reports_per_user_a_day": a_day}
    ))
    one, also, other = await strict.register(), await strict.register(), await strict.register()
    body = {"targetType": "user", "targetId": other.user_id, "category": "spam"}
    for _ in range(2):
        await one.ok("POST", "/reports", json=body)
    refused = await one.ask("POST", "/reports", json=body)
    assert code(refused) == (429, "too_many_requests")
    assert longest_s - 60 < int(refused.headers["retry-after"]) <= longest_s
    await also.ok("POST", "/reports", json=body)


async def test_location_changes_are_limited(world: World) -> None:
    """The shards' limit stands in the answer; the test profile allows 1,000 an hour, so one person makes that many."""
    person = await world.register()
    limit = world.settings.limits.location_changes_an_hour
    answers = []
    for start in range(0, limit, 20):
        answers += await asyncio.gather(*(
            person.ask("PUT", "/users/me/location", json={"latitude": 10 + number / 1_000, "longitude": 20})
            for number in range(start, start + 20)
        ))
    assert {answer.status_code for answer in answers} == {200}
    last = await person.ask("PUT", "/users/me/location", json={"latitude": 1, "longitude": 2})
    assert code(last) == (429, "too_many_requests")
    assert 0 < int(last.headers["retry-after"]) <= 3_600


async def test_a_service_creates_people_and_notifies_them(world: World) -> None:
    headers = {"Authorization": f"Bearer {world.dependencies.tokens.issue_service('crm', 60)}"}
    made = await world.client.post("/api/v1/users", json=world.body(), headers=headers)
    assert made.status_code == 201
    person = await world.register()
    body = {"userId": person.user_id, "type": "welcome", "title": "Welcome", "data": {"a": "b"}}
    sent = await world.client.post("/api/v1/notifications/send", json=body, headers=headers | {"Idempotency-Key": "n1"})
    again = await world.client.post("/api/v1/notifications/send", json=body, headers=headers | {"Idempotency-Key": "n1"})
    assert sent.status_code == 201
    assert sent.json() == again.json()
    (entry,) = (await person.ok("GET", "/notifications/list"))["notifications"]
    assert (entry["notificationId"], entry["title"], entry["read"]) == (sent.json()["notificationId"], "Welcome", False)
    await person.ok("POST", f"/notifications/read/{entry['notificationId']}")
    (entry,) = (await person.ok("GET", "/notifications/list"))["notifications"]
    assert entry["read"] is True
    stranger = await world.register()
    assert code(await stranger.ask("POST", f"/notifications/read/{entry['notificationId']}")) == (404, "not_found")


async def test_tokens_of_services_and_of_people_do_not_stand_in_for_each_other(world: World) -> None:
    person = await world.register()
    service = {"Authorization": f"Bearer {world.dependencies.tokens.issue_service('crm', 60)}"}
    assert code(await world.client.get("/api/v1/users/me", headers=service)) == (401, "unauthenticated")
    assert code(await person.ask("POST", "/users", json=world.body())) == (401, "unauthenticated")


async def test_activity_is_recorded_once_however_many_requests(world: World) -> None:
    one, other = await world.register(), await world.register()
    for _ in range(5):
        await one.ok("GET", "/users/me")
    await world.dependencies.activity.flush()
    await one.ok("GET", "/users/me")
    recorded = world.dependencies.activity.recorded
    await world.dependencies.activity.flush()
    assert (recorded, world.dependencies.activity.recorded) == (1, 1)
    assert (await other.ok("GET", f"/users/profile/{one.user_id}"))["lastActiveBucket"] == "now"

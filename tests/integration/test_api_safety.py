"""Moderation through the API on real servers: roles, bans, appeals, removal requests, and what they reach."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest
from api_world import World, forged
from realtime_world import Device, RunningGateway
from safety_world import (
    HERE,
    SafetyWorld,
    appeal_token,
    code,
    hours_from_now,
    pair,
    reverse,
    seconds_until,
    send,
    until,
)

from cluster.connections.postgres import connect
from configs.contracts.frames import UNAUTHENTICATED
from configs.contracts.ids import new_id

pytestmark = pytest.mark.servers

MODERATOR_ROUTES = (
    ("GET", "/moderation/queue", None), ("GET", f"/moderation/cases/{new_id()}", None), ("GET", f"/moderation/media/{new_id()}", None),
    ("POST", f"/moderation/cases/{new_id()}/decisions", {
        "targetType": "user", "action": "warn", "category": "spam", "statement": "s", "seen": 0,
    }),
    ("POST", f"/moderation/cases/{new_id()}/appeals/{new_id()}", {"outcome": "upheld", "statement": "s"}),
)
ADMIN_ROUTES = (
    ("GET", "/moderation/audit", None), ("GET", "/moderation/queue?restricted=true", None),
    ("PUT", "/moderation/roles", {"email": "nobody@example.com", "role": "moderator"}),
)


async def test_each_route_answers_the_role_that_it_is_for_and_no_lower_one(safety: SafetyWorld) -> None:
    user, moderator, admin = await safety.here.register(), await safety.moderator(), await safety.moderator("admin")
    for method, path, body in (*MODERATOR_ROUTES, *ADMIN_ROUTES):
        for_admins = (method, path, body) in ADMIN_ROUTES
        for person, allowed in ((user, False), (moderator, not for_admins), (admin, True)):
            answer = await person.ask(method, path, json=body)
            refused = answer.status_code == 403 and answer.json()["code"] == "forbidden"
            assert refused is not allowed, (method, path, person is moderator, answer.text)
        anonymous = await safety.here.client.request(method, f"/api/v1{path}", json=body)
        assert code(anonymous) == (401, "unauthenticated")


async def test_a_client_cannot_give_itself_a_role_and_a_role_taken_back_reaches_tokens(safety: SafetyWorld) -> None:
    refused = await safety.here.client.post("/api/v1/auth/register", json=safety.here.body(permissionRole="admin"))
    assert code(refused) == (422, "invalid")
    moderator = await safety.moderator()
    assert (await moderator.ok("GET", "/auth/me"))["permissionRole"] == "moderator"
    assert (await moderator.ask("GET", "/moderation/queue")).status_code == 200
    await safety.as_service("PUT", "/moderation/roles", json={"email": moderator.email, "role": "user"})

    async def gone() -> bool:
        answer = await safety.elsewhere.client.get(
            "/api/v1/moderation/queue", headers={"Authorization": f"Bearer {moderator.access_token}"}
        )
        return answer.status_code in (401, 403)

    assert await seconds_until(gone) < 5
    refreshed = await safety.here.client.post("/api/v1/auth/refresh", json={"refreshToken": moderator.refresh_token})
    assert refreshed.status_code == 401
    again = await safety.signed_in(moderator)
    assert (await again.ok("GET", "/auth/me"))["permissionRole"] == "user"


async def test_a_ban_reaches_every_read_path_and_token_and_an_appeal_undoes_it(safety: SafetyWorld) -> None:
    one, bad, conversation = await pair(safety)
    liker = await safety.here.register(at=HERE)
    fan = await safety.here.register("sugar_baby", at=HERE)
    await bad.swipe(fan)
    assert (await send(one, conversation)).status_code == 200
    reported = await one.ok("POST", "/reports", json={"targetType": "user", "targetId": bad.user_id, "category": "harassment"})
    first, second = await safety.moderator(), await safety.moderator()

    async def queued() -> Any:
        entries = (await first.ok("GET", "/moderation/queue?limit=100"))["entries"]
        return next((entry for entry in entries if entry["targetId"] == bad.user_id), None)

    entry = await until(queued)
    assert (entry["kind"], entry["reports"], entry["categories"], entry["overdue"]) == ("report", 1, ["harassment"], False)
    case = await first.ok("GET", f"/moderation/cases/{bad.user_id}")
    assert [(report["id"], report["status"]) for report in case["reports"]] == [(reported["reportId"], "open")]

    decided = await safety.decide(first, bad.user_id, "ban")
    assert decided.status_code == 201, decided.text
    assert (await safety.decide(first, bad.user_id, "ban")).json() == decided.json(), "repeated"
    assert code(await safety.decide(second, bad.user_id, "warn")) == (409, "case_moved")

    async def refused() -> bool:
        header = {"Authorization": f"Bearer {bad.access_token}"}
        answers = [await world.client.get("/api/v1/users/me", headers=header) for world in (safety.here, safety.elsewhere)]
        return all(answer.status_code == 401 for answer in answers)

    assert await seconds_until(refused) < 5
    login = {"email": bad.email, "password": bad.password}
    assert (await safety.here.client.post("/api/v1/auth/login", json=login)).status_code == 401
    refresh = {"refreshToken": bad.refresh_token}
    assert (await safety.here.client.post("/api/v1/auth/refresh", json=refresh)).status_code == 401

    async def invisible() -> bool:
        profile = await one.ask("GET", f"/users/profile/{bad.user_id}")
        listed = str(await one.ok("GET", "/matching/matches")) + str(await one.ok("GET", "/messaging/conversations"))
        likes, cards = await fan.ok("GET", "/matching/likes-me"), await liker.ok("GET", "/matching/cards?limit=50")
        refusal = await send(one, conversation)
        shown = [bad.user_id in text for text in (listed, str(likes), str(cards))]
        return profile.status_code == 404 and not any(shown) and refusal.status_code == 404

    assert await seconds_until(invisible) < 5
    assert (await safety.here.client.get("/api/v1/users/profile/" + bad.user_id)).status_code == 401

    async def in_the_case() -> Any:
        found = await first.ok("GET", f"/moderation/cases/{bad.user_id}")
        return found if found["decisions"] and found["reports"][0]["status"] != "open" else None

    case = await until(in_the_case)
    assert (case["number"], case["reports"][0]["status"], case["decisions"][0]["action"]) == (1, "decided", "ban")

    async def told() -> Any:
        notes = (await one.ok("GET", "/notifications/list"))["notifications"]
        return next((note for note in notes if note.get("body") == "It was harassment."), None)

    assert (await until(told))["data"]["decisionId"] == decided.json()["decisionId"]
    token = await appeal_token(safety, bad, decided.json()["decisionId"])
    appeal = {"token": token, "text": "It was a joke."}
    taken = await safety.here.client.post("/api/v1/moderation/appeals", json=appeal)
    assert taken.status_code == 201, taken.text
    assert (await safety.here.client.post("/api/v1/moderation/appeals", json=appeal)).json() == taken.json()
    assert code(await safety.here.client.post("/api/v1/moderation/appeals", json={"token": forged(token), "text": "x"})) == (422, "token_invalid")

    path = f"/moderation/cases/{bad.user_id}/appeals/{decided.json()['decisionId']}"
    outcome = {"outcome": "reversed", "statement": "It was."}
    assert code(await first.ask("POST", path, json=outcome)) == (409, "same_moderator")
    assert (await second.ask("POST", path, json=outcome)).status_code == 201
    assert code(await second.ask("POST", path, json=outcome | {"outcome": "upheld"})) == (409, "not_appealable")

    async def back() -> bool:
        profile = await one.ask("GET", f"/users/profile/{bad.user_id}")
        return profile.status_code == 200 and (await send(one, conversation)).status_code == 200

    await until(back)
    assert (await (await safety.signed_in(bad)).ask("GET", "/users/me")).status_code == 200
    await audited(safety, bad.user_id, ["ban", "account banned", "appeal", "appeal reversed", "account active"])


@pytest.mark.parametrize("action", ["suspend", "ban"])
async def test_a_suspension_or_ban_ends_the_sockets_and_tokens_of_that_person_and_of_nobody_else(
    safety: SafetyWorld, action: str
) -> None:
    one, bad, _ = await pair(safety)
    died: list[str] = []
    gateway = await RunningGateway(safety.settings, f"gateway-{action}", safety.here.dependencies.pool, died).start()

    async def announced() -> bool:
        return (await one.ask("POST", "/messaging/ws-ticket")).status_code == 200

    async def refused() -> bool:
        header = {"Authorization": f"Bearer {bad.access_token}"}
        answers = [await world.client.get("/api/v1/users/me", headers=header) for world in (safety.here, safety.elsewhere)]
        return all(answer.status_code == 401 for answer in answers)

    try:
        await until(announced)
        kept, lost = await Device.open(one, gateway.url), await Device.open(bad, gateway.url)
        assert (await safety.decide(await safety.moderator(), bad.user_id, action)).status_code == 201
        began = time.monotonic()
        assert await lost.closed() == UNAUTHENTICATED.code
        await until(refused)
        assert time.monotonic() - began < 5
        assert (await bad.ask("POST", "/messaging/ws-ticket")).status_code == 401
        refresh = {"refreshToken": bad.refresh_token}
        assert (await safety.here.client.post("/api/v1/auth/refresh", json=refresh)).status_code == 401
        login = {"email": bad.email, "password": bad.password}
        assert (await safety.here.client.post("/api/v1/auth/login", json=login)).status_code == 401
        assert (await one.ask("GET", "/users/me")).status_code == 200
        await kept.settled()
        await kept.close()
    finally:
        await gateway.close()
    assert died == []


async def test_no_moderator_decides_an_appeal_about_themselves(safety: SafetyWorld) -> None:
    first, second, warned = [await safety.moderator() for _ in range(3)]
    await safety.in_rows(warned)
    decided = await safety.decide(first, warned.user_id, "warn")
    assert decided.status_code == 201, decided.text
    decision = decided.json()["decisionId"]
    token = await appeal_token(safety, warned, decision)
    taken = await safety.here.client.post("/api/v1/moderation/appeals", json={"token": token, "text": "It was a joke."})
    assert taken.status_code == 201, taken.text
    path, outcome = f"/moderation/cases/{warned.user_id}/appeals/{decision}", {"outcome": "reversed", "statement": "It was."}
    assert code(await warned.ask("POST", path, json=outcome)) == (403, "forbidden")
    assert (await second.ask("POST", path, json=outcome)).status_code == 201


async def test_a_reversed_warning_does_not_lift_the_ban_that_followed(safety: SafetyWorld) -> None:
    bad = await safety.here.register()
    await safety.in_rows(bad)
    first, second = await safety.moderator(), await safety.moderator()
    warned, banned = [await safety.decide(first, bad.user_id, action, seen=seen) for seen, action in enumerate(("warn", "ban"))]
    assert banned.status_code == 201, banned.text
    login = {"email": bad.email, "password": bad.password}

    async def signs_in(status: int) -> bool:
        return (await safety.here.client.post("/api/v1/auth/login", json=login)).status_code == status

    await until(lambda: signs_in(401))
    await reverse(safety, second, bad, bad.user_id, warned.json()["decisionId"])
    assert await signs_in(401)
    await reverse(safety, second, bad, bad.user_id, banned.json()["decisionId"])
    await until(lambda: signs_in(200))
    reversed_ = ["appeal", "appeal reversed"]
    await audited(safety, bad.user_id, ["warn", "ban", "account banned", *reversed_, *reversed_, "account active"])


async def audited(safety: SafetyWorld, target_id: str, actions: list[str]) -> None:
    """The audit log says exactly this of the target, and does not let itself be changed."""
    async def logged() -> bool:
        answer = await safety.as_service("GET", f"/moderation/audit?limit=100&targetId={target_id}")
        return sorted(entry["action"] for entry in answer.json()["entries"]) == sorted(actions)

    await until(logged)
    with connect(safety.settings, "test") as conn:
        for change in ("UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log", "TRUNCATE audit_log"):
            with pytest.raises(psycopg.errors.RaiseException):
                conn.execute(change)


async def test_removal_of_an_intimate_image_needs_no_account_and_is_due_in_48_hours(safety: SafetyWorld) -> None:
    media, ask = new_id(), safety.here.client.post
    body = {
        "targetType": "media", "targetId": media, "contact": "jo@example.com", "signature": "Jo Doe",
        "description": "A picture of me that I did not consent to.",
    }
    first = await ask("/api/v1/moderation/removal-requests", json=body)
    assert first.status_code == 201, first.text
    assert (await ask("/api/v1/moderation/removal-requests", json=body)).json() == first.json(), "the same receipt"
    described = {name: body[name] for name in ("contact", "signature", "description")}
    other = await ask("/api/v1/moderation/removal-requests", json=described)
    assert other.json()["requestId"] != first.json()["requestId"]
    for wrong in (body | {"targetId": None}, body | {"contact": "nobody"}, body | {"signature": " "}, {}, body | {"more": 1}):
        assert code(await ask("/api/v1/moderation/removal-requests", json=wrong)) == (422, "invalid")
    moderator = await safety.moderator()

    async def queued() -> Any:
        entries = (await moderator.ok("GET", "/moderation/queue?limit=100"))["entries"]
        found = {entry["targetId"]: entry for entry in entries}
        return found if {media, other.json()["requestId"]} <= set(found) else None

    found = await until(queued)
    assert found[media]["categories"] == ["intimate_image"]
    assert 47.9 < hours_from_now(found[media]["dueAt"]) <= 48
    decided = await safety.decide(
        moderator, media, "remove", targetType="media", category="intimate_image", statement="Published without consent."
    )
    assert decided.status_code == 201
    assert (await moderator.ok("GET", f"/moderation/cases/{media}"))["reports"][0]["contact"] == "jo@example.com"


async def test_a_flood_of_removal_requests_is_refused_before_anything_is_recorded(safety: SafetyWorld) -> None:
    limits = safety.settings.limits.model_copy(update={"removal_requests_per_address_an_hour": 2})
    narrow = World(safety.settings.model_copy(update={"limits": limits}), safety.shards)
    key = "limit:removal-address:{127.0.0.1}"
    await narrow.dependencies.redis.delete(key)
    try:
        answers = [
            await narrow.client.post("/api/v1/moderation/removal-requests", json={
                "contact": "jo@example.com", "signature": "Jo", "description": f"number {number}",
            }) for number in range(4)
        ]
    finally:
        await narrow.dependencies.redis.delete(key)
        await narrow.close()
    assert [answer.status_code for answer in answers] == [201, 201, 429, 429]
    assert int(answers[-1].headers["retry-after"]) > 0

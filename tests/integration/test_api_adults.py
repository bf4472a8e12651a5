"""Age checks by a service elsewhere, and the consent of adults to be pictured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from api_world import Person
from local_http import local_client
from safety_world import SafetyWorld, code, until

from cluster.connections.assurance import HttpAssurance, signature
from cluster.connections.postgres import connect
from cluster.embedded.ports import free_port
from configs.contracts.events import AgeAssessed
from configs.contracts.ids import new_id
from serve_apps.recording import recorded

pytestmark = pytest.mark.servers


@pytest_asyncio.fixture
async def reachable(safety: SafetyWorld) -> AsyncIterator[SafetyWorld]:
    """The API behind a port, where the age-assurance server calls back."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(safety.here.app, port=port, lifespan="off", log_level="critical"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    before = safety.here.dependencies.assurance
    url = f"http://127.0.0.1:{port}/api/v1/users/verification/result"
    safety.here.dependencies.assurance = HttpAssurance(safety.settings.assurance, url)
    yield safety
    safety.here.dependencies.assurance = before
    server.should_exit = True
    await task


async def checked(safety: SafetyWorld, person: Person, outcome: str) -> str:
    """The person goes to the service, which finds something; their status once its answer has come."""
    begun = await person.ok("POST", "/users/me/verification")
    async with local_client(timeout=60) as browser:
        assert (await browser.get(begun["url"])).status_code == 200
        assert (await browser.post(begun["url"], data={"outcome": outcome})).status_code == 200

    async def told() -> Any:
        status = (await person.ok("GET", "/users/me/verification"))["status"]
        return None if status == "pending" else status

    return str(await until(told))


async def test_an_age_check_ends_in_what_the_service_signs_and_nothing_else(reachable: SafetyWorld) -> None:
    person, other = await reachable.here.register(), await reachable.here.register()
    assert await person.ok("GET", "/users/me/verification") == {"status": "unverified", "url": None}
    assert await checked(reachable, person, "failed") == "failed"
    assert await checked(reachable, person, "verified") == "verified"
    assert (await person.ok("GET", "/users/me"))["verified"] is True
    assert (await other.ok("GET", f"/users/profile/{person.user_id}"))["verified"] is True
    assert await person.ok("POST", "/users/me/verification") == {"status": "verified", "url": None}

    secret = reachable.settings.assurance.callback_key.get_secret_value().encode()
    body = b'{"reference":"AAAA","outcome":"verified"}'
    post = reachable.here.client.post
    for header in ("", "t=1,v1=00", signature(secret, body, 1), signature(b"other", body, 2**33), "t=x", signature(secret, body, 10**11)):
        answer = await post(
            "/api/v1/users/verification/result", content=body,
            headers={"Assurance-Signature": header, "Content-Type": "application/json"},
        )
        assert code(answer) == (422, "token_invalid"), header
    assert (await other.ok("GET", "/users/me/verification"))["status"] == "unverified"
    with connect(reachable.settings, "test") as conn:
        def stored() -> bool:
            rows = conn.execute(
                "SELECT status, method FROM assessments WHERE user_id = %s ORDER BY changed_at", (person.user_id,)
            ).fetchall()
            return bool(rows == [("failed", "local"), ("verified", "local")])

        await until(stored)


async def test_a_late_answer_of_a_check_that_was_given_up_takes_nothing_back(reachable: SafetyWorld) -> None:
    person = await reachable.here.register()
    await reachable.in_rows(person)
    given_up = await person.ok("POST", "/users/me/verification")
    assert await checked(reachable, person, "verified") == "verified"
    async with local_client(timeout=60) as browser:
        assert (await browser.post(given_up["url"], data={"outcome": "failed"})).status_code == 200
    late = AgeAssessed(user_id=person.user_id, assessment_id=new_id(), status="pending", provider="test")
    await recorded(reachable.here.dependencies, person.user_id, late, scope="test", idempotency_key=None)

    with connect(reachable.settings, "test") as conn:
        def stored() -> bool:
            rows = conn.execute("SELECT status FROM assessments WHERE user_id = %s ORDER BY status", (person.user_id,)).fetchall()
            return bool(rows == [("failed",), ("pending",), ("verified",)])

        await until(stored)
        row = conn.execute("SELECT verification_status FROM users WHERE id = %s", (person.user_id,)).fetchone()
    assert row == ("verified",)
    await asyncio.sleep(1.0)  # the projections follow
    assert (await person.ok("GET", "/users/me/verification"))["status"] == "verified"
    assert (await person.ok("GET", "/users/me"))["verified"] is True


async def test_consent_to_be_pictured_is_an_adults_to_give_and_to_withdraw(reachable: SafetyWorld) -> None:
    creator, person = await reachable.here.register(), await reachable.here.register()
    path = f"/users/me/consents/{creator.user_id}"
    assert code(await person.ask("PUT", path)) == (403, "age_unverified")
    await checked(reachable, person, "verified")
    assert code(await person.ask("PUT", f"/users/me/consents/{person.user_id}")) == (422, "self_target")
    assert code(await person.ask("PUT", f"/users/me/consents/{new_id()}")) == (404, "not_found")
    assert code(await person.ask("DELETE", path)) == (404, "not_found")
    await person.ok("PUT", path)
    assert (await person.ok("GET", "/users/me/consents"))["consents"] == [{"creatorId": creator.user_id}]
    await person.ok("DELETE", path)
    assert (await person.ok("GET", "/users/me/consents"))["consents"] == []

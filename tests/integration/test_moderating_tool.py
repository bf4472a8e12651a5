"""`sugar moderate` against an API behind a port: what waits, a case, decisions and appeals."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from api_world import Person
from operator_tool import Tool, operator_tool
from safety_world import SafetyWorld, until

from cluster.connections.postgres import connect
from cluster.launch.moderating import ModerationRefused

pytestmark = pytest.mark.servers


@pytest_asyncio.fixture
async def tool(safety: SafetyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tool]:
    async with operator_tool(safety.here, safety.settings, tmp_path, monkeypatch) as run:
        yield partial(run, "moderate")


async def reported(safety: SafetyWorld, category: str = "scam") -> Person:
    """Somebody whom somebody else has reported, in rows."""
    one, bad = await safety.here.register(), await safety.here.register("sugar_daddy")
    await safety.in_rows(bad)
    await one.ok("POST", "/reports", json={"targetType": "user", "targetId": bad.user_id, "category": category})
    with connect(safety.settings, "test") as conn:
        await until(lambda: conn.execute("SELECT 1 FROM reports WHERE target_id = %s", (bad.user_id,)).fetchone())
    return bad


async def decided(safety: SafetyWorld, target_id: str) -> tuple[str, str]:
    """The newest decision about a target, and the token by which its subject appeals."""
    with connect(safety.settings, "test") as conn:
        found: Any = await until(lambda: conn.execute(
            "SELECT data->>'decisionId', data->>'appealToken' FROM notifications WHERE user_id = %s AND data ? 'appealToken'",
            (target_id,),
        ).fetchone())
    return found[0], found[1]


async def test_the_list_shows_what_waits_and_keeps_child_abuse_apart(safety: SafetyWorld, tool: Tool) -> None:
    bad, worst = await reported(safety), await reported(safety, "child_abuse")
    ordinary, restricted = await tool("list", "--limit", "100"), await tool("list", "--restricted")
    assert (ordinary.exit_code, restricted.exit_code) == (0, 0), (ordinary.output, restricted.output)
    (line,) = [line for line in ordinary.output.splitlines() if bad.user_id in line]
    assert "report" in line
    assert "scam" in line
    assert worst.user_id not in ordinary.output
    assert worst.user_id in restricted.output
    assert bad.user_id not in restricted.output


async def test_a_case_is_shown_and_decided_as_it_is(safety: SafetyWorld, tool: Tool) -> None:
    bad = await reported(safety)
    shown = await tool("show", bad.user_id)
    assert shown.exit_code == 0, shown.output
    case = json.loads(shown.output)
    assert (case["targetId"], case["number"], [report["category"] for report in case["reports"]]) == (bad.user_id, 0, ["scam"])
    made = await tool("decide", bad.user_id, "suspend", "--statement", "It was a scam.", "--category", "scam")
    assert made.exit_code == 0, made.output
    decision, _ = await decided(safety, bad.user_id)
    assert made.output.strip() == f"decided: {decision}"

    async def signed_out() -> bool:
        return (await bad.ask("GET", "/users/me")).status_code == 401

    await until(signed_out)
    unknown = await tool("decide", bad.user_id, "pardon", "--statement", "s")
    assert isinstance(unknown.exception, ModerationRefused)
    assert unknown.exception.details["code"] == "invalid"


async def test_an_appeal_is_decided_but_none_against_the_tools_own_decision(safety: SafetyWorld, tool: Tool) -> None:
    bad, other = await reported(safety), await reported(safety)
    assert (await safety.decide(await safety.moderator(), bad.user_id, "ban")).status_code == 201
    assert (await tool("decide", other.user_id, "ban", "--statement", "It was a scam.")).exit_code == 0
    decisions = {}
    for person in (bad, other):
        decisions[person.user_id], token = await decided(safety, person.user_id)
        taken = await safety.here.client.post("/api/v1/moderation/appeals", json={"token": token, "text": "No."})
        assert taken.status_code == 201, taken.text
    own = await tool("appeal", other.user_id, decisions[other.user_id], "reversed", "--statement", "s")
    assert isinstance(own.exception, ModerationRefused)
    assert own.exception.details["code"] == "same_moderator"
    done = await tool("appeal", bad.user_id, decisions[bad.user_id], "reversed", "--statement", "It was not.")
    assert (done.exit_code, done.output.strip()) == (0, "the decision is reversed")

    async def back() -> bool:
        login = {"email": bad.email, "password": bad.password}
        return (await safety.here.client.post("/api/v1/auth/login", json=login)).status_code == 200

    await until(back)

"""The OpenAPI document is true: generated requests, valid and invalid, get only what it says, and never a 5xx."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import schemathesis
import uvicorn
from api_world import World
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cluster.embedded.ports import free_port
from configs.contracts.realtime import GATEWAYS, GatewayEntry

pytestmark = pytest.mark.servers

CHECKS = [
    schemathesis.checks.not_a_server_error, status_code_conformance, content_type_conformance,
    response_headers_conformance, response_schema_conformance,
]
EXAMPLES = 12
SERVICE = {"createUser", "sendNotification", "explainCard"}


@pytest_asyncio.fixture
async def url(world: World) -> AsyncIterator[str]:
    """The API behind a real HTTP server on this loop; requests come from another thread."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(world.app, port=port, lifespan="off", log_level="critical", access_log=False))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await task


# Hypothesis looks whether ``random`` changed while it drew; here the platform draws its jitter in other threads meanwhile.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
async def test_generated_requests_get_only_documented_answers(world: World, url: str) -> None:
    place = (21.3, -157.8)
    person, others = await world.register(at=place), [await world.register("sugar_daddy", at=place) for _ in range(3)]
    for other in others[:2]:
        await other.swipe(person)
        await person.swipe(other)
    service = world.dependencies.tokens.issue_service("schemathesis", 600)
    # A ticket names a living gateway; this one never needs to be reached.
    entry = GatewayEntry(url="ws://127.0.0.1:1/", sockets=0, draining=False, at_ms=2**53)
    await world.dependencies.redis.hset(GATEWAYS, "gateway-of-this-test", msgspec.json.encode(entry))
    document = await world.document()
    known = [other.user_id for other in others] + [(await person.ok("GET", "/matching/matches"))["matches"][0]["matchId"]]
    try:
        called = await asyncio.to_thread(_call_all, document, url, person.access_token, service, known)
    finally:
        await world.dependencies.redis.hdel(GATEWAYS, "gateway-of-this-test")
    assert called == {operation["operationId"] for path in document["paths"].values() for operation in path.values()}
    assert (await person.ask("GET", "/users/me")).status_code in (200, 401)


def _call_all(document: dict[str, Any], url: str, token: str, service: str, known: list[str]) -> set[str]:
    """Calls every operation with generated requests; the ids of those that were called."""
    schema = schemathesis.openapi.from_dict(document)
    called: set[str] = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        name = operation.definition.raw["operationId"]
        if name in ("logout", "eraseMe"):
            called.add(name)
            continue
        bearer = {"Authorization": f"Bearer {service if name in SERVICE else token}"}
        raw = operation.definition.raw
        can_be_wrong = bool(raw.get("parameters") or raw.get("requestBody"))
        for mode in [GenerationMode.POSITIVE] + [GenerationMode.NEGATIVE] * can_be_wrong:
            _call(operation, mode, url, bearer, known)
        called.add(name)
    return called


def _call(operation: Any, mode: GenerationMode, url: str, bearer: dict[str, str], known: list[str]) -> None:
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), existing=st.sampled_from([None, *known]))
    def call(case: Any, existing: str | None) -> None:
        if existing is not None and mode is GenerationMode.POSITIVE:
            for name in case.path_parameters or {}:
                case.path_parameters[name] = existing
            if isinstance(case.body, dict) and "targetUserId" in case.body:
                case.body["targetUserId"] = existing
        response = case.call(base_url=url, headers=bearer)
        case.validate_response(response, checks=CHECKS)

    call()


def test_nothing_that_clients_knew_is_gone(world_document: dict[str, Any]) -> None:
    """v1 changes by addition only: what the published document has must still be there.

    After an addition, publish it: ``GET /openapi.json`` into tests/contracts/openapi.json.
    """
    golden = json.loads((Path(__file__).parents[1] / "contracts/openapi.json").read_text())
    assert sorted(removed(golden, world_document)) == []


@pytest_asyncio.fixture
async def world_document(world: World) -> dict[str, Any]:
    return await world.document()


def removed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Operations, parameters, response fields and codes that clients knew and would miss."""
    missing = []
    for path, operations in before["paths"].items():
        for method, operation in operations.items():
            now = after["paths"].get(path, {}).get(method)
            if now is None or now["operationId"] != operation["operationId"]:
                missing.append(f"{method} {path}")
                continue
            names = {parameter["name"] for parameter in now.get("parameters", ())}
            missing += [f"{path} {item['name']}" for item in operation.get("parameters", ()) if item["name"] not in names]
            missing += [f"{path} {status}" for status in operation["responses"] if status not in now["responses"]]
    for name, schema in before["components"]["schemas"].items():
        now = after["components"]["schemas"].get(name, {}).get("properties", {})
        missing += [f"{name}.{field}" for field in schema.get("properties", {}) if field not in now]
    return missing

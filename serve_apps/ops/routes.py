"""Routes for operators and probes: outside the versioned API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Final, Literal

import msgspec
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from actors.cards.commands import DeckQuery
from actors.sessions.commands import RotateSession
from actors.swipes.commands import Seen
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.realtime import GATEWAYS, GatewayEntry
from configs.settings import Settings
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Answer
from serve_apps.identity import Deps
from serve_apps.metrics import gateways_text

router = APIRouter(tags=["ops"])

DEADLINE_S: Final = 1.5
"""Longest wait for one dependency in /ready; probes usually give up after 2 s or more."""
NOBODY: Final = "00000000-0000-7000-8000-000000000000"
NOWHERE: Final = DeckQuery(
    viewer_id=NOBODY, latitude=0.0, longitude=-150.0, birth_date="1990-01-01", role="sugar_baby", gender=None, age_min=18,
    age_max=18, max_distance_km=1, roles=("sugar_daddy",), size=1,
)


class Alive(Answer):
    status: Literal["alive"] = "alive"


class Ready(Answer):
    """``checks``: ok, or what is missing. ``notes``: what is limited though it works."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, str]
    notes: list[str]


@router.get("/health", operation_id="health", response_model=Alive)
async def health() -> Alive:
    """This replica runs; it says nothing of what it depends on."""
    return Alive()


@router.get("/ready", operation_id="ready", response_model=Ready, responses={503: {"model": Ready, "description": "Not ready"}})
async def ready(dependencies: Deps) -> Response:
    """Whether this replica can answer: the read model, revocations and every actor."""
    checks = {"readModel": await _read_model(dependencies)}
    checks["revocations"] = "ok" if dependencies.revocations.fresh else "not read for 5 seconds"
    probes = dict(_probes(dependencies))
    answers = await asyncio.gather(*(_answers(dependencies, *probe) for probe in probes.values()))
    checks.update(zip(probes, answers, strict=True))
    notes = [] if dependencies.addresses.sees_clients else [
        "no trusted proxy is configured: limits per client address see one address for everybody"
    ]
    notes += push_notes(dependencies.settings)
    if dependencies.settings.payments.in_test_mode:
        notes.append("payments are in test mode: no money moves")
    whole = all(said == "ok" for said in checks.values())
    found = Ready(status="ready" if whole else "not_ready", checks=checks, notes=notes)
    headers = None if whole else {"Retry-After": "1"}
    return JSONResponse(found.model_dump(by_alias=True), status_code=200 if whole else 503, headers=headers)


def push_notes(settings: Settings) -> list[str]:
    """What is not pushed, and why."""
    off = [name for name in ("fcm", "apns", "webpush") if name not in settings.push.providers]
    if not off:
        return []
    where = "kept in the outbox (sugar push)" if settings.push.outbox else "off"
    return [f"push to {', '.join(off)} is {where}: no keys are configured"]


async def _read_model(dependencies: Dependencies) -> str:
    try:
        await dependencies.reads.read(("PING",))
    except PlatformError as error:
        return error.message
    return "ok"


def _probes(dependencies: Dependencies) -> Iterator[tuple[str, tuple[str, int, str, object]]]:
    """(actor, (service, shard, method, command)): a question for each actor that changes nothing there."""
    pool = dependencies.pool
    for slot in range(pool.slots("swipes")):
        yield f"swipes-{slot}", ("swipes", slot, "seen", Seen(NOBODY, b""))
    for slot in range(pool.slots("cards")):
        yield f"cards-{slot}", ("cards", slot, "deck", NOWHERE)
    for slot in range(pool.slots("sessions")):
        family = next(
            family for number in count() if pool.shard_of(family := f"{NOBODY[:24]}{number:012d}") % pool.slots("sessions") == slot
        )
        question = RotateSession(family_id=family, counter=0, next_token_hash="")
        yield f"identity-{slot}", ("sessions", pool.shard_of(family), "record", question)


async def _answers(dependencies: Dependencies, service: str, shard: int, method: str, command: object) -> str:
    try:
        await dependencies.pool.ask(service, shard, method, command, deadline_s=DEADLINE_S)
    except PlatformError as error:
        return error.message
    return "ok"


@router.get("/metrics", operation_id="metrics", response_class=Response)
async def metrics(dependencies: Deps) -> Response:
    """Prometheus figures of the replica that happens to answer, and of every gateway."""
    text = dependencies.metrics.text() + await _gateways(dependencies)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _gateways(dependencies: Dependencies) -> bytes:
    """What gateways say of themselves; nothing while Redis does not answer."""
    try:
        (found,) = await dependencies.reads.raw(("HGETALL", GATEWAYS))
    except DependencyUnavailable:
        return b""
    return gateways_text({
        name.decode(): msgspec.json.decode(value, type=GatewayEntry)
        for name, value in zip(found[::2], found[1::2], strict=True)
    })

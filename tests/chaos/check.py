"""What must hold after a fault, from the clients' own records against PostgreSQL and the API."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import psycopg
from chaos.workload import Workload
from running import Platform

from configs.contracts.ids import match_id
from configs.contracts.loading import ACTION_CODES

SETTLE_S = 120.0
ACTION_OF_CODE = {code: action for action, code in ACTION_CODES.items()}
LIKES = ("like", "super_like")


async def verify(platform: Platform, workload: Workload) -> None:
    """Raises AssertionError naming what was lost, doubled or contradicted; gives the writers time to catch up."""
    tally = workload.tally
    assert not tally.forbidden, tally.forbidden[:5]
    assert tally.without_retry_after == 0, "a 429 or 503 came without Retry-After"
    deadline = time.monotonic() + SETTLE_S
    while True:
        problems = await asyncio.to_thread(_rows, platform, workload) or await _lists(platform, workload)
        if not problems:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{len(problems)} contradictions, first: {problems[:5]}")
        await asyncio.sleep(1.0)


def _query(platform: Platform, statement: str, ids: list[str]) -> list[tuple[Any, ...]]:
    with psycopg.connect(platform.settings.database_url.get_secret_value(), autocommit=True) as connection:
        return connection.execute(statement, (ids,)).fetchall()


def _rows(platform: Platform, workload: Workload) -> list[str]:
    """Every acknowledged swipe is there once with its latest action; every mutual like is one match on both sides."""
    ids = [person.user_id for person in workload.people]
    found = {
        (str(swiper), str(swiped)): ACTION_OF_CODE[code]
        for swiper, swiped, code in _query(
            platform, "SELECT swiper_id, swiped_id, action FROM swipes WHERE swiper_id = ANY(%s::uuid[])", ids
        )
    }
    problems = []
    for person in workload.people:
        for target, action in person.acknowledged.items():
            allowed = {action} | ({person.unanswered[target]} if target in person.unanswered else set())
            if found.get((person.user_id, target)) not in allowed:
                problems.append(f"swipe {person.user_id} -> {target}: told {action}, rows {found.get((person.user_id, target))}")
    matches = Counter(
        (str(member), str(other), str(match))
        for member, other, match in _query(
            platform,
            "SELECT member_id, other_id, match_id FROM matches WHERE member_id = ANY(%s::uuid[]) AND status = 'active'", ids,
        )
    )
    for (swiper, swiped), action in found.items():
        mutual = action in LIKES and found.get((swiped, swiper)) in LIKES
        if mutual and matches[(swiper, swiped, match_id(swiper, swiped))] != 1:
            problems.append(f"mutual like without one match: {swiper} {swiped}")
    for member, other, match in matches:
        if matches[(other, member, match)] != 1:
            problems.append(f"one-sided match {match}")
    known = {match for _, _, match in matches}
    problems += [f"told of match {match}, rows lack it" for person in workload.people for match in person.told_matches - known]
    return problems


async def _lists(platform: Platform, workload: Workload) -> list[str]:
    """Each side sees each match once in its list, and was notified of it once."""
    ids = [person.user_id for person in workload.people]
    expected: dict[str, set[str]] = {user: set() for user in ids}
    for member, match in await asyncio.to_thread(
        _query, platform,
        "SELECT member_id, match_id FROM matches WHERE member_id = ANY(%s::uuid[]) AND status = 'active'", ids,
    ):
        expected[str(member)].add(str(match))
    problems: list[str] = []

    async def look(person: Any) -> None:
        listed = Counter(entry["matchId"] for entry in await workload.everything(person, "/matching/matches", "matches"))
        talks = Counter(
            entry["conversationId"]
            for entry in await workload.everything(person, "/messaging/conversations", "conversations")
        )
        told = Counter(
            entry["data"]["matchId"]  # type: ignore[index]
            for entry in await workload.everything(person, "/notifications/list", "notifications")
            if entry["type"] == "match"
        )
        wanted = Counter(expected[person.user_id])
        for name, seen in (("matches", listed), ("conversations", talks), ("notifications", told)):
            if seen != wanted:
                problems.append(f"{name} of {person.user_id}: lacks {wanted - seen}, has too many {seen - wanted}")

    await asyncio.gather(*(look(person) for person in workload.people))
    return problems

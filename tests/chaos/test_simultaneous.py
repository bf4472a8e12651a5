"""Two thousand pairs like each other at the same moment, from both sides, and every request is sent twice."""

from __future__ import annotations

import asyncio
import time
import uuid

import psycopg
import pytest
from chaos.workload import Person, Workload
from running import Platform

pytestmark = [pytest.mark.chaos, pytest.mark.platform, pytest.mark.timeout(600)]

PAIRS = 2_000
SIDE = 50
"""Fifty people on each side make 2,500 possible pairs, of which the first 2,000 are used."""


async def test_every_mutual_like_is_one_match_and_two_notifications(platform: Platform) -> None:
    await asyncio.to_thread(platform.wait_well)
    async with Workload(platform.url, people=2 * SIDE) as workload:
        left, right = workload.people[:SIDE], workload.people[SIDE:]
        pairs = [(one, other) for one in left for other in right][:PAIRS]
        limit = asyncio.Semaphore(64)

        async def like(person: Person, target: Person) -> str | None:
            key = uuid.uuid4().hex
            body = {"targetUserId": target.user_id, "action": "like"}
            async with limit:
                answers = await asyncio.gather(*(
                    workload.send("POST", "/matching/swipe", person=person, key=key, body=body) for _ in range(2)
                ))
            assert all(answer is not None and answer.status_code == 200 for answer in answers)
            return next((answer.json()["matchId"] for answer in answers if answer.json()["matched"]), None)

        told = await asyncio.gather(*(
            like(*sides) for one, other in pairs for sides in ((one, other), (other, one))
        ))
        assert len({match for match in told if match}) <= PAIRS
        people = [person.user_id for person in workload.people]
        deadline = time.monotonic() + 120
        while True:
            rows, matches, notes = await asyncio.to_thread(_count, platform, people)
            if (rows, matches, notes) == (2 * PAIRS, PAIRS, 2 * PAIRS):
                break
            assert time.monotonic() < deadline, f"{rows} match rows, {matches} matches, {notes} notifications"
            await asyncio.sleep(0.5)
        # The lists of those who were not told at once follow the rows.
        while (count := await _listed(workload, left)) != PAIRS:
            assert time.monotonic() < deadline, f"{count} matches listed"
            await asyncio.sleep(0.5)
        assert not workload.tally.forbidden


async def _listed(workload: Workload, people: list[Person]) -> int:
    """How many matches are in the people's lists, each once in each."""
    listed: set[str] = set()
    for person in people:
        entries = await workload.everything(person, "/matching/matches", "matches")
        assert len({entry["matchId"] for entry in entries}) == len(entries), "a match is listed twice"
        listed |= {str(entry["matchId"]) for entry in entries}
    return len(listed)


def _count(platform: Platform, people: list[str]) -> tuple[int, int, int]:
    with psycopg.connect(platform.settings.database_url.get_secret_value(), autocommit=True) as connection:
        rows, matches = connection.execute(
            "SELECT count(*), count(DISTINCT match_id) FROM matches WHERE member_id = ANY(%s::uuid[]) AND status = 'active'",
            (people,),
        ).fetchone() or (0, 0)
        (notes,) = connection.execute(
            "SELECT count(*) FROM notifications WHERE user_id = ANY(%s::uuid[]) AND kind = 'match'", (people,)
        ).fetchone() or (0,)
    return rows, matches, notes

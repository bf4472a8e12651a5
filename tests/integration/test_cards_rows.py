"""Restoring people from real rows gives the same decks as having read every event."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from actors.cards.commands import DeckQuery
from actors.cards.state import Cards
from configs.contracts import events
from configs.contracts.ids import derived_id, new_id
from configs.contracts.loading import UNKNOWN_ROLE
from configs.contracts.people import snap
from configs.settings import Settings
from recommender.baseline import Baseline
from writers.connections import open_rows
from writers.loads.cards import people
from writers.records import Fact
from writers.sinks.users import SINK

pytestmark = pytest.mark.servers

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def history(rng: random.Random, user_ids: list[str], steps: int) -> Iterator[tuple[str, events.Payload, int]]:
    """(user, change, version) of people who register, move and change their minds; some never finish registering."""
    for version in range(1, steps + 1):
        user_id = rng.choice(user_ids)
        kind = rng.randrange(7)
        payload: events.Payload
        if kind == 0:
            payload = events.UserCreated(
                user_id=user_id, role=rng.choice(("sugar_baby", "sugar_daddy")), display_name="Ada",
                birth_date=f"{rng.randrange(1950, 2008)}-0{rng.randrange(1, 10)}-1{rng.randrange(10)}",
            )
        elif kind == 1:
            latitude, longitude, cell = snap(48.85 + rng.uniform(-0.4, 0.4), 2.35 + rng.uniform(-0.4, 0.4))
            payload = events.LocationChanged(user_id=user_id, latitude=latitude, longitude=longitude, cell=cell)
        elif kind == 2:
            payload = events.ProfileChanged(
                user_id=user_id, bio="b", gender=rng.choice((None, "woman", "man", "non_binary"))
            )
        elif kind == 3:
            payload = events.WasActive(user_id=user_id, active_at=NOW - timedelta(minutes=5 * (steps - version)))
        elif kind == 4:
            payload = events.PreferencesChanged(
                user_id=user_id, age_min=rng.choice((None, 18, 30)), age_max=rng.choice((None, 45, 99)),
                max_distance_km=rng.choice((None, 5, 60, 500)), hide_distance=rng.choice((None, True, False)),
            )
        elif kind == 5:
            payload = events.AgeAssessed(
                user_id=user_id, assessment_id=new_id(), status=rng.choice(("pending", "verified", "failed")), provider="p",
            )
        else:
            payload = events.PreferencesChanged(
                user_id=user_id, roles=rng.choice((None, ("sugar_baby",), ("sugar_daddy",), ("sugar_baby", "sugar_daddy"))),
                genders=rng.choice((None, (), ("woman",), ("man", "non_binary"))), discoverable=rng.choice((None, True, True, False)),
            )
        yield user_id, payload, version


def fact(user_id: str, payload: events.Payload, version: int) -> Fact:
    return Fact(events.Event(new_id(), NOW, user_id, payload), version, 0)


def restored(servers: Settings, user_ids: list[str]) -> Cards:
    """Only these people's rows, read in pages as a shard reads them."""
    cards, wanted = Cards(Baseline()), set(user_ids)
    with open_rows(servers, "test") as conn:
        page: str | None = None
        while True:
            rows = people(conn, page, 7)
            mine = [index for index, user_id in enumerate(rows.user_ids) if user_id in wanted]
            cards.load(taken(rows, mine))
            page = rows.next_page
            if page is None:
                return cards


def taken(rows: Any, places: list[int]) -> Any:
    values = {name: getattr(rows, name) for name in rows.__dataclass_fields__}
    picked = {
        name: [value[place] for place in places] if name == "user_ids" else value[places]
        for name, value in values.items() if name != "next_page"
    }
    return type(rows)(**picked, next_page=values["next_page"])


def queries(rng: random.Random, viewer_ids: list[str]) -> Iterator[DeckQuery]:
    for viewer_id in viewer_ids:
        role = rng.choice(("sugar_baby", "sugar_daddy"))
        yield DeckQuery(
            viewer_id=viewer_id, latitude=48.85 + rng.uniform(-0.3, 0.3), longitude=2.35 + rng.uniform(-0.3, 0.3),
            birth_date="1985-06-01", role=role, gender=rng.choice((None, "woman", "man")), age_min=18,  # type: ignore[arg-type]
            age_max=99, max_distance_km=rng.choice((30, 500)),
            roles=rng.choice((("sugar_baby",), ("sugar_baby", "sugar_daddy"))), genders=rng.choice(((), ("woman",))),
            verified_only=rng.random() < 0.3, online_recently=rng.random() < 0.3, size=100,
        )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rows_and_events_give_the_same_decks(servers: Settings, seed: int) -> None:
    rng = random.Random(seed)
    user_ids = [derived_id(f"cards-rows-{seed}", str(number)) for number in range(60)]
    told = list(history(rng, user_ids, 700))
    read = Cards(Baseline())
    for user_id, payload, version in told:
        read.apply(fact(user_id, payload, version).event, version)
    with open_rows(servers, "test") as conn, conn.transaction(), conn.cursor() as cur:
        SINK.write(cur, [fact(*change) for change in told])
    from_rows = restored(servers, user_ids)
    assert len(from_rows) == len(read) > 50
    found = 0
    for query in queries(rng, user_ids):
        one, other = read.shortlist(query, NOW), from_rows.shortlist(query, NOW)
        assert by_id(one.ids, one.match_versions, one.versions, one.scores) == by_id(
            other.ids, other.match_versions, other.versions, other.scores
        )
        found += len(one.ids) // 16
    assert found > 50, "the decks must not be empty, or this test proves nothing"


def by_id(ids: bytes, match_versions: bytes, versions: bytes, scores: bytes) -> dict[bytes, tuple[int, int, float]]:
    columns = zip(
        np.frombuffer(match_versions, "<u8").tolist(), np.frombuffer(versions, "<u8").tolist(),
        np.frombuffer(scores, "<f4").round(4).tolist(), strict=True,
    )
    return {ids[16 * place : 16 * place + 16]: facts for place, facts in enumerate(columns)}


def test_half_from_rows_and_the_rest_from_the_log_is_the_whole(servers: Settings) -> None:
    """What a restart does: rows as far as they were committed, then the log from an earlier position on."""
    rng = random.Random(9)
    user_ids = [derived_id("cards-rows-restart", str(number)) for number in range(60)]
    told = list(history(rng, user_ids, 700))
    read = Cards(Baseline())
    for user_id, payload, version in told:
        read.apply(fact(user_id, payload, version).event, version)
    with open_rows(servers, "test") as conn, conn.transaction(), conn.cursor() as cur:
        SINK.write(cur, [fact(*change) for change in told[:400]])
    restarted = restored(servers, user_ids)
    for user_id, payload, version in told[250:]:
        restarted.apply(fact(user_id, payload, version).event, version)
    for query in queries(rng, user_ids):
        one, other = read.shortlist(query, NOW), restarted.shortlist(query, NOW)
        assert by_id(one.ids, one.match_versions, one.versions, one.scores) == by_id(
            other.ids, other.match_versions, other.versions, other.scores
        )


def test_a_row_whose_cell_is_none_does_not_stop_the_restore(servers: Settings) -> None:
    """The number passed every check before; whoever has it is nowhere, everybody else is served."""
    user_id = new_id()
    with open_rows(servers, "test") as conn, conn.transaction(), conn.cursor() as cur:
        SINK.write(cur, [
            fact(user_id, events.LocationChanged(user_id=user_id, latitude=1.0, longitude=1.0, cell="ff"), 1),
        ])
    cards = restored(servers, [user_id])
    assert len(cards) == 1
    assert cards.describe()["answerable"] == 0
    with open_rows(servers, "test") as conn:
        rows = people(conn, None, 100_000)
    assert rows.roles[rows.user_ids.index(user_id)] == UNKNOWN_ROLE

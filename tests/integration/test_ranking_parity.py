"""Features logged when cards were served are those that training computes from people's rows: 10,000 cards."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from test_cards_shard import Committed, Platform

from actors.cards.commands import DeckQuery
from cluster.connections.artifacts import artifact_store
from cluster.connections.kafka import LogAppender
from configs.contracts.events import CardsServed, Event, decode, encode
from configs.contracts.ids import key64, new_id
from configs.contracts.loading import PeopleRows
from configs.contracts.people import GENDER_CODES, ROLE_CODES, cell_number, snap
from configs.contracts.ranking import RankingConfiguration
from configs.settings import Settings
from recommender import artifacts, people_table
from recommender.candidates import distances_km
from recommender.features import FEATURES, Pairs, compute
from recommender.logistic import Logistic
from recommender.people_table import PeopleTable
from recommender.waiting import TERM, boosted
from writers.commit import write_facts
from writers.connections import open_rows
from writers.records import Fact

pytestmark = pytest.mark.servers

PEOPLE, CARDS = 900, 10_000
BOOST = 2.5
DAY = date(1970, 1, 1)


def random_rows(rng: np.random.Generator) -> PeopleRows:
    """People of both roles within 60 km, with wishes, activity and gaps in what is known."""
    places = [snap(48.2 + rng.normal(0, 0.2), 16.4 + rng.normal(0, 0.3)) for _ in range(PEOPLE)]
    roles = rng.integers(0, 2, PEOPLE).astype(np.uint8)
    now_s = int(time.time())
    return PeopleRows(
        user_ids=[new_id() for _ in range(PEOPLE)],
        latitudes=np.array([place[0] for place in places]), longitudes=np.array([place[1] for place in places]),
        cells=np.array([cell_number(place[2]) for place in places], np.uint64),
        birth_days=rng.integers(2_000, 12_000, PEOPLE).astype(np.int32), roles=roles,
        genders=rng.integers(0, 4, PEOPLE).astype(np.uint8),
        age_min=rng.integers(18, 23, PEOPLE).astype(np.uint8), age_max=rng.integers(60, 99, PEOPLE).astype(np.uint8),
        max_distance_km=rng.integers(60, 400, PEOPLE).astype(np.uint16), role_masks=(2 >> roles).astype(np.uint8),
        gender_masks=np.zeros(PEOPLE, np.uint8), discoverable=np.ones(PEOPLE, np.bool_),
        verified=rng.random(PEOPLE) < 0.5,
        last_active_s=np.where(rng.random(PEOPLE) < 0.1, 0, now_s - rng.integers(0, 9_000_000, PEOPLE)).astype(np.int64),
        versions=np.arange(1, PEOPLE + 1, dtype=np.uint64), match_versions=np.arange(1, PEOPLE + 1, dtype=np.uint64),
    )


def random_table(rng: np.random.Generator, rows: PeopleRows) -> PeopleTable:
    """History, prices and vectors of two thirds of the people."""
    known = rng.permutation(PEOPLE)[: 2 * PEOPLE // 3]
    ids = np.array([divmod(int(rows.user_ids[place].replace("-", ""), 16), 1 << 64) for place in known.tolist()], np.uint64)
    swipes = rng.integers(0, 300, (2, known.size))
    return people_table.build(ids, {
        "likes_sent": np.floor(swipes[0] * rng.random(known.size)), "swipes_sent": swipes[0],
        "likes_received": np.floor(swipes[1] * rng.random(known.size)), "swipes_received": swipes[1],
        "log_price": -rng.random(known.size) * 3, "taste": rng.normal(size=(known.size, 8)), "appeal": rng.normal(size=(known.size, 8)),
    }, version=f"parity-{rng.integers(1 << 40)}")


class Rows(Committed):
    """A database with these people and this configuration."""

    def __init__(self, rows: PeopleRows, configuration: RankingConfiguration) -> None:
        super().__init__([rows])
        self._configuration = configuration

    async def ranking(self) -> RankingConfiguration:
        return self._configuration


def query_of(rows: PeopleRows, place: int) -> DeckQuery:
    """What the API asks for this person."""
    role = next(name for name, code in ROLE_CODES.items() if code == rows.roles[place])
    gender = next(name for name, code in GENDER_CODES.items() if code == rows.genders[place])
    return DeckQuery(
        viewer_id=rows.user_ids[place], latitude=float(rows.latitudes[place]), longitude=float(rows.longitudes[place]),
        birth_date=(DAY + timedelta(days=int(rows.birth_days[place]))).isoformat(), role=role,  # type: ignore[arg-type]
        gender=gender, age_min=int(rows.age_min[place]), age_max=int(rows.age_max[place]),  # type: ignore[arg-type]
        max_distance_km=int(rows.max_distance_km[place]), with_features=True, verified=bool(rows.verified[place]),
        roles=("sugar_daddy",) if role == "sugar_baby" else ("sugar_baby",),
    )


def training_values(
    rows: PeopleRows, table: PeopleTable, viewer: int, candidates: list[int], names: list[str], decided_s: float
) -> dict[str, Any]:
    """The features of one deck as training computes them: from columns of rows, nothing of the shard's."""
    both = np.array([viewer, *candidates])
    numbers = [int(rows.user_ids[place].replace("-", ""), 16) for place in both.tolist()]
    high, low = (np.array(half, np.uint64) for half in zip(*(divmod(number, 1 << 64) for number in numbers), strict=True))
    columns: dict[str, Any] = {
        "birth_day": rows.birth_days[both], "active_s": rows.last_active_s[both].astype(np.float64),
        "age_min": rows.age_min[both].astype(np.float32), "age_max": rows.age_max[both].astype(np.float32),
        "reach_km": rows.max_distance_km[both], "role": rows.roles[both], "gender": rows.genders[both],
        "verified": rows.verified[both],
    } | {name: column[table.places(high, low)] for name, column in table.columns.items()}
    columns["active_s"][0] = decided_s  # whoever asks is active
    distance = distances_km(
        float(rows.latitudes[viewer]), float(rows.longitudes[viewer]), rows.latitudes[both[1:]], rows.longitudes[both[1:]]
    )
    own = {name: column[0] for name, column in columns.items()}
    theirs = {name: column[1:] for name, column in columns.items()}
    return compute(names, Pairs(own, theirs, distance, decided_s, table.priors))


async def test_ten_thousand_logged_cards_have_the_features_that_training_computes(servers: Settings, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    rows = random_rows(rng)
    table = random_table(rng, rows)
    names = list(FEATURES)
    model = Logistic(tuple(names), rng.normal(0, 0.01, len(names)), np.array([FEATURES[name].neutral for name in names]), 0.0)
    artifacts.save(model, tmp_path / "model")
    people_table.save(table, tmp_path / "table")
    settings = servers.model_copy(update={
        "plan": servers.plan.model_copy(update={"card_actors": 2}),
        "ranking": servers.ranking.model_copy(update={"artifacts": str(tmp_path / "store")}),
    })
    store = artifact_store(settings)
    store.publish("models", model.version, tmp_path / "model")
    store.publish("people", table.version, tmp_path / "table")
    appender = LogAppender(settings, "test-parity")
    # The log keeps what other tests configured: begin above it.
    number = int(datetime.now(UTC).timestamp() * 1e3)
    platform = Platform(settings, Rows(rows, RankingConfiguration(number, model.version, people_table=table.version)), appender)
    facts: list[Fact] = []
    likers: dict[str, set[str]] = {}
    cards = 0
    try:
        await platform.ready()
        for viewer in rng.permutation(PEOPLE).tolist():
            likers[rows.user_ids[viewer]] = {rows.user_ids[place] for place in rng.permutation(PEOPLE)[:20].tolist()}
            deck = await platform.client.deck(msgspec.structs.replace(
                query_of(rows, viewer), waiting_boost=BOOST,
                waiting=np.array([key64(liker) for liker in likers[rows.user_ids[viewer]]], "<u8").tobytes(),
            ))
            assert deck.model_version == model.version
            cards += len(deck.entries)
            payload = CardsServed(
                viewer_id=rows.user_ids[viewer], configuration=deck.configuration, model_version=deck.model_version,
                decided_at=datetime.fromtimestamp(deck.decided_at_us / 1e6, UTC),
                candidate_ids=tuple(entry.user_id for entry in deck.entries), positions=tuple(range(len(deck.entries))),
                scores=tuple(entry.score for entry in deck.entries), propensities=(1.0,) * len(deck.entries),
                feature_names=deck.feature_names, feature_values=tuple(np.frombuffer(deck.features, "<f4").tolist()),
            )
            if deck.entries:
                event = decode(encode(Event(new_id(), datetime.now(UTC), payload.viewer_id, payload)))
                facts.append(Fact(event, (1 << 41) + len(facts), 0))
            if cards >= CARDS:
                break
    finally:
        await asyncio.gather(*(shard.close() for shard in platform.shards))
        await asyncio.to_thread(appender.close)
    assert cards >= CARDS
    places = {name: place for place, name in enumerate(rows.user_ids)}
    worst, waiting = 0.0, 0
    with open_rows(settings, "test") as conn, conn.transaction(force_rollback=True), conn.cursor() as cur:
        write_facts(cur, facts)
        logged = cur.execute(
            "SELECT viewer_id::text, candidate_ids::text[], feature_names, feature_values, scores,"
            " extract(epoch FROM decided_at)::float8 FROM cards_served WHERE model_version = %s", (model.version,),
        ).fetchall()
    assert sum(len(row[1]) for row in logged) >= CARDS
    for viewer_id, candidates, stored_names, values, scores, decided_s in logged:
        found = training_values(
            rows, table, places[viewer_id], [places[name] for name in candidates],
            [name for name in stored_names if name != TERM], decided_s,
        )
        waits = np.array([name in likers[viewer_id] for name in candidates])
        waiting += int(waits.sum())
        found[TERM] = waits.astype(np.float32)
        served = np.array(values, np.float64).reshape(len(candidates), -1)
        for column, name in enumerate(stored_names):
            trained = np.broadcast_to(found[name], len(candidates)).astype(np.float64)
            # Relative where a value is large: in float32 a difference of one step in 10,000 days is 1e-3.
            gap = np.abs(served[:, column] - trained) / np.maximum(1.0, np.abs(trained))
            assert gap.max() <= 1e-6, (name, served[gap.argmax(), column], trained[gap.argmax()])
            worst = max(worst, float(gap.max()))
        assert np.allclose(boosted(model.score(found), waits, BOOST), np.array(scores), atol=1e-5)
    assert waiting > 100
    assert worst <= 1e-6

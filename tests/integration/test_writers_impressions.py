"""Served and seen cards, swipes that answer them, and ranking configurations become rows once each; days are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow.parquet as pq
import pytest

from configs.contracts import events
from configs.contracts.errors import ConfigurationError, InvalidEvent
from configs.contracts.events import Event
from configs.contracts.ids import match_id, new_id, pair
from configs.contracts.impressions import SEAL_BYTES, packed_common, packed_own
from configs.contracts.people import snap
from configs.contracts.ranking import RankingConfiguration
from configs.settings import Settings
from recommender.datasets import exported
from serve_apps.pages import Seals
from writers import days
from writers.commit import RECORD_ERRORS, write_facts
from writers.connections import Connection, open_rows
from writers.export import export
from writers.loads.ranking import history, present
from writers.projections.operations import changes_of
from writers.records import Fact
from writers.sinks.impressions import served_at

pytestmark = pytest.mark.servers

VERSION = iter(range(1 << 41, 1 << 42))


@pytest.fixture
def conn(servers: Settings) -> Iterator[Connection]:
    """A connection whose transaction is taken back: configurations of one test are none of another's."""
    with open_rows(servers, "test") as opened, opened.transaction(force_rollback=True):
        yield opened


def store(conn: Connection, *payloads: events.Payload, event_ids: tuple[str, ...] = ()) -> list[Fact]:
    ids = event_ids or tuple(new_id() for _ in payloads)
    facts = [
        Fact(Event(ident, datetime.now(UTC), "k", payload), next(VERSION), 0)
        for ident, payload in zip(ids, payloads, strict=True)
    ]
    with conn.transaction(), conn.cursor() as cur:
        write_facts(cur, facts)
    return facts


def served(viewer: str, *candidates: str, **changed: Any) -> events.CardsServed:
    count = len(candidates)
    return events.CardsServed(**{
        "viewer_id": viewer, "configuration": 3, "model_version": "m1", "decided_at": datetime.now(UTC),
        "candidate_ids": candidates, "positions": tuple(range(count)), "scores": tuple(-0.1 * place for place in range(count)),
        "propensities": (1.0,) * count, **changed,
    })


def test_a_response_is_one_row_however_often_it_is_told(conn: Connection) -> None:
    viewer, one, other, response = (new_id() for _ in range(4))
    payload = served(viewer, one, other, experiment="e", arm="a", feature_names=("x", "y"), feature_values=(1.0, 2.0, 3.0, 0.1))
    plain = served(viewer, one)
    store(conn, payload, plain, event_ids=(response, new_id()))
    store(conn, payload, event_ids=(response,))
    rows = conn.execute(
        "SELECT response_id::text, candidate_ids::text[], positions, scores, feature_names, feature_values, arm, served_at"
        " FROM cards_served WHERE viewer_id = %s ORDER BY response_id", (viewer,),
    ).fetchall()
    assert len(rows) == 2
    assert rows[0][:3] == (response, [one, other], [0, 1])
    assert rows[0][4] == ["x", "y"]
    assert np.float32(rows[0][5]).tolist() == np.float32([1.0, 2.0, 3.0, 0.1]).tolist()
    assert rows[0][6] == "a"
    assert rows[0][7] == served_at(response)
    assert rows[1][4:6] == (None, None)


def test_seen_cards_are_a_set(conn: Connection) -> None:
    viewer, response, one, other = (new_id() for _ in range(4))
    first = events.CardsSeen(viewer_id=viewer, response_ids=(response, response), candidate_ids=(one, other), positions=(0, 1))
    again = events.CardsSeen(viewer_id=viewer, response_ids=(response,), candidate_ids=(other,), positions=(1,))
    store(conn, first, again)
    store(conn, again)
    found = conn.execute("SELECT candidate_id::text, position FROM cards_seen WHERE viewer_id = %s ORDER BY position", (viewer,))
    assert found.fetchall() == [(one, 0), (other, 1)]


@pytest.mark.parametrize("broken", [
    {"positions": (0,)}, {"propensities": ()}, {"feature_names": ("x",), "feature_values": (1.0,)},
    {"feature_names": ("a b",), "feature_values": (1.0, 2.0)}, {"positions": (0, 1 << 20)}, {"scores": (float("inf"), "x")},
])
def test_a_response_that_contradicts_itself_is_a_dead_letter(conn: Connection, broken: dict[str, Any]) -> None:
    with pytest.raises(RECORD_ERRORS):
        store(conn, served(new_id(), new_id(), new_id(), **broken))
    with pytest.raises(InvalidEvent):
        store(conn, served(new_id(), new_id()), event_ids=("6f1c7c1e-35a5-4d0f-9d0a-6a2a4c1f0b57",))


def impression(settings: Settings, viewer: str, candidate: str, response: str, place: int) -> str:
    body = packed_common(viewer, response, "m1") + packed_own(UUID(candidate).bytes, place)
    text = Seals(settings.auth).seal(b"impression", body)
    assert len(text) * 3 // 4 == len(body) + SEAL_BYTES
    return text


def test_a_swipe_names_the_card_that_it_answers(conn: Connection, servers: Settings) -> None:
    viewer, one, other, third, response = (new_id() for _ in range(5))
    swipes = [
        events.Swiped(swiper_id=viewer, swiped_id=one, action="like", impression_id=impression(servers, viewer, one, response, 4)),
        events.Swiped(swiper_id=viewer, swiped_id=other, action="pass"),
        events.Swiped(swiper_id=viewer, swiped_id=third, action="like", impression_id="of an older format"),
    ]
    store(conn, *swipes)
    query = "SELECT response_id::text, response_position FROM swipes WHERE swiper_id = %s AND swiped_id = %s"
    found = [conn.execute(query, (viewer, target)).fetchone() for target in (one, other, third)]
    assert found == [(response, 4), (None, None), (None, None)]
    store(conn, events.SwipeUndone(swiper_id=viewer, swiped_id=one, undone_action="like"))
    assert conn.execute(query, (viewer, one)).fetchone() == (None, None)


def configured(number: int, default: str = "m1") -> events.RankingConfigured:
    return events.RankingConfigured(configuration=RankingConfiguration(number, default), reason="deploy")


def test_of_two_configurations_with_one_number_the_first_in_the_log_counts(conn: Connection) -> None:
    base = present(conn).number
    first, second = store(conn, configured(base + 1, "mine"), configured(base + 1, "theirs"))
    store(conn, configured(base))
    assert present(conn) == RankingConfiguration(base + 1, "mine")
    assert history(conn, 5)[0].event_id == first.event.event_id
    operations = changes_of(conn, {"ranking.configured": [second]}).operations
    assert [operation.keys for operation in operations] == [("ranking",)]
    assert b'"mine"' in operations[0].args[1]  # type: ignore[operator]


def test_a_configuration_that_cannot_be_used_is_a_dead_letter(conn: Connection) -> None:
    before = present(conn)
    with pytest.raises(InvalidEvent):
        store(conn, configured(before.number + 1, "../../etc/passwd"))
    assert present(conn) == before


def test_days_have_partitions_ahead_and_old_ones_are_dropped_whole(conn: Connection) -> None:
    now = datetime.now(UTC)
    days.keep_days(conn, 30, now)
    names = [name for name, _ in days.partitions(conn, "cards_served")]
    assert f"cards_served_{now + timedelta(days=1):%Y%m%d}" in names
    later = now + timedelta(days=40)
    days.keep_days(conn, 30, now + timedelta(days=1))
    viewer = new_id()
    store(conn, served(viewer, new_id()))
    assert days.keep_days(conn, 30, later) > 0
    assert conn.execute("SELECT count(*) FROM cards_served WHERE viewer_id = %s", (viewer,)).fetchone() == (0,)
    assert all(day >= later.date() - timedelta(days=30) for _, day in days.partitions(conn, "cards_seen"))


def test_a_day_that_has_rows_already_keeps_them_where_they_are(conn: Connection) -> None:
    viewer = new_id()
    tomorrow = datetime.now(UTC) + timedelta(days=days.DAYS_AHEAD + 5)
    milliseconds = int(tomorrow.timestamp() * 1_000)
    response = f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7000-8000-000000000001"
    store(conn, served(viewer, new_id()), event_ids=(response,))
    days.keep_days(conn, 30, tomorrow)
    assert conn.execute("SELECT count(*) FROM cards_served WHERE viewer_id = %s", (viewer,)).fetchone() == (1,)
    assert f"cards_served_{tomorrow:%Y%m%d}" not in [name for name, _ in days.partitions(conn, "cards_served")]


@pytest.fixture
def population(servers: Settings) -> Iterator[list[str]]:
    """Four people with swipes, a match and a served card, committed; exports read a snapshot of their own."""
    names = sorted(new_id() for _ in range(4))
    with open_rows(servers, "test") as conn:
        facts: list[events.Payload] = []
        for index, name in enumerate(names):
            role = "sugar_baby" if index % 2 else "sugar_daddy"
            latitude, longitude, cell = snap(38.7 + index / 10, -9.1)
            facts += [
                events.UserCreated(user_id=name, role=role, display_name="Secret Name", birth_date="1990-05-05"),  # type: ignore[arg-type]
                events.ProfileChanged(user_id=name, bio="secret text"),
                events.LocationChanged(user_id=name, latitude=latitude, longitude=longitude, cell=cell),
            ]
        store(conn, *facts)
        response = new_id()
        low, high = pair(names[0], names[1])
        store(conn, served(names[0], names[1], names[3], feature_names=("x",), feature_values=(0.5, 1.5)), event_ids=(response,))
        store(
            conn,
            events.Swiped(swiper_id=names[0], swiped_id=names[1], action="like",
                          impression_id=impression(servers, names[0], names[1], response, 0)),
            events.Swiped(swiper_id=names[1], swiped_id=names[0], action="super_like"),
            events.Swiped(swiper_id=names[2], swiped_id=names[3], action="pass"),
            events.Swiped(swiper_id=names[2], swiped_id=new_id(), action="like"),
            events.Matched(match_id=match_id(low, high), low_id=low, high_id=high, generation=1),
            events.CardsSeen(viewer_id=names[0], response_ids=(response,), candidate_ids=(names[1],), positions=(0,)),
        )
    yield names
    with open_rows(servers, "test") as conn:
        conn.execute("DELETE FROM users WHERE id = ANY(%s::uuid[])", (names,))
        conn.execute("DELETE FROM swipes WHERE swiper_id = ANY(%s::uuid[])", (names,))
        conn.execute("DELETE FROM matches WHERE member_id = ANY(%s::uuid[])", (names,))
        conn.execute("DELETE FROM cards_served WHERE viewer_id = ANY(%s::uuid[])", (names,))
        conn.execute("DELETE FROM cards_seen WHERE viewer_id = ANY(%s::uuid[])", (names,))


def test_an_export_is_pseudonymous_and_reads_back_as_arrays(servers: Settings, population: list[str], tmp_path: Path) -> None:
    since = datetime.now(UTC) - timedelta(minutes=5)
    rows = export(servers, tmp_path / "out", since)
    for file in (tmp_path / "out").iterdir():
        content = file.read_bytes()
        for secret in ("Secret Name", "secret text", *population, *(name.replace("-", "") for name in population)):
            assert secret.encode() not in content, f"{secret} in {file.name}"
    table = pq.read_table(tmp_path / "out" / "people.parquet")
    assert not {"display_name", "bio", "birth_date", "email"} & set(table.column_names)
    with pytest.raises(ConfigurationError, match="exists"):
        export(servers, tmp_path / "out", since)
    again = export(servers, tmp_path / "again", since)
    assert again == rows
    pseudonyms = {str(name) for name in table["pseudonym"].to_pylist()}
    assert pseudonyms == {str(name) for name in pq.read_table(tmp_path / "again" / "people.parquet")["pseudonym"].to_pylist()}

    export(servers, tmp_path / "identified", since, identified=True)
    data = exported.read(tmp_path / "identified")
    assert not data.pseudonymous
    numbers = {f"{high:016x}{low:016x}": place for place, (high, low) in enumerate(data.ids.tolist())}
    one, two, three, four = (numbers[name.replace("-", "")] for name in population)
    assert (data.people["likes_sent"][one], data.people["swipes_received"][four]) == (1, 1)
    assert (data.people["likes_sent"][three], data.people["swipes_sent"][three]) == (1, 2)
    made = {
        (int(swiper), int(swiped)): bool(liked)
        for swiper, swiped, liked in zip(data.swipes.swiper, data.swipes.swiped, data.swipes.liked, strict=True)
    }
    assert made[(one, two)], "swipes on people without a row are left out"
    assert made[(two, one)]
    assert not made[(three, four)]
    assert sum(swiper == three for swiper, _ in made) == 1
    assert [one, two] in np.sort(data.matches, axis=1).tolist()
    mine = np.flatnonzero(data.impressions.viewer == one)
    assert data.impressions.candidate[mine].tolist() == [two, four]
    assert data.impressions.liked[mine].tolist() == [1, -1]
    assert data.impressions.seen[mine].tolist() == [True, False]
    assert data.impressions.features[mine[1]] == {"x": 1.5}
    swipe = np.flatnonzero((data.swipes.swiper == one) & (data.swipes.swiped == two))
    pairs = data.pairs(data.swipes.rows(swipe))
    assert pairs.viewer["swipes_sent"].tolist() == [0], "a swipe is not part of the history that explains it"
    assert pairs.candidate["likes_received"].tolist() == [0]


def test_a_directory_that_is_no_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(exported.ExportUnreadable):
        exported.read(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(exported.ExportUnreadable):
        exported.read(tmp_path)

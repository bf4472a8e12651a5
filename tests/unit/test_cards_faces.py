"""Cards made of faces are the cards that their records say."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from configs.contracts.read_model import UserRecord
from configs.settings import Media, load_settings
from serve_apps.matching.cards import Cards, Rest, written
from serve_apps.matching.faces import END, Card, Faces, made
from serve_apps.media.urls import MediaUrls
from serve_apps.views import Moment

URLS = MediaUrls(load_settings("test").model_copy(
    update={"media": Media(local_url="http://127.0.0.1:1", url_key=SecretStr("ab" * 32))}
))
TIMES = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001


def records() -> st.SearchStrategy[UserRecord]:
    return st.builds(
        UserRecord, user_id=st.uuids().map(str), role=st.sampled_from([None, "sugar_baby", "sugar_daddy"]),
        display_name=st.text(max_size=40), bio=st.text(max_size=80) | st.just('","distanceKm":null,"x'),
        birth_date=st.dates(date(1940, 1, 1), date(2007, 1, 1)).map(date.isoformat), verified=st.booleans(),
        status=st.sampled_from(["active", "active", "deleted"]), discoverable=st.booleans(), hide_distance=st.booleans(),
        last_active_at=st.none() | TIMES.map(lambda at: at.isoformat().replace("+00:00", "Z")),
        photos=st.lists(st.uuids().map(str), max_size=2).map(tuple), match_version=st.integers(0, 2**63).map(lambda number: f"{number:016x}"),
    )


def expected(record: UserRecord, at: datetime, distance: int | None, impression: str) -> dict[str, Any]:
    moment = Moment(at)
    assert record.role is not None
    card = Card(
        record.user_id, record.display_name, moment.age(record), record.bio, URLS.avatar(record.photos, at.timestamp()), record.role, distance, record.verified,
        moment.bucket(record.last_active_at), impression,
    )
    return msgspec.json.decode(msgspec.json.encode(card))  # type: ignore[no-any-return]


@given(records(), TIMES, st.integers(0, 20 * 86_400))
def test_a_face_is_true_until_it_says(record: UserRecord, at: datetime, later_s: int) -> None:
    """Also at a later time, as long as that is before ``until_s``."""
    raw = msgspec.json.encode(record)
    face = made(raw, at.timestamp(), URLS)
    assert face.shown is (record.exists and record.discoverable)
    if not face.shown:
        return
    assert face.match_version.hex() == record.match_version
    assert face.hides_distance is record.hide_distance
    assert face.until_s > at.timestamp()
    then = at + timedelta(seconds=later_s)
    for moment in (at, then) if then.timestamp() < face.until_s else (at,):
        for distance, text in ((None, b"null"), (17, b"17")):
            card = msgspec.json.decode(face.head + text + face.tail + b"abc" + END)
            assert card == expected(record, moment, distance, "abc")


@given(records(), TIMES)
def test_another_record_or_time_makes_another_face(record: UserRecord, at: datetime) -> None:
    faces = Faces(URLS, limit=2)
    raw = msgspec.json.encode(record)
    first = faces.of(record.user_id, raw, at.timestamp())
    assert faces.of(record.user_id, raw, at.timestamp()) is first
    changed = msgspec.json.encode(msgspec.structs.replace(record, display_name=record.display_name + "x"))
    assert faces.of(record.user_id, changed, at.timestamp()).raw == changed
    assert faces.of(record.user_id, changed, at.timestamp() + 10**9).until_s >= at.timestamp() + 10**9
    for other in ("a", "b", "c"):
        faces.of(other, raw, at.timestamp())
    assert len(faces._known) == 2, "the number kept is bounded"


@given(st.integers(0, 3), st.text(min_size=1, max_size=9) | st.none(), st.booleans(), st.integers(1, 500) | st.none())
def test_the_answer_that_is_sent_is_the_documented_one(
    size: int, cursor: str | None, exhausted: bool, wider: int | None
) -> None:
    cards = [Card(str(number), "a", 20, "b", None, "sugar_baby", 3, True, "now", "i") for number in range(size)]
    sent = written([msgspec.json.encode(card) for card in cards], Rest(cursor, exhausted, wider))
    assert sent == msgspec.json.encode(Cards(cards, cursor, exhausted, wider))

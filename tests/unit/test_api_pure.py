"""The API's pure parts: tokens, seals, filters, addresses, limits, problems."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from time import time
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from actors.cards.commands import Deck
from cluster.launch.secrets import _signing_key
from configs.contracts import access_tokens
from configs.contracts.access_tokens import AccessTokens
from configs.contracts.errors import DependencyUnavailable, EpochFenced, PlatformError, ReadModelRebuilding
from configs.contracts.ids import new_id
from configs.contracts.impressions import unsealed
from configs.contracts.people import age_years, snap
from configs.contracts.ranking import Assignment
from configs.contracts.read_model import UserRecord
from configs.settings import Auth
from serve_apps.application import HOT, ROUTERS
from serve_apps.client_address import ClientAddresses
from serve_apps.hot import query_values
from serve_apps.limits import PersonLimit
from serve_apps.matching.decks import Bookmark, StoredDeck, arranged, cursor_of, following_id, read_cursor
from serve_apps.matching.filters import CardsQuery, fitting_distance_km, narrowed
from serve_apps.matching.impressions import impression_ids, read_impression
from serve_apps.pages import Seals
from serve_apps.problems import PROBLEMS, Refused, answer, errors
from serve_apps.tracing import accept
from serve_apps.views import Moment

AUTH = Auth(signing_key_pem=SecretStr(_signing_key()), impression_key=SecretStr("ab" * 32))


class Clock:
    def __init__(self) -> None:
        self.now = time()

    def __call__(self) -> float:
        return self.now


def test_a_token_is_verified_once_and_known_until_it_expires() -> None:
    clock = Clock()
    tokens = AccessTokens(AUTH, clock=clock)
    user, family = new_id(), new_id()
    text = tokens.issue(user, family)
    for _ in range(3):
        identity = tokens.verify(text)
        assert identity is not None
        assert (identity.user_id, identity.family_id, identity.permission_role) == (user, family, "user")
    assert tokens.verified == 1
    clock.now += AUTH.access_ttl_s
    assert tokens.verify(text) is None


def test_a_replica_remembers_so_many_tokens_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_tokens, "CACHED_TOKENS", 2 * access_tokens.PARTS)
    tokens = AccessTokens(AUTH)
    texts = [tokens.issue(new_id(), new_id()) for _ in range(10 * access_tokens.PARTS)]
    for text in texts:
        assert tokens.verify(text) == tokens.verify(text)
    assert tokens.verified == len(texts), "each is read once"
    assert tokens.verify(texts[-1]) is not None
    assert tokens.verified == len(texts)
    for text in texts:
        tokens.verify(text)
    assert tokens.verified > 2 * len(texts) - 2 * access_tokens.PARTS - 1, "as many as the limit are remembered at most"


def test_a_token_of_another_platform_is_not_accepted() -> None:
    text = AccessTokens(AUTH.model_copy(update={"signing_key_pem": SecretStr(_signing_key())})).issue(new_id(), new_id())
    assert AccessTokens(AUTH).verify(text) is None


def test_audiences_do_not_mix() -> None:
    tokens = AccessTokens(AUTH)
    assert tokens.verify(tokens.issue_service("crm", 60)) is None
    assert tokens.verify_service(tokens.issue(new_id(), new_id())) is None
    assert tokens.verify_service(tokens.issue_service("crm", 60)) == "crm"


@given(st.binary(max_size=200), st.sampled_from([b"deck", b"match"]))
def test_a_seal_opens_for_its_own_use_only(body: bytes, use: bytes) -> None:
    seals = Seals(AUTH)
    text = seals.seal(use, body)
    assert seals.open(use, text) == body
    assert seals.open(b"other", text) is None
    assert Seals(AUTH.model_copy(update={"impression_key": SecretStr("cd" * 32)})).open(use, text) is None


@given(st.binary(min_size=1, max_size=60), st.data())
def test_no_changed_character_of_a_seal_goes_unnoticed(body: bytes, data: st.DataObject) -> None:
    seals = Seals(AUTH)
    text = seals.seal(b"deck", body)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("ABCabc019-_~+/=é"))
    changed = text[:place] + other + text[place + 1 :]
    assert changed == text or seals.open(b"deck", changed) is None


@given(st.text(max_size=80))
def test_whatever_text_comes_a_seal_does_not_fail(text: str) -> None:
    assert Seals(AUTH).open(b"deck", text) is None


@given(st.uuids(), st.uuids(), st.integers(0, 65_535), st.text(max_size=12), st.uuids())
def test_an_impression_says_what_was_shown(viewer: Any, candidate: Any, position: int, model: str, response: Any) -> None:
    seals = Seals(AUTH)
    model = "".join(character for character in model if not 0xD800 <= ord(character) <= 0xDFFF)
    cards = [(viewer.bytes, 7), (candidate.bytes, position)]
    text = impression_ids(seals, str(viewer), model, str(response), cards)[1].decode()
    found = read_impression(seals, text)
    assert found is not None
    assert (found.viewer_id, found.candidate_id, found.position) == (str(viewer), str(candidate), position)
    assert found.response_id == str(response)
    assert unsealed(text) == found, "the writers read what the route has checked"
    assert model.encode().startswith(found.model_version.encode())
    assert len(text) <= 128


def test_an_impression_is_not_a_cursor() -> None:
    seals = Seals(AUTH)
    assert read_impression(seals, seals.seal(b"deck", b"x" * 60)) is None


def test_a_cursor_names_its_viewer_and_filters() -> None:
    seals = Seals(AUTH)
    viewer = new_id()
    text = cursor_of(seals, Bookmark(viewer, "50", "abc", 20))
    assert read_cursor(seals, text, viewer, "50").offset == 20
    for other in ((new_id(), "50"), (viewer, "51")):
        with pytest.raises(Refused, match="cursor_invalid"):
            read_cursor(seals, text, *other)


def test_the_deck_after_a_deck_is_always_the_same() -> None:
    assert following_id("abc") == following_id("abc") != following_id("abd")


@given(
    st.dates(date(1930, 1, 1), date(2007, 12, 31)),
    st.integers(1_767_225_600, 1_893_456_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
def test_ages_are_completed_years(birth: date, now: datetime) -> None:
    record = UserRecord(user_id="x", birth_date=birth.isoformat())
    assert Moment(now).age(record) == age_years(birth, now.date())


@given(st.integers(0, 2_000_000), st.booleans())
def test_activity_is_told_coarsely(seconds_ago: int, fraction: bool) -> None:
    now = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
    at = now - timedelta(seconds=seconds_ago)
    text = msgspec.json.decode(msgspec.json.encode(at.replace(microsecond=5_000 if fraction else 0)), type=str)
    expected = next(
        (name for name, most in (("now", 900), ("today", 86_400), ("week", 604_800)) if seconds_ago <= most), "older"
    )
    assert Moment(now).bucket(text) == expected


def person(**fields: Any) -> UserRecord:
    latitude, longitude, cell = snap(52.52, 13.4)
    return UserRecord(**{
        "user_id": new_id(), "role": "sugar_baby", "birth_date": "1996-01-01", "latitude": latitude,
        "longitude": longitude, "cell": cell, **fields,
    })


def test_filters_narrow_and_never_widen() -> None:
    viewer = person(age_min=25, age_max=40, max_distance_km=30)
    wide = narrowed(viewer, CardsQuery(age_min=18, age_max=99, max_distance_km=500))
    assert wide is not None
    assert (wide.age_min, wide.age_max, wide.max_distance_km, wide.roles) == (25, 40, 30, ("sugar_daddy",))
    near = narrowed(viewer, CardsQuery(age_min=30, age_max=35, max_distance_km=10))
    assert near is not None
    assert (near.age_min, near.age_max, near.max_distance_km) == (30, 35, 10)
    assert narrowed(viewer, CardsQuery(role="sugar_baby")) is None
    assert narrowed(viewer, CardsQuery(age_min=50)) is None


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({}, True),
        ({"role": "sugar_baby"}, False),
        ({"roles": ("sugar_daddy",)}, False),
        ({"birth_date": "1950-01-01"}, False),
        ({"age_min": 40}, False),
        ({"age_max": 20}, False),
        ({"gender": "woman"}, False),
        ({"genders": ("man",)}, False),
        ({"genders": ("woman",)}, True),
        ({"max_distance_km": 5, "latitude": 52.6}, False),
        ({"latitude": 54.0}, False),
        ({"latitude": None}, False),
        ({"verified": True}, True),
    ],
)
def test_a_changed_candidate_is_held_to_both_sides_wishes(fields: dict[str, Any], fits: bool) -> None:
    viewer = person(gender="woman", genders=("man",), age_max=60)
    wish = narrowed(viewer, CardsQuery())
    assert wish is not None
    candidate = person(**{"role": "sugar_daddy", "gender": "man", **fields})
    moment = Moment(datetime(2026, 1, 2, tzinfo=UTC))
    assert (fitting_distance_km(viewer, wish, candidate, moment) is not None) is fits


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "client"),
    [
        ((), "127.0.0.1", [b"1.2.3.4"], "127.0.0.1"),
        (("10.0.0.0/8",), "127.0.0.1", [b"6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        (("10.0.0.0/8",), "127.0.0.1", [b"6.6.6.6, 1.2.3.4, 10.1.1.1"], "1.2.3.4"),
        (("10.0.0.0/8",), "127.0.0.1", [b"6.6.6.6", b"1.2.3.4"], "1.2.3.4"),
        (("10.0.0.0/8",), "127.0.0.1", [b"1.2.3.4:5678"], "1.2.3.4"),
        (("10.0.0.0/8",), "127.0.0.1", [b"[2001:db8::1]:99"], "2001:db8::/64"),
        (("10.0.0.0/8",), "127.0.0.1", [b"1.2.3.4, nonsense"], "unknown"),
        (("10.0.0.0/8",), "127.0.0.1", [b"::ffff:1.2.3.4"], "1.2.3.4"),
        (("10.0.0.0/8",), "127.0.0.1", [], "127.0.0.1"),
        ((), None, [], "unknown"),
    ],
)
def test_only_the_edge_is_believed_about_the_client(
    trusted: tuple[str, ...], peer: str | None, forwarded: list[bytes], client: str
) -> None:
    assert ClientAddresses(trusted).of(peer, forwarded) == client


def test_a_persons_requests_are_limited_in_each_second() -> None:
    clock = Clock()
    limit = PersonLimit(2, clock=clock)
    clock.now = 10.0
    limit.take("a")
    limit.take("a")
    limit.take("b")
    with pytest.raises(Refused, match="too_many_requests"):
        limit.take("a")
    clock.now = 11.0
    limit.take("a")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Refused("not_found"), 404, "not_found"),
        (Refused("too_many_requests", retry_after_s=7), 429, "too_many_requests"),
        (ReadModelRebuilding("x"), 503, "read_model_rebuilding"),
        (DependencyUnavailable("secret", address="x"), 503, "dependency_unavailable"),
        (EpochFenced("x"), 503, "dependency_unavailable"),
        (PlatformError("internal", detail="secret"), 500, "internal_error"),
    ],
)
def test_errors_become_problems_without_their_details(error: PlatformError, status: int, code: str) -> None:
    found = answer(error)
    body = msgspec.json.decode(found.body)
    assert (found.status, body["status"], body["code"]) == (status, status, code)
    assert b"secret" not in found.body
    headers = dict(found.headers)
    assert (b"retry-after" in headers) is (status in (429, 503))


def test_every_documented_code_is_in_the_table() -> None:
    for code, kind in PROBLEMS.items():
        assert kind.status in errors(code)
    with pytest.raises(KeyError):
        errors("unheard_of")


def test_every_route_names_its_operation_and_its_errors() -> None:
    """A route without an error table, or two operations of one name, would show here."""
    names = [route.operation_id for route in HOT]
    for router in ROUTERS:
        for route in router.routes:
            assert route.operation_id, route.path  # type: ignore[attr-defined]
            assert route.response_model is not None, route.path  # type: ignore[attr-defined]
            if not route.path.endswith("jwks.json"):  # type: ignore[attr-defined]
                assert {422, 503} <= set(route.responses), route.path  # type: ignore[attr-defined]
            names.append(route.operation_id)  # type: ignore[attr-defined]
    assert len(names) == len(set(names))


def test_a_query_is_read_like_a_form() -> None:
    assert query_values(b"") == {}
    assert query_values(b"a=1&b=x+y%20z&a=2&c") == {"a": "2", "b": "x y z", "c": ""}


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        (b"00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n", False),
        (b"nonsense", False),
        (None, False),
    ],
)
def test_a_callers_trace_is_carried_on_if_it_is_one(header: bytes | None, kept: bool) -> None:
    assert (accept(header, 0.0) is not None) is kept
    assert accept(None, 1.0) is not None



def deck_of(count: int) -> Deck:
    scores = (-0.1 * np.arange(count)).astype("<f4")
    return Deck(bytes(16 * count), bytes(4 * count), scores.tobytes(), bytes(8 * count), "m")


def test_without_exploration_a_deck_is_shown_as_it_was_ranked() -> None:
    for count, rate in ((30, 0.5), (100, 0.0)):  # of 30 nobody is below
        places, propensities = arranged(deck_of(count), "viewer", "deck", rate)
        assert places.tolist() == list(range(min(count, 50)))
        assert propensities == b""


@settings(deadline=None, max_examples=30)
@given(st.text(min_size=1, max_size=8), st.floats(0.01, 0.5))
def test_exploration_says_how_likely_it_was(deck_id: str, rate: float) -> None:
    found, packed = arranged(deck_of(100), "viewer", deck_id, rate)
    places, propensities = found.tolist(), np.frombuffer(packed, "<f4").tolist()
    assert len(set(places)) == len(places) == 50
    for place, (shown, chance) in enumerate(zip(places, propensities, strict=True)):
        if place % 5 != 4:
            assert (shown, chance) == (place, 1.0)
        else:
            assert chance == pytest.approx(1 - rate if shown == place else rate / 5)
    again = arranged(deck_of(100), "viewer", deck_id, rate)
    assert (places, packed) == (again[0].tolist(), again[1])


def stored(configuration: int, arm: str = "") -> StoredDeck:
    return StoredDeck("d", "v", "m", full=True, ids=b"", distances_km=b"", versions=b"", configuration=configuration, arm=arm)


@pytest.mark.parametrize(("deck", "assignment", "follows"), [
    (stored(3), Assignment(3, "m"), True),
    (stored(3), Assignment(4, "m"), False),
    (stored(4), Assignment(3, "m"), True),
    (stored(3, "a"), Assignment(3, "m", "e", "a"), True),
    (stored(3, "a"), Assignment(3, "m", "e", "b"), False),
])
def test_a_deck_is_kept_until_a_later_configuration_or_another_arm(deck: StoredDeck, assignment: Assignment, follows: bool) -> None:
    """A shard may have heard of a configuration before this replica has: its decks are not made again."""
    assert deck.follows(assignment) is follows

"""What is malformed, forged or too large gets the documented 4xx and changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from api_world import World, forged
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from configs.contracts.access_tokens import AccessTokens
from configs.contracts.ids import new_id
from configs.contracts.read_model import GENERATION

pytestmark = pytest.mark.servers

JSON = {"Content-Type": "application/json"}


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()["code"]


BODIES: list[tuple[bytes, tuple[int, str]]] = [
    (b"", (422, "invalid")),
    (b"{", (400, "malformed_body")),
    (b"\xff\xfe", (400, "malformed_body")),
    (b"[" * 30_000, (400, "malformed_body")),
    (b'{"a":' * 10_000, (400, "malformed_body")),
    (b"[]", (422, "invalid")),
    (b"null", (422, "invalid")),
    (b"NaN", (422, "invalid")),
    (b"1" * 5_000, (400, "malformed_body")),
    (b"{}", (422, "invalid")),
]


@pytest.mark.parametrize("path", ["/auth/register", "/auth/login", "/auth/refresh"])
@pytest.mark.parametrize(("body", "expected"), BODIES, ids=range(len(BODIES)))
async def test_a_public_body_that_is_not_what_is_documented(
    world: World, path: str, body: bytes, expected: tuple[int, str]
) -> None:
    assert code(await world.client.post(f"/api/v1{path}", content=body, headers=JSON)) == expected


@pytest.mark.parametrize(("body", "expected"), BODIES, ids=range(len(BODIES)))
async def test_a_swipe_that_is_not_what_is_documented(world: World, body: bytes, expected: tuple[int, str]) -> None:
    person = await world.register()
    answer = code(await person.ask("POST", "/matching/swipe", content=body, headers=JSON))
    assert answer in {expected, (400, "malformed_body"), (422, "invalid")}


SWIPES: list[dict[str, Any]] = [
    {"action": "like"},
    {"targetUserId": "x", "action": "like"},
    {"targetUserId": 5, "action": "like"},
    {"targetUserId": "01890A5D-AC96-774B-BCCE-B302099A8057", "action": "like"},
    {"targetUserId": "01890a5d-ac96-774b-bcce-b302099a8057", "action": "hate"},
    {"targetUserId": "01890a5d-ac96-774b-bcce-b302099a8057", "action": None},
    {"targetUserId": "01890a5d-ac96-774b-bcce-b302099a8057", "action": "like", "more": 1},
    {"targetUserId": "01890a5d-ac96-774b-bcce-b302099a8057", "action": "like", "impressionId": "x" * 300},
    {"targetUserId": "01890a5d-ac96-774b-bcce-b302099a8057", "action": "like", "impressionId": "forged"},
    {"targetUserId": "01890a5d-ac96-774b-bcce-b302099a8057\n", "action": "like"},
]

BAD: list[tuple[str, str, dict[str, Any]]] = [
    *(("POST", "/matching/swipe", body) for body in SWIPES),
    ("PUT", "/users/me/location", {"latitude": 91, "longitude": 0}),
    ("PUT", "/users/me/location", {"latitude": "52", "longitude": 0}),
    ("PUT", "/users/me/location", {"latitude": True, "longitude": 0}),
    ("PUT", "/users/me/location", {"latitude": 1}),
    ("PUT", "/users/me/preferences", {"ageMin": 17}),
    ("PUT", "/users/me/preferences", {"ageMin": 30, "ageMax": 20}),
    ("PUT", "/users/me/preferences", {"ageMin": 10**30}),
    ("PUT", "/users/me/preferences", {"maxDistanceKm": 501}),
    ("PUT", "/users/me/preferences", {"maxDistanceKm": 5.5}),
    ("PUT", "/users/me/preferences", {"roles": []}),
    ("PUT", "/users/me/preferences", {"roles": ["admin"]}),
    ("PUT", "/users/me/preferences", {"genders": ["x"] * 4}),
    ("PUT", "/users/me/preferences", {"hideDistance": "yes"}),
    ("PUT", "/users/profile", {"displayName": ""}),
    ("PUT", "/users/profile", {"displayName": "   "}),
    ("PUT", "/users/profile", {"displayName": "a\u0000b"}),
    ("PUT", "/users/profile", {"displayName": "x" * 101}),
    ("PUT", "/users/profile", {"bio": "x" * 2_001}),
    ("PUT", "/users/profile", {"verified": True}),
    ("PUT", "/users/profile", {"permissionRole": "admin"}),
    ("POST", "/reports", {"targetType": "user", "targetId": "nobody", "category": "spam"}),
    ("POST", "/reports", {"targetType": "planet", "targetId": "01890a5d-ac96-774b-bcce-b302099a8057", "category": "spam"}),
    ("GET", "/users/profile/not-an-id", {}),
    ("POST", "/users/0/block", {}),
    ("DELETE", "/matching/matches/0", {}),
    ("POST", "/notifications/read/0", {}),
    *(
        ("GET", f"{path}?{query}", {})
        for path in ("/matching/matches", "/matching/likes-me", "/messaging/conversations", "/notifications/list",
                     "/users/me/blocks", "/matching/cards")
        for query in ("limit=0", "limit=-1", "limit=101", "limit=x", "limit=99999999999999999999", "cursor=%00", "cursor=",
                      "cursor=" + "A" * 600)
    ),
    *(
        ("GET", f"/matching/cards?{query}", {})
        for query in ("maxDistanceKm=0", "maxDistanceKm=501", "maxDistanceKm=nan", "ageMin=17", "ageMax=x", "role=admin",
                      "verifiedOnly=perhaps", "ageMin=" + "9" * 5_000)
    ),
]


async def test_every_field_out_of_bounds_is_refused_and_nothing_changes(world: World) -> None:
    person = await world.register(at=(52.5, 13.4))
    before = await person.ok("GET", "/users/me")
    for method, path, body in BAD:
        answer = await person.ask(method, path, **({"json": body} if body else {}))
        assert code(answer) == (422, "invalid"), (method, path, body)
    assert await person.ok("GET", "/users/me") == before


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
async def test_numbers_that_are_no_place_are_refused(world: World, text: str) -> None:
    person = await world.register()
    answer = await person.ask(
        "PUT", "/users/me/location", content=f'{{"latitude": {text}, "longitude": 0}}'.encode(), headers=JSON
    )
    assert code(answer) == (422, "invalid")


async def test_lone_surrogates_are_refused(world: World) -> None:
    person = await world.register()
    answer = await person.ask("PUT", "/users/profile", content=b'{"displayName": "a\\ud800"}', headers=JSON)
    assert code(answer) == (422, "invalid")


@pytest.mark.parametrize(
    "changed",
    [
        {"birthDate": "3000-01-01"}, {"birthDate": "1800-01-01"}, {"birthDate": "1990-02-30"}, {"birthDate": 0},
        {"birthDate": "1990-01-01T00:00:00"}, {"birthDate": "19900101"}, {"email": "nobody"}, {"email": "a@b"},
        {"email": "a b@example.com"}, {"email": "x" * 300 + "@example.com"}, {"email": "a\u0000@example.com"},
        {"password": "short"}, {"password": "x" * 257}, {"role": "admin"}, {"permissionRole": "admin"},
        {"userId": "01990f3e-0000-7000-8000-000000000000"},
    ],
    ids=str,
)
async def test_registrations_out_of_bounds_are_refused(world: World, changed: dict[str, Any]) -> None:
    assert code(await world.client.post("/api/v1/auth/register", json=world.body(**changed))) == (422, "invalid")


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(world: World) -> None:
    person = await world.register()
    large = b"x" * (world.settings.limits.body_bytes + 1)

    async def chunks() -> Any:
        for _ in range(3):
            yield b" " * (world.settings.limits.body_bytes // 2)

    for path, method in (("/matching/swipe", "POST"), ("/users/profile", "PUT")):
        assert code(await person.ask(method, path, content=large, headers=JSON)) == (413, "body_too_large")
        assert code(await person.ask(method, path, content=chunks(), headers=JSON)) == (413, "body_too_large")


async def test_a_chunked_body_within_the_limit_is_read(world: World) -> None:
    person = await world.register()

    async def chunks() -> Any:
        yield b'{"bio": '
        yield b'"in parts"}'

    answer = await person.ask("PUT", "/users/profile", content=chunks(), headers=JSON)
    assert answer.json()["bio"] == "in parts"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
async def test_only_json_is_read(world: World, kind: str) -> None:
    person = await world.register()
    for path, method in (("/matching/swipe", "POST"), ("/users/profile", "PUT")):
        answer = await person.ask(method, path, content=b"{}", headers={"Content-Type": kind})
        assert code(answer) == (415, "unsupported_media_type")


async def test_unknown_paths_and_methods_are_problems_too(world: World) -> None:
    assert code(await world.client.get("/api/v1/nothing")) == (404, "not_found")
    assert code(await world.client.get("/nothing")) == (404, "not_found")
    wrong = await world.client.get("/api/v1/matching/swipe")
    assert code(wrong) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert code(await world.client.request("PATCH", "/api/v1/users/profile")) == (405, "method_not_allowed")


def tokens(world: World) -> dict[str, str]:
    """Tokens that must not work, by what is wrong with them."""
    auth = world.settings.auth
    now = datetime.now(UTC)
    claims = {
        "iss": auth.issuer, "aud": auth.audience, "sub": new_id(), "sid": new_id(), "iat": now,
        "exp": now + timedelta(minutes=5), "permissionRole": "admin",
    }
    key = auth.signing_key_pem.get_secret_value()
    kid = {"kid": world.dependencies.tokens.key_id}
    good = jwt.encode(claims, key, "EdDSA", headers=kid)
    head, body, mark = good.split(".")
    public = world.dependencies.tokens.jwks()[0]["x"]

    def signed(**changed: Any) -> str:
        made = {name: value for name, value in {**claims, **changed}.items() if value is not None}
        return jwt.encode(made, key, "EdDSA", headers=kid)

    return {
        "unsigned": jwt.encode(claims, None, "none", headers=kid),
        "symmetric with the public key": jwt.encode(claims, public + "=" * 32, "HS256", headers=kid),
        "another key": jwt.encode(claims, Ed25519PrivateKey.generate(), "EdDSA", headers=kid),
        "unknown kid": jwt.encode(claims, key, "EdDSA", headers={"kid": "other"}),
        "no kid": jwt.encode(claims, key, "EdDSA"),
        "tampered": f"{head}.{forged(body)}.{mark}",
        "no signature": f"{head}.{body}.",
        "expired": signed(exp=now - timedelta(seconds=1)),
        "endless": signed(exp=None),
        "from the future": signed(iat=now + timedelta(hours=1)),
        "another audience": signed(aud="other"),
        "internal": signed(aud="internal"),
        "another issuer": signed(iss="other"),
        "no session": signed(sid=None),
        "no subject": signed(sub=None),
        "nonsense": "x.y.z",
        "huge": "A" * 10_000,
        "empty": "",
    }


async def test_no_forged_expired_or_foreign_token_is_accepted(world: World) -> None:
    for why, token in tokens(world).items():
        for method, path in (("GET", "/users/me"), ("GET", "/matching/cards"), ("POST", "/matching/swipe")):
            answer = await world.client.request(method, f"/api/v1{path}", headers={"Authorization": f"Bearer {token}"})
            assert code(answer) == (401, "unauthenticated"), why
            assert answer.headers["www-authenticate"] == "Bearer"
    for header in ({}, {"Authorization": "Basic x"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer \xff"}):
        raw = [(name.encode(), value.encode("latin-1")) for name, value in header.items()]
        assert code(await world.client.get("/api/v1/users/me", headers=raw)) == (401, "unauthenticated")


async def test_a_token_of_the_previous_key_works_during_rotation(
    world: World, make_world: Callable[..., Awaitable[World]]
) -> None:


    from configs.settings import Settings  # noqa: F401  the type of what is changed below

    person = await world.register()
    old = load_pem_private_key(world.settings.auth.signing_key_pem.get_secret_value().encode(), None)
    public = old.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    fresh = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    rotated = world.settings.auth.model_copy(
        update={"signing_key_pem": SecretStr(fresh), "previous_public_keys_pem": (public,)}
    )
    other = await make_world(auth=rotated)
    bearer = {"Authorization": f"Bearer {person.access_token}"}
    assert (await other.client.get("/api/v1/users/me", headers=bearer)).status_code == 200
    assert len((await other.client.get("/api/v1/auth/.well-known/jwks.json")).json()["keys"]) == 2
    assert AccessTokens(rotated).key_id != world.dependencies.tokens.key_id


async def test_while_the_read_model_is_rebuilt_the_answer_is_503(world: World) -> None:
    person = await world.register()
    await world.dependencies.redis.delete(GENERATION)
    try:
        answers = [
            await person.ask("GET", "/users/me"), await person.ask("GET", "/matching/cards"),
            await person.ask("POST", "/matching/swipe", json={"targetUserId": new_id(), "action": "like"}),
        ]
        ready = await world.client.get("/ready")
    finally:
        await world.dependencies.redis.set(GENERATION, "test")
    for answer in answers:
        assert code(answer) == (503, "read_model_rebuilding")
        assert int(answer.headers["retry-after"]) >= 1
    assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
    assert (await person.ask("GET", "/users/me")).status_code == 200


async def test_a_person_whom_nobody_can_look_up_is_503_not_404(world: World) -> None:
    person = await world.register()
    world.shards.loader.answers = False
    try:
        answer = await person.ask("GET", f"/users/profile/{new_id()}")
    finally:
        world.shards.loader.answers = True
    assert code(answer) == (503, "dependency_unavailable")


async def test_operators_see_health_readiness_and_figures(world: World) -> None:
    assert (await world.client.get("/health")).json() == {"status": "alive"}
    ready = await world.client.get("/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert {"readModel", "revocations", "swipes-1", "cards-0", "identity-1"} <= set(ready.json()["checks"])
    assert any("one address" in note for note in ready.json()["notes"])
    text = (await world.client.get("/metrics")).text
    assert 'sugar_http_request_seconds_count{route="health",status="200"} 1.0' in text
    assert "sugar_redis_round_trips_total" in text

"""Signing in with a provider's id token: forged, old and repeated ones are refused, and no account is taken over."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio
from api_world import World
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from oidc_issuer import AUDIENCE, Issuer

from actors.accounts.commands import SetStanding
from configs.contracts.ids import email_hash, new_id

pytestmark = pytest.mark.servers

FIELDS = {"role": "sugar_baby", "displayName": "Ada", "birthDate": "1990-01-01"}


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


@pytest_asyncio.fixture
async def signing(world: World, make_world: Callable[..., Awaitable[World]], issuer: Issuer) -> World:
    oidc = world.settings.oidc.model_copy(update={"google": issuer.provider, "apple": issuer.provider, "fetch_timeout_s": 30.0})
    return await make_world(oidc=oidc)


async def present(world: World, token: str, nonce: str, path: str = "google", **fields: Any) -> httpx.Response:
    return await world.client.post(f"/api/v1/auth/oauth/{path}", json={"idToken": token, "nonce": nonce, **fields})


class Somebody:
    """Somebody with an account at the provider."""

    def __init__(self, world: World, issuer: Issuer, email: str | None = None) -> None:
        self.world, self.issuer = world, issuer
        self.subject, self.email = new_id(), email or f"{new_id()}@example.com"

    async def signs_in(self, path: str = "google", **fields: Any) -> httpx.Response:
        nonce = new_id()
        return await present(self.world, self.issuer.token(self.subject, self.email, nonce), nonce, path, **fields)


async def signed_in(world: World, access_token: str) -> bool:
    answer = await world.client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {access_token}"})
    return answer.status_code == 200


async def test_a_new_person_is_asked_for_what_is_missing_and_then_signed_in(signing: World, issuer: Issuer) -> None:
    """With the same token: a refusal uses nothing up."""
    nonce, subject = new_id(), new_id()
    token = issuer.token(subject, f"{subject}@example.com", nonce)
    answer = await present(signing, token, nonce, role="sugar_baby")
    assert code(answer) == (422, "registration_incomplete")
    assert answer.json()["missing"] == ["displayName", "birthDate"]
    answer = await present(signing, token, nonce, **FIELDS)
    assert answer.status_code == 200, answer.text
    assert await signed_in(signing, answer.json()["accessToken"])
    again = await Somebody.signs_in(_as(signing, issuer, subject, None))
    assert again.json()["userId"] == answer.json()["userId"]


def _as(world: World, issuer: Issuer, subject: str, email: str | None) -> Somebody:
    somebody = Somebody(world, issuer, email)
    somebody.subject = subject
    return somebody


async def test_a_token_works_once(signing: World, issuer: Issuer) -> None:
    nonce, subject = new_id(), new_id()
    token = issuer.token(subject, f"{subject}@example.com", nonce)
    answers = await asyncio.gather(*(present(signing, token, nonce, **FIELDS) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 4
    assert code(await present(signing, token, nonce, **FIELDS)) == (401, "identity_token_invalid")


async def test_nobody_under_eighteen_registers(signing: World, issuer: Issuer) -> None:
    answer = await Somebody(signing, issuer).signs_in(**FIELDS | {"birthDate": "2015-01-01"})
    assert code(answer) == (422, "underage")


async def test_a_confirmed_account_of_the_address_is_linked(signing: World, issuer: Issuer) -> None:
    person = await signing.register()
    await signing.client.post("/api/v1/auth/email/verify", json={"email": person.email})
    token = signing.mailed_token(person.email, "verify")
    await signing.client.post("/api/v1/auth/email/verify", json={"token": token})
    answer = await Somebody(signing, issuer, person.email).signs_in()
    assert answer.json()["userId"] == person.user_id
    assert (await person.ask("GET", "/auth/me")).status_code == 200, "nobody is signed out by it"


async def test_an_account_that_nobody_confirmed_gives_way(signing: World, issuer: Issuer) -> None:
    """Whoever registers somebody else's address must not be in their account when they come."""
    squatter = await signing.register()
    owner = Somebody(signing, issuer, squatter.email)
    assert code(await owner.signs_in()) == (422, "registration_incomplete")
    answer = await owner.signs_in(**FIELDS)
    assert answer.status_code == 200
    assert answer.json()["userId"] != squatter.user_id
    assert (await squatter.ask("GET", "/auth/me")).status_code == 401
    refused = await signing.client.post("/api/v1/auth/refresh", json={"refreshToken": squatter.refresh_token})
    assert code(refused) == (401, "refresh_token_invalid")
    login = await signing.client.post("/api/v1/auth/login", json={"email": squatter.email, "password": squatter.password})
    assert code(login) == (401, "wrong_credentials")


async def test_whoever_erased_their_account_begins_anew_with_the_same_identity(signing: World, issuer: Issuer) -> None:
    """Otherwise nobody signs in with it until its shard forgets whose it was. What is missing is asked for as of anybody new."""
    somebody = Somebody(signing, issuer)
    nonce = new_id()
    first_token = issuer.token(somebody.subject, somebody.email, nonce)
    before = await present(signing, first_token, nonce, **FIELDS)
    await erases(signing, before.json()["accessToken"])
    assert code(await present(signing, first_token, nonce, **FIELDS)) == (401, "identity_token_invalid"), "it was used before"

    nonce = new_id()
    token = issuer.token(somebody.subject, somebody.email, nonce)
    assert code(await present(signing, token, nonce)) == (422, "registration_incomplete")
    answers = await asyncio.gather(*(present(signing, token, nonce, **FIELDS) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401]
    (after,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert after["userId"] != before.json()["userId"]
    assert await signed_in(signing, after["accessToken"])
    assert not await signed_in(signing, before.json()["accessToken"])
    assert (await somebody.signs_in()).json()["userId"] == after["userId"]

    await erases(signing, after["accessToken"])
    again = await somebody.signs_in(**FIELDS)
    assert again.status_code == 200, again.text
    assert again.json()["userId"] not in (before.json()["userId"], after["userId"])


async def test_an_identity_follows_into_the_account_that_has_the_address_by_now(signing: World, issuer: Issuer) -> None:
    somebody = Somebody(signing, issuer)
    await erases(signing, (await somebody.signs_in(**FIELDS)).json()["accessToken"])
    person = await signing.register(email=somebody.email)
    await signing.client.post("/api/v1/auth/email/verify", json={"email": somebody.email})
    token = signing.mailed_token(somebody.email, "verify")
    await signing.client.post("/api/v1/auth/email/verify", json={"token": token})
    assert (await somebody.signs_in()).json()["userId"] == person.user_id
    assert (await somebody.signs_in()).json()["userId"] == person.user_id


@pytest.mark.parametrize("status", ["suspended", "banned"])
async def test_the_identity_of_an_account_that_was_closed_opens_no_other(signing: World, issuer: Issuer, status: Any) -> None:
    """Otherwise a ban would end with the next sign-in, under the same identity and another address."""
    somebody = Somebody(signing, issuer)
    user_id = (await somebody.signs_in(**FIELDS)).json()["userId"]
    await signing.dependencies.accounts.set_standing(SetStanding(
        email_hash=email_hash(somebody.email), user_id=user_id, status=status, number=1, cause_id=new_id(), event_id=new_id()
    ))
    for email in (somebody.email, f"{new_id()}@example.com"):
        somebody.email = email
        assert code(await somebody.signs_in(**FIELDS)) == (401, "identity_token_invalid")


async def erases(world: World, access_token: str) -> None:
    answer = await world.client.delete("/api/v1/users/me", headers={"Authorization": f"Bearer {access_token}"})
    assert answer.status_code == 200, answer.text


async def test_an_address_that_the_provider_does_not_vouch_for_links_and_registers_nothing(
    signing: World, issuer: Issuer
) -> None:
    taken = (await signing.register()).email
    for email in (taken, f"{new_id()}@example.com"):
        nonce = new_id()
        token = issuer.token(new_id(), email, nonce, email_verified=False)
        assert code(await present(signing, token, nonce, **FIELDS)) == (422, "address_unverified")


async def test_apples_ways_are_understood(signing: World, issuer: Issuer) -> None:
    """The nonce hashed, "true" as a text, and no address after the first time."""
    import hashlib

    nonce, subject = new_id(), new_id()
    hashed = hashlib.sha256(nonce.encode()).hexdigest()
    token = issuer.token(subject, f"{subject}@example.com", hashed, email_verified="true")
    first = await present(signing, token, nonce, "apple", **FIELDS)
    assert first.status_code == 200, first.text
    nonce = new_id()
    later = await present(signing, issuer.token(subject, None, nonce, email_verified=None), nonce, "apple")
    assert later.json()["userId"] == first.json()["userId"]


FORGERIES: dict[str, Callable[[Issuer, str], str]] = {
    "another issuer": lambda issuer, nonce: issuer.token("s", "a@example.com", nonce, iss="https://evil.example.com"),
    "another audience": lambda issuer, nonce: issuer.token("s", "a@example.com", nonce, aud="another.app"),
    "another nonce": lambda issuer, nonce: issuer.token("s", "a@example.com", "another nonce of 16"),
    "no nonce": lambda issuer, nonce: issuer.token("s", "a@example.com", None),
    "another authorised party": lambda issuer, nonce: issuer.token("s", "a@example.com", nonce, azp="another.app"),
    "several audiences and no authorised party": lambda issuer, nonce: issuer.token("s", "a@example.com", nonce, aud=[AUDIENCE, "x"]),
    "expired": lambda issuer, nonce: issuer.token("s", "a@example.com", nonce, exp=int(time.time()) - 100),
    "issued long ago": lambda issuer, nonce: issuer.token("s", "a@example.com", nonce, iat=int(time.time()) - 3_000),
    "issued in the future": lambda issuer, nonce: issuer.token("s", "a@example.com", nonce, iat=int(time.time()) + 3_000),
    "no expiry": lambda issuer, nonce: issuer.token("s", "a@example.com", nonce, exp=None),
    "times that are none": lambda issuer, nonce: _odd(issuer, nonce),
    "alg none": lambda issuer, nonce: _unsigned(issuer, nonce),
    "HS256 with the public key": lambda issuer, nonce: _symmetric(issuer, nonce),
    "another key under a known id": lambda issuer, nonce: _foreign(issuer, nonce),
    "cut off": lambda issuer, nonce: issuer.token("s", "a@example.com", nonce)[:-8],
    "no token": lambda issuer, nonce: "x.y.z",
}


def _claims(issuer: Issuer, nonce: str) -> dict[str, Any]:
    return jwt.decode(issuer.token("s", "a@example.com", nonce), options={"verify_signature": False})


def _odd(issuer: Issuer, nonce: str) -> str:
    return issuer.token("s", "a@example.com", nonce, iat="yesterday", exp="tomorrow")


def _unsigned(issuer: Issuer, nonce: str) -> str:
    return jwt.encode(_claims(issuer, nonce), None, algorithm="none", headers={"kid": issuer.kid})


def _symmetric(issuer: Issuer, nonce: str) -> str:
    """By hand: the library refuses to make it."""
    import hmac

    pem = issuer.keys[issuer.kid].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [{"alg": "HS256", "typ": "JWT", "kid": issuer.kid}, _claims(issuer, nonce)]
    text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    return (text + b"." + base64.urlsafe_b64encode(hmac.digest(pem, text, "sha256")).rstrip(b"=")).decode()


def _foreign(issuer: Issuer, nonce: str) -> str:
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65_537, 2_048)
    return jwt.encode(_claims(issuer, nonce), key, algorithm="RS256", headers={"kid": issuer.kid})


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_token_is_refused(signing: World, issuer: Issuer, forgery: str) -> None:
    nonce = new_id()
    answer = await present(signing, FORGERIES[forgery](issuer, nonce), nonce, **FIELDS)
    assert code(answer) == (401, "identity_token_invalid")


async def test_rotated_keys_are_fetched_and_unknown_ones_only_now_and_then(signing: World, issuer: Issuer) -> None:
    assert (await Somebody(signing, issuer).signs_in(**FIELDS)).status_code == 200
    keys, before = signing.dependencies.google.keys, issuer.fetches
    known = issuer.kid
    issuer.rotate(elliptic=True)
    somebody = Somebody(signing, issuer)
    assert code(await somebody.signs_in(**FIELDS)) == (401, "identity_token_invalid"), "asked for just now"
    assert issuer.fetches == before
    assert keys._fetched_at is not None
    keys._fetched_at -= 31
    assert (await somebody.signs_in(**FIELDS)).status_code == 200
    assert issuer.fetches == before + 1
    issuer.kid = known
    assert (await Somebody(signing, issuer).signs_in(**FIELDS)).status_code == 200, "the older key still signs"
    assert issuer.fetches == before + 1


async def test_while_the_provider_is_away_the_answer_is_503(
    world: World, make_world: Callable[..., Awaitable[World]], issuer: Issuer
) -> None:
    fresh = await make_world(oidc=world.settings.oidc.model_copy(update={"google": issuer.provider}))
    issuer.answers = False
    try:
        answer = await Somebody(fresh, issuer).signs_in(**FIELDS)
        assert code(answer) == (503, "dependency_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        issuer.answers = True
    fresh.dependencies.google.keys._failed_at = None
    assert (await Somebody(fresh, issuer).signs_in(**FIELDS)).status_code == 200


async def test_a_provider_that_is_not_configured_is_not_there(world: World, issuer: Issuer) -> None:
    assert code(await Somebody(world, issuer).signs_in(**FIELDS)) == (404, "not_found")


@pytest.mark.parametrize("change", [{"nonce": "short"}, {"idToken": ""}, {"idToken": 7}, {"more": 1}, {"birthDate": "1.1.1990"}])
async def test_bad_requests_are_refused(signing: World, issuer: Issuer, change: dict[str, Any]) -> None:
    nonce = new_id()
    body = {"idToken": issuer.token("s", "a@example.com", nonce), "nonce": nonce, **FIELDS, **change}
    assert code(await signing.client.post("/api/v1/auth/oauth/google", json=body)) == (422, "invalid")

"""Second factors and passkeys through the API on real servers: each code and each ceremony works once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pyotp
import pytest
from api_world import Person, World, forged
from pydantic import SecretStr
from soft_authenticator import Authenticator

from configs.contracts.events import encode
from configs.contracts.ids import email_hash
from serve_apps.auth.second_factor import STEP_S, step_of

pytestmark = pytest.mark.servers

AUTH = "/api/v1/auth"


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def post(world: World, path: str, **body: Any) -> httpx.Response:
    return await world.client.post(AUTH + path, json=body)


async def challenged(world: World, person: Person) -> str:
    answer = await post(world, "/login", email=person.email, password=person.password)
    assert answer.status_code == 202, answer.text
    assert "accessToken" not in answer.json()
    return str(answer.json()["challenge"])


class Protected:
    """Somebody whose account asks for codes."""

    def __init__(self, person: Person, secret: str, recovery: list[str]) -> None:
        self.person, self.secret, self.recovery = person, secret, recovery
        self.world = person.world

    @classmethod
    async def make(cls, world: World) -> Protected:
        """The enrolment uses up the code of the step before the present one, so that the present one can follow."""
        person = await world.register()
        if (left := STEP_S - time.time() % STEP_S) < 5:
            await asyncio.sleep(left + 0.1)
        enrolment = await person.ok("POST", "/auth/totp/enrol")
        made = cls(person, enrolment["secret"], [])
        answer = await person.ask(
            "POST", "/auth/totp/confirm", json={"enrolment": enrolment["enrolment"], "code": made.code(-1)}
        )
        assert answer.status_code == 200, answer.text
        made.recovery = answer.json()["recoveryCodes"]
        return made

    def code(self, steps: int = 0) -> str:
        return pyotp.TOTP(self.secret).generate_otp(int(time.time() // STEP_S) + steps)

    async def complete(self, challenge: str, **given: str) -> httpx.Response:
        return await post(self.world, "/login/second-factor", challenge=challenge, **given)


class TestCodes:
    async def test_signing_in_needs_a_code_and_a_code_works_once(self, world: World) -> None:
        somebody = await Protected.make(world)
        challenge = await challenged(world, somebody.person)
        used = somebody.code()
        answer = await somebody.complete(challenge, code=used)
        assert answer.status_code == 200, answer.text
        assert answer.json()["userId"] == somebody.person.user_id
        again = await somebody.complete(await challenged(world, somebody.person), code=used)
        assert code(again) == (401, "code_invalid")

    async def test_a_challenge_works_once_and_not_for_another_use(self, world: World) -> None:
        somebody = await Protected.make(world)
        challenge = await challenged(world, somebody.person)
        assert (await somebody.complete(challenge, recoveryCode=somebody.recovery[0])).status_code == 200
        assert code(await somebody.complete(challenge, recoveryCode=somebody.recovery[1])) == (401, "code_invalid")
        enrolment = (await (await world.register()).ok("POST", "/auth/totp/enrol"))["enrolment"]
        for wrong in (enrolment, forged(challenge), "x"):
            assert code(await somebody.complete(wrong, code=somebody.code())) == (422, "token_invalid")

    async def test_of_racing_uses_of_one_code_one_wins(self, world: World) -> None:
        somebody = await Protected.make(world)
        used = somebody.code()
        challenges = [await challenged(world, somebody.person) for _ in range(4)]
        answers = await asyncio.gather(*(somebody.complete(one, code=used) for one in challenges))
        assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]

    async def test_a_recovery_code_works_once(self, world: World) -> None:
        somebody = await Protected.make(world)
        assert len(set(somebody.recovery)) == 10
        for expected in (200, 401):
            challenge = await challenged(world, somebody.person)
            assert (await somebody.complete(challenge, recoveryCode=somebody.recovery[3].upper())).status_code == expected

    async def test_a_wrong_code_is_refused_and_guesses_are_limited(
        self, world: World, make_world: Callable[..., Awaitable[World]]
    ) -> None:
        strict = await make_world(limits=world.settings.limits.model_copy(update={"codes_per_account_a_minute": 3}))
        somebody = await Protected.make(strict)
        challenge = await challenged(strict, somebody.person)
        wrong = f"{(int(somebody.code()) + 500_000) % 1_000_000:06d}"
        answers = [await somebody.complete(challenge, code=wrong) for _ in range(3)]
        assert [code(answer) for answer in answers] == [(401, "code_invalid")] * 2 + [(429, "too_many_requests")]

    async def test_guesses_of_a_day_are_limited(self, world: World, make_world: Callable[..., Awaitable[World]]) -> None:
        """Otherwise whoever knows the password guesses a code within weeks, minute by minute."""
        strict = await make_world(limits=world.settings.limits.model_copy(update={"codes_per_account_a_day": 3}))
        somebody = await Protected.make(strict)
        challenge = await challenged(strict, somebody.person)
        wrong = f"{(int(somebody.code()) + 500_000) % 1_000_000:06d}"
        answers = [await somebody.complete(challenge, code=wrong) for _ in range(3)]
        assert [code(answer) for answer in answers] == [(401, "code_invalid")] * 2 + [(429, "too_many_requests")]
        assert 28_000 < int(answers[-1].headers["retry-after"]) <= 28_800, "a third of a day"

    async def test_a_password_that_was_changed_meanwhile_ends_the_attempt(self, world: World) -> None:
        somebody = await Protected.make(world)
        challenge = await challenged(world, somebody.person)
        body = {"currentPassword": somebody.person.password, "newPassword": "another long password"}
        assert (await somebody.person.ask("POST", "/auth/password/change", json=body)).status_code == 200
        assert code(await somebody.complete(challenge, code=somebody.code())) == (401, "code_invalid")

    async def test_codes_are_turned_off_again(self, world: World) -> None:
        somebody = await Protected.make(world)
        assert (await somebody.person.ask("DELETE", "/auth/totp")).status_code == 200
        assert (await post(world, "/login", email=somebody.person.email, password=somebody.person.password)).status_code == 200
        assert code(await somebody.person.ask("DELETE", "/auth/totp")) == (404, "not_found")

    async def test_a_second_enrolment_does_not_replace_the_first(self, world: World) -> None:
        somebody = await Protected.make(world)
        enrolment = await somebody.person.ok("POST", "/auth/totp/enrol")
        body = {"enrolment": enrolment["enrolment"], "code": pyotp.TOTP(enrolment["secret"]).now()}
        assert code(await somebody.person.ask("POST", "/auth/totp/confirm", json=body)) == (409, "second_factor_exists")

    async def test_another_persons_enrolment_is_refused(self, world: World) -> None:
        one, other = await world.register(), await world.register()
        enrolment = await one.ok("POST", "/auth/totp/enrol")
        body = {"enrolment": enrolment["enrolment"], "code": pyotp.TOTP(enrolment["secret"]).now()}
        assert code(await other.ask("POST", "/auth/totp/confirm", json=body)) == (422, "token_invalid")

    async def test_neither_secret_nor_recovery_codes_are_in_the_log(self, world: World) -> None:
        somebody = await Protected.make(world)
        address = email_hash(somebody.person.email)
        logged = b"".join(
            encode(event)
            for host in world.shards.hosts.values() if "accounts" in host._services
            for account in [host._services["accounts"].group.memory._accounts.get(address)] if account is not None  # type: ignore[attr-defined]
            for _, event in account.events
        )
        assert b"totp_enabled" in logged
        assert somebody.secret.encode() not in logged
        assert not [one for one in somebody.recovery if one.encode() in logged]

    @pytest.mark.parametrize("body", [
        {"challenge": "x"}, {"challenge": "x", "code": "12345"}, {"challenge": "x", "code": "１２３４５６"},
        {"challenge": "x", "code": "123456", "recoveryCode": "y"}, {"code": "123456"}, {"challenge": "x" * 2_000, "code": "123456"},
    ])
    async def test_bad_requests_are_refused(self, world: World, body: dict[str, Any]) -> None:
        assert code(await post(world, "/login/second-factor", **body)) == (422, "invalid")


async def test_what_is_sensitive_needs_a_sign_in_at_most_five_minutes_old(world: World) -> None:
    person = await world.register()
    identity = world.dependencies.tokens.verify(person.access_token)
    assert identity is not None
    for ago, expected in ((240, 200), (301, 401), (-120, 401)):
        person.access_token = world.dependencies.tokens.issue(
            person.user_id, identity.family_id, email_hash=identity.email_hash, signed_in_at=time.time() - ago
        )
        answer = await person.ask("POST", "/auth/totp/enrol")
        assert answer.status_code == expected
    assert code(answer) == (401, "sign_in_again")


async def test_a_refreshed_token_keeps_the_time_of_its_sign_in(world: World) -> None:
    person = await world.register()
    before = world.dependencies.tokens.verify(person.access_token)
    made = (await post(world, "/refresh", refreshToken=person.refresh_token)).json()
    after = world.dependencies.tokens.verify(made["accessToken"])
    assert before is not None
    assert after is not None
    assert 0 < after.signed_in_at == before.signed_in_at


class TestPasskeys:
    async def added(self, person: Person, authenticator: Authenticator, **how: Any) -> httpx.Response:
        ceremony = await person.ok("POST", "/auth/passkeys/options")
        credential = authenticator.create(ceremony["options"], **how)
        body = {"challenge": ceremony["challenge"], "credential": credential, "name": "My phone"}
        return await person.ask("POST", "/auth/passkeys", json=body)

    async def login(self, world: World, authenticator: Authenticator, **how: Any) -> httpx.Response:
        ceremony = (await post(world, "/login/passkey/options")).json()
        assert "allowCredentials" not in ceremony["options"] or ceremony["options"]["allowCredentials"] == []
        return await post(
            world, "/login/passkey", challenge=ceremony["challenge"], credential=authenticator.get(ceremony["options"], **how)
        )

    @pytest.mark.parametrize("counts", [True, False])
    async def test_a_passkey_signs_in_without_any_name(self, world: World, counts: bool) -> None:
        person, authenticator = await world.register(), Authenticator(counts=counts)
        assert (await self.added(person, authenticator)).status_code == 201
        for _ in range(2):
            answer = await self.login(world, authenticator)
            assert answer.status_code == 200, answer.text
            assert answer.json()["userId"] == person.user_id
        (listed,) = (await person.ok("GET", "/auth/passkeys"))["passkeys"]
        assert listed["name"] == "My phone"

    async def test_the_handle_tells_nothing_of_the_account(self, world: World) -> None:
        person = await world.register()
        ceremony = await person.ok("POST", "/auth/passkeys/options")
        authenticator = Authenticator()
        authenticator.create(ceremony["options"])
        assert bytes.fromhex(email_hash(person.email)) not in authenticator.handle
        assert person.user_id.encode() not in authenticator.handle

    async def test_a_ceremony_is_completed_once(self, world: World) -> None:
        person, authenticator = await world.register(), Authenticator(counts=False)
        await self.added(person, authenticator)
        ceremony = (await post(world, "/login/passkey/options")).json()
        body = {"challenge": ceremony["challenge"], "credential": authenticator.get(ceremony["options"])}
        assert (await post(world, "/login/passkey", **body)).status_code == 200
        assert code(await post(world, "/login/passkey", **body)) == (401, "passkey_invalid")

    async def test_a_copied_key_is_found_out_by_its_counter(self, world: World) -> None:
        person, authenticator = await world.register(), Authenticator()
        await self.added(person, authenticator)
        assert (await self.login(world, authenticator)).status_code == 200
        authenticator.counter -= 1
        assert code(await self.login(world, authenticator)) == (401, "passkey_invalid")

    async def test_other_origins_domains_keys_and_unverified_users_are_refused(self, world: World) -> None:
        person, authenticator = await world.register(), Authenticator()
        await self.added(person, authenticator)
        refused = [
            await self.login(world, authenticator, origin="https://evil.example.com"),
            await self.login(world, authenticator, domain="evil.example.com"),
            await self.login(world, Authenticator()),
        ]
        other = Authenticator()
        other.credential_id, other.handle, other.domain = authenticator.credential_id, authenticator.handle, authenticator.domain
        other.counter = 100
        refused.append(await self.login(world, other))
        authenticator.verifies = False
        refused.append(await self.login(world, authenticator))
        assert {code(answer) for answer in refused} == {(401, "passkey_invalid")}

    async def test_bad_registrations_are_refused(self, world: World) -> None:
        person, other = await world.register(), await world.register()
        assert code(await self.added(person, Authenticator(), origin="https://evil.example.com")) == (401, "passkey_invalid")
        assert code(await self.added(person, Authenticator(verifies=False))) == (401, "passkey_invalid")
        ceremony = await other.ok("POST", "/auth/passkeys/options")
        body = {"challenge": ceremony["challenge"], "credential": Authenticator().create(ceremony["options"]), "name": "n"}
        assert code(await person.ask("POST", "/auth/passkeys", json=body)) == (401, "passkey_invalid")
        for credential in ({}, {"id": 7}, {"id": "x", "response": {"userHandle": "é"}}, {"id": "x" * 20_000}):
            answer = await post(world, "/login/passkey", challenge=(await post(world, "/login/passkey/options")).json()["challenge"], credential=credential)
            assert code(answer) in ((401, "passkey_invalid"), (422, "invalid"))
        assert (await person.ok("GET", "/auth/passkeys"))["passkeys"] == []

    async def test_a_removed_passkey_signs_nobody_in(self, world: World) -> None:
        person, authenticator = await world.register(), Authenticator()
        await self.added(person, authenticator)
        (listed,) = (await person.ok("GET", "/auth/passkeys"))["passkeys"]
        assert (await person.ask("DELETE", f"/auth/passkeys/{listed['passkeyId']}")).status_code == 200
        assert code(await self.login(world, authenticator)) == (401, "passkey_invalid")
        assert code(await person.ask("DELETE", f"/auth/passkeys/{listed['passkeyId']}")) == (404, "not_found")

    async def test_a_reset_by_whoever_confirms_the_address_removes_an_earlier_claimants_passkeys(self, world: World) -> None:
        squatter, authenticator = await world.register(), Authenticator()
        await self.added(squatter, authenticator)
        await post(world, "/password/forgot", email=squatter.email)
        token = world.mailed_token(squatter.email, "reset")
        assert (await post(world, "/password/reset", token=token, password="the owner's password")).status_code == 200
        assert code(await self.login(world, authenticator)) == (401, "passkey_invalid")


def test_neighbouring_steps_are_taken_and_others_are_not() -> None:
    secret = b"12345678901234567890"
    totp = pyotp.TOTP("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
    assert totp.generate_otp(37_037_036)[-6:] == "081804", "RFC 6238, appendix B, of 1111111109 s"
    found = [step_of(secret, totp.generate_otp(1_000 + offset), now=1_000 * STEP_S + 7) for offset in range(-2, 3)]
    assert found == [None, 999, 1_000, 1_001, None]


async def test_a_new_account_key_locks_nobody_out_while_the_old_one_is_known(
    world: World, make_world: Callable[..., Awaitable[World]]
) -> None:
    auth = world.settings.auth
    changed = {"account_key": SecretStr("5c" * 32), "previous_account_keys": (auth.account_key,)}
    renewed = await make_world(auth=auth.model_copy(update=changed))
    forgetful = await make_world(auth=auth.model_copy(update=changed | {"previous_account_keys": ()}))

    somebody, begun = await Protected.make(world), await Protected.make(world)
    pending = await challenged(world, begun.person)
    for made in (somebody, begun):
        made.world = renewed
    answer = await begun.complete(pending, code=begun.code())
    assert answer.status_code == 200, "a sign-in that began before the change is completed"
    for how in ({"code": somebody.code()}, {"recoveryCode": somebody.recovery[0]}):
        answer = await somebody.complete(await challenged(renewed, somebody.person), **how)
        assert answer.status_code == 200, answer.text
    again = await somebody.complete(await challenged(renewed, somebody.person), recoveryCode=somebody.recovery[0])
    assert code(again) == (401, "code_invalid"), "each works once, by whichever key it is known"

    person, authenticator = await world.register(), Authenticator()
    assert (await TestPasskeys().added(person, authenticator)).status_code == 201
    assert (await TestPasskeys().login(renewed, authenticator)).status_code == 200
    assert code(await TestPasskeys().login(forgetful, authenticator)) == (401, "passkey_invalid")

    await world.client.post(f"{AUTH}/password/forgot", json={"email": person.email})
    mailed = world.mailed_token(person.email, "reset")
    body = {"token": mailed, "password": "another horse battery"}
    assert code(await post(forgetful, "/password/reset", **body))[1] == "token_invalid"
    assert (await post(renewed, "/password/reset", **body)).status_code == 200

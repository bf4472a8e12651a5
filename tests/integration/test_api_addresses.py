"""Another address through the API on real servers: proven by mail, asked for lately, signing in at once, one holder."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api_world import Person, World
from test_api_signin import NEW, code, login, post, refreshes, signed_in

from actors.accounts.client import AccountsClient
from actors.accounts.commands import ChangeAddress, GrantRole
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.ids import email_hash, new_id

pytestmark = pytest.mark.servers


def fresh() -> str:
    return f"{new_id()}@example.com"


async def asked(person: Person, email: str, **options: Any) -> httpx.Response:
    return await person.ask("POST", "/auth/email/change", json={"email": email}, **options)


async def confirmed(person: Person, token: str) -> httpx.Response:
    return await person.ask("POST", "/auth/email/change/confirm", json={"token": token})


async def moved(person: Person, email: str, *, registered_with: str | None = None) -> None:
    """Lets the person sign in with another address."""
    assert (await asked(person, email)).status_code == 202
    token = person.world.mailed_token(registered_with or person.email, "change")
    answer = await confirmed(person, token)
    assert answer.status_code == 200, answer.text


def named(person: Person, email: str) -> Person:
    return Person(person.user_id, email, person.password, person.access_token, person.refresh_token, person.world)


class TestChanging:
    async def test_the_new_address_signs_in_at_once_the_former_no_more_and_other_sessions_end(self, world: World) -> None:
        person, email = await world.register(), fresh()
        other = await login(world, person)
        await moved(person, email)
        assert await signed_in(person)
        assert await refreshes(person)
        assert not await signed_in(other)
        assert not await refreshes(other)
        again = await login(world, named(person, email))
        assert again.user_id == person.user_id
        assert await signed_in(again)
        assert await refreshes(again)
        assert code(await post(world, "/login", email=person.email, password=person.password)) == (401, "wrong_credentials")

    async def test_everything_that_names_an_account_by_its_address_means_the_new_one(self, world: World) -> None:
        person, email = await world.register(), fresh()
        await moved(person, email)
        taken = await world.client.post("/api/v1/auth/register", json=world.body(email=email))
        assert code(taken) == (409, "address_taken")
        granted = await world.dependencies.accounts.grant_role(
            GrantRole(email_hash=email_hash(person.email), role="moderator", granted_by="service:test")
        )
        assert type(granted).__name__ == "NotSignedIn"
        assert (await post(world, "/password/forgot", email=person.email)).status_code == 202
        with pytest.raises(AssertionError, match="no token waits"):
            world.mailed_token(person.email, "reset")
        assert (await post(world, "/password/forgot", email=email)).status_code == 202
        token = world.mailed_token(person.email, "reset")
        assert (await post(world, "/password/reset", token=token, password=NEW)).status_code == 200
        assert await signed_in(await login(world, named(person, email), NEW))

    async def test_a_password_is_changed_under_the_new_address(self, world: World) -> None:
        """The read model still says which address signs in."""
        person, email = await world.register(), fresh()
        await moved(person, email)
        change = await person.ask(
            "POST", "/auth/password/change", json={"currentPassword": person.password, "newPassword": NEW}
        )
        assert change.status_code == 200
        assert code(await post(world, "/login", email=person.email, password=NEW)) == (401, "wrong_credentials")
        assert await signed_in(await login(world, named(person, email), NEW))

    async def test_an_address_is_changed_again_and_back(self, world: World) -> None:
        person, second, third = await world.register(), fresh(), fresh()
        await moved(person, second)
        await moved(person, third, registered_with=person.email)
        assert code(await post(world, "/login", email=second, password=person.password))[0] == 401
        await moved(person, person.email, registered_with=person.email)
        assert code(await post(world, "/login", email=third, password=person.password))[0] == 401
        assert await signed_in(await login(world, person))


class TestTokens:
    async def test_a_token_may_be_presented_again_by_its_session_and_by_nobody_else(self, world: World) -> None:
        person, stranger, email = await world.register(), await world.register(), fresh()
        await asked(person, email)
        token = world.mailed_token(person.email, "change")
        assert code(await confirmed(stranger, token)) == (422, "token_invalid")
        assert (await world.client.post("/api/v1/auth/email/change/confirm", json={"token": token})).status_code == 401
        assert (await confirmed(person, token)).status_code == 200
        assert (await confirmed(person, token)).status_code == 200
        assert code(await post(world, "/password/reset", token=token, password=NEW)) == (422, "token_invalid")

    async def test_a_newer_request_another_password_and_the_end_of_sessions_take_an_older_one_back(self, world: World) -> None:
        person = await world.register()
        await asked(person, fresh())
        older = world.mailed_token(person.email, "change")
        await asked(person, fresh())
        assert code(await confirmed(person, older)) == (422, "token_invalid")
        newer = world.mailed_token(person.email, "change")
        assert (await person.ask("DELETE", "/auth/sessions")).status_code == 200
        assert code(await confirmed(person, newer)) == (422, "token_invalid")

    async def test_mails_to_the_former_address_are_worth_nothing_afterwards(self, world: World) -> None:
        person = await world.register()
        await post(world, "/password/forgot", email=person.email)
        reset = world.mailed_token(person.email, "reset")
        await post(world, "/email/verify", email=person.email)
        verify = world.mailed_token(person.email, "verify")
        await moved(person, fresh())
        assert code(await post(world, "/password/reset", token=reset, password=NEW)) == (422, "token_invalid")
        assert code(await post(world, "/email/verify", token=verify)) == (422, "token_invalid")

    async def test_an_address_that_somebody_registered_meanwhile_is_theirs(self, world: World) -> None:
        person, email = await world.register(), fresh()
        await asked(person, email)
        token = world.mailed_token(person.email, "change")
        owner = await world.register(email=email)
        await post(world, "/email/verify", email=email)
        assert (await post(world, "/email/verify", token=world.mailed_token(email, "verify"))).status_code == 200
        assert code(await confirmed(person, token)) == (409, "address_taken")
        assert (await login(world, owner)).user_id == owner.user_id
        assert (await login(world, person)).user_id == person.user_id

    async def test_of_two_who_ask_for_one_address_the_first_to_confirm_has_it(self, world: World) -> None:
        one, two, email = await world.register(), await world.register(), fresh()
        for person in (one, two):
            await asked(person, email)
        first, second = (world.mailed_token(person.email, "change") for person in (one, two))
        assert (await confirmed(one, first)).status_code == 200
        assert code(await confirmed(two, second)) == (409, "address_taken")
        assert (await login(world, named(one, email))).user_id == one.user_id

    async def test_an_account_that_nobody_confirmed_gives_way(self, world: World) -> None:
        email = fresh()
        squatter, person = await world.register(email=email), await world.register()
        await moved(person, email)
        assert not await signed_in(squatter)
        assert (await login(world, named(person, email))).user_id == person.user_id

    async def test_a_change_whose_route_was_killed_after_the_claim_is_made_by_the_next_try(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        person, email = await world.register(), fresh()
        await asked(person, email)
        token = world.mailed_token(person.email, "change")

        async def away(self: AccountsClient, command: ChangeAddress) -> Any:
            raise DependencyUnavailable("killed")

        with monkeypatch.context() as patched:
            patched.setattr(AccountsClient, "change_address", away)
            assert (await confirmed(person, token)).status_code == 503
        assert (await login(world, person)).user_id == person.user_id
        assert code(await post(world, "/login", email=email, password=person.password))[0] == 401
        assert (await confirmed(person, token)).status_code == 200
        assert (await login(world, named(person, email))).user_id == person.user_id


class TestAsking:
    async def test_free_taken_and_own_addresses_are_answered_alike(self, world: World) -> None:
        person, other = await world.register(), await world.register()
        answers = [await asked(person, email) for email in (fresh(), other.email, person.email)]
        assert {(answer.status_code, answer.content) for answer in answers} == {(202, b'{"accepted":true}')}

    async def test_it_needs_a_sign_in_at_most_five_minutes_old(self, world: World) -> None:
        person = await world.register()
        old = world.dependencies.tokens.issue(
            person.user_id, new_id(), email_hash=email_hash(person.email), signed_in_at=1.0
        )
        refused = await world.client.post(
            "/api/v1/auth/email/change", json={"email": fresh()}, headers={"Authorization": f"Bearer {old}"}
        )
        assert code(refused) == (401, "sign_in_again")

    async def test_a_key_names_one_request(self, world: World) -> None:
        person, email, key = await world.register(), fresh(), new_id()
        assert (await asked(person, email, key=key)).status_code == 202
        token = world.mailed_token(person.email, "change")
        assert (await asked(person, email, key=key)).status_code == 202
        assert world.mailed_token(person.email, "change") == token
        assert code(await asked(person, fresh(), key=key)) == (409, "idempotency_conflict")

    async def test_requests_are_limited_by_account_and_by_address(self, world: World) -> None:
        person, email = await world.register(), fresh()
        limit = world.settings.limits.mails_per_account_an_hour
        answers = [await asked(person, fresh()) for _ in range(limit + 1)]
        assert [answer.status_code for answer in answers] == [202] * limit + [429]
        others = [await world.register() for _ in range(limit + 1)]
        assert [(await asked(other, email)).status_code for other in others] == [202] * limit + [429]

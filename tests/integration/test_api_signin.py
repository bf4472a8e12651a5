"""Addresses, passwords and sessions through the API on real servers: nobody is told who is registered, nothing works twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from api_world import Person, World, forged

from cluster.connections.kafka import LogAppender
from configs.contracts.ids import email_hash, new_id
from configs.contracts.tokens import mail_token
from configs.contracts.topics import USER_UPDATED

pytestmark = pytest.mark.servers

AUTH = "/api/v1/auth"
NEW = "another long password"


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def post(world: World, path: str, **body: Any) -> httpx.Response:
    return await world.client.post(AUTH + path, json=body)


async def login(world: World, person: Person, password: str | None = None) -> Person:
    answer = await post(world, "/login", email=person.email, password=password or person.password)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    return Person(made["userId"], person.email, password or person.password, made["accessToken"], made["refreshToken"], world)


async def signed_in(person: Person) -> bool:
    return (await person.ask("GET", "/auth/me")).status_code == 200


async def refreshes(person: Person) -> bool:
    return (await post(person.world, "/refresh", refreshToken=person.refresh_token)).status_code == 200


class TestForgotten:
    async def test_a_mailed_token_sets_a_password_once_and_ends_every_session(self, world: World) -> None:
        person = await world.register()
        other = await login(world, person)
        assert (await post(world, "/password/forgot", email=person.email)).status_code == 202
        token = world.mailed_token(person.email, "reset")
        assert (await post(world, "/password/reset", token=token, password=NEW)).status_code == 200
        assert not await signed_in(person)
        assert not await signed_in(other)
        assert not await refreshes(person)
        assert not await refreshes(other)
        assert code(await post(world, "/password/reset", token=token, password="a third password")) == (422, "token_invalid")
        assert code(await post(world, "/login", email=person.email, password=person.password)) == (401, "wrong_credentials")
        assert await signed_in(await login(world, person, NEW))

    async def test_known_and_unknown_addresses_are_answered_alike(self, world: World) -> None:
        person = await world.register()
        for path in ("/password/forgot", "/email/verify"):
            known = await post(world, path, email=person.email)
            unknown = await post(world, path, email=f"{new_id()}@example.com")
            assert (known.status_code, known.content) == (unknown.status_code, unknown.content) == (202, b'{"accepted":true}')
            assert set(known.headers) == set(unknown.headers)

    async def test_known_and_unknown_addresses_take_the_same_steps(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The time of an answer is that of its steps: two questions to shards, and one event in the log."""
        person = await world.register()
        appended: list[Any] = []
        append = LogAppender.submit

        def counted(appender: LogAppender, records: Any) -> Any:
            # Who was active lately is recorded meanwhile, by no request.
            appended.extend(record for record in records if record.topic != USER_UPDATED.name)
            return append(appender, records)

        monkeypatch.setattr(LogAppender, "submit", counted)

        async def steps(email: str) -> tuple[int, int, int]:
            asked, before = world.dependencies.pool.batch_sizes["accounts"], len(appended)
            warmed = len(world.shards.loader.warmed)
            await post(world, "/password/forgot", email=email)
            return (
                world.dependencies.pool.batch_sizes["accounts"] - asked, len(appended) - before,
                len(world.shards.loader.warmed) - warmed,
            )

        assert await steps(person.email) == await steps(f"{new_id()}@example.com") == (2, 1, 0)

    async def test_a_newer_token_replaces_the_older_one(self, world: World) -> None:
        person = await world.register()
        await post(world, "/password/forgot", email=person.email)
        older = world.mailed_token(person.email, "reset")
        await post(world, "/password/forgot", email=person.email)
        assert code(await post(world, "/password/reset", token=older, password=NEW)) == (422, "token_invalid")
        newer = world.mailed_token(person.email, "reset")
        assert (await post(world, "/password/reset", token=newer, password=NEW)).status_code == 200

    async def test_of_racing_resets_with_one_token_one_wins(self, world: World) -> None:
        person = await world.register()
        await post(world, "/password/forgot", email=person.email)
        token = world.mailed_token(person.email, "reset")
        answers = await asyncio.gather(*(
            post(world, "/password/reset", token=token, password=f"password number {index}") for index in range(8)
        ))
        assert sorted(answer.status_code for answer in answers) == [200] + [422] * 7

    async def test_an_expired_token_is_refused(self, make_world: Callable[..., Awaitable[World]], world: World) -> None:
        auth = world.settings.auth.model_copy(update={"reset_ttl_s": -1})
        hasty = await make_world(auth=auth)
        person = await hasty.register()
        await post(hasty, "/password/forgot", email=person.email)
        token = hasty.mailed_token(person.email, "reset")
        assert code(await post(hasty, "/password/reset", token=token, password=NEW)) == (422, "token_invalid")
        assert await signed_in(person)

    async def test_forged_tokens_and_tokens_for_another_use_are_refused(self, world: World) -> None:
        person = await world.register()
        for path in ("/password/forgot", "/email/verify"):
            await post(world, path, email=person.email)
        reset, verify = world.mailed_token(person.email, "reset"), world.mailed_token(person.email, "verify")
        foreign = mail_token(b"another key" * 3, "reset", email_hash(person.email), new_id())
        for token in (verify, foreign, reset[:-1], forged(reset), "x", "é" * 86):
            assert code(await post(world, "/password/reset", token=token, password=NEW)) == (422, "token_invalid")
        assert code(await post(world, "/email/verify", token=reset)) == (422, "token_invalid")
        assert await signed_in(person)

    async def test_requests_for_one_address_are_limited(self, world: World) -> None:
        email = f"{new_id()}@example.com"
        answers = [
            await post(world, "/password/forgot", email=email)
            for _ in range(world.settings.limits.mails_per_account_an_hour + 1)
        ]
        assert code(answers[-1]) == (429, "too_many_requests")
        assert int(answers[-1].headers["retry-after"]) >= 1


class TestVerified:
    async def test_a_token_confirms_an_address_and_may_be_presented_again(self, world: World) -> None:
        """A lost answer must not tell the person that the confirmation failed."""
        person = await world.register()
        await post(world, "/email/verify", email=person.email)
        token = world.mailed_token(person.email, "verify")
        for _ in range(2):
            assert (await post(world, "/email/verify", token=token)).json() == {"success": True}
        assert await signed_in(person)

    @pytest.mark.parametrize("body", [
        {}, {"email": "a@example.com", "token": "t"}, {"token": ""}, {"token": "x" * 200}, {"email": "nobody"}, {"more": 1},
    ])
    async def test_bad_requests_are_refused(self, world: World, body: dict[str, Any]) -> None:
        assert code(await post(world, "/email/verify", **body)) == (422, "invalid")


class TestChanged:
    async def test_a_changed_password_keeps_this_session_and_ends_the_others(self, world: World) -> None:
        person = await world.register()
        other = await login(world, person)
        body = {"currentPassword": person.password, "newPassword": NEW}
        assert (await person.ask("POST", "/auth/password/change", json=body)).status_code == 200
        assert await signed_in(person)
        assert not await signed_in(other)
        assert await refreshes(person)
        assert not await refreshes(other)
        assert await signed_in(await login(world, person, NEW))

    async def test_another_replica_refuses_the_others_within_five_seconds(
        self, world: World, make_world: Callable[..., Awaitable[World]]
    ) -> None:
        elsewhere = await make_world()
        person = await world.register()
        other = await login(world, person)
        other.world = person.world = elsewhere
        assert await signed_in(other)
        body = {"currentPassword": person.password, "newPassword": NEW}
        assert (await world.client.post(
            AUTH + "/password/change", json=body, headers={"Authorization": f"Bearer {person.access_token}"}
        )).status_code == 200
        async with asyncio.timeout(20):
            while await signed_in(other):
                await asyncio.sleep(0.1)
        assert await signed_in(person)

    async def test_the_present_password_is_needed(self, world: World) -> None:
        person = await world.register()
        body = {"currentPassword": "not the password", "newPassword": NEW}
        assert code(await person.ask("POST", "/auth/password/change", json=body)) == (401, "wrong_credentials")
        assert await signed_in(await login(world, person))

    async def test_an_older_password_in_the_read_model_signs_nobody_in(self, world: World) -> None:
        """As after a promoted Redis replica that had missed the change: the shard decides."""
        from configs.contracts.read_model import credential_key

        person = await world.register()
        redis = world.dependencies.redis
        stale = await redis.get(credential_key(email_hash(person.email)))
        body = {"currentPassword": person.password, "newPassword": NEW}
        assert (await person.ask("POST", "/auth/password/change", json=body)).status_code == 200
        await redis.set(credential_key(email_hash(person.email)), stale)
        answer = await post(world, "/login", email=person.email, password=person.password)
        assert code(answer) == (401, "wrong_credentials")


class TestSessions:
    async def test_one_of_several_sessions_is_ended(self, world: World) -> None:
        person = await world.register()
        other = await login(world, person)
        session_id = (await other.ok("GET", "/auth/me"))["sessionId"]
        assert (await person.ask("DELETE", f"/auth/sessions/{session_id}")).status_code == 200
        assert not await signed_in(other)
        assert not await refreshes(other)
        assert await signed_in(person)
        assert (await person.ask("DELETE", f"/auth/sessions/{session_id}")).status_code == 200

    async def test_another_persons_session_is_as_unknown_as_none(self, world: World) -> None:
        one, other = await world.register(), await world.register()
        theirs = (await other.ok("GET", "/auth/me"))["sessionId"]
        refused = await one.ask("DELETE", f"/auth/sessions/{theirs}")
        unknown = await one.ask("DELETE", f"/auth/sessions/{new_id()}")
        assert code(refused) == code(unknown) == (404, "not_found")
        assert await signed_in(other)
        assert await refreshes(other)

    async def test_all_others_are_ended_at_once(self, world: World) -> None:
        person = await world.register()
        others = [await login(world, person) for _ in range(3)]
        assert (await person.ask("DELETE", "/auth/sessions")).status_code == 200
        assert [await signed_in(other) for other in others] == [False] * 3
        assert await signed_in(person)
        assert await signed_in(await login(world, person))

    async def test_the_list_shows_at_least_this_session(self, world: World) -> None:
        person = await world.register()
        (session,) = (await person.ok("GET", "/auth/sessions"))["sessions"]
        assert (session["current"], session["sessionId"]) == (True, (await person.ok("GET", "/auth/me"))["sessionId"])

    @pytest.mark.parametrize(("method", "path", "body", "refused"), [
        ("DELETE", "/auth/sessions", None, (401, "sign_in_again")),
        ("POST", "/auth/password/change", {"currentPassword": NEW, "newPassword": "a third password"}, (401, "wrong_credentials")),
        ("DELETE", "/users/me", None, (401, "sign_in_again")),
    ])
    async def test_an_ended_session_changes_nothing_where_nobody_has_heard_of_its_end(
        self, world: World, make_world: Callable[..., Awaitable[World]], monkeypatch: pytest.MonkeyPatch,
        method: str, path: str, body: dict[str, str] | None, refused: tuple[int, str],
    ) -> None:
        """Otherwise a thief's session keeps itself for good and throws the owner out."""
        behind = await make_world()
        thief = await world.register()
        await post(world, "/password/forgot", email=thief.email)
        monkeypatch.setattr(behind.dependencies.revocations, "refuses", lambda identity: False)
        token = world.mailed_token(thief.email, "reset")
        assert (await post(world, "/password/reset", token=token, password=NEW)).status_code == 200
        owner = await login(world, thief, NEW)
        thief.world = behind
        assert code(await thief.ask(method, path, **({} if body is None else {"json": body}))) == refused
        assert await signed_in(owner)
        assert await refreshes(owner)
        assert not await refreshes(thief)

    async def test_a_session_that_began_before_all_ended_is_found_out_at_its_refresh(self, world: World) -> None:
        """Whatever Redis says: the account's shard knows."""
        person = await world.register()
        other = await login(world, person)
        await person.ok("DELETE", "/auth/sessions")
        world.dependencies.revocations._ended.clear()
        assert not await refreshes(other)


class TestConfirmedFirst:
    @pytest.fixture
    async def confirming(self, world: World, make_world: Callable[..., Awaitable[World]]) -> World:
        return await make_world(auth=world.settings.auth.model_copy(update={"confirm_address": True}))

    async def test_every_address_is_answered_alike(self, world: World, confirming: World) -> None:
        taken = (await world.register()).email
        free = await post(confirming, "/register", **confirming.body())
        held = await post(confirming, "/register", **confirming.body(email=taken))
        again = await post(confirming, "/register", **confirming.body(email=taken))
        assert {(answer.status_code, answer.content) for answer in (free, held, again)} == {(202, b'{"accepted":true}')}
        assert set(free.headers) == set(held.headers)

    async def test_registering_an_address_again_and_again_mails_it_no_more_than_other_requests(self, confirming: World) -> None:
        """Its holder would get a flood of mails, each of which makes the link of the one before worthless."""
        body, limit = confirming.body(), confirming.settings.limits.mails_per_account_an_hour
        answers = [await post(confirming, "/register", **body) for _ in range(limit)]
        answers.append(await post(confirming, "/password/forgot", email=body["email"]))
        assert [answer.status_code for answer in answers] == [202] * limit + [429]

    async def test_nobody_signs_in_before_the_address_is_confirmed(self, confirming: World) -> None:
        body = confirming.body()
        assert (await post(confirming, "/register", **body)).status_code == 202
        credentials = {"email": body["email"], "password": body["password"]}
        assert code(await post(confirming, "/login", **credentials)) == (401, "wrong_credentials")
        token = confirming.mailed_token(body["email"], "verify")
        assert (await post(confirming, "/email/verify", token=token)).status_code == 200
        assert (await post(confirming, "/login", **credentials)).status_code == 200

    async def test_whoever_reads_the_mail_takes_an_unconfirmed_account_over(self, confirming: World) -> None:
        """Somebody else registered my address first: my own attempt mails me a token that makes it mine."""
        body = confirming.body()
        await post(confirming, "/register", **body)
        theirs = confirming.mailed_token(body["email"], "verify")
        await post(confirming, "/register", **body | {"password": "the owner's password", "displayName": "Owner"})
        assert code(await post(confirming, "/email/verify", token=theirs)) == (422, "token_invalid")
        assert (await post(confirming, "/email/verify", email=body["email"])).status_code == 202
        token = confirming.mailed_token(body["email"], "reset")
        assert (await post(confirming, "/password/reset", token=token, password=NEW)).status_code == 200
        assert code(await post(confirming, "/login", email=body["email"], password=body["password"])) == (401, "wrong_credentials")
        assert (await post(confirming, "/login", email=body["email"], password=NEW)).status_code == 200

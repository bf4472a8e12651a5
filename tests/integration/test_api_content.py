"""Posts through the API, down to rows and back: publishing them, selling them, and what takes them away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from api_world import Person
from content_world import ContentWorld, content_world, in_rows, shown
from log_writing import append, record

from actors.posts.commands import RemovePost
from cluster.connections.redis import apply_async
from configs.contracts import events, topics
from configs.contracts.albums import media_key
from configs.contracts.content import media_posts_key, post_key
from configs.contracts.ids import new_id
from configs.contracts.selling import put_purchase
from writers.connections import open_rows

pytestmark = pytest.mark.servers

PPV = {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}}
TEXT: dict[str, Any] = {"contentType": "text", "caption": "words", "access": {"visibility": "public"}, "state": "published"}


@pytest_asyncio.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ContentWorld]:
    async with content_world(tmp_path_factory.mktemp("content")) as made:
        yield made


async def test_a_post_goes_from_draft_to_everybody_and_away(world: ContentWorld) -> None:
    creator, reader = await world.creator(), await world.register("sugar_daddy")
    draft = await world.post(creator, state="draft", caption="first words")
    assert (draft["state"], draft["publishedAt"]) == ("draft", None)
    post = f"/content/posts/{draft['postId']}"
    assert (await reader.ask("GET", post)).status_code == 404
    assert [item["postId"] for item in (await creator.ok("GET", "/content/drafts"))["posts"]] == [draft["postId"]]
    published = await creator.ok("PUT", post, json={"state": "published", "caption": "last words"})
    seen = await shown(reader, draft["postId"])
    assert (seen["caption"], seen["access"], seen["publishedAt"]) == ("last words", "open", published["publishedAt"])
    page = await reader.ok("GET", f"/content/creators/{creator.user_id}/posts")
    assert [item["postId"] for item in page["posts"]] == [draft["postId"]]
    assert (await reader.ok("GET", f"/content/creators/{creator.user_id}"))["postCount"] == 1
    assert (await reader.ask("PUT", post, json={"caption": "mine"})).status_code == 404
    assert (await reader.ask("DELETE", post)).status_code == 404
    assert (await creator.ask("PUT", post, json={"state": "draft"})).json()["code"] == "post_state"
    assert await creator.ok("DELETE", post) == {"success": True}
    for person in (creator, reader):
        assert (await person.ask("GET", post)).status_code == 404
    assert (await creator.ask("DELETE", post)).status_code == 404


async def test_a_request_creates_one_post_however_often_it_is_sent(world: ContentWorld) -> None:
    creator = await world.creator()
    body: dict[str, Any] = {"contentType": "text", "caption": "once", "access": {"visibility": "public"}, "state": "published"}
    answers = await asyncio.gather(*(creator.ask("POST", "/content/posts", json=body, key="k") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["postId"] for answer in answers}) == 1
    other = await creator.ask("POST", "/content/posts", json=body | {"caption": "twice"}, key="k")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert (await creator.ok("GET", f"/content/creators/{creator.user_id}"))["postCount"] == 1


async def test_nothing_is_published_before_its_media_are_approved(world: ContentWorld) -> None:
    creator, reader = await world.creator(), await world.adult(await world.register("sugar_daddy"))
    media = await world.media(creator, new_id(), review="pending")
    body: dict[str, Any] = {"contentType": "image", "mediaIds": [media], "access": {"visibility": "public"}}
    refused = await creator.ask("POST", "/content/posts", json=body | {"state": "published"})
    assert (refused.status_code, refused.json()["code"]) == (409, "media_not_ready")
    soon = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
    post = await creator.ok("POST", "/content/posts", json=body | {"state": "scheduled", "scheduledAt": soon})
    await asyncio.sleep(5.5)
    assert (await reader.ask("GET", f"/content/posts/{post['postId']}")).status_code == 404
    await world.media(creator, media)
    await world.until(lambda: _answers(reader, post["postId"]))
    seen = await shown(reader, post["postId"])
    assert [item["mediaId"] for item in seen["media"]] == [media]
    # What is taken down later is out of the next answer, with whatever leads to it.
    await world.media(creator, media, state="removed")
    await world.dependencies.redis.delete(f"media:{{{media}}}")
    assert (await shown(reader, post["postId"]))["media"] == []


async def test_a_scheduled_post_waits_for_a_consent_that_was_withdrawn_meanwhile(
    world: ContentWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("writers.publishing.AT_ONCE", 1)  # what waits holds back nothing that is due later
    creator, depicted, reader = await world.creator(), await world.creator(), await world.adult(await world.register("sugar_daddy"))
    consent, later = f"/users/me/consents/{creator.user_id}", (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    with open_rows(world.settings, "test") as conn:

        def stands(given: bool) -> bool:
            return conn.execute(
                "SELECT given FROM consents WHERE person_id = %s AND creator_id = %s", (depicted.user_id, creator.user_id)
            ).fetchall() == [(given,)]

        async def scheduled(*people: Person) -> str | None:
            body = TEXT | {"state": "scheduled", "scheduledAt": later, "depicted": [person.user_id for person in people]}
            made = await creator.ask("POST", "/content/posts", json=body)
            return str(made.json()["postId"]) if made.status_code == 201 else None

        async def due(post_id: str, seconds_ago: int) -> None:
            await world.until(lambda: conn.execute(
                "UPDATE posts SET scheduled_at = now() - make_interval(secs => %s) WHERE creator_id = %s AND id = %s",
                (seconds_ago, creator.user_id, post_id),
            ).rowcount)

        await depicted.ok("PUT", consent)
        waits = await world.until(lambda: scheduled(depicted, creator))  # as soon as routes know the consent
        alone = await world.until(lambda: scheduled(creator))
        await world.until(lambda: stands(True))
        await depicted.ok("DELETE", consent)
        await world.until(lambda: stands(False))
        await due(waits, 60)
        await due(alone, 30)
        await world.until(lambda: _answers(reader, alone))
        assert not await _answers(reader, waits), "it was due before the other"
        await depicted.ok("PUT", consent)
        await world.until(lambda: _answers(reader, waits))


async def _answers(person: Person, post_id: str) -> bool:
    return (await person.ask("GET", f"/content/posts/{post_id}")).status_code == 200


async def test_others_media_and_bad_bodies_change_nothing(world: ContentWorld) -> None:
    creator, other, reader = await world.creator(), await world.creator(), await world.register("sugar_daddy")
    foreign, video = await world.media(other, new_id()), await world.media(creator, new_id(), kind="video")
    text: dict[str, Any] = {"contentType": "text", "caption": "words", "access": {"visibility": "public"}, "state": "published"}
    ppv: dict[str, Any] = {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}}
    for code, change in (
        ("media_unknown", {"contentType": "image", "mediaIds": [foreign]}),
        ("media_unknown", {"contentType": "image", "mediaIds": [video]}),
        ("media_unknown", {"contentType": "image", "mediaIds": [new_id()]}),
        ("post_incomplete", {"contentType": "image"}), ("post_incomplete", {"caption": "  "}),
        ("post_incomplete", {"mediaIds": [video]}),
        ("consent_missing", {"depicted": [reader.user_id]}),
        ("tier_unknown", {"access": {"visibility": "tier_specific", "requiredTierId": new_id()}}),
        ("invalid", {"access": {"visibility": "ppv"}}), ("invalid", {"access": {"visibility": "tier_specific"}}),
        ("invalid", {"access": {"visibility": "public", "price": ppv["price"]}}),
        *(("invalid", {"access": {"visibility": "ppv", "price": {"amount": amount, "currency": currency}}}) for amount, currency in (
            ("-1", "USD"), ("0", "USD"), ("0.001", "USD"), ("1e3", "USD"), ("5.5", "JPY"), ("5", "XXX"), ("9" * 12, "USD"),
        )),
        ("invalid", {"state": "scheduled"}), ("invalid", {"scheduledAt": datetime.now(UTC).isoformat()}),
        ("invalid", {"state": "scheduled", "scheduledAt": "2020-01-01T00:00:00Z"}), ("invalid", {"state": "removed"}),
        ("invalid", {"caption": "x" * 4_001}), ("invalid", {"mediaIds": [video] * 2}), ("invalid", {"unheard": 1}),
    ):
        answer = await creator.ask("POST", "/content/posts", json=text | change)
        assert answer.json()["code"] == code, (change, answer.text)
    assert (await reader.ask("POST", "/content/posts", json=text)).json()["code"] == "forbidden"
    young = await world.register("sugar_baby")
    assert (await young.ask("POST", "/content/posts", json=text)).json()["code"] == "age_unverified"
    assert (await creator.ok("GET", f"/content/creators/{creator.user_id}"))["postCount"] == 0
    assert (await creator.ok("GET", "/content/drafts"))["posts"] == []


async def test_what_was_on_sale_can_only_be_unlisted(world: ContentWorld) -> None:
    creator, reader = await world.creator(), await world.register("sugar_daddy")
    media = await world.media(creator, new_id())
    post = await world.post(
        creator, contentType="image", mediaIds=[media],
        access={"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}},
    )
    path = f"/content/posts/{post['postId']}"
    seen = await shown(reader, post["postId"])
    assert (seen["access"], seen["price"]) == ("purchase", {"amount": "5.00", "currency": "USD"})
    for change in ({"access": {"visibility": "public"}}, {"mediaIds": [await world.media(creator, new_id())]}):
        assert (await creator.ask("PUT", path, json=change)).json()["code"] == "post_sold"
    await creator.ok("DELETE", path)
    assert (await shown(creator, post["postId"]))["state"] == "unlisted"
    assert (await reader.ask("GET", path)).status_code == 404
    assert (await creator.ok("PUT", path, json={"state": "published"}))["state"] == "published"
    assert await shown(reader, post["postId"]) == seen


async def test_the_words_of_a_text_that_was_on_sale_stay_as_they_were_bought(world: ContentWorld) -> None:
    creator = await world.creator()
    post = await world.post(creator, contentType="text", caption="Worth it", access=PPV, state="draft")
    path = f"/content/posts/{post['postId']}"
    await creator.ok("PUT", path, json={"caption": "Worth every cent"})
    await creator.ok("PUT", path, json={"state": "published"})
    for change in ({"caption": "."}, {"caption": ".", "state": "unlisted"}):
        answer = await creator.ask("PUT", path, json=change)
        assert (answer.status_code, answer.json()["code"]) == (409, "post_sold")
    same = await creator.ok("PUT", path, json={"caption": "Worth every cent", "state": "unlisted"})
    assert (same["caption"], same["state"]) == ("Worth every cent", "unlisted")
    media = await world.media(creator, new_id())
    image = await world.post(creator, contentType="image", mediaIds=[media], caption="Look", access=PPV)
    assert (await creator.ok("PUT", f"/content/posts/{image['postId']}", json={"caption": "Look here"}))["caption"] == "Look here"


async def test_media_that_were_on_sale_are_not_their_owners_to_delete(world: ContentWorld) -> None:
    creator, other = await world.creator(), await world.creator()
    sold, free = [await world.media(creator, new_id()) for _ in range(2)]
    with open_rows(world.settings, "test") as conn:  # as if the log held them: the shard finds them, and a removal is newer
        conn.execute("INSERT INTO albums (owner_id, version) VALUES (%s, 1)", (creator.user_id,))
        conn.execute(
            "UPDATE media SET version = 1, facts = jsonb_set(facts, '{version}', '1') WHERE owner_id = %s", (creator.user_id,)
        )

    async def deleted(media_id: str, by: Person = creator) -> str:
        return str((await by.ask("DELETE", f"/media/{media_id}")).json().get("code", "deleted"))

    post = await world.post(creator, contentType="image", mediaIds=[sold], access=PPV, state="draft")
    await world.post(creator, contentType="image", mediaIds=[free])
    path = f"/content/posts/{post['postId']}"
    await creator.ok("PUT", path, json={"state": "published"})
    assert [await deleted(sold), await deleted(sold, other)] == ["post_sold", "not_found"]
    await creator.ok("DELETE", path)
    assert (await shown(creator, post["postId"]))["state"] == "unlisted"
    assert await deleted(sold) == "post_sold", "it stays its buyers'"
    await world.until(lambda: in_rows(world, post["postId"], "unlisted"))
    await world.dependencies.redis.delete(media_key(sold), media_posts_key(sold), post_key(post["postId"]))
    assert await deleted(sold) == "post_sold", "also of what the read model has to learn first"
    assert [await deleted(free), await deleted(free)] == ["deleted", "not_found"], "nobody has paid for it"
    # Whoever bought what the moderation took away has their money back.
    await world.dependencies.posts.record(RemovePost(creator.user_id, post["postId"], "moderation", new_id()))

    async def freed() -> bool:
        return await deleted(sold) == "deleted"

    await world.until(freed)


async def test_media_that_the_moderation_takes_away_take_what_sold_them_along(world: ContentWorld) -> None:
    """So whoever bought it gets their money back, and nobody else buys it; the reversal of all decisions brings the post back."""
    creator, buyer = await world.creator(), await world.adult(await world.register("sugar_daddy"))
    media, other = await world.media(creator, new_id()), await world.media(creator, new_id())
    shows: dict[str, Any] = {"contentType": "image", "mediaIds": [media, other]}
    sold, unlisted, free, draft = [(await world.post(creator, **shows, **more))["postId"] for more in (
        {"access": PPV}, {"access": PPV}, {}, {"access": PPV, "state": "draft"},
    )]
    await creator.ok("DELETE", f"/content/posts/{unlisted}")
    payment = await world.paid(buyer, creator, post_id=sold)
    refunds = "SELECT coalesce(jsonb_array_length(state -> 'refunds'), 0) FROM post_purchases WHERE id = %s AND status = 'completed'"
    with open_rows(world.settings, "test") as conn:
        await world.until(lambda: conn.execute(refunds, (payment,)).fetchall() == [(0,)])
        await world.until(lambda: in_rows(world, unlisted, "unlisted"))
        await world.until(lambda: in_rows(world, draft, "draft"))
        cases: dict[str, dict[str, Any]] = {
            target: {
                "decision_id": new_id(), "target_type": "media", "target_id": target, "subject_id": creator.user_id,
                "action": "remove", "statement": "why", "decided_by": "person:m",
            } for target in (media, other)
        }
        for target, told in cases.items():
            decided = events.CaseDecided(**told, category="nudity", number=1)
            await append(world.settings, record(world.settings, topics.MODERATION_DECIDED, target, decided))
            await world.until(lambda: in_rows(world, sold, "removed") and in_rows(world, unlisted, "removed"))
        await world.until(lambda: conn.execute(refunds, (payment,)).fetchall() == [(1,)])
        by = "SELECT ARRAY[removed_by] || also_removed_by FROM posts WHERE id = %s AND state = 'removed'"
        decisions = [UUID(told["decision_id"]) for told in cases.values()]
        await world.until(lambda: conn.execute(by, (sold,)).fetchall() == [(decisions,)])
    assert in_rows(world, free, "published")
    assert in_rows(world, draft, "draft")

    async def found() -> bool:
        return await _answers(buyer, sold)

    async def gone() -> bool:
        return not await found()

    await world.until(gone)
    for target, told in cases.items():
        reversed_ = events.AppealDecided(**told, appeal_id=new_id(), outcome="reversed", number=2)
        await append(world.settings, record(world.settings, topics.MODERATION_DECIDED, target, reversed_))
        if target == media:
            with open_rows(world.settings, "test") as conn:
                await world.until(lambda: conn.execute(by, (sold,)).fetchall() == [(decisions[1:],)])
            assert await gone()
    await world.until(found)
    await world.until(lambda: in_rows(world, unlisted, "unlisted"))


async def test_a_purchase_opens_its_post_while_it_stands(world: ContentWorld) -> None:
    """Also a post that was unlisted since; nothing that was read with it opens."""
    creator, buyer = await world.creator(), await world.register("sugar_daddy")
    access = {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}}
    bought, other = [(await world.post(creator, access=access))["postId"] for _ in range(2)]

    async def bought_is(stands: bool, version: int) -> None:
        await apply_async(
            world.dependencies.redis, [put_purchase(buyer.user_id, bought, stands=stands, version=version)]
        )

    await bought_is(True, 1)
    assert ((await shown(buyer, bought))["access"], (await shown(buyer, other))["access"]) == ("open", "purchase")
    page = (await buyer.ok("GET", f"/content/creators/{creator.user_id}/posts"))["posts"]
    assert {post["postId"]: post["caption"] for post in page} == {bought: "words", other: None}
    for post in (bought, other):
        await creator.ok("DELETE", f"/content/posts/{post}")
    assert (await shown(buyer, bought))["caption"] == "words"
    assert (await buyer.ask("GET", f"/content/posts/{other}")).status_code == 404
    await bought_is(False, 2)
    await bought_is(True, 1)
    assert (await buyer.ask("GET", f"/content/posts/{bought}")).status_code == 404

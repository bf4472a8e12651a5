"""What a decision took away, through the API on real servers: a reversed appeal brings it back wherever it was."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api_world import Person
from local_http import local_client
from media_world import picture, uploaded
from safety_world import SafetyWorld, code, reverse, until

from cluster.connections.postgres import connect
from configs.contracts.events import AgeAssessed
from configs.contracts.ids import new_id
from serve_apps.recording import recorded

pytestmark = pytest.mark.servers


async def test_a_reported_comment_is_removed_by_a_decision_stays_as_evidence_and_is_back_once_that_is_reversed(safety: SafetyWorld) -> None:
    creator, bad, one = [await safety.here.register() for _ in range(3)]
    for person in (creator, bad):
        await safety.in_rows(person)
    payload = AgeAssessed(user_id=creator.user_id, assessment_id=new_id(), status="verified", provider="test")
    await recorded(safety.here.dependencies, creator.user_id, payload, scope="test", idempotency_key=None)
    post = await creator.ok("POST", "/content/posts", json={
        "contentType": "text", "caption": "a post", "access": {"visibility": "public"}, "state": "published",
    })
    path = f"/content/posts/{post['postId']}/comments"
    await until(lambda: _answers(bad, path))
    comment = (await bad.ok("POST", path, json={"text": "something vile"}))["commentId"]
    body = {"targetType": "comment", "targetId": comment, "category": "harassment"}
    for wrong in ({}, {"postId": post["postId"], "conversationId": new_id()}):
        assert code(await one.ask("POST", "/reports", json=body | wrong)) == (422, "invalid")
    assert code(await one.ask("POST", "/reports", json=body | {"postId": new_id()})) == (404, "not_found")
    assert code(await bad.ask("POST", "/reports", json=body | {"postId": post["postId"]})) == (422, "self_target")
    await one.ok("POST", "/reports", json=body | {"postId": post["postId"]})
    moderator = await safety.moderator()

    async def seen() -> Any:
        case = await moderator.ok("GET", f"/moderation/cases/{comment}")
        return case if case["evidence"] and case["reports"] else None

    case = await until(seen)
    assert (case["evidence"], case["subjectId"], case["reports"][0]["targetType"]) == ("something vile", bad.user_id, "comment")
    decided = await safety.decide(moderator, comment, "remove", targetType="comment")
    assert decided.status_code == 201

    async def shown() -> list[str]:
        return [item["text"] for item in (await one.ok("GET", path))["comments"]]

    async def gone() -> bool:
        return not await shown()

    await until(gone)
    with connect(safety.settings, "test") as conn:
        await until(lambda: conn.execute(
            "SELECT 1 FROM comments WHERE id = %s AND deleted_at IS NOT NULL AND text = 'something vile'", (comment,)
        ).fetchone())

    async def reportable() -> bool:
        return (await one.ask("POST", "/reports", json=body | {"postId": post["postId"]})).status_code != 404

    async def unreportable() -> bool:
        return not await reportable()

    await until(unreportable)
    await reverse(safety, await safety.moderator(), bad, comment, decided.json()["decisionId"])
    await until(shown)
    assert await shown() == ["something vile"]

    async def counted() -> bool:
        return bool((await one.ok("GET", f"/content/posts/{post['postId']}"))["commentCount"] == 1)

    await until(counted)


async def test_a_removed_picture_is_back_wherever_it_was_once_its_decision_is_reversed(safety: SafetyWorld) -> None:
    owner, one = await safety.here.register(), await safety.here.register("sugar_daddy")
    await safety.in_rows(owner)
    media = await uploaded(owner, picture(71))
    first, second = await safety.moderator(), await safety.moderator()
    await owner.ok("PUT", "/users/me/photos", json={"mediaIds": [media]})

    async def avatar() -> Any:
        return (await one.ok("GET", f"/users/profile/{owner.user_id}"))["avatarUrl"]

    async def ready() -> bool:
        return bool((await owner.ok("GET", f"/media/{media}"))["state"] == "ready")

    async def gone() -> bool:
        return (await one.ask("GET", f"/media/{media}")).status_code == 404 and await avatar() is None

    await until(ready)
    approved = await safety.decide(first, media, "dismiss", targetType="media", category="nudity")
    assert approved.status_code == 201, approved.text
    url = await until(avatar)
    async with local_client() as client:
        assert (await client.get(url)).status_code == 200
        removed = await safety.decide(first, media, "remove", targetType="media", category="nudity", seen=1)
        await until(gone)

        async def serves(status: int) -> bool:
            try:
                return (await client.get(url)).status_code == status
            except httpx.TransportError:
                return False  # the file went while it was sent

        await until(lambda: serves(404))

        async def no_photos() -> bool:
            return not (await owner.ok("GET", "/users/me/photos"))["photos"]

        await until(no_photos)
        assert code(await owner.ask("DELETE", f"/media/{media}")) == (404, "not_found")
        await reverse(safety, second, owner, media, removed.json()["decisionId"])
        await until(avatar)
        await until(lambda: serves(200))

    async def back() -> bool:
        return [photo["mediaId"] for photo in (await owner.ok("GET", "/users/me/photos"))["photos"]] == [media]

    await until(back)
    assert (await one.ok("GET", f"/media/{media}"))["view"]["url"]


async def test_a_removed_post_is_back_as_it_was_once_its_decision_is_reversed(safety: SafetyWorld) -> None:
    creator, one = await safety.here.register(), await safety.here.register("sugar_daddy")
    await safety.in_rows(creator)
    payload = AgeAssessed(user_id=creator.user_id, assessment_id=new_id(), status="verified", provider="test")
    await recorded(safety.here.dependencies, creator.user_id, payload, scope="test", idempotency_key=None)
    post = (await creator.ok("POST", "/content/posts", json={
        "contentType": "text", "caption": "harmless", "access": {"visibility": "public"}, "state": "published",
    }))["postId"]
    path = f"/content/posts/{post}"
    await until(lambda: _answers(one, path))
    first, second = await safety.moderator(), await safety.moderator()

    async def owned() -> bool:
        return bool((await first.ok("GET", f"/moderation/cases/{post}"))["subjectId"] == creator.user_id)

    await until(owned)
    decided = await safety.decide(first, post, "remove", targetType="post")
    assert decided.status_code == 201, decided.text

    async def gone() -> bool:
        return not await _answers(one, path)

    await until(gone)
    await reverse(safety, second, creator, post, decided.json()["decisionId"])
    await until(lambda: _answers(one, path))
    assert (await one.ok("GET", path))["caption"] == "harmless"

    async def listed() -> bool:
        page = await one.ok("GET", f"/content/creators/{creator.user_id}/posts")
        return post in [item["postId"] for item in page["posts"]]

    await until(listed)
    await creator.ok("PUT", path, json={"caption": "still harmless"})
    assert (await creator.ask("DELETE", path)).status_code == 200, "what its creator removes no decision brings back"
    assert (await one.ask("GET", path)).status_code == 404


async def _answers(person: Person, path: str) -> bool:
    return (await person.ask("GET", path)).status_code == 200

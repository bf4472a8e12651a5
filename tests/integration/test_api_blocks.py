"""A block makes two people invisible to each other on every read path that the API document names."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any

import pytest
from api_world import Person
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from safety_world import HERE, SafetyWorld, send, until

from configs.contracts.events import AgeAssessed
from configs.contracts.ids import new_id
from serve_apps.recording import recorded

pytestmark = pytest.mark.servers
NUMBERS = itertools.count()

OWN = {"getMe", "getSession", "listSessions", "listPasskeys", "listBlocks", "getJwks", "getWebPushKey", "health", "ready", "metrics"}
"""What says only who one is oneself, or what one did (listBlocks names whom one blocks)."""
SERVICES = {"explainCard"}
"""For service tokens only."""


async def verified(safety: SafetyWorld, person: Person) -> None:
    payload = AgeAssessed(user_id=person.user_id, assessment_id=new_id(), status="verified", provider="test")
    await recorded(safety.here.dependencies, person.user_id, payload, scope="test", idempotency_key=None)


class Two:
    """Two people with everything between them that one of them could read of the other."""

    def __init__(self, one: Person, other: Person, conversation: str) -> None:
        self.one, self.other, self.conversation = one, other, conversation
        self.tier = ""
        """A tier that ``one`` sells."""
        self.paid = ""
        """A post of ``one`` that ``other`` alone finds, in a message that names it."""
        self.posts: dict[str, str] = {}
        """Creator -> their post; among them somebody's on which both have commented."""

    def asked(self, of: Person) -> list[str]:
        """Every id with which somebody could ask about a person."""
        return [of.user_id, self.conversation, self.paid, *self.posts.values()]

    def theirs(self, person: Person) -> list[str]:
        """What tells of a person: nobody who must not see them may read any of it."""
        own = [post for creator, post in self.posts.items() if creator == person.user_id]
        return [person.user_id, *own, *([self.paid, self.tier] if person is self.one else [])]


TIER = {"rank": 1, "name": "Gold", "currency": "USD", "priceMonthly": "9.99", "priceYearly": "99.90", "benefits": []}
PPV = {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}}


async def publish(safety: SafetyWorld, creator: Person, **fields: Any) -> str:
    await verified(safety, creator)
    post = await creator.ask("POST", "/content/posts", json={
        "contentType": "text", "caption": f"by {creator.user_id}", "access": {"visibility": "public"}, "state": "published", **fields,
    })
    assert post.status_code == 201, post.text
    return str(post.json()["postId"])


async def two(safety: SafetyWorld) -> Two:
    number = next(NUMBERS)
    one = await safety.here.register(at=HERE, displayName=f"Blockerin{number}x")
    other = await safety.here.register("sugar_daddy", at=HERE, displayName=f"Gemeint{number}x")
    third = await safety.here.register(at=HERE)
    await one.swipe(other)
    made = Two(one, other, (await other.swipe(one))["matchId"])
    for person in (one, other, third):
        await safety.in_rows(person)
    made.posts = {creator.user_id: await publish(safety, creator) for creator in (one, third)}
    await verified(safety, other)
    for person in (one, other):
        assert (await send(person, made.conversation, f"from {person.user_id}")).status_code == 200
        for post_id in made.posts.values():

            async def shown(reader: Person = person, name: str = post_id) -> bool:
                return (await reader.ask("GET", f"/content/posts/{name}")).status_code == 200

            await until(shown)
            await person.ok("POST", f"/content/posts/{post_id}/comments", json={"text": f"comment of {person.user_id}"})
    made.tier = (await one.ok("POST", "/subscriptions/tiers", json=TIER))["tierId"]
    made.paid = await publish(safety, one, access=PPV, recipientId=other.user_id)
    await one.ok("POST", "/messaging/send", json={
        "conversationId": made.conversation, "content": "for you", "clientMessageId": "paid", "postId": made.paid,
    })
    await other.ok("POST", f"/content/creators/{one.user_id}/follow")
    await other.ok("POST", f"/content/posts/{made.posts[one.user_id]}/like")
    return made


def paths_of(document: dict[str, Any], theirs: list[str]) -> list[tuple[str, str]]:
    """(operation, path) of every GET for people, each with every id that could name the other or something of theirs."""
    found = []
    for path, operations in document["paths"].items():
        operation = operations.get("get")
        if operation is None or operation["operationId"] in OWN | SERVICES:
            continue
        needed = [item["name"] for item in operation.get("parameters", []) if item["in"] == "query" and item.get("required")]
        named = [name for name in needed if name.endswith("Id")]
        for ident in theirs if "{" in path or named else theirs[:1]:
            query = "&".join(f"{name}={ident if name in named else 1}" for name in needed)
            concrete = path
            while "{" in concrete:
                head, _, rest = concrete.partition("{")
                concrete = head + ident + rest.partition("}")[2]
            found.append((operation["operationId"], concrete + (f"?{query}" if query else "")))
    return found


async def leaks(safety: SafetyWorld, document: dict[str, Any], made: Two, viewer: Person, other: Person) -> list[str]:
    """The read paths on which the viewer still sees the other."""
    name = (await other.ok("GET", "/users/me"))["displayName"]
    found = []
    for operation, path in paths_of(document, made.asked(other)):
        answer = await safety.here.client.get(path, headers={"Authorization": f"Bearer {viewer.access_token}"})
        text = answer.text
        if any(word in text for word in (name, *made.theirs(other))):
            found.append(f"{operation} {path}: {text[:200]}")
    return found


@pytest.mark.parametrize("blocks_first", [True, False])
async def test_whoever_blocks_and_whoever_is_blocked_see_nothing_of_each_other(
    safety: SafetyWorld, blocks_first: bool
) -> None:
    document = await safety.here.document()
    made = await two(safety)
    one, other = (made.one, made.other) if blocks_first else (made.other, made.one)
    missing = {"getProfile", "listMatches", "listConversations", "listMessages", "listComments"}
    if one is made.other:
        missing |= {"getPost", "getCreator", "listCreatorPosts", "getFeed", "listFollowing", "listTiers"}

    async def read() -> bool:
        missing.difference_update([line.split()[0] for line in await leaks(safety, document, made, one, other)])
        return not missing

    try:
        await until(read)
    except TimeoutError:
        raise AssertionError(missing) from None
    await one.ok("POST", f"/users/{other.user_id}/block")
    for viewer, who in ((one, other), (other, one)):

        began = time.monotonic()
        while True:
            asked_after_s = time.monotonic() - began
            found = await leaks(safety, document, made, viewer, who)
            if not found:
                break
            assert asked_after_s < 5, found
            await asyncio.sleep(0.05)


@hypothesis(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["a", "b{c}", "{x}/{y}"]), st.lists(st.uuids().map(str), min_size=1, max_size=3))
def test_the_walk_fills_every_parameter(path: str, theirs: list[str]) -> None:
    document = {"paths": {f"/{path}": {"get": {"operationId": "op", "parameters": [{"name": "q", "in": "query", "required": True}]}}}}
    made = paths_of(json.loads(json.dumps(document)), theirs)
    assert len(made) == (len(theirs) if "{" in path else 1)
    assert all("{" not in found and found.endswith("?q=1") for _, found in made)
    document["paths"][f"/{path}"]["get"]["parameters"][0]["name"] = "creatorId"  # type: ignore[index]
    assert [found.partition("?creatorId=")[2] for _, found in paths_of(document, theirs)] == theirs

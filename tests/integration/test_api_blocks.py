"""A block makes two people invisible to each other on every read path that the API document names."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import pytest
import pytest_asyncio
from api_world import Person
from content_world import VERSIONS, ContentWorld, content_world
from hypothesis import HealthCheck, Phase, example, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from cluster.connections.redis import apply_async
from configs.contracts.albums import put_photos
from configs.contracts.conversations import put_change
from configs.contracts.ids import match_id, new_id
from configs.contracts.read_model import MatchEntry, put_entry
from writers.connections import open_rows

pytestmark = pytest.mark.servers
NUMBERS = itertools.count()
SOON_S: Final = 5.0

Side = Literal["one", "other"]
Tie = Literal["match", "liked", "strangers"]
"""What is between the two on cards: a match with messages, a like of the other's that ``one`` has not answered, or nothing."""
TIES: Final[tuple[Tie, ...]] = ("match", "liked", "strangers")
FACTS: Final = ("post", "sold", "comments", "subscription", "tip", "consent", "photo")
"""post: of ``one``, whom the other follows · sold: to the other in a message (of a match) · comments: of both on a third
person's post · subscription: the other's to a tier of ``one`` · tip: the other's to ``one`` · consent: the other's to
``one`` · photo: of each."""
ALL: Final = frozenset(FACTS)

SHOWS: Final[tuple[tuple[str, Side, frozenset[str]], ...]] = tuple(
    (operation, side, frozenset(needs.split()))
    for operation, sides, needs in (
        ("getProfile", "one other", ""), ("getCards", "one other", "strangers"), ("getCards", "one", "liked"),
        ("listLikes", "one", "liked"), ("listMatches", "one other", "match"), ("listConversations", "one other", "match"),
        ("listMessages", "one other", "match"), ("syncMessaging", "one other", "match"),
        ("listNotifications", "one other", "match"), ("listNotifications", "one", "tip"), ("listComments", "one other", "comments"),
        ("getPost", "other", "post"), ("getPost", "other", "sold match"), ("getCreator", "other", "post"),
        ("listCreatorPosts", "other", "post"), ("getFeed", "other", "post"), ("listFollowing", "other", "post"),
        ("listTiers", "other", "subscription"), ("listSubscribers", "one", "subscription"), ("listConsents", "other", "consent"),
        ("getMedia", "one other", "photo"), ("listSubscriptions", "other", "subscription"),
        ("getSubscription", "other", "subscription"), ("listTransactions", "one other", "tip"), ("getStatement", "one other", "tip"),
    )
    for side in sides.split()
)
"""(route, who asks, what must be between the two) where the route shows one of them to the other before the block."""

STAYS: Final[Mapping[str, str]] = {
    "listBlocks": "whom one blocks oneself, to unblock them",
    "listSubscriptions": "what one pays for, until when, and to whom",
    "getSubscription": "what one pays for, until when, and to whom",
    "listTransactions": "money that was paid and received, which has two sides for good",
    "getStatement": "money that was paid and received, which has two sides for good",
}
"""What rightly names the other after a block: one's own records, by id alone."""
UNASKED: Final[Mapping[str, str]] = {
    "explainCard": "for service tokens", "listAudit": "for staff", "listModerationQueue": "for staff", "getModerationCase": "for staff",
    "getCaseMedia": "for staff",
    "exportMe": "one's own data, which one has a right to; of others it holds ids",
    "getPlaylist": "answers a signed link that was given before the block, which ends within ten minutes, or with the video that plays",
    "getMarkedPicture": "answers a signed link that was given before the block, which ends within ten minutes",
}
QUIET: Final = {
    "getMe", "getSession", "listSessions", "listPasskeys", "getJwks", "getWebPushKey", "health", "ready", "metrics", "listDrafts",
    "getBalance", "getPayoutAccount", "listPaymentMethods", "getPayout", "getPayment", "listPromoCodes", "listPhotos",
    "getNotificationPreferences", "getPreferences", "getVerification",
}
"""What never tells of anybody else; that is asserted before the block too."""
QUERIES: Final = {"getCards": "limit=100", "getStatement": "format=csv"}

TIER = {"rank": 1, "name": "Gold", "currency": "USD", "priceMonthly": "9.99", "priceYearly": "99.90", "benefits": []}
PPV = {"visibility": "ppv", "price": {"amount": "5.00", "currency": "USD"}}


@dataclass
class Two:
    """Two people and what is between them. ``asked``: ids with which one could ask about the other or what is theirs;
    ``words``: what tells of each, of which the other may read nothing after a block; ``since``: where each began to listen."""

    one: Person
    other: Person
    asked: list[str]
    words: dict[Side, list[str]]
    since: dict[Side, str] = field(default_factory=dict)

    def person(self, side: Side) -> Person:
        return self.one if side == "one" else self.other


@pytest_asyncio.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ContentWorld]:
    async with content_world(tmp_path_factory.mktemp("blocks")) as made:
        yield made


async def two(world: ContentWorld, tie: Tie, facts: Collection[str]) -> Two:
    """Two people whom nobody else of this module is near to."""
    number = next(NUMBERS)
    at, names = (1.5 * number, 16.37), (f"Blockerin{number}x", f"Gemeint{number}x")
    one = await world.creator(at=at, displayName=names[0])
    other = await world.adult(await world.register("sugar_daddy", at=at, displayName=names[1]))
    made = Two(one, other, [one.user_id, other.user_id], {"one": [one.user_id, names[0]], "other": [other.user_id, names[1]]})
    for side in made.words:
        made.since[side] = (await made.person(side).ok("GET", "/messaging/sync"))["position"]
    await meet(world, made, tie, sold="sold" in facts)
    for fact in facts:
        if fact in MAKING:
            await MAKING[fact](world, made)
    return made


async def meet(world: ContentWorld, made: Two, tie: Tie, *, sold: bool) -> None:
    one, other = made.one, made.other
    await world.until_near(one, other)
    if tie == "strangers":
        await world.until_near(other, one)
        return
    await other.swipe(one)
    if tie == "liked":
        return
    conversation = (await one.swipe(other))["matchId"]
    made.asked.append(conversation)
    for person in (one, other):
        await say(world, person, conversation)
    if sold:
        paid = await publish(world, made, access=PPV, recipientId=other.user_id)
        await say(world, one, conversation, postId=paid)


async def say(world: ContentWorld, person: Person, conversation: str, **fields: Any) -> None:
    body = {"conversationId": conversation, "content": f"from {person.user_id}", "clientMessageId": new_id(), **fields}

    async def sent() -> bool:
        return (await person.ask("POST", "/messaging/send", json=body)).status_code == 200

    await world.until(sent)


async def publish(world: ContentWorld, made: Two, **fields: Any) -> str:
    """A post of ``one``'s."""
    name = str((await world.post(made.one, caption=f"by {made.one.user_id}", **fields))["postId"])
    made.asked.append(name)
    made.words["one"].append(name)
    return name


async def _post(world: ContentWorld, made: Two) -> None:
    await publish(world, made)
    await made.other.ok("POST", f"/content/creators/{made.one.user_id}/follow")


async def _comments(world: ContentWorld, made: Two) -> None:
    name = (await world.post(await world.creator()))["postId"]
    made.asked.append(name)
    for person in (made.one, made.other):

        async def commented(by: Person = person) -> bool:
            body = {"text": f"comment of {by.user_id}"}
            return (await by.ask("POST", f"/content/posts/{name}/comments", json=body, key="once")).status_code == 201

        await world.until(commented)


async def _subscription(world: ContentWorld, made: Two) -> None:
    tier = (await made.one.ok("POST", "/subscriptions/tiers", json=TIER))["tierId"]
    made.words["one"].append(tier)
    made.asked.append(await world.subscribed(made.other, made.one, tier, days_left=20))


async def _tip(world: ContentWorld, made: Two) -> None:
    made.asked.append(await world.paid(made.other, made.one))


async def _consent(world: ContentWorld, made: Two) -> None:
    await made.other.ok("PUT", f"/users/me/consents/{made.one.user_id}")


async def _photo(world: ContentWorld, made: Two) -> None:
    for side, words in made.words.items():
        media, owner = new_id(), made.person(side)
        await world.media(owner, media)
        await apply_async(world.dependencies.redis, [put_photos(owner.user_id, (media,), next(VERSIONS))])
        words.append(media)
        made.asked.append(media)


MAKING: Final = {
    "post": _post, "comments": _comments, "subscription": _subscription, "tip": _tip, "consent": _consent, "photo": _photo,
}


def paths_of(document: Mapping[str, Any], ids: Collection[str], since: str) -> list[tuple[str, str]]:
    """(operation, path) of every GET for people, each with every id that could name the other or something of theirs."""
    found = []
    for path, operations in document["paths"].items():
        operation = operations.get("get")
        if operation is None or (name := operation["operationId"]) in UNASKED:
            continue
        needed = [item["name"] for item in operation.get("parameters", []) if item["in"] == "query" and item.get("required")]
        named = [parameter for parameter in needed if parameter.endswith("Id")]
        given_path = path.replace("{month}", f"{datetime.now(UTC):%Y-%m}")
        for ident in ids if "{" in given_path or named else list(ids)[:1]:
            query = [f"{parameter}={ident if parameter in named else 1}" for parameter in needed]
            query += [QUERIES[name]] if name in QUERIES else []
            query += [f"since={since}"] if name == "syncMessaging" else []
            concrete = given_path
            while "{" in concrete:
                head, _, rest = concrete.partition("{")
                concrete = head + ident + rest.partition("}")[2]
            found.append((name, concrete + (f"?{'&'.join(query)}" if query else "")))
    return found


async def shown(
    world: ContentWorld, document: Mapping[str, Any], made: Two, side: Side, only: Collection[str] | None = None
) -> dict[str, str]:
    """Route -> answer of those (of ``only`` these) that show a side the other one."""
    viewer, words = made.person(side), made.words["other" if side == "one" else "one"]
    keys = [key async for key in world.dependencies.redis.scan_iter(match="limit:*", count=1_000)]
    if keys:  # a refusal would hide what is shown
        await world.dependencies.redis.delete(*keys)
    found: dict[str, str] = {}
    for operation, path in paths_of(document, made.asked, made.since[side]):
        if only is not None and operation not in only:
            continue
        answer = await world.client.get(path, headers={"Authorization": f"Bearer {viewer.access_token}"})
        assert answer.status_code < 500 or answer.status_code == 503, (operation, answer.text)
        if any(word in answer.text for word in words):
            found[operation] = f"{path}: {answer.text[:300]}"
    return found


SIDES: Final[tuple[Side, Side]] = ("one", "other")


async def until_all_is_shown(world: ContentWorld, document: Mapping[str, Any], made: Two, known: Collection[str]) -> set[tuple[str, Side]]:
    """Every (route, side) that shows the other; all that must with what is known to be between the two."""
    expected = {(operation, side) for operation, side, needs in SHOWS if needs <= set(known)}
    seen: set[tuple[str, Side]] = {(operation, side) for side in SIDES for operation in await shown(world, document, made, side)}

    async def all_seen() -> bool:
        for side in SIDES:
            missing = {operation for operation, viewer in expected - seen if viewer == side}
            seen.update([(operation, side) for operation in await shown(world, document, made, side, missing)] if missing else ())
        return expected <= seen

    try:
        await world.until(all_seen, 60.0)
    except AssertionError:
        raise AssertionError(expected - seen) from None
    return seen


@pytest.mark.timeout(1_800)
@hypothesis(
    max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate), database=None
)
@example(tie="match", facts=ALL, first="one")
@example(tie="liked", facts=ALL, first="other")
@example(tie="strangers", facts=ALL, first="one")
@given(tie=st.sampled_from(TIES), facts=st.frozensets(st.sampled_from(FACTS)), first=st.sampled_from(SIDES))
async def test_whoever_blocks_and_whoever_is_blocked_see_nothing_of_each_other(
    world: ContentWorld, tie: Tie, facts: frozenset[str], first: Side
) -> None:
    document = await world.document()
    made = await two(world, tie, facts)
    seen = await until_all_is_shown(world, document, made, facts | {tie})
    assert {operation for operation, _ in seen} <= {operation for operation, _, _ in SHOWS}
    blocker, blocked = (made.one, made.other) if first == "one" else (made.other, made.one)
    await blocker.ok("POST", f"/users/{blocked.user_id}/block")
    began = time.monotonic()
    while True:
        asked_after_s = time.monotonic() - began
        after = {(operation, side): text for side in SIDES for operation, text in (await shown(world, document, made, side)).items()}
        left = {place: text for place, text in after.items() if place[0] not in STAYS}
        if not left:
            break
        assert asked_after_s < SOON_S, left
        await asyncio.sleep(0.05)
    assert {place for place in seen if place[0] in STAYS} | {("listBlocks", first)} == after.keys()


async def test_every_route_that_reads_is_known_to_show_others_or_not(world: ContentWorld) -> None:
    document = await world.document()
    operations = {found["get"]["operationId"] for found in document["paths"].values() if "get" in found}
    shows = {operation for operation, _, _ in SHOWS}
    assert operations == shows | QUIET | STAYS.keys() | UNASKED.keys()
    assert not shows & (QUIET | UNASKED.keys())
    assert all(any(needs <= ALL | {tie} for tie in TIES) for _, _, needs in SHOWS), "each is proven by an example"


@hypothesis(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["a", "b{c}", "{x}/{y}"]), st.lists(st.uuids().map(str), min_size=1, max_size=3))
def test_the_walk_fills_every_parameter(path: str, theirs: list[str]) -> None:
    document = {"paths": {f"/{path}": {"get": {"operationId": "op", "parameters": [{"name": "q", "in": "query", "required": True}]}}}}
    made = paths_of(json.loads(json.dumps(document)), theirs, "")
    assert len(made) == (len(theirs) if "{" in path else 1)
    assert all("{" not in found and found.endswith("?q=1") for _, found in made)
    document["paths"][f"/{path}"]["get"]["parameters"][0]["name"] = "creatorId"  # type: ignore[index]
    assert [found.partition("?creatorId=")[2] for _, found in paths_of(document, theirs, "")] == theirs


async def told(person: Person, since: str) -> list[str]:
    """The matches of which the person is told that they ended."""
    ended: list[str] = (await person.ok("GET", "/messaging/sync", params={"since": since}))["endedMatchIds"]
    return ended


async def answers(person: Person, match: str) -> list[tuple[int, str]]:
    """What the person is answered who asks about a match by its id."""
    report = {"targetType": "message", "targetId": new_id(), "category": "spam", "conversationId": match}
    asked = [
        await person.ask("DELETE", f"/matching/matches/{match}"),
        await person.ask("POST", "/reports", json=report),
        await person.ask("GET", f"/messaging/conversations/{match}/messages"),
        await person.ask("POST", f"/messaging/conversations/{match}/read", json={"seq": 1}),
        await person.ask("POST", "/messaging/send", json={"conversationId": match, "content": "c", "clientMessageId": new_id()}),
    ]
    return [(answer.status_code, answer.json()["code"]) for answer in asked]


async def test_a_stranger_does_not_learn_that_they_were_blocked(world: ContentWorld) -> None:
    blocker, blocked, nobody = await world.register(), await world.register(), await world.register()
    match, never = match_id(blocker.user_id, blocked.user_id), match_id(nobody.user_id, blocked.user_id)
    since = (await blocked.ok("GET", "/messaging/sync"))["position"]
    await blocker.ok("POST", f"/users/{blocked.user_id}/block")

    with open_rows(world.settings, "test") as conn:
        await world.until(lambda: conn.execute("SELECT FROM matches WHERE match_id = %s", (match,)).rowcount == 2)
    await asyncio.sleep(1.0)  # the projections follow
    assert await told(blocked, since) == []
    assert await answers(blocked, match) == await answers(blocked, never)
    assert [block["userId"] for block in (await blocker.ok("GET", "/users/me/blocks"))["blocks"]] == [blocked.user_id]

    # What was written of such a block before counts for nothing either.
    entry = MatchEntry(match_id=match, other_id=blocker.user_id, matched_at="", generation=0, status="blocked")
    await apply_async(world.dependencies.redis, [
        *(put_entry(listing, blocked.user_id, match, entry, version=1, at_ms=None) for listing in ("match", "conv")),
        put_change(blocked.user_id, f"x:{match}:0:blocked"),
    ])
    assert await told(blocked, since) == []
    assert await answers(blocked, match) == await answers(blocked, never)


@pytest.mark.parametrize("how", ["unmatched", "undone"])
async def test_a_block_after_the_end_of_a_match_is_not_told_as_another_end(world: ContentWorld, how: str) -> None:
    one, other = await world.register(), await world.register()
    await one.swipe(other)
    match = (await other.swipe(one))["matchId"]
    begin = (await one.ok("GET", "/messaging/sync"))["position"]
    if how == "undone":
        await other.ok("POST", "/matching/undo")
    else:
        await other.ok("DELETE", f"/matching/matches/{match}")
    missed = await one.ok("GET", "/messaging/sync", params={"since": begin})
    assert missed["endedMatchIds"] == [match]

    await other.ok("POST", f"/users/{one.user_id}/block")
    with open_rows(world.settings, "test") as conn:
        await world.until(lambda: conn.execute("SELECT FROM blocks WHERE blocked_id = %s", (one.user_id,)).rowcount == 1)
    await asyncio.sleep(1.0)  # the projections follow
    assert await told(one, missed["position"]) == []

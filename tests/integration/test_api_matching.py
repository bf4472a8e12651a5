"""Swipes, matches and cards through the API on real servers."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any

import httpx
import pytest
from api_world import Person, World

from actors.cards.commands import Deck, DeckQuery
from configs.contracts.ids import match_id, new_id
from configs.contracts.read_model import LikeEntry, deck_key, put_entry
from serve_apps.matching.decks import Decks
from serve_apps.matching.impressions import read_impression

pytestmark = pytest.mark.servers

PLACES = itertools.count()


def somewhere() -> tuple[float, float]:
    """A place of the test's own, 1,000 km and more from every other's."""
    number = next(PLACES)
    return -60.0 + 12 * (number % 10), -170.0 + 20 * (number // 10)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def ids(found: dict[str, Any]) -> list[str]:
    return [card["userId"] for card in found["cards"]]


async def couple(world: World) -> tuple[Person, Person]:
    return await world.register("sugar_baby"), await world.register("sugar_daddy")


async def test_two_who_like_each_other_see_one_match(world: World) -> None:
    one, other = await couple(world)
    assert await one.swipe(other) == {"matched": False}
    expected = match_id(one.user_id, other.user_id)
    assert await other.swipe(one) == {"matched": True, "matchId": expected}
    assert await one.swipe(other) == {"matched": True, "matchId": expected}
    for me, them in ((one, other), (other, one)):
        (match,) = (await me.ok("GET", "/matching/matches"))["matches"]
        assert (match["matchId"], match["user"]["userId"], match["unreadCount"]) == (expected, them.user_id, 0)
        (conversation,) = (await me.ok("GET", "/messaging/conversations"))["conversations"]
        assert conversation["conversationId"] == match["conversationId"] == expected


async def test_simultaneous_likes_with_retries_make_one_match_each(world: World) -> None:
    pairs = [await couple(world) for _ in range(20)]
    await asyncio.gather(*(
        me.swipe(them, key=f"{me.user_id[:8]}-like")
        for one, other in pairs for me, them in ((one, other), (other, one)) for _ in range(3)
    ))
    for one, other in pairs:
        again = await one.swipe(other)
        assert again == {"matched": True, "matchId": match_id(one.user_id, other.user_id)}
        assert await other.swipe(one) == again
        assert len((await one.ok("GET", "/matching/matches"))["matches"]) == 1


@pytest.mark.parametrize("end", ["unmatch", "block"])
async def test_a_match_ends_for_both(world: World, end: str) -> None:
    one, other = await couple(world)
    await one.swipe(other)
    match = (await other.swipe(one))["matchId"]
    if end == "unmatch":
        await one.ok("DELETE", f"/matching/matches/{match}")
        await one.ok("DELETE", f"/matching/matches/{match}")
    else:
        await one.ok("POST", f"/users/{other.user_id}/block")
    for person in (one, other):
        assert (await person.ok("GET", "/matching/matches"))["matches"] == []
        assert (await person.ok("GET", "/messaging/conversations"))["conversations"] == []
    if end == "unmatch":
        assert await other.swipe(one, "super_like") == {"matched": False}
        assert await one.swipe(other, "super_like") == {"matched": False}


async def test_ending_somebody_elses_match_is_not_found(world: World) -> None:
    one, other = await couple(world)
    await one.swipe(other)
    match = (await other.swipe(one))["matchId"]
    stranger = await world.register()
    assert code(await stranger.ask("DELETE", f"/matching/matches/{match}")) == (404, "not_found")
    assert len((await one.ok("GET", "/matching/matches"))["matches"]) == 1


async def test_undo_withdraws_the_last_swipe_and_its_match(world: World) -> None:
    one, other = await couple(world)
    await one.swipe(other)
    await other.swipe(one)
    undone = await other.ok("POST", "/matching/undo")
    assert undone == {"targetUserId": one.user_id, "action": "like", "endedMatch": True}
    assert (await one.ok("GET", "/matching/matches"))["matches"] == []
    assert code(await other.ask("POST", "/matching/undo")) == (409, "nothing_to_undo")


async def test_swiping_oneself_or_nobody_is_refused(world: World) -> None:
    one = await world.register()
    body = {"targetUserId": one.user_id, "action": "like"}
    assert code(await one.ask("POST", "/matching/swipe", json=body)) == (422, "self_target")
    assert code(await one.ask("POST", "/matching/swipe", json=body | {"targetUserId": new_id()})) == (404, "not_found")


async def test_super_likes_have_a_daily_limit(world: World) -> None:
    one = await world.register()
    others = [await world.register("sugar_daddy") for _ in range(world.settings.limits.super_likes_a_day + 1)]
    for other in others[:-1]:
        await one.swipe(other, "super_like")
    answer = await one.ask("POST", "/matching/swipe", json={"targetUserId": others[-1].user_id, "action": "super_like"})
    assert code(answer) == (429, "daily_limit_reached")
    assert 0 < int(answer.headers["retry-after"]) <= 86_400
    assert answer.json()["resetsAt"].endswith("T00:00:00.000Z")


async def test_cards_need_a_location(world: World) -> None:
    assert code(await (await world.register()).ask("GET", "/matching/cards")) == (409, "location_required")


async def neighbours(world: World, count: int, *, apart: float = 0.0) -> tuple[Person, list[Person]]:
    """A viewer and the people near them, known to the card shards; each ``apart`` degrees farther north."""
    place = somewhere()
    viewer = await world.register(at=place)
    near: list[Person] = []
    while len(near) < count:  # a replica hashes a bounded number of passwords at once and answers 503 past it
        some = min(count - len(near), world.settings.auth.hashing_queue // 2)
        near += await asyncio.gather(*(
            world.register("sugar_daddy", at=(place[0] + apart * number, place[1])) for number in range(len(near), len(near) + some)
        ))
    await world.until_near(viewer, *near)
    return viewer, near


async def test_cards_show_neighbours_and_nothing_private(world: World) -> None:
    viewer, (other,) = await neighbours(world, 1)
    (card,) = (await viewer.ok("GET", "/matching/cards"))["cards"]
    assert set(card) == {
        "userId", "displayName", "age", "bio", "avatarUrl", "role", "distanceKm", "verified", "lastActiveBucket",
        "impressionId",
    }
    assert (card["userId"], card["distanceKm"]) == (other.user_id, 2)
    impression = read_impression(world.dependencies.seals, card["impressionId"])
    assert impression is not None
    assert (impression.viewer_id, impression.candidate_id, impression.position) == (viewer.user_id, other.user_id, 0)


async def test_a_deck_of_everybody_is_one_deck_while_nobody_changes(world: World) -> None:
    viewer, near = await neighbours(world, 3)

    async def asked() -> tuple[dict[str, Any], set[bytes]]:
        page = await viewer.ok("GET", "/matching/cards?limit=2")
        return page, {key async for key in world.dependencies.redis.scan_iter(match=deck_key(viewer.user_id, "*"))}

    page, kept = await asked()
    async with asyncio.timeout(20):
        while (again := await asked()) and again[1] != kept:  # the log tells the shards of the last of them
            page, kept = again
            await asyncio.sleep(0.1)
    assert ids(again[0]) == ids(page)
    rest = await viewer.ok("GET", f"/matching/cards?limit=2&cursor={page['nextCursor']}")
    assert {*ids(page), *ids(rest)} == {person.user_id for person in near}
    await viewer.swipe(near[0], "pass")
    assert set(ids(await viewer.ok("GET", "/matching/cards"))) == {person.user_id for person in near[1:]}


@pytest.mark.parametrize("replaces", [False, True], ids=["the first deck", "in place of an older deck"])
async def test_of_two_first_pages_at_once_each_has_its_next_page(
    world: World, monkeypatch: pytest.MonkeyPatch, replaces: bool
) -> None:
    """Each makes a deck, and one of them overwrites the other's."""
    viewer, near = await neighbours(world, 5)
    if replaces:
        await viewer.ok("GET", "/matching/cards?limit=2")
        await viewer.swipe(near.pop(), "pass")
    both, found = asyncio.Barrier(2), Decks.found

    async def together(decks: Decks, query: DeckQuery) -> Deck:
        await both.wait()
        return await found(decks, query)

    with monkeypatch.context() as patched:
        patched.setattr(Decks, "found", together)
        pages = await asyncio.gather(*(viewer.ok("GET", "/matching/cards?limit=2") for _ in range(2)))
    for page in pages:
        rest = await viewer.ok("GET", f"/matching/cards?limit=3&cursor={page['nextCursor']}")
        assert sorted(ids(page) + ids(rest)) == sorted(person.user_id for person in near)


async def test_a_swiped_person_is_not_shown_again(world: World) -> None:
    viewer, near = await neighbours(world, 3)
    assert set(ids(await viewer.ok("GET", "/matching/cards"))) == {person.user_id for person in near}
    await viewer.swipe(near[0], "pass")
    assert set(ids(await viewer.ok("GET", "/matching/cards"))) == {person.user_id for person in near[1:]}
    await viewer.ok("POST", "/matching/undo")
    assert near[0].user_id in ids(await viewer.ok("GET", "/matching/cards"))


async def test_who_likes_the_viewer_is_put_forward_at_every_second_place_until_answered(world: World) -> None:
    # Who lives at one place is ordered by activity, which is still being written.
    viewer, near = await neighbours(world, 6, apart=0.07)
    by_id = {person.user_id: person for person in near}
    before = ids(await viewer.ok("GET", "/matching/cards"))
    *others, third, second, first = before
    version = itertools.count(1)

    async def likes(liker_id: str, *, withdrawn: bool = False) -> None:
        """What the writers put into the read model."""
        entry = LikeEntry(liker_id, "" if withdrawn else "like", "2026-03-01T12:00:00Z")
        await world.dependencies.write_through.apply(
            put_entry("like", viewer.user_id, liker_id, entry, version=next(version), at_ms=None if withdrawn else 5)
        )

    for liker_id in (second, first, new_id(), (await world.register("sugar_daddy", at=somewhere())).user_id):
        await likes(liker_id)
    assert ids(await viewer.ok("GET", "/matching/cards")) == [second, others[0], first, *others[1:], third]
    await viewer.swipe(by_id[second], "pass")
    assert ids(await viewer.ok("GET", "/matching/cards")) == [first, *others, third], "a like brings nobody back"
    await likes(first, withdrawn=True)
    assert ids(await viewer.ok("GET", "/matching/cards")) == [person for person in before if person != second]


async def test_services_are_told_why_a_card_has_its_score_and_people_are_not(world: World) -> None:
    viewer, (near, liker) = await neighbours(world, 2)
    await world.dependencies.write_through.apply(put_entry(
        "like", viewer.user_id, liker.user_id, LikeEntry(liker.user_id, "like", "2026-03-01T12:00:00Z"), version=1, at_ms=5
    ))
    nowhere = await world.register("sugar_daddy")
    headers = {"Authorization": f"Bearer {world.dependencies.tokens.issue_service('operator', 60)}"}

    async def asked(one: str, other: str, query: str = "") -> httpx.Response:
        return await world.client.get(f"/api/v1/matching/explanations/{one}/{other}{query}", headers=headers)

    for other, waits in ((near, 0.0), (liker, 4.0)):
        answer = await asked(viewer.user_id, other.user_id)
        found = answer.json()
        assert answer.status_code == 200, found
        assert found["terms"].get("waiting_like", 0.0) == waits
        assert sum(found["terms"].values()) == pytest.approx(found["score"], abs=1e-5)
        assert (found["viewer"], found["candidate"], found["eligible"]) == (viewer.user_id, other.user_id, True)
    for one, other in ((new_id(), near.user_id), (viewer.user_id, new_id()), (viewer.user_id, nowhere.user_id)):
        assert code(await asked(one, other)) == (404, "not_found")
    assert code(await asked(nowhere.user_id, near.user_id)) == (409, "location_required")
    assert code(await asked(viewer.user_id, near.user_id, "?version=../x")) == (422, "invalid")
    own = await viewer.ask("GET", f"/matching/explanations/{viewer.user_id}/{near.user_id}")
    assert code(own) == (401, "unauthenticated")


async def test_block_and_hiding_show_in_the_next_response(world: World) -> None:
    viewer, (blocker, hider, blocked, shy) = await neighbours(world, 4)
    assert len(ids(await viewer.ok("GET", "/matching/cards"))) == 4
    await blocker.ok("POST", f"/users/{viewer.user_id}/block")
    await hider.ok("PUT", "/users/me/preferences", json={"discoverable": False})
    await viewer.ok("POST", f"/users/{blocked.user_id}/block")
    await shy.ok("PUT", "/users/me/preferences", json={"hideDistance": True})
    (card,) = (await viewer.ok("GET", "/matching/cards"))["cards"]
    assert (card["userId"], card["distanceKm"]) == (shy.user_id, None)


async def test_a_candidate_who_no_longer_wants_the_viewer_is_dropped(world: World) -> None:
    viewer, (picky, mover, same) = await neighbours(world, 3)
    assert len(ids(await viewer.ok("GET", "/matching/cards"))) == 3
    await picky.ok("PUT", "/users/me/preferences", json={"ageMin": 90})
    place = somewhere()
    await mover.ok("PUT", "/users/me/location", json={"latitude": place[0], "longitude": place[1]})
    await same.ok("PUT", "/users/me/preferences", json={"ageMax": 98})
    assert ids(await viewer.ok("GET", "/matching/cards")) == [same.user_id]


async def test_filters_only_narrow(world: World) -> None:
    viewer, near = await neighbours(world, 2)
    assert ids(await viewer.ok("GET", "/matching/cards?role=sugar_baby")) == []
    assert ids(await viewer.ok("GET", "/matching/cards?ageMin=60")) == []
    assert ids(await viewer.ok("GET", "/matching/cards?verifiedOnly=true")) == []
    assert len(ids(await viewer.ok("GET", "/matching/cards?ageMin=18&maxDistanceKm=500&role=sugar_daddy"))) == len(near)


async def test_a_cursor_answers_the_same_cards_again(world: World) -> None:
    viewer, near = await neighbours(world, 7)
    first = await viewer.ok("GET", "/matching/cards?limit=3")
    second = await viewer.ok("GET", f"/matching/cards?limit=3&cursor={first['nextCursor']}")
    assert ids(second) == ids(await viewer.ok("GET", f"/matching/cards?limit=3&cursor={first['nextCursor']}"))
    third = await viewer.ok("GET", f"/matching/cards?limit=3&cursor={second['nextCursor']}")
    assert Counter(ids(first) + ids(second) + ids(third)) == Counter(person.user_id for person in near)
    assert "nextCursor" not in third


async def test_paging_goes_beyond_one_deck_without_repeats(world: World) -> None:
    viewer, near = await neighbours(world, 60)
    shown: list[str] = []
    path = "/matching/cards?limit=40"
    for _ in range(4):
        page = await viewer.ok("GET", path)
        retried = await viewer.ok("GET", path)
        assert ids(page) == ids(retried)
        shown += ids(page)
        if "nextCursor" not in page:
            break
        path = f"/matching/cards?limit=40&cursor={page['nextCursor']}"
    assert Counter(shown) == Counter(person.user_id for person in near)


async def test_a_used_up_deck_is_refilled(world: World) -> None:
    viewer, near = await neighbours(world, 60)
    first = ids(await viewer.ok("GET", "/matching/cards?limit=50"))
    by_id = {person.user_id: person for person in near}
    await asyncio.gather(*(viewer.swipe(by_id[user_id], "pass") for user_id in first))
    rest = ids(await viewer.ok("GET", "/matching/cards?limit=50"))
    assert set(rest) == set(by_id) - set(first)


async def test_a_cursor_of_another_person_or_filter_or_forged_is_refused(world: World) -> None:
    viewer, _ = await neighbours(world, 3)
    cursor = (await viewer.ok("GET", "/matching/cards?limit=1"))["nextCursor"]
    other = await world.register(at=somewhere())
    forged = ("B" if cursor[0] == "A" else "A") + cursor[1:]
    for person, query in ((other, f"cursor={cursor}"), (viewer, f"ageMin=20&cursor={cursor}"), (viewer, f"cursor={forged}")):
        assert code(await person.ask("GET", f"/matching/cards?{query}")) == (422, "cursor_invalid")
    assert code(await viewer.ask("GET", f"/matching/matches?cursor={cursor}")) == (422, "cursor_invalid")


async def test_a_swipe_may_name_the_impression_of_its_own_card_only(world: World) -> None:
    viewer, (one, other) = await neighbours(world, 2)
    cards = {card["userId"]: card["impressionId"] for card in (await viewer.ok("GET", "/matching/cards"))["cards"]}
    body = {"targetUserId": one.user_id, "action": "pass", "impressionId": cards[other.user_id]}
    assert code(await viewer.ask("POST", "/matching/swipe", json=body)) == (422, "invalid")
    await viewer.ok("POST", "/matching/swipe", json=body | {"impressionId": cards[one.user_id]})


async def test_who_moves_in_appears_or_accepts_again_is_in_the_next_answer(world: World) -> None:
    """No waiting for the log: the change is acknowledged once the card shards have taken it in."""
    place, far = somewhere(), somewhere()
    viewer, stranger, traveller, hidden, picky = [
        await world.register(role, at=at)
        for role, at in (("sugar_baby", place), ("sugar_baby", far), ("sugar_daddy", far), ("sugar_daddy", place), ("sugar_daddy", place))
    ]
    await hidden.ok("PUT", "/users/me/preferences", json={"discoverable": False})
    await picky.ok("PUT", "/users/me/preferences", json={"ageMin": 90})
    assert ids(await viewer.ok("GET", "/matching/cards")) == []
    assert ids(await stranger.ok("GET", "/matching/cards")) == [traveller.user_id]
    await traveller.ok("PUT", "/users/me/location", json={"latitude": place[0], "longitude": place[1]})
    assert ids(await viewer.ok("GET", "/matching/cards")) == [traveller.user_id]
    assert ids(await stranger.ok("GET", "/matching/cards")) == []
    await hidden.ok("PUT", "/users/me/preferences", json={"discoverable": True})
    assert set(ids(await viewer.ok("GET", "/matching/cards"))) == {traveller.user_id, hidden.user_id}
    await picky.ok("PUT", "/users/me/preferences", json={"ageMin": 18})
    assert set(ids(await viewer.ok("GET", "/matching/cards"))) == {traveller.user_id, hidden.user_id, picky.user_id}
    await hidden.ok("PUT", "/users/me/preferences", json={"discoverable": False})
    newcomer = await world.register("sugar_daddy", at=place)
    assert set(ids(await viewer.ok("GET", "/matching/cards"))) == {traveller.user_id, picky.user_id, newcomer.user_id}
    await viewer.ok("PUT", "/users/me/location", json={"latitude": far[0], "longitude": far[1]})
    assert ids(await viewer.ok("GET", "/matching/cards")) == []
    await viewer.ok("PUT", "/users/me/preferences", json={"roles": ["sugar_baby"]})
    await stranger.ok("PUT", "/users/me/preferences", json={"roles": ["sugar_baby"]})
    assert ids(await viewer.ok("GET", "/matching/cards")) == [stranger.user_id]


async def test_a_repeated_later_page_leaves_out_whom_the_person_has_swiped_since(world: World) -> None:
    """The deck behind the first one was made for the first request; it is not made anew for the second."""
    viewer, near = await neighbours(world, 60)
    people = {person.user_id: person for person in near}
    first = await viewer.ok("GET", "/matching/cards?limit=40")
    path = f"/matching/cards?limit=20&cursor={first['nextCursor']}"
    second = ids(await viewer.ok("GET", path))
    assert len(second) == 20
    await asyncio.gather(*(viewer.swipe(people[user_id], "pass") for user_id in second))
    assert ids(await viewer.ok("GET", path)) == []


async def test_running_out_of_people_offers_the_next_radius_within_the_person_s_limit(world: World) -> None:
    latitude, longitude = somewhere()
    viewer = await world.register(at=(latitude, longitude))
    await viewer.ok("PUT", "/users/me/preferences", json={"maxDistanceKm": 60})
    others = []
    for degrees in (0.0, 0.3, 0.8):  # some 0, 33 and 89 km to the north
        others.append(await world.register("sugar_daddy", at=(latitude + degrees, longitude)))
        await others[-1].ok("PUT", "/users/me/preferences", json={"maxDistanceKm": 500})
    await world.until_near(viewer, *others[:2])
    near = await viewer.ok("GET", "/matching/cards?maxDistanceKm=5")
    assert (len(near["cards"]), near["exhausted"], near["nextMaxDistanceKm"]) == (1, True, 50)
    wider = await viewer.ok("GET", "/matching/cards?maxDistanceKm=50")
    assert (len(wider["cards"]), wider["exhausted"], wider["nextMaxDistanceKm"]) == (2, True, 60)
    own_limit = await viewer.ok("GET", "/matching/cards")
    assert (len(own_limit["cards"]), own_limit["exhausted"]) == (2, True)
    assert "nextMaxDistanceKm" not in own_limit
    page = await viewer.ok("GET", "/matching/cards?limit=1")
    assert "exhausted" not in page
    assert "nextMaxDistanceKm" not in page
    last = await viewer.ok("GET", f"/matching/cards?limit=1&maxDistanceKm=50&cursor={(await viewer.ok('GET', '/matching/cards?limit=1&maxDistanceKm=50'))['nextCursor']}")
    assert (len(last["cards"]), last["exhausted"], last["nextMaxDistanceKm"]) == (1, True, 60)
    nobody = await viewer.ok("GET", "/matching/cards?ageMin=90")
    assert (nobody["cards"], nobody["exhausted"]) == ([], True)


async def test_no_page_of_any_deck_repeats_whom_the_person_has_swiped(world: World) -> None:
    """Pages asked for at once, with and without cursors, old cursors again, undos between: through cached decks."""
    viewer, near = await neighbours(world, 130)
    people = {person.user_id: person for person in near}
    swiped: set[str] = set()
    cursors: list[str] = []
    repeats: list[str] = []

    async def page(path: str) -> list[str]:
        before = frozenset(swiped)
        found = await viewer.ok("GET", path)
        cursors.extend(filter(None, [found.get("nextCursor")]))
        repeats.extend(before & set(ids(found)))
        return ids(found)

    for number in range(40):
        paths = ["/matching/cards?limit=10", "/matching/cards?limit=30"]
        paths += [f"/matching/cards?limit=20&cursor={cursor}" for cursor in cursors[-2:] + cursors[:1]]
        pages = await asyncio.gather(*(page(path) for path in paths))
        shown = list(dict.fromkeys(user_id for found in pages for user_id in found))
        if not shown:
            break
        chosen = [user_id for user_id in shown if user_id not in swiped][:6]
        await asyncio.gather(*(viewer.swipe(people[user_id], "pass") for user_id in chosen), page(paths[0]))
        swiped.update(chosen)
        if number % 5 == 4:
            swiped.discard((await viewer.ok("POST", "/matching/undo"))["targetUserId"])
    assert repeats == []
    assert swiped == set(people)
    assert ids(await viewer.ok("GET", "/matching/cards")) == []

"""What was served is one event a response, what was seen is reported with the ids, and swipes bring them back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from api_world import Person, World, forged
from log_reading import records_of
from test_api_matching import code, neighbours

from cluster.connections.redis import apply_async
from configs.contracts.events import CardsSeen, CardsServed, Event, Payload
from configs.contracts.impressions import unsealed
from configs.contracts.ranking import Arm, Experiment, RankingConfiguration, assigned
from configs.contracts.read_model import RANKING, put_ranking
from configs.contracts.topics import MATCHING_CARDS_SERVED
from configs.settings import Settings
from serve_apps.matching.served import WAITING

pytestmark = pytest.mark.servers


@pytest_asyncio.fixture
async def sampling_world(make_world: Callable[..., Awaitable[World]], servers: Settings) -> AsyncIterator[World]:
    """A replica that logs the feature values of every deck."""
    world = await make_world(ranking=servers.ranking.model_copy(update={"feature_sample_ratio": 1.0}))
    yield world
    await world.dependencies.redis.delete(RANKING)


async def facts(world: World, viewer: Person, kind: type[Payload]) -> list[Event]:
    await world.dependencies.served.flush()
    events = await asyncio.to_thread(records_of, world.settings, MATCHING_CARDS_SERVED.name, viewer.user_id)
    return [event for event in events if isinstance(event.payload, kind)]


async def test_one_response_is_one_event_that_says_what_stood_where(sampling_world: World) -> None:
    viewer, near = await neighbours(sampling_world, 5)
    page = await viewer.ok("GET", "/matching/cards?limit=3")
    await viewer.ok("GET", f"/matching/cards?limit=3&cursor={page['nextCursor']}")
    first, second = await facts(sampling_world, viewer, CardsServed)
    served: CardsServed = first.payload
    assert list(served.candidate_ids) == [card["userId"] for card in page["cards"]]
    assert (served.positions, second.payload.positions) == ((0, 1, 2), (3, 4))
    assert {*served.candidate_ids, *second.payload.candidate_ids} == {person.user_id for person in near}
    assert served.propensities == (1.0, 1.0, 1.0)
    assert list(served.scores) == sorted(served.scores, reverse=True)
    assert served.model_version.startswith("baseline-")
    assert (served.experiment, served.arm) == (None, None)
    assert len(served.feature_values) == 3 * len(served.feature_names) > 0
    assert abs((first.occurred_at - served.decided_at).total_seconds()) < 60
    for card in page["cards"]:
        impression = unsealed(card["impressionId"])
        assert impression is not None
        assert impression.response_id == first.event_id


async def test_feature_values_are_logged_of_sampled_decks_only(make_world: Any, servers: Settings) -> None:
    world = await make_world(ranking=servers.ranking.model_copy(update={"feature_sample_ratio": 0.0}))
    viewer, _ = await neighbours(world, 2)
    await viewer.ok("GET", "/matching/cards")
    (event,) = await facts(world, viewer, CardsServed)
    assert (event.payload.feature_names, event.payload.feature_values) == ((), ())


async def test_nothing_served_is_no_event(world: World) -> None:
    viewer, (other,) = await neighbours(world, 1)
    await viewer.swipe(other, "pass")
    await viewer.ok("GET", "/matching/cards")
    assert await facts(world, viewer, CardsServed) == []


async def test_seen_cards_are_reported_once_each(world: World) -> None:
    viewer, _ = await neighbours(world, 3)
    cards = (await viewer.ok("GET", "/matching/cards"))["cards"]
    ids = [card["impressionId"] for card in cards]
    body = {"impressionIds": [*ids[:2], ids[0]]}
    assert await viewer.ok("POST", "/matching/impressions", json=body) == {"recorded": 2}
    assert await viewer.ok("POST", "/matching/impressions", json=body) == {"recorded": 2}
    for event in await facts(world, viewer, CardsSeen):
        assert event.payload.candidate_ids == tuple(card["userId"] for card in cards[:2])
        assert event.payload.positions == (0, 1)


async def test_impression_ids_that_are_not_ones_own_are_refused(world: World) -> None:
    viewer, (other, *_) = await neighbours(world, 2)
    own = (await viewer.ok("GET", "/matching/cards"))["cards"][0]["impressionId"]
    stranger = await world.register()
    for asking, ids in ((viewer, [own, forged(own)]), (stranger, [own]), (viewer, []), (viewer, [own] * 101), (viewer, ["?"])):
        answer = await asking.ask("POST", "/matching/impressions", json={"impressionIds": ids})
        assert code(answer) == (422, "invalid"), ids
    assert await facts(world, viewer, CardsSeen) == []
    assert await facts(world, stranger, CardsSeen) == []
    for body in ({}, {"impressionIds": own}, {"impressionIds": [own], "more": 1}, {"impressionIds": [1]}):
        assert code(await viewer.ask("POST", "/matching/impressions", json=body)) == (422, "invalid")
    swipe = {"targetUserId": other.user_id, "action": "pass", "impressionId": forged(own)}
    assert code(await viewer.ask("POST", "/matching/swipe", json=swipe)) == (422, "invalid")


async def test_an_experiments_arm_is_logged_and_a_new_configuration_makes_a_new_deck(sampling_world: World) -> None:
    world = sampling_world
    viewer, _ = await neighbours(world, 2)
    await viewer.ok("GET", "/matching/cards")
    test = Experiment("spring", "user", (Arm("one", "baseline", 0.5), Arm("two", "baseline", 0.5)))
    configuration = RankingConfiguration(1 << 50, "baseline", test)
    await apply_async(world.dependencies.redis, [put_ranking(configuration)])
    await viewer.ok("GET", "/matching/cards")
    first, second = await facts(world, viewer, CardsServed)
    expected = assigned(configuration, viewer.user_id, None, datetime.now(UTC).timestamp())
    assert (first.payload.experiment, first.payload.arm) == (None, None)
    assert (second.payload.experiment, second.payload.arm) == ("spring", expected.arm)
    assert second.payload.decided_at > first.payload.decided_at


async def test_a_page_in_progress_goes_on_in_its_deck_after_a_deploy(sampling_world: World) -> None:
    """A retried page loses no card and repeats none, whatever is deployed meanwhile."""
    world = sampling_world
    viewer, near = await neighbours(world, 4)
    page = await viewer.ok("GET", "/matching/cards?limit=2")
    await apply_async(world.dependencies.redis, [put_ranking(RankingConfiguration(1 << 50))])
    rest = await viewer.ok("GET", f"/matching/cards?limit=2&cursor={page['nextCursor']}")
    shown = [card["userId"] for card in [*page["cards"], *rest["cards"]]]
    assert sorted(shown) == sorted(person.user_id for person in near)


async def test_what_waits_is_bounded_and_what_is_dropped_is_counted(world: World) -> None:
    viewer, _ = await neighbours(world, 1)
    served = world.dependencies.served
    served._closing = True  # keeps the background from emptying it
    await viewer.ok("GET", "/matching/cards")
    (fact,) = served._waiting
    for _ in range(WAITING + 4):
        served.note(fact)
    assert (served.waiting, served.dropped) == (WAITING, 5)
    served._waiting.clear()
    assert msgspec.json.encode(fact)

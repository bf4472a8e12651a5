"""Card shards on a real broker: nobody acknowledged is missing from decks, over restarts, moves and bad records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any

import h3
import msgspec
import numpy as np
import pytest

from actors.cards.client import CardsClient
from actors.cards.commands import DeckQuery
from actors.cards.shard import CardShard
from actors.cards.state import slot_of
from actors.sharding.client import ActorPool
from actors.sharding.host import ShardHost
from actors.sharding.wire import RemoteActor
from cluster.connections.kafka import LogAppender, Record
from cluster.connections.topics import ensure_topics
from cluster.launch.servers import EmbeddedServers
from configs.contracts import events, topics
from configs.contracts.errors import PositionOutsideLog, ShardUnavailable
from configs.contracts.ids import new_id, partition_of
from configs.contracts.loading import UNKNOWN_ROLE, PeopleRows
from configs.contracts.people import GRID_RESOLUTION, PositionInvalid, cell_number, snap
from configs.contracts.positions import version_of, version_text
from configs.contracts.ranking import INITIAL, RankingConfiguration
from configs.contracts.topics import TOPICS
from configs.settings import Settings

pytestmark = pytest.mark.servers

Place = tuple[float, float, str]
LONGITUDES = count(-175.0, 10.0)


class Committed:
    """The loader of a database in which the writers have committed the given people up to the given positions."""

    def __init__(self, pages: Sequence[PeopleRows] = (), positions: Mapping[str, Mapping[int, int]] | None = None) -> None:
        self._pages = list(pages) or [people_rows([])]
        self._positions = positions or {}

    async def positions(self, wanted: Sequence[str]) -> Mapping[str, Mapping[int, int]]:
        return {topic: self._positions.get(topic, {}) for topic in wanted}

    async def ranking(self) -> RankingConfiguration:
        return INITIAL

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        return dict.fromkeys(shards, 7)

    async def people(self, page: str | None, limit: int) -> PeopleRows:
        return self._pages[int(page or 0)]


def people_rows(people: Sequence[tuple[str, Place | None, int]], *, role: int = 0, next_page: str | None = None) -> PeopleRows:
    """Women born in 1995 who want men: (id, place, version)."""
    n = len(people)
    return PeopleRows(
        user_ids=[user_id for user_id, _, _ in people],
        latitudes=np.array([place[0] if place else np.nan for _, place, _ in people], np.float64),
        longitudes=np.array([place[1] if place else np.nan for _, place, _ in people], np.float64),
        cells=np.array([cell_number(place[2]) if place else 0 for _, place, _ in people], np.uint64),
        birth_days=np.full(n, 9_131, np.int32), roles=np.full(n, role, np.uint8), genders=np.full(n, 1, np.uint8),
        age_min=np.full(n, 18, np.uint8), age_max=np.full(n, 99, np.uint8), max_distance_km=np.full(n, 100, np.uint16),
        role_masks=np.full(n, 0 if role == UNKNOWN_ROLE else 2, np.uint8), gender_masks=np.zeros(n, np.uint8),
        discoverable=np.ones(n, np.bool_), verified=np.zeros(n, np.bool_), last_active_s=np.zeros(n, np.int64),
        versions=np.array([version for _, _, version in people], np.uint64),
        match_versions=np.array([version for _, _, version in people], np.uint64),
        next_page=next_page,
    )


class Handle:
    """Stands for a Ray actor handle of a host in this process."""

    def __init__(self, host: ShardHost) -> None:
        self.carry = self
        self._host = host

    def remote(self, request: bytes) -> Any:
        return self._host.carry(request)


class Platform:
    """All card actors of a platform in this process, and their client."""

    def __init__(self, settings: Settings, loader: Committed, appender: LogAppender) -> None:
        self.died: list[str] = []
        self.shards = [
            CardShard(settings=settings, slot=slot, appender=appender, loader=loader, die=self.died.append)  # type: ignore[arg-type]
            for slot in range(settings.plan.card_actors)
        ]
        self.hosts = {f"cards-{slot}": ShardHost(f"cards-{slot}", {"cards": shard}) for slot, shard in enumerate(self.shards)}
        self.client = CardsClient(ActorPool(settings, resolve=lambda name: RemoteActor(Handle(self.hosts[name]))))

    async def ready(self) -> None:
        while not all([(await host.ping())["ready"] for host in self.hosts.values()]):
            await asyncio.sleep(0.05)

    async def shown(self, place: Place, **changes: Any) -> dict[str, str]:
        """Whom a man of 36 there is shown: id -> match version."""
        query = DeckQuery(
            viewer_id=new_id(), latitude=place[0], longitude=place[1], birth_date="1990-01-01", role="sugar_daddy",
            gender="man", age_min=18, age_max=99, max_distance_km=100, roles=("sugar_baby",),
        )
        deck = await self.client.deck(msgspec.structs.replace(query, **changes))
        return {entry.user_id: entry.match_version for entry in deck.entries}


class Log:
    """Appends what the owning shards would append."""

    def __init__(self, settings: Settings) -> None:
        self._partitions = settings.log.partitions
        self.appender = LogAppender(settings, "test-cards")

    async def append(self, *payloads: events.Payload) -> list[int]:
        """Versions in order."""
        records = []
        for payload in payloads:
            key = payload.user_id  # type: ignore[attr-defined]
            topic = events.TOPIC_OF[type(payload)]
            event = events.Event(new_id(), datetime.now(UTC), key, payload)
            records.append(Record(topic.name, partition_of(key, self._partitions), key, events.encode(event)))
        return [version_of(1, offset) for offset in await self.appender.submit(records)]

    async def raw(self, topic: str, key: str, value: bytes) -> None:
        await self.appender.submit([Record(topic, partition_of(key, self._partitions), key, value)])


@pytest.fixture(scope="module")
def settings(running_servers: EmbeddedServers) -> Settings:
    found = running_servers.settings()
    ensure_topics(found, TOPICS)
    return found.model_copy(update={"plan": found.plan.model_copy(update={"card_actors": 2})})


@pytest.fixture
def log(settings: Settings) -> Any:
    made = Log(settings)
    yield made
    made.appender.close()


Start = Callable[..., Any]


@pytest.fixture
def start(settings: Settings, log: Log) -> Start:
    @asynccontextmanager
    async def started(loader: Committed | None = None) -> AsyncIterator[Platform]:
        platform = Platform(settings, loader or Committed(), log.appender)
        try:
            await platform.ready()
            yield platform
        finally:
            await asyncio.gather(*(host.close() for host in platform.hosts.values()))
        assert platform.died == []

    return started


@pytest.fixture
def place() -> Place:
    """Somewhere at sea that no other test uses, 570 km from the next."""
    return snap(-59.0, next(LONGITUDES))


def created(user_id: str) -> events.UserCreated:
    return events.UserCreated(user_id=user_id, role="sugar_baby", display_name="Ada", birth_date="1995-01-01")


def located(user_id: str, place: Place) -> events.LocationChanged:
    return events.LocationChanged(user_id=user_id, latitude=place[0], longitude=place[1], cell=place[2])


def wide(user_id: str) -> events.PreferencesChanged:
    return events.PreferencesChanged(user_id=user_id, max_distance_km=100)


async def until(condition: Callable[[], Any]) -> None:
    """Waits for what happens sooner or later; the test's own limit ends it otherwise."""
    while not await condition():
        await asyncio.sleep(0.05)


def neighbours_of_other_actor(place: Place) -> Place:
    """A cell next door that the other of two actors keeps."""
    mine = slot_of(cell_number(place[2]), 2)
    cell = next(cell for cell in h3.grid_disk(place[2], 6) if slot_of(cell_number(cell), 2) != mine)
    return snap(*h3.cell_to_latlng(cell))


async def test_whoever_was_acknowledged_before_the_start_is_shown_and_after_it_appears(
    start: Start, log: Log, place: Place
) -> None:
    first, second = new_id(), new_id()
    await log.append(created(first))
    version = (await log.append(wide(first), located(first, place)))[-1]
    async with start() as platform:
        assert await platform.shown(place) == {first: version_text(version)}
        await log.append(located(second, place), wide(second))
        await log.append(created(second))
        await until(lambda: both_shown(platform, place, {first, second}))


async def both_shown(platform: Platform, place: Place, wanted: set[str]) -> bool:
    return set(await platform.shown(place)) == wanted


async def test_a_restart_from_rows_and_the_log_s_tail_shows_exactly_the_same(
    start: Start, log: Log, place: Place, settings: Settings
) -> None:
    """Rows hold the first change of each person; the positions stand before it, so it is also replayed."""
    people = [new_id() for _ in range(30)]
    other = neighbours_of_other_actor(place)
    partition = {user_id: partition_of(user_id, settings.log.partitions) for user_id in people}
    await log.append(*map(created, people))
    first = await log.append(*(located(user_id, place) for user_id in people))
    await log.append(*(wide(user_id) for user_id in people))
    last = await log.append(*(located(user_id, other) for user_id in people[:10]))
    positions: dict[int, int] = {}
    for user_id, version in zip(people, first, strict=True):
        offset = version & (1 << 40) - 1
        positions[partition[user_id]] = min(positions.get(partition[user_id], offset), offset)
    rows = [(user_id, place, version) for user_id, version in zip(people, first, strict=True)]
    only_in_rows = new_id()
    pages = [people_rows(rows[:12], next_page="1"), people_rows([*rows[12:], (only_in_rows, place, 1)])]
    async with start() as fresh, start(Committed(pages, {topics.USER_UPDATED.name: positions})) as restored:
        shown = await fresh.shown(other)
        assert set(shown) == set(people)
        assert [shown[user_id] for user_id in people[:10]] == [version_text(version) for version in last]
        assert await restored.shown(other) == shown | {only_in_rows: version_text(1)}


async def test_rows_without_creation_are_completed_by_the_log(start: Start, log: Log, place: Place) -> None:
    user_id = new_id()
    await log.append(created(user_id))
    loader = Committed([people_rows([(user_id, place, 3)], role=UNKNOWN_ROLE)])
    async with start(loader) as platform:
        assert await platform.shown(place) == {user_id: version_text(3)}


async def test_who_moves_to_another_actor_s_cell_is_shown_once_and_only_there(start: Start, log: Log, place: Place) -> None:
    user_id, other = new_id(), neighbours_of_other_actor(place)
    await log.append(created(user_id))
    await log.append(located(user_id, place), wide(user_id))
    async with start() as platform:
        assert set(await platform.shown(place, max_distance_km=1)) == {user_id}
        moved = (await log.append(located(user_id, other)))[0]
        await until(lambda: shown_only_in(platform, user_id, place, other))
        assert await platform.shown(place, max_distance_km=1) == {}
        assert await platform.shown(other, max_distance_km=1) == {user_id: version_text(moved)}


async def shown_only_in(platform: Platform, user_id: str, old: Place, new: Place) -> bool:
    """Actors read the log apart from each other: the new place may know of a move before the old one does."""
    here, there = await platform.shown(old, max_distance_km=1), await platform.shown(new, max_distance_km=1)
    return user_id not in here and user_id in there


async def test_bad_records_are_skipped_and_counted(start: Start, log: Log, place: Place) -> None:
    user_id = new_id()
    await log.append(created(user_id))
    await log.raw(topics.USER_UPDATED.name, user_id, b"not an event")
    await log.append(events.LocationChanged(user_id=user_id, latitude=1.0, longitude=1.0, cell="zz"))
    await log.append(wide(user_id), located(user_id, place))
    async with start() as platform:
        assert set(await platform.shown(place)) == {user_id}
        assert all(shard.describe()["skipped"] >= 1 for shard in platform.shards)


async def test_hiding_takes_effect_and_a_place_that_is_none_is_refused(start: Start, log: Log, place: Place) -> None:
    user_id = new_id()
    await log.append(created(user_id))
    await log.append(located(user_id, place))
    async with start() as platform:
        assert set(await platform.shown(place)) == {user_id}
        await log.append(events.PreferencesChanged(user_id=user_id, discoverable=False))
        await until(lambda: both_shown(platform, place, set()))
        await log.append(events.PreferencesChanged(user_id=user_id, discoverable=True))
        await until(lambda: both_shown(platform, place, {user_id}))
        with pytest.raises(PositionInvalid):
            await platform.shown((float("nan"), 0.0, ""))


async def test_a_position_outside_the_log_stops_the_restore(settings: Settings, log: Log) -> None:
    """Going on would skip what was acknowledged; an operator has to decide."""
    loader = Committed(positions={topics.USER_UPDATED.name: {0: 10**9}})
    shard = CardShard(settings=settings, slot=0, appender=log.appender, loader=loader, die=pytest.fail)  # type: ignore[arg-type]
    with pytest.raises(PositionOutsideLog):
        await shard.start()
    await shard.close()


async def test_a_deck_is_whole_or_refused_when_an_actor_is_missing(settings: Settings, start: Start, place: Place) -> None:
    async with start() as platform:
        await platform.hosts.pop("cards-1").close()
        pool = ActorPool(settings, resolve=lambda name: RemoteActor(Handle(found)) if (found := platform.hosts.get(name)) else _gone(name))
        client = CardsClient(pool)  # type: ignore[arg-type]
        query = DeckQuery(
            viewer_id=new_id(), latitude=place[0], longitude=place[1], birth_date="1990-01-01", role="sugar_daddy",
            gender=None, age_min=18, age_max=99, max_distance_km=1, roles=("sugar_baby",),
        )
        with pytest.raises(ShardUnavailable):
            await client.deck(query)


def _gone(name: str) -> Handle:
    raise ValueError(f"no actor {name}")


def test_cells_are_spread_over_actors() -> None:
    """The low bits of all cell numbers of one resolution are the same: a plain remainder would use one actor only."""
    cells = [cell_number(cell) for cell in h3.grid_disk(h3.latlng_to_cell(48.85, 2.35, GRID_RESOLUTION), 30)]
    for actors in (2, 3, 4, 8):
        counts = np.bincount([slot_of(cell, actors) for cell in cells], minlength=actors)
        assert counts.min() > 0.8 * len(cells) / actors

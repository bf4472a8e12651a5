"""Nobody is shown again whom the viewer has swiped, over any number of swipes: ``PYTHONPATH=.:tests python tests/no_repeat.py``.

Viewers swipe every card that they are shown, ask for cards several times at once, undo now and then, and repeat what was
not answered. Meanwhile swipe actors are killed (some with their last append acknowledged to nobody), card actors lose
everything they keep, writers commit, people are evicted from memory. Everything between client and log is the real code:
``Decks``, both clients with their micro-batches, swipe services, card states; log, rows and time are simulated. The
oracle is a matrix of what was acknowledged. A swipe takes some 0.5 ms of one core, so ten million of them take over an
hour; ``--before`` many lie in the rows already when the run begins, as in a platform that has been running for years.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import structlog
from numpy.typing import NDArray
from simulated_log import VirtualTimeLoop
from swipe_world import World, settings

from actors.cards.client import CardsClient
from actors.cards.commands import DeckQuery
from actors.cards.crowds import CENTRE, rows_at
from actors.cards.state import Cards
from actors.sharding.client import ActorPool
from actors.swipes.client import SwipesClient
from actors.swipes.commands import Swipe, Undo
from actors.swipes.facts import STALE, FactMap
from configs.contracts.errors import DependencyUnavailable, PlatformError, ShardUnavailable
from configs.contracts.events import Swiped, decode
from configs.contracts.ids import key64, new_id, packed_keys
from configs.contracts.loading import ACTION_BITS, ACTION_CODES, PackedIds, PeopleRows, SwipeRows
from configs.contracts.positions import version_of
from configs.contracts.topics import MATCHING_MATCHED, MATCHING_SWIPE
from recommender.baseline import Baseline
from serve_apps.matching.decks import Decks

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTHING = np.zeros(0, np.uint64)
PAGE = 50
REQUESTS = 64
AT_ONCE = 2
"""Card requests of one viewer in flight together."""
WORKING = 200
"""Viewers at work together."""
UNDO_SHARE, LIKE_SHARE = 0.02, 0.1


class CompactRows:
    """The writers: what the log says up to a position, 12 bytes a swipe; what is committed leaves the simulated log."""

    def __init__(self, world: World) -> None:
        self._log = world.log
        self._delivered = world._delivered
        self._positions: dict[str, dict[int, int]] = {MATCHING_SWIPE.name: {}, MATCHING_MATCHED.name: {}}
        self._freed: dict[int, int] = {}
        self._own: dict[str, FactMap] = {}
        self._last: dict[str, Swiped | None] = {}
        self._requests: dict[str, deque[str]] = {}
        self._epochs = 0
        self.down = False

    def commit(self) -> None:
        positions = self._positions[MATCHING_SWIPE.name]
        for (topic, partition), values in list(self._log.partitions.items()):
            if topic != MATCHING_SWIPE.name:
                self._positions[topic][partition] = len(values)
                continue
            for offset in range(positions.get(partition, 0), len(values)):
                payload = decode(values[offset]).payload
                if (swiper := getattr(payload, "swiper_id", None)) is None:
                    continue
                code = ACTION_CODES[payload.action] if isinstance(payload, Swiped) else 0
                own = self._own.setdefault(swiper, FactMap())
                assert own.put(key64(payload.swiped_id), version_of(self._log.generation, offset) << 2 | code) != STALE
                self._last[swiper] = payload if isinstance(payload, Swiped) else None
                requests = self._requests.setdefault(swiper, deque(maxlen=REQUESTS))
                requests.append(f"{payload.swiped_id} {payload.idempotency_key}")
            positions[partition] = len(values)
            keep = min(len(values), self._delivered.get(partition, 0))
            for offset in range(self._freed.get(partition, 0), keep):
                values[offset] = None
            self._freed[partition] = max(keep, self._freed.get(partition, 0))

    def fill(self, swiper: str, keys: NDArray[np.uint64]) -> None:
        """Swipes of long ago: the log no longer has them."""
        fact = version_of(self._log.generation, 0) << ACTION_BITS | ACTION_CODES["pass"]
        self._own[swiper] = FactMap.of(np.sort(keys), np.full(keys.size, fact, np.uint64))

    async def positions(self, topics: Sequence[str]) -> dict[str, dict[int, int]]:
        return {topic: dict(self._positions[topic]) for topic in topics}

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> dict[int, int]:
        self._epochs += 1
        return dict.fromkeys(shards, self._epochs)

    async def swipes(self, user_ids: Sequence[str]) -> dict[str, SwipeRows]:
        if self.down:
            raise DependencyUnavailable("the loader is down")
        await asyncio.sleep(0.002)
        return {user_id: self._person(user_id) for user_id in user_ids}

    def _person(self, user_id: str) -> SwipeRows:
        own, last = self._own.get(user_id), self._last.get(user_id)
        if own is None:
            return SwipeRows(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
        entries = sorted(own.items())
        keys, facts = np.array(entries, np.uint64).T
        return SwipeRows(
            np.ascontiguousarray(keys), np.ascontiguousarray(facts), NOTHING, NOTHING, NOTHING, NOTHING,
            last_target=last.swiped_id if last else None, last_action=last.action if last else None,
            last_swiped_at=NOW if last else None, last_version=own.newest(), day=NOW.date().isoformat(),
            idempotency_keys=tuple(self._requests.get(user_id, ())),
        )


class CardActor:
    """A card actor over the whole population; killed, it starts from the rows and keeps nothing else."""

    def __init__(self, rows: PeopleRows, slot: int, actors: int) -> None:
        self._rows, self._slot, self._actors = rows, slot, actors
        self.epoch = 0
        self.ready = False

    async def restore(self) -> None:
        self.ready = False
        self.epoch += 1
        await asyncio.sleep(0.5)
        self.cards = Cards(Baseline(), self._slot, self._actors, scored=2_000)
        self.cards.load(self._rows)
        self.cards.settle()
        self.ready = True

    async def call(self, method: str, queries: list[DeckQuery]) -> tuple[int, list[Any]]:
        if not self.ready:
            return 0, [ShardUnavailable("restoring")] * len(queries)
        answers: list[Any] = []
        for query in queries:
            try:
                answers.append(self.cards.shortlist(query, NOW))
            except PlatformError as error:
                answers.append(error)
        return self.epoch, answers


class _Handle:
    def __init__(self, call: Any) -> None:
        self._call = call

    async def call(self, service: str, method: str, commands: list[Any], traces: Any = None) -> Any:
        return await asyncio.shield(asyncio.ensure_future(self._call(method, commands)))


@dataclass
class Report:
    """What happened in a run."""

    before: int = 0
    swipes: int = 0
    undos: int = 0
    cards: int = 0
    responses: int = 0
    refused: int = 0
    swipe_kills: int = 0
    card_kills: int = 0
    told_whole: int = 0
    told_changes: int = 0
    repeats: list[str] = field(default_factory=list)
    hidden: int = 0
    """People not swiped yet whom a viewer was not shown although the answer said that nobody is left."""


class NoRepeat:
    """One run."""

    def __init__(self, viewers: int, people: int, swipes: int, seed: int, before: int = 0) -> None:
        self.chance = np.random.default_rng(seed)
        self.world = World(settings(likes_a_day=10**9, super_likes_a_day=10**9))
        self.rows = CompactRows(self.world)
        self.world.rows = self.rows  # type: ignore[assignment]  # the same loader, in less memory
        self.wanted = swipes
        everybody = rows_at(
            CENTRE[0] + self.chance.normal(scale=0.1, size=people), CENTRE[1] + self.chance.normal(scale=0.1, size=people),
            self.chance, NOW,
        )
        packed = cast(PackedIds, PackedIds.of([new_id() for _ in range(people)]))
        self.people = list(packed)
        self.place_of = {user_id: place for place, user_id in enumerate(self.people)}
        shown = PeopleRows(**{
            name: getattr(everybody, name) for name in everybody.__dataclass_fields__
        } | {
            "user_ids": packed, "roles": np.zeros(people, np.uint8), "genders": np.zeros(people, np.uint8),
            "role_masks": np.full(people, 2, np.uint8), "age_min": np.full(people, 18, np.uint8),
            "age_max": np.full(people, 99, np.uint8), "max_distance_km": np.full(people, 500, np.uint16),
            "discoverable": np.ones(people, np.bool_),
        })
        self.actors = [CardActor(shown, slot, 2) for slot in range(2)]
        self.viewers = [new_id() for _ in range(viewers)]
        self.since = np.zeros((viewers, people), np.int32)
        """When the swipe was acknowledged, 0: not, or perhaps undone."""
        self.clock = 1
        self.report = Report(before=before // viewers * viewers)
        everybody_keys = np.array([key64(user_id) for user_id in self.people], np.uint64)
        for viewer, user_id in enumerate(self.viewers if before else ()):
            places = self.chance.choice(people, before // viewers, replace=False)
            self.rows.fill(user_id, everybody_keys[places])
            self.since[viewer, places] = self.clock
        plan = self.world.settings.plan.model_copy(update={"card_actors": 2})
        pool = ActorPool(self.world.settings.model_copy(update={"plan": plan}), resolve=self._handle)
        self.swipes, self.cards = SwipesClient(pool), CardsClient(pool)
        # Replicas of the API: each remembers by itself what the card actors were told.
        self.replicas = [Decks(cast(Any, None), self.swipes, self.cards) for _ in range(2)]

    def _handle(self, name: str) -> _Handle:
        kind, _, slot = name.rpartition("-")
        actor = self.actors[int(slot)] if kind == "cards" else self.world.lives[int(slot)]
        return _Handle(actor.call)

    async def run(self) -> Report:
        await self.world.revive()
        for actor in self.actors:
            await actor.restore()
        trouble = asyncio.create_task(self._trouble())
        turns = asyncio.Semaphore(WORKING)

        async def one(viewer: int) -> None:
            async with turns:
                await self._view(viewer)

        try:
            await asyncio.gather(*(one(viewer) for viewer in range(len(self.viewers))))
        finally:
            trouble.cancel()
            await asyncio.gather(trouble, return_exceptions=True)
        await self.world.settle()
        await self._verify()
        await self.world.close()
        return self.report

    async def _view(self, viewer: int) -> None:
        """Swipes through pages, two of them asked for at once, until the viewer's share is done or nobody is left."""
        share, done, number = self.wanted // len(self.viewers), 0, 0
        while done < share:
            number += 1
            pages = await asyncio.gather(*(self._page(viewer, number + place) for place in range(AT_ONCE)))
            targets = list(dict.fromkeys(target for page in pages for target in page))
            if not targets:
                self.report.hidden += int((self.since[viewer] == 0).sum())
                return
            again = asyncio.ensure_future(self._page(viewer, number))  # asked while the swipes are on their way
            await asyncio.gather(*(self._swipe(viewer, target) for target in targets))
            await again
            done += len(targets)
            if self.chance.random() < UNDO_SHARE * len(targets):
                done -= await self._undo(viewer)

    async def _page(self, viewer: int, replica: int) -> list[int]:
        """A page of a deck made now, checked as the route checks it; ids that were swiped before it was asked for are
        repeats."""
        asked = self.clock
        query = DeckQuery(
            viewer_id=self.viewers[viewer], latitude=CENTRE[0], longitude=CENTRE[1], birth_date="1990-01-01",
            role="sugar_daddy", gender="man", age_min=18, age_max=99, max_distance_km=100, roles=("sugar_baby",),
        )
        decks = self.replicas[replica % len(self.replicas)]
        while True:
            before = decks.told.get(query.viewer_id)
            try:
                deck = await decks.found(query)
            except DependencyUnavailable:
                self.report.refused += 1
                await asyncio.sleep(0.2)
                continue
            break
        self.report.told_changes += before is not None
        self.report.told_whole += before is None
        page = [self.place_of[entry.user_id] for entry in deck.entries[:PAGE]]
        for target in page:
            if 0 < self.since[viewer, target] <= asked:
                self.report.repeats.append(f"{self.viewers[viewer]} {self.people[target]}")
        self.report.responses += 1
        self.report.cards += len(page)
        return page

    async def _swipe(self, viewer: int, target: int) -> None:
        action = "like" if self.chance.random() < LIKE_SHARE else "pass"
        command = Swipe(self.viewers[viewer], self.people[target], action, f"{target}-{self.clock}")  # type: ignore[arg-type]
        await self._until(lambda: self.swipes.swipe(command))
        self.clock += 1
        self.since[viewer, target] = self.clock
        self.report.swipes += 1

    async def _undo(self, viewer: int) -> int:
        command = Undo(self.viewers[viewer], f"undo-{self.clock}")  # one key for every repetition
        answer = await self._until(lambda: self.swipes.undo(command))
        if (target := getattr(answer, "target_id", None)) is None:
            return 0
        self.since[viewer, self.place_of[target]] = 0
        self.report.undos += 1
        return 1

    async def _until(self, ask: Any) -> Any:
        while True:
            try:
                return await ask()
            except (DependencyUnavailable, PlatformError):
                self.report.refused += 1
                await asyncio.sleep(0.1)

    async def _trouble(self) -> None:
        """Kills, commits and evictions for as long as the run lasts, by swipes done, not by time."""
        step, last = max(self.wanted // 60, 50), 0
        while True:
            await asyncio.sleep(0.05)
            if self.report.swipes - last < step:
                continue
            last = self.report.swipes
            kind = int(self.chance.integers(5))
            slot = int(self.chance.integers(2))
            if kind == 0:
                life = self.world.lives[slot]
                life.appender.mode = "lose_ack" if self.chance.random() < 0.5 else "ok"
                await asyncio.sleep(0.01)
                await self.world.kill(life)
                await asyncio.sleep(0.3)
                await self.world.revive()
                self.report.swipe_kills += 1
            elif kind == 1:
                await self.actors[slot].restore()
                self.report.card_kills += 1
            elif kind == 2:
                service: Any = self.world.lives[slot].service
                service._limit = 0
                await service.evict()
                service._limit = 1_000_000
            self.rows.commit()

    async def _verify(self) -> None:
        """What the shards remember at the end is what was acknowledged."""
        keys = packed_keys(self.people)
        for viewer, user_id in enumerate(self.viewers):
            seen = await self._until(lambda user_id=user_id: self.swipes.seen(user_id, keys))  # type: ignore[misc]
            forgotten = np.flatnonzero((self.since[viewer] > 0) & (np.frombuffer(seen, np.uint8) == 0))
            if forgotten.size:
                self.report.repeats.append(f"{user_id} forgot {forgotten.size}")


def run(viewers: int, people: int, swipes: int, seed: int, before: int = 0) -> Report:
    # Only what is wrong: shards report every kill.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(NoRepeat(viewers, people, swipes, seed, before).run())
    finally:
        loop.close()
        structlog.reset_defaults()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python tests/no_repeat.py", description=__doc__)
    parser.add_argument("--swipes", type=int, default=100_000, help="swipes of all viewers together")
    parser.add_argument("--before", type=int, default=0, help="swipes in the rows before that")
    parser.add_argument("--viewers", type=int, default=0, help="0: one for 4,000 swipes of both kinds")
    parser.add_argument("--people", type=int, default=6_000, help="people around the viewers")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    report = run(
        options.viewers or max(10, (options.swipes + options.before) // 4_000), options.people, options.swipes, options.seed,
        options.before,
    )
    lines = [f"{name.replace('_', ' '):<14}{value if not isinstance(value, list) else len(value):>12,}"
             for name, value in vars(report).items()]
    sys.stdout.write("\n".join(lines) + f"\n{time.monotonic() - began:.0f} s\n")
    sys.exit(1 if report.repeats or report.hidden else 0)


if __name__ == "__main__":
    main()

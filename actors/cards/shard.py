"""The service ``cards``: restores everybody from rows and the log, follows the log, answers decks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from actors.cards.commands import DeckQuery, Shortlist
from actors.cards.state import Cards
from actors.sharding.tail import Feed, LogTail
from cluster.connections.kafka import LogAppender
from configs.contracts import topics
from configs.contracts.errors import InvalidEvent, PlatformError
from configs.contracts.events import Barrier, decode
from configs.contracts.loading import RowLoader
from configs.contracts.positions import version_of
from configs.settings import Settings
from recommender.baseline import Baseline
from recommender.ranking import Ranker

log = structlog.get_logger(__name__)

PEOPLE_A_PAGE: Final = 20_000
QUERIES_A_STEP: Final = 8
"""Queries answered before other work of the actor gets its turn: some 4 ms."""


class CardShard:
    """One actor's share of the cells. It appends nothing but the barriers that end its replay."""

    METHODS = ("deck",)

    def __init__(
        self, *, settings: Settings, slot: int, appender: LogAppender, loader: RowLoader, die: Callable[[str], None],
        ranker: Ranker | None = None, clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._slot, self._actors = slot, settings.plan.card_actors
        self._loader = loader
        self._ranker: Ranker = ranker or Baseline()
        self._clock = clock
        self._generations = settings.log.generations
        partitions = tuple(range(settings.log.partitions))
        self._tail = LogTail(
            settings, f"cards-{slot}", appender,
            [Feed(topic.name, partitions, partitions, self.take) for topic in (topics.USER_CREATED, topics.USER_UPDATED)],
            die=die,
        )
        self.cards = self._empty()
        self.epoch = 0
        self._restore_s = 0.0
        self._replayed = 0
        self._skipped = 0

    def _empty(self) -> Cards:
        return Cards(self._ranker, self._slot, self._actors)

    async def start(self) -> None:
        """Restores and begins to follow: positions first, then rows, then the log from the positions on.

        Raises DependencyUnavailable: the loader or the broker does not answer; call again.
        PositionOutsideLog: the rows' position is not in the log.
        """
        began = time.monotonic()
        self.cards = self._empty()
        epochs = await self._loader.claim_epochs("cards", [self._slot])
        positions = await self._loader.positions([topics.USER_CREATED.name, topics.USER_UPDATED.name])
        page: str | None = None
        while True:
            rows = await self._loader.people(page, PEOPLE_A_PAGE)
            self.cards.load(rows)
            page = rows.next_page
            if page is None:
                break
        self.cards.settle()
        self._replayed = await self._tail.replay(positions)
        self._tail.follow()
        self.epoch = epochs[self._slot]
        self._restore_s = time.monotonic() - began

    async def close(self) -> None:
        await asyncio.to_thread(self._tail.close)

    def take(self, topic: str, partition: int, records: Sequence[tuple[int, bytes | None]]) -> None:
        """Takes in records (offset, value) read from the log, in order. Never fails: a bad record is skipped."""
        generation = self._generations.get(topic, 1)
        apply = self.cards.apply
        for offset, value in records:
            try:
                event = decode(value)
            except InvalidEvent as error:
                self._skipped += 1
                log.warning("tail_record_skipped", topic=topic, partition=partition, offset=offset, reason=error.message)
                continue
            if not isinstance(event.payload, Barrier):
                apply(event, version_of(generation, offset))

    async def deck(self, queries: Sequence[DeckQuery]) -> list[Shortlist | PlatformError]:
        """This actor's best people for each query, in order. PositionInvalid: that query's place is not one."""
        answers: list[Shortlist | PlatformError] = []
        for number, query in enumerate(queries):
            if number and number % QUERIES_A_STEP == 0:
                await asyncio.sleep(0)
            try:
                answers.append(self.cards.shortlist(query, self._clock()))
            except PlatformError as error:
                answers.append(error)
        return answers

    def describe(self) -> dict[str, Any]:
        """Figures for status and metrics."""
        return self.cards.describe() | {
            "restore_s": round(self._restore_s, 3), "replayed": self._replayed, "skipped": self._skipped,
        }

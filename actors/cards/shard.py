"""The service ``cards``: restores everybody from rows and the log, follows the log, answers decks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

import structlog

from actors.cards.commands import DeckQuery, Explain, Explanation, Nearest, NearestQuery, Noted, NotedPayload, Shortlist
from actors.cards.early import Early
from actors.cards.explaining import explanation
from actors.cards.models import Models
from actors.cards.state import Cards
from actors.sharding.tail import Feed, LogTail
from cluster.connections.artifacts import artifact_store
from cluster.connections.kafka import LogAppender
from configs.contracts import ranking, topics
from configs.contracts.errors import InvalidEvent, PlatformError
from configs.contracts.events import Barrier, RankingConfigured, UserCreated, decode
from configs.contracts.ids import partition_of
from configs.contracts.loading import RowLoader
from configs.contracts.positions import version_of
from configs.settings import Settings
from recommender.ranking import Ranker

log = structlog.get_logger(__name__)

PEOPLE_A_PAGE: Final = 20_000
QUERIES_A_STEP: Final = 8
"""Queries ranked in one pass, before other work of the actor gets its turn: some 2 ms."""


class CardShard:
    """One actor's share of the cells. It appends nothing but the barriers that end its replay."""

    METHODS = ("deck", "nearest", "note", "explain")

    def __init__(
        self, *, settings: Settings, slot: int, appender: LogAppender, loader: RowLoader, die: Callable[[str], None],
        ranker: Ranker | None = None, clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._slot, self._actors = slot, settings.plan.card_actors
        self._scored = settings.ranking.scored
        self._loader = loader
        self.models = Models(artifact_store(settings), ranker)
        self._clock = clock
        self._generations = settings.log.generations
        partitions = tuple(range(settings.log.partitions))
        configured = (partition_of(ranking.KEY, settings.log.partitions),)
        self._tail = LogTail(
            settings, f"cards-{slot}", appender,
            [
                *(Feed(topic.name, partitions, partitions, self.take) for topic in (topics.USER_CREATED, topics.USER_UPDATED)),
                Feed(topics.RANKING_CONFIGURED.name, configured, configured, self.take),
            ],
            die=die,
        )
        self.cards = self._empty()
        self._partitions = settings.log.partitions
        self._early = Early({}, self._noted)
        self.tenure = None
        self.epoch = 0
        self._restore_s = 0.0
        self._replayed = 0
        self._skipped = 0

    def _empty(self) -> Cards:
        return Cards(self.models.baseline, self._slot, self._actors, self._scored)

    async def start(self) -> None:
        """Restores and begins to follow: positions first, then rows, then the log from the positions on.

        Raises DependencyUnavailable: the loader or the broker does not answer; call again.
        PositionOutsideLog: the rows' position is not in the log.
        """
        began = time.monotonic()
        self.cards = self._empty()
        epochs = await self._loader.claim_epochs("cards", [self._slot])
        positions = await self._loader.positions(
            [topics.USER_CREATED.name, topics.USER_UPDATED.name, topics.RANKING_CONFIGURED.name]
        )
        self.models.hear(await self._loader.ranking())
        coming = asyncio.ensure_future(self._loader.people(None, PEOPLE_A_PAGE))
        while True:
            rows = await coming
            if rows.next_page is not None:  # the loader reads the next page while this one is taken in
                coming = asyncio.ensure_future(self._loader.people(rows.next_page, PEOPLE_A_PAGE))
                await asyncio.sleep(0)
            self.cards.load(rows)
            if rows.next_page is None:
                break
        self.cards.settle()
        self._replayed = await self._tail.replay(positions)
        self._early = Early(self._tail.next_offsets[topics.USER_UPDATED.name], self._noted)
        await self.models.settle()
        self.models.serve(self.cards)
        self.models.follow()
        self._tail.follow()
        self.epoch = epochs[self._slot]
        self._restore_s = time.monotonic() - began

    async def close(self) -> None:
        await self.models.close()
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
            if isinstance(event.payload, RankingConfigured):
                self.models.hear(event.payload.configuration)
            elif not isinstance(event.payload, Barrier):
                apply(event, version_of(generation, offset))
        if records and topic == topics.USER_UPDATED.name:
            self._early.read(partition, records[-1][0] + 1)

    async def deck(self, queries: Sequence[DeckQuery]) -> list[Shortlist | PlatformError]:
        """This actor's best people for each query, in order. PositionInvalid: that query's place is not one."""
        answers: list[Shortlist | PlatformError] = []
        now_us = int(self._clock().timestamp() * 1e6)
        # Queries that state no time are of one moment.
        for at_us, of_it in groupby(queries, lambda query: query.at_us or now_us):
            moment, some = datetime.fromtimestamp(at_us / 1e6, UTC), list(of_it)
            for start in range(0, len(some), QUERIES_A_STEP):
                if answers:
                    await asyncio.sleep(0)
                answers += self.cards.shortlists(some[start : start + QUERIES_A_STEP], moment)
        return answers

    async def explain(self, commands: Sequence[Explain]) -> list[Explanation | PlatformError | None]:
        """Why each candidate has its score; None for whoever is in no cell of this actor. PositionInvalid."""
        answers: list[Explanation | PlatformError | None] = []
        for command in commands:
            try:
                answers.append(explanation(self.cards, command, self._clock()))
            except PlatformError as error:
                answers.append(error)
        return answers

    async def nearest(self, queries: Sequence[NearestQuery]) -> list[Nearest | PlatformError]:
        """The nearest people of this actor's cells for each query. PositionInvalid: that query's place is not one."""
        answers: list[Nearest | PlatformError] = []
        for query in queries:
            try:
                answers.append(self.cards.nearest(query))
            except PlatformError as error:
                answers.append(error)
        return answers

    async def note(self, changes: Sequence[Noted]) -> list[bool]:
        """Takes in acknowledged changes without waiting for the log to bring them; whether each is taken in now.

        A change is taken in once everything before it in its partition is, at most ``early.WAIT_S`` later; False: the
        log will bring it.
        """
        return await asyncio.gather(*map(self._note, changes))

    async def _note(self, change: Noted) -> bool:
        if isinstance(change.payload, UserCreated):
            self.cards.change(change.payload, 0)
            return True
        partition = partition_of(change.payload.user_id, self._partitions)
        generation = self._generations.get(topics.USER_UPDATED.name, 1)
        offset = change.version - version_of(generation, 0)
        return offset >= 0 and await self._early.note(partition, offset, change.payload)

    def _noted(self, offset: int, payload: NotedPayload) -> None:
        self.cards.change(payload, version_of(self._generations.get(topics.USER_UPDATED.name, 1), offset))

    def describe(self) -> dict[str, Any]:
        """Figures for status and metrics."""
        return self.cards.describe() | {
            "ranking": self.models.describe(), "restore_s": round(self._restore_s, 3), "replayed": self._replayed,
            "skipped": self._skipped, "noted": self._early.taken,
        }

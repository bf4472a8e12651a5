"""Swipe shards of one actor: a swipe is durable, then its pair's authority judges, then it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import numpy as np

from actors.sharding.group import Appender, ShardGroup, utc_now
from actors.swipes.commands import (
    Delivery,
    EndPair,
    IdempotencyConflict,
    LastSwipe,
    LimitReached,
    PairEnded,
    Seen,
    SeenKeys,
    SeenSet,
    Swipe,
    SwipeAnswer,
    Swiped,
    Undo,
    Undone,
    UndoRefused,
    Verdict,
)
from actors.swipes.facts import CODE_MASK
from actors.swipes.outbox import Outbox
from actors.swipes.outgoing import Outgoing
from actors.swipes.pairs import PairAnswer, PairMemory
from actors.swipes.peers import Peers
from actors.swipes.people import People
from actors.swipes.person import ACTIVE, LIKES, UNDONE
from actors.swipes.state import Kept, SwipeDecision, SwipeMemory, Withdrawn
from configs.contracts.errors import PlatformError, ShardUnavailable
from configs.contracts.ids import match_id
from configs.contracts.loading import ACTION_BITS, RowLoader
from configs.settings import Settings

MATCH_WAIT_S = 0.5
"""SPEC section 5: after it the answer is ``matched: false`` and the match arrives by notification."""
UNDO_WAIT_S = 2.0
"""An undo is only acknowledged once the authority has recorded it; past this wait the answer is 503."""

Pending = Verdict | asyncio.Future[Verdict] | None
SwipeReply = SwipeAnswer | LimitReached | IdempotencyConflict | PlatformError
NOT_MATCHED = SwipeAnswer(recorded=True)


class SwipeShards:
    """Commands of the shards ``slot, slot + slots, …`` in batches; every answer stands for something durable.

    Two groups share one memory: turns of swipes and turns of pairs do not wait for each other. No remote call is made
    inside a turn, and ``deliver`` waits for no other actor, so two actors whose people like each other never deadlock.
    """

    METHODS: tuple[str, ...] = ("swipe", "last", "undo", "end", "deliver", "seen", "seen_set")

    def __init__(
        self, settings: Settings, slot: int, *, appender: Appender, loader: RowLoader, peers: Peers,
        die: Callable[[str], None], clock: Callable[[], datetime] = utc_now,
    ) -> None:
        async def load_rows(keys: Sequence[str]) -> Mapping[str, object]:
            with self.people.loading(keys):
                return await loader.swipes(keys)

        self.epoch = 0
        self._slot = slot
        self._slots = settings.plan.swipe_actors
        self._peers = peers
        self._clock = clock
        shards = range(slot, settings.log.partitions, self._slots)
        self.people = People(shards, settings.log.partitions)
        self.outgoing = Outgoing()
        self._swipe_memory = SwipeMemory(self.people, self.outgoing, settings.limits)
        self._pair_memory = PairMemory(self.people)
        deadline_s = settings.log.append_deadline_ms / 1_000
        self.swipes: ShardGroup[Swipe | Undo, SwipeDecision] = ShardGroup(
            self._swipe_memory, appender, load_rows,
            partitions=settings.log.partitions, append_deadline_s=deadline_s, die=die, clock=clock,
            joined=False,  # each call hands on what its own turn appended
        )
        self.pairs: ShardGroup[Delivery | EndPair, PairAnswer] = ShardGroup(
            self._pair_memory, appender, load_rows,
            partitions=settings.log.partitions, append_deadline_s=deadline_s, die=die, clock=clock,
        )
        self._outboxes = [self._outbox(number) for number in range(self._slots)]

    async def swipe(self, commands: Sequence[Swipe]) -> Sequence[SwipeReply]:
        """Each swipe recorded once, with the present state of its pair if the authority tells it in time."""
        decisions = await self._recorded(commands)
        pending = self.send()
        verdicts: list[Pending] = []
        for command, decision in zip(commands, decisions, strict=True):
            verdict: Pending = None
            if isinstance(decision, Kept):
                verdict = pending.get((command.swiper_id, command.target_id))
                if verdict is None and (not decision.appended or decision.fact & CODE_MASK in LIKES):
                    verdict = self._ask(command.swiper_id, command.target_id, decision.fact)
            verdicts.append(verdict)
        await _wait(verdicts, MATCH_WAIT_S)
        return [
            _swipe_answer(command, decision, verdict) if isinstance(decision, Kept) else cast(SwipeReply, decision)
            for command, decision, verdict in zip(commands, decisions, verdicts, strict=True)
        ]

    async def undo(self, commands: Sequence[Undo]) -> Sequence[Undone | UndoRefused | PlatformError]:
        """Each undo recorded once, and known to the authority of its pair.

        ShardUnavailable as an answer: the undo may be durable and is still on its way to the authority; the pair
        refuses new swipes from this side until it has arrived.
        """
        decisions = await self.swipes.record(commands)
        pending = self.send()
        verdicts: list[Pending] = []
        for command, decision in zip(commands, decisions, strict=True):
            verdict: Pending = None
            if isinstance(decision, Withdrawn):
                verdict = pending.get((command.swiper_id, decision.target_id))
                if verdict is None:
                    verdict = self._ask(command.swiper_id, decision.target_id, decision.fact)
            verdicts.append(verdict)
        await _wait(verdicts, UNDO_WAIT_S)
        return [
            _undo_answer(decision, _told(verdict))
            if isinstance(decision, Withdrawn) else cast(UndoRefused | PlatformError, decision)
            for decision, verdict in zip(decisions, verdicts, strict=True)
        ]

    async def last(self, commands: Sequence[LastSwipe]) -> Sequence[Swiped | PlatformError]:
        """For each person, whom their next undo concerns."""
        failure = await self._loaded([command.swiper_id for command in commands])
        return [
            self._swipe_memory.last(command) if self.people.known(command.swiper_id) else failure for command in commands
        ]

    async def end(self, commands: Sequence[EndPair]) -> Sequence[PairEnded | PlatformError]:
        """As the authority: ends each pair for both sides."""
        return cast(Sequence[PairEnded | PlatformError], await self.pairs.record(commands))

    async def deliver(self, deliveries: Sequence[Delivery]) -> Sequence[Verdict | PlatformError]:
        """As the authority of people of lower id: takes in what their likers' shards say, and judges."""
        answers: list[Verdict | PlatformError] = [ShardUnavailable("not the authority of this pair")] * len(deliveries)
        waiting: list[int] = []
        mine = [index for index, item in enumerate(deliveries) if self.people.owns(min(item.swiper_id, item.target_id))]
        for index in mine:
            if deliveries[index].version:
                self._swipe_memory.note(deliveries[index])
        now = self._clock()
        for index in mine:
            verdict = self._pair_memory.settled(deliveries[index], now)
            if verdict is None:
                waiting.append(index)
            else:
                answers[index] = verdict
        if waiting:
            judged = await self.pairs.record([deliveries[index] for index in waiting])
            for index, answer in zip(waiting, judged, strict=True):
                answers[index] = cast(Verdict | PlatformError, answer)
        return answers

    async def seen(self, commands: Sequence[Seen]) -> Sequence[bytes | PlatformError]:
        """For each viewer, for each key 1 or 0: swiped and not undone, or the pair has ended."""
        failure = await self._loaded([command.viewer_id for command in commands])
        return [
            self.people.used(command.viewer_id).seen(np.frombuffer(command.keys, "<u8")).tobytes()
            if self.people.known(command.viewer_id) else failure
            for command in commands
        ]

    async def seen_set(self, commands: Sequence[SeenSet]) -> Sequence[SeenKeys | PlatformError]:
        """For each viewer, everybody for whom ``seen`` is true, or what has changed since the token."""
        failure = await self._loaded([command.viewer_id for command in commands])
        return [
            self.people.used(command.viewer_id).seen_set(command.since) if self.people.known(command.viewer_id) else failure
            for command in commands
        ]

    def send(self) -> dict[tuple[str, str], Pending]:
        """Hands every applied event that was not handed on yet to its pair's authority; (swiper, target) -> verdict.

        Called whenever events were applied, by a turn, a late append or the tail.
        """
        return {(item.swiper_id, item.target_id): self._hand(item) for item in self.outgoing.drain()}

    def judge_doubtful(self) -> None:
        """Judges the matches that a replaced authority may have written last; called after the tail applied events."""
        doubtful, self._pair_memory.doubtful = self._pair_memory.doubtful, []
        for low, high in doubtful:
            self._outboxes[self._slot].put(Delivery(low, high, 0, 0))

    def describe(self) -> dict[str, Any]:
        """Figures for status and metrics."""
        return {
            "entries": len(self.people),
            "swipes": self.swipes.describe(),
            "pairs": self.pairs.describe(),
            "undelivered": len(self.outgoing),
            "outboxes": [len(outbox) for outbox in self._outboxes],
            "stored_bytes": self.people.fact_bytes(),
        }

    async def close(self) -> None:
        for outbox in self._outboxes:
            await outbox.close()

    async def _recorded(self, commands: Sequence[Swipe]) -> list[SwipeDecision | PlatformError]:
        if not any(outbox.full for outbox in self._outboxes):
            return await self.swipes.record(commands)
        refused = [self._outboxes[self._slot_of(command.swiper_id, command.target_id)].full for command in commands]
        recorded = iter(
            await self.swipes.record([command for command, no in zip(commands, refused, strict=True) if not no])
        )
        return [
            ShardUnavailable("too many swipes wait for the other shard") if no else next(recorded) for no in refused
        ]

    def _ask(self, swiper_id: str, target_id: str, fact: int) -> Pending:
        """What the authority says of a fact that is not new; telling it again also mends what a crash left open."""
        if not fact:
            return None
        return self._hand(Delivery(swiper_id, target_id, fact & CODE_MASK, fact >> ACTION_BITS))

    def _hand(self, delivery: Delivery) -> Pending:
        slot = self._slot_of(delivery.swiper_id, delivery.target_id)
        if slot == self._slot:
            verdict = self._pair_memory.settled(delivery, self._clock())
            if verdict is not None:
                self.outgoing.taken(delivery)
                return verdict
        return self._outboxes[slot].put(delivery)

    def _slot_of(self, one: str, other: str) -> int:
        return self.people.partition(min(one, other)) % self._slots

    def _outbox(self, slot: int) -> Outbox:
        if slot == self._slot:
            return Outbox(self._judge, self.outgoing.taken)
        return Outbox(lambda deliveries: self._peers.deliver(slot, deliveries), self.outgoing.taken)

    async def _judge(self, deliveries: Sequence[Delivery]) -> Sequence[Verdict | PlatformError]:
        return cast(Sequence[Verdict | PlatformError], await self.pairs.record(deliveries))

    async def _loaded(self, user_ids: Sequence[str]) -> PlatformError:
        """Brings rows into memory; the error is the answer to those whose rows did not come."""
        try:
            await self.swipes.ensure_loaded(user_ids)
        except ShardUnavailable as error:
            return error
        return ShardUnavailable("rows were evicted before the answer")


async def _wait(verdicts: Sequence[Pending], timeout_s: float) -> None:
    futures = {verdict for verdict in verdicts if isinstance(verdict, asyncio.Future)}
    if futures:
        await asyncio.wait(futures, timeout=timeout_s)


def _told(verdict: Pending) -> Verdict | None:
    if isinstance(verdict, asyncio.Future):
        return verdict.result() if verdict.done() and not verdict.cancelled() else None
    return verdict


def _swipe_answer(command: Swipe, kept: Kept, pending: Pending) -> SwipeAnswer:
    verdict = _told(pending)
    if verdict is None or verdict.code != ACTIVE:
        return NOT_MATCHED if kept.appended else SwipeAnswer()
    return SwipeAnswer(
        True, match_id(command.swiper_id, command.target_id), verdict.generation, verdict.version, verdict.at,
        kept.appended,
    )


def _undo_answer(withdrawn: Withdrawn, verdict: Verdict | None) -> Undone | PlatformError:
    if verdict is None:
        return ShardUnavailable("the other shard has not recorded the undo yet")
    ended = verdict.code == UNDONE
    return Undone(
        withdrawn.target_id, withdrawn.action, ended, verdict.version if ended else 0, verdict.generation if ended else 0
    )

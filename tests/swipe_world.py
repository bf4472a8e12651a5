"""Swipe actors in one process on a simulated log: several lives of each slot, rows, peers and their faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from simulated_log import SimulatedAppender, SimulatedLog, SimulatedTail, VirtualTimeLoop

from actors.swipes.commands import EndPair, Swipe, Undo
from actors.swipes.peers import RayPeers
from actors.swipes.service import SwipeService
from configs.contracts.errors import AppendUnconfirmed, DependencyUnavailable, PlatformError, ShardUnavailable
from configs.contracts.events import Event, Matched, Swiped
from configs.contracts.ids import key64, pair, partition_of
from configs.contracts.loading import ACTION_CODES, PAIR_BITS, PAIR_CODES, SwipeRows
from configs.contracts.positions import version_of
from configs.contracts.ranking import INITIAL, RankingConfiguration
from configs.contracts.topics import MATCHING_MATCHED, MATCHING_SWIPE
from configs.settings import Limits, Log, Plan, Settings

RANK = {"active": 0, "undone": 1, "unmatched": 2, "blocked": 3}
EPOCH = datetime(2026, 3, 1, 12, tzinfo=UTC)


def settings(*, slots: int = 2, partitions: int = 4, **limits: int) -> Settings:
    return Settings(
        profile="test", plan=Plan(swipe_actors=slots), log=Log(partitions=partitions), limits=Limits(**limits)  # type: ignore[arg-type]
    )


def folded(events: Sequence[tuple[int, int, Event]], generation: int) -> dict[str, list[tuple[int, Event]]]:
    """Each swiper's events with their versions, in order."""
    by_swiper: dict[str, list[tuple[int, Event]]] = {}
    for _, offset, event in events:
        by_swiper.setdefault(event.payload.swiper_id, []).append((version_of(generation, offset), event))
    return by_swiper


def pair_states(events: Sequence[tuple[int, int, Event]]) -> dict[tuple[str, str], tuple[int, str]]:
    """(low, high) -> (generation, state) by the order of generations, then active, undone, unmatched; a block is final in all."""
    states: dict[tuple[str, str], tuple[int, str]] = {}
    for _, _, event in events:
        payload = event.payload
        state = "active" if isinstance(payload, Matched) else payload.reason
        known = states.get((payload.low_id, payload.high_id))
        new = (payload.generation, state)
        if known is not None and "blocked" in (state, known[1]):
            new = known = (max(known[0], new[0]), "blocked")
            states[(payload.low_id, payload.high_id)] = new
        if known is None or (new[0], RANK[new[1]]) > (known[0], RANK[known[1]]):
            states[(payload.low_id, payload.high_id)] = new
    return states


def facts(swipes: Mapping[str, list[tuple[int, Event]]]) -> dict[tuple[str, str], int]:
    """(swiper, swiped) -> ``version << 2 | code`` of the newest event."""
    newest: dict[tuple[str, str], int] = {}
    for swiper, events in swipes.items():
        for version, event in events:
            code = ACTION_CODES[event.payload.action] if isinstance(event.payload, Swiped) else 0
            newest[(swiper, event.payload.swiped_id)] = version << 2 | code
    return newest


class SimulatedRows:
    """What the writers hold: the log up to a position that tests move; also hands out epochs."""

    def __init__(self, log: SimulatedLog) -> None:
        self._log = log
        self._positions: dict[str, dict[int, int]] = {MATCHING_SWIPE.name: {}, MATCHING_MATCHED.name: {}}
        self._epochs = 0
        self.down = False

    def commit(self, share: float = 1.0) -> None:
        """Moves every position by this share of what is left."""
        for (topic, partition), values in list(self._log.partitions.items()):
            known = self._positions[topic].get(partition, 0)
            self._positions[topic][partition] = known + round((len(values) - known) * share)

    def _committed(self, topic: str) -> list[tuple[int, int, Event]]:
        positions = self._positions[topic]
        return [item for item in self._log.events(topic) if item[1] < positions.get(item[0], 0)]

    async def positions(self, topics: Sequence[str]) -> dict[str, dict[int, int]]:
        self._check()
        return {topic: dict(self._positions[topic]) for topic in topics}

    async def ranking(self) -> RankingConfiguration:
        return INITIAL

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> dict[int, int]:
        self._check()
        self._epochs += 1
        return dict.fromkeys(shards, self._epochs)

    async def swipes(self, user_ids: Sequence[str]) -> dict[str, SwipeRows]:
        self._check()
        swipes = folded(self._committed(MATCHING_SWIPE.name), self._log.generation)
        newest, states = facts(swipes), pair_states(self._committed(MATCHING_MATCHED.name))
        await asyncio.sleep(0.002)
        return {user_id: _rows(user_id, swipes.get(user_id, []), newest, states) for user_id in user_ids}

    def _check(self) -> None:
        if self.down:
            raise DependencyUnavailable("the loader is down")


def _arrays(entries: dict[int, int]) -> tuple[Any, Any]:
    keys = sorted(entries)
    return np.array(keys, np.uint64), np.array([entries[key] for key in keys], np.uint64)


def _rows(
    user_id: str, events: list[tuple[int, Event]], newest: dict[tuple[str, str], int],
    states: dict[tuple[str, str], tuple[int, str]],
) -> SwipeRows:
    own = {key64(target): fact for (swiper, target), fact in newest.items() if swiper == user_id}
    incoming = {
        key64(swiper): fact for (swiper, target), fact in newest.items()
        if target == user_id < swiper and fact & 3 != ACTION_CODES["pass"]
    }
    pairs = {
        key64(high): generation << PAIR_BITS | PAIR_CODES[state]
        for (low, high), (generation, state) in states.items() if low == user_id
    }
    ended = sorted(
        key64(high if low == user_id else low) for (low, high), (_, state) in states.items()
        if user_id in (low, high) and state in ("unmatched", "blocked")
    )
    last_version, last = events[-1] if events else (0, None)
    last_swipe = last.payload if last is not None and isinstance(last.payload, Swiped) else None
    day = last.occurred_at.date().isoformat() if last is not None else ""
    today = [event.payload for _, event in events if event.occurred_at.date().isoformat() == day]
    given = [payload.action for payload in today if isinstance(payload, Swiped)]
    return SwipeRows(
        *_arrays(own), *_arrays(incoming), *_arrays(pairs),
        last_target=last_swipe.swiped_id if last_swipe else None,
        last_action=last_swipe.action if last_swipe else None,
        last_swiped_at=last.occurred_at if last is not None and last_swipe else None,
        last_version=last_version, day=day, likes_today=given.count("like"), super_likes_today=given.count("super_like"),
        idempotency_keys=tuple(
            f"{event.payload.swiped_id} {event.payload.idempotency_key}"
            for _, event in events if event.payload.idempotency_key is not None
        )[-64:],
        ended_keys=np.array(ended, np.uint64),
    )


class SimulatedDelivered:
    """Group offsets that outlive every life of a slot."""

    def __init__(self, stored: dict[int, int]) -> None:
        self._stored = stored

    async def load(self, partitions: Sequence[int]) -> dict[int, int]:
        return {partition: self._stored.get(partition, 0) for partition in partitions}

    async def save(self, positions: Mapping[int, int]) -> None:
        self._stored.update(positions)

    async def close(self) -> None: ...


@dataclass
class Life:
    """One life of a slot's actor."""

    slot: int
    service: SwipeService
    appender: SimulatedAppender
    ready: bool = False
    dead: bool = False
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def call(self, method: str, commands: list[Any]) -> tuple[int, Sequence[Any]]:
        """As the actor's host answers: (epoch, answers)."""
        if self.dead:
            raise ValueError("no such actor")
        if not self.ready:
            return 0, [ShardUnavailable("restoring")] * len(commands)
        answers = await getattr(self.service, method)(commands)
        if self.dead:
            raise ValueError("the actor died during the call")
        return self.service.epoch, answers


class _Handle:
    """Stands for ``RemoteActor``."""

    def __init__(self, world: World, caller: int, life: Life) -> None:
        self._world, self._caller, self._life = world, caller, life

    async def call(self, service: str, method: str, commands: list[Any], traces: object = None) -> tuple[int, Sequence[Any]]:
        if (self._caller, self._life.slot) in self._world.cut:
            await asyncio.sleep(60)
        call = asyncio.ensure_future(self._life.call(method, commands))
        call.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(call)  # a caller that gives up ends nothing there


class World:
    """Slots, each with a current life; a replaced life may still be alive, as after a frozen node."""

    def __init__(self, configured: Settings) -> None:
        self.settings = configured
        self.slots = configured.plan.swipe_actors
        self.log = SimulatedLog()
        self.rows = SimulatedRows(self.log)
        self.now = EPOCH
        self.lives: dict[int, Life] = {}
        self.zombies: list[Life] = []
        self.cut: set[tuple[int, int]] = set()
        self._delivered: dict[int, int] = {}
        self._reviving = asyncio.Lock()

    def slot_of(self, user_id: str) -> int:
        return partition_of(user_id, self.settings.log.partitions) % self.slots

    async def start(self, slot: int) -> Life:
        """Begins a new life of the slot; the one before, if it is not dead, becomes a zombie."""
        before = self.lives.get(slot)
        if before is not None and not before.dead:
            self.zombies.append(before)
        appender = SimulatedAppender(self.log)

        def die(reason: str) -> None:
            life.dead = appender.dead = True

        service = SwipeService(
            self.settings, slot, appender=appender, loader=self.rows,  # type: ignore[arg-type]  # the part swipes use
            peers=RayPeers(resolve=lambda name: self._handle(slot, int(name.rpartition("-")[2]))),
            delivered=SimulatedDelivered(self._delivered), tail=lambda feeds, label: SimulatedTail(self.log, feeds, label),
            die=die, clock=lambda: self.now,
        )
        life = self.lives[slot] = Life(slot, service, appender)
        await service.start()
        life.ready = True
        return life

    def _handle(self, caller: int, slot: int) -> _Handle:
        if slot not in self.lives:
            raise ValueError("no such actor")
        return _Handle(self, caller, self.lives[slot])

    async def kill(self, life: Life) -> None:
        """As ``kill -9``: nothing is stored, nothing flushed."""
        life.dead = life.appender.dead = True
        service: Any = life.service
        service._live = False
        for outbox in service._outboxes:
            await outbox.close()
        waiting = (service._housekeeping, service._tail._task, service.swipes._unsettled, service.pairs._unsettled)
        tasks = [task for task in waiting if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def revive(self) -> None:
        """Starts every slot that is dead."""
        async with self._reviving:
            for slot in range(self.slots):
                if slot not in self.lives or self.lives[slot].dead:
                    if slot in self.lives:
                        await self.kill(self.lives[slot])
                    await self.start(slot)

    async def ask(self, method: str, command: Any, *, life: Life | None = None) -> Any:
        """The answer of the shard that owns the command's key, or the PlatformError."""
        key = pair(command.user_id, command.other_id)[0] if isinstance(command, EndPair) else command.swiper_id
        try:
            _, [answer] = await (life or self.lives[self.slot_of(key)]).call(method, [command])
        except (ValueError, AppendUnconfirmed) as error:
            return ShardUnavailable(str(error))
        return answer

    async def until(self, method: str, command: Any) -> Any:
        """Repeats the command until it is carried out, as a client does."""
        answer: Any = None
        for _ in range(300):
            answer = await self.ask(method, command)
            if not isinstance(answer, PlatformError):
                return answer
            await self.revive()
            await asyncio.sleep(0.1)
        raise AssertionError(f"never carried out: {command} {answer}")

    async def swipe(self, swiper: str, target: str, action: str, key: str | None = None) -> Any:
        return await self.until("swipe", Swipe(swiper, target, action, key))  # type: ignore[arg-type]

    async def undo(self, swiper: str, key: str | None = None) -> Any:
        return await self.until("undo", Undo(swiper, key))

    async def end(self, user: str, other: str, reason: str) -> Any:
        return await self.until("end", EndPair(user, other, reason))  # type: ignore[arg-type]

    async def settle(self) -> None:
        """Heals everything and waits until nothing is on its way any more."""
        self.cut.clear()
        self.rows.down = False
        for life in (*self.lives.values(), *self.zombies):
            life.appender.release()
        await asyncio.sleep(1)
        for life in self.zombies:
            await self.kill(life)
        self.zombies.clear()
        await self.revive()
        for _ in range(40):
            await asyncio.sleep(3)
            if not any(len(life.service.outgoing) or life.appender.blocked for life in self.lives.values()):
                return
        raise AssertionError("deliveries are still open after two minutes without a fault")

    async def close(self) -> None:
        for life in (*self.lives.values(), *self.zombies):
            await self.kill(life)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # What the log says.

    def swipes(self) -> dict[str, list[tuple[int, Event]]]:
        return folded(self.log.events(MATCHING_SWIPE.name), self.log.generation)

    def matches(self) -> list[Event]:
        return [event for _, _, event in self.log.events(MATCHING_MATCHED.name)]

    def states(self) -> dict[tuple[str, str], tuple[int, str]]:
        return pair_states(self.log.events(MATCHING_MATCHED.name))


def people_of(slot: int, count: int) -> list[str]:
    """Ids in rising order that live in this slot of two."""
    world = World(settings())
    ids = (f"00000000-0000-7000-8000-{number:012x}" for number in range(10_000))
    found = [user_id for user_id in ids if world.slot_of(user_id) == slot]
    return found[:count]


A, B, C, D = people_of(0, 4)
"""People of slot 0, A the lowest."""
E, F = people_of(1, 40)[-2:]
"""People of slot 1, above A, B, C and D: their pairs' authority is slot 0."""
assert D < E


def run(scenario: Callable[[World], Awaitable[None]], **limits: int) -> World:
    loop = VirtualTimeLoop()
    world = World(settings(**limits))

    async def whole() -> None:
        await world.revive()
        await scenario(world)
        await world.settle()
        await world.close()

    try:
        loop.run_until_complete(whole())
    finally:
        loop.close()
    return world

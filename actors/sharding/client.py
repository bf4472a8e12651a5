"""Calling shards: one micro-batched Ray call carries all commands that wait for an actor."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import RayError

from actors.sharding.lines import LineError
from actors.sharding.wire import Actor, RemoteActor, find_actor
from configs.contracts.errors import EpochFenced, PlatformError, ShardUnavailable
from configs.contracts.ids import partition_of
from configs.settings import Settings

COMMANDS_A_CALL = 512
CALLS_IN_FLIGHT = 4
DEADLINE_S = 5.0
RESTORING_RETRY_S = 0.1

ACTOR_OF_SERVICE = {
    "accounts": "identity",
    "identities": "identity",
    "sessions": "identity",
    "users": "identity",
    "moderation": "identity",
    "impressions": "identity",
    "messages": "messages",
    "posts": "commerce",
    "media": "commerce",
    "webhooks": "commerce",
    "tiers": "commerce",
    "subscriptions": "commerce",
    "payments": "commerce",
    "swipes": "swipes",
    "cards": "cards",
}


@dataclass(slots=True)
class _Waiting:
    command: Any
    trace: str | None
    future: asyncio.Future[Any]


@dataclass(slots=True)
class _Lane:
    """Commands for one method of one service of one actor."""

    actor: str
    service: str
    method: str
    queue: list[_Waiting] = field(default_factory=list)
    in_flight: int = 0
    next_start: float = 0.0
    timer: asyncio.TimerHandle | None = None


class ActorPool:
    """Calls to all actors of a platform from one event loop.

    A call costs both sides as much for 1 command as for 64, so calls of a lane start at least ``plan.call_interval_ms``
    (swipes: ``plan.swipe_interval_ms``) apart and carry what came meanwhile; the first one after a pause starts at once. The queue of a lane is bounded
    (``plan.actor_max_pending``); past it and past the deadline the answer is ShardUnavailable.
    """

    def __init__(self, settings: Settings, *, resolve: Callable[[str], Actor] = find_actor) -> None:
        plan = settings.plan
        self.partitions = settings.log.partitions
        self._slots = {
            "identity": plan.identity_actors, "swipes": plan.swipe_actors, "cards": plan.card_actors,
            "messages": plan.message_actors, "commerce": plan.commerce_actors,
        }
        self._kinds = {
            service: kind if self._slots[kind] else "identity" for service, kind in ACTOR_OF_SERVICE.items()
        }
        self._pending_limit = plan.actor_max_pending
        self._call_every_s = plan.call_interval_ms / 1_000
        self._every_s = {"swipe": plan.swipe_interval_ms / 1_000}
        self._resolve = resolve
        self._handles: dict[str, Actor] = {}
        self._lanes: dict[tuple[str, str, str], _Lane] = {}
        self._epochs: dict[tuple[str, str], int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.batch_sizes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    async def reach(self) -> None:
        """Opens the way to every actor now, not with the first request; who does not answer in time is reached then."""
        await asyncio.gather(*(self._reach(f"{kind}-{slot}") for kind, slots in self._slots.items() for slot in range(slots)))

    async def _reach(self, name: str) -> None:
        with suppress(RayError, ValueError, TimeoutError):
            async with asyncio.timeout(DEADLINE_S):
                found = await asyncio.to_thread(self._resolve, name)
                actor = self._handles.setdefault(name, found)
                if isinstance(actor, RemoteActor):
                    await actor.open()

    def shard_of(self, key: str) -> int:
        return partition_of(key, self.partitions)

    def slots(self, service: str) -> int:
        """How many actors host the service."""
        return self._slots[self._kinds[service]]

    def actor_of(self, service: str, shard: int) -> str:
        kind = self._kinds[service]
        return f"{kind}-{shard % self._slots[kind]}"

    async def ask(
        self, service: str, shard: int, method: str, command: Any, *,
        deadline_s: float = DEADLINE_S, traceparent: str | None = None,
    ) -> Any:
        """The answer to one command.

        A command that was certainly not carried out (the shard is restoring) is sent again until the deadline.
        Raises ShardUnavailable: it may have been carried out or not. Any PlatformError the shard answered with.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while True:
            future = self._submit(loop, service, shard, method, command, traceparent)
            # A third of what ``asyncio.timeout`` costs.
            timer = loop.call_at(end, self._late, future, service, shard)
            try:
                return await future
            except _NotCarriedOut as error:
                if loop.time() + RESTORING_RETRY_S >= end:
                    raise ShardUnavailable("shard is restoring", service=service, shard=shard) from error
                await asyncio.sleep(RESTORING_RETRY_S)
            finally:
                timer.cancel()

    def _late(self, future: asyncio.Future[Any], service: str, shard: int) -> None:
        if not future.done():
            self._handles.pop(self.actor_of(service, shard), None)
            future.set_exception(ShardUnavailable("shard did not answer in time", service=service, shard=shard))

    def _submit(self, loop: asyncio.AbstractEventLoop, service: str, shard: int, method: str, command: Any,
                trace: str | None) -> asyncio.Future[Any]:
        actor = self.actor_of(service, shard)
        key = (actor, service, method)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(actor, service, method)
        if len(lane.queue) >= self._pending_limit:
            raise ShardUnavailable("too many commands wait for this shard", actor=actor, waiting=len(lane.queue))
        future: asyncio.Future[Any] = loop.create_future()
        lane.queue.append(_Waiting(command, trace, future))
        self._schedule(lane, loop)
        return future

    def _schedule(self, lane: _Lane, loop: asyncio.AbstractEventLoop) -> None:
        if lane.timer is None and lane.in_flight < CALLS_IN_FLIGHT:
            lane.timer = loop.call_at(max(lane.next_start, loop.time()), self._flush, lane, loop)

    def _flush(self, lane: _Lane, loop: asyncio.AbstractEventLoop) -> None:
        lane.timer = None
        waiting = [item for item in lane.queue[:COMMANDS_A_CALL] if not item.future.done()]
        del lane.queue[:COMMANDS_A_CALL]
        if not waiting:
            return
        lane.in_flight += 1
        lane.next_start = loop.time() + self._every_s.get(lane.method, self._call_every_s)
        if lane.queue:
            self._schedule(lane, loop)
        task = asyncio.create_task(self._call(lane, waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, lane: _Lane, waiting: Sequence[_Waiting]) -> None:
        self.calls[lane.service] += 1
        self.batch_sizes[lane.service] += len(waiting)
        try:
            handle = self._handles.get(lane.actor)
            if handle is None:
                found = await asyncio.to_thread(self._resolve, lane.actor)
                handle = self._handles.setdefault(lane.actor, found)
            traces = {index: item.trace for index, item in enumerate(waiting) if item.trace}
            epoch, answers = await asyncio.wait_for(
                handle.call(lane.service, lane.method, [item.command for item in waiting], traces or None),
                DEADLINE_S,
            )
        except (RayError, LineError, ValueError, TimeoutError) as error:
            self._handles.pop(lane.actor, None)
            cause = getattr(error, "cause", None)
            failure: PlatformError = (
                cause if isinstance(cause, PlatformError)
                else ShardUnavailable("shard does not answer", actor=lane.actor, kind=type(error).__name__)
            )
            _fail(waiting, failure)
        else:
            self._answer(lane, waiting, epoch, answers)
        finally:
            lane.in_flight -= 1
            if lane.queue:
                self._schedule(lane, asyncio.get_running_loop())

    def _answer(self, lane: _Lane, waiting: Sequence[_Waiting], epoch: int, answers: Sequence[Any]) -> None:
        if epoch == 0:
            for item in waiting:
                if not item.future.done():
                    item.future.set_exception(_NotCarriedOut("shard is restoring", actor=lane.actor))
            return
        place = (lane.actor, lane.service)
        known = self._epochs.get(place, 0)
        if epoch < known:
            self._handles.pop(lane.actor, None)
            _fail(waiting, EpochFenced("answer of a shard that was replaced", actor=lane.actor, epoch=epoch, known=known))
            return
        self._epochs[place] = epoch
        for item, answer in zip(waiting, answers, strict=True):
            if item.future.done():
                continue
            if isinstance(answer, PlatformError):
                item.future.set_exception(answer)
            else:
                item.future.set_result(answer)


class _NotCarriedOut(ShardUnavailable):
    """The shard said that it did nothing: sending again is safe."""


def _fail(waiting: Sequence[_Waiting], error: PlatformError) -> None:
    for item in waiting:
        if not item.future.done():
            item.future.set_exception(error)

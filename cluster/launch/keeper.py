"""Probes every named actor and replaces the one that no longer answers; Ray itself restarts what has ended."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import psutil
import ray
import structlog
from ray.exceptions import RayError

from cluster.embedded.pids import began, still_runs
from cluster.launch.report import ActorReport
from configs.contracts.loading import NAMESPACE
from configs.process import process_space

log = structlog.get_logger(__name__)

PROBE_EVERY_S = 1.0
PROBE_DEADLINE_S = 2.0
STOPPED_LIMIT_S = 5.0
"""For a stopped (SIGSTOP) process: as long as a request's longest deadline."""
SILENT_LIMIT_S = 15.0
"""For one that runs: its event loop is blocked, or the machine is so busy that replacing it would add to that."""
NEW_LIMIT_S = 120.0
"""An actor that has never answered may still import and connect."""

Create = Callable[[], Any]


class Pingable(Protocol):
    """What every named actor offers."""

    ping: Any


class Watched:
    """One named actor: when it last answered, and which process that was."""

    def __init__(self, name: str, create: Create, now_s: float) -> None:
        self.name = name
        self.create = create
        self.handle: Any = None
        self.answered_s = now_s
        self.ever_answered = False
        self.answers = False
        self.pid = 0
        self.process_began = ""
        self.replaced = 0
        self.restarts = 0
        self.process: tuple[object, object] | None = None
        """(where, pid) of the one that answered last."""
        self.figures: dict[str, Any] = {}

    def answered(self, figures: dict[str, Any], now_s: float) -> None:
        # Of an actor elsewhere the pid says nothing: here it is another process's.
        pid = int(figures.get("pid", 0)) if figures.get("space", process_space()) == process_space() else 0
        if pid != self.pid:
            self.pid, self.process_began = pid, began(pid) if pid else ""
        process = (figures.get("space"), figures.get("pid"))
        self.restarts += self.process not in (None, process)
        self.process = process
        self.answered_s, self.answers, self.ever_answered = now_s, True, True
        self.figures = figures

    def overdue(self, now_s: float) -> bool:
        """Whether it has been silent for too long."""
        silent_s = now_s - self.answered_s
        if silent_s <= STOPPED_LIMIT_S:
            return False
        if not self.ever_answered:
            return silent_s > NEW_LIMIT_S
        return silent_s > SILENT_LIMIT_S or _stopped(self.pid, self.process_began)

    def forgive(self, now_s: float) -> None:
        """Starts counting anew, as for an actor that has just been created."""
        self.answered_s, self.ever_answered, self.answers = now_s, False, False

    def report(self, now_s: float) -> ActorReport:
        return ActorReport(
            name=self.name, answers=self.answers, ready=self.answers and bool(self.figures.get("ready")),
            pid=int(self.figures.get("pid", 0)),
            restarts=self.restarts, replaced=self.replaced, silent_s=round(now_s - self.answered_s, 1), figures=self.figures,
        )


def _stopped(pid: int, since: str) -> bool:
    """Whether that very process lives on this machine and is stopped."""
    try:
        return still_runs(pid, since) and psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except (psutil.Error, ValueError):
        return False


class Keeper:
    """Creates the named actors and keeps each of them answering."""

    def __init__(self, specs: Mapping[str, Create], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.watched = {name: Watched(name, create, clock()) for name, create in specs.items()}

    def create_all(self) -> None:
        """Creates each actor, or finds it when an earlier runtime of this session created it."""
        for actor in self.watched.values():
            actor.handle = actor.create()

    @property
    def ready(self) -> bool:
        return all(actor.answers and actor.figures.get("ready") for actor in self.watched.values())

    async def probe_all(self) -> None:
        """Probes all at once, then replaces those that are overdue. Never raises for an actor's failure."""
        await asyncio.gather(*(self._probe(actor) for actor in self.watched.values()))
        for actor in self.watched.values():
            if actor.overdue(self._clock()):
                await self._replace(actor)

    async def _probe(self, actor: Watched) -> None:
        try:
            figures = await asyncio.wait_for(actor.handle.ping.remote(), PROBE_DEADLINE_S)
        except (RayError, TimeoutError) as error:
            if actor.answers:
                log.warning("actor_silent", actor=actor.name, kind=type(error).__name__)
            actor.answers = False
        else:
            actor.answered(figures, self._clock())

    async def _replace(self, actor: Watched) -> None:
        log.error("actor_replaced", actor=actor.name, pid=actor.pid, silent_s=round(self._clock() - actor.answered_s, 1))
        actor.replaced += 1
        if self._end_process(actor):
            # Ray sees its worker end and restarts the actor under the same name.
            actor.forgive(self._clock())
            return
        await asyncio.to_thread(self._recreate, actor)
        actor.forgive(self._clock())

    def _end_process(self, actor: Watched) -> bool:
        """SIGKILL of the process that last answered, when it lives on this machine; a stopped one ends by it too.

        ``ray.kill`` asks the process itself, and one that does not answer does not obey.
        """
        if not still_runs(actor.pid, actor.process_began):
            return False
        try:
            os.kill(actor.pid, signal.SIGKILL)
        except OSError:
            return False
        return True

    def _recreate(self, actor: Watched) -> None:
        """Gives the actor up and makes another of its name, wherever the old one runs; its epoch fences it."""
        try:
            ray.kill(actor.handle, no_restart=True)
        except RayError as error:
            log.warning("actor_not_killed", actor=actor.name, kind=type(error).__name__)
        deadline = time.monotonic() + SILENT_LIMIT_S
        while time.monotonic() < deadline:
            try:
                ray.get_actor(actor.name, NAMESPACE)
            except ValueError:
                break
            time.sleep(0.1)
        try:
            actor.handle = actor.create()
        except (RayError, ValueError) as error:
            log.error("actor_not_created", actor=actor.name, kind=type(error).__name__)  # noqa: TRY400 - retried

    async def drain(self, kind: str, timeout_s: float) -> None:
        """Calls ``drain`` of every actor of a kind, which must not be probed any more; a failure is only logged."""
        leaving = [actor for actor in self.watched.values() if actor.name.rpartition("-")[0] == kind]

        async def one(actor: Watched) -> None:
            try:
                await asyncio.wait_for(actor.handle.drain.remote(), timeout_s)
            except (RayError, TimeoutError) as error:
                log.warning("actor_not_drained", actor=actor.name, kind=type(error).__name__)

        await asyncio.gather(*(one(actor) for actor in leaving))

    def reports(self) -> list[ActorReport]:
        now = self._clock()
        return [actor.report(now) for actor in self.watched.values()]

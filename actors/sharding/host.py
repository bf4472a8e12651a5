"""The one Ray actor class: a host of services, found by name, restarted without limit."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from actors.sharding import tracing, wire
from actors.sharding.lines import Address, Door
from actors.sharding.tenure import Tenure
from cluster.connections.spans import Span, Spans, spans_of
from configs.contracts.errors import DependencyUnavailable, PlatformError, ShardUnavailable
from configs.process import give_back_memory, process_space, quieten_collector, resident_bytes
from configs.settings import Settings, load_settings

log = structlog.get_logger(__name__)

START_RETRY_S = 0.5
BEAT_S = 0.5
LOOPBACK = "127.0.0.1"
SLEPT_S = 2.0
"""Silence of the event loop after which the keeper may have replaced this process: it waits for 5 s, of which up to 3
may have passed since its last probe was answered."""


class Service(Protocol):
    """A kind of shard inside a host. ``METHODS`` may be called with a batch and answer one value a command."""

    epoch: int

    @property
    def tenure(self) -> Tenure | None:
        """None: the service decides nothing, so an answer of a replaced one is only old."""
        ...

    @property
    def METHODS(self) -> tuple[str, ...]:  # noqa: N802  a constant of the implementing class
        ...

    async def start(self) -> None:
        """Restores everything; raises DependencyUnavailable while a server it needs does not answer."""
        ...

    async def close(self) -> None: ...

    def describe(self) -> dict[str, Any]: ...


class ShardHost:
    """Hosts the services of one actor slot. Restores in the background and answers "restoring" until it is done.

    Ray does not fence, and a client learns of a later epoch only from its answers. So a process that stood still for
    ``SLEPT_S`` answers nothing, however long ago it decided, before it has asked whether its epochs are the newest;
    if they are not, it ends.
    """

    def __init__(
        self, name: str, services: Mapping[str, Service], *, clock: Callable[[], float] = time.monotonic,
        end: Callable[[str], None] | None = None, spans: Spans | None = None, node: Callable[[], str] = lambda: LOOPBACK,
    ) -> None:
        """``end`` ends the process; it may return only in tests. ``node``: the address by which callers reach this one."""
        self._clock = clock
        self._end = end or die
        self._beat_at = clock()
        self._slept = 0
        self._confirmed = 0
        self._beating: asyncio.Task[None] | None = None
        self._name = name
        self._services = services
        self._spans = spans
        self._starting: asyncio.Task[None] | None = None
        self._ready = False
        self._restore_s = 0.0
        self._calls = 0
        self._commands = 0
        self._last_error = ""
        self._door = Door(self.carry, node)

    async def _start(self) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for name, service in self._services.items():
                tasks.create_task(self._restore(name, service))
        self._restore_s = time.monotonic() - began
        self._ready = True
        quieten_collector()
        give_back_memory()
        log.info("restored", actor=self._name, seconds=round(self._restore_s, 3))

    async def _restore(self, name: str, service: Service) -> None:
        while True:
            try:
                await service.start()
                return
            except DependencyUnavailable as error:
                self._last_error = str(error)
                log.warning("restore_waits", actor=self._name, service=name, reason=str(error))
                await asyncio.sleep(START_RETRY_S)

    def _ensure_started(self) -> None:
        if self._starting is None:
            self._beat_at = self._clock()
            self._beating = asyncio.create_task(self._keep_beating())
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(_end_process_on_failure)

    async def call(
        self, service: str, method: str, commands: list[Any], traces: Mapping[int, str] | None = None
    ) -> tuple[int, Sequence[Any]]:
        """(epoch, answers in order). A PlatformError among the answers belongs to that command.

        Epoch 0 with one ShardUnavailable each: not restored yet, nothing was carried out.
        """
        self._ensure_started()
        if not self._ready:
            return 0, [ShardUnavailable("shard is restoring", actor=self._name)] * len(commands)
        hosted = self._services[service]
        if method not in hosted.METHODS:
            raise PlatformError("no such method", service=service, method=method)
        self._calls += 1
        self._commands += len(commands)
        steps: Mapping[int, Span] = {}
        if traces and self._spans is not None:
            steps = tracing.begin(self._spans, f"{service}.{method}", traces, actor=self._name, batch=len(commands))
            traces = {**traces, **{index: step.traceparent for index, step in steps.items()}}
        tracing.bind(commands, traces or {})
        answers: Sequence[Any] = ()
        try:
            answers = await getattr(hosted, method)(commands)
        finally:
            tracing.end(steps, answers)
        if hosted.tenure is not None and not await self._awake():
            answers = [ShardUnavailable("this shard stood still and may have been replaced")] * len(commands)
        return hosted.epoch, answers

    async def _awake(self) -> bool:
        """Whether what was decided up to now was decided by the newest life of this actor."""
        self._beat()
        slept = self._slept
        if slept == self._confirmed:
            return True
        try:
            held = [
                service.tenure is None or await service.tenure.holds() for service in self._services.values()
            ]
        except DependencyUnavailable as error:
            log.warning("tenure_unknown", actor=self._name, reason=error.message)
            return False
        if not all(held):
            self._end("replaced while it stood still")
            return False
        self._confirmed = max(self._confirmed, slept)
        return slept == self._slept

    def _beat(self) -> None:
        now = self._clock()
        if now - self._beat_at > SLEPT_S:
            self._slept += 1
            log.warning("stood_still", actor=self._name, seconds=round(now - self._beat_at, 1))
        self._beat_at = now

    async def _keep_beating(self) -> None:
        while True:
            self._beat()
            await asyncio.sleep(BEAT_S)

    async def carry(self, request: bytes) -> bytes:
        """``call`` as it travels between processes (see ``wire``)."""
        return wire.packed(await self.call(*wire.unpacked(request)))

    async def door(self) -> Address:
        """Where callers open a line to this process."""
        return await self._door.address()

    async def ping(self) -> dict[str, Any]:
        """Liveness and figures for the keeper, status and metrics."""
        self._ensure_started()
        return {
            "actor": self._name,
            "pid": os.getpid(),
            "memory_bytes": resident_bytes(),
            "space": process_space(),
            "ready": self._ready,
            "restore_s": self._restore_s,
            "calls": self._calls,
            "commands": self._commands,
            "waits_for": "" if self._ready else self._last_error,
            "services": {name: service.describe() | {"epoch": service.epoch} for name, service in self._services.items()}
            if self._ready
            else {},
        }

    async def close(self) -> None:
        """Stops tails and flushes producers; the actor is not usable afterwards."""
        self._ready = False
        await self._door.close()
        if self._beating is not None:
            self._beating.cancel()
        async with asyncio.TaskGroup() as closing:
            for service in self._services.values():
                closing.create_task(service.close())


def _end_process_on_failure(task: asyncio.Task[None]) -> None:
    """A restore that fails for any other reason than a missing server cannot go on: die, be restarted, be seen."""
    if not task.cancelled() and task.exception() is not None:
        log.error("restore_failed", reason=repr(task.exception()))
        os._exit(1)


def die(reason: str) -> None:
    """Ends this process at once so that Ray restarts the actor, which replays.

    ``ray.actor.exit_actor()`` would count as intended and not be restarted.
    """
    log.error("shard_discarded", reason=reason)
    os._exit(1)


Build = Callable[[Settings, str, Spans | None], Mapping[str, Service]]


def remote_host() -> Any:
    """The Ray actor class; launch gives it name, lifetime and resources."""
    import ray

    class Host(ShardHost):
        def __init__(self, name: str, build: Build) -> None:
            settings = load_settings()
            spans = spans_of(settings, name)
            super().__init__(name, build(settings, name, spans), spans=spans, node=ray.util.get_node_ip_address)

    return ray.remote(max_restarts=-1, max_task_retries=0, max_concurrency=1_000)(Host)

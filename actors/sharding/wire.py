"""How a call to an actor travels: one bytes object each way.

Ray would pickle a list of commands with cloudpickle, whose hook is a Python call for every object in it; the C pickler
takes a fifth of the time, and bytes pass through Ray as they are.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import ray
import structlog

from actors.sharding.lines import Line
from configs.contracts.loading import NAMESPACE

log = structlog.get_logger(__name__)

PROTOCOL = 5
AGAIN_S = 5.0
"""Seconds of calls through Ray before another attempt to open a line where none could be opened."""


class Actor(Protocol):
    """What a caller needs of a host."""

    async def call(
        self, service: str, method: str, commands: list[Any], traces: Mapping[int, str] | None = None
    ) -> tuple[int, Sequence[Any]]:
        """See ``actors.sharding.host.ShardHost.call``. Raises RayError, LineError."""
        ...


class RemoteActor:
    """A host in another process, by its Ray handle."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def call(
        self, service: str, method: str, commands: list[Any], traces: Mapping[int, str] | None = None
    ) -> tuple[int, Sequence[Any]]:
        """``ShardHost.call`` there. Raises RayError, LineError: it may have been carried out."""
        request = pickle.dumps((service, method, commands, traces), PROTOCOL)
        answer: tuple[int, Sequence[Any]] = pickle.loads(await self._carry(request))  # noqa: S301  a process of ours
        return answer

    async def open(self) -> None:
        """Makes ready for calls. Raises RayError."""

    async def _carry(self, request: bytes) -> bytes:
        answer: bytes = await self._handle.carry.remote(request)
        return answer


class LinedActor(RemoteActor):
    """The same over a line of its own, for one event loop. One that is lost is opened again by the next call."""

    def __init__(self, handle: Any) -> None:
        super().__init__(handle)
        self._line: Line | None = None
        self._opening = asyncio.Lock()
        self._not_before = 0.0

    async def open(self) -> None:
        """See ``RemoteActor.open``."""
        await self._opened()

    async def _carry(self, request: bytes) -> bytes:
        line = self._line if self._line is not None and self._line.open else await self._opened()
        return await (super()._carry(request) if line is None else line.ask(request))

    async def _opened(self) -> Line | None:
        """A line; None: the actor's port cannot be reached from here. Raises RayError: the actor does not answer."""
        loop = asyncio.get_running_loop()
        async with self._opening:
            if self._line is not None and self._line.open:
                return self._line
            if loop.time() < self._not_before:
                return None
            try:
                self._line = await Line.to(await self._handle.door.remote())
            except (AttributeError, OSError, TimeoutError) as error:  # an actor of an earlier release has no door
                log.warning("line_not_opened", reason=repr(error))
                self._not_before = loop.time() + AGAIN_S
                return None
            return self._line

    def __del__(self) -> None:
        if self._line is not None:
            with suppress(RuntimeError):  # its loop has ended, and the connection with it
                self._line.close()


def find_actor(name: str) -> RemoteActor:
    """The named actor of this platform. Raises ValueError: there is none."""
    return LinedActor(ray.get_actor(name, NAMESPACE))


def unpacked(request: bytes) -> tuple[str, str, list[Any], Mapping[int, str] | None]:
    """(service, method, commands, traces) of a request that ``RemoteActor`` made."""
    found: tuple[str, str, list[Any], Mapping[int, str] | None] = pickle.loads(request)  # noqa: S301  a process of ours
    return found


def packed(answer: tuple[int, Sequence[Any]]) -> bytes:
    return pickle.dumps(answer, PROTOCOL)

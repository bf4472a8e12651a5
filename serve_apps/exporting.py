"""Handing the figures of one replica on, every few seconds: requests themselves only count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from cluster.connections.metrics import EXPORT_EVERY_S
from configs.contracts.metrics import Sample

log = structlog.get_logger(__name__)


class Exporting:
    """Publishes what ``samples`` says until it is closed."""

    def __init__(
        self, samples: Callable[[], Iterable[Sample]], publish: Callable[[Iterable[Sample]], None], every_s: float = EXPORT_EVERY_S
    ) -> None:
        self._samples = samples
        self._publish = publish
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="exporting")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                self._publish(self._samples())
            except (KeyError, RuntimeError, TypeError, ValueError):
                # The next ones may be handed on; requests must not suffer from figures.
                log.exception("figures_not_exported")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

"""What one thread of a writer asks payment providers for, again and again: the loop, its providers and its producer."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from cluster.connections.payments import Providers
from configs.contracts.errors import PlatformError
from configs.settings import Settings
from writers.consumers.deriving import Appending

log = structlog.get_logger(__name__)
T = TypeVar("T")


class ProviderLooks:
    """Subclasses say what one ``look`` does. One of the writers runs it; two that do at once ask and append the same."""

    def __init__(
        self, settings: Settings, name: str, of: str, *, every_s: float, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._settings = settings
        self._of = of
        self._every_s = every_s
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._providers = Providers(settings)
        self._appending = Appending(settings, f"{name}-{of}")
        self.figures: Counter[str] = Counter()
        """What was done, by the subclass; ``failed``: looks that a server or provider which was away cut short."""

    def look(self) -> int:
        """One look; returns how much it found.

        For a thread without a running event loop. Raises DependencyUnavailable, ProviderMisconfigured.
        """
        raise NotImplementedError

    def run(self, stopping: threading.Event, *, fatal: Callable[[str], None]) -> None:
        """Looks until ``stopping``; a provider or server that is away is asked again next time.

        ``fatal`` is told of a fault that no waiting mends.
        """
        try:
            while not stopping.wait(self._every_s):
                try:
                    self.look()
                except PlatformError as error:
                    self.figures["failed"] += 1
                    log.warning("look_failed", of=self._of, reason=str(error))
        except Exception as error:  # the thread's top: the writer must not go on without it
            log.exception("thread_failed", thread=self._of)
            fatal(f"{self._of}: {error!r}")
            raise
        finally:
            self.close()

    def close(self) -> None:
        if self._loop is not None:
            self._loop.run_until_complete(self._providers.close())
            self._loop.close()
            self._loop = None
        self._appending.close()

    def describe(self) -> Mapping[str, int]:
        return dict(self.figures)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        self._loop = self._loop or asyncio.new_event_loop()
        return self._loop.run_until_complete(work)

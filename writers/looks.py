"""What threads of a writer look for again and again: the loop, and for payments the providers and the producer."""

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


def keep_looking(
    of: str, look: Callable[[], object], every_s: float, stopping: threading.Event, *, fatal: Callable[[str], None],
    cut_short: Callable[[], None] = lambda: None,
) -> None:
    """Looks, and again ``every_s`` after each, until ``stopping``; a server that is away is asked again next time.

    ``cut_short`` hears of each such time, ``fatal`` of a fault that no waiting mends, which is raised as well.
    """
    while not stopping.is_set():
        try:
            look()
        except PlatformError as error:
            cut_short()
            log.warning("look_failed", of=of, reason=str(error))
        except Exception as error:  # the thread's top: the writer must not go on without it
            log.exception("thread_failed", thread=of)
            fatal(f"{of}: {error!r}")
            raise
        stopping.wait(every_s)


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
            if not stopping.wait(self._every_s):
                keep_looking(self._of, self.look, self._every_s, stopping, fatal=fatal, cut_short=self._failed)
        finally:
            self.close()

    def _failed(self) -> None:
        self.figures["failed"] += 1

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

"""Where media are processed: as Ray tasks on the platform, in threads where there is no Ray."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import MediaRejected
from configs.contracts.media import MediaRecord
from configs.settings import Settings, load_settings
from writers.media.block_lists import BlockLists
from writers.media.processing import Outcome, Processing

if TYPE_CHECKING:
    from ray.exceptions import RayError

log = structlog.get_logger(__name__)

CPU_SHARE: Final = 0.1
"""For placement only: tasks must fit beside actors and replicas on a small machine; ``media.at_once`` bounds them."""
RETRIES: Final = 2
NICENESS: Final = 15
"""Of a processing worker: whoever waits for an answer comes first."""
TASK_FACTOR: Final = 6
"""Seconds on the wall, for each CPU second that processing may take, after which a task is given up."""


class Runner(Protocol):
    """Processes a few media at once."""

    def run(self, records: Sequence[MediaRecord], lists: BlockLists) -> list[Outcome]:
        """The outcome of each, in order. Raises DependencyUnavailable: come again."""
        ...

    def close(self) -> None: ...


class ThreadRunner:
    """A thread, and a decoding process, for each of a few at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.media.at_once, thread_name_prefix="media")
        self._local = threading.local()
        self._made: list[Processing] = []

    def run(self, records: Sequence[MediaRecord], lists: BlockLists) -> list[Outcome]:
        running = [self._threads.submit(lambda record: self._mine().process(record, lists), record) for record in records]
        wait(running)  # before one of them fails this call, so that none is begun twice at once
        return [each.result() for each in running]

    def _mine(self) -> Processing:
        if not hasattr(self._local, "processing"):
            self._local.processing = Processing(self._settings)
            self._made.append(self._local.processing)
        found: Processing = self._local.processing
        return found

    def close(self) -> None:
        self._threads.shutdown(wait=True)
        for processing in self._made:
            processing.close()


_MINE: dict[str, Processing] = {}


def process_one(record: MediaRecord, lists: BlockLists) -> Outcome | DependencyUnavailable:
    """The Ray task; its worker keeps one decoding process for all that it gets."""
    if "processing" not in _MINE:
        os.nice(NICENESS)
        _MINE["processing"] = Processing(load_settings())
    try:
        return _MINE["processing"].process(record, lists)
    except DependencyUnavailable as error:
        return error


def failed(record: MediaRecord, error: RayError) -> MediaRejected | DependencyUnavailable:
    """What follows from a task without an answer: only a file whose workers died, each time anew, is to blame itself."""
    from ray.exceptions import WorkerCrashedError

    log.error("media_task_failed", media=record.media_id, kind=type(error).__name__, exc_info=error)
    if isinstance(error, WorkerCrashedError):
        return MediaRejected(media_id=record.media_id, owner_id=record.owner_id, reason="unreadable")
    return DependencyUnavailable("media tasks fail", kind=type(error).__name__)


class RayRunner:
    """A Ray task for each media. A worker that dies is replaced, and its media processed anew, three times at most."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lists: tuple[BlockLists, Any] | None = None

    def run(self, records: Sequence[MediaRecord], lists: BlockLists) -> list[Outcome]:
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        if self._lists is None or self._lists[0] is not lists:
            self._lists = (lists, ray.put(lists))
        task = ray.remote(num_cpus=CPU_SHARE, max_retries=RETRIES)(process_one)
        waiting = [(record, task.remote(record, self._lists[1])) for record in records]
        outcomes: list[Outcome] = []
        unavailable: DependencyUnavailable | None = None
        for record, reference in waiting:
            media = self._settings.media
            cpu_s = media.image_timeout_s if record.kind == "image" else media.video_timeout_s
            try:
                found = ray.get(reference, timeout=TASK_FACTOR * cpu_s * len(records))
            except GetTimeoutError as error:
                for _, each in waiting:
                    ray.cancel(each, force=True)
                raise DependencyUnavailable("media tasks do not end") from error
            except RayError as error:
                found = failed(record, error)
            if isinstance(found, DependencyUnavailable):
                unavailable = found
            else:
                outcomes.append(found)
        if unavailable is not None:  # raised after all have ended, so that none is begun twice at once
            raise unavailable
        return outcomes

    def close(self) -> None:
        """Tasks hold nothing of this process."""


def runner_of(settings: Settings) -> Runner:
    """Ray's, inside a platform."""
    import ray

    return RayRunner(settings) if ray.is_initialized() else ThreadRunner(settings)

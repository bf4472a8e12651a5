"""Rows on demand: many keys in one loader call, each key asked for once however many commands wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from configs.contracts.errors import DependencyUnavailable, ShardUnavailable

LoadRows = Callable[[Sequence[str]], Awaitable[Mapping[str, object]]]

KEYS_A_CALL = 512
WAIT_S = 1.0
"""Longest wait of a command for its rows. Loading 512 people takes some 20 ms; past it the answer is 503."""
KEYS_WAITING = 20_000


class RowsOnDemand:
    """Brings rows of missing keys into memory through ``load(key, row)``, outside of any turn."""

    def __init__(self, load_rows: LoadRows, load: Callable[[str, object | None], None]) -> None:
        self._load_rows = load_rows
        self._load = load
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._queue: list[str] = []
        self._task: asyncio.Task[None] | None = None

    async def ensure(self, keys: Sequence[str]) -> None:
        """Returns when the rows of all keys are in memory.

        Raises ShardUnavailable: the loader did not answer in time, or too many keys wait already.
        """
        futures = []
        for key in keys:
            future = self._waiting.get(key)
            if future is None:
                if len(self._waiting) >= KEYS_WAITING:
                    raise ShardUnavailable("too many rows are being loaded", waiting=len(self._waiting))
                future = self._waiting[key] = asyncio.get_running_loop().create_future()
                future.add_done_callback(_retrieved)
                self._queue.append(key)
            futures.append(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        done, late = await asyncio.wait(set(futures), timeout=WAIT_S)
        if late:
            raise ShardUnavailable("rows were not loaded in time", keys=len(late))
        for future in done:
            error = future.exception()
            if error is not None:
                raise ShardUnavailable("rows could not be loaded") from error

    async def _run(self) -> None:
        while self._queue:
            keys, self._queue = self._queue[:KEYS_A_CALL], self._queue[KEYS_A_CALL:]
            try:
                rows = await self._load_rows(keys)
            except DependencyUnavailable as error:
                for key in keys:
                    self._waiting.pop(key).set_exception(error)
                continue
            except BaseException:
                for key in keys:
                    self._waiting.pop(key).cancel()
                raise
            for key in keys:
                self._load(key, rows.get(key))
                self._waiting.pop(key).set_result(None)


def _retrieved(future: asyncio.Future[None]) -> None:
    """Marks an exception as seen: every waiter may have left at its deadline."""
    if not future.cancelled():
        future.exception()

"""A bounded set of PostgreSQL connections for reading, kept by threads and renewed after a failure."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import structlog

from cluster.connections.postgres import translated
from configs.contracts.errors import DependencyUnavailable
from configs.settings import Settings
from writers.connections import Connection, open_rows

log = structlog.get_logger(__name__)

R = TypeVar("R")

WAITING: Final = 512
"""Calls that wait for a connection; past it they fail at once, as every one behind a stopped server would."""
DEADLINE_S: Final = 8.0
"""Longest wait of a call, under the 10 s that its caller waits."""
STATEMENT_TIMEOUT_MS: Final = 20_000
REPLICA_DEADLINE_S: Final = 2.0
"""A replica that has not answered for so long is given up: one that stands still never would."""
REPLICA_RESTS_S: Final = 5.0
"""It is not asked again for so long."""
LOOK_S: Final = 0.05


class RowReader:
    """Runs statements on at most ``settings.writing.connections`` connections to the primary and as many to a replica.

    Rows read from a replica are at least as new as everything ``fresh`` has ever returned: a replica that has not
    replayed that far, or does not answer, is passed over for the primary.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._threads = ThreadPoolExecutor(settings.writing.connections, thread_name_prefix=name)
        self._kept = threading.local()
        self._waiting = 0
        self._replicas = bool(settings.database_replica_urls)
        self._replica_again_s = float("-inf")
        self._at_least: str | None = None
        """WAL position that a replica must have replayed; None: not asked yet since this process began."""
        self.statements = 0
        self.reconnects = 0

    async def fresh(self, work: Callable[[Connection], R]) -> R:
        """The result of ``work`` on the primary. Raises DependencyUnavailable: no answer in time."""
        return await self._run(work, fresh=True)

    async def rows(self, work: Callable[[Connection], R]) -> R:
        """The result of ``work`` on a replica that is recent enough, or on the primary. Raises DependencyUnavailable."""
        return await self._run(work, fresh=not self._replicas)

    async def _run(self, work: Callable[[Connection], R], *, fresh: bool) -> R:
        if self._waiting >= WAITING:
            raise DependencyUnavailable("too many reads wait for PostgreSQL", waiting=self._waiting)
        self._waiting += 1
        self.statements += 1
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._perform, work, fresh)
        call.add_done_callback(self._finished)
        try:
            return await asyncio.wait_for(asyncio.shield(call), DEADLINE_S)
        except TimeoutError as error:
            raise DependencyUnavailable("PostgreSQL did not answer in time", deadline_s=DEADLINE_S) from error

    def _finished(self, call: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not call.cancelled():
            call.exception()

    def _perform(self, work: Callable[[Connection], R], fresh: bool) -> R:
        for again in (True, False):
            conn = None if fresh else self._recent_replica()
            primary = conn is None
            try:
                with translated():
                    if conn is None:
                        conn = self._connection("primary")
                    if primary:
                        result = work(conn)
                    else:
                        with limited(conn, REPLICA_DEADLINE_S):
                            result = work(conn)
                    if primary and fresh and self._replicas:
                        self._at_least = written(conn)
                    return result
            except DependencyUnavailable as error:
                self._drop("primary" if primary else "replica")
                if not primary:
                    self._replica_again_s = time.monotonic() + REPLICA_RESTS_S
                if not again:
                    raise
                self.reconnects += 1
                log.info("reconnects", name=self._name, reason=error.message)
        raise AssertionError("unreachable")

    def _recent_replica(self) -> Connection | None:
        """A replica that holds everything that was ever told; None: use the primary."""
        if time.monotonic() < self._replica_again_s:
            return None
        if self._at_least is None:
            self._at_least = written(self._connection("primary"))
        try:
            conn = self._connection("replica")
            with translated(), limited(conn, REPLICA_DEADLINE_S):
                if replayed(conn, self._at_least):
                    return conn
                if _is_replica(conn):
                    return None
        except DependencyUnavailable:
            pass
        # It does not answer, or the primary did in its place.
        self._drop("replica")
        self._replica_again_s = time.monotonic() + REPLICA_RESTS_S
        return None

    def _connection(self, kind: str) -> Connection:
        conn: Connection | None = getattr(self._kept, kind, None)
        if conn is None or conn.closed:
            conn = open_rows(self._settings, self._name, replica=kind == "replica")
            conn.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
            setattr(self._kept, kind, conn)
        return conn

    def _drop(self, kind: str) -> None:
        conn: Connection | None = getattr(self._kept, kind, None)
        if conn is not None:
            setattr(self._kept, kind, None)
            conn.close()

    async def close(self) -> None:
        """Closes every connection once its present statement is done."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        everyone = threading.Barrier(self._threads._max_workers)

        def close_mine() -> None:
            everyone.wait(DEADLINE_S)
            self._drop("primary")
            self._drop("replica")

        for _ in range(self._threads._max_workers):
            self._threads.submit(close_mine)
        self._threads.shutdown(wait=True)


def written(conn: Connection) -> str:
    """How far the primary's write-ahead log goes: whatever an earlier statement saw stands below it."""
    with translated():
        row = conn.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    return str(row[0]) if row is not None else "0/0"


def replayed(conn: Connection, at_least: str) -> bool:
    """Whether the server is a replica that holds everything below a position of the primary's log."""
    with translated():
        row = conn.execute(
            "SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= %s::pg_lsn", (at_least,)
        ).fetchone()
    return row is not None and bool(row[0])


@contextmanager
def limited(conn: Connection, seconds: float) -> Iterator[None]:
    """Breaks the connection, so that what waits on it fails, when the body has not ended in time."""
    handle = socket.socket(fileno=os.dup(conn.fileno()))

    def give_up() -> None:
        with suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        handle.close()


def open_recent(settings: Settings, name: str, at_least: str | None = None) -> Connection:
    """A connection to a replica that holds everything below the position (without one: everything that the primary holds
    now), or to the primary when none does within ``writing.replica_wait_s``.

    So what is read is never older than the call. Raises DependencyUnavailable: nobody answers.
    """
    if settings.database_replica_urls:
        if at_least is None:
            with open_rows(settings, name) as primary:
                at_least = written(primary)
        conn = open_rows(settings, name, replica=True)
        if _catches_up(conn, at_least, settings.writing.replica_wait_s):
            return conn
        log.info("replica_passed_over", name=name)
        conn.close()
    return open_rows(settings, name)


def _is_replica(conn: Connection) -> bool:
    row = conn.execute("SELECT pg_is_in_recovery()").fetchone()
    return row is not None and bool(row[0])


def _catches_up(conn: Connection, at_least: str, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    try:
        with translated(), limited(conn, wait_s + REPLICA_DEADLINE_S):
            while not replayed(conn, at_least):
                if time.monotonic() >= deadline or not _is_replica(conn):
                    return False
                time.sleep(LOOK_S)
            return True
    except DependencyUnavailable:
        return False

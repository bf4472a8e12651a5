"""A reader of the log that is behind reads the next batch while one is being stored, and only then."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from configs.contracts.errors import LogUnavailable
from writers.loops import ReadingAhead

WITHIN_S = 20.0
LIMIT = 3


class Said:
    """A message of the log as the client gives it."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def topic(self) -> str:
        return "said"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return b"key"

    def value(self) -> bytes:
        return b"value"

    def headers(self) -> None:
        return None


class Log:
    """Hands out batches of the given sizes, None: it fails; nobody may ask while somebody reads."""

    def __init__(self, *sizes: int | None) -> None:
        self._sizes: Iterator[int | None] = iter(sizes)
        self._turn = threading.Lock()
        self._offset = 0
        self.reads = threading.Semaphore(0)
        self.readers: list[str] = []

    def read(self) -> Sequence[Said]:
        assert self._turn.acquire(blocking=False), "two read at once"
        try:
            self.readers.append(threading.current_thread().name)
            size = next(self._sizes, 0)
            if size is None:
                raise LogUnavailable("no answer")
            found = [Said(self._offset + number) for number in range(size)]
            self._offset += size
            return found
        finally:
            self._turn.release()
            self.reads.release()

    def wait_read(self) -> None:
        assert self.reads.acquire(timeout=WITHIN_S)


def reading(log: Log) -> ReadingAhead:
    return ReadingAhead(log.read, LIMIT, "ahead")


def offsets(ahead: ReadingAhead, *, last: bool = False) -> list[int]:
    return [record.offset for record in ahead.take(last=last)]


def test_after_a_full_batch_the_next_is_read_by_another_thread_and_all_come_in_order() -> None:
    log = Log(3, 3, 2, 1)
    with reading(log) as ahead:
        assert offsets(ahead) == [0, 1, 2]
        log.wait_read()
        log.wait_read()  # without anybody asking
        assert [offsets(ahead), offsets(ahead), offsets(ahead), offsets(ahead)] == [[3, 4, 5], [6, 7], [8], []]
    here = threading.current_thread().name
    assert [reader == here for reader in log.readers] == [True, False, False, True, True]


def test_who_is_not_behind_reads_only_when_asked() -> None:
    log = Log(2, 3, 3)
    with reading(log) as ahead:
        assert offsets(ahead) == [0, 1]
        assert offsets(ahead, last=True) == [2, 3, 4]
    assert len(log.readers) == 2


def test_a_failure_while_reading_ahead_is_raised_by_the_next_take_and_the_one_after_reads_again() -> None:
    log = Log(3, None, 1)
    with reading(log) as ahead:
        assert offsets(ahead) == [0, 1, 2]
        with pytest.raises(LogUnavailable):
            ahead.take()
        assert offsets(ahead) == [3]


def test_what_is_discarded_is_never_handed_out_not_even_its_failure() -> None:
    for size in (3, None):
        log = Log(3, size, 2)
        with reading(log) as ahead:
            assert offsets(ahead) == [0, 1, 2]
            ahead.discard()
            assert len(log.readers) == 2
            assert offsets(ahead) == ([6, 7] if size else [3, 4])

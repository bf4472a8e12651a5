"""The thread that makes people's files goes on, whatever one file met."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from queue import Queue

import psycopg
import pytest

from configs.settings import load_settings
from writers.exporting import Exports

DEADLINE_S = 30.0


class Failing(Exports):
    """Every file of ``fails`` meets that error."""

    def __init__(self, fails: Exception) -> None:
        super().__init__(load_settings("test"))
        self._fails = fails
        self.made: Queue[str] = Queue()

    def _ready(self, user_ids: Sequence[str]) -> list[str]:
        return []

    def _make(self, user_id: str) -> None:
        self.made.put(user_id)
        if user_id == "fails":
            raise self._fails


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space"), psycopg.errors.InsufficientPrivilege("no")])
def test_a_file_that_cannot_be_made_holds_up_no_other_and_may_be_asked_for_again(error: Exception) -> None:
    exports = Failing(error)
    exports.ask(["fails", "one"])
    assert [exports.made.get(timeout=DEADLINE_S) for _ in range(2)] == ["fails", "one"]
    exports.ask(["fails"])
    assert exports.made.get(timeout=DEADLINE_S) == "fails"
    exports.close()


def test_a_thread_that_ended_is_followed_by_another() -> None:
    exports = Failing(OSError())
    exports._thread = threading.Thread(target=int)
    exports._thread.start()
    exports._thread.join()
    exports.ask(["one"])
    assert exports.made.get(timeout=DEADLINE_S) == "one"
    exports.close()

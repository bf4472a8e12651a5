"""Who may run beside whom: the engines' tests share one machine with another worker."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def _held(tmp_path_factory: pytest.TempPathFactory, how: int) -> Iterator[None]:
    """The machine, among the workers of this run."""
    path: Path = tmp_path_factory.getbasetemp().parent / "machine.lock"
    with path.open("a") as lock:
        fcntl.flock(lock, how)
        yield


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Takes much of the machine for the whole module."""
    with _held(tmp_path_factory, fcntl.LOCK_SH):
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Waits until nothing heavy runs, and keeps it from beginning."""
    with _held(tmp_path_factory, fcntl.LOCK_EX):
        yield

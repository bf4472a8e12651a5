"""The people table is made anew period after period, and a period that failed stops nothing."""

from __future__ import annotations

import threading

import pytest

from cluster.launch.ranking import refreshing
from configs.contracts.errors import DependencyUnavailable
from configs.settings import Settings, load_settings


def configured(period_s: int) -> Settings:
    settings = load_settings("test")
    return settings.model_copy(update={"ranking": settings.ranking.model_copy(update={"refresh_period_s": period_s})})


def test_a_failed_refresh_waits_for_the_next_and_stopping_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stopping, asked = threading.Event(), []

    def refresh(settings: Settings) -> str:
        asked.append(settings.ranking.refresh_period_s)
        if len(asked) == 1:
            raise DependencyUnavailable("the rows do not answer")
        stopping.set()
        return "table"

    monkeypatch.setattr(refreshing, "refresh", refresh)
    monkeypatch.setattr(refreshing, "FIRST_AFTER_S", 0.01)
    refreshing.keep_refreshing(configured(1), stopping)  # returns once it was told to stop
    assert asked == [1, 1]


def test_without_a_period_nothing_runs() -> None:
    before = set(threading.enumerate())
    refreshing.start_refreshing(configured(0), threading.Event())
    assert set(threading.enumerate()) <= before, "those of other tests may end meanwhile"

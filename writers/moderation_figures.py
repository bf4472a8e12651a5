"""How much waits for moderators, and how much of it past its deadline: for the metric that alarms and for the status."""

from __future__ import annotations

import threading
from typing import Final

import structlog

from cluster.connections.postgres import translated
from configs.contracts.errors import DependencyUnavailable
from configs.settings import Settings
from writers.connections import open_rows
from writers.loads.moderation import waiting

log = structlog.get_logger(__name__)

EVERY_S: Final = 30.0


def moderation_figures(settings: Settings) -> dict[str, int]:
    """``waiting`` and ``overdue``. Raises DependencyUnavailable."""
    with open_rows(settings, "moderation") as conn, translated():
        count, overdue = waiting(conn)
    return {"waiting": count, "overdue": overdue}


def keep_counting(settings: Settings, stopping: threading.Event, figures: dict[str, int]) -> None:
    """Keeps ``figures`` current until ``stopping``; what is overdue is also logged, each time."""
    while not stopping.is_set():
        try:
            figures.update(moderation_figures(settings))
        except DependencyUnavailable as error:
            log.warning("moderation_not_counted", reason=str(error))
        if figures.get("overdue"):
            log.error("moderation_overdue", **figures)
        stopping.wait(EVERY_S)

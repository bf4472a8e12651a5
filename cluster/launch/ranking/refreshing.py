"""The people table made anew every so often, beside the runtime."""

from __future__ import annotations

import threading
from typing import Final

import structlog

from cluster.launch.ranking import job
from cluster.launch.ranking.operating import RankingOperator
from configs.contracts.errors import PlatformError
from configs.settings import Settings

log = structlog.get_logger(__name__)

FIRST_AFTER_S: Final = 30.0
"""The start of a platform has the machine to itself."""


def refresh(settings: Settings) -> str:
    """Makes a table on the cluster and hands it to the shards; its version. Raises PlatformError: the old one stays."""
    version = str(job.on_cluster(settings.data_dir, "refresh", {})["version"])
    operator = RankingOperator(settings)
    for caution in operator.cautions(operator.use_table(version)):
        log.warning("people_table_does_not_fit", reason=caution)
    return version


def keep_refreshing(settings: Settings, stopping: threading.Event) -> None:
    """Refreshes every ``ranking.refresh_period_s`` until ``stopping``; a failure waits for the next time."""
    wait_s = min(FIRST_AFTER_S, settings.ranking.refresh_period_s)
    while not stopping.wait(wait_s):
        wait_s = settings.ranking.refresh_period_s
        try:
            log.info("people_table_refreshed", version=refresh(settings))
        except PlatformError as error:
            log.warning("people_table_not_refreshed", reason=str(error))


def start_refreshing(settings: Settings, stopping: threading.Event) -> None:
    """Begins the thread when the settings ask for it. It ends with the process."""
    if settings.ranking.refresh_period_s:
        threading.Thread(target=keep_refreshing, args=(settings, stopping), name="refreshing", daemon=True).start()

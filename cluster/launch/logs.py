"""Structured logging of every process that launch starts: JSON lines on standard output."""

from __future__ import annotations

import logging

import structlog

from configs.settings import load_settings

SETUP_HOOK = "cluster.launch.logs.configure"
"""Import path for Ray's ``worker_process_setup_hook``: runs in every worker before user code."""


def configure() -> None:
    """Event names are constants, values are fields; level from the settings. Call once a process."""
    level = logging.getLevelNamesMapping().get(load_settings().log_level.upper(), logging.INFO)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )

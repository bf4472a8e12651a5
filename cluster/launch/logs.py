"""Structured logging of every process that launch starts."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

from configs.settings import load_settings
from configs.trace_context import add_trace

SETUP_HOOK = "cluster.launch.logs.configure"
"""Import path for Ray's ``worker_process_setup_hook``: runs in every worker before user code."""


def configure() -> None:
    """JSON lines at the settings' level: event names are constants, values are fields. Call once a process."""
    _configure(load_settings().log_level, structlog.processors.JSONRenderer(), sys.stdout)


def for_people() -> None:
    """Warnings and errors only, as text on standard error: for commands, which say themselves what they do."""
    _configure("WARNING", structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()), sys.stderr)


def _configure(level: str, renderer: structlog.typing.Processor, output: TextIO) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
        ),
        logger_factory=structlog.PrintLoggerFactory(output),
        cache_logger_on_first_use=True,
    )

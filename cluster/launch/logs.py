"""Structured logging of every process that launch starts."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from typing import Any, Final, TextIO, cast

import structlog

from configs.contracts.errors import PlatformError
from configs.settings import load_settings
from configs.trace_context import add_trace

SETUP_HOOK = "cluster.launch.logs.configure"
"""Import path for Ray's ``worker_process_setup_hook``: runs in every worker before user code."""


OURS: Final = (PlatformError, AttributeError, ImportError, NameError, TypeError, OSError)
"""Errors whose message tells of the program, never of a value."""


class Lossy:
    """A text stream that drops what cannot be written: a full disk must end no process."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def write(self, text: str) -> int:
        with suppress(OSError):
            return self._output.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._output.flush()


def configure() -> None:
    """JSON lines at the settings' level: event names are constants, values are fields. Call once a process."""
    _configure(load_settings().log_level, structlog.processors.JSONRenderer(), sys.stdout)


def for_people() -> None:
    """Warnings and errors only, as text on standard error: for commands, which say themselves what they do."""
    _configure("WARNING", structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()), sys.stderr)


def format_exception(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A structlog processor: the traceback as ``exception``, without what foreign errors say.

    Validators, drivers and conversions quote the value that they refuse, which may be anybody's text.
    """
    given = line.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        parts: list[str] = []
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            says = f": {error}" if isinstance(error, OURS) else ""
            parts.append("".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__name__}{says}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        line["exception"] = "\ncaused by:\n".join(parts)
    return line


def _configure(level: str, renderer: structlog.typing.Processor, output: TextIO) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            format_exception,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
        ),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, Lossy(output))),
        cache_logger_on_first_use=True,
    )

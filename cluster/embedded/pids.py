"""Whether a process that somebody wrote down still runs: a pid alone may be another's by now."""

from __future__ import annotations

import functools
from pathlib import Path

import psutil


def began(pid: int) -> str:
    """When a process began, which tells it from another that is given its pid later; empty: it does not run.

    Ticks since a boot: seconds since 1970 would be counted from a time of the boot that moves when the clock is set.
    """
    if not (boot := _boot()):
        # No Linux: the kernel keeps the second itself.
        try:
            return str(psutil.Process(pid).create_time())
        except (psutil.Error, ValueError):
            return ""
    try:
        return f"{boot}/{Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    except OSError:
        return ""


def still_runs(pid: int, since: str | float) -> bool:
    """Whether the process is there that ``began`` told this of, be it stopped or waiting to be reaped; empty or 0: unknown, no.

    A number is what earlier releases wrote down: Unix seconds, compared within one.
    """
    if isinstance(since, str):
        return bool(since) and began(pid) == since
    try:
        return abs(psutil.Process(pid).create_time() - since) < 1
    except (psutil.Error, ValueError):
        return False


@functools.cache
def _boot() -> str:
    """Names this boot of this kernel; empty where there is none to ask."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""

"""What long-lived processes of the platform set for themselves when they have started."""

from __future__ import annotations

import functools
import gc
import os
from pathlib import Path


def quieten_collector() -> None:
    """Lets the garbage collector look rarely: batches make no cycles, and it took 40 % of a writer's CPU.

    Call it when everything that stays is there: what is alive now is not looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the kernel does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@functools.cache
def process_space() -> str:
    """Names the kernel and the PID namespace in which this process has its pid: elsewhere that number is another's."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        # No Linux: one machine, one space.
        return "local"

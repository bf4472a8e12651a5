"""What long-lived processes of the platform set for themselves when they have started."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import threading
import time
from pathlib import Path

GIVE_BACK_EVERY_S = 60.0
LARGE_BYTES = 128 * 1024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def quieten_collector() -> None:
    """Lets the garbage collector look rarely: batches make no cycles, and it took 40 % of a writer's CPU.

    Call it when everything that stays is there: what is alive now is not looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def map_large_buffers(from_bytes: int = LARGE_BYTES) -> None:
    """Takes buffers from ``from_bytes`` on from the system, each for itself, and gives them back when they are free; also what is free at
    the end of a heap, once it is as much.

    For processes that work in batches, where a page fault more costs nobody an answer: between what stays, buffers of a megabyte leave
    holes of ever other sizes, and the end of the heap that threads share grows to their largest batches, where no ``malloc_trim``
    looks. Nothing happens where the C library has no ``mallopt``.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, from_bytes)
        mallopt(_M_TRIM_THRESHOLD, from_bytes)


@functools.cache
def give_back_memory(every_s: float = GIVE_BACK_EVERY_S, *, cycles: bool = False) -> None:
    """Lets a thread give free memory of the C library back to the system now and then, as long as the process lives. Repeated, it does nothing.

    ``cycles``: collects garbage before, as the collector that ``quieten_collector`` made rare will not for hours; for processes with
    little that lives, since all of it is looked at.
    Left alone the library keeps what the largest batch took (``MALLOC_TRIM_THRESHOLD_``, and whatever lies below what is in use): 2 to 16 MiB
    of a shard, a writer or a replica after an hour. Nothing happens where the library has no ``malloc_trim``.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return

    def run() -> None:
        while True:
            time.sleep(every_s)
            if cycles:
                gc.collect()
            trim(0)

    threading.Thread(target=run, name="give-back-memory", daemon=True).start()


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

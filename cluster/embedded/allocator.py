"""jemalloc from Ray's wheel, for servers that were built with the C library's allocator."""

from __future__ import annotations

import os
from pathlib import Path

from cluster.embedded.process import wheel

GIVES_BACK = "narenas:1,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0"
"""What is free goes back to the system after a second, also when nothing is allocated any more."""


def library() -> Path | None:
    """The library, where the wheel of this platform has it."""
    found = wheel("ray") / "core" / "libjemalloc.so"
    return found if found.exists() else None


def environment() -> dict[str, str]:
    """The environment of a server that shall have it; this process's own where it is not there."""
    found = library()
    return dict(os.environ) if found is None else os.environ | {"LD_PRELOAD": str(found), "MALLOC_CONF": GIVES_BACK}

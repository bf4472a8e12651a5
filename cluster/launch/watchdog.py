"""Ends a platform's Ray processes when its supervisor is gone: ``python -m cluster.launch.watchdog DATA_DIR``.

The kernel kills the supervisor's own children with it, but Ray's agents and stopped workers would outlive them.
Reads standard input, a pipe whose other end only the supervisor holds; its end is the supervisor's.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cluster.launch.ray_head import end_leftovers


def main() -> None:
    sys.stdin.buffer.read()
    end_leftovers(Path(sys.argv[1]))


if __name__ == "__main__":
    main()

"""Decoding foreign files in a process of its own: whatever a file does to its decoder, it does it there."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from configs.contracts.errors import DependencyUnavailable
from configs.contracts.media import MediaKind
from configs.settings import Media
from writers.media.child import NO_PROCESS, RESULT

log = structlog.get_logger(__name__)

START_S: Final = 60.0
WALL_FACTOR: Final = 4
"""Seconds on the wall for one CPU second, on a machine that has others to serve."""
ATTEMPTS: Final = 2
FREE_BYTES: Final = 64 << 20
"""Where less room than this is left for derivatives, a decoder may have failed for want of it."""
_KEPT: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME", "LANG")
_THREADS: Final = {"VIPS_CONCURRENCY": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Decoder:
    """One decoding process, started when it is first needed and again whenever it ended. One file at a time."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def decode(self, path: Path, out: Path, kind: MediaKind, content_type: str) -> Mapping[str, Any]:
        """The facts of a file, whose derivatives are in ``out`` then; or ``{"reject": reason}``.

        A file that ends its decoder, takes too much memory or too long, twice, is unreadable.
        Raises DependencyUnavailable: no decoder starts here, or the disk is full; nothing is said of the file.
        """
        cpu_s = self._media.image_timeout_s if kind == "image" else self._media.video_timeout_s
        request = {
            "path": str(path), "out": str(out), "kind": kind, "contentType": content_type, "pixels": self._media.image_pixels,
            "seconds": self._media.video_seconds, "memoryBytes": self._media.process_memory_bytes, "cpuSeconds": max(1, int(cpu_s)),
        }
        with self._lock:
            for attempt in range(ATTEMPTS):
                result = self._attempt(request, cpu_s * WALL_FACTOR)
                if result is not None:
                    break
                log.warning("decoder_ended", kind=kind, attempt=attempt + 1)
        result = result or {"reject": "unreadable"}
        if result.get("reject") == "unreadable" and shutil.disk_usage(out).free < FREE_BYTES:
            raise DependencyUnavailable("the disk is full")
        return result

    def _attempt(self, request: Mapping[str, Any], wall_s: float) -> Mapping[str, Any] | None:
        result = Path(request["out"]) / RESULT
        result.unlink(missing_ok=True)
        answer = self._ask(json.dumps(request), wall_s)
        if answer is not None and answer["status"] == NO_PROCESS:
            raise DependencyUnavailable("the decoder gets no process")
        if answer is None or answer["status"] != 0 or not result.exists():
            return None
        try:
            found: Mapping[str, Any] = json.loads(result.read_text())
        except ValueError:
            return None
        return found

    def _ask(self, line: str, wall_s: float) -> Mapping[str, Any] | None:
        """The answer's line; None: none in time, and the process is ended. Raises DependencyUnavailable: there is no process."""
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            return self._read(process, wall_s)
        except (OSError, ValueError):
            self.close()
            return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            environment = {name: value for name in _KEPT if (value := os.environ.get(name)) is not None}
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "writers.media.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL, env=environment | _THREADS, start_new_session=True, bufsize=0,
                )
                self._read(self._process, START_S)
            except (OSError, ValueError) as error:
                self.close()
                log.exception("decoder_did_not_start")
                raise DependencyUnavailable("the decoder does not start", kind=type(error).__name__) from error
        return self._process

    def _read(self, process: subprocess.Popen[bytes], seconds: float) -> Mapping[str, Any]:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        line = process.stdout.readline() if ready else b""
        if not line:
            raise OSError("the decoder does not answer")
        answer: Mapping[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process and what it works on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None

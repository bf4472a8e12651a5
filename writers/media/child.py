"""The process in which foreign files are decoded: it knows no secret, and each file gets a fork of it with limits.

``python -m writers.media.child`` reads one request a line and answers one line; it ends with its stdin. The libraries
are loaded once, so that a fork costs milliseconds.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
RESULT: Final = "result.json"
NO_PROCESS: Final = -1
"""Status of a request for which the machine had no process: nothing is said of its file."""
FILE_BYTES: Final = 8 << 30
OPEN_FILES: Final = 64


def decode(request: dict[str, Any]) -> dict[str, Any]:
    """The facts of one file, or why it is not accepted."""
    from writers.media import pictures, videos
    from writers.media.sniffing import HEAD, fits, sniffed

    path, out = Path(request["path"]), Path(request["out"])
    with path.open("rb") as file:
        real = sniffed(file.read(HEAD))
    if real is None or not fits(request["contentType"], real) or not real.startswith(request["kind"]):
        return {"reject": "type_mismatch"}
    try:
        if request["kind"] == "image":
            facts = pictures.picture(path, out, pixels=request["pixels"])
        else:
            facts = videos.video(
                path, out, content_type=real, pixels=request["pixels"], seconds=request["seconds"]
            )
    except pictures.Unacceptable as error:
        return {"reject": str(error)}
    return {"contentType": real, **facts}


def _limit(request: dict[str, Any]) -> None:
    """Bounds what this process can take, and ends it with its parent."""
    memory, cpu = int(request["memoryBytes"]), int(request["cpuSeconds"])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _die_with_parent()


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _carry_out(request: dict[str, Any]) -> None:
    """In the fork: decodes and leaves the result in a file; whatever goes wrong is this file's fault."""
    code = 1
    try:
        _limit(request)
        result = decode(request)
        (Path(request["out"]) / RESULT).write_text(json.dumps(result))
        code = 0
    finally:
        os._exit(code)


def serve() -> None:
    """Answers requests, one after the other, until stdin ends."""
    from writers.media import pictures, videos

    pictures.prepare()
    videos.prepare()
    _die_with_parent()
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201  the answer
    for line in sys.stdin:
        request = json.loads(line)
        try:
            child = os.fork()
        except OSError:
            print(json.dumps({"status": NO_PROCESS}), flush=True)  # noqa: T201  the answer
            continue
        if child == 0:
            _carry_out(request)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": status}), flush=True)  # noqa: T201  the answer


if __name__ == "__main__":
    serve()

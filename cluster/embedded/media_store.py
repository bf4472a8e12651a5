"""The embedded media store's HTTP server: what clients upload to and read from, by signed URLs only.

``python -m cluster.embedded.media_store PORT DIRECTORY`` is the server itself; it reads its key (hex) from stdin. As a
bucket does it, it checks method, path, end, length, type and SHA-256 of what was signed; it lists nothing and tells
nobody without a signature whether something exists.
"""

from __future__ import annotations

import hashlib
import hmac
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cluster.connections.media.local import fresh_path, install, object_path, part_path
from cluster.connections.media.signing import CACHE_CONTROL, signature
from cluster.connections.media.store import ObjectMissing
from cluster.embedded.ports import LOOPBACK
from cluster.embedded.service import LocalService

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

UNFINISHED_S: Final = 2 * 86_400
"""Uploads that nobody completed are deleted after this, when the server starts and then every hour."""
SWEEP_EVERY_S: Final = 3_600.0
AT_ONCE: Final = 256
"""Requests at once; past it 503."""
TYPES: Final = {".webp": "image/webp", ".mp4": "video/mp4"}


class EmbeddedMediaStore(LocalService):
    """One server on loopback. Objects outlive it."""

    NAME = "media_store"

    def __init__(self, directory: Path, run_dir: Path, key: str, *, port: int = 0) -> None:
        super().__init__(run_dir, port)
        self.directory = directory.resolve()
        self._key = key

    def _launch(self) -> None:
        self._process.launch([sys.executable, "-m", __name__, str(self.port), str(self.directory)], stdin=self._key.encode())


class Refuse(Exception):
    """The request is not what was signed, or not signed at all."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Serving:
    """The two things that a signed URL lets one do."""

    def __init__(self, directory: Path, key: bytes) -> None:
        self._directory = directory
        self._key = key

    async def read(self, request: Request) -> Response:
        from starlette.responses import FileResponse

        key = request.path_params["key"]
        self._check(request, "GET", key)
        path = object_path(self._directory, key)
        if not path.is_file():
            raise Refuse(404, "no such object")
        return FileResponse(
            path, headers={"Cache-Control": CACHE_CONTROL, "X-Content-Type-Options": "nosniff"},
            media_type=TYPES.get(path.suffix, "application/octet-stream"),
        )

    async def write(self, request: Request) -> Response:
        from starlette.responses import Response

        key, query = request.path_params["key"], request.query_params
        length = query.get("length", "")
        if "part" in query:
            self._check(request, "PUT", key, length, query.get("upload", ""), query["part"])
            target = part_path(self._directory, query["upload"], int(query["part"]))
            if not target.parent.is_dir():
                raise Refuse(404, "no such upload")
        else:
            self._check(request, "PUT", key, length, query.get("type", ""), query.get("sha256", ""))
            target = object_path(self._directory, key)
            if request.headers.get("content-type") != query["type"]:
                raise Refuse(403, "another type than was signed")
        if request.headers.get("content-length") != length:
            raise Refuse(403, "another length than was signed")
        fresh = fresh_path(self._directory)
        try:
            digest = await _receive(request, fresh, int(length))
            if "part" not in query and not hmac.compare_digest(digest, query["sha256"]):
                raise Refuse(400, "another content than was signed")
            install(fresh, target)
        finally:
            fresh.unlink(missing_ok=True)
        return Response(status_code=200)

    def _check(self, request: Request, method: str, key: str, *facts: str) -> None:
        query = request.query_params
        expires = query.get("expires", "")
        expected = signature(self._key, method, key, expires, *facts)
        if not hmac.compare_digest(expected.encode(), query.get("signature", "").encode()):
            raise Refuse(403, "the signature does not fit")
        if int(expires) <= time.time():
            raise Refuse(403, "the URL has ended")


async def _receive(request: Request, path: Path, length: int) -> str:
    """Writes the body into a file and returns its SHA-256. Raises Refuse: it is not as long as it says."""
    digest, received = hashlib.sha256(), 0
    with path.open("wb") as output:
        async for chunk in request.stream():
            received += len(chunk)
            if received > length:
                raise Refuse(403, "more than was signed")
            digest.update(chunk)
            output.write(chunk)
    if received != length:
        raise Refuse(400, "less than was announced")
    return digest.hexdigest()


def sweep(directory: Path, now_s: float) -> int:
    """Deletes what was uploaded and never completed, or half written; returns how many files and uploads went."""
    due = now_s - UNFINISHED_S
    removed = 0
    for path in (*directory.glob("incoming/*"), *directory.glob("objects/quarantine/*"), *directory.glob("parts/*")):
        try:
            if path.stat().st_mtime < due:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed += 1
        except FileNotFoundError:
            continue
    return removed


def application(directory: Path, key: bytes) -> Any:
    """The server as an ASGI application."""
    import asyncio

    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    serving = Serving(directory, key)

    def guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guard(request: Request) -> Response:
            try:
                return await handler(request)
            except Refuse as refusal:
                return PlainTextResponse(refusal.reason, refusal.status)
            except (ObjectMissing, ValueError):
                return PlainTextResponse("the signature does not fit", 403)

        return guard

    async def keep_sweeping() -> None:
        while True:
            await asyncio.to_thread(sweep, directory, time.time())
            await asyncio.sleep(SWEEP_EVERY_S)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(keep_sweeping())
        yield
        sweeping.cancel()

    return Starlette(
        routes=[
            Route("/{key:path}", guarded(serving.read), methods=["GET", "HEAD"]),
            Route("/{key:path}", guarded(serving.write), methods=["PUT"]),
        ],
        middleware=[Middleware(
            CORSMiddleware, allow_origins=["*"], allow_methods=["GET", "PUT"], allow_headers=["content-type", "range"],
            expose_headers=["content-range"],
        )],
        lifespan=lifespan,
    )


def serve(port: int, directory: Path, key: bytes) -> None:
    """Serves until SIGTERM."""
    import uvicorn

    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    uvicorn.run(
        application(directory, key), host=LOOPBACK, port=port, log_level="warning", access_log=False,
        limit_concurrency=AT_ONCE, server_header=False,
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]), bytes.fromhex(sys.stdin.read().strip()))

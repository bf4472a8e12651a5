"""A local age-assurance service on loopback, for platforms without a real one: a person decides what it finds.

``python -m cluster.embedded.assurance PORT`` is the server itself; ``ASSURANCE_SECRET`` is in its environment.
It speaks what ``cluster.connections.assurance.HttpAssurance`` does: a check begins with ``POST /checks``; whoever opens the
check's URL (``GET /checks/{id}``) says ``POST /checks/{id}`` {"outcome": "verified" or "failed"}, and the signed result is
called back until it was taken. It keeps no documents, and forgets its checks when it ends.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

from cluster.connections.assurance import signature
from cluster.embedded.ports import LOOPBACK
from cluster.embedded.service import LocalService

KEPT: Final = 10_000
"""Newest checks that are kept."""
TRIES: Final = 6
PAGE: Final = """<!doctype html><title>Age check</title><h1>Local age check</h1>
<p>A stand-in: nothing is looked at. What should it have found?</p>
<form method="post"><button name="outcome" value="verified">An adult</button>
<button name="outcome" value="failed">Not certain</button></form>"""


class EmbeddedAssurance(LocalService):
    """One server on loopback."""

    NAME = "assurance"

    def __init__(self, run_dir: Path, secret: str, *, port: int = 0) -> None:
        super().__init__(run_dir, port)
        self._secret = secret

    def _launch(self) -> None:
        self._process.launch(
            [sys.executable, "-m", __name__, str(self.port)], env=os.environ | {"ASSURANCE_SECRET": self._secret}
        )


def create_app(secret: str) -> Any:
    """The service as a Starlette application."""
    import httpx
    import msgspec
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    checks: OrderedDict[str, dict[str, str]] = OrderedDict()
    calls: set[asyncio.Task[None]] = set()

    async def begin(request: Request) -> Response:
        if not secrets.compare_digest(request.headers.get("authorization", ""), f"Bearer {secret}"):
            return JSONResponse({"error": "unauthorized"}, 401)
        try:
            asked = msgspec.json.decode(await request.body(), type=dict[str, str])
            check = {"reference": asked["reference"], "callbackUrl": asked["callbackUrl"], "outcome": ""}
        except (msgspec.MsgspecError, KeyError):
            return JSONResponse({"error": "invalid"}, 422)
        name = secrets.token_urlsafe(24)
        checks[name] = check
        while len(checks) > KEPT:
            checks.popitem(last=False)
        return JSONResponse({"id": name, "url": f"{request.url.scheme}://{request.url.netloc}/checks/{name}"}, 201)

    async def show(request: Request) -> Response:
        return HTMLResponse(PAGE) if request.path_params["name"] in checks else JSONResponse({"error": "unknown"}, 404)

    async def decide(request: Request) -> Response:
        check = checks.get(request.path_params["name"])
        if check is None:
            return JSONResponse({"error": "unknown"}, 404)
        body = await request.body()
        outcome = next((word for word in ("verified", "failed") if word in body.decode("latin-1")), None)
        if outcome is None:
            return JSONResponse({"error": "invalid"}, 422)
        # As with the real ones, the first result of a check is its only one.
        check["outcome"] = check["outcome"] or outcome
        task = asyncio.create_task(call_back(check))
        calls.add(task)
        task.add_done_callback(calls.discard)
        return JSONResponse({"outcome": check["outcome"]})

    async def call_back(check: dict[str, str]) -> None:
        body = msgspec.json.encode({"reference": check["reference"], "outcome": check["outcome"], "method": "local"})
        async with httpx.AsyncClient(timeout=5.0) as client:
            for attempt in range(TRIES):
                header = {"Content-Type": "application/json", "Assurance-Signature": signature(secret.encode(), body, int(time.time()))}
                try:
                    answer = await client.post(check["callbackUrl"], content=body, headers=header)
                    if answer.status_code < 500:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.5 * 2**attempt)

    return Starlette(routes=[
        Route("/checks", begin, methods=["POST"]), Route("/checks/{name}", show, methods=["GET"]),
        Route("/checks/{name}", decide, methods=["POST"]),
    ])


def serve(port: int) -> None:
    """Serves until SIGTERM."""
    import uvicorn

    uvicorn.run(create_app(os.environ["ASSURANCE_SECRET"]), host=LOOPBACK, port=port, log_level="warning")


if __name__ == "__main__":
    serve(int(sys.argv[1]))

"""The sandbox's HTTP server: Stripe's paths under ``/v1``, and its own under ``/sandbox``.

``python -m cluster.embedded.sandbox_provider.server`` reads one line of JSON from standard input: ``Options``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from hmac import compare_digest
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from cluster.embedded.ports import LOOPBACK
from cluster.embedded.sandbox_provider.api import Api
from cluster.embedded.sandbox_provider.errors import ApiError
from cluster.embedded.sandbox_provider.events import public
from cluster.embedded.sandbox_provider.sandbox import ADVANCE_MOST_S, Sandbox
from cluster.embedded.sandbox_provider.sending import Sender

TICK_S: Final = 2.0
BODY_BYTES: Final = 1 << 20
LISTED_MOST: Final = 1_000


class Options(msgspec.Struct, frozen=True):
    """``secrets`` sign webhooks; several while they are being changed."""

    port: int
    path: str
    key: str
    secrets: tuple[str, ...]
    webhook_url: str


class Server:
    """Routes over one sandbox. Every change runs on the event loop's thread, one after another."""

    def __init__(self, options: Options) -> None:
        from stripe._api_version import _ApiVersion

        self._key = options.key
        self.sandbox = Sandbox(Path(options.path), _ApiVersion.CURRENT, f"http://{LOOPBACK}:{options.port}")
        self.api = Api(self.sandbox, options.key, _ApiVersion.CURRENT)
        self.sender = Sender(self.sandbox, options.webhook_url, options.secrets)
        self.app = Starlette(
            routes=[
                Route("/v1/{rest:path}", self._api, methods=["GET", "POST", "DELETE"]),
                Route("/sandbox", self._state, methods=["GET"]),
                Route("/sandbox/onboarding/{token}", self._onboarding, methods=["GET", "POST"]),
                Route("/sandbox/authenticate", self._authenticate, methods=["POST"]),
                Route("/sandbox/{command}", self._command, methods=["POST"]),
                Route("/sandbox/objects/{kind}", self._objects, methods=["GET"]),
            ],
            lifespan=self._life,
        )

    @contextlib.asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.sender.run()), asyncio.create_task(self._tick())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.sender.close()
            self.sandbox.store.close()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.sandbox.catch_up()
            with self.sandbox.store.changing():
                self.sandbox.store.prune()

    async def _api(self, request: Request) -> Response:
        body = await _body(request)
        answer = self.api.answer(request.method, request.url.path, request.url.query, body, request.headers)
        return Response(answer.body, answer.status, headers=answer.headers)

    def _trusted(self, request: Request) -> bool:
        return compare_digest(request.headers.get("authorization", ""), f"Bearer {self._key}")

    async def _state(self, request: Request) -> Response:
        """What is there, for everybody on this machine; nobody's data."""
        store = self.sandbox.store
        return JSONResponse({
            "livemode": False, "now": store.now(), "switches": self.sandbox.switches, "waiting": len(store.waiting_events()),
            "objects": {kind: count for kind, count in store.counts().items() if not kind.startswith("_")},
        })

    async def _objects(self, request: Request) -> Response:
        if not self._trusted(request):
            return JSONResponse({"error": {"message": "Invalid API Key provided"}}, 401)
        accounts = ["", *(account["id"] for account in self.sandbox.store.all("account"))]
        found = [
            public(document) for account in accounts for document in self.sandbox.store.all(request.path_params["kind"], account)
        ]
        return JSONResponse({"data": found[:LISTED_MOST]})

    async def _onboarding(self, request: Request) -> Response:
        """The page on which a creator would identify themselves: one button."""
        if request.method == "GET":
            return HTMLResponse(
                "<!doctype html><title>Sandbox onboarding</title><p>Test mode: nobody is asked anything.</p>"
                "<form method=post><button>Finish</button></form>"
            )
        try:
            with self.sandbox.store.changing():
                link = self.sandbox.connect.onboard(request.path_params["token"])
        except ApiError as error:
            return JSONResponse(error.body, error.status)
        return RedirectResponse(link["return_url"], 303)

    async def _authenticate(self, request: Request) -> Response:
        """The payer's bank: who holds the client secret may say how authentication went."""
        try:
            wanted = json.loads(await _body(request))
            with self.sandbox.store.changing():
                intent = self.sandbox.payments.authenticate(str(wanted["client_secret"]), succeeds=bool(wanted.get("succeeds", True)))
        except ApiError as error:
            return JSONResponse(error.body, error.status)
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": {"message": "send client_secret and succeeds"}}, 400)
        return JSONResponse({"id": intent["id"], "status": intent["status"]})

    async def _command(self, request: Request) -> Response:
        if not self._trusted(request):
            return JSONResponse({"error": {"message": "Invalid API Key provided"}}, 401)
        try:
            wanted = json.loads(await _body(request) or b"{}")
            return JSONResponse(self.carry_out(request.path_params["command"], wanted))
        except ApiError as error:
            return JSONResponse(error.body, error.status)
        except (ValueError, KeyError, TypeError) as error:
            return JSONResponse({"error": {"message": f"cannot do that: {error}"}}, 400)

    def carry_out(self, command: str, wanted: dict[str, Any]) -> Any:
        """One command of ``sugar payments`` or of a test. Raises ApiError, ValueError, KeyError: not possible."""
        sandbox = self.sandbox
        if command == "clock":
            seconds = int(wanted["advance_s"])
            if not 0 <= seconds <= ADVANCE_MOST_S:
                raise ValueError(f"advance_s is 0 to {ADVANCE_MOST_S}")
            with sandbox.store.changing():
                sandbox.store.advance(seconds)
            return {"happened": sandbox.catch_up(), "now": sandbox.store.now()}
        with sandbox.store.changing():
            if command == "webhooks":
                if "secrets" in wanted:
                    self.sender.secrets = tuple(str(secret) for secret in wanted.pop("secrets"))
                if "url" in wanted:
                    self.sender.url = str(wanted.pop("url"))
                return sandbox.switch(wanted)
            if command == "card":
                return public(sandbox.payments.behave(wanted["payment_method"], wanted["behaves_like"]))
            if command == "dispute":
                return public(sandbox.reversals.dispute_payment(wanted["payment_intent"]))
            if command == "close-dispute":
                return public(sandbox.reversals.close_dispute(wanted["dispute"], won=bool(wanted["won"])))
            if command == "fail-refund":
                return public(sandbox.reversals.fail_refund(wanted["refund"]))
            if command == "verify":
                return public(sandbox.connect.verify(wanted["account"], ok=bool(wanted.get("ok", True))))
            if command == "bank":
                if wanted["behaves"] not in ("works", "fails"):
                    raise ValueError("a bank works or fails")
                return public(sandbox.connect.bank(wanted["account"], wanted["behaves"]))
        raise ValueError("no such command")


async def _body(request: Request) -> bytes:
    body = await request.body()
    if len(body) > BODY_BYTES:
        raise ValueError("body too large")
    return body


def serve(options: Options) -> None:
    """Answers until SIGTERM."""
    import uvicorn

    uvicorn.run(
        Server(options).app, host=LOOPBACK, port=options.port, log_level="warning", access_log=False, date_header=False,
        server_header=False,
    )


if __name__ == "__main__":
    serve(msgspec.json.decode(sys.stdin.buffer.readline(), type=Options))

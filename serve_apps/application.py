"""The HTTP API as a FastAPI application, and as a Ray Serve application."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from configs.settings import Settings, load_settings
from serve_apps import hot
from serve_apps.auth.addresses import router as addresses
from serve_apps.auth.oauth import router as oauth
from serve_apps.auth.own_sessions import router as sessions
from serve_apps.auth.passkeys import router as passkeys
from serve_apps.auth.passwords import router as passwords
from serve_apps.auth.routes import router as auth
from serve_apps.auth.second_factor import router as second_factor
from serve_apps.content.creators import router as creators
from serve_apps.content.feed import FEED
from serve_apps.content.posts import router as posts
from serve_apps.content.reactions import router as reactions
from serve_apps.dependencies import Dependencies
from serve_apps.edge import Edge
from serve_apps.matching.cards import CARDS
from serve_apps.matching.explaining import router as explanations
from serve_apps.matching.routes import router as matching
from serve_apps.matching.seen import router as seen
from serve_apps.matching.swipe import SWIPE
from serve_apps.media.routes import router as media
from serve_apps.messaging.routes import router as messaging
from serve_apps.messaging.send import SEND
from serve_apps.messaging.sync import router as sync
from serve_apps.messaging.tickets import TICKET
from serve_apps.moderation.asking import router as asking
from serve_apps.moderation.deciding import router as deciding
from serve_apps.moderation.viewing import router as viewing
from serve_apps.notifications.devices import router as devices
from serve_apps.notifications.preferences import router as notification_preferences
from serve_apps.notifications.routes import router as notifications
from serve_apps.ops.routes import router as ops
from serve_apps.payments.bill_refunds import router as bill_refunds
from serve_apps.payments.parties import router as parties
from serve_apps.payments.paying import router as paying
from serve_apps.payments.payouts import router as payouts
from serve_apps.payments.refunds import router as refunds
from serve_apps.payments.statements import router as statements
from serve_apps.payments.webhooks import router as webhooks
from serve_apps.problems import Answer, FieldProblem, ProblemDocument, problem
from serve_apps.subscriptions.routes import router as subscriptions
from serve_apps.subscriptions.tiers import router as tiers
from serve_apps.users.adults import router as adults
from serve_apps.users.blocking import router as blocking
from serve_apps.users.leaving import router as leaving
from serve_apps.users.reporting import router as reporting
from serve_apps.users.routes import router as users

PREFIX: Final = "/api/v1"
ROUTERS: Final[tuple[APIRouter, ...]] = (
    auth, oauth, second_factor, passkeys, passwords, addresses, sessions,
    users, blocking, reporting, adults, leaving,
    viewing, deciding, asking,
    matching, explanations, seen,
    messaging, sync,
    notifications, devices, notification_preferences,
    media,
    webhooks,
    posts, reactions, creators,
    parties, paying, refunds, bill_refunds, payouts,
    statements,
    tiers, subscriptions,
)
HOT: Final = (SWIPE, CARDS, SEND, TICKET, FEED)
_BY_STATUS: Final = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
FIELDS_SHOWN: Final = 20
FIRST_CLAUSE: Final = re.compile(r"[.;:](?=\s|$)")


class Api(FastAPI):
    """FastAPI that sends requests for hot routes straight to the edge: its own layers cost them a sixth of their time."""

    hot_edge: Edge
    hot_calls: frozenset[tuple[str, str]]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if (scope.get("method"), scope.get("path")) in self.hot_calls:
            await self.hot_edge(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: Settings, dependencies: Dependencies) -> Api:
    """The API over started or unstarted dependencies: its lifespan starts and closes them."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await dependencies.start()
        yield
        await dependencies.close()

    handlers = {(route.method, PREFIX + route.path): (route.operation_id, hot.HotApp(route, dependencies)) for route in HOT}
    edge: dict[str, Any] = {
        "hot": handlers, "body_bytes": settings.limits.body_bytes, "raw_bytes": settings.payments.webhook_bytes, "sample_ratio": settings.trace_sample_ratio,
        "figures": dependencies.metrics.requests, "spans": dependencies.spans,
    }
    app = Api(
        title="Sugar",
        version="1",
        description="Matching and creator subscriptions. Errors are RFC 9457 problem documents with a stable `code`.",
        lifespan=lifespan,
        redoc_url=None,
        routes=[
            Route(path, handler, methods=[method], name=name, include_in_schema=False)
            for (method, path), (name, handler) in handlers.items()
        ],
        middleware=[Middleware(Edge, **edge)],
        exception_handlers={HTTPException: _http_problem, RequestValidationError: _invalid},
    )
    app.state.dependencies = dependencies
    app.hot_edge, app.hot_calls = Edge(app.router, **edge), frozenset(handlers)
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    app.include_router(ops)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of all routes, made once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        for model in (ProblemDocument, FieldProblem):
            schema = model.model_json_schema(ref_template=hot.REF.replace("{name}", "{model}"))
            schema.pop("$defs", None)
            schemas[model.__name__] = schema
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for operation in (operation for path in made["paths"].values() for operation in path.values()):
            # FastAPI's own is the function's name.
            operation["summary"] = FIRST_CLAUSE.split(operation["description"], 1)[0].replace("\n", " ").rstrip(".")
        hot.document(made, HOT, PREFIX)
        app.openapi_schema = made
    return app.openapi_schema


def _response(found: Answer) -> Response:
    response = Response(found.body, status_code=found.status)
    response.raw_headers = list(found.headers)
    return response


async def _http_problem(_: Request, error: Exception) -> Response:
    """The router's own refusals: unknown path or method, a body that is not JSON."""
    assert isinstance(error, HTTPException)
    headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    code = _BY_STATUS.get(error.status_code, "malformed_body" if error.status_code < 500 else "internal_error")
    return _response(problem(code, headers=headers))


async def _invalid(_: Request, error: Exception) -> Response:
    """What does not fit the models; the values themselves are not repeated."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return _response(problem("malformed_body"))
    fields = [{"field": ".".join(map(str, item["loc"]))[:200], "message": item["msg"]} for item in found[:FIELDS_SHOWN]]
    return _response(problem("invalid", {"fields": fields}))


def build(args: dict[str, Any]) -> Any:
    """The Serve application of one platform; replicas and limits come from the plan in the settings."""
    from ray import serve

    from serve_apps.deployment import api_deployment

    del args
    return api_deployment(serve, load_settings())

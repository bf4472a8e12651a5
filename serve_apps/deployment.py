"""The API as a Ray Serve deployment: options here, the application in ``application.py``."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from configs.settings import Settings, load_settings

HEALTH_PERIOD_S = 1.0
HEALTH_TIMEOUT_S = 5.0
GRACEFUL_S = 10.0


class Unrouted:
    """An application without its routes: Serve would search them for every request, before the application does, to name
    it in Serve's own figures (0.1 ms with our routes; ``metrics.py`` names them for ours)."""

    routes: Final = ()
    router: Final = SimpleNamespace(redirect_slashes=False)

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def replica_app() -> Any:
    """The ASGI application of one replica, made in the replica from the platform's settings."""
    from ray import serve

    from actors.sharding.loader import LoaderClient
    from cluster.connections.metrics import RayMetrics
    from serve_apps import express
    from serve_apps.application import create_app
    from serve_apps.dependencies import Dependencies
    from serve_apps.exporting import Exporting
    from serve_apps.tracing import TracedPool

    settings = load_settings()
    replica = serve.get_replica_context().replica_id.unique_id
    dependencies = Dependencies.build(settings, TracedPool(settings), LoaderClient(), f"api-{replica}")
    dependencies.exporting = Exporting(lambda: dependencies.metrics.samples(replica), RayMetrics().publish)
    app = create_app(settings, dependencies)
    express.serve(app.hot_edge, app.hot_calls)
    return Unrouted(app)


def api_deployment(serve: Any, settings: Settings) -> Any:
    """The bound deployment with the plan's replicas and bounds."""
    plan = settings.plan
    wrapped = serve.ingress(replica_app)()
    return serve.deployment(
        wrapped,
        name="api",
        num_replicas=plan.serve_replicas,
        max_ongoing_requests=plan.serve_max_ongoing_requests,
        max_queued_requests=plan.serve_max_queued_requests,
        backpressure_config={"status_code": 503, "retry_after_s": 1},
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=GRACEFUL_S,
        ray_actor_options={"num_cpus": 0},
    ).bind()

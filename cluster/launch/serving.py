"""The Serve application, deployed declaratively: another number of replicas restarts none, another release all, one after another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.sharding import shapes
from cluster.embedded.ports import LOOPBACK
from cluster.launch.report import ReplicaReport
from configs.settings import Plan, Settings

APPLICATION = "api"
DEPLOYMENT = "api"
IMPORT_PATH = "serve_apps.application:build"
RELEASE = "release"
SHAPES = "shapes"
PACKAGES = ("configs", "cluster", "recommender", "actors", "writers", "serve_apps")
SURGE_PERCENT = 20
"""Replicas that a roll starts beside the others before it ends as many old ones; rounded up, so one where there are few."""


def code_digest() -> str:
    """Names the code that a replica which starts now would run."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*") if path.suffix in (".py", ".yaml")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def deployment_config(settings: Settings, release: str) -> dict[str, Any]:
    """The config that `serve deploy` takes, as a ServeDeploySchema. Another ``release`` replaces every replica."""
    return {
        "proxy_location": "HeadOnly" if settings.profile != "production" else "EveryNode",
        "http_options": {
            # HAProxy ends what lasts too long; a limit here as well costs a task and a timer a request.
            "host": settings.bind, "port": settings.port, "keep_alive_timeout_s": 75, "request_timeout_s": None,
        },
        "logging_config": {"log_level": "WARNING", "encoding": "JSON", "enable_access_log": False},
        "applications": [{
            "name": APPLICATION, "route_prefix": "/", "import_path": IMPORT_PATH, "args": {RELEASE: release, SHAPES: shapes.digest()},
            # Here as well as in the code that it overrides, so that another number of replicas builds nothing anew.
            "deployments": [{
                "name": DEPLOYMENT, "ray_actor_options": {"num_cpus": settings.plan.serve_cpus},
                "max_surge_percent": SURGE_PERCENT, **scaling(settings.plan),
            }],
        }],
    }


def scaling(plan: Plan) -> dict[str, Any]:
    """How many replicas there are: a fixed number, or as many as requests in flight ask for, between two bounds."""
    if plan.serve_replicas_max <= plan.serve_replicas:
        return {"num_replicas": plan.serve_replicas}
    return {"autoscaling_config": {
        "min_replicas": plan.serve_replicas, "max_replicas": plan.serve_replicas_max,
        "target_ongoing_requests": plan.serve_target_ongoing_requests, "upscale_delay_s": 10.0, "downscale_delay_s": 300.0,
    }}


def start(settings: Settings) -> None:
    """Starts Serve and hands it the config; replicas start in the background.

    Blocks for seconds while the proxies start. Finds a Serve that already runs: replicas of the same code stay.
    """
    from ray import serve
    from ray.serve.schema import ServeDeploySchema

    code = code_digest()
    config = ServeDeploySchema.model_validate(deployment_config(settings, code))
    serve.start(proxy_location=config.proxy_location, http_options=config.http_options.model_dump())
    present = release()
    deploy(settings, present if present.partition(".")[0] == code else code)


def deploy(settings: Settings, wanted: str) -> None:
    """Hands a running Serve the config of a release. Raises RayServeException, RayError: the controller does not answer."""
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(deployment_config(settings, wanted)))


def release() -> str:
    """What the running Serve was told last: a code's digest, and after a point how often it was rolled by wish; empty: nothing.

    Raises RayServeException, RayError: the controller does not answer.
    """
    return str(_told(RELEASE))


def carried() -> str:
    """``actors.sharding.shapes.digest`` of the code with which the running Serve was deployed; empty: of none.

    Raises RayServeException, RayError: the controller does not answer.
    """
    return str(_told(SHAPES))


def _told(argument: str) -> Any:
    application = details()["applications"].get(APPLICATION) or {}
    return ((application.get("deployed_app_config") or {}).get("args") or {}).get(argument, "")


def api_url(settings: Settings) -> str:
    """Where a process of the cluster reaches the API: through a proxy that is well, where it binds every address.

    Raises RayServeException, RayError: the controller does not answer.
    """
    host = settings.bind
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        proxies = details()["proxies"].values()
        host = next((proxy["node_ip"] for proxy in proxies if proxy["status"] == "HEALTHY"), LOOPBACK)
    return f"http://{host}:{settings.port}"


def details() -> dict[str, Any]:
    """What Serve knows of itself now. Raises RayServeException, RayError: the controller does not answer."""
    from ray.serve.context import _get_global_client

    told: dict[str, Any] = _get_global_client().get_serve_details()
    return told


def replicas(told: Mapping[str, Any]) -> list[ReplicaReport]:
    """Every replica in Serve's ``details``."""
    return [
        ReplicaReport(
            deployment=deployment, replica=replica["replica_id"], state=str(replica["state"]), pid=replica.get("pid") or 0
        )
        for application in told["applications"].values()
        for deployment, facts in application["deployments"].items()
        for replica in facts["replicas"]
    ]


def running(told: Mapping[str, Any]) -> bool:
    """Whether the application serves with all its replicas, by Serve's ``details``."""
    from ray.serve.schema import ApplicationStatus

    application = told["applications"].get(APPLICATION)
    return application is not None and bool(application["status"] == ApplicationStatus.RUNNING)


def failure() -> str:
    """Why the last deployment was given up; empty: it was not. Raises RayServeException, RayError."""
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    application = serve.status().applications.get(APPLICATION)
    if application is None or application.status != ApplicationStatus.DEPLOY_FAILED:
        return ""
    return application.message or "\n".join(deployment.message for deployment in application.deployments.values())


def stop() -> None:
    """Takes no new request, lets those in flight finish, ends Serve."""
    from ray import serve

    serve.shutdown()

"""Environments in a Ray cluster that somebody else runs: a node's, and what all processes of a deployment share."""

from __future__ import annotations

import hashlib
import json
import os
import resource
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final, NoReturn

from cluster.launch.ray_head import install_haproxy, ray_environment
from configs.contracts.errors import ConfigurationError
from configs.settings import Plan, Settings

PORTS: Final = MappingProxyType({
    "haproxy_metrics": 9101, "haproxy_stats": 8404, "replicas": 30_000, "fallback_http": 8500, "fallback_grpc": 9500,
})
"""Ray Serve's own defaults: a node has its address to itself."""
HEALTH_PERIOD_MS: Final = 1_000
"""A node that refuses connections five times in a row is lost: after 5 s, instead of 15 by Ray's default of 3 s between them."""
COMMAND_VARIABLE: Final = "KUBERAY_GEN_RAY_START_CMD"
"""In which KubeRay leaves its ``ray start`` where it was told not to run it itself."""


def node_environment(settings: Settings) -> dict[str, str]:
    """What every node is started with; a variable that is set already stays as it is."""
    return ray_environment(settings, PORTS) | {"RAY_health_check_period_ms": str(HEALTH_PERIOD_MS)} | dict(os.environ)


def worker_environment(settings: Settings) -> dict[str, str]:
    """Variables that every process of the deployment gets over its node's own."""
    plan = {f"SUGAR_PLAN__{name.upper()}": str(getattr(settings.plan, name)) for name in Plan.model_fields}
    # One for each of plan.gateways, which stands in the plan.
    ports = {"SUGAR_REALTIME__PORTS": json.dumps(settings.realtime.ports)} if settings.realtime.ports else {}
    return plan | ports | {
        "SUGAR_PROFILE": settings.profile,
        # Keys and their versions go by it: a process with another number would write where nobody reads.
        "SUGAR_LOG__PARTITIONS": str(settings.log.partitions),
        "SUGAR_LOG__GENERATIONS": json.dumps(settings.log.generations, sort_keys=True),
    }


def release_of(environment: dict[str, str]) -> str:
    """Names what the shards were made for: with another release all of them begin anew, with the same one they stay."""
    facts = {name: value for name, value in environment.items() if not name.startswith("SUGAR_PLAN__SERVE_")}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def run_node(settings: Settings, command: Sequence[str]) -> NoReturn:
    """Becomes ``command`` (a ``ray start … --block``; empty: KubeRay's) in that environment.

    Raises ConfigurationError: there is nothing to run.
    """
    kuberay = os.environ.get(COMMAND_VARIABLE, "")
    if not command and not kuberay:
        raise ConfigurationError("name the command that starts the node: sugar cluster node -- ray start … --block")
    environment = node_environment(settings)
    install_haproxy(settings, {
        "haproxy_stats": int(environment["RAY_SERVE_HAPROXY_STATS_PORT"]),
        "haproxy_metrics": int(environment["RAY_SERVE_HAPROXY_METRICS_PORT"]),
    })
    # Sockets and HAProxy take many descriptors; KubeRay's own start command would raise the limit too.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # KubeRay's is a line for a shell, made by it; nothing else comes into it.
    run = list(command) or ["/bin/sh", "-c", f"exec {kuberay}"]
    os.execvpe(run[0], run, environment)  # noqa: S606

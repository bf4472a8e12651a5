"""Loopback ports of one platform, kept in its state so that two platforms and every restart agree."""

from __future__ import annotations

import random
from collections.abc import Mapping

from cluster.embedded.ports import claim, free_port, is_free
from configs.contracts.errors import ConfigurationError
from configs.settings import Settings

SINGLE = (
    "postgres", "valkey", "broker", "mailbox", "media_store", "payments", "assurance", "gcs", "node_manager", "object_manager", "runtime_env_agent", "dashboard_agent",
    "dashboard_agent_grpc", "metrics_export", "haproxy_stats", "haproxy_metrics", "fallback_http", "fallback_grpc",
)
REPLICA_PORTS = 64
"""Ports of the replicas' own HTTP servers: one each, and a retired one rests before it is used again."""
_DASHBOARD = 8265
_RANGE = range(20_000, 32_000, REPLICA_PORTS)
"""Below the kernel's usual ephemeral ports (32768 and up), so that outgoing connections do not take them."""


def gateway_names(settings: Settings) -> list[str]:
    """Names of the gateways' ports, in the order of their slots."""
    return [f"gateway-{slot}" for slot in range(settings.plan.gateways)]


def choose_ports(settings: Settings, known: Mapping[str, int]) -> dict[str, int]:
    """A port for everything: the known one while it is free, else another.

    Raises ConfigurationError: the API's own port, or a configured one, is taken; it is the caller's choice and never moved.
    """
    if not is_free(settings.port, settings.bind):
        raise ConfigurationError("the API's port is in use; choose another with --port", port=settings.port)
    chosen = {"api": settings.port}
    for name in SINGLE:
        chosen[name] = _next(known.get(name, 0), chosen)
    wanted = settings.dashboard_port or known.get("dashboard", _DASHBOARD)
    chosen["dashboard"] = _next(wanted, chosen)
    if settings.dashboard_port and chosen["dashboard"] != settings.dashboard_port:
        raise ConfigurationError("the dashboard's port is in use", port=settings.dashboard_port)
    for slot, name in enumerate(gateway_names(settings)):
        fixed = settings.realtime.ports[slot] if settings.realtime.ports else 0
        if fixed and not is_free(fixed, settings.bind):
            raise ConfigurationError("a realtime gateway's port is in use", port=fixed)
        chosen[name] = fixed or _next(known.get(name, 0), chosen)
    chosen["replicas"] = _block(known.get("replicas", 0))
    return chosen


def _next(preferred: int, chosen: Mapping[str, int]) -> int:
    while True:
        port = free_port(preferred)
        if port not in chosen.values():
            return port
        preferred = 0


def _block(preferred: int) -> int:
    """The first of REPLICA_PORTS free ports in a row."""
    starts = list(_RANGE)
    random.shuffle(starts)
    for start in [preferred, *starts]:
        if start and all(is_free(port) for port in range(start, start + REPLICA_PORTS)) and claim(start):
            return start
    raise ConfigurationError("no free range of ports for API replicas", size=REPLICA_PORTS)

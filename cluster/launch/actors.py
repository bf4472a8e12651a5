"""The named actors of a platform and how each is created."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.hosts import services_of
from actors.realtime.actor import remote_gateway
from actors.sharding.host import remote_host
from configs.contracts.loading import LOADER_ACTOR, NAMESPACE
from configs.settings import Settings
from writers.loader import remote_loader
from writers.worker import remote_writer

CPU_SHARE = 0.05
"""For placement only: on one machine all of them must fit beside the replicas, whatever its cores."""

Create = Callable[[], Any]


def options(name: str) -> dict[str, Any]:
    """Found by name, outlives the driver, restarted without limit; a call is never sent twice by Ray."""
    return {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": CPU_SHARE,
        "max_restarts": -1,
        "max_task_retries": 0,
        "scheduling_strategy": "SPREAD",
    }


def names(settings: Settings) -> dict[str, list[str]]:
    """Names by component, in order of creation: shards wait for the loader, the API for the shards."""
    plan = settings.plan
    return {
        "loader": [LOADER_ACTOR],
        "writer": [f"writer-{slot}" for slot in range(plan.writer_actors)],
        "identity": [f"identity-{slot}" for slot in range(plan.identity_actors)],
        "swipes": [f"swipes-{slot}" for slot in range(plan.swipe_actors)],
        "messages": [f"messages-{slot}" for slot in range(plan.message_actors)],
        "commerce": [f"commerce-{slot}" for slot in range(plan.commerce_actors)],
        "cards": [f"cards-{slot}" for slot in range(plan.card_actors)],
        "gateway": [f"gateway-{slot}" for slot in range(plan.gateways)],
    }


def specs(settings: Settings) -> dict[str, Create]:
    """Actor name -> what creates it, or finds the one that runs."""
    made: dict[str, Create] = {}
    loader, writer, host, gateway = remote_loader(), remote_writer(), remote_host(), remote_gateway()
    for component, members in names(settings).items():
        for name in members:
            if component == "loader":
                made[name] = _creator(loader, name)
            elif component == "writer":
                made[name] = _creator(writer, name, name)
            elif component == "gateway":
                made[name] = _creator(gateway, name, name)
            else:
                made[name] = _creator(host, name, name, services_of)
    return made


def _creator(actor_class: Any, name: str, *args: object) -> Create:
    return lambda: actor_class.options(**options(name)).remote(*args)

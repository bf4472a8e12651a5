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

GROUPS = f"{NAMESPACE}-"
"""Before the kind: the name of its placement group."""

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


class Reservations:
    """One placement group a kind of actor, spread over nodes, so that a lost node takes few shards of a kind with it.

    When a node is lost Ray moves its bundles, and with them the actors, to nodes with room.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kinds = names(settings)
        self._groups: dict[str, Any] = {}

    def options(self, kind: str, slot: int) -> dict[str, Any]:
        """Where the actor of a slot runs. Makes the kind's placement group, or finds it."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        resource = self._settings.realtime.node_resource
        if kind == "gateway" and resource:
            # Such a node may offer no core, so that nothing else comes there.
            return {"resources": {resource: 1}, "num_cpus": 0}
        if kind not in self._groups:
            self._groups[kind] = self._group(kind)
        return {
            "num_cpus": self._settings.plan.actor_cpus,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(self._groups[kind], placement_group_bundle_index=slot),
        }

    def _group(self, kind: str) -> Any:
        from ray.util import get_placement_group, placement_group

        try:
            return get_placement_group(GROUPS + kind)
        except ValueError:
            bundle = {"CPU": self._settings.plan.actor_cpus}
            return placement_group(
                [bundle] * len(self._kinds[kind]), strategy="SPREAD", name=GROUPS + kind, lifetime="detached"
            )


def specs(settings: Settings, *, reserve: bool = False) -> dict[str, Create]:
    """Actor name -> what creates it, or finds the one that runs."""
    made: dict[str, Create] = {}
    reservations = Reservations(settings) if reserve else None

    def creator(actor_class: Any, component: str, slot: int, name: str, *args: object) -> Create:
        def create() -> Any:
            placed = reservations.options(component, slot) if reservations else {}
            return actor_class.options(**(options(name) | placed)).remote(*args)

        return create

    loader, writer, host, gateway = remote_loader(), remote_writer(), remote_host(), remote_gateway()
    for component, members in names(settings).items():
        for slot, name in enumerate(members):
            if component == "loader":
                made[name] = creator(loader, component, slot, name)
            elif component == "writer":
                made[name] = creator(writer, component, slot, name, name)
            elif component == "gateway":
                made[name] = creator(gateway, component, slot, name, name)
            else:
                made[name] = creator(host, component, slot, name, name, services_of)
    return made

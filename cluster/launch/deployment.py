"""A platform in a Ray cluster that others run (KubeRay, ``ray start``): put there, looked at, taken out.

The runtime is an actor among the others, so whoever deploys may leave; Ray restarts it when its node is lost.
Every node's environment holds the settings (addresses, secrets); what all processes must agree on, and the deploying
process has resolved, travels with the job: the plan and the generations of topics. No secret does.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import ray
import structlog
from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import GetTimeoutError, RayError

from actors.sharding import shapes
from cluster.launch import logs, serving
from cluster.launch.actors import GROUPS, options
from cluster.launch.node import release_of, worker_environment
from cluster.launch.prepare import prepare
from cluster.launch.report import Report
from cluster.launch.runtime import DRAIN_GATEWAY_S, STOP_SERVING_S, Runtime
from configs.contracts.errors import ConfigurationError, DependencyUnavailable
from configs.contracts.loading import NAMESPACE
from configs.settings import Settings, load_settings

log = structlog.get_logger(__name__)

RUNTIME = "runtime"
ANSWER_S = 60.0
"""A runtime whose node was lost is restarted within this time."""
REMOVE_S = DRAIN_GATEWAY_S + STOP_SERVING_S + 60.0
POLL_S = 0.5
REPORT_S = 5.0
REACH_S = 5.0


class RuntimeActor:
    """The runtime of a platform in somebody's cluster. Ends its process when it cannot go on, so that Ray restarts it."""

    def __init__(self, release: str) -> None:
        self._release = release
        self._report = Report()
        self._runtime = Runtime(load_settings(), self._take, reserve=True)
        # Ray builds actors that have coroutine methods on their own event loop.
        self._running = asyncio.get_running_loop().create_task(self._run(), name="runtime")

    async def _run(self) -> None:
        try:
            await self._runtime.run()
        except Exception as error:
            log.exception("runtime_failed", kind=type(error).__name__)
            os._exit(1)

    def _take(self, report: Report) -> None:
        self._report = report.model_copy()

    async def release(self) -> str:
        """What the actors of this runtime were made for."""
        return self._release

    async def report(self) -> str:
        """The last report, as JSON."""
        return self._report.model_dump_json()

    async def stop(self) -> str:
        """Drains; the last step. The actors stay until they are removed."""
        self._runtime.stop()
        await self._running
        return self._report.step


def deploy(settings: Settings, address: str, announce: Callable[[str], None], timeout_s: float) -> Report:
    """Makes the cluster run what the settings say, and returns once everything answers. Doing it again changes nothing.

    Migrates, creates topics, makes or finds the actors, deploys the API. Where the number of actors or a topic's
    generation is another one, the old actors are drained and ended first, since two that divide keys differently
    must not run beside each other; replicas are only added or taken away.
    Raises DependencyUnavailable: a server or the cluster does not answer, or the platform did not get ready in time.
    ConfigurationError: the shards that run would not understand this code.
    """
    announce("migrating the database, creating topics")
    settings = prepare(settings)
    environment = worker_environment(settings)
    release = release_of(environment)
    _connect(address, environment)
    try:
        running = _runtime()
        if running is not None:
            _refuse_other_shapes()
        if running is not None and _ask(running.release.remote()) == release:
            announce("the same plan and log: shards stay")
            _end(running, RUNTIME)
        else:
            _clear(running, announce)
        actor_class = ray.remote(max_restarts=-1, max_task_retries=0, max_concurrency=100)(RuntimeActor)
        runtime = actor_class.options(**options(RUNTIME)).remote(release)
        return _wait_ready(runtime, announce, time.monotonic() + timeout_s)
    finally:
        ray.shutdown()


def _refuse_other_shapes() -> None:
    """Actors that stay, or begin on a node that has the older code still, would answer this code's calls wrongly."""
    from ray.serve.exceptions import RayServeException

    try:
        carried = serving.carried()
    except (RayError, RayServeException):
        return  # Serve is not there yet: neither are replicas
    if carried not in ("", shapes.digest()):
        raise ConfigurationError(
            "this code asks shards otherwise than the shards that run: `sugar cluster remove`, this code on every node, "
            "then `sugar cluster deploy`"
        )


def look(address: str) -> Report | None:
    """The last report of the platform that is deployed there; None: none is. Raises DependencyUnavailable."""
    _connect(address, {})
    try:
        running = _runtime()
        return None if running is None else Report.model_validate_json(_ask(running.report.remote()))
    finally:
        ray.shutdown()


def roll(settings: Settings, address: str, announce: Callable[[str], None], *, again: bool, timeout_s: float) -> int:
    """Replaces the API's replicas one after another; how many (``rolling``). Shards stay. Raises DependencyUnavailable."""
    from cluster.launch import rolling

    _connect(address, {})
    try:
        if _runtime() is None:
            raise DependencyUnavailable("nothing is deployed there", address=address)
        return rolling.roll(settings, announce, again=again, timeout_s=timeout_s)
    finally:
        ray.shutdown()


def remove(address: str, announce: Callable[[str], None]) -> None:
    """Drains and ends everything that was deployed; the cluster itself stays. Raises DependencyUnavailable."""
    _connect(address, {})
    try:
        _clear(_runtime(), announce)
    finally:
        ray.shutdown()


def _connect(address: str, environment: dict[str, str]) -> None:
    """Raises DependencyUnavailable. Ray alone would try for a quarter of an hour where nothing listens."""
    try:
        reached = canonicalize_bootstrap_address(address)
        if reached is not None:
            host, _, port = reached.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
        ray.init(
            address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False,
            # Actors inherit both, and what they start in turn.
            runtime_env={"env_vars": environment, "worker_process_setup_hook": logs.SETUP_HOOK} if environment else None,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise DependencyUnavailable(
            "no Ray cluster answers; run this on one of its nodes (a platform of `sugar up` is seen by `sugar status`)",
            address=address, kind=type(error).__name__,
        ) from error


def _runtime() -> Any:
    try:
        return ray.get_actor(RUNTIME, NAMESPACE)
    except ValueError:
        return None


def _ask(call: Any) -> Any:
    try:
        return ray.get(call, timeout=ANSWER_S)
    except (RayError, GetTimeoutError) as error:
        raise DependencyUnavailable("the platform's runtime does not answer", kind=type(error).__name__) from error


def _wait_ready(runtime: Any, announce: Callable[[str], None], deadline: float) -> Report:
    shown = ""
    while time.monotonic() < deadline:
        try:
            report = Report.model_validate_json(ray.get(runtime.report.remote(), timeout=REPORT_S))
        except GetTimeoutError:
            report = Report(step="waiting for a node with room for the runtime")
        except RayError as error:
            report = Report(step=f"the runtime starts again: {type(error).__name__}")
        if report.ready:
            return report
        if report.step != shown:
            shown = report.step
            announce(shown)
        time.sleep(POLL_S)
    raise DependencyUnavailable("the platform did not get ready", step=shown)


def _clear(running: Any, announce: Callable[[str], None]) -> None:
    """Drains what runs, if its runtime still answers, and ends every actor and reservation of the platform."""
    from ray import serve
    from ray.util import get_placement_group, list_named_actors, placement_group_table, remove_placement_group

    if running is not None:
        announce("draining what runs")
        try:
            announce(ray.get(running.stop.remote(), timeout=REMOVE_S))
        except (RayError, GetTimeoutError) as error:
            announce(f"not drained ({type(error).__name__}): nothing acknowledged is lost, clients see it as a crash")
        _end(running, RUNTIME)
    left = [entry["name"] for entry in list_named_actors(all_namespaces=True) if entry["namespace"] == NAMESPACE]
    if left:
        announce(f"ending {len(left)} actors")
    serve.shutdown()
    for name in left:
        try:
            _end(ray.get_actor(name, NAMESPACE), name)
        except ValueError:
            continue
    groups = placement_group_table().values()
    for group in [found["name"] for found in groups if found["state"] != "REMOVED" and found["name"].startswith(GROUPS)]:
        remove_placement_group(get_placement_group(group))


def _end(actor: Any, name: str) -> None:
    """Ends an actor for good and returns once its name is free. Raises DependencyUnavailable."""
    ray.kill(actor, no_restart=True)
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline:
        try:
            ray.get_actor(name, NAMESPACE)
        except ValueError:
            return
        time.sleep(0.05)
    raise DependencyUnavailable("an actor does not end", actor=name)

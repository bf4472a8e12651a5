"""What makes and keeps a platform in its Ray cluster: creates the named actors, deploys the API, probes all of them, reports.

Locally it is the Ray driver ``python -m cluster.launch.runtime``, started and restarted by the supervisor, which drains on
SIGTERM; in a cluster of others it is an actor itself (``deployment``). Detached actors outlive it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import httpx
import ray
import structlog
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from cluster.connections.metrics import EXPORT_EVERY_S, RayMetrics
from cluster.embedded.process import accepts
from cluster.launch import logs, serving
from cluster.launch.actors import specs
from cluster.launch.drain import drained, lag_by_consumer
from cluster.launch.figures import platform_samples
from cluster.launch.keeper import PROBE_EVERY_S, Keeper
from cluster.launch.report import READY, ActorReport, Report, write_report
from cluster.launch.state import read_state, servers_of
from configs.contracts.errors import PlatformError
from configs.contracts.loading import NAMESPACE
from configs.settings import Settings, load_settings
from writers.by_hand import by_hand
from writers.dead_letters import count_waiting
from writers.exposure import exposure_gini
from writers.moderation_figures import moderation_figures

log = structlog.get_logger(__name__)

FIGURES_EVERY_S = 3.0
EXPOSURE_EVERY_S = 60.0
BY_HAND_EVERY_S = 60.0
READY_DEADLINE_S = 3.0
SERVE_SILENT_LIMIT_S = 30.0
"""Ray restarts Serve's controller by itself; when it stays away this long, a new runtime deploys again."""
STOP_SERVING_S = 20.0
DRAIN_GATEWAY_S = 10.0


class Runtime:
    """One run, on one event loop. ``publish`` gets each report."""

    def __init__(self, settings: Settings, publish: Callable[[Report], None], *, reserve: bool = False) -> None:
        """``reserve``: actors get a share of nodes of their own, spread by kind."""
        self._settings = settings
        self._publish_report = publish
        self._keeper = Keeper(specs(settings, reserve=reserve))
        self._report = Report(runtime_pid=os.getpid())
        self._stopping = asyncio.Event()
        self._serving = False
        self._serve_answered_s = time.monotonic()
        # Kept until the next answer: its keys are interned, and each that is gone when it comes again takes another place in
        # Python's table of them, which is made anew, 3 MiB greater, once it is full of such places.
        self._serve_told: dict[str, Any] = {}
        self._metrics = RayMetrics()
        # Kept: a client reads the certificates of the whole world when it is made, which takes more than the request.
        self._client = httpx.Client(timeout=READY_DEADLINE_S, limits=httpx.Limits(max_keepalive_connections=0))

    async def run(self) -> None:
        """Returns after ``stop``, drained. Raises RayError: the cluster is gone."""
        self._say("creating actors")
        await asyncio.to_thread(self._keeper.create_all)
        leaving = threading.Event()
        if self._settings.ranking.refresh_period_s:
            # Imported here: without it the runtime needs neither scipy nor Parquet.
            from cluster.launch.ranking.refreshing import start_refreshing

            start_refreshing(self._settings, leaving)
        async with asyncio.TaskGroup() as tasks:
            work = (self._deploy(), self._keep(), self._look(), self._export())
            running = [tasks.create_task(part) for part in work]
            await self._stopping.wait()
            for task in running:
                task.cancel()
        leaving.set()
        self._say("draining", ready=False)
        await self._finish()

    def stop(self) -> None:
        """Makes ``run`` drain and return."""
        self._stopping.set()

    async def _deploy(self) -> None:
        await asyncio.to_thread(serving.start, self._settings)
        self._serving = True

    async def _keep(self) -> None:
        while True:
            began = time.monotonic()
            await self._keeper.probe_all()
            self._publish()
            await asyncio.sleep(max(0.0, PROBE_EVERY_S - (time.monotonic() - began)))

    async def _look(self) -> None:
        """Slower figures: replicas, lag, dead letters, exposure, what is to be done by hand."""
        exposure_at = by_hand_at = 0.0
        while True:
            if self._serving:
                await self._look_at_serve()
            try:
                self._report.lag = await asyncio.to_thread(lag_by_consumer, self._settings)
                self._report.lag_at_s = time.time()
                self._report.dead_letters = await asyncio.to_thread(count_waiting, self._settings)
                self._report.moderation = await asyncio.to_thread(moderation_figures, self._settings)
                if time.monotonic() > by_hand_at:
                    self._report.by_hand = await asyncio.to_thread(by_hand, self._settings)
                    by_hand_at = time.monotonic() + BY_HAND_EVERY_S
                if time.monotonic() > exposure_at or not self._report.exposure_gini:
                    self._report.exposure_gini = await asyncio.to_thread(exposure_gini, self._settings)
                    exposure_at = time.monotonic() + EXPOSURE_EVERY_S
            except PlatformError as error:
                log.warning("figures_missing", kind=type(error).__name__)
            await asyncio.sleep(FIGURES_EVERY_S if self._report.ready else PROBE_EVERY_S / 2)

    async def _export(self) -> None:
        """Hands every figure to Ray's metrics; the probes' answers hold those of the actors."""
        while True:
            await asyncio.sleep(EXPORT_EVERY_S)
            servers = await asyncio.to_thread(lambda: servers_of(read_state(self._settings.data_dir)))
            try:
                self._metrics.publish(platform_samples(self._report, servers))
            except (KeyError, TypeError, ValueError):
                # An actor of another version says other things: figures are not worth the platform's end.
                log.exception("figures_not_exported")

    async def _look_at_serve(self) -> None:
        try:
            self._serve_told = await asyncio.to_thread(serving.details)
        except (RayError, RayServeException) as error:
            log.warning("serve_silent", kind=type(error).__name__)
            if time.monotonic() - self._serve_answered_s > SERVE_SILENT_LIMIT_S:
                raise
            return
        self._serve_answered_s = time.monotonic()
        self._report.replicas, up = serving.replicas(self._serve_told), serving.running(self._serve_told)
        self._report.api = await asyncio.to_thread(_ask_api, self._client, self._settings) if up else "not every replica runs"
        if self._keeper.ready and self._report.api == READY:
            self._report.ready = True

    def _publish(self) -> None:
        actors = self._keeper.reports()
        if not self._report.ready:
            waiting = [actor.name for actor in actors if not actor.ready]
            self._report.step = (
                f"waiting for {', '.join(waiting)}" if waiting
                else f"rebuilding the read model: {rebuilding}" if (rebuilding := _rebuilding(actors))
                else f"waiting for the API: {self._report.api}"
            )
        self._report = self._report.model_copy(update={"actors": actors, "at_s": time.time()})
        self._publish_report(self._report)

    def _say(self, step: str, *, ready: bool | None = None) -> None:
        self._report.step = step
        if ready is not None:
            self._report.ready = ready
        self._publish_report(self._report)
        log.info("runtime_step", step=step)

    async def _finish(self) -> None:
        # First, so that clients are told while everything else still answers.
        await self._keeper.drain("gateway", DRAIN_GATEWAY_S)
        try:
            await asyncio.wait_for(asyncio.to_thread(serving.stop), STOP_SERVING_S)
        except (RayError, RayServeException, TimeoutError) as error:
            log.warning("serve_not_stopped", kind=type(error).__name__)
        complete = await drained(self._settings)
        log.info("drained", complete=complete)
        self._say("drained" if complete else "not drained in time")


def _rebuilding(actors: Sequence[ActorReport]) -> str:
    """How far the read model's rebuild is; nothing when it is complete."""
    states = [str(actor.figures["read_model"]) for actor in actors if "read_model" in actor.figures]
    return next((state for state in states if state != "complete"), "")


def _ask_api(client: httpx.Client, settings: Settings) -> str:
    """``ready``, or why the API says that it is not."""
    try:
        answer = client.get(f"{serving.api_url(settings)}/ready")
        checks = answer.json().get("checks", {}) if answer.status_code != 200 else {}
    except (httpx.HTTPError, ValueError) as error:
        return type(error).__name__
    if answer.status_code == 200:
        return READY
    return ", ".join(f"{name}: {said}" for name, said in checks.items() if said != "ok") or f"HTTP {answer.status_code}"


def wait_for_node(settings: Settings) -> None:
    """Returns once the head node accepts connections; the supervisor ends this process when it never does."""
    state = read_state(settings.data_dir)
    while not all(accepts(state.ports[name]) for name in ("gcs", "node_manager")):
        time.sleep(0.1)


async def _until_signal(settings: Settings) -> None:
    def publish(report: Report) -> None:
        with suppress(OSError):  # a full disk: the next report is a second away, and a missing one says so
            write_report(settings.data_dir, report)

    runtime = Runtime(settings, publish)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, runtime.stop)
    await runtime.run()


def main() -> None:
    settings = load_settings()
    logs.configure()
    wait_for_node(settings)
    ray.init(
        address=settings.ray_address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False,
        runtime_env={"worker_process_setup_hook": logs.SETUP_HOOK},
    )
    asyncio.run(_until_signal(settings))
    # Threads that still wait for a cluster which is about to end must not hold the exit up.
    os._exit(0)


if __name__ == "__main__":
    main()

"""The Ray actor of one gateway: its server runs on the actor's own event loop, beside ``ping`` and ``drain``."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from typing import Any

import structlog

from actors.realtime.gateway import PATH, Gateway
from actors.realtime.server import GatewayServer, listen
from actors.sharding.host import die
from configs.process import give_back_memory, process_space, quieten_collector, resident_bytes
from configs.settings import Settings, load_settings

log = structlog.get_logger(__name__)

BIND_RETRY_S = 0.5


def raise_descriptor_limit() -> int:
    """Raises the soft limit of open files to the hard one; the limit now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def url_of(settings: Settings, slot: int) -> str:
    """Where clients reach the gateway of a slot."""
    if settings.realtime.url:
        return settings.realtime.url
    host = "127.0.0.1" if settings.bind in ("0.0.0.0", "::") else settings.bind  # noqa: S104  compared, not bound
    return f"ws://{host}:{settings.realtime.ports[slot]}{PATH}"


class GatewayHost:
    """The gateway ``gateway-<slot>``, started by the first ``ping``, and by the next one after it was drained."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._settings = settings
        self._slot = int(name.rpartition("-")[2])
        self._gateway: Gateway | None = None
        self._server: GatewayServer | None = None
        self._starting: asyncio.Task[None] | None = None
        self._start_s = 0.0
        self._waits_for = ""

    async def _start(self) -> None:
        from actors.messages.client import ConversationsClient
        from actors.sessions.client import SessionsClient
        from actors.sharding.client import ActorPool

        began = time.monotonic()
        raise_descriptor_limit()
        settings = self._settings
        pool = ActorPool(settings)
        self._gateway = Gateway(
            settings, self._name, url_of(settings, self._slot), tickets=SessionsClient(pool),
            conversations=ConversationsClient(pool), die=die,
        )
        await self._gateway.start()
        while self._server is None:
            try:
                listening = listen(settings.bind, settings.realtime.ports[self._slot])
            except OSError as error:
                self._waits_for = f"port {settings.realtime.ports[self._slot]}: {error.strerror}"
                await asyncio.sleep(BIND_RETRY_S)
            else:
                self._server = GatewayServer(self._gateway, settings.realtime, listening)
        await self._server.start()
        self._gateway.opened()
        quieten_collector()  # it took 40 % of what opening a socket costs
        give_back_memory()
        self._start_s = time.monotonic() - began
        log.info("gateway_started", gateway=self._name, port=self._server.port)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            die(f"gateway not started: {task.exception()!r}")

    async def ping(self) -> dict[str, Any]:
        """Liveness and figures for the keeper, status and metrics."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._ended)
        ready = self._server is not None and self._server.running
        return {
            "actor": self._name, "pid": os.getpid(), "space": process_space(), "memory_bytes": resident_bytes(),
            "ready": ready, "restore_s": self._start_s,
            "waits_for": "" if ready else self._waits_for or "starting",
            "gateway": {} if self._gateway is None else self._gateway.describe() | {
                "port": self._settings.realtime.ports[self._slot], "url": url_of(self._settings, self._slot),
            },
        }

    async def drain(self) -> int:
        """Sends every client away and closes the port; how many there were."""
        if self._gateway is None or self._server is None:
            return 0
        gateway, server = self._gateway, self._server
        sent_away = await gateway.drain()
        await server.stop()
        await gateway.close()
        # Whoever asks next is a runtime that found this actor: the one that drained it asks no more.
        self._gateway = self._server = self._starting = None
        log.info("gateway_drained", gateway=self._name, sockets=sent_away)
        return sent_away


def remote_gateway() -> Any:
    """The Ray actor class; launch gives it name, lifetime and resources."""
    import ray
    class RealtimeGateway(GatewayHost):
        def __init__(self, name: str) -> None:
            super().__init__(name, load_settings())

    return ray.remote(max_restarts=-1, max_task_retries=0, max_concurrency=100)(RealtimeGateway)

"""Redis clients and the two ways to apply read-model operations: awaited in the API, synchronous in the writers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from cluster.connections.redis_cluster import AsyncClusterRedis, ClusterRedis
from cluster.connections.redis_topology import cluster_address
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.read_model import SCRIPTS, Operation
from configs.settings import Settings

SHA = {name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in SCRIPTS.items()}
TIMEOUT_S = 1.0
"""Longest wait for an answer inside a request: a guess, far above the measured p99 of under 5 ms."""


def async_client(settings: Settings, *, timeout_s: float = TIMEOUT_S, connections: int = 16) -> redis.asyncio.Redis:
    """An awaited client. Fails fast: no retries, since every caller answers 503 instead."""
    address = cluster_address(settings.redis_url.get_secret_value())
    if address is not None:
        return AsyncClusterRedis(address, timeout_s=timeout_s, connections=connections)
    pool: Any = redis.asyncio.BlockingConnectionPool.from_url(
        settings.redis_url.get_secret_value(),
        max_connections=connections, timeout=timeout_s, socket_timeout=timeout_s, socket_connect_timeout=timeout_s,
        retry=redis.asyncio.retry.Retry(NoBackoff(), 0),
    )
    return redis.asyncio.Redis(connection_pool=pool)


def sync_client(settings: Settings, *, timeout_s: float = 5.0) -> redis.Redis:
    """A synchronous client for writers and commands."""
    address = cluster_address(settings.redis_url.get_secret_value())
    if address is not None:
        return ClusterRedis(address, timeout_s=timeout_s)
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(), socket_timeout=timeout_s, socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )


def _queue(pipeline: Any, operation: Operation, *, whole: bool) -> None:
    body = SCRIPTS[operation.script] if whole else SHA[operation.script]
    call = pipeline.eval if whole else pipeline.evalsha
    call(body, len(operation.keys), *operation.keys, *operation.args)


async def apply_async(client: redis.asyncio.Redis, operations: Sequence[Operation]) -> None:
    """Applies the operations in one round trip, to each node of a cluster at the same time (two after a server lost its scripts).

    Raises DependencyUnavailable: Redis did not answer; any of them may have been applied.
    """
    if not operations:
        return
    try:
        for whole in (False, True):
            pipeline = client.pipeline(transaction=False)
            for operation in operations:
                _queue(pipeline, operation, whole=whole)
            try:
                await pipeline.execute()
                return
            except NoScriptError:
                if whole:
                    raise
    except (RedisError, OSError, TimeoutError) as error:
        raise DependencyUnavailable("Redis does not answer", kind=type(error).__name__) from error


def apply(client: redis.Redis, operations: Sequence[Operation]) -> None:
    """Synchronous ``apply_async``."""
    if not operations:
        return
    try:
        for whole in (False, True):
            pipeline = client.pipeline(transaction=False)
            for operation in operations:
                _queue(pipeline, operation, whole=whole)
            try:
                pipeline.execute()
                return
            except NoScriptError:
                if whole:
                    raise
    except (RedisError, OSError, TimeoutError) as error:
        raise DependencyUnavailable("Redis does not answer", kind=type(error).__name__) from error

"""Which parts of a Redis Cluster hold the read model completely: a marker in every 256 slots names the life of their node.

A marker is missing where a node came back empty, and names another life where a replica was promoted (it may miss the last
writes) or slots were moved. The API, which compares the marker with the life of the server that it is connected to, answers 503 for
what such a node holds, and for that alone, until the rows were written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from cluster.connections.redis_cluster import LOST, ClusterRedis
from configs.contracts.errors import DependencyUnavailable, ReadModelRebuilding
from configs.contracts.read_model import GENERATION
from configs.contracts.slots import PARTS, SLOTS, part_key, slot_of

TTL_S: Final = 86_400

FINISH: Final = """
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""
"""Completes a part, unless its node was lost (or cleared) since ``begin``."""


def _rebuilding(marker: str) -> str:
    return f"{marker}:rebuilding"


def part_of(key: str) -> str:
    """Marker of the part in which the key is."""
    return part_key(slot_of(key) * PARTS // SLOTS)


def lives(client: ClusterRedis) -> dict[str, str]:
    """Marker -> run id of the server that holds it now; empty where nobody does, or its node does not answer.

    Raises redis.RedisError: no node answers.
    """
    topology = client.topology(renewed=True)
    runs: dict[str, str] = {}
    for node in topology.primaries:
        with suppress(*LOST):
            facts: Any = client.node(node).info("server")
            runs[node] = str(facts["run_id"])
    return {key: runs.get(topology.owner(slot_of(key)), "") for key in map(part_key, range(PARTS))}


def lost(client: ClusterRedis, now: Mapping[str, str]) -> list[str]:
    """Markers of the parts that are not complete: all of them when the whole was declared incomplete. ``now``: their ``lives``; those
    whose node does not answer are not looked at."""
    found = {key: life for key, life in now.items() if life}
    values: Any = client.mget(list(found)) if found else []
    missing = [key for (key, life), value in zip(found.items(), values, strict=True) if value is None or value.decode() != life]
    own = part_of(GENERATION)
    if own not in found or client.exists(GENERATION):
        return missing
    # Deleted, not lost with its node: somebody who knew asked for everything.
    return missing if own in missing else list(found)


def forget(client: ClusterRedis, markers: Sequence[str]) -> None:
    """Declares the parts incomplete."""
    if markers:
        client.delete(*markers)


def required(now: Mapping[str, str]) -> None:
    """Raises DependencyUnavailable: of these ``lives`` one is not known."""
    if not all(now.values()):
        raise DependencyUnavailable("a node of Redis does not answer", parts=sum(not life for life in now.values()))


def begin(client: ClusterRedis, token: str) -> dict[str, str]:
    """Notes that rows are about to be written; the lives by which ``finish`` knows that no node was lost meanwhile.

    Raises DependencyUnavailable: a node does not answer.
    """
    now = lives(client)
    required(now)
    pipeline: Any = client.pipeline(transaction=False)
    for marker, life in now.items():
        pipeline.hset(_rebuilding(marker), token, life)
        pipeline.expire(_rebuilding(marker), TTL_S)
    pipeline.execute()
    return now


def finish(client: ClusterRedis, token: str, began: Mapping[str, str]) -> None:
    """Declares every part complete. Raises ReadModelRebuilding: a node was lost, replaced or cleared since ``begin``."""
    pipeline: Any = client.pipeline(transaction=False)
    for marker, life in began.items():
        pipeline.eval(FINISH, 2, _rebuilding(marker), marker, token, life)
    if not all(pipeline.execute()) or lives(client) != began:
        raise ReadModelRebuilding("a node of Redis was lost or replaced during the rebuild")


def cleared(client: ClusterRedis) -> None:
    """Declares every part incomplete, also to rebuilds under way."""
    markers = [part_key(part) for part in range(PARTS)]
    client.delete(*markers, *map(_rebuilding, markers))

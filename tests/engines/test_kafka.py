"""A platform on three Apache Kafka brokers: they may die one by one or all at once, and keep what was acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest
from chaos.under_load import under_load
from log_reading import topic_configs
from running import Platform, eventually

from cluster.connections.topics import admin
from configs.contracts.topics import DEAD_LETTER_RETENTION_MS, TOPICS
from configs.settings import Settings

pytestmark = [pytest.mark.platform, pytest.mark.timeout(900)]

BROKERS = (1, 2, 3)
STOPPED_S = 20.0


def pid_of(platform: Platform, number: int) -> int:
    return int(json.loads((platform.data_dir / "run" / f"broker-{number}.pid").read_text())["pid"])


def out_of_sync(settings: Settings) -> list[str]:
    """Partitions that lack a replica."""
    topics = admin(settings).list_topics(timeout=10).topics.values()
    return [
        f"{topic.topic}/{partition.id}" for topic in topics for partition in topic.partitions.values()
        if len(partition.isrs) < len(BROKERS)
    ]


def test_every_partition_has_three_replicas(platform: Platform) -> None:
    platform.wait_well()
    eventually(lambda: not out_of_sync(platform.settings), 60)
    topics = admin(platform.settings).list_topics(timeout=10).topics
    assert {len(partition.replicas) for name in ("matching.swipe", "auth.accounts") for partition in topics[name].partitions.values()} == {3}


def test_the_brokers_keep_each_topic_as_its_contract_says(platform: Platform) -> None:
    wanted = {topic.name: (topic.cleanup, topic.retention_ms) for topic in TOPICS}
    wanted |= {topic.dead_letters: ("delete", DEAD_LETTER_RETENTION_MS) for topic in TOPICS}
    found = topic_configs(platform.settings, list(wanted))
    assert {name: (kept["cleanup.policy"], int(kept["retention.ms"])) for name, kept in found.items()} == wanted
    assert {kept["min.insync.replicas"] for kept in found.values()} == {"2"}


async def test_a_killed_broker_loses_nothing_and_comes_back(platform: Platform) -> None:
    async def kill() -> None:
        os.kill(pid_of(platform, 2), signal.SIGKILL)

    await under_load(platform, kill, seed=11, may_break=False)
    await asyncio.to_thread(platform.wait_well)
    await asyncio.to_thread(eventually, lambda: not out_of_sync(platform.settings), 60)


async def test_a_broker_that_stands_still_loses_nothing(platform: Platform) -> None:
    async def stop() -> None:
        pid = pid_of(platform, 3)
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(STOPPED_S)
        finally:
            os.kill(pid, signal.SIGCONT)

    await under_load(platform, stop, seed=12, may_break=False)
    await asyncio.to_thread(platform.wait_well)


async def test_all_brokers_killed_at_once_keep_their_logs(platform: Platform) -> None:
    async def kill() -> None:
        for number in BROKERS:
            os.kill(pid_of(platform, number), signal.SIGKILL)

    before = platform.settings.log.generations
    await under_load(platform, kill, seed=13, may_break=False)
    await asyncio.to_thread(platform.wait_well)
    assert platform.settings.log.generations == before, "a log that was kept begins no generation"

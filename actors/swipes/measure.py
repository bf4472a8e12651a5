"""What a swipe costs in the shard: ``python -m actors.swipes.measure`` prints µs of CPU a swipe and bytes a fact.

Everything a shard does is counted (decide, encode, apply, judge, answer) but the producer and Ray: the appender gives
offsets and throws the records away. One actor hosts all shards, so every like is judged in place.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from actors.swipes.commands import Delivery, Seen, Swipe, Verdict
from actors.swipes.facts import FactMap
from actors.swipes.shard import SwipeShards
from cluster.connections.kafka import Record
from configs.contracts.errors import PlatformError
from configs.contracts.ids import new_id, packed_keys
from configs.contracts.loading import ACTION_BITS, SwipeRows
from configs.contracts.positions import version_of
from configs.settings import Limits, Plan, Settings, load_settings


class _Offsets:
    """An appender that acknowledges at once."""

    blocked = False

    def __init__(self) -> None:
        self._next: Counter[tuple[str, int]] = Counter()

    def generation(self, topic: str) -> int:
        return 1

    def submit(self, records: Sequence[Record]) -> asyncio.Future[list[int]]:
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        offsets = []
        for record in records:
            place = (record.topic, record.partition)
            offsets.append(self._next[place])
            self._next[place] += 1
        future.set_result(offsets)
        return future


class _NoRows:
    async def swipes(self, user_ids: Sequence[str]) -> Mapping[str, SwipeRows]:
        return {}


class _NoPeers:
    async def deliver(self, slot: int, deliveries: Sequence[Delivery]) -> Sequence[Verdict | PlatformError]:
        raise AssertionError("one actor hosts all shards")

    def met(self, slot: int, epoch: int) -> None: ...


def _die(reason: str) -> None:
    raise AssertionError(reason)


async def swipes(settings: Settings, people: int, count: int, batch: int) -> None:
    """Half likes, distinct pairs, an Idempotency-Key each: CPU a swipe, then a ``seen`` of 50 people."""
    shards = SwipeShards(settings, 0, appender=_Offsets(), loader=_NoRows(), peers=_NoPeers(), die=_die)  # type: ignore[arg-type]
    ids = [new_id() for _ in range(people)]
    chance = random.Random(1)  # noqa: S311  a reproducible load
    couples = [chance.sample(ids, 2) for _ in range(count)]
    commands = [
        Swipe(one, other, "like" if number % 2 else "pass", f"0190aaaa-{number:012d}")
        for number, (one, other) in enumerate(couples)
    ]
    await shards.swipes.ensure_loaded(ids)
    began, matched = time.process_time(), 0
    for start in range(0, count, batch):
        for answer in await shards.swipe(commands[start : start + batch]):
            matched += getattr(answer, "matched", False)
    spent = time.process_time() - began
    print(f"swipe: {spent / count * 1e6:.1f} µs CPU in batches of {batch} ({count} swipes, {matched} matches)")  # noqa: T201
    keys = packed_keys(ids[:50])
    began = time.process_time()
    for user_id in ids[:1_000]:
        await shards.seen([Seen(user_id, keys)])
    print(f"seen: {(time.process_time() - began) / min(1_000, people) * 1e6:.1f} µs CPU for 50 people")  # noqa: T201
    await shards.close()


def memory(people: int, facts: int) -> None:
    """Bytes of a remembered swipe, as tracemalloc sees them: inserted one by one, and loaded from rows."""
    chance = np.random.default_rng(1)
    for name in ("inserted", "loaded"):
        tracemalloc.start()
        maps = []
        for _ in range(people):
            keys = chance.integers(0, 1 << 64, facts, np.uint64)
            values = [version_of(1, int(offset)) << ACTION_BITS | 1 for offset in chance.integers(0, 1 << 28, facts)]
            if name == "inserted":
                one = FactMap()
                for key, value in zip(keys.tolist(), values, strict=True):
                    one.put(key, value)
            else:
                keys.sort()
                one = FactMap.of(keys, np.array(values, np.uint64))
            maps.append(one)
        del keys, values
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"memory: {held / people / facts:.1f} bytes a swipe, {name}, {facts} swipes a person")  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--swipes", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    settings = load_settings("test").model_copy(
        update={"plan": Plan(swipe_actors=1), "limits": Limits(likes_a_day=1_000_000)}
    )
    asyncio.run(swipes(settings, options.people, options.swipes, options.batch))
    memory(1_000, 300)


if __name__ == "__main__":
    main()

"""Readers of the log that come late, each by another time and in parts of another size: shows tests that rely on luck.

What a busy machine does now and then, ``pytest --late`` does all the time: consumers, projections and shards see records of
one moment in any order between topics, and up to a second late.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, Message

from cluster.connections.following import Pace

LATE_SHARE = 0.3
LATE_S = 1.0
PARTS = (1, 2, 5, 1_000)


def install() -> None:
    """In this process; platforms and servers in processes of their own stay as they are."""
    take, chance = Pace.take, random.Random()

    def late(self: Pace, consumer: Consumer, count: int, on_error: Callable[[KafkaError], None]) -> list[Message]:
        if chance.random() < LATE_SHARE:
            time.sleep(chance.uniform(0, LATE_S))
        return take(self, consumer, min(count, chance.choice(PARTS)), on_error)

    Pace.take = late

"""A part of Redis that comes back empty is written anew by itself: the rest of the read model is kept and projected on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import TopicPartition
from running import eventually

from cluster.connections.kafka import barrier
from cluster.connections.redis import sync_client
from cluster.connections.redis_cluster import ClusterRedis
from cluster.connections.topics import admin
from cluster.launch.prepare import prepare
from cluster.launch.servers import EmbeddedServers
from configs.contracts.read_model import GENERATION
from configs.contracts.slots import slot_of
from configs.contracts.topics import TOPICS
from writers import parts
from writers.appending import ThreadAppender
from writers.connections import open_rows
from writers.projections.thread import ProjectionThread, position_key

pytestmark = [pytest.mark.timeout(400), pytest.mark.usefixtures("heavy")]

FAR = 1 << 40
STORED = "INSERT INTO writer_positions (consumer, topic, partition, generation, next_offset, epoch) VALUES ('rows', %s, %s, %s, %s, 1)"


def complete(client: ClusterRedis, generation: str) -> None:
    parts.finish(client, "test", parts.begin(client, "test"))
    client.set(GENERATION, generation)


def test_a_lost_position_waits_for_the_rebuild_and_is_not_looked_for_at_the_beginning_of_the_log(
    fresh_servers: Callable[[], EmbeddedServers]
) -> None:
    settings = prepare(fresh_servers().settings())
    appender, failures = ThreadAppender(settings, "test"), list[str]()
    with sync_client(settings) as client, open_rows(settings, "test") as conn:
        assert isinstance(client, ClusterRedis)
        topology = client.topology()
        places = [(topic.name, partition) for topic in TOPICS for partition in range(settings.log.partitions)]
        owners = {place: topology.owner(slot_of(position_key(place))) for place in places}
        kept = next(place for place in places if owners[place] == topology.owner(slot_of(GENERATION)))
        lost = next(place for place in places if owners[place] != owners[kept])
        generations = {place: settings.log.generations.get(place[0], 1) for place in (kept, lost)}
        conn.execute("DELETE FROM writer_positions WHERE consumer = 'rows'")
        for place, generation in generations.items():
            conn.execute(STORED, (*place, generation, FAR))

        def append(place: tuple[str, int]) -> bytes:
            """The position that follows the appended record."""
            return f"{generations[place]}:{appender.append([barrier(*place)])[-1] + 1}".encode()

        reached = {place: [append(place) for _ in range(3)][-1] for place in (kept, lost)}
        beginning = TopicPartition(*lost, int(reached[lost].partition(b":")[2]))
        broker = admin(settings)
        [gone] = broker.delete_records([beginning]).values()
        gone.result(30)
        for place, position in reached.items():
            client.set(position_key(place), position)
        complete(client, "first")
        client.node(owners[lost]).flushall()

        thread = ProjectionThread(settings, "test-projection", [kept, lost], lambda: dict.fromkeys(places, FAR), fatal=failures.append)
        thread.start()
        try:
            for _ in range(3):
                position = append(kept)
                eventually(lambda: client.get(position_key(kept)) == position, 30.0)  # noqa: B023  # called at once
            assert client.get(GENERATION) == b"first", "only a part was lost"
            assert client.get(position_key(lost)) is None
            # As the rebuild does.
            client.set(position_key(lost), reached[lost])
            complete(client, "second")
            position = append(lost)
            eventually(lambda: client.get(position_key(lost)) == position, 30.0)
        finally:
            thread.stop()
            thread.join(30.0)
            appender.close()
    assert not failures

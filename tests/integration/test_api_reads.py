"""How the API reads Redis: many requests in one round trip, missing facts warmed once, a restart survived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import pytest_asyncio
from pydantic import SecretStr

from cluster.connections.reading import Reads, Warming
from cluster.connections.redis import async_client
from cluster.launch.servers import EmbeddedServers
from configs.contracts.errors import DependencyUnavailable, ReadModelRebuilding, ReadModelUnknown
from configs.contracts.ids import new_id
from configs.contracts.read_model import GENERATION, open_person, put_record, put_relation
from configs.settings import Settings
from serve_apps.limits import Rate, SharedLimits
from serve_apps.people import People
from serve_apps.problems import Refused
from serve_apps.write_through import WriteThrough

pytestmark = pytest.mark.servers


@pytest_asyncio.fixture
async def reads(servers: Settings) -> AsyncIterator[Reads]:
    client = async_client(servers)
    await client.set(GENERATION, "test")
    await client.aclose(close_connection_pool=True)
    made = Reads(servers)
    yield made
    await made.close()


async def test_concurrent_reads_share_a_round_trip(reads: Reads) -> None:
    await reads.read(("PING",))
    trips = reads.trips
    replies = await asyncio.gather(*(reads.read(("ECHO", str(number)), ("ECHO", "x")) for number in range(500)))
    assert replies == [[str(number).encode(), b"x"] for number in range(500)]
    assert reads.trips - trips <= 2


async def test_an_error_reply_concerns_its_own_request_only(reads: Reads) -> None:
    good, bad = reads.read(("ECHO", "x")), reads.read(("NOSUCHCOMMAND",))
    assert await good == [b"x"]
    with pytest.raises(DependencyUnavailable, match="refused"):
        await bad


async def test_a_client_that_leaves_disturbs_nobody(reads: Reads) -> None:
    left, stays = reads.read(("ECHO", "a")), reads.read(("ECHO", "b"))
    left.cancel()
    assert await stays == [b"b"]


async def test_reads_survive_a_restart_of_the_server_and_refuse_what_it_lost(
    fresh_servers: Callable[[], EmbeddedServers],
) -> None:
    servers = fresh_servers()
    settings = servers.settings()
    reads = Reads(settings)
    client = async_client(settings)
    await client.set(GENERATION, "test")
    assert await reads.read(("PING",)) == [b"PONG"]
    servers.valkey.kill()
    with pytest.raises(DependencyUnavailable):
        await reads.read(("PING",))
    servers.valkey.start()
    with pytest.raises(ReadModelRebuilding):
        await reads.read(("PING",))
    await client.aclose(close_connection_pool=True)
    await reads.close()


class Writers:
    """Stands for the loader: writes the records of those it knows."""

    def __init__(self, write_through: WriteThrough, known: Sequence[str]) -> None:
        self.write_through = write_through
        self.known = set(known)
        self.calls: list[list[str]] = []

    async def warm_people(self, user_ids: Sequence[str]) -> Sequence[str]:
        self.calls.append(list(user_ids))
        await asyncio.sleep(0.01)
        found = [user_id for user_id in user_ids if user_id in self.known]
        for user_id in found:
            fields = {"role": "sugar_baby", "displayName": "Warm", "birthDate": "1990-01-01"}
            await self.write_through.apply(put_record(user_id, fields, 0), open_person(user_id))
        return found


@pytest_asyncio.fixture
async def write_through(servers: Settings) -> AsyncIterator[WriteThrough]:
    client = async_client(servers)
    yield WriteThrough(client)
    await client.aclose(close_connection_pool=True)


async def test_a_missing_person_is_warmed_once_for_everybody_who_asks(reads: Reads, write_through: WriteThrough) -> None:
    known, unknown = [new_id() for _ in range(5)], new_id()
    writers = Writers(write_through, known)
    warming = Warming(writers.warm_people)
    people = People(reads, warming, warming)
    found = await asyncio.gather(*(people.records([*known, unknown]) for _ in range(20)))
    assert all(set(records) == set(known) for records in found)
    asked = [user_id for call in writers.calls for user_id in call]
    assert sorted(asked) == sorted([*known, unknown])
    assert await people.records([unknown]) == {}
    assert len(asked) == 6
    await warming.close()


async def test_relations_that_are_not_there_are_unknown_not_empty(reads: Reads, write_through: WriteThrough) -> None:
    one, other, nobody = new_id(), new_id(), new_id()
    warming = Warming(Writers(write_through, [one]).warm_people)
    people = People(reads, warming, warming)
    await write_through.apply(put_relation(one, other, by_other=True, blocked=True, version=1))
    assert await people.relation(one, other) == (False, True)
    with pytest.raises(ReadModelUnknown):
        await people.relation(nobody, one)
    await warming.close()


async def test_a_failed_warm_up_fails_the_waiting_and_is_tried_again(reads: Reads) -> None:
    calls = 0

    async def failing(keys: Sequence[str]) -> Sequence[str]:
        nonlocal calls
        calls += 1
        raise DependencyUnavailable("PostgreSQL does not answer")

    warming = Warming(failing)
    key = new_id()
    for attempt in (1, 2):
        answers = await asyncio.gather(*(warming.ensure([key]) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(answer, DependencyUnavailable) for answer in answers)
        assert calls == attempt
    await warming.close()


async def test_a_shared_limit_holds_over_replicas_and_says_when_to_come_back(servers: Settings) -> None:
    clients = [async_client(servers) for _ in range(2)]
    limits = [SharedLimits(client) for client in clients]
    rate, key = Rate("test", 5, 3_600), new_id()
    answers = await asyncio.gather(*(limits[number % 2].take((rate, key)) for number in range(20)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(refused) == 15
    assert all(700 < answer.details["retry_after_s"] <= 721 for answer in refused)
    await limits[0].take((rate, new_id()))
    for client in clients:
        await client.aclose(close_connection_pool=True)


async def test_write_through_shares_round_trips_and_its_failure_fails_nobody(servers: Settings, reads: Reads) -> None:
    client = async_client(servers)
    write_through = WriteThrough(client)
    people = [new_id() for _ in range(50)]
    await asyncio.gather(*(write_through.apply(put_record(one, {"bio": "x"}, 1)) for one in people))
    assert write_through.applied == 50
    await client.aclose(close_connection_pool=True)
    gone = WriteThrough(async_client(servers.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})))
    await gone.apply(put_record(people[0], {"bio": "y"}, 2))
    assert gone.left_to_projections == 1

